SELECT r.uid AS run, r.name, r.experiment, r.model, r.runner, r.quantisation, r.batch_size, r.concurrency,
       r.warmup, r.repeat, r.status, r.error,
       strftime('%Y-%m-%dT%H:%M:%S', r.utc_ns / 1000000000, 'unixepoch')
           || printf('.%03dZ', r.utc_ns / 1000000 % 1000) AS start,
       (r.stop_ns - r.start_ns) / 1e9 AS duration_s,
       (SELECT count(*) FROM request q WHERE q.run = r.id AND q.status = 'ok') AS requests_ok,
       (SELECT count(*) FROM request q WHERE q.run = r.id AND q.status = 'failed') AS requests_failed,
       (SELECT sum(q.input_tokens) FROM request q WHERE q.run = r.id) AS input_tokens,
       (SELECT sum(q.output_tokens) FROM request q WHERE q.run = r.id) AS output_tokens,
       EXISTS (SELECT 1 FROM run_device rd JOIN device d ON d.id = rd.device
               WHERE rd.run = r.id AND d.simulated) AS simulated,
       r.environment,
       EXISTS (SELECT 1 FROM request q WHERE q.run = r.id AND q.count_source = 'chunks') AS uncounted
FROM (SELECT t.*, t.start_ns + coalesce((SELECT c.offset_ns FROM clock_step c
                                         WHERE c.host = t.host AND c.t_ns <= t.start_ns
                                         ORDER BY c.t_ns DESC LIMIT 1), 0) AS utc_ns
      FROM run t) r
