"""A counter's whole course over an interval: its updates placed on the publish grid, and energy at many times."""

import numpy as np

from telemetry.analysis import estimators
from telemetry.analysis.counter import CounterCurve
from telemetry.analysis.estimators import Stencil
from telemetry.analysis.grid import fit_grid
from telemetry.analysis.rows import Floats, Ints
from telemetry.errors import TraceError

TOGETHER = 48  # updates that one grid is fitted to, as for an edge
AROUND_NS = 1_000_000_000


def fitted_updates(curve: CounterCurve, from_ns: int, to_ns: int) -> tuple[Ints, Floats]:
    """Return when the counter was updated in an interval, (k,), ns, and what it showed then, (k,), J.

    The times are fitted to the publish grid, 48 at a time, within their brackets; those that do not follow on from
    the first of their 48 are the middles of their brackets. All rows of the interval are needed.
    Raises TraceError where the counter restarted inside, or has fewer than two updates.
    """
    u = curve.counted.knots
    k = np.flatnonzero((u.middle_ns >= from_ns) & (u.middle_ns <= to_ns))
    if len(k) < 2 or len(np.unique(u.life[k])) > 1:
        raise TraceError("The counter restarted or was hardly read there. Take an interval that it runs through.")
    rows = -(-len(k) // TOGETHER)
    at = np.minimum(np.arange(rows * TOGETHER), len(k) - 1).reshape(rows, TOGETHER)
    index = k[at]
    origin = u.middle_ns[index[:, :1]]
    grid = fit_grid(
        low_s=((u.low_ns[index] - origin) * 1e-9).astype(np.float64),
        high_s=((u.high_ns[index] - origin) * 1e-9).astype(np.float64),
        middle_s=((u.middle_ns[index] - origin) * 1e-9).astype(np.float64),
        step=(u.step[index] - u.step[index[:, :1]]).astype(np.float64),
        use=(np.arange(rows * TOGETHER) < len(k)).reshape(rows, TOGETHER) & (u.piece[index] == u.piece[index[:, :1]]),
    )
    at_ns = (origin + np.rint(grid.u_s * 1e9).astype(np.int64)).ravel()[: len(k)]
    return np.maximum.accumulate(at_ns), curve.counted.knot_j[k]


def plateau_at(curve: CounterCurve, t_ns: Ints) -> Floats:
    """Return the counter at many times of one interval, (m,), sorted, J, by PLATEAU.

    As `CounterCurve.energy` but for bounds and flags, and a thousand times faster: the grid is fitted once for all
    times, not for each. Raises TraceError where the counter restarted inside.
    """
    at_ns, shown_j = fitted_updates(curve, int(t_ns[0]) - AROUND_NS, int(t_ns[-1]) + AROUND_NS)
    column = np.searchsorted(at_ns, t_ns, side="right")[:, None] + np.arange(-3, 3)
    there = (column >= 0) & (column < len(at_ns))
    safe = np.clip(column, 0, len(at_ns) - 1)
    return estimators.plateau(
        Stencil(
            u_s=np.where(there, (at_ns[safe] - t_ns[:, None]) * 1e-9, np.nan),
            value_j=np.where(there, shown_j[safe], np.nan),
        )
    )
