"""The energy curve: cumulative joules of one device over time, asked for any interval."""

from dataclasses import dataclass
from typing import Literal, Self, get_args

import numpy as np

from telemetry.analysis.average import AverageCurve, average_curve
from telemetry.analysis.counter import CounterCurve, CounterMethod, counter_curve
from telemetry.analysis.enclosure import PowerLimits
from telemetry.analysis.estimates import EnergyEstimates, chosen, hull, nothing
from telemetry.analysis.instant import InstantCurve, instant_curve
from telemetry.analysis.integral import IntegralCurve, integral_curve
from telemetry.analysis.profiles import SensorProfile
from telemetry.analysis.rows import Breaks, Floats, Ints, Rows, overlaps, session_before
from telemetry.errors import TraceError

StoredMethod = Literal["stored", "stored-lag"]
PowerMethod = Literal["instant-trapezoid", "average-counter", "average-telescope", "average-extended"]
Method = CounterMethod | StoredMethod | PowerMethod
METHODS = {
    "counter": (*get_args(CounterMethod), *get_args(PowerMethod)),
    "integral": ("auto", *get_args(StoredMethod), *get_args(PowerMethod)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyCurve:
    """One device's cumulative energy, from its stored rows around the edges that will be asked for.

    About 2.5 s of rows before and after an edge serve it best; rows between the edges are not needed, for
    both paths are running sums. What an integral needs besides are the rows on both sides of each gap and of
    each collector's start inside an interval: what lies between the nearest rows given is taken as
    unmeasured. The estimators from single power readings need all rows.
    """

    rows: Rows
    breaks: Breaks
    limits: PowerLimits
    sensor: SensorProfile
    path: Literal["counter", "integral"]
    series: CounterCurve | IntegralCurve | None
    better: InstantCurve | AverageCurve | None  # what `auto` asks before the stored integral

    @classmethod
    def of(
        cls,
        rows: Rows,
        *,
        path: Literal["counter", "integral"],
        limits: PowerLimits,
        breaks: Breaks | None = None,
        integral_of: str = "instant",
        sensor: SensorProfile | None = None,
    ) -> Self:
        """Prepare a curve. `path` and `integral_of` are `Device.energy_path` and `Device.integral_of`.

        `sensor`: what is known of the board's sensor, see `sensor_profile`; by default that of A100 to H200.
        Rows without a value of that path are no error: their energies come out `not_covered`.
        """
        breaks, sensor = breaks or Breaks(), sensor or SensorProfile()
        series: CounterCurve | IntegralCurve | None
        better: InstantCurve | AverageCurve | None = None
        if path == "counter":
            series = counter_curve(rows, limits, breaks, window_ns=sensor.counter_window_ns)
        else:
            series = integral_curve(rows, limits, breaks, integral_of, sensor)
            if integral_of == "instant" and not sensor.lag_ns:
                better = instant_curve(rows, rows.power_instant_mw, limits, breaks, window_ns=sensor.instant_window_ns)
            elif integral_of == "average":
                better = average_curve(rows, limits, breaks, window_ns=sensor.average_window_ns)
        return cls(rows=rows, breaks=breaks, limits=limits, sensor=sensor, path=path, series=series, better=better)

    def energy(self, t0_ns: Ints, t1_ns: Ints, method: Method = "auto", *, marker_ns: int = 0) -> EnergyEstimates:
        """Return the energy of m intervals; t0_ns and t1_ns are (m,), int64, ns, t0 ≤ t1.

        marker_ns: δ, by how much the marks may be off what they mark. The bounds are then the hull of those with
        either edge moved by up to δ, and the value is that of the marks.

        Path counter: `plateau`, `linear` and `pad` name one estimator (pad has no value where it is refused);
        `auto` takes PLATEAU with three updates inside, else PAD where idle surrounds the interval, else
        LINEAR, and no value (flag `too_short`) without any update inside. The bounds are guaranteed for a
        counter that covers all time, as long as the power keeps to the limits. Across a restart of the
        counter the missing stretch is bridged with the mean of the power readings on both sides, and its
        bounds are floor and cap.

        Path integral: `stored` is the stored trapezoid with edges interpolated; unmeasured stretches are bridged
        with the mean of the powers on both sides, floor and cap bounding them. The bounds let either edge be
        late by up to the sensor's averaging time and refresh period: a model, so never graded above B.
        `stored-lag` is the same with the sensor's lag made good. `auto` takes `instant-trapezoid` of an INSTANT
        signal; of an AVERAGE one `average-counter` where that is known to cover all time, else
        `average-extended`; and where these have no value, and for all other signals, `stored`, or `stored-lag`
        where the sensor is known to lag.

        Both paths: `instant-trapezoid` (see `InstantCurve.energy`), `average-counter`, `average-telescope` and
        `average-extended` (see `AverageCurve`) work on those power readings, all of which they need. Where one
        is asked for and cannot be had there is no value (flag `method_refused`).

        Raises TraceError for arrays of different shape, an interval that ends before it begins, a negative
        marker_ns, or a method that the path does not have.
        """
        t0, t1 = np.asarray(t0_ns, dtype=np.int64), np.asarray(t1_ns, dtype=np.int64)
        self._check(t0, t1, method)
        if marker_ns < 0:
            raise TraceError(f"Marks cannot be {marker_ns} ns off. Give the uncertainty as a positive number.")
        found = self._energy(t0, t1, method)
        if marker_ns == 0:
            return found
        middle = t0 + (t1 - t0) // 2
        inner = np.minimum(t0 + marker_ns, middle), np.maximum(t1 - marker_ns, middle)
        return hull(found, [self._energy(*inner, method), self._energy(t0 - marker_ns, t1 + marker_ns, method)])

    def _energy(self, t0: Ints, t1: Ints, method: Method) -> EnergyEstimates:
        match method:
            case "instant-trapezoid":
                instant = self.better if isinstance(self.better, InstantCurve) else self._instant()
                return instant.energy(t0, t1) if instant else nothing(t0, t1, method, "not_covered")
            case "average-counter" | "average-telescope" | "average-extended":
                average = self.better if isinstance(self.better, AverageCurve) else self._average()
                if average is None:
                    return nothing(t0, t1, method, "not_covered")
                of = {
                    "average-counter": average.counter,
                    "average-telescope": average.telescope,
                    "average-extended": average.extended,
                }
                return of[method](t0, t1)
            case "auto" | "plateau" | "linear" | "pad" if isinstance(self.series, CounterCurve):
                return self.series.energy(t0, t1, method)
        if isinstance(self.series, IntegralCurve):
            return self._stored(self.series, t0, t1, method)
        return nothing(t0, t1, self.path, "not_covered")

    def _stored(self, series: IntegralCurve, t0: Ints, t1: Ints, method: str) -> EnergyEstimates:
        if method == "stored-lag" and not series.lag_ns:
            return nothing(t0, t1, f"{series.method}-lag", "method_refused")
        stored = series.energy(t0, t1, lag_ns=0 if method == "stored" else series.lag_ns)
        if method != "auto" or self.better is None:
            return stored
        if isinstance(self.better, InstantCurve):
            better = self.better.energy(t0, t1)
        else:
            better = self.better.extended(t0, t1)
            if self.sensor.average_covers_all:
                counted = self.better.counter(t0, t1)
                better = chosen(counted, better, np.isfinite(counted.value_j))
        return chosen(better, stored, np.isfinite(better.value_j))

    def _instant(self) -> InstantCurve | None:
        return instant_curve(
            self.rows,
            self.rows.power_instant_mw,
            self.limits,
            self.breaks,
            window_ns=self.sensor.instant_window_ns,
        )

    def _average(self) -> AverageCurve | None:
        return average_curve(self.rows, self.limits, self.breaks, window_ns=self.sensor.average_window_ns)

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
        known = METHODS[self.path]
        if method not in known:
            raise TraceError(f"The method {method!r} is not one of the {self.path} path, which has {', '.join(known)}.")
