"""The statements that give a figure's numbers out of the store, as `telemetry sql` and the sqlite3 shell take them."""

from collections.abc import Iterable

# Below a statement: before it, it would look like an option of `telemetry sql`.
GROSS = """
-- All joules. Those above idle are less by the baseline's power (idle_power_w in result) times the run's duration."""


def settings(runs: Iterable[str]) -> str:
    """Return the statement for joules per output token of each setting."""
    return f"""\
SELECT r.model, r.runner, r.batch_size, r.concurrency, t.environment, count(*) AS runs,
       sum(b.energy_j) / sum(b.output_tokens) AS j_per_output_token,
       min(b.j_per_output_token) AS best_run, max(b.j_per_output_token) AS worst_run
FROM v_run r JOIN v_run_best b ON b.run = r.run JOIN run t ON t.uid = r.run
WHERE r.run IN ({_listed(runs)})
GROUP BY r.model, r.runner, r.batch_size, r.concurrency, t.environment
ORDER BY j_per_output_token"""


def latency(runs: Iterable[str]) -> str:
    """Return the statement for energy and time per output token of each run."""
    return f"""\
SELECT b.run, b.j_per_output_token, b.j_per_output_token_lo, b.j_per_output_token_hi,
       1e3 * avg(q.tpot_s) AS time_per_output_token_ms, avg(q.ttft_s) AS ttft_s
FROM v_run_best b JOIN v_request q ON q.run = b.run AND q.status = 'ok'
WHERE b.run IN ({_listed(runs)})
GROUP BY b.run"""


def throughput(runs: Iterable[str]) -> str:
    """Return the statement for energy per output token and output tokens a second of each run."""
    return f"""\
SELECT run, j_per_output_token, j_per_output_token_lo, j_per_output_token_hi,
       output_tokens / duration_s AS tokens_per_s
FROM v_run_best
WHERE run IN ({_listed(runs)})"""


def parts(runs: Iterable[str]) -> str:
    """Return the statement for the energies of a run that were worked out, by quantity."""
    return f"""\
SELECT r.uid AS run, x.quantity, x.value, x.lo, x.hi, x.method
FROM result x JOIN run r ON r.id = x.run
WHERE x.device = 0 AND x.request = -1 AND x.quantity LIKE '%\\_j' ESCAPE '\\'
  AND r.uid IN ({_listed(runs)})
ORDER BY r.uid, x.quantity"""


def readings(devices: Iterable[str], from_ns: int, to_ns: int) -> str:
    """Return the statement for the readings that power and energy over time are worked out from."""
    return f"""\
SELECT device, time, (t_ns - {from_ns}) / 1e9 AS t_s, power_instant_w, power_average_w, energy_j, integral_j
FROM v_reading
WHERE device IN ({_listed(devices)}) AND t_ns BETWEEN {from_ns} AND {to_ns}
ORDER BY device, t_ns"""


def vitals(devices: Iterable[str], from_ns: int, to_ns: int) -> str:
    """Return the statement for temperatures and clocks over time."""
    return f"""\
SELECT device, time, (t_ns - {from_ns}) / 1e9 AS t_s, temperature_c, clock_sm_mhz
FROM v_vitals
WHERE device IN ({_listed(devices)}) AND t_ns BETWEEN {from_ns} AND {to_ns}
ORDER BY device, t_ns"""


def requests(run: str, from_ns: int) -> str:
    """Return the statement for when a run's requests were handed over, began, gave their first token and ended."""
    since = f"- {from_ns}) / 1e9 AS"
    return f"""\
SELECT q.number, (q.submitted_ns {since} submitted_s, (q.started_ns {since} started_s,
       (q.first_token_ns {since} first_token_s, (q.ended_ns {since} ended_s, q.output_tokens, q.status
FROM request q JOIN run r ON r.id = q.run
WHERE r.uid = {_quoted(run)}
ORDER BY q.number"""


def _listed(uids: Iterable[str]) -> str:
    return ", ".join(_quoted(uid) for uid in uids)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
