SELECT r.uid AS run, q.number, q.status, q.input_tokens, q.cached_tokens, q.output_tokens, q.finish_reason,
       q.count_source, q.error,
       (q.first_token_ns - q.submitted_ns) / 1e9 AS ttft_s,
       (q.ended_ns - q.submitted_ns) / 1e9 AS e2e_s,
       CASE WHEN q.output_tokens > 1
            THEN (q.last_token_ns - q.first_token_ns) / 1e9 / (q.output_tokens - 1) END AS tpot_s,
       e.value AS energy_j, e.method AS energy_method, m.value AS marginal_j
FROM request q JOIN run r ON r.id = q.run
LEFT JOIN result e ON e.run = q.run AND e.device = 0 AND e.request = q.number AND e.quantity = 'energy_j'
LEFT JOIN result m ON m.run = q.run AND m.device = 0 AND m.request = q.number AND m.quantity = 'marginal_j'
