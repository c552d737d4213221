"""Stored readings of one device as arrays, and what is known of the stretches between them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray

from telemetry.errors import TraceError
from telemetry.model import Gap, ReadingRow

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

REACH_NS = 1_000_000_000  # rows are at most a second apart while a device is read


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Rows of `reading` of one device, all columns of shape (n,), sorted by time.

    `is_first` marks a row whose predecessor in the store is not here: the first of each piece that was read.
    Of such a row's values it is only known that they were current, not since when.
    Integers that were NULL are 0 with `…_known` False; powers that were NULL are NaN.
    """

    t_ns: Ints
    since_ns: Ints
    latency_ns: Ints
    power_instant_mw: Floats
    power_average_mw: Floats
    energy_mj: Ints
    energy_known: Bools
    integral_uj: Ints
    integral_known: Bools
    is_first: Bools

    @classmethod
    def of(cls, rows: Sequence[ReadingRow]) -> Self:
        """Return consecutive stored rows of one device, in the order of time, as arrays.

        Raises TraceError when time stands still or runs backwards.
        """
        t_ns = np.array([r.t_ns for r in rows], dtype=np.int64)
        if np.any(np.diff(t_ns) <= 0):
            at = int(np.flatnonzero(np.diff(t_ns) <= 0)[0])
            raise TraceError(
                f"Reading {at + 1} is not later than the one before it ({t_ns[at]} ns). "
                "Hand the rows of one device, sorted by t_ns, each once."
            )
        energy = [r.energy_mj for r in rows]
        integral = [r.integral_uj for r in rows]
        return cls(
            t_ns=t_ns,
            since_ns=np.array([r.since_ns for r in rows], dtype=np.int64),
            latency_ns=np.array([r.latency_us for r in rows], dtype=np.int64) * 1_000,
            power_instant_mw=_powers(r.power_instant_mw for r in rows),
            power_average_mw=_powers(r.power_average_mw for r in rows),
            energy_mj=np.array([v or 0 for v in energy], dtype=np.int64),
            energy_known=np.array([v is not None for v in energy], dtype=np.bool_),
            integral_uj=np.array([v or 0 for v in integral], dtype=np.int64),
            integral_known=np.array([v is not None for v in integral], dtype=np.bool_),
            is_first=np.arange(len(rows)) == 0,
        )

    @classmethod
    def concat(cls, parts: Sequence[Self]) -> Self:
        """Join pieces of one device's rows, each consecutive in the store; they may overlap.

        A row that two pieces share is kept once, and counts as first only if it is so in both.
        """
        if not parts:
            return cls.of([])
        joined = {f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)}
        # Of equal times the row that knows its predecessor comes first and is the one kept.
        order = np.lexsort((joined["is_first"], joined["t_ns"]))
        t_ns = joined["t_ns"][order]
        keep = order[np.append(True, np.diff(t_ns) > 0)[: len(t_ns)]]
        return cls(**{name: column[keep] for name, column in joined.items()})

    def __len__(self) -> int:
        return len(self.t_ns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaks:
    """Where a device's rows do not follow on from each other.

    gaps_ns: (n, 2), stretches that were not measured.  resets_ns: (k, 2), other such stretches, in which the
    counter restarted.  sessions_ns: (m,), when a collector started: its integral begins at 0 there.
    All sorted by start.
    """

    gaps_ns: Ints = field(default_factory=lambda: np.empty((0, 2), dtype=np.int64))
    resets_ns: Ints = field(default_factory=lambda: np.empty((0, 2), dtype=np.int64))
    sessions_ns: Ints = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    @classmethod
    def of(cls, gaps: Iterable[Gap] = (), session_starts_ns: Iterable[int] = ()) -> Self:
        """Return the breaks of one device; gaps whose reason is `counter_reset` are its resets."""
        known = sorted(gaps, key=lambda gap: gap.from_ns)
        return cls(
            gaps_ns=_pairs((g.from_ns, g.to_ns) for g in known if g.reason != "counter_reset"),
            resets_ns=_pairs((g.from_ns, g.to_ns) for g in known if g.reason == "counter_reset"),
            sessions_ns=np.array(sorted(session_starts_ns), dtype=np.int64),
        )

    def as_gaps(self) -> "Breaks":
        """Return the breaks as readings of power see them: where the counter restarted there was a gap, no more."""
        gaps = np.concatenate([self.gaps_ns, self.resets_ns])
        order = np.argsort(gaps[:, 0], kind="stable")
        return Breaks(gaps_ns=gaps[order], sessions_ns=self.sessions_ns)


def session_before(rows: Rows, breaks: Breaks) -> Bools:
    """Return for each row whether a collector started since the row before it. (n,); the first is False."""
    number = np.searchsorted(breaks.sessions_ns, rows.t_ns, side="right")
    return _changed(number)


def overlaps(spans_ns: Ints, from_ns: Ints, to_ns: Ints) -> Bools:
    """Return for each interval (m,) whether any of the spans (n, 2), sorted by start, shares time with it."""
    if len(spans_ns) == 0:
        return np.zeros(len(from_ns), dtype=np.bool_)
    # Spans may nest, so of those that start in time it is the latest end that counts.
    latest_end = np.maximum.accumulate(spans_ns[:, 1])
    started = np.searchsorted(spans_ns[:, 0], to_ns, side="left")
    return (started > 0) & (latest_end[np.maximum(started - 1, 0)] > from_ns)


def _changed(values: NDArray[np.intp]) -> Bools:
    return np.append(False, np.diff(values) != 0)[: len(values)]


def _powers(values: Iterable[int | None]) -> Floats:
    return np.array([np.nan if v is None else v for v in values], dtype=np.float64)


def _pairs(values: Iterable[tuple[int, int]]) -> Ints:
    return np.array(list(values), dtype=np.int64).reshape(-1, 2)
