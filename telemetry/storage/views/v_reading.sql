SELECT d.uid AS device, d.name AS device_name, d.simulated AS simulated,
       strftime('%Y-%m-%dT%H:%M:%S', r.utc_ns / 1000000000, 'unixepoch')
           || printf('.%03dZ', r.utc_ns / 1000000 % 1000) AS time,
       r.t_ns AS t_ns,
       r.power_instant_mw / 1e3 AS power_instant_w,
       r.power_average_mw / 1e3 AS power_average_w,
       r.energy_mj / 1e3 AS energy_j,
       r.integral_uj / 1e6 AS integral_j,
       r.since_ns / 1e9 AS since_s,
       r.latency_us / 1e6 AS latency_s
FROM (SELECT t.*, t.t_ns + coalesce((SELECT c.offset_ns FROM clock_step c JOIN device h ON h.host = c.host
                                     WHERE h.id = t.device AND c.t_ns <= t.t_ns
                                     ORDER BY c.t_ns DESC LIMIT 1), 0) AS utc_ns
      FROM reading t) r
JOIN device d ON d.id = r.device
