"""Energy from INSTANT readings: the trapezoid over the times at which they were published."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from telemetry.analysis.aliasing import aliasing_j, unseen_share
from telemetry.analysis.enclosure import PowerLimits
from telemetry.analysis.estimates import EnergyEstimates, raised
from telemetry.analysis.publishes import Publishes, find_publishes
from telemetry.analysis.ramps import Ramps
from telemetry.analysis.rows import REACH_NS, Bools, Breaks, Floats, Ints, Rows, overlaps

METHOD = "instant-trapezoid"
HELD_PERIODS = 2  # a reading is not taken to hold for longer than this at an edge
SHORT = 50  # averaging times


@dataclass(frozen=True, slots=True, kw_only=True)
class InstantCurve:
    """The publishes of a power signal, and the trapezoid between them. holes_ns: (h, 2); unread: (h,)."""

    publishes: Publishes
    ramps: Ramps
    holes_ns: Ints
    unread: Bools
    window_ns: int

    def energy(self, t0_ns: Ints, t1_ns: Ints) -> EnergyEstimates:
        """Return the energy of each interval, no value (`method_refused`) where too little is known of it.

        The trapezoid over the publishes inside; the first reading is held back to t0 and the last on to t1, so
        a load that steps at the edges is seen whole unless a reading's window straddles the step. Holding makes
        energies not add up over a split. The bounds let either edge be off by (W + T) / 2 and half a bracket
        on the trapezoid itself, and are widened by what a part-time sensor may miss (`aliasing_j`); in holes
        the value is the straight line, the bounds floor and cap.
        """
        p = self.publishes
        first = np.searchsorted(p.t_ns, t0_ns, side="left")
        last = np.searchsorted(p.t_ns, t1_ns, side="right") - 1
        inside = last >= first
        i, j = np.minimum(first, len(p) - 1), np.maximum(last, 0)
        held_ns = HELD_PERIODS * p.period_ns
        near = (p.t_ns[i] - t0_ns <= held_ns) & (t1_ns - p.t_ns[j] <= held_ns)
        unread = overlaps(self.holes_ns[self.unread], t0_ns, t1_ns)
        known = inside & near & ~unread
        between = self.ramps.energy_j(p.t_ns[j])[0] - self.ramps.energy_j(p.t_ns[i])[0]
        held = p.power_w[i] * (p.t_ns[i] - t0_ns) * 1e-9 + p.power_w[j] * (t1_ns - p.t_ns[j]) * 1e-9
        value = np.where(known, between + held, np.nan)

        unseen = unseen_share(self.window_ns, p.period_ns)
        alias = aliasing_j(t0_ns, t1_ns, at_ns=p.t_ns, power_w=p.power_w, unseen=unseen, period_ns=p.period_ns)
        lo, hi = self._shifted(t0_ns, t1_ns)
        covered = (t0_ns >= p.t_ns[0] - REACH_NS) & (t1_ns <= p.until_ns[-1] + REACH_NS)
        nothing = np.where(covered & ~unread, 0.0, np.nan)
        flags = (
            raised("timing_model", np.ones(len(t0_ns), dtype=np.bool_))
            | raised("gap", overlaps(self.holes_ns, t0_ns, t1_ns))
            | raised("edge_extrapolated", (t0_ns < p.t_ns[0]) | (t1_ns > p.until_ns[-1]))
            | raised("short_for_averaging", t1_ns - t0_ns < SHORT * self.window_ns)
            | raised("part_time_sensor", np.full(len(t0_ns), unseen > 0.0))
            | raised("method_refused", ~known)
        )
        return EnergyEstimates(
            t0_ns=t0_ns,
            t1_ns=t1_ns,
            value_j=value + nothing,
            lo_j=np.fmin(lo - alias, value) + nothing,
            hi_j=np.fmax(hi + alias, value) + nothing,
            method=np.full(len(t0_ns), METHOD),
            flags=np.where(covered, flags, raised("not_covered", ~covered)),
        )

    def _shifted(self, t0_ns: Ints, t1_ns: Ints) -> tuple[Floats, Floats]:
        """Return the least and the most that the trapezoid gives with its edges off by what its model allows."""
        half_ns = (self.window_ns + self.publishes.period_ns) // 2 + self.publishes.off_ns
        middle_ns = t0_ns + (t1_ns - t0_ns) // 2
        inner0, inner1 = np.minimum(t0_ns + half_ns, middle_ns), np.maximum(t1_ns - half_ns, middle_ns)
        at = self.ramps.energy_j
        return at(inner1)[1] - at(inner0)[1], at(t1_ns + half_ns)[2] - at(t0_ns - half_ns)[2]


def instant_curve(
    rows: Rows, power_mw: Floats, limits: PowerLimits, breaks: Breaks, *, window_ns: int
) -> InstantCurve | None:
    """Return the curve of a power column, (n,) beside `rows`; None where it holds no value."""
    p = find_publishes(rows, power_mw, breaks)
    if p is None:
        return None
    broken = np.diff(p.piece) > 0
    # A second of constant power at either end.
    from_ns = np.concatenate([p.t_ns[:1] - REACH_NS, p.t_ns, [max(p.until_ns[-1], p.t_ns[-1]) + REACH_NS]])
    power_w = np.concatenate([p.power_w[:1], p.power_w, p.power_w[-1:]])
    hole = np.concatenate([[False], broken, [False]])
    return InstantCurve(
        publishes=p,
        ramps=Ramps.of(from_ns, _bounded(power_w[:-1], hole, limits), _bounded(power_w[1:], hole, limits)),
        holes_ns=np.column_stack([p.t_ns[:-1], p.t_ns[1:]])[broken],
        unread=p.after_unread[1:],
        window_ns=window_ns,
    )


def _bounded(power_w: Floats, hole: NDArray[np.bool_], limits: PowerLimits) -> Floats:
    return np.stack([power_w, np.where(hole, limits.floor_w, power_w), np.where(hole, limits.cap_w, power_w)])
