WITH edge AS (
    SELECT rd.run AS run, rd.device AS device, d.energy_path AS path, e.side AS side,
           CASE e.side WHEN 0 THEN r.start_ns ELSE r.stop_ns END AS t_ns
    FROM run_device rd
    JOIN run r ON r.id = rd.run
    JOIN device d ON d.id = rd.device
    CROSS JOIN (SELECT 0 AS side UNION ALL SELECT 1) e
),
-- The counter's value at an edge lies between the last row that had the old value and the first that had
-- the new one; the row's own bracket midpoint t − since/2 dates the update.
bracket AS (
    SELECT edge.*,
        (SELECT max(p.t_ns) FROM reading p WHERE p.device = edge.device AND p.t_ns <= edge.t_ns
            AND CASE edge.path WHEN 'counter' THEN p.energy_mj ELSE p.integral_uj END IS NOT NULL) AS before_ns,
        (SELECT min(n.t_ns) FROM reading n WHERE n.device = edge.device AND n.t_ns > edge.t_ns
            AND CASE edge.path WHEN 'counter' THEN n.energy_mj ELSE n.integral_uj END IS NOT NULL) AS after_ns
    FROM edge
),
counter_edge AS (
    SELECT b.run, b.device, b.side, b.t_ns,
        (SELECT p.energy_mj FROM reading p WHERE p.device = b.device AND p.t_ns = b.before_ns) AS low_mj,
        (SELECT min(n.t_ns) FROM reading n WHERE n.device = b.device AND n.t_ns > b.t_ns
            AND n.energy_mj > (SELECT p.energy_mj FROM reading p
                               WHERE p.device = b.device AND p.t_ns = b.before_ns)) AS high_ns,
        (SELECT min(n.t_ns) FROM reading n WHERE n.device = b.device
            AND n.t_ns > b.before_ns - 2000000000 AND n.t_ns <= b.before_ns
            AND n.energy_mj = (SELECT p.energy_mj FROM reading p
                               WHERE p.device = b.device AND p.t_ns = b.before_ns)) AS low_ns
    FROM bracket b WHERE b.path = 'counter'
),
-- Counters may start anywhere below 2^63: base is subtracted as an integer, only the rest is a real.
-- The first row of a session (since_ns 0) dates no update: an edge beside it is not bracketed.
at_edge AS (
    SELECT c.run, c.device, c.side, 1e3 AS per_j, c.low_mj AS base,
        CASE WHEN lo.since_ns > 0 THEN (hi.energy_mj - c.low_mj) * max(0.0, min(1.0,
            1.0 * (c.t_ns - (c.low_ns - lo.since_ns / 2))
            / ((c.high_ns - hi.since_ns / 2) - (c.low_ns - lo.since_ns / 2)))) END AS rest
    FROM counter_edge c
    LEFT JOIN reading lo ON lo.device = c.device AND lo.t_ns = c.low_ns
    LEFT JOIN reading hi ON hi.device = c.device AND hi.t_ns = c.high_ns
    UNION ALL
    SELECT b.run, b.device, b.side, 1e6, lo.integral_uj,
        (hi.integral_uj - lo.integral_uj) * (1.0 * (b.t_ns - b.before_ns) / (b.after_ns - b.before_ns))
    FROM bracket b
    LEFT JOIN reading lo ON lo.device = b.device AND lo.t_ns = b.before_ns
    LEFT JOIN reading hi ON hi.device = b.device AND hi.t_ns = b.after_ns
    WHERE b.path = 'integral'
)
SELECT r.uid AS run, d.uid AS device, d.simulated AS simulated, d.boundary AS boundary,
       -- A run's figure is that of its GPUs where it has any, else of its CPU packages, else of memory.
       NOT EXISTS (SELECT 1 FROM run_device o JOIN device x ON x.id = o.device WHERE o.run = r.id
                   AND CASE x.boundary WHEN 'gpu-board' THEN 0 WHEN 'module' THEN 0 WHEN 'cpu-package' THEN 1 WHEN 'dram' THEN 2 ELSE 3 END
                     < CASE d.boundary WHEN 'gpu-board' THEN 0 WHEN 'module' THEN 0 WHEN 'cpu-package' THEN 1 WHEN 'dram' THEN 2 ELSE 3 END) AS headline,
       'sql-linear' AS method,
       (r.stop_ns - r.start_ns) / 1e9 AS duration_s,
       -- NULL across what the path cannot bridge, and where the report went by the other path.
       CASE WHEN EXISTS (SELECT 1 FROM result x WHERE x.run = r.id AND x.device = d.id AND x.request = -1
                         AND x.quantity = 'energy_j' AND (x.method LIKE 'counter%') != (d.energy_path = 'counter'))
              OR EXISTS (SELECT 1 FROM gap g WHERE g.device = d.id AND g.to_ns > r.start_ns AND g.from_ns < r.stop_ns
                         AND (g.reason = 'counter_reset' OR d.energy_path = 'integral'))
              OR EXISTS (SELECT 1 FROM session s JOIN session_device sd ON sd.session = s.id
                         -- A CPU's total restarts with each collector, as an integral does.
                         WHERE sd.device = d.id AND (d.energy_path = 'integral' OR d.boundary IN ('cpu-package', 'dram'))
                         AND s.start_ns > r.start_ns AND s.start_ns < r.stop_ns)
            THEN NULL ELSE ((b.base - a.base) + (b.rest - a.rest)) / a.per_j END AS energy_j
FROM run_device rd
JOIN run r ON r.id = rd.run
JOIN device d ON d.id = rd.device
LEFT JOIN at_edge a ON a.run = rd.run AND a.device = rd.device AND a.side = 0
LEFT JOIN at_edge b ON b.run = rd.run AND b.device = rd.device AND b.side = 1
