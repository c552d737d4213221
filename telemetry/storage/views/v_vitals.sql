SELECT d.uid AS device, d.name AS device_name, d.simulated AS simulated,
       strftime('%Y-%m-%dT%H:%M:%S', v.t_ns / 1000000000, 'unixepoch')
           || printf('.%03dZ', v.t_ns / 1000000 % 1000) AS time,
       v.t_ns AS t_ns, v.temperature_c, v.memory_temp_c, v.memory_used_bytes, v.memory_reserved_bytes,
       v.util_gpu_pct, v.util_memory_pct, v.clock_sm_mhz, v.clock_memory_mhz,
       v.power_limit_mw / 1e3 AS power_limit_w,
       v.power_max_mw / 1e3 AS power_max_w, v.power_min_mw / 1e3 AS power_min_w,
       v.throttle_reasons, v.polls, v.misses
FROM vitals v JOIN device d ON d.id = v.device
