"""Is B better than A: effect, interval, p, equivalence, and the smallest effect these data could have shown."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np

from telemetry.analysis.bootstrap import BCA_FROM, Arm, bca
from telemetry.analysis.rows import Floats
from telemetry.analysis.statistics import Interval
from telemetry.errors import TraceError

MARGIN = 0.02
PERMUTATIONS = 9_999
# 95 % of a difference between two boards whose sensors are off by anything within ±5 %, on their own
BOARDS_APART = 0.078

Conclusion = Literal["better", "worse", "equivalent", "not resolvable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """B against A: `ratio` is B's value over A's, below 1 for less.

    Three uncertainties stand side by side and are never merged: repeatability (`interval`, from runs), timing
    (`timing`, guaranteed limits of the ratio from the bounds of each run; None without bounds), and calibration
    (`calibration`, by which share two boards' sensors may differ; 0 on one board).
    p: two-sided, runs exchanged between the arms.  p_equivalent: of two one-sided tests against ±margin.
    detectable: the smallest change of log(ratio), for a few per cent the share, that these data would have shown with
    80 % probability.
    floor: the largest change seen, or not excluded, between equal arms; None where that was not tried.
    """

    ratio: float
    timing: tuple[float, float] | None
    calibration: float
    floor: float | None
    margin: float
    n_a: int
    n_b: int
    interval: Interval | None = None
    p: float | None = None
    p_equivalent: float | None = None
    detectable: float | None = None
    conclusion: Conclusion = "not resolvable"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRatio:
    """log(B / A) with Welch's standard error and degrees of freedom; both arms need two runs."""

    value: float
    error: float
    degrees: float

    @classmethod
    def of(cls, a: Arm, b: Arm) -> Self:
        """Return that of two arms."""
        va, vb = a.log_variance, b.log_variance
        shares = va**2 / (len(a) - 1) + vb**2 / (len(b) - 1)
        degrees = (va + vb) ** 2 / shares if shares > 0 else float(len(a) + len(b) - 2)
        return cls(value=math.log(b.value / a.value), error=math.sqrt(va + vb), degrees=degrees)

    def p_above(self, limit: float = 0.0) -> float:
        """Return the one-sided p of log(B / A) ≤ limit: small where it is surely above."""
        from scipy import stats  # type: ignore[import-untyped]

        off = self.value - limit
        if self.error == 0.0:
            return 0.5 if off == 0.0 else float(off < 0.0)
        return float(stats.t.sf(off / self.error, self.degrees))


def compare(
    a: Arm,
    b: Arm,
    *,
    seed: int,
    level: float = 0.95,
    margin: float = MARGIN,
    floor: float | None = None,
    calibration: float = 0.0,
    lower_is_better: bool = True,
) -> Comparison:
    """Compare two arms of runs.

    The effect is the ratio of B's Σ energy / Σ tokens to A's. Its interval: BCa over runs where both arms have 30
    and more (seed stored), else Welch's t on the logarithm; with fewer than six runs in an arm its method says
    `few-runs`. floor: see `noise_floor`.  calibration: `BOARDS_APART` for arms on two boards nobody calibrated.

    The conclusion is `equivalent` where two one-sided tests at 1 − level place the ratio within ±margin (Schuirmann
    1987); else `better` or `worse` where the interval excludes 1 and the effect exceeds both floor and calibration;
    else `not resolvable`. With a single run in an arm it is `not resolvable`.
    Wrong where the runs of an arm are not independent, or the arms ran one after the other while something drifted.
    Raises TraceError for a level, margin, floor or calibration out of range.
    """
    if not (0.0 < level < 1.0 and 0.0 < margin < 1.0 and (floor is None or floor >= 0.0) and calibration >= 0.0):
        raise TraceError("Level and margin are shares between 0 and 1, floor and calibration not below 0.")
    found = Comparison(
        ratio=b.value / a.value,
        timing=_timing(a, b),
        calibration=calibration,
        floor=floor,
        margin=margin,
        n_a=len(a),
        n_b=len(b),
    )
    if min(len(a), len(b)) < 2:
        return found
    log_ratio = LogRatio.of(a, b)
    interval = _interval(a, b, log_ratio, seed=seed, level=level)
    p_equivalent = max(log_ratio.p_above(math.log1p(-margin)), 1.0 - log_ratio.p_above(math.log1p(margin)))
    conclusion: Conclusion = "not resolvable"
    if p_equivalent < 1.0 - level and calibration < margin:
        conclusion = "equivalent"
    elif not interval.lo <= 1.0 <= interval.hi and abs(found.ratio - 1.0) > max(floor or 0.0, calibration):
        conclusion = "better" if (found.ratio < 1.0) == lower_is_better else "worse"
    return replace(
        found,
        interval=interval,
        p=permutation_p(a, b, seed=seed),
        p_equivalent=p_equivalent,
        detectable=_detectable(log_ratio.error, log_ratio.degrees, level=level, power=0.8),
        conclusion=conclusion,
    )


def permutation_p(a: Arm, b: Arm, *, seed: int) -> float:
    """Return the two-sided p of the log ratio if it did not matter which run is whose.

    Exact where there are fewer than 9,999 ways to exchange them, else of that many at random. Two arms of n runs
    cannot fall below 2 / C(2n, n): 0.1 for three, 0.008 for five. Raises TraceError for an arm of a single run.
    """
    from scipy import stats

    if min(len(a), len(b)) < 2:
        raise TraceError("A single run cannot be exchanged. Run each setting at least twice.")

    energy_j, tokens = np.concatenate([a.energy_j, b.energy_j]), np.concatenate([a.tokens, b.tokens])

    def statistic(of_a: Any, of_b: Any, axis: int = -1) -> Any:
        logs = [np.log(energy_j[k].sum(axis=axis) / tokens[k].sum(axis=axis)) for k in (of_a, of_b)]
        return np.round(logs[1] - logs[0], 12)  # what ties must not be told apart by the order of its sums

    runs = np.arange(len(energy_j))
    found = stats.permutation_test(
        (runs[: len(a)], runs[len(a) :]),
        statistic,
        permutation_type="independent",
        vectorized=True,
        n_resamples=PERMUTATIONS,
        alternative="two-sided",
        rng=np.random.default_rng(seed),
    )
    return float(found.pvalue)


def noise_floor(a: Arm, again: Arm, *, seed: int, level: float = 0.95) -> float:
    """Return the detection floor that two arms of the same setting show (A/A), as a share.

    The largest change that their interval does not exclude. An effect up to it is not told apart from nothing,
    whatever its own interval says, for an A/A whose interval excludes 1 has found a drift, not an effect.
    Raises TraceError for an arm of a single run.
    """
    found = compare(a, again, seed=seed, level=level).interval
    if found is None:
        raise TraceError("A single run has no noise. Run the same setting at least twice in both arms.")
    return max(abs(found.lo - 1.0), abs(found.hi - 1.0))


def detectable_effect(*, cv: float, n_a: int, n_b: int, level: float = 0.95, power: float = 0.8) -> float:
    """Return the smallest change, that n_a and n_b runs of a coefficient of variation show with `power`.

    For planning; on the logarithm, which for a few per cent is the share. Raises TraceError below two runs an arm.
    """
    if min(n_a, n_b) < 2:
        raise TraceError("With a single run no change can be told from noise. Plan at least two an arm.")
    return _detectable(cv * math.sqrt(1.0 / n_a + 1.0 / n_b), n_a + n_b - 2, level=level, power=power)


def holm(p_values: Sequence[float]) -> Floats:
    """Return p values adjusted for all being looked at together, (n,), in the order given (Holm 1979)."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    return adjusted


def _interval(a: Arm, b: Arm, log_ratio: LogRatio, *, seed: int, level: float) -> Interval:
    from scipy import stats

    if min(len(a), len(b)) >= BCA_FROM:

        def ratio(of_a: Any, of_b: Any, axis: int = -1) -> Any:
            sums = [arm.energy_j[k].sum(axis=axis) / arm.tokens[k].sum(axis=axis) for arm, k in ((a, of_a), (b, of_b))]
            return sums[1] / sums[0]

        return bca((np.arange(len(a)), np.arange(len(b))), ratio, seed=seed, level=level)
    half = float(stats.t.ppf((1.0 + level) / 2.0, log_ratio.degrees)) * log_ratio.error
    few = "-few-runs" if min(len(a), len(b)) < 6 else ""
    return Interval(
        lo=math.exp(log_ratio.value - half),
        hi=math.exp(log_ratio.value + half),
        level=level,
        method=f"welch-t-log{few}",
    )


def _timing(a: Arm, b: Arm) -> tuple[float, float] | None:
    """Return between which limits the ratio is sure to lie as far as the edges of the runs go."""
    if a.energy_lo_j is None or a.energy_hi_j is None or b.energy_lo_j is None or b.energy_hi_j is None:
        return None
    per_token = [float(each.sum()) for each in (a.energy_lo_j, a.energy_hi_j, b.energy_lo_j, b.energy_hi_j)]
    scale = float(a.tokens.sum() / b.tokens.sum())
    if per_token[0] <= 0.0:
        return None
    return per_token[2] / per_token[1] * scale, per_token[3] / per_token[0] * scale


def _detectable(error: float, degrees: float, *, level: float, power: float) -> float:
    from scipy import stats

    quantiles = stats.t.ppf([(1.0 + level) / 2.0, power], degrees)
    return float(quantiles.sum()) * error
