"""The energy of one device over one interval: from its rows, what is known of its board, and what its vitals say."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np

from telemetry.analysis import (
    METHODS,
    Breaks,
    EnergyCurve,
    EnergyEstimates,
    Method,
    Rows,
    VitalsRows,
    checks,
    choose_path,
    throttled_s,
)
from telemetry.analysis.quality import bits
from telemetry.analysis.rows import Floats, Ints
from telemetry.analysis.steady import settled
from telemetry.errors import UsageError
from telemetry.join.boards import Board
from telemetry.model import Estimate, Vitals, power_column

Path = Literal["counter", "integral"]
PATHS: tuple[Path, ...] = get_args(Path)
LOCAL: dict[Path, Method] = {"counter": "linear", "integral": "stored"}  # estimators for seconds in a row

S = 1_000_000_000
# A row of vitals holds the extremes of the second before it; a row this long after the start holds none of before.
VITALS_NS = 1_050_000_000
PERIOD_NS = S // 10  # at which power and counter are published, nearly everywhere
SETTLING_NS = 2 * S  # clocks rise when a load begins: that is no drift
LONG_NS = 60 * S  # from here on a run is asked whether it was steady
DAY_NS = 86_400 * S


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What was read of one device around an interval, and whose work it may have been.

    rows: those around both edges at least, see `EnergyCurve`.  vitals: of the whole interval, in order.  own_pids: None
    where nobody can say which processes belong to the measured work.  offsets_ns: wall less steady clock at the
    start, and wherever it changed inside.
    """

    name: str
    boundary: str
    integral_of: str | None
    limit_w: float | None
    rows: Rows
    breaks: Breaks
    vitals: Sequence[Vitals]
    own_pids: Collection[int] | None = None
    offsets_ns: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceEnergy:
    """One device over one interval; None where nothing was measured.

    automatic: what would have been chosen, where a method was asked for.  residual: counter / integrated power
    − 1, from 10 s on.  throttled_s: by reason.  idle_power_w: of a stretch recorded as a baseline, W.
    """

    estimates: EnergyEstimates  # of the one interval
    curve: EnergyCurve  # of the path that was chosen
    automatic: Estimate | None = None
    residual: float | None = None
    peak_power_w: float | None = None
    max_temperature_c: int | None = None
    max_memory_used_bytes: int | None = None
    throttled_s: Mapping[str, float] = field(default_factory=dict)
    idle_power_w: Estimate | None = None

    @property
    def energy(self) -> Estimate:
        """The device's energy, J."""
        return self.estimates.at(0)


def measure(trace: Trace, board: Board, t0_ns: int, t1_ns: int, method: str = "auto") -> DeviceEnergy:
    """Return the energy of one device over [t0, t1], by the method asked for or the best there is, and its flags.

    Raises UsageError for a method that does not exist.
    """
    t0, t1, vitals = np.array([t0_ns]), np.array([t1_ns]), VitalsRows.of(trace.vitals)
    curves = {path: curve_of(trace.rows, trace.breaks, board, path, trace.integral_of) for path in PATHS}
    both = {path: curve.energy(t0, t1) for path, curve in curves.items()}
    choice = choose_path(
        both["counter"],
        both["integral"],
        name=trace.name,
        call_rate_passed=board.profile.counter_call_rate_invariant if board.profile else None,
        counter_updates=_changes(trace.rows.energy_mj) if trace.rows.energy_known.any() else None,
        power_updates=_changes(_power(trace)) if trace.integral_of else None,
        average=curves["integral"].energy(t0, t1, "average-extended") if board.sensor.average_covers_all else None,
        may_alias=_may_alias(trace, both, t0_ns, t1_ns),
    )
    flags = (
        *choice.flags,
        *_flags(trace, vitals, board, t0_ns, t1_ns),
        *_unsteady(curves[choice.path], vitals, t0_ns, t1_ns),
    )
    chosen = raise_flags(both[choice.path], flags)
    found = chosen if method == "auto" else raise_flags(_asked(curves, method, t0_ns, t1_ns), flags)
    seconds = (t1_ns - t0_ns) / S
    mean_w = float(found.value_j[0]) / max(seconds, 1e-9)
    if trace.limit_w and np.isfinite(mean_w) and choice.path == "counter":
        found = raise_flags(found, checks.over_cap(mean_power_w=mean_w, duration_s=seconds, limit_w=trace.limit_w))
    residual = float(choice.residual[0])
    seen = [v for v in trace.vitals if t0_ns <= v.t_ns <= t1_ns + VITALS_NS]
    tops = [v.power_max_mw for v in trace.vitals if t0_ns + VITALS_NS <= v.t_ns <= t1_ns]
    peaks = [*curves["counter"].peak_power_w(t0, t1).tolist(), *(mw / 1000 for mw in tops if mw is not None)]
    return DeviceEnergy(
        estimates=found,
        curve=curves[choice.path],
        automatic=None if method == "auto" else chosen.at(0),
        residual=residual if np.isfinite(residual) else None,
        peak_power_w=max((p for p in peaks if p is not None and np.isfinite(p)), default=None),
        max_temperature_c=_most(v.sensors.temperature_c for v in seen),
        max_memory_used_bytes=_most(v.sensors.memory_used_bytes for v in seen),
        throttled_s={k: held for k, held in throttled_s(vitals, t0_ns, t1_ns).items() if np.isfinite(held)},
    )


def curve_of(rows: Rows, breaks: Breaks, board: Board, path: Path, integral_of: str | None) -> EnergyCurve:
    """Return the curve of one device's path, with what is known of its board."""
    return EnergyCurve.of(
        rows, path=path, limits=board.limits, breaks=breaks, integral_of=integral_of or "instant", sensor=board.sensor
    )


def second_by_second(curve: EnergyCurve, from_ns: int, to_ns: int) -> tuple[Ints, Floats]:
    """Return the edges of an interval's whole seconds, (n + 1,), ns, and the mean power of each, (n,), W."""
    edges_ns = np.arange(from_ns, to_ns + 1, S)
    return edges_ns, curve.energy(edges_ns[:-1], edges_ns[1:], LOCAL[curve.path]).value_j


def _asked(curves: Mapping[Path, EnergyCurve], method: str, t0_ns: int, t1_ns: int) -> EnergyEstimates:
    known: dict[Method, EnergyCurve] = {m: curve for path, curve in curves.items() for m in METHODS[path]}
    for name, curve in known.items():
        if name == method:
            return curve.energy(np.array([t0_ns]), np.array([t1_ns]), name)
    raise UsageError(f"There is no method {method}. Known are: {', '.join(known)}.")


def _may_alias(trace: Trace, both: Mapping[Path, EnergyEstimates], t0_ns: int, t1_ns: int) -> bool:
    """Tell whether a power sensor that looks part of the time can be as far off as the two paths are apart.

    At worst it sees only the highest or only the lowest power of the interval.
    """
    power = both["integral"]
    if not int(power.flags[0]) & bits("part_time_sensor"):
        return False
    inside = [v for v in trace.vitals if t0_ns <= v.t_ns <= t1_ns + VITALS_NS]
    seen = [mw for v in inside for mw in (v.power_min_mw, v.power_max_mw) if mw is not None]
    swing_j = (max(seen) - min(seen)) / 1000 * (t1_ns - t0_ns) / S if seen else 0.0
    return bool(abs(both["counter"].value_j[0] - power.value_j[0]) <= swing_j)


def _flags(trace: Trace, v: VitalsRows, board: Board, t0_ns: int, t1_ns: int) -> tuple[str, ...]:
    """Return what vitals, clock and board say of the interval."""
    flags = [
        *checks.throttling(v, t0_ns, t1_ns),
        *checks.clock_drift(v, t0_ns + SETTLING_NS, t1_ns),
        *checks.limit_changed(v, t0_ns, t1_ns),
        *checks.lost_polls(VitalsRows.of([v for v in trace.vitals if not _in_gap(v, trace)]), t0_ns, t1_ns),
        *_stale(trace, v, t0_ns, t1_ns),
        *checks.scope_module(trace.boundary),
        *checks.clock_jump(offset_ns=np.array(trace.offsets_ns, dtype=np.int64)),
    ]
    if trace.own_pids is not None:
        flags += checks.foreign_process(v, t0_ns, t1_ns, own_pids=trace.own_pids)
    if board.profile is None:
        flags.append("unprobed")
    elif board.profile.best_grade == "B":
        flags.append("probe_doubts")
    return tuple(flags)


def stood_still(v: Vitals) -> bool:
    """Tell whether all readings of power of the second before a row were the same: only then may they be stale."""
    return v.power_max_mw is not None and v.power_max_mw == v.power_min_mw


def _stale(trace: Trace, v: VitalsRows, t0_ns: int, t1_ns: int) -> tuple[str, ...]:
    still_ns = [row.t_ns for row in trace.vitals if stood_still(row)]
    return checks.stale(
        update_ns=checks.update_ns(trace.rows),
        change_ns=np.intersect1d(v.changes_ns(), np.array(still_ns, dtype=np.int64)),
        t0_ns=t0_ns,
        t1_ns=t1_ns,
        period_ns=PERIOD_NS,
    )


def _unsteady(curve: EnergyCurve, v: VitalsRows, t0_ns: int, t1_ns: int) -> tuple[str, ...]:
    """Return `unsteady` for a long interval that settled late or whose last 30 s still moved; a short one is not asked.

    Whether it settled late is only seen where all its rows were given: else the power between the edges is a mean.
    Nor is it asked of more than a day, for that costs time and memory for each second.
    """
    if t1_ns - t0_ns < LONG_NS:
        return ()
    whole = t1_ns - t0_ns <= DAY_NS
    edges_ns, power_w = second_by_second(curve, t0_ns if whole else t1_ns - checks.STEADY_NS, t1_ns)
    late = edges_ns[1:] > t1_ns - checks.STEADY_NS
    moving = checks.unsteady(t_ns=edges_ns[1:][late], power_w=power_w[late], v=v, t1_ns=t1_ns)
    return moving or (("unsteady",) if whole and not settled(power_w) else ())


def _in_gap(v: Vitals, trace: Trace) -> bool:
    """Tell whether the second before a row reaches into a gap, which has a flag of its own."""
    gaps = trace.breaks.as_gaps().gaps_ns
    return bool(np.any((gaps[:, 0] < v.t_ns) & (gaps[:, 1] > v.t_ns - VITALS_NS)))


def raise_flags(estimates: EnergyEstimates, codes: Collection[str]) -> EnergyEstimates:
    """Return the estimates with these flags raised on all of them."""
    return replace(estimates, flags=estimates.flags | np.uint64(bits(*codes)))


def _power(trace: Trace) -> Floats:
    """Return the power signal that the stored integral follows, (n,), mW."""
    values: Floats = getattr(trace.rows, power_column(trace.integral_of or "instant"))
    return values


def _changes(column: Floats | Ints) -> int:
    return int(np.count_nonzero(np.abs(np.diff(column)) > 0))  # to or from NaN is no change


def _most(values: Iterable[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)
