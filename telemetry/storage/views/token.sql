SELECT r.uid AS run, c.request AS request, c.first_index AS "index", c.kind AS kind, c.start_ns AS t_ns
FROM token_chunk c JOIN run r ON r.id = c.run
UNION ALL
SELECT r.uid, c.request, c.first_index + 1 + g.key, c.kind,
       c.start_ns + 1000 * (SELECT sum(h.value) FROM json_each(c.gaps_us) h WHERE h.key <= g.key)
FROM token_chunk c JOIN run r ON r.id = c.run, json_each(c.gaps_us) g
