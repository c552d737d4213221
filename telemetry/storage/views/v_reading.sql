SELECT d.uid AS device, d.name AS device_name, d.simulated AS simulated,
       strftime('%Y-%m-%dT%H:%M:%S', r.t_ns / 1000000000, 'unixepoch')
           || printf('.%03dZ', r.t_ns / 1000000 % 1000) AS time,
       r.t_ns AS t_ns,
       r.power_instant_mw / 1e3 AS power_instant_w,
       r.power_average_mw / 1e3 AS power_average_w,
       r.energy_mj / 1e3 AS energy_j,
       r.integral_uj / 1e6 AS integral_j,
       r.since_ns / 1e9 AS since_s,
       r.latency_us / 1e6 AS latency_s
FROM reading r JOIN device d ON d.id = r.device
