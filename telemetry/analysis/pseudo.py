"""A counter made from AVERAGE readings: the energy of each publish period, by recursion from a flat stretch."""

from dataclasses import dataclass, replace

import numpy as np

from telemetry.analysis.counter import CounterCurve
from telemetry.analysis.edges import Counted
from telemetry.analysis.enclosure import PowerLimits
from telemetry.analysis.estimates import EnergyEstimates, raised
from telemetry.analysis.grid import JITTER_S
from telemetry.analysis.publishes import Publishes
from telemetry.analysis.rows import Bools, Floats, Ints
from telemetry.analysis.updates import Updates

FLAT_MAX = 0.02  # a stretch whose readings differ by more is no seed
IDLE_MAX = 1.10  # and it must be about the lowest there is, for a busy stretch may beat in the rhythm of the window
QUANTUM_W = 1e-3  # readings are whole milliwatts, rounded down


@dataclass(frozen=True, slots=True, kw_only=True)
class PseudoCounter:
    """The counter curve of one piece of readings. seed_off_j: how far its seed can put a block's energy off, J."""

    curve: CounterCurve
    from_ns: int
    to_ns: int
    seed_off_j: float

    def covers(self, t0_ns: Ints, t1_ns: Ints) -> Bools:
        """Return whether each interval lies inside, (m,)."""
        covers: Bools = (t0_ns >= self.from_ns) & (t1_ns <= self.to_ns)
        return covers

    def energy(self, t0_ns: Ints, t1_ns: Ints) -> EnergyEstimates:
        """Return the energy of each interval as a counter's; the bounds allow for rounding, jitter and the seed.

        A wrong seed makes every n-th block wrong by the same, and all n together by nothing: it never adds up.
        """
        found = self.curve.energy(t0_ns, t1_ns, "auto")
        edges_j = 2.0 * JITTER_S * self.curve.counted.limits.cap_w
        off_j = self.seed_off_j + edges_j + QUANTUM_W * (t1_ns - t0_ns + 2_000_000_000) * 1e-9
        return replace(
            found,
            lo_j=found.lo_j - off_j,
            hi_j=found.hi_j + off_j,
            method=np.char.add("average-", found.method),
            flags=found.flags | raised("timing_model", np.ones(len(t0_ns), dtype=np.bool_)),
        )


def pseudo_counters(p: Publishes, limits: PowerLimits, *, window_ns: int, per_window: int) -> tuple[PseudoCounter, ...]:
    """Return the counter of each piece that holds over a window of flat idle; n = per_window publishes fill one.

    A reading is the mean of n blocks, so e_k = e_{k−n} + W·(A_k − A_{k−1}): known forwards and backwards from
    any n blocks that are known, and those of flat idle are all alike. Wrong where a load in step with the window
    only looks flat.
    """
    made = []
    for number in range(int(p.piece[-1]) + 1):
        part = np.flatnonzero(p.piece == number)
        seed = _seed(p.power_w[part], per_window)
        if seed is not None:
            energy_j = _block_energies(p.power_w[part], seed, window_ns * 1e-9, per_window)
            stretch = p.power_w[part][seed - per_window : seed + 1]
            made.append(
                PseudoCounter(
                    curve=_curve(p, part[0], part[-1] + 1, np.cumsum(energy_j), limits),
                    from_ns=int(p.t_ns[part[0]]),
                    to_ns=int(p.t_ns[part[-1]]),
                    seed_off_j=float(np.ptp(stretch)) * window_ns * 1e-9,
                )
            )
    return tuple(made)


def strided_sum(values: Floats, n: int) -> Floats:
    """Return for each value the sum of itself and every n-th before it."""
    rows = -(-len(values) // n)
    padded = np.zeros(rows * n)
    padded[: len(values)] = values
    summed: Floats = np.cumsum(padded.reshape(rows, n), axis=0).ravel()[: len(values)]
    return summed


def _seed(power_w: Floats, n: int) -> int | None:
    """Return the last publish of the n + 1 that are flat and lowest; None where none are."""
    if len(power_w) <= n:
        return None
    stretches = np.lib.stride_tricks.sliding_window_view(power_w, n + 1)
    mean = stretches.mean(axis=1)
    good = (np.ptp(stretches, axis=1) <= FLAT_MAX * mean) & (mean <= IDLE_MAX * power_w.min())
    if not good.any():
        return None
    return int(np.argmin(np.where(good, mean, np.inf))) + n


def _block_energies(power_w: Floats, seed: int, window_s: float, n: int) -> Floats:
    """Return the energy of the block that each publish ends, J; of the first, which has no begin, 0."""
    change_j = window_s * np.diff(power_w, prepend=power_w[:1])
    start_j = power_w[seed] * window_s / n
    later = start_j + strided_sum(change_j[seed + 1 :], n)
    # Backwards e_{k−n} = e_k − W·(A_k − A_{k−1}), from the seed's own last block on.
    earlier = (start_j - strided_sum(change_j[seed:0:-1], n))[::-1]
    return np.concatenate([[0.0], earlier[n:], np.full(n, start_j), later])


def _curve(p: Publishes, first: int, stop: int, total_j: Floats, limits: PowerLimits) -> CounterCurve:
    part = slice(first, stop)
    count = stop - first
    zeros = np.zeros(count, dtype=np.intp)
    updates = Updates(
        row=np.arange(count),
        low_ns=p.low_ns[part],
        high_ns=p.high_ns[part],
        bracketed=np.arange(count) > 0,
        is_knot=np.ones(count, dtype=np.bool_),
        life=zeros,
        piece=zeros,
        step=np.rint((p.t_ns[part] - p.t_ns[first]) / p.period_ns).astype(np.int64),
        middle_ns=p.t_ns[part],
        period_ns=p.period_ns,
    )
    none = np.empty((0, 2), dtype=np.int64)
    return CounterCurve(
        counted=Counted(updates=updates, update_j=total_j, sound=zeros, knots=updates, knot_j=total_j, limits=limits),
        life_from_ns=p.t_ns[first : first + 1],
        life_to_ns=p.t_ns[stop - 1 : stop],
        bridged_j=np.zeros((1, 3)),
        holes_ns=none,
        resets_ns=none,
        unread_ns=none,
        over_cap_ns=none,
        under_floor_ns=none,
    )
