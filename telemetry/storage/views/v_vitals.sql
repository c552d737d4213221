SELECT d.uid AS device, d.name AS device_name, d.simulated AS simulated,
       strftime('%Y-%m-%dT%H:%M:%S', v.utc_ns / 1000000000, 'unixepoch')
           || printf('.%03dZ', v.utc_ns / 1000000 % 1000) AS time,
       v.t_ns AS t_ns, v.temperature_c, v.memory_temp_c, v.memory_used_bytes, v.memory_reserved_bytes,
       v.util_gpu_pct, v.util_memory_pct, v.clock_sm_mhz, v.clock_memory_mhz,
       v.power_limit_mw / 1e3 AS power_limit_w,
       v.power_max_mw / 1e3 AS power_max_w, v.power_min_mw / 1e3 AS power_min_w,
       v.throttle_reasons, v.polls, v.misses
FROM (SELECT t.*, t.t_ns + coalesce((SELECT c.offset_ns FROM clock_step c JOIN device h ON h.host = c.host
                                     WHERE h.id = t.device AND c.t_ns <= t.t_ns
                                     ORDER BY c.t_ns DESC LIMIT 1), 0) AS utc_ns
      FROM vitals t) v
JOIN device d ON d.id = v.device
