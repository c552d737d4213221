SELECT v.run AS run, v.model AS model, v.batch_size AS batch_size, v.warmup AS warmup,
       v.simulated AS simulated, v.duration_s AS duration_s, v.output_tokens AS output_tokens,
       e.method AS method, e.energy_j AS energy_j,
       CASE WHEN NOT v.uncounted THEN e.energy_j / nullif(v.output_tokens, 0) END AS j_per_output_token,
       e.energy_j / nullif(v.duration_s, 0) AS avg_power_w,
       CASE WHEN NOT v.uncounted THEN v.output_tokens / nullif(v.duration_s, 0) END AS tokens_per_s
FROM v_run v
LEFT JOIN (SELECT run, max(method) AS method,
                  CASE WHEN count(energy_j) = count(*) THEN sum(energy_j) END AS energy_j
           FROM v_run_energy WHERE headline GROUP BY run) e ON e.run = v.run
