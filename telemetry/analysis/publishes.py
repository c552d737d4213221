"""When a power signal was published: the updates that polls saw, and between them those of equal value."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from telemetry.analysis.edges import GRID_REACH, MANY
from telemetry.analysis.grid import JITTER_S, fit_grid
from telemetry.analysis.rows import Bools, Breaks, Floats, Ints, Rows
from telemetry.analysis.updates import Updates, find_updates, power_period_ns

UNSEEN_PERIODS = 3  # polls further apart than this many periods leave a hole
USUAL_NS = np.array([10, 20, 25, 40, 50, 100, 125, 200, 250, 500, 1000]) * 1_000_000  # a second in whole parts
UNSURE_NS = 40_000_000  # what the brackets at the ends of two stretches leave unknown of their length


@dataclass(frozen=True, slots=True, kw_only=True)
class Publishes:
    """n publishes of one power signal, in the order of time.

    t_ns: (n,), where the grid places them.  low_ns, high_ns: (n,), between which they were.  power_w: (n,), W.
    piece: (n,): publishes of equal number follow on from each other.  until_ns: (pieces,), the last row that
    still showed the last value of each.  after_unread: (pieces,), whether rows before the piece were not handed.
    off_ns: how far a publish may be from where it is placed, half a usual bracket.
    """

    t_ns: Ints
    low_ns: Ints
    high_ns: Ints
    power_w: Floats
    piece: NDArray[np.intp]
    until_ns: Ints
    after_unread: Bools
    period_ns: int
    off_ns: int

    def __len__(self) -> int:
        return len(self.t_ns)


def find_publishes(rows: Rows, power_mw: Floats, breaks: Breaks) -> Publishes | None:
    """Return the publishes of a power column, (n,) beside `rows`; None where it holds no value.

    A value that stays the same is published again each period. Taking only changes would make one long ramp of
    idle and the step after it.
    """
    known = np.isfinite(power_mw)
    if not known.any():
        return None
    breaks = breaks.as_gaps()
    period_ns = power_period_ns(rows, breaks)
    late = rows.since_ns > UNSEEN_PERIODS * period_ns
    u = find_updates(rows, power_mw, known, breaks, period_ns=period_ns, after_hole=late)
    wide = u.is_knot & (u.high_ns - u.low_ns > UNSEEN_PERIODS * u.period_ns)
    piece: NDArray[np.intp] = np.cumsum((np.diff(u.piece, prepend=u.piece[0]) > 0) | wide, dtype=np.intp)
    t_ns = _fitted_ns(u, piece)
    period_ns = _period_ns(t_ns, piece, u.is_knot, u.period_ns)

    seen = np.flatnonzero(known)
    last_row = np.searchsorted(u.row, seen, side="right") - 1
    ends = np.flatnonzero(np.append(np.diff(piece[last_row]) > 0, True))
    until_ns = rows.t_ns[seen[ends]]

    # Each value is published until the next update of its piece, or until the last row that showed it.
    ended = np.append(np.diff(piece) > 0, True)
    # A poll's time is its middle: of a piece of one row it lies before the end, which dates the update.
    to_ns = np.maximum(np.where(ended, until_ns[piece], np.append(t_ns[1:], 0)), t_ns)
    periods = (to_ns - t_ns) / period_ns
    count = np.where(ended, np.floor(periods).astype(np.int64) + 1, np.maximum(np.rint(periods).astype(np.int64), 1))
    spacing_ns = np.where(ended, float(period_ns), (to_ns - t_ns) / count)
    which = np.repeat(np.arange(len(u)), count)
    again = np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count)
    at_ns = t_ns[which] + np.rint(again * spacing_ns[which]).astype(np.int64)
    jitter_ns = round(JITTER_S * 1e9)
    firsts = np.flatnonzero(np.append(True, np.diff(piece) > 0))
    handed = np.cumsum(rows.is_first)[u.row]
    return Publishes(
        t_ns=at_ns,
        low_ns=np.where(again == 0, np.where(u.is_knot, u.low_ns, t_ns - period_ns)[which], at_ns - jitter_ns),
        high_ns=np.where(again == 0, u.high_ns[which], at_ns + jitter_ns),
        power_w=power_mw[u.row][which] * 1e-3,
        piece=piece[which],
        until_ns=until_ns,
        after_unread=handed[firsts] > handed[np.maximum(firsts - 1, 0)],
        period_ns=period_ns,
        off_ns=max(jitter_ns, int(np.median((u.high_ns - u.low_ns)[u.is_knot]) // 2) if u.is_knot.any() else 0),
    )


def _fitted_ns(u: Updates, piece: NDArray[np.intp]) -> Ints:
    """Return where the grid places each update, (m,); the middles where it is no knot, or keeps no grid."""
    found = u.middle_ns.copy()
    for block in np.array_split(np.arange(len(u)), len(u) // MANY + 1):
        wanted = block[:, None] + np.arange(-GRID_REACH, GRID_REACH + 1)
        index = np.clip(wanted, 0, len(u) - 1)
        step = u.step[index] - u.step[block][:, None]
        # Counting periods across a long stretch of one value would need T better than its median is known.
        near = (np.abs(step) <= 2 * GRID_REACH) & (wanted == index) & u.is_knot[index]
        at_ns = u.middle_ns[block][:, None]
        grid = fit_grid(
            low_s=(u.low_ns[index] - at_ns) * 1e-9,
            high_s=(u.high_ns[index] - at_ns) * 1e-9,
            middle_s=(u.middle_ns[index] - at_ns) * 1e-9,
            step=step.astype(np.float64),
            use=near & (piece[index] == piece[block][:, None]),
        )
        off_ns = np.rint(grid.u_s[:, GRID_REACH] * 1e9).astype(np.int64)
        found[block] += np.where(u.is_knot[block], off_ns, 0)
    return np.maximum.accumulate(found)


def _period_ns(t_ns: Ints, piece: NDArray[np.intp], is_knot: Bools, rough_ns: int) -> int:
    """Return the publish period from ever longer stretches: each estimate counts the periods of the next.

    Where the short ones cannot tell it from a usual one it is taken for that; the periods of a long stretch of
    one value could be miscounted otherwise.
    """
    apart = np.diff(t_ns)[is_knot[1:] & is_knot[:-1] & (np.diff(piece) == 0)]
    period = float(rough_ns)
    for most in (4, 16, 64, 256, 1024):
        periods = np.rint(apart / period)
        use = (periods > 0) & (periods <= most)
        if use.any():
            span_ns, count = float(np.sum(apart[use])), float(np.sum(periods[use]))
            period = span_ns / count
            usual = USUAL_NS[np.argmin(np.abs(USUAL_NS - period))]
            if abs(usual - period) * count <= UNSURE_NS:
                period = float(usual)
    return max(round(period), 1)
