"""The energy curve of a device that counts its own energy."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from telemetry.analysis import estimators
from telemetry.analysis.aliasing import aliasing_j, unseen_share
from telemetry.analysis.edges import Counted, Edges, Lives
from telemetry.analysis.enclosure import QUANTUM_J, PowerLimits
from telemetry.analysis.estimates import Bits, EnergyEstimates, raised
from telemetry.analysis.estimators import Stencil
from telemetry.analysis.rows import REACH_NS, Bools, Breaks, Floats, Ints, Rows, overlaps, session_before
from telemetry.analysis.updates import Updates, end_ns, find_updates

CounterMethod = Literal["auto", "plateau", "linear", "pad"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterCurve:
    """What is worked out once from a device's rows. Spans, (n, 2), are sorted by start."""

    counted: Counted
    life_from_ns: Ints  # first and last row of each life of the counter
    life_to_ns: Ints
    bridged_j: Floats  # (lives, 3): value, lo, hi to add when an interval ends in a later life
    holes_ns: Ints
    resets_ns: Ints
    unread_ns: Ints
    over_cap_ns: Ints
    under_floor_ns: Ints
    unseen: float = 0.0  # share of time that the counter is known to miss

    def energy(self, t0_ns: Ints, t1_ns: Ints, method: CounterMethod) -> EnergyEstimates:
        """Return the energy of each interval; see `EnergyCurve.energy`."""
        times, back = np.unique(np.concatenate([t0_ns, t1_ns]), return_inverse=True)
        life = np.searchsorted((self.life_to_ns[:-1] + self.life_from_ns[1:]) // 2, times, side="right")
        edges = self.counted.at(times, life)
        i0, i1 = back[: len(t0_ns)], back[len(t0_ns) :]
        bridge = self.bridged_j[life[i1]] - self.bridged_j[life[i0]]
        missed = self._missed_j(t0_ns, t1_ns)
        lo = edges.lo_j[i1] - edges.hi_j[i0] + bridge[:, 1] - missed
        hi = edges.hi_j[i1] - edges.lo_j[i0] + bridge[:, 2] + missed

        smooth, straight = edges.plateau_j(), edges.linear_j()
        same_life = life[i0] == life[i1]
        padded = np.where(same_life, estimators.pad(_some(edges.stencil, i0), _some(edges.stencil, i1)), np.nan)
        values = {
            "plateau": smooth[i1] - smooth[i0] + bridge[:, 0],
            "linear": straight[i1] - straight[i0] + bridge[:, 0],
            "pad": padded,
        }
        if method == "auto":
            inside = self._updates_between(t0_ns, t1_ns)
            chosen = np.where(inside >= 3, "plateau", np.where(np.isfinite(padded), "pad", "linear"))
            too_short = (inside < 1) & (chosen == "linear")
        else:
            chosen = np.full(len(t0_ns), method)
            too_short = np.isnan(values[method])
        value = np.select([chosen == n for n in values], list(values.values()))
        # The interval's bounds, not each edge's: what two edges misread alike cancels, and energies add up.
        value = np.where(too_short, np.nan, np.clip(value, lo, hi))

        flags = edges.flags[i0] | edges.flags[i1] | self._flags_between(t0_ns, t1_ns)
        covered = self._covers(times, life, edges)
        missing = ~(covered[i0] & covered[i1])
        flags |= raised("counter_reset", ~same_life) | raised("too_short", too_short & ~missing)
        nothing = np.where(missing, np.nan, 0.0)
        return EnergyEstimates(
            t0_ns=t0_ns,
            t1_ns=t1_ns,
            value_j=value + nothing,
            lo_j=lo + nothing,
            hi_j=hi + nothing,
            method=np.char.add("counter-", chosen),
            flags=np.where(missing, raised("not_covered", missing), flags),
        )

    def _covers(self, t_ns: Ints, life: Lives, edges: Edges) -> Bools:
        reached = (t_ns >= self.life_from_ns[life] - REACH_NS) & (t_ns <= self.life_to_ns[life] + REACH_NS)
        covers: Bools = reached & np.isfinite(edges.lo_j) & np.isfinite(edges.hi_j)
        return covers

    def _updates_between(self, t0_ns: Ints, t1_ns: Ints) -> NDArray[np.intp]:
        at = self.counted.knots.middle_ns
        return np.searchsorted(at, t1_ns, side="left") - np.searchsorted(at, t0_ns, side="right")

    def _flags_between(self, t0_ns: Ints, t1_ns: Ints) -> Bits:
        hole = overlaps(self.holes_ns, t0_ns, t1_ns)
        for edge in (t0_ns, t1_ns):  # the rows around an edge were not handed: as good as a gap
            hole |= overlaps(self.unread_ns, edge, edge)
        return (
            raised("gap", hole)
            | raised("counter_reset", overlaps(self.resets_ns, t0_ns, t1_ns))
            | raised("over_cap", overlaps(self.over_cap_ns, t0_ns, t1_ns))
            | raised("under_floor", overlaps(self.under_floor_ns, t0_ns, t1_ns))
            | raised("part_time_sensor", np.full(len(t0_ns), self.unseen > 0.0))
            | raised("timing_model", np.full(len(t0_ns), self.unseen > 0.0))
        )

    def _missed_j(self, t0_ns: Ints, t1_ns: Ints) -> Floats:
        """Return by how much to widen the bounds of a counter that looks part of the time, (m,), J."""
        k = self.counted.knots
        apart_s = np.diff(k.middle_ns) * 1e-9
        power_w = np.diff(self.counted.knot_j) / np.where(apart_s > 0, apart_s, np.inf)
        return aliasing_j(
            t0_ns, t1_ns, at_ns=k.middle_ns[1:], power_w=power_w, unseen=self.unseen, period_ns=k.period_ns
        )


def counter_curve(
    rows: Rows, limits: PowerLimits, breaks: Breaks, *, window_ns: int | None = None
) -> CounterCurve | None:
    """Return the curve of the rows' energy counter, or None where they hold no counter value.

    window_ns: what the counter looks at of each publish period; None for all of it.
    """
    u = find_updates(rows, rows.energy_mj, rows.energy_known, breaks, restarts=True)
    if len(u) == 0:
        return None
    value_mj = rows.energy_mj[u.row]
    begins = np.flatnonzero(np.append(True, np.diff(u.life) > 0))
    # Integers first: counters start anywhere below 2**63, where a float is coarser than a joule.
    update_j: Floats = (value_mj - value_mj[begins][u.life]).astype(np.float64) * 1e-3
    seen = np.flatnonzero(rows.energy_known)
    life_of_row = u.life[np.searchsorted(u.row, seen, side="right") - 1]
    ends = seen[np.append(np.diff(life_of_row) > 0, True)]
    over, under = _forbidden(u, update_j, limits)
    spans = np.column_stack([np.where(u.bracketed, u.low_ns, u.high_ns)[:-1], u.high_ns[1:]])
    curve = CounterCurve(
        counted=Counted(
            updates=u,
            update_j=update_j,
            sound=np.cumsum(np.append(False, over | under)),
            knots=u.knots(),
            knot_j=update_j[u.is_knot],
            limits=limits,
        ),
        life_from_ns=rows.t_ns[u.row[begins]],
        life_to_ns=rows.t_ns[ends],
        bridged_j=np.zeros((len(begins), 3)),
        holes_ns=_holes(rows, breaks, u.period_ns),
        resets_ns=breaks.resets_ns,
        unread_ns=_unread(rows, u.period_ns),
        over_cap_ns=spans[over],
        under_floor_ns=spans[under],
        unseen=unseen_share(window_ns, u.period_ns) if window_ns is not None else 0.0,
    )
    return replace(curve, bridged_j=_bridges(curve.counted, rows)) if len(begins) > 1 else curve


def _forbidden(u: Updates, update_j: Floats, limits: PowerLimits) -> tuple[Bools, Bools]:
    """Return for each pair of neighbouring updates whether it surely breaks the cap, and the floor."""
    rise_j = np.diff(update_j)
    longest_s = (u.high_ns[1:] - u.low_ns[:-1]) * 1e-9
    shortest_s = np.maximum(u.low_ns[1:] - u.high_ns[:-1], 0) * 1e-9
    same_life = np.diff(u.life) == 0  # a restart is no rise, but may be too small a one
    over = u.bracketed[:-1] & (rise_j - QUANTUM_J > limits.cap_w * longest_s)
    under = same_life & (rise_j + QUANTUM_J < limits.floor_w * shortest_s)
    return over, under


def _holes(rows: Rows, breaks: Breaks, period_ns: int) -> Ints:
    """Return the gaps, changes of session and pairs of polls over three periods apart."""
    new_session = session_before(rows, breaks)
    late = ~rows.is_first & ~new_session & (rows.since_ns > 3 * period_ns)
    spans = np.concatenate(
        [
            breaks.gaps_ns,
            np.column_stack([end_ns(rows) - rows.since_ns, rows.t_ns])[late],
            _from_previous(rows, new_session),
        ]
    )
    return spans[np.argsort(spans[:, 0], kind="stable")]


def _unread(rows: Rows, period_ns: int) -> Ints:
    """Return the stretches between pieces of rows that the caller did not read."""
    spans = _from_previous(rows, rows.is_first)
    return spans[spans[:, 1] - spans[:, 0] > 3 * period_ns]


def _from_previous(rows: Rows, at: Bools) -> Ints:
    return np.column_stack([rows.t_ns[:-1], rows.t_ns[1:]])[at[1:]]


def _bridges(counted: Counted, rows: Rows) -> Floats:
    """Return, for each life, what its scale is ahead of the first life's: value, lo, hi, J, (lives, 3).

    Between the last update of a life and the first of the next, the mean of the power readings on both sides
    is taken to have held, and the power to have stayed within its limits.
    """
    u, limits = counted.updates, counted.limits
    first = np.flatnonzero(np.diff(u.life) > 0) + 1
    x_ns, y_ns = u.high_ns[first - 1], u.high_ns[first]
    before, after = counted.at(x_ns, u.life[first - 1]), counted.at(y_ns, u.life[first])
    seconds = (y_ns - x_ns) * 1e-9
    middle_w = (limits.floor_w + limits.cap_w) / 2.0
    power_w = power_between(rows, rows.power_instant_mw, x_ns, y_ns)
    power_w = np.where(np.isfinite(power_w), power_w, middle_w)
    steps = np.column_stack(
        [
            before.plateau_j() + power_w * seconds - after.plateau_j(),
            before.lo_j + limits.floor_w * seconds - after.hi_j,
            before.hi_j + limits.cap_w * seconds - after.lo_j,
        ]
    )
    # A first life of a single value has no upper bound; no interval that begins in it is covered.
    return np.concatenate([np.zeros((1, 3)), np.cumsum(np.nan_to_num(steps), axis=0)])


def power_between(rows: Rows, power_mw: Floats, from_ns: Ints, to_ns: Ints) -> Floats:
    """Return the mean, W, (m,), of the last reading at or before `from_ns` and the first at or after `to_ns`.

    Where one of them is missing it is the other; NaN where both are.
    """
    known = np.isfinite(power_mw)
    if not known.any():
        return np.full(len(from_ns), np.nan)
    t_ns, power_w = rows.t_ns[known], power_mw[known] * 1e-3
    before = np.searchsorted(t_ns, from_ns, side="right") - 1
    after = np.searchsorted(t_ns, to_ns, side="left")
    no_before, no_after = before < 0, after >= len(t_ns)
    left = power_w[np.maximum(before, 0)]
    right = power_w[np.minimum(after, len(t_ns) - 1)]
    both = (np.where(no_before, right, left) + np.where(no_after, left, right)) / 2.0
    return np.where(no_before & no_after, np.nan, both)


def _some(s: Stencil, index: NDArray[np.intp]) -> Stencil:
    return Stencil(u_s=s.u_s[index], value_j=s.value_j[index])
