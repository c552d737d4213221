SELECT model, batch_size, count(*) AS runs, max(simulated) AS simulated,
       sum(energy_j) / nullif(sum(output_tokens), 0) AS j_per_output_token,
       min(j_per_output_token) AS best_run, max(j_per_output_token) AS worst_run, environment, runner, concurrency
FROM v_run_best
WHERE status = 'ok' AND NOT warmup AND j_per_output_token IS NOT NULL
GROUP BY model, runner, batch_size, concurrency, environment
ORDER BY j_per_output_token
