"""Percentiles, intervals and latencies: what many values say, and from how many on they may say it."""

import math
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from telemetry.analysis.rows import Floats, Ints
from telemetry.errors import TraceError

# From this n on the largest of n values lies above the percentile with 95 % probability (1 − qⁿ ≥ 0.95); for
# p50, from which on the smallest and the largest enclose it with 95 %.
MIN_N = {50: 6, 90: 29, 95: 59, 99: 299}


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Many values in a few; a percentile is None below its least n, everything is None without values."""

    n: int
    mean: float | None = None
    min: float | None = None
    max: float | None = None
    p50: float | None = None
    p90: float | None = None
    p95: float | None = None
    p99: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A confidence interval; `level` is what it reaches: for order statistics, more than asked.

    seed: the generator's, where it was resampled: with it the same values give the same interval.
    """

    lo: float
    hi: float
    level: float
    method: str
    seed: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """One request's times, s; None where there were too few tokens. itl_s: (n − 1,), gaps between tokens."""

    ttft_s: float | None
    tpot_s: float | None
    e2e_s: float
    itl_s: Floats


def percentile(values: ArrayLike, q: float) -> float:
    """Return the q-th percentile (0 to 100), linear between order statistics (Hyndman and Fan's type 7).

    Computed for any n ≥ 1; whether n suffices to print it is for `MIN_N` and `summary` to say.
    Raises TraceError without values.
    """
    return float(np.percentile(_some(values), q))


def summary(values: ArrayLike) -> Summary:
    """Return mean, extremes and the percentiles that n allows to print."""
    array = np.asarray(values, dtype=np.float64)
    n = len(array)
    if n == 0:
        return Summary(n=0)
    printable = {f"p{q}": percentile(array, q) for q, least in MIN_N.items() if n >= least}
    return Summary(n=n, mean=float(array.mean()), min=float(array.min()), max=float(array.max()), **printable)


def percentile_interval(values: ArrayLike, q: float, *, level: float = 0.95) -> Interval | None:
    """Return the interval between two order statistics that holds the q-th percentile (0 < q < 100).

    Of all pairs that reach `level` the one of fewest ranks, of those the one that exceeds it least, which
    keeps off the extremes. Assumes independent values, and nothing of their distribution. None where even the
    extremes do not reach it. Raises TraceError without values.
    """
    array = np.sort(_some(values))
    n, p = len(array), q / 100.0
    k = np.arange(1, n + 1)
    # The number of values below the percentile is binomial; in logs, for n may be large.
    log_odds = np.log((n - k + 1) / k) + math.log(p / (1.0 - p))
    below = np.cumsum(np.exp(n * math.log1p(-p) + np.append(0.0, np.cumsum(log_odds))))  # P(B ≤ 0 … n)
    # The pair of ranks r < s covers when r ≤ B < s: P(B ≤ s − 1) − P(B ≤ r − 1).
    last = np.searchsorted(below, below[:n] + level)
    low = np.flatnonzero(last < n)
    if len(low) == 0:
        return None
    reached = below[last[low]] - below[low]
    best = np.lexsort((reached, last[low] - low))[0]
    return Interval(
        lo=float(array[low[best]]),
        hi=float(array[last[low[best]]]),
        level=float(reached[best]),
        method="order-statistics",
    )


def mean_interval(values: ArrayLike, *, level: float = 0.95) -> Interval | None:
    """Return Student's interval for the mean; None below two values, which say nothing of their spread."""
    array = np.asarray(values, dtype=np.float64)
    if len(array) < 2:
        return None
    half = t_quantile((1.0 + level) / 2.0, len(array) - 1) * float(array.std(ddof=1)) / math.sqrt(len(array))
    mean = float(array.mean())
    return Interval(lo=mean - half, hi=mean + half, level=level, method="t")


def log_mean_interval(values: ArrayLike, *, level: float = 0.95) -> Interval | None:
    """Return Student's interval on logarithms: of the geometric mean, for ratios such as J/token of few runs.

    None below two values. Raises TraceError where a value is not positive.
    """
    array = np.asarray(values, dtype=np.float64)
    if np.any(array <= 0.0):
        raise TraceError(f"The value {array.min()} has no logarithm. Intervals of ratios need positive values.")
    logs = mean_interval(np.log(array), level=level)
    return logs and Interval(lo=math.exp(logs.lo), hi=math.exp(logs.hi), level=level, method="t-log")


@cache  # it takes time in proportion to the degrees of freedom, and a report asks for the same ones
def t_quantile(p: float, degrees: int) -> float:
    """Return the p-quantile (0.5 ≤ p < 1) of Student's t for whole degrees of freedom ≥ 1.

    By Newton's steps on the closed form of its distribution (Abramowitz and Stegun 26.7.3 and 26.7.4). They come from
    the normal quantile, which lies below, and never pass the one sought, for above 0 the distribution is concave.
    """
    t, half = NormalDist().inv_cdf(p), (degrees + 1) / 2.0
    log_peak = math.lgamma(half) - math.lgamma(degrees / 2.0) - math.log(degrees * math.pi) / 2.0
    while True:
        density = math.exp(log_peak - half * math.log1p(t * t / degrees))
        step = (p - _t_below(t, degrees)) / density
        t += step
        if step <= 1e-13 * t:
            return t


def latency(*, submitted_ns: int, ended_ns: int, token_ns: Ints) -> Latency:
    """Return one request's latencies from the times of its n output tokens, (n,), sorted.

    TTFT: first token after submission. TPOT: (last − first) / (n − 1), None below two tokens. E2E: end after
    submission. Raises TraceError where the tokens' times run backwards.
    """
    gaps = np.diff(np.asarray(token_ns, dtype=np.int64))
    if np.any(gaps < 0):
        raise TraceError("The times of the tokens run backwards. Hand them in the order of their indices.")
    n = len(token_ns)
    return Latency(
        ttft_s=(int(token_ns[0]) - submitted_ns) * 1e-9 if n else None,
        tpot_s=int(token_ns[-1] - token_ns[0]) * 1e-9 / (n - 1) if n > 1 else None,
        e2e_s=(ended_ns - submitted_ns) * 1e-9,
        itl_s=gaps.astype(np.float64) * 1e-9,
    )


def _some(values: ArrayLike) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if len(array) == 0:
        raise TraceError("No percentile can be computed of no values. Ask only where there are some.")
    return array


def _t_below(t: float, degrees: int) -> float:
    """Return P(T ≤ t) for t ≥ 0."""
    theta = math.atan2(t, math.sqrt(degrees))
    cos_squared = math.cos(theta) ** 2
    odd = degrees % 2
    term = math.cos(theta) if odd else 1.0
    total = term if degrees > 1 else 0.0
    for k in range(3 if odd else 2, degrees, 2):
        term *= cos_squared * (k - 1) / k
        total += term
    two_sided = 2.0 / math.pi * (theta + math.sin(theta) * total) if odd else math.sin(theta) * total
    return 0.5 + two_sided / 2.0
