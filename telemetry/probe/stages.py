"""The stages of a probe, P1 to P10 of measurement.md §8: each drives the bench and returns what it found."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from telemetry.probe.bench import LEAD_NS, MS, Bench, S
from telemetry.probe.fits import FLAT, Grid, Window, fit_grid, fit_window, response, settled_after_s, variation
from telemetry.probe.load import Busy
from telemetry.probe.trace import Floats, Level, Trace, mean_known

CALL_PERIODS_S = (1.0, 0.1, 0.01, 0.001)
SHIFTS = 11  # odd, so that rising and falling ramps of a window are met at different places
STEPS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Grids:
    """When each signal is published; None: it has no updates."""

    instant: Grid | None
    average: Grid | None
    counter: Grid | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Steady:
    """Mean powers by the signals and by the counter, W, NaN where there is none; and the calls' latencies."""

    level: Level
    counter_w: float
    latency_p50_ns: int
    latency_p99_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """A square load in step with a grid, shifted by an eleventh of a period each time: mean powers, (11,), W."""

    instant_w: Floats
    average_w: Floats
    counter_w: Floats


def find_grids(bench: Bench, *, seconds: float = 20.0, every_s: float = 0.0015) -> Grids:
    """P1: read fast under a load that goes on and off at random, and fit each signal's publish times."""
    chance, t_ns = np.random.default_rng(1), bench.soon_ns()
    busy: list[Busy] = []
    end_ns = t_ns + round(seconds * S)
    while t_ns < end_ns:
        on_ns, off_ns = (round(each * MS) for each in chance.uniform(10, 400, 2))
        busy.append((t_ns, t_ns + on_ns))
        t_ns += on_ns + off_ns
    bench.play(busy)
    trace = bench.watch_for(seconds, every_s, dither=True)
    bench.clock.sleep_until(busy[-1][1])
    return Grids(
        instant=fit_grid(trace, trace.instant_w),
        average=fit_grid(trace, trace.average_w),
        counter=fit_grid(trace, trace.energy_j),
    )


def measure_call_rate(bench: Bench, grid: Grid, *, busy: bool, seconds: float = 10.0) -> dict[float, float]:
    """P2: return by the s between reads the power by the counter over that by two reads alone.

    At rest, or under load. What a read that failed left unknown is left out.
    """
    plan = [(period_s, min(seconds, max(4.0, 100 * period_s))) for period_s in CALL_PERIODS_S]
    end_ns = begin_ns = bench.soon_ns()
    if busy:
        whole_s = 2 * seconds + sum(span_s for _, span_s in plan) + (len(plan) + 2) * 2 * grid.period_ns / S
        end_ns += round((whole_s + 2) * S)
        bench.play([(begin_ns, end_ns)])
        bench.clock.sleep_until(begin_ns + S)
    before_w = bench.counter_w(grid, seconds=seconds, every_s=None)
    powers_w = {period_s: bench.counter_w(grid, seconds=span_s, every_s=period_s) for period_s, span_s in plan}
    after_w = bench.counter_w(grid, seconds=seconds, every_s=None)
    bench.clock.sleep_until(end_ns + S)
    ratios = {period_s: 2 * power_w / (before_w + after_w) for period_s, power_w in powers_w.items()}
    return {period_s: ratio for period_s, ratio in ratios.items() if not np.isnan(ratio)}


def measure_steady(bench: Bench, grid: Grid | None, *, seconds: float = 60.0) -> Steady:
    """P7 and P10: read as the collector does, under a steady load if there is one, and compare the signals."""
    begin_ns = bench.soon_ns()
    bench.play([(begin_ns, begin_ns + round((seconds + 4) * S))])
    bench.clock.sleep_until(begin_ns + 2 * S)  # the sensor has then forgotten what was before
    first_ns = bench.clock.now_ns() if grid is None else grid.phase_at(bench.clock.now_ns(), 0.5)
    periods = round(seconds * S / grid.period_ns) if grid else 0
    last_ns = first_ns + (round(periods * grid.period_ns) if grid else round(seconds * S))
    trace = bench.watch([*range(first_ns, last_ns, 20 * MS), last_ns])
    p50_ns, p99_ns = np.percentile(trace.latency_ns, [50, 99])
    bench.clock.sleep_until(begin_ns + round((seconds + 4) * S))
    return Steady(
        level=trace.level(),
        counter_w=float(trace.energy_j[-1] / (last_ns - first_ns) * S) if grid else float("nan"),
        latency_p50_ns=round(p50_ns),
        latency_p99_ns=round(p99_ns),
    )


def sweep(bench: Bench, grid: Grid, other: Grid, *, settle_s: float = 1.5, seconds: float = 1.5) -> Sweep:
    """P3, P4 and P5: read each power signal in the middle between two publishes, the counter by whole periods.

    grid: of the signals that the load keeps step with.  other: of the counter.
    """
    rows = []
    periods = round(seconds * S / grid.period_ns)
    for shift in range(SHIFTS):
        start_ns = grid.phase_at(bench.soon_ns(), shift / SHIFTS)
        settled_ns = start_ns + round(settle_s * S)
        ends_ns = settled_ns + round((periods + 3) * grid.period_ns)
        edges = np.arange(start_ns, ends_ns, grid.period_ns)
        bench.play([(round(t), round(t + grid.period_ns / 2)) for t in edges])
        shown_ns = grid.phase_at(settled_ns, 0.5)
        counted_ns = other.phase_at(settled_ns, 0.5)
        shown = {shown_ns + round(k * grid.period_ns) for k in range(periods)}
        counted = [counted_ns, counted_ns + round(round(seconds * S / other.period_ns) * other.period_ns)]
        times_ns = sorted(shown | set(counted))
        trace = bench.watch(times_ns)
        at = [times_ns.index(t) for t in counted]
        power = [times_ns.index(t) for t in sorted(shown)]
        counter_w = (trace.energy_j[at[1]] - trace.energy_j[at[0]]) / (counted[1] - counted[0]) * S
        rows.append((mean_known(trace.instant_w[power]), mean_known(trace.average_w[power]), counter_w))
        bench.clock.sleep_until(int(edges[-1] + grid.period_ns))
    instant_w, average_w, counted_w = np.array(rows, dtype=np.float64).T
    return Sweep(instant_w=instant_w, average_w=average_w, counter_w=counted_w)


def measure_rise(bench: Bench, grid: Grid, *, low: Level, high: Level) -> tuple[float | None, float | None]:
    """P6: return how late INSTANT is on average and how long AVERAGE rises, ns; None where not resolved.

    The answers to all steps are laid over each other, each step at another phase of INSTANT's grid.
    """
    reach_ns, steps, traces = round(1.6 * S), [], []
    for step in range(STEPS):
        bench.clock.sleep_until(bench.clock.now_ns() + round(1.5 * S))
        on_ns = grid.phase_at(bench.soon_ns(), (step + 0.5) / STEPS)
        bench.play([(on_ns, on_ns + reach_ns)])
        bench.clock.sleep_until(on_ns - LEAD_NS // 2)
        traces.append(bench.watch_for(reach_ns / S, 0.002, dither=True))
        steps.append(on_ns)
        bench.clock.sleep_until(on_ns + reach_ns)
    whole = joined(traces)
    at = np.array(steps, dtype=np.int64)
    instant = response(whole, whole.instant_w, at, reach_ns=reach_ns, low_w=low.instant_w, high_w=high.instant_w)
    average = response(whole, whole.average_w, at, reach_ns=reach_ns, low_w=low.average_w, high_w=high.average_w)
    return instant.delay_ns() if len(instant.after_ns) else None, average.ramp_ns()


def measure_rest(bench: Bench, *, idle_w: float, seconds: float = 10.0) -> tuple[float, float | None]:
    """P9: load the device, then see it rest; return its power after that, W, and the time to `idle_w`, s.

    The time is None where it does not come down so far.
    """
    begin_ns = bench.soon_ns()
    off_ns = begin_ns + 2 * S
    bench.play([(begin_ns, off_ns)])
    bench.clock.sleep_until(off_ns)
    trace = bench.watch_for(seconds, 0.02)
    t_s = (trace.t_ns - off_ns) / S
    first = trace.between(off_ns + S // 2, off_ns + round(2.5 * S))
    within_w = max(3.0, 0.02 * idle_w)
    return first.level().instant_w, settled_after_s(t_s, trace.instant_w, to_w=idle_w, within_w=within_w)


def find_stamps(bench: Bench) -> Literal["call", "sample"] | None:
    """P1: do the driver's stamps move with each call, or only with the values? None: it gives too few."""
    begin_ns = bench.clock.now_ns()
    stamps_us = []
    for k in range(400):
        bench.clock.sleep_until(begin_ns + 5 * MS * k)
        if (stamp_us := bench.details.stamp_us()) is not None:
            stamps_us.append(stamp_us)
    if len(stamps_us) < 100:
        return None
    return "call" if np.mean(np.diff(stamps_us) != 0) > 0.9 else "sample"


def find_ring(bench: Bench) -> tuple[int, int] | None:
    """P8: return how many power samples the driver keeps, and the median time between them, ns."""
    stamps_us = bench.details.ring_us()
    if stamps_us is None or len(stamps_us) < 2:
        return None
    return len(stamps_us), round(float(np.median(np.diff(stamps_us))) * 1000)


def covers_all(powers_w: Floats) -> bool | None:
    """Return whether a signal saw all of a square load at every phase; None where it did not answer."""
    return None if np.isnan(powers_w).any() else variation(powers_w) < FLAT


def look(sweep_w: Floats, *, low_w: float, high_w: float) -> Window | None:
    """Return what a signal looks at of each period, in periods, from what it showed of a sweep.

    None where it did not answer.
    """
    if np.isnan(sweep_w).any():
        return None
    return fit_window(np.arange(SHIFTS) / SHIFTS, sweep_w, low_w=low_w, high_w=high_w)


def joined(traces: list[Trace]) -> Trace:
    """Return traces one after the other; the counter's values of different ones cannot be compared."""
    return Trace(**{name: np.concatenate([getattr(trace, name) for trace in traces]) for name in Trace.__slots__})
