"""From readings to the parameters of a sensor: arithmetic alone, after measurement.md §8."""

from dataclasses import dataclass

import numpy as np

from telemetry.probe.trace import Floats, Ints, Trace

FEWEST = 8  # updates, below which a grid is not fitted
SETTLED = 0.02  # a rise is over when so much of it is left
FLAT = 0.03  # a signal that follows the phase of a square load by less of its mean sees all of it


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Publish times: origin_ns + k × period_ns, give or take jitter_ns."""

    origin_ns: int
    period_ns: float
    jitter_ns: float

    def phase_at(self, t_ns: int, fraction: float) -> int:
        """Return the first time from `t_ns` on that lies that fraction of a period behind a publish."""
        k = int(np.ceil((t_ns - self.origin_ns) / self.period_ns - fraction))
        return self.origin_ns + round((k + fraction) * self.period_ns)


def brackets(trace: Trace, values: Floats) -> tuple[Ints, Ints, Floats]:
    """Return between which times each update of a signal was published, (low, high], and its new value. (m,) each.

    values: (n,), the signal's column of the trace.
    """
    known = ~np.isnan(values)
    shown, t_ns, half_ns = values[known], trace.t_ns[known], trace.latency_ns[known] // 2
    at = np.flatnonzero(np.diff(shown)) + 1
    return t_ns[at - 1] - half_ns[at - 1], t_ns[at] + half_ns[at], shown[at]


def fit_grid(trace: Trace, values: Floats) -> Grid | None:
    """Return the publish grid of a signal, by least squares through the middles of its brackets.

    None where it has too few updates. The jitter is half the range of the residuals, less half a bracket, which
    is the reading's own doing. Where the signal keeps no grid the period is the median distance of its updates,
    and the jitter half the range of the distances.
    """
    low, high, _ = brackets(trace, values)
    if len(low) < FEWEST:
        return None
    sharp = high - low <= 2 * np.median(high - low)  # a reader that was held up tells little
    low, high = low[sharp], high[sharp]
    origin_ns = int(low[0] + high[0]) // 2
    middle = (low - origin_ns + high - origin_ns) / 2
    gaps = np.diff(middle)
    steps = np.append(0, np.cumsum(np.maximum(np.rint(gaps / np.median(gaps)), 1)))
    period_ns, phase_ns = np.polyfit(steps, middle, 1)
    off = middle - phase_ns - period_ns * steps
    jitter_ns = max(0.0, float(np.ptp(off) - np.median(high - low)) / 2)
    if jitter_ns > period_ns / 3:  # no grid: what counts then is how far apart updates are
        period_ns, jitter_ns = float(np.median(gaps)), float(np.ptp(gaps)) / 2
    return Grid(origin_ns=origin_ns + round(phase_ns), period_ns=float(period_ns), jitter_ns=jitter_ns)


def variation(powers_w: Floats) -> float:
    """Return how much a signal follows the phase of a square load, over its mean: twice its first harmonic.

    powers_w: (m,), at phases evenly spread over one period. Unlike its range this is little moved by a load whose
    edges come late now and then.
    """
    turns = np.exp(2j * np.pi * np.arange(len(powers_w)) / len(powers_w))
    return float(4 * np.abs(np.mean(powers_w * turns)) / np.mean(powers_w))


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What a sensor looks at, in periods: a stretch of `width`, behind a first-order lag of time constant `lag`."""

    width: float
    lag: float


def fit_window(shifts: Floats, power_w: Floats, *, low_w: float, high_w: float) -> Window:
    """Return what a sensor looks at of each period.

    shifts: (m,), in periods, of a square load with duty ½ in step with the sensor; power_w: (m,), what the
    sensor showed.  low_w, high_w: what it shows without and with the load.
    A window of w sees a trapezoid whose ramps are w long, which a lag rounds off. One of 1 − w sees the same
    shape, but smaller: the height tells them apart. Wrong where the load's own ramps are longer than the window.
    """
    if variation(power_w) < FLAT:
        return Window(width=1.0, lag=0.0)
    widths, ends, lags = np.linspace(0.01, 0.5, 50), np.arange(0, 1, 0.02), np.append(0.0, np.geomspace(0.02, 1, 12))
    for _ in range(4):
        w, end, lag = np.meshgrid(widths, ends, lags, indexing="ij")
        model = _seen(shifts, w[..., None], end[..., None], lag[..., None])
        centred, target = model - model.mean(axis=-1, keepdims=True), power_w - power_w.mean()
        size = np.maximum(np.sum(centred**2, axis=-1), 1e-12)
        height = np.maximum(np.sum(centred * target, axis=-1) / size, 0.0)
        error = np.sum((target - height[..., None] * centred) ** 2, axis=-1)
        best = np.unravel_index(int(np.argmin(error)), error.shape)
        if lags[0] == 0 and error[..., 0].min() < 4 * error.min():  # no lag explains it about as well
            best = (*np.unravel_index(int(np.argmin(error[..., 0])), error.shape[:2]), np.intp(0))
        widths = _around(widths, int(best[0]), least=1e-3, most=0.5)
        ends = _around(ends, int(best[1]), least=-1.0, most=2.0)
        lags = _around(lags, int(best[2]), least=0.0, most=2.0)
    width, seen = float(w[best]), float(height[best]) / (high_w - low_w)
    if abs(seen - width / (1 - width)) < abs(seen - 1):
        width = 1 - width
    return Window(width=width, lag=float(lag[best]))


def _around(values: Floats, at: int, *, least: float, most: float) -> Floats:
    """Return finer values between the neighbours of one of them."""
    low, high = values[max(at - 1, 0)], values[min(at + 1, len(values) - 1)]
    return np.linspace(max(low, least), min(high, most), 15)


def _seen(shift: Floats, width: Floats, end: Floats, lag: Floats) -> Floats:
    """Return the mean over (end − width, end] of a lagged load that is on from `shift` to `shift` + ½."""
    seen: Floats = (_lagged_total(end - shift, lag) - _lagged_total(end - width - shift, lag)) / width
    return seen


def _lagged_total(t: Floats, lag: Floats) -> Floats:
    """Return the integral of a square of period 1, on during its first half, behind a lag: τ y' + y = s."""
    whole = np.floor(t)
    part, tau = t - whole, np.maximum(lag, 1e-6)
    top = -np.expm1(-0.5 / tau) / -np.expm1(-1 / tau)  # where it has come to at ½
    rising = 1 - (1 - top * np.exp(-0.5 / tau)) * np.exp(-np.minimum(part, 0.5) / tau)
    level = np.where(part < 0.5, rising, top * np.exp(-np.maximum(part - 0.5, 0.0) / tau))
    total: Floats = whole / 2 + np.minimum(part, 0.5) - lag * level
    return total


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """How a signal rose after steps of the load: (n,) each, sorted by time."""

    after_ns: Floats  # from the step to the publish
    fraction: Floats  # of the rise

    def delay_ns(self) -> float:
        """Return the mean delay: the area above the response, less what is noise or drift of the load."""
        x = np.append(0.0, self.after_ns)
        gap = np.append(1.0, 1 - self.fraction)
        return float(np.trapezoid(np.where(np.abs(gap) < SETTLED, 0.0, gap), x))

    def ramp_ns(self) -> float | None:
        """Return how long a signal takes that rises straight, from its slope between 10 and 90 %; None: too steep."""
        inside = (self.fraction > 0.1) & (self.fraction < 0.9)
        if np.count_nonzero(inside) < FEWEST:
            return None
        slope, _ = np.polyfit(self.after_ns[inside], self.fraction[inside], 1)
        return float(1 / slope) if slope > 0 else None


def response(trace: Trace, values: Floats, steps_ns: Ints, *, reach_ns: int, low_w: float, high_w: float) -> Response:
    """Return the responses of a signal to steps up, laid over each other.

    steps_ns: (k,), when the load came on; of each, the updates within `reach_ns` are taken.
    """
    low, high, shown = brackets(trace, values)
    middle = (low + high) // 2
    after = middle[:, None] - steps_ns[None, :]
    update, step = np.nonzero((after >= 0) & (after < reach_ns))
    x = after[update, step].astype(np.float64)
    order = np.argsort(x, kind="stable")
    return Response(after_ns=x[order], fraction=((shown[update] - low_w) / (high_w - low_w))[order])


def settled_after_s(t_s: Floats, values: Floats, *, to_w: float, within_w: float) -> float | None:
    """Return from when on a signal stays close to a power, s; None where it does not come there.

    t_s, values: (n,), evenly spaced. What counts is its mean over the next half second, so that noise does not.
    """
    known = ~np.isnan(values)
    t_s, values = t_s[known], values[known]
    if not len(t_s):
        return None
    half_s = int(np.count_nonzero(t_s < t_s[0] + 0.5))
    means = np.convolve(values, np.full(half_s, 1 / half_s), mode="valid")
    outside = np.flatnonzero(np.abs(means - to_w) > within_w)
    first = outside[-1] + 1 if len(outside) else 0
    return float(t_s[first]) if first < len(means) else None
