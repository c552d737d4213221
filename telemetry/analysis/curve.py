"""The energy curve: cumulative joules of one device over time, asked for any interval."""

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np

from telemetry.analysis.counter import CounterCurve, Method, counter_curve
from telemetry.analysis.enclosure import PowerLimits
from telemetry.analysis.estimates import EnergyEstimates, raised
from telemetry.analysis.integral import IntegralCurve, integral_curve
from telemetry.analysis.rows import Breaks, Floats, Ints, Rows, overlaps, session_before
from telemetry.errors import TraceError

METHODS = ("auto", "plateau", "linear", "pad")


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyCurve:
    """One device's cumulative energy, from its stored rows around the edges that will be asked for.

    About 2.5 s of rows before and after an edge serve it best; rows between the edges are not needed, for
    both paths are running sums. What an integral needs besides are the rows on both sides of each gap and of
    each collector's start inside an interval: what lies between the nearest rows given is taken as
    unmeasured.
    """

    rows: Rows
    breaks: Breaks
    path: Literal["counter", "integral"]
    series: CounterCurve | IntegralCurve | None

    @classmethod
    def of(
        cls,
        rows: Rows,
        *,
        path: Literal["counter", "integral"],
        limits: PowerLimits,
        breaks: Breaks | None = None,
        integral_of: str = "instant",
    ) -> Self:
        """Prepare a curve. `path` and `integral_of` are `Device.energy_path` and `Device.integral_of`.

        Rows without a value of that path are no error: their energies come out `not_covered`.
        """
        breaks = breaks or Breaks()
        series = (
            counter_curve(rows, limits, breaks)
            if path == "counter"
            else integral_curve(rows, limits, breaks, integral_of)
        )
        return cls(rows=rows, breaks=breaks, path=path, series=series)

    def energy(self, t0_ns: Ints, t1_ns: Ints, method: Method = "auto") -> EnergyEstimates:
        """Return the energy of m intervals; t0_ns and t1_ns are (m,), int64, ns, t0 ≤ t1.

        Path counter: `plateau`, `linear` and `pad` name one estimator (pad has no value where it is refused);
        `auto` takes PLATEAU with three updates inside, else PAD where idle surrounds the interval, else
        LINEAR, and no value (flag `too_short`) without any update inside. The bounds are guaranteed for a
        counter that covers all time, as long as the power keeps to the limits. Across a restart of the
        counter the missing stretch is bridged with the mean of the power readings on both sides, and its
        bounds are floor and cap.

        Path integral: only `auto`. The value is the stored trapezoid with edges interpolated; unmeasured
        stretches are bridged with the mean of the powers on both sides, floor and cap bounding them. The
        bounds let either edge be late by up to the sensor's averaging time and refresh period: a model, so
        never graded above B.

        Raises TraceError for arrays of different shape, an interval that ends before it begins, or a method
        that the path does not have.
        """
        t0, t1 = np.asarray(t0_ns, dtype=np.int64), np.asarray(t1_ns, dtype=np.int64)
        self._check(t0, t1, method)
        if self.series is None:
            return _nothing(t0, t1, self.path)
        if isinstance(self.series, CounterCurve):
            return self.series.energy(t0, t1, method)
        return self.series.energy(t0, t1)

    def peak_power_w(self, t0_ns: Ints, t1_ns: Ints) -> Floats:
        """Return the highest INSTANT reading (AVERAGE without any) current in each interval, (m,), W.

        NaN where none was. Only as good as the rows: give all rows of the interval, not just those at its
        edges.
        """
        instant = np.isfinite(self.rows.power_instant_mw)
        known = instant if instant.any() else np.isfinite(self.rows.power_average_mw)
        column = self.rows.power_instant_mw if instant.any() else self.rows.power_average_mw
        t_ns = self.rows.t_ns
        following = np.append(t_ns[1:], t_ns[-1:])
        lost = self.rows.is_first | session_before(self.rows, self.breaks)
        lost[1:] |= overlaps(self.breaks.gaps_ns, t_ns[:-1], t_ns[1:])
        current_to = np.where(np.append(lost[1:], True)[: len(t_ns)], t_ns, following)[known]
        t_ns, power_w = t_ns[known], np.append(column[known] * 1e-3, -np.inf)
        begin = np.searchsorted(t_ns, t0_ns, side="right") - 1
        ended = (begin < 0) | (np.append(current_to, 0)[begin] < t0_ns)
        begin, end = begin + ended, np.searchsorted(t_ns, t1_ns, side="right")
        pairs = np.column_stack([begin, np.maximum(end, begin)]).ravel()
        highest: Floats = np.where(begin < end, np.maximum.reduceat(power_w, pairs)[::2], np.nan)
        return highest

    def _check(self, t0: Ints, t1: Ints, method: str) -> None:
        if t0.ndim != 1 or t0.shape != t1.shape:
            raise TraceError(f"Starts have shape {t0.shape} and ends {t1.shape}. Give two flat arrays of one length.")
        if np.any(t1 < t0):
            n = int(np.flatnonzero(t1 < t0)[0])
            raise TraceError(f"Interval {n} ends {t0[n] - t1[n]} ns before it begins. Swap its edges.")
        known = METHODS if self.path == "counter" else METHODS[:1]
        if method not in known:
            raise TraceError(f"The method {method!r} is not one of the {self.path} path, which has {', '.join(known)}.")


def _nothing(t0_ns: Ints, t1_ns: Ints, path: str) -> EnergyEstimates:
    nan = np.full(len(t0_ns), np.nan)
    return EnergyEstimates(
        t0_ns=t0_ns,
        t1_ns=t1_ns,
        value_j=nan,
        lo_j=nan,
        hi_j=nan,
        method=np.full(len(t0_ns), path),
        flags=raised("not_covered", np.ones(len(t0_ns), dtype=np.bool_)),
    )
