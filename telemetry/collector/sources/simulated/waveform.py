"""The truth: power over time as straight pieces, and what can be summed over it in closed form.

Times are integer ns, powers integer mW, so energies are integer pJ (mW x ns) and exact however long the
host has been up. Nothing here is shared with `analysis`: what checks must not be what is checked.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import gcd
from typing import Protocol

from telemetry.errors import UsageError

PJ_PER_MJ = 10**9
PJ_PER_J = 10**12
_TABLE_LIMIT = 500_000  # entries of a prefix table: under a second to build, once


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A straight stretch of power: from `start_mw` at `start_ns` to `end_mw` at `end_ns`."""

    start_ns: int
    end_ns: int
    start_mw: int
    end_mw: int

    def at_mw(self, t_ns: int) -> int:
        """Return the power at `t_ns`, mW."""
        if self.start_mw == self.end_mw:
            return self.start_mw
        rise_mw = self.end_mw - self.start_mw
        return self.start_mw + rise_mw * (t_ns - self.start_ns) // (self.end_ns - self.start_ns)


class Measure(Protocol):
    """Something that adds up along a truth; equal measures share one prefix table."""

    @property
    def period_ns(self) -> int:
        """The shift in time that leaves the measure as it is; 1 where any shift does."""
        ...

    def over(self, piece: Piece, from_ns: int, to_ns: int) -> int:
        """Return what a piece holds between two times; on a level piece they may lie outside of it."""
        ...


@dataclass(frozen=True, slots=True)
class Energy:
    """All the energy, pJ."""

    period_ns: int = 1

    def over(self, piece: Piece, from_ns: int, to_ns: int) -> int:
        """Return the energy between two times, pJ."""
        energy_pj = piece.start_mw * (to_ns - from_ns)
        rise_mw = piece.end_mw - piece.start_mw
        if rise_mw:
            squares = (to_ns - piece.start_ns) ** 2 - (from_ns - piece.start_ns) ** 2
            energy_pj += rise_mw * squares // (2 * (piece.end_ns - piece.start_ns))
        return energy_pj


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowedEnergy:
    """The energy inside windows of `window_ns` that end at phase + k x period, pJ: what a sensor sees."""

    phase_ns: int
    period_ns: int
    window_ns: int

    def over(self, piece: Piece, from_ns: int, to_ns: int) -> int:
        """Return the energy that falls into windows between two times, pJ."""
        covered_a_ns, moment_a = self._covered(from_ns)
        covered_b_ns, moment_b = self._covered(to_ns)
        covered_ns = covered_b_ns - covered_a_ns
        energy_pj = piece.start_mw * covered_ns
        rise_mw = piece.end_mw - piece.start_mw
        if rise_mw:
            lever = moment_b - moment_a - 2 * (piece.start_ns - self.phase_ns) * covered_ns
            energy_pj += rise_mw * lever // (2 * (piece.end_ns - piece.start_ns))
        return energy_pj

    def _covered(self, t_ns: int) -> tuple[int, int]:
        """Return the time inside windows since the phase, ns, and twice its first moment, ns²."""
        period, window = self.period_ns, self.window_ns
        k, rest = divmod(t_ns - self.phase_ns, period)
        covered = k * window
        moment = window * period * k * (k - 1) + k * (2 * window * period - window * window)
        opened = period - window
        if rest > opened:
            covered += rest - opened
            moment += (k * period + rest) ** 2 - (k * period + opened) ** 2
        return covered, moment


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeAbove:
    """The time spent above a power, ns."""

    threshold_mw: int
    period_ns: int = 1

    def over(self, piece: Piece, from_ns: int, to_ns: int) -> int:
        """Return the time above the threshold between two times, ns."""
        rise_mw = piece.end_mw - piece.start_mw
        if rise_mw == 0:
            return to_ns - from_ns if piece.start_mw > self.threshold_mw else 0
        length_ns = piece.end_ns - piece.start_ns
        crossing_ns = piece.start_ns + (self.threshold_mw - piece.start_mw) * length_ns // rise_mw
        if rise_mw > 0:
            return max(0, to_ns - max(from_ns, crossing_ns))
        return max(0, min(to_ns, crossing_ns) - from_ns)


class Truth(Protocol):
    """What a simulated GPU really draws."""

    def power_mw(self, t_ns: int) -> int:
        """Return the power at a CLOCK_MONOTONIC time, mW."""
        ...

    def total(self, measure: Measure, t_ns: int) -> int:
        """Return what has added up to `t_ns` since a fixed time; only differences mean something."""
        ...

    def pieces(self, from_ns: int, to_ns: int) -> Iterator[Piece]:
        """Yield the pieces between two times, cut at both."""
        ...


class Waveform:
    """A truth that is known for all time: pieces that repeat, or that hold their ends for ever.

    points: (t_ns, power_mw), times from wave time 0 and not falling; two points at one time are a step.
    With `repeat` the stretch between the first point, at 0, and the last is repeated both ways.
    """

    def __init__(self, points: Sequence[tuple[int, int]], *, origin_ns: int = 0, repeat: bool = False) -> None:
        moved = [(origin_ns + t_ns, power_mw) for t_ns, power_mw in points]
        self._pieces = [
            Piece(start_ns=a_ns, end_ns=b_ns, start_mw=a_mw, end_mw=b_mw)
            for (a_ns, a_mw), (b_ns, b_mw) in pairwise(moved)
            if b_ns > a_ns
        ]
        self._starts_ns = [piece.start_ns for piece in self._pieces]
        self._first_ns, self._last_ns = moved[0][0], moved[-1][0]
        self._before = _level(moved[0][1])
        self._after = _level(moved[-1][1])
        self._cycle_ns = self._last_ns - self._first_ns if repeat else 0
        self._tables: dict[Measure, list[int]] = {}

    def power_mw(self, t_ns: int) -> int:
        """Return the power at `t_ns`, mW; at a step, the power after it."""
        if self._cycle_ns:
            t_ns = self._first_ns + (t_ns - self._first_ns) % self._cycle_ns
        elif t_ns < self._first_ns:
            return self._before.start_mw
        elif t_ns >= self._last_ns:
            return self._after.start_mw
        return self._pieces[bisect_right(self._starts_ns, t_ns) - 1].at_mw(t_ns)

    def total(self, measure: Measure, t_ns: int) -> int:
        """Return what has added up since wave time 0; see `Truth.total`."""
        if not self._cycle_ns:
            if t_ns < self._first_ns:
                return -measure.over(self._before, t_ns, self._first_ns)
            table = self._table(measure, cycles=1)
            if t_ns >= self._last_ns:
                return table[-1] + measure.over(self._after, self._last_ns, t_ns)
            return table[(i := self._find(t_ns))] + measure.over(self._pieces[i], self._starts_ns[i], t_ns)
        # A measure with a period of its own sees the same wave again only after several cycles.
        cycles = measure.period_ns // gcd(measure.period_ns, self._cycle_ns)
        table = self._table(measure, cycles=cycles)
        cycle, inside_ns = divmod(t_ns - self._first_ns, self._cycle_ns)
        rounds, cycle = divmod(cycle, cycles)
        i = self._find(self._first_ns + inside_ns)
        piece = _moved(self._pieces[i], cycle * self._cycle_ns)
        here_ns = self._first_ns + cycle * self._cycle_ns + inside_ns
        done = table[cycle * len(self._pieces) + i]
        return rounds * table[-1] + done + measure.over(piece, piece.start_ns, here_ns)

    def pieces(self, from_ns: int, to_ns: int) -> Iterator[Piece]:
        """Yield the pieces between two times, cut at both."""
        t_ns = from_ns
        while t_ns < to_ns:
            piece = self._piece_at(t_ns, to_ns)
            end_ns = min(piece.end_ns, to_ns)
            yield Piece(
                start_ns=t_ns,
                end_ns=end_ns,
                start_mw=piece.at_mw(t_ns),
                end_mw=piece.end_mw if end_ns == piece.end_ns else piece.at_mw(end_ns),
            )
            t_ns = end_ns

    def _piece_at(self, t_ns: int, until_ns: int) -> Piece:
        if self._cycle_ns:
            cycle, inside_ns = divmod(t_ns - self._first_ns, self._cycle_ns)
            return _moved(self._pieces[self._find(self._first_ns + inside_ns)], cycle * self._cycle_ns)
        if t_ns < self._first_ns:
            return _level(self._before.start_mw, t_ns, self._first_ns)
        if t_ns >= self._last_ns:
            return _level(self._after.start_mw, t_ns, until_ns)
        return self._pieces[self._find(t_ns)]

    def _find(self, t_ns: int) -> int:
        return bisect_right(self._starts_ns, t_ns) - 1

    def _table(self, measure: Measure, *, cycles: int) -> list[int]:
        """Return the prefix sums over that many cycles, one entry before each piece and one at the end."""
        table = self._tables.get(measure)
        if table is not None:
            return table
        if cycles * len(self._pieces) > _TABLE_LIMIT:
            raise UsageError(
                f"A wave of {self._cycle_ns} ns falls in step with a part-time sensor only after {cycles} "
                "cycles, too many to add up. Choose a period that is a whole number of milliseconds."
            )
        table = [0]
        for cycle in range(cycles):
            for piece in self._pieces:
                here = _moved(piece, cycle * self._cycle_ns)
                table.append(table[-1] + measure.over(here, here.start_ns, here.end_ns))
        self._tables[measure] = table
        return table


def _level(power_mw: int, start_ns: int = 0, end_ns: int = 1) -> Piece:
    return Piece(start_ns=start_ns, end_ns=end_ns, start_mw=power_mw, end_mw=power_mw)


def _moved(piece: Piece, by_ns: int) -> Piece:
    if not by_ns:
        return piece
    return Piece(
        start_ns=piece.start_ns + by_ns,
        end_ns=piece.end_ns + by_ns,
        start_mw=piece.start_mw,
        end_mw=piece.end_mw,
    )
