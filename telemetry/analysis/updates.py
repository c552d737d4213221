"""When a column of stored readings was updated, as far as the polls can tell."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from telemetry.analysis.rows import Bools, Breaks, Ints, Rows, overlaps, session_before

# Stored latencies are whole µs and midpoints whole ns: half a µs either way keeps every bracket true.
ROUNDING_NS = 500
DEFAULT_PERIOD_NS = 100_000_000  # what Ampere and Hopper do; serves until the rows themselves say better


@dataclass(frozen=True, slots=True, kw_only=True)
class Updates:
    """The updates of one column, (m,), in the order of time.

    Update j was published in (low_ns, high_ns] and stands in row `row`. Where not `bracketed` it was merely
    current at high_ns, and low_ns means nothing. `is_knot`: two polls in a row saw the old and the new value,
    so the bracket is as narrow as the polling. `life` counts the counter's restarts; within a `piece` the
    brackets follow on from each other, and `step` counts publish periods since the first update of the piece.
    """

    row: NDArray[np.intp]
    low_ns: Ints
    high_ns: Ints
    bracketed: Bools
    is_knot: Bools
    life: NDArray[np.intp]
    piece: NDArray[np.intp]
    step: Ints
    middle_ns: Ints
    period_ns: int

    def __len__(self) -> int:
        return len(self.row)

    def knots(self) -> "Updates":
        """Return the updates that are knots."""
        k = self.is_knot
        return Updates(
            row=self.row[k],
            low_ns=self.low_ns[k],
            high_ns=self.high_ns[k],
            bracketed=self.bracketed[k],
            is_knot=self.is_knot[k],
            life=self.life[k],
            piece=self.piece[k],
            step=self.step[k],
            middle_ns=self.middle_ns[k],
            period_ns=self.period_ns,
        )


def end_ns(rows: Rows) -> Ints:
    """Return the latest time at which each row's poll can have ended."""
    return rows.t_ns + (rows.latency_ns + 1) // 2 + ROUNDING_NS


def begin_ns(rows: Rows) -> Ints:
    """Return the earliest time at which each row's poll can have begun."""
    return rows.t_ns - (rows.latency_ns + 1) // 2 - ROUNDING_NS


def find_updates(
    rows: Rows,
    values: NDArray[Any],
    known: Bools,
    breaks: Breaks,
    *,
    restarts: bool = False,
    period_ns: int | None = None,
    after_hole: Bools | None = None,
) -> Updates:
    """Return the updates of a column: `values` and `known`, (n,), beside `rows`.

    An update lies in (ℓ, h]: h the end of the poll that saw it, ℓ the begin of the poll before, or of the
    poll before the NULLs that directly precede it. Where rows do not follow on from each other, ℓ is the
    begin of the last poll known to have seen the old value. With `restarts`, a value that falls begins a new
    life. `period_ns`: how often the column is published, where that is known better than from its own changes.
    `after_hole`: (n,), rows before which nothing was seen for a while; with it, the first value after any such
    row, gap, or other break counts as an update though it be the same as before.
    """
    seen = np.flatnonzero(known)
    first, before, after = seen[:1], seen[:-1], seen[1:]
    t_before, t_after = rows.t_ns[before], rows.t_ns[after]
    apart = np.cumsum(rows.is_first | session_before(rows, breaks))
    separated = (apart[after] != apart[before]) | overlaps(breaks.gaps_ns, t_before, t_after)
    if after_hole is not None:
        holes = np.cumsum(after_hole)
        separated |= holes[after] != holes[before]
    # From poll to poll: a reset ends with the call that saw it, a little after that row's own time.
    restarted = overlaps(breaks.resets_ns, end_ns(rows)[before], begin_ns(rows)[after])
    if restarts:
        restarted |= values[after] < values[before]
    # The row after the last that held the old value is the new value's own or the first of the NULLs before
    # it.
    since = rows.since_ns[before + 1]
    unknown = separated | restarted | (since <= 0)
    held = begin_ns(rows)[before]
    polled = end_ns(rows)[before + 1] - 2 * ROUNDING_NS - since
    low = np.where(unknown, held, polled)
    changed = restarted | (values[after] != values[before])
    if after_hole is not None:
        changed |= separated
    row = np.append(first, after[changed])
    no, yes = np.zeros(len(first), dtype=np.bool_), np.ones(len(first), dtype=np.bool_)
    return _dated(
        row=row,
        low=np.append(begin_ns(rows)[first], low[changed]),
        high=end_ns(rows)[row],
        is_knot=np.append(no, ~unknown[changed]),
        restarted=np.append(no, restarted[changed]),
        separated=np.append(yes, (separated | restarted)[changed]),
        period_ns=period_ns,
    )


def power_period_ns(rows: Rows, breaks: Breaks) -> int:
    """Return how often power is published: the usual one of the shortest distances between changes.

    Of INSTANT and AVERAGE together, which share a grid. A load of few levels leaves either unchanged for most
    periods, so that the median of all distances is some multiple.
    """
    spacing: list[Ints] = []
    for column in (rows.power_instant_mw, rows.power_average_mw):
        u = find_updates(rows, column, np.isfinite(column), breaks)
        spacing.append(np.diff(u.middle_ns)[u.is_knot[1:] & u.is_knot[:-1]])
    each = np.concatenate(spacing)
    if len(each) < 3:
        return DEFAULT_PERIOD_NS
    return max(int(np.median(each[each <= 1.5 * np.quantile(each, 0.1)])), 1)


def _dated(
    *,
    row: NDArray[np.intp],
    low: Ints,
    high: Ints,
    is_knot: Bools,
    restarted: Bools,
    separated: Bools,
    period_ns: int | None,
) -> Updates:
    """Count publish periods along the updates: a period is the median distance of neighbouring brackets."""
    neighbours = is_knot[1:] & is_knot[:-1]
    spacing = ((np.diff(low) + np.diff(high)) // 2)[neighbours]
    period = period_ns or (max(int(np.median(spacing)), 1) if len(spacing) >= 3 else DEFAULT_PERIOD_NS)
    # Of several publishes in one bracket the value read is the last, at most a period old.
    middle = np.where(is_knot, high - np.minimum(high - low, period) // 2, high)
    steps = np.maximum(np.rint(np.diff(middle) / period), 1).astype(np.int64)
    return Updates(
        row=row,
        low_ns=low,
        high_ns=high,
        bracketed=np.arange(len(row)) > 0,
        is_knot=is_knot,
        life=np.cumsum(restarted),
        piece=np.cumsum(separated),
        step=np.append(0, np.cumsum(steps))[: len(row)].astype(np.int64),
        middle_ns=middle,
        period_ns=period,
    )
