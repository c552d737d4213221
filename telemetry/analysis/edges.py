"""A counter at given times: its enclosure, and the publishes around."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from telemetry.analysis import estimators
from telemetry.analysis.enclosure import PowerLimits, enclose
from telemetry.analysis.estimates import Bits, raised
from telemetry.analysis.estimators import Stencil
from telemetry.analysis.grid import fit_grid
from telemetry.analysis.rows import Bools, Floats, Ints
from telemetry.analysis.updates import Updates

GRID_REACH = 24  # updates on each side that the grid is fitted to
BOUND_REACH = 8  # updates on each side that the enclosure is made from: the nearest decide
MANY = 4_096  # edges worked on at a time, to bound memory

Lives = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class Edges:
    """The curve at m times, J on the scale of a life of the counter, NaN where there is no bound."""

    stencil: Stencil
    lo_j: Floats
    hi_j: Floats
    flags: Bits

    def plateau_j(self) -> Floats:
        """Return the PLATEAU estimate, (m,), or the enclosure's middle where too few updates are known."""
        return self._or_middle(estimators.plateau(self.stencil))

    def linear_j(self) -> Floats:
        """Return the LINEAR estimate, (m,), or the enclosure's middle where too few updates are known."""
        return self._or_middle(estimators.linear(self.stencil))

    def _or_middle(self, value_j: Floats) -> Floats:
        return np.where(np.isfinite(value_j), value_j, (self.lo_j + self.hi_j) / 2.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """A counter's updates as energies, J from the first value of each life.

    knots: the updates of use as points.  sound: updates of equal number agree with the limits of power.
    """

    updates: Updates
    update_j: Floats
    sound: NDArray[np.intp]
    knots: Updates
    knot_j: Floats
    limits: PowerLimits

    def at(self, t_ns: Ints, life: Lives) -> Edges:
        """Return the curve at times (m,), each on the scale of the given life of the counter."""
        blocks = [slice(i, i + MANY) for i in range(0, max(len(t_ns), 1), MANY)]
        parts = [self._at_few(t_ns[block], life[block]) for block in blocks]
        return Edges(
            stencil=Stencil(
                u_s=np.concatenate([p.stencil.u_s for p in parts]),
                value_j=np.concatenate([p.stencil.value_j for p in parts]),
            ),
            lo_j=np.concatenate([p.lo_j for p in parts]),
            hi_j=np.concatenate([p.hi_j for p in parts]),
            flags=np.concatenate([p.flags for p in parts]),
        )

    def _at_few(self, t_ns: Ints, life: Lives) -> Edges:
        lo, hi = self._enclosure(t_ns, life)
        stencil, lonely, unstable = self._stencil(t_ns, life)
        flags = (
            raised("edge_extrapolated", lonely) | raised("grid_unstable", unstable) | raised("bound_violation", lo > hi)
        )
        return Edges(stencil=stencil, lo_j=np.minimum(lo, hi), hi_j=np.maximum(lo, hi), flags=flags)

    def _enclosure(self, t_ns: Ints, life: Lives) -> tuple[Floats, Floats]:
        u = self.updates
        index, near, centre = _around(u, t_ns, life, BOUND_REACH)
        # An update beyond one that the limits forbid would spoil the bounds of an edge far from the trouble.
        here, before = self.sound[centre], self.sound[np.maximum(centre - 1, 0)]
        trusted = (self.sound[index] == here[:, None]) | (self.sound[index] == before[:, None])
        return enclose(
            low_s=_seconds(u.low_ns[index], t_ns),
            high_s=_seconds(u.high_ns[index], t_ns),
            value_j=self.update_j[index],
            bracketed=u.bracketed[index],
            use=near & trusted,
            limits=self.limits,
        )

    def _stencil(self, t_ns: Ints, life: Lives) -> tuple[Stencil, Bools, Bools]:
        """Return the publishes around each edge, where they are too few, and where they keep no grid."""
        k = self.knots
        if len(k) == 0:
            nothing = np.full((len(t_ns), 6), np.nan)
            yes = np.ones(len(t_ns), dtype=np.bool_)
            return Stencil(u_s=nothing, value_j=nothing), yes, ~yes
        index, near, centre = _around(k, t_ns, life, GRID_REACH)
        previous = np.maximum(centre - 1, 0)
        nearer = t_ns - k.middle_ns[previous] < k.middle_ns[centre] - t_ns
        use_previous = (k.life[previous] == life) & (nearer | (k.life[centre] != life))
        nearest = np.where(use_previous, previous, centre)
        grid = fit_grid(
            low_s=_seconds(k.low_ns[index], t_ns),
            high_s=_seconds(k.high_ns[index], t_ns),
            middle_s=_seconds(k.middle_ns[index], t_ns),
            step=(k.step[index] - k.step[nearest][:, None]).astype(np.float64),
            use=near & (k.piece[index] == k.piece[nearest][:, None]),
        )
        u_s = np.maximum.accumulate(np.where(near, grid.u_s, -np.inf), axis=1)
        left = np.argmax(near, axis=1) + np.count_nonzero(near & (u_s <= 0.0), axis=1) - 1
        column = left[:, None] + np.arange(-2, 4)
        safe = np.clip(column, 0, index.shape[1] - 1)
        # Beyond a break the next publish is no neighbour: the power up to it is not that beside the edge.
        piece = np.take_along_axis(k.piece[index], safe, axis=1)
        there = (column == safe) & np.take_along_axis(near, safe, axis=1)
        there[:, :3] &= piece[:, :3] == piece[:, 2:3]
        there[:, 3:] &= piece[:, 3:] == piece[:, 3:4]
        stencil = Stencil(
            u_s=np.where(there, np.take_along_axis(u_s, safe, axis=1), np.nan),
            value_j=np.where(there, np.take_along_axis(self.knot_j[index], safe, axis=1), np.nan),
        )
        lonely = ~np.all(there[:, 1:5], axis=1) | (piece[:, 2] != piece[:, 3])
        return stencil, lonely, grid.unstable


def _around(u: Updates, t_ns: Ints, life: Lives, reach: int) -> tuple[NDArray[np.intp], Bools, NDArray[np.intp]]:
    """Return the updates around each time, (m, 2·reach), which of them count, and the first at or after."""
    centre = np.searchsorted(u.high_ns, t_ns, side="left")
    wanted = centre[:, None] + np.arange(-reach, reach)
    index = np.clip(wanted, 0, len(u) - 1)
    return index, (wanted == index) & (u.life[index] == life[:, None]), np.minimum(centre, len(u) - 1)


def _seconds(times_ns: Ints, t_ns: Ints) -> Floats:
    """Return times (m, w) relative to (m,), s. Integers first: a float of epoch ns is 0.2 µs coarse."""
    seconds: Floats = (times_ns - t_ns[:, None]).astype(np.float64) * 1e-9
    return seconds
