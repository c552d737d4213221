"""Energy from AVERAGE readings, each the mean of the second before its publish.

All three estimators need n publishes to fill that second evenly, and are wrong where AVERAGE is the mean of what
INSTANT looks at instead of the whole second, which no reading shows.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from telemetry.analysis.enclosure import PowerLimits
from telemetry.analysis.estimates import EnergyEstimates, chosen, nothing, raised
from telemetry.analysis.estimators import IDLE_CHANGE_MAX
from telemetry.analysis.grid import JITTER_S
from telemetry.analysis.pseudo import QUANTUM_W, PseudoCounter, pseudo_counters, strided_sum
from telemetry.analysis.publishes import Publishes, find_publishes
from telemetry.analysis.rows import Bools, Breaks, Floats, Ints, Rows

UNEVEN_MAX = 0.01  # of the window, that its publishes may fill too little or too much

Index = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class AverageCurve:
    """The publishes of AVERAGE.

    per_window: n, how many publishes fill the averaging window; 0 where they do not fill it evenly.
    counters: the pseudo-counters of the pieces that hold idle to seed one.
    """

    publishes: Publishes
    window_ns: int
    per_window: int
    counters: tuple[PseudoCounter, ...]

    def counter(self, t0_ns: Ints, t1_ns: Ints) -> EnergyEstimates:
        """Return energies from the pseudo-counter, by PLATEAU, PAD or LINEAR as for a counter of the device."""
        found = nothing(t0_ns, t1_ns, "average-counter", "method_refused")
        for counter in self.counters:
            found = chosen(counter.energy(t0_ns, t1_ns), found, counter.covers(t0_ns, t1_ns))
        return found

    def telescope(self, t0_ns: Ints, t1_ns: Ints) -> EnergyEstimates:
        """Return energies from the sum of whole windows: Σ W·A(τ + m·W) telescopes to the energy from τ on.

        From the last publish before t0 over whole windows to the first end at or after t1; the idle power in
        what is too much at either end is taken off. Refused without idle on both sides.
        """
        p, n = self.publishes, max(self.per_window, 1)
        start = np.searchsorted(p.t_ns, t0_ns, side="right") - 1
        i = np.maximum(start, 0)
        windows = np.maximum(-((p.t_ns[i] - t1_ns) // self.window_ns), 1)
        stop = start + windows * n
        pads = self._pads(start, stop + n)
        j = np.clip(stop, 0, len(p) - 1)
        summed = strided_sum(p.power_w, n)
        # The end by the length of the windows, not by the grid: so all time is either theirs or idle.
        before_s = (t0_ns - p.t_ns[i]) * 1e-9
        after_s = (p.t_ns[i] + windows * self.window_ns - t1_ns) * 1e-9
        windows_j = (summed[j] - summed[i]) * self.window_ns * 1e-9
        value = windows_j - pads.before_w * before_s - pads.after_w * after_s
        seams = (j - i) / n + 1.0
        off_j = pads.spread_w * (before_s + after_s) + seams * 2.0 * JITTER_S * self._range_w(i, j)
        return self._estimates(t0_ns, t1_ns, "average-telescope", value, off_j, pads.known)

    def extended(self, t0_ns: Ints, t1_ns: Ints) -> EnergyEstimates:
        """Return energies from all readings that a run shows in: ∫ A dt from t0 to t1 + W + T, less idle for W + T.

        Each reading holds until the next, so every moment of the run counts W in windows of W. Of the idle, half
        is taken to lie before and half after. Refused without idle on both sides, flat within 10 %.
        """
        p = self.publishes
        more_ns = self.window_ns + p.period_ns
        end_ns = t1_ns + more_ns
        start = np.searchsorted(p.t_ns, t0_ns, side="right") - 1
        # The first publish whose window begins after the interval.
        after = np.searchsorted(p.t_ns, t1_ns + self.window_ns, side="left")
        pads = self._pads(start, after)
        j = np.clip(after, 0, len(p) - 1)
        read = end_ns <= p.until_ns[p.piece[j]]
        i, k = np.maximum(start, 0), np.maximum(np.searchsorted(p.t_ns, end_ns, side="right") - 1, 0)
        held = np.append(0.0, np.cumsum(p.power_w[:-1] * np.diff(p.t_ns) * 1e-9))
        from_j = held[i] + p.power_w[i] * (t0_ns - p.t_ns[i]) * 1e-9
        to_j = held[k] + p.power_w[k] * (end_ns - p.t_ns[k]) * 1e-9
        value = to_j - from_j - (pads.before_w + pads.after_w) / 2.0 * more_ns * 1e-9
        moved = np.append(0.0, np.cumsum(np.abs(np.diff(p.power_w))))
        uneven_w = pads.spread_w + np.abs(pads.before_w - pads.after_w) / 2.0
        off_j = (uneven_w * more_ns + (moved[k] - moved[i]) * p.off_ns) * 1e-9
        return self._estimates(t0_ns, t1_ns, "average-extended", value, off_j, pads.known & read)

    def _pads(self, start: Index, after: Index) -> "_Pads":
        """Return the idle at publish `start`, whose window ends before an interval, and at `after`, when it has left.

        Known where both stand in one piece with a window of publishes before the one, and either is idle-like.
        """
        p, n = self.publishes, self.per_window
        i, j = np.clip(start, 0, len(p) - 1), np.clip(after, 0, len(p) - 1)
        first = np.maximum(i - max(n, 1), 0)
        last = np.minimum(np.searchsorted(p.piece, p.piece[j], side="right") - 1, j + n)
        known = (n > 0) & (start - n >= 0) & (after < len(p)) & (p.piece[first] == p.piece[j])
        low, high = _extremes(p.power_w, np.append(first, j), np.append(i, last))
        spread = (high - low).reshape(2, -1)
        flat = np.all(spread <= IDLE_CHANGE_MAX * high.reshape(2, -1), axis=0)
        return _Pads(before_w=p.power_w[i], after_w=p.power_w[j], spread_w=np.max(spread, axis=0), known=known & flat)

    def _range_w(self, i: Index, j: Index) -> Floats:
        low, high = _extremes(self.publishes.power_w, i, np.maximum(i, j))
        return high - low

    def _estimates(
        self, t0_ns: Ints, t1_ns: Ints, method: str, value_j: Floats, off_j: Floats, known: Bools
    ) -> EnergyEstimates:
        off_j = off_j + QUANTUM_W * (t1_ns - t0_ns + 2 * self.window_ns) * 1e-9
        found = EnergyEstimates(
            t0_ns=t0_ns,
            t1_ns=t1_ns,
            value_j=value_j,
            lo_j=value_j - off_j,
            hi_j=value_j + off_j,
            method=np.full(len(t0_ns), method),
            flags=raised("timing_model", known),
        )
        return chosen(found, nothing(t0_ns, t1_ns, method, "method_refused"), known)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pads:
    before_w: Floats
    after_w: Floats
    spread_w: Floats
    known: Bools


def average_curve(rows: Rows, limits: PowerLimits, breaks: Breaks, *, window_ns: int) -> AverageCurve | None:
    """Return the curve of the rows' AVERAGE readings, or None where they hold none."""
    p = find_publishes(rows, rows.power_average_mw, breaks)
    if p is None:
        return None
    n = round(window_ns / p.period_ns)
    even = n > 0 and abs(n * p.period_ns - window_ns) <= UNEVEN_MAX * window_ns
    return AverageCurve(
        publishes=p,
        window_ns=window_ns,
        per_window=n if even else 0,
        counters=pseudo_counters(p, limits, window_ns=window_ns, per_window=n) if even else (),
    )


def _extremes(values: Floats, first: Index, last: Index) -> tuple[Floats, Floats]:
    """Return the least and the greatest of values[first … last], both included, for each pair."""
    padded = np.append(values, values[-1])
    pairs = np.column_stack([first, last + 1]).ravel()
    return np.minimum.reduceat(padded, pairs)[::2], np.maximum.reduceat(padded, pairs)[::2]
