"""Idle power, and the energy of a run above it."""

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from telemetry.analysis.quality import grade_of
from telemetry.analysis.rows import Floats, Ints
from telemetry.errors import TraceError
from telemetry.model import Estimate

BaselineName = Literal["B0", "B1", "B2"]
LEAST_NS = 30_000_000_000
SPREAD_MAX_W = 3.0
DRIFT_MAX = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """A device's idle power, W, and its standard uncertainty.

    B0: bare, no program has it open. B1: the model is loaded and quiet. B2: the first seconds after load, while
    clocks are still high.
    """

    name: BaselineName
    power_w: float
    u_w: float


def idle_baseline(name: BaselineName, *, t_ns: Ints, power_w: Floats) -> Baseline:
    """Return the mean of readings of an idle stretch, (n,), W, as a baseline.

    Raises TraceError under 30 s, or where they are not within 3 W of each other: that is not idle.
    """
    lasted_ns = int(t_ns[-1] - t_ns[0]) if len(t_ns) else 0
    if lasted_ns < LEAST_NS:
        raise TraceError(f"{lasted_ns * 1e-9:.1f} s of idle are no baseline. Measure 30 s.")
    if np.ptp(power_w) > SPREAD_MAX_W:
        raise TraceError(
            f"Power moved between {power_w.min():.1f} and {power_w.max():.1f} W: not idle. "
            "Wait until it stays within 3 W."
        )
    return Baseline(name=name, power_w=float(power_w.mean()), u_w=float(power_w.std() / math.sqrt(len(power_w))))


def baseline_between(before: Baseline, after: Baseline) -> tuple[Baseline, tuple[str, ...]]:
    """Return the baseline of a run between two of the same name, and `baseline_drift` where they differ.

    A straight line between them has their mean as its own. They differ by over 3 W and over 2 %: publish net
    energies by both. The uncertainty is at least that of not knowing how the one became the other.
    """
    if before.name != after.name:
        raise TraceError(f"{before.name} and {after.name} are different baselines. Measure the same before and after.")
    apart_w = abs(after.power_w - before.power_w)
    mean_w = (before.power_w + after.power_w) / 2.0
    u_w = math.hypot(before.u_w / 2.0, after.u_w / 2.0, apart_w / 2.0 / math.sqrt(3.0))
    drifts = apart_w > max(SPREAD_MAX_W, DRIFT_MAX * mean_w)
    return Baseline(name=before.name, power_w=mean_w, u_w=u_w), ("baseline_drift",) if drifts else ()


def energy_above(energy: Estimate, baseline: Baseline, duration_s: float) -> Estimate:
    """Return an energy less what the device would have used idle: `active` above B0, `net` above B1 or B2.

    Bounds move with the value: they stay those of timing. Not clipped at 0, for cutting off what is below would
    make the mean of many runs too high. Flags that withhold a net energy grade it U.
    """
    idle_j = baseline.power_w * duration_s
    value, lo, hi = (None if j is None else j - idle_j for j in (energy.value, energy.lo, energy.hi))
    kind = "active" if baseline.name == "B0" else "net"
    return replace(
        energy,
        value=value,
        lo=lo,
        hi=hi,
        method=f"{energy.method}, {kind} above {baseline.name}",
        grade=grade_of(value, lo, hi, energy.flags, "net"),
    )


def uncertainty_above_j(u_energy_j: float, baseline: Baseline, duration_s: float) -> float:
    """Return the standard uncertainty of an energy above a baseline, J: u² = u_E² + (Δt·u_B)²."""
    return math.hypot(u_energy_j, duration_s * baseline.u_w)
