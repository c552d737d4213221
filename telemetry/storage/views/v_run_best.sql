SELECT v.run AS run, v.model AS model, v.batch_size AS batch_size, v.warmup AS warmup,
       v.simulated AS simulated, v.duration_s AS duration_s, v.output_tokens AS output_tokens,
       e.value AS energy_j, e.lo AS energy_lo_j, e.hi AS energy_hi_j,
       j.value AS j_per_output_token, j.lo AS j_per_output_token_lo, j.hi AS j_per_output_token_hi,
       e.method AS method, e.grade AS grade, e.flags AS flags, e.analysis_version AS analysis_version,
       v.status AS status, v.runner AS runner, v.environment AS environment, u.value AS unattributed_j,
       v.concurrency AS concurrency
FROM v_run v
JOIN run r ON r.uid = v.run
LEFT JOIN result e ON e.run = r.id AND e.device = 0 AND e.request = -1 AND e.quantity = 'energy_j'
LEFT JOIN result j ON j.run = r.id AND j.device = 0 AND j.request = -1 AND j.quantity = 'j_per_output_token'
LEFT JOIN result u ON u.run = r.id AND u.device = 0 AND u.request = -1 AND u.quantity = 'unattributed_j'
