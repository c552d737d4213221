"""What rows, vitals and clocks say against a result: each function returns the flags it raises, or none.

The rules of flags are those of docs/measurement.md. Where what a rule asks for was not read, it says nothing.
"""

from collections.abc import Collection, Mapping

import numpy as np

from telemetry.analysis.rows import Bools, Breaks, Floats, Ints, Rows, overlaps
from telemetry.analysis.vitals import VitalsRows, throttled_s

Flags = tuple[str, ...]

THROTTLED_MAX = {"power_cap": 0.01, "sync_boost": 0.01}  # share of the time; heat and the power brake: none at all
CLOCK_DRIFT_MAX = 0.03
FOREIGN_BYTES = 50 * 1024**2
LIMIT_STEP_W = 0.5  # the driver rounds
TEMPERATURE_SHIFT_MAX_C = 3.0
MISSING_MAX = 0.01
CLOCK_JUMP_NS = 5_000_000
STEADY_NS = 30_000_000_000
STEADY_POWER = 0.01
STEADY_TEMPERATURE_C = 1.0
DIFFERENCE_MAX = (0.03, 0.08)  # of counter and integral: noted, and not believed
DIFFERENCE_SHORTEST_NS = 10_000_000_000
FEWEST = 5  # rows below which a spread or slope says nothing


def over_cap(*, mean_power_w: float, duration_s: float, limit_w: float) -> Flags:
    """Return `over_cap` for a mean power that the driver would not have allowed for more than 2 s."""
    return ("over_cap",) if duration_s > 2.0 and mean_power_w > 1.05 * limit_w else ()


def counter_vs_integral(*, counter_j: float, integral_j: float, duration_s: float, may_alias: bool) -> Flags:
    """Return what the two energy paths say of each other over one interval.

    Below 10 s their timing differs too much to tell. `may_alias`: the power sensor looks only part of the
    time and the load repeats, so that a difference need not be the counter's fault.
    """
    if duration_s < DIFFERENCE_SHORTEST_NS * 1e-9 or integral_j <= 0.0:
        return ()
    off = abs(counter_j / integral_j - 1.0)
    if off > DIFFERENCE_MAX[1] and not may_alias:
        return ("counter_refuted",)
    return ("counter_vs_integral",) if off > DIFFERENCE_MAX[0] else ()


def stale(*, update_ns: Ints, change_ns: Ints, t0_ns: int, t1_ns: int, period_ns: int) -> Flags:
    """Return `stale` where the readings stood still while something else about the device changed.

    update_ns: (n,), when power or counter changed, sorted; change_ns: (m,), when clocks or utilisation did.
    A change counts where the stretch without updates that it falls in, cut to the interval, is longer than
    three publish periods.
    """
    inside = change_ns[(change_ns >= t0_ns) & (change_ns <= t1_ns)]
    after = np.searchsorted(update_ns, inside, side="right")
    fence = np.concatenate([[t0_ns], update_ns, [t1_ns]])
    last, following = np.maximum(fence[after], t0_ns), np.minimum(fence[after + 1], t1_ns)
    return ("stale",) if np.any(following - last > 3 * period_ns) else ()


def update_ns(rows: Rows) -> Ints:
    """Return the rows in which power or counter differ from the row before, (u,), ns: what `stale` asks for."""
    changed = np.zeros(len(rows), dtype=np.bool_)
    changed[1:] = np.diff(rows.energy_mj) != 0
    for column in (rows.power_instant_mw, rows.power_average_mw):
        changed[1:] |= np.abs(np.diff(column)) > 0  # from or to NaN is no change
    return rows.t_ns[changed]


def clock_jump(*, offset_ns: Ints) -> Flags:
    """Return `clock_jump` where the wall clock was set by over 5 ms between two heartbeats.

    offset_ns: (h,), wall clock less steady clock at each heartbeat, in the order of time.
    """
    return ("clock_jump",) if np.any(np.abs(np.diff(offset_ns)) > CLOCK_JUMP_NS) else ()


def throttling(v: VitalsRows, t0_ns: int, t1_ns: int) -> Flags:
    """Return a `throttle_…` for each reason that held the clocks down: 1 % of the time, or at all for heat."""
    seconds = (t1_ns - t0_ns) * 1e-9
    return tuple(
        f"throttle_{name}"
        for name, held_s in throttled_s(v, t0_ns, t1_ns).items()
        if held_s > THROTTLED_MAX.get(name, 0.0) * seconds
    )


def clock_drift(v: VitalsRows, t0_ns: int, t1_ns: int) -> Flags:
    """Return `clock_drift` where the SM clock's 5th or 95th percentile is over 3 % off its median.

    Ask it of a steady state only: between idle and load every clock drifts.
    """
    clocks = v.clock_sm_mhz[v.inside(t0_ns, t1_ns)]
    clocks = clocks[np.isfinite(clocks)]
    if len(clocks) < FEWEST:
        return ()
    low, middle, high = np.percentile(clocks, (5, 50, 95))
    return ("clock_drift",) if max(high - middle, middle - low) > CLOCK_DRIFT_MAX * middle else ()


def foreign_process(v: VitalsRows, t0_ns: int, t1_ns: int, *, own_pids: Collection[int]) -> Flags:
    """Return `foreign_process` where a process not of `own_pids` held over 50 MiB, or an unknown size, of the GPU."""
    at_ns = v.t_ns[v.process_row]
    counts = ~(v.process_bytes <= FOREIGN_BYTES) & (at_ns >= t0_ns) & (at_ns <= t1_ns)
    return ("foreign_process",) if np.any(counts & ~np.isin(v.process_pid, list(own_pids))) else ()


def limit_changed(
    v: VitalsRows,
    t0_ns: int,
    t1_ns: int,
    *,
    before: Mapping[str, object] | None = None,
    after: Mapping[str, object] | None = None,
) -> Flags:
    """Return `limit_changed` where the enforced limit moved inside, or a setting differs between start and end.

    before, after: the device's settings (persistence, MIG, ECC, power profile …); what only one of them names
    was not read the other time, and does not count.
    """
    limits = v.power_limit_w[v.inside(t0_ns, t1_ns)]
    limits = limits[np.isfinite(limits)]
    moved = len(limits) > 0 and np.ptp(limits) > LIMIT_STEP_W
    before, after = before or {}, after or {}
    differs = any(before[name] != after[name] for name in before.keys() & after.keys())
    return ("limit_changed",) if moved or differs else ()


def scope_module(boundary: str) -> Flags:
    """Return `scope_module` for a device whose readings are of its module (`Device.boundary`)."""
    return ("scope_module",) if boundary == "module" else ()


def temp_shift(first_c: float, other_c: float) -> Flags:
    """Return `temp_shift` for median temperatures of two compared runs that are over 3 °C apart."""
    return ("temp_shift",) if abs(first_c - other_c) > TEMPERATURE_SHIFT_MAX_C else ()


def zero_power(rows: Rows, power_mw: Floats, breaks: Breaks, t0_ns: int, t1_ns: int) -> Flags:
    """Return `zero_power` where the driver gave no power for over 1 % of the polled time in [t0, t1].

    power_mw: the column that is used, (n,) beside `rows`, NaN where the driver gave 0 or nothing. A row says
    what was so until the next; gaps and stretches whose rows were not handed do not count. Give all rows.
    """
    begin, end = np.maximum(rows.t_ns[:-1], t0_ns), np.minimum(rows.t_ns[1:], t1_ns)
    skipped: Bools = rows.is_first[1:] | overlaps(breaks.as_gaps().gaps_ns, rows.t_ns[:-1], rows.t_ns[1:])
    polled_ns = np.where(skipped, 0, np.maximum(end - begin, 0))
    missing_ns = polled_ns[np.isnan(power_mw[:-1])].sum()
    return ("zero_power",) if missing_ns > MISSING_MAX * polled_ns.sum() else ()


def lost_polls(v: VitalsRows, t0_ns: int, t1_ns: int) -> Flags:
    """Return `zero_power` where over 1 % of the polls that were due in [t0, t1] failed or did not happen."""
    inside = v.inside(t0_ns, t1_ns)
    polls, misses = int(v.polls[inside].sum()), int(v.misses[inside].sum())
    return ("zero_power",) if misses > MISSING_MAX * (polls + misses) else ()


def unsteady(*, t_ns: Ints, power_w: Floats, v: VitalsRows, t1_ns: int) -> Flags:
    """Return `unsteady` where power or temperature still moved in the last 30 s before t1.

    t_ns, power_w: (n,), means over about a second each, W. The median of all slopes between two points (Theil
    and Sen) may change power by 1 % and the temperature by 1 °C in 30 s. Says nothing of fewer than 5 points.
    """
    from_ns = t1_ns - STEADY_NS
    late = (t_ns >= from_ns) & (t_ns <= t1_ns) & np.isfinite(power_w)
    warm = v.inside(from_ns, t1_ns) & np.isfinite(v.temperature_c)
    moved_w = _change(t_ns[late], power_w[late])
    moved_c = _change(v.t_ns[warm], v.temperature_c[warm])
    drifts = late.any() and abs(moved_w) > STEADY_POWER * float(np.median(power_w[late]))
    return ("unsteady",) if drifts or abs(moved_c) > STEADY_TEMPERATURE_C else ()


def _change(t_ns: Ints, values: Floats) -> float:
    """Return the Theil–Sen slope over 30 s; 0 for too few points."""
    if len(t_ns) < FEWEST:
        return 0.0
    i, j = np.triu_indices(len(t_ns), k=1)
    slope = (values[j] - values[i]) / (t_ns[j] - t_ns[i])
    return float(np.median(slope)) * STEADY_NS
