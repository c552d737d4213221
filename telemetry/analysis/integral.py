"""The energy curve of a device without a counter: the running integral of its power readings."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from telemetry.analysis.aliasing import aliasing_j, unseen_share
from telemetry.analysis.enclosure import PowerLimits
from telemetry.analysis.estimates import EnergyEstimates, raised
from telemetry.analysis.profiles import SensorProfile
from telemetry.analysis.publishes import UNSEEN_PERIODS
from telemetry.analysis.ramps import Ramps
from telemetry.analysis.rows import REACH_NS, Bools, Breaks, Floats, Ints, Rows, overlaps, session_before
from telemetry.analysis.updates import find_updates, power_period_ns
from telemetry.model import power_column

LIVE = ("instant", "average", "legacy")
SHORT = 50  # averaging times


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegralCurve:
    """The cumulative integral, from one second before the rows to one after.

    unseen: the share of time that the signal says nothing of.  lag_ns: of the sensor, 0 for none.
    """

    method: str
    ramps: Ramps
    holes_ns: Ints
    averaging_ns: int
    period_ns: int
    update_ns: Ints
    update_w: Floats
    unseen: float
    lag_ns: int

    def energy(self, t0_ns: Ints, t1_ns: Ints, *, lag_ns: int = 0) -> EnergyEstimates:
        """Return the energy of each interval; see `EnergyCurve.energy`.

        With a lag τ of first order the sensor shows Y while the power is Y + τ·dY/dt, whose integral is that of
        Y and τ·(Y(t1) − Y(t0)) (the idea of Burtscher and others, GPGPU-7, 2014).
        """
        first, last = int(self.ramps.from_ns[1]), int(self.ramps.from_ns[-2])
        shift = self.averaging_ns + self.period_ns
        # The data end before the readings that describe the interval's own end: the last power goes on.
        reached = np.minimum(t1_ns + shift, np.maximum(t1_ns, last))
        held_j = (t1_ns + shift - reached) * 1e-9 * self.ramps.end_w[0, -1]
        begin, end = self._at(t0_ns, lag_ns), self._at(t1_ns, lag_ns)
        alias = aliasing_j(
            t0_ns, t1_ns,
            at_ns=self.update_ns, power_w=self.update_w, unseen=self.unseen, period_ns=self.period_ns,
        )  # fmt: skip
        value = end[0] - begin[0]
        lo = end[1] - self._at(np.minimum(t0_ns + shift, t1_ns), lag_ns)[1] - alias
        hi = self._at(reached, lag_ns)[2] - begin[2] + held_j + alias

        missing = (t0_ns < self.ramps.from_ns[0]) | (t1_ns > self.ramps.from_ns[-1])
        flags = (
            raised("timing_model", np.ones(len(t0_ns), dtype=np.bool_))
            | raised("gap", overlaps(self.holes_ns, t0_ns, t1_ns))
            | raised("edge_extrapolated", (t0_ns < first) | (t1_ns + shift > last))
            | raised("short_for_averaging", t1_ns - t0_ns < SHORT * self.averaging_ns)
            | raised("part_time_sensor", np.full(len(t0_ns), self.unseen > 0.0))
        )
        nothing = np.where(missing, np.nan, 0.0)
        return EnergyEstimates(
            t0_ns=t0_ns,
            t1_ns=t1_ns,
            value_j=value + nothing,
            lo_j=np.minimum(lo, value) + nothing,
            hi_j=np.maximum(hi, value) + nothing,
            method=np.full(len(t0_ns), f"{self.method}-lag" if lag_ns else self.method),
            flags=np.where(missing, raised("not_covered", missing), flags),
        )

    def _at(self, t_ns: Ints, lag_ns: int) -> Floats:
        """Return the curve and its companions at times (m,), their lag made good: (3, m), J."""
        behind: Floats = self.ramps.energy_j(t_ns) + lag_ns * 1e-9 * self.ramps.power_w(t_ns)
        return behind


def integral_curve(
    rows: Rows, limits: PowerLimits, breaks: Breaks, integral_of: str, sensor: SensorProfile
) -> IntegralCurve | None:
    """Return the curve of the rows' running integral of a power signal, or None where they hold none."""
    column = power_column(integral_of)
    power_mw = rows.power_instant_mw if column == "power_instant_mw" else rows.power_average_mw
    seen = np.flatnonzero(np.isfinite(power_mw) & rows.integral_known)
    if len(seen) == 0:
        return None
    breaks = breaks.as_gaps()
    updates = find_updates(rows, power_mw, np.isfinite(power_mw), breaks, period_ns=power_period_ns(rows, breaks))
    t_ns, power_w = rows.t_ns[seen], power_mw[seen] * 1e-3
    middle_ns, segments_w, hole = _between_rows(rows, seen, power_w, breaks, updates.period_ns)
    # Two segments between neighbouring rows, and a second of constant power at either end.
    from_ns = np.concatenate([np.column_stack([t_ns[:-1], middle_ns]).ravel(), t_ns[-1:]])
    from_ns = np.concatenate([t_ns[:1] - REACH_NS, from_ns, t_ns[-1:] + REACH_NS])
    ends_w = power_w[[0, -1]]
    begin_w, end_w = (np.concatenate([ends_w[:1], segments_w[:, :, side].ravel(), ends_w[1:]]) for side in (0, 1))
    unseen = np.concatenate([[True], np.column_stack([np.zeros_like(hole), hole]).ravel(), [True]])
    floor_w, cap_w = (np.full(len(unseen), w) for w in (limits.floor_w, limits.cap_w))
    begins = np.stack([begin_w, np.where(unseen, floor_w, begin_w), np.where(unseen, cap_w, begin_w)])
    ends = np.stack([end_w, np.where(unseen, floor_w, end_w), np.where(unseen, cap_w, end_w)])
    averaging_ns = sensor.window_ns(integral_of)
    instant = column == "power_instant_mw"
    return IntegralCurve(
        method=f"integral-{integral_of}" if integral_of in LIVE else "trapezoid",
        ramps=Ramps.of(from_ns, begins, ends),
        holes_ns=np.column_stack([middle_ns, t_ns[1:]])[hole],
        averaging_ns=averaging_ns,
        period_ns=updates.period_ns,
        update_ns=updates.middle_ns,
        update_w=power_mw[updates.row] * 1e-3,
        unseen=unseen_share(averaging_ns, updates.period_ns) if instant else 0.0,
        lag_ns=sensor.lag_ns if instant else 0,
    )


def _between_rows(
    rows: Rows, seen: NDArray[np.intp], power_w: Floats, breaks: Breaks, period_ns: int
) -> tuple[Ints, Floats, Bools]:
    """Return how power went between neighbouring rows that hold an integral, n − 1 pairs.

    The time that splits each pair, (n − 1,), ns; the powers at begin and end of both halves, (n − 1, 2, 2),
    W; and whether the second half was not measured, (n − 1,).
    """
    before, after = seen[:-1], seen[1:]
    t_before, t_after = rows.t_ns[before], rows.t_ns[after]
    p_before, p_after = power_w[:-1], power_w[1:]
    rise_uj = rows.integral_uj[after] - rows.integral_uj[before]
    session = np.cumsum(session_before(rows, breaks))
    restarted = (session[after] != session[before]) | (rise_uj < 0)
    piece = np.cumsum(rows.is_first)
    unread = piece[after] != piece[before]
    in_gap = overlaps(breaks.gaps_ns, t_before, t_after)
    # The poll before a row is `since` before its end; until then nothing had changed.
    since = rows.since_ns[before + 1]
    polled_ns = since[since > 0]
    usual_ns = max(period_ns, int(np.median(polled_ns))) if len(polled_ns) else period_ns
    broken = restarted | in_gap | ((after > before + 1) & ~unread)
    late = ~broken & ~unread & (since > UNSEEN_PERIODS * usual_ns)
    hole = broken | late

    # Its begin is known; its middle was half a latency later, taken to be this poll's own.
    previous = np.where(since > 0, rows.t_ns[before + 1] + rows.latency_ns[before + 1] - since, t_before)
    starts = np.append(breaks.gaps_ns[:, 0], np.iinfo(np.int64).max)
    next_gap = starts[np.searchsorted(starts[:-1], t_before)]
    gap_from = np.where(next_gap < t_after, next_gap, t_before)
    middle = np.where(restarted, t_before, np.where(in_gap, gap_from, np.where(unread & ~hole, t_after, previous)))
    middle = np.clip(middle, t_before, t_after)

    seconds = np.column_stack([middle - t_before, t_after - middle]) * 1e-9
    rise_j = np.where(restarted, 0, rise_uj) * 1e-6
    rise_j = np.where(late, p_before * seconds[:, 0], rise_j)  # the rest of it is the bridge that is laid below
    ramp = np.stack([np.column_stack([p_before, p_before]), np.column_stack([p_before, p_after])], axis=1)
    flat = np.ones_like(ramp)
    shape = np.where((hole | unread)[:, None, None], flat, ramp)
    # Scaled to add up to what was integrated; a scale other than 1 is rounding, or the latency of a poll.
    expected_j = np.sum(np.mean(shape, axis=2) * np.where(hole[:, None], [1.0, 0.0], 1.0) * seconds, axis=1)
    scale = np.divide(rise_j, expected_j, out=np.zeros_like(rise_j), where=expected_j > 0)
    powers = shape * scale[:, None, None]
    powers[hole, 1, :] = ((p_before + p_after) / 2.0)[hole, None]
    return middle, powers, hole
