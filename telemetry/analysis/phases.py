"""Prefill and decode: measured where phases follow one another, fitted where they run at the same time."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from telemetry.analysis.counted import fitted_updates
from telemetry.analysis.counter import CounterCurve
from telemetry.analysis.curve import EnergyCurve
from telemetry.analysis.quality import codes_of, estimate_of, grade_of
from telemetry.analysis.rows import Bools, Floats, Ints
from telemetry.analysis.work import Requests
from telemetry.errors import TraceError
from telemetry.model import Estimate

FEWEST_UPDATES = 3
PERIODS_OF_A_PHASE = 2
SHORT_MAX = 0.01  # share of time in shorter phases
FEWEST_BLOCKS = 10
CONDITION_MAX = 30.0
R2_MIN = 0.9
VARIATION_MIN = 0.1  # standard deviation over mean, below which a column is as good as constant
FOLDS = 5
HUBER = 1.345  # 95 % as efficient as least squares where errors are normal (Huber 1964)
SWEEPS = 10
FITTED_S = 0.5  # an interval's length: when within a step an update came is then of little weight
RESOLVED_J = 1e-3  # by a counter

Term = Literal["idle", "prefill", "step", "output", "context"]
TERMS: tuple[Term, ...] = ("idle", "prefill", "step", "output", "context")


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseEnergy:
    """The energy of n phases of one kind together, which lasted `duration_s` and saw so many `updates`."""

    energy: Estimate
    n: int
    duration_s: float
    updates: int
    label: Literal["measured"] = "measured"


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseModel:
    """Costs fitted to a device's energy, one for each of m terms, or the reasons why the data cannot tell.

    value, lo, hi: (m,), W for `idle`, J a token computed in prefill, J a step, J an output token, J a token of
    context looked back on; None where there are reasons.  draws: (draws, m), the bootstrap's.
    reasons: `few_blocks`, `constant_…` and the term, `condition`, `r2`: not identifiable.
    condition: of the columns, each scaled to length 1.  r2: out of sample, NaN without variance to explain.
    effective_blocks: (m,), how many blocks of like weight would tell as much of each term as the `blocks` there are.
    """

    terms: tuple[Term, ...]
    value: Floats | None
    lo: Floats | None
    hi: Floats | None
    draws: Floats | None
    condition: float
    r2: float
    blocks: int
    effective_blocks: Floats | None
    level: float
    seed: int
    reasons: tuple[str, ...]
    label: Literal["modelled"] = "modelled"

    def energies_j(self, columns: Floats) -> Floats:
        """Return value, lo and hi, (3, m), J, of each term's energy over the rows of `columns`, (k, m).

        Raises TraceError where the costs are not identifiable.
        """
        return np.array([self.together_j(columns, (term,)) for term in self.terms]).T

    def together_j(self, columns: Floats, terms: tuple[Term, ...]) -> Floats:
        """Return value, lo and hi, (3,), J, of the energy of some terms together; of those not fitted, nothing.

        The interval is that of their sum, as sure as the term that the fewest blocks tell of.
        Raises TraceError where the costs are not identifiable.
        """
        if self.value is None or self.draws is None or self.effective_blocks is None:
            raise TraceError(f"The energy of phases cannot be told from these data: {', '.join(self.reasons)}.")
        k = [self.terms.index(term) for term in terms if term in self.terms]
        amount = columns.sum(axis=0)[k]
        drawn, blocks = self.draws[:, k] @ amount, self.effective_blocks[k].min(keepdims=True)
        lo, hi = _interval(drawn[:, None], self.level, blocks)
        return np.array([self.value[k] @ amount, lo[0], hi[0]])


def sequential(requests: Requests) -> bool:
    """Return whether no two requests ran at the same time, so that phases have edges that can be measured."""
    order = np.argsort(requests.start_ns, kind="stable")
    return bool(np.all(requests.end_ns[order][:-1] <= requests.start_ns[order][1:]))


def phase_energy(curve: EnergyCurve, t0_ns: Ints, t1_ns: Ints, *, marker_ns: int = 0) -> PhaseEnergy:
    """Return the energy of phases of one kind together, [t0, t1], (n,), ns, from the curve at their edges.

    By PLATEAU where the device has a counter. Below three updates inside all of them there is no value (flag
    `too_short`), and none where over 1 % of their time is in phases shorter than two publish periods: with both edges
    between the same updates their power is never seen alone, and pooling does not help (8 % too low for phases of
    0.1 s at 650 W amid 280 W, 31 % for 0.05 s, simulated). The bounds stay: the sums of each phase's own, which
    pooling does not narrow. marker_ns: see `EnergyCurve.energy`.
    Raises TraceError where the phases overlap: then no edge parts them, see `fit_phases`.
    """
    order = np.argsort(t0_ns, kind="stable")
    if np.any(t1_ns[order][:-1] > t0_ns[order][1:]):
        raise TraceError("Phases overlap, so their energies cannot be measured apart. Fit them with `fit_phases`.")
    found = curve.energy(t0_ns, t1_ns, "plateau" if curve.path == "counter" else "auto", marker_ns=marker_ns)
    at_ns, period_ns = published(curve)
    updates = int(np.sum(np.searchsorted(at_ns, t1_ns, side="left") - np.searchsorted(at_ns, t0_ns, side="right")))
    flags = codes_of(int(np.bitwise_or.reduce(found.flags))) if len(found) else ()
    whole = estimate_of(
        float(found.value_j.sum()),
        float(found.lo_j.sum()),
        float(found.hi_j.sum()),
        method="+".join(dict.fromkeys(map(str, found.method))),
        flags=flags,
    )
    lasted_ns = t1_ns - t0_ns
    short_ns = lasted_ns[lasted_ns < PERIODS_OF_A_PHASE * period_ns].sum()
    if updates < FEWEST_UPDATES or short_ns > SHORT_MAX * lasted_ns.sum():
        flags = tuple(dict.fromkeys((*flags, "too_short")))
        whole = replace(whole, value=None, flags=flags, grade=grade_of(None, whole.lo, whole.hi, flags))
    return PhaseEnergy(energy=whole, n=len(t0_ns), duration_s=float(lasted_ns.sum()) * 1e-9, updates=updates)


def update_intervals(curve: EnergyCurve, from_ns: int, to_ns: int) -> tuple[Ints, Floats]:
    """Return times of the counter's updates in an interval, (k + 1,), ns, and the energy between them, (k,), J.

    The first of each half second, and the last. The times are fitted to the publish grid, within their brackets. All
    rows of the interval are needed.
    Raises TraceError without a counter, or where it restarted or was not read inside.
    """
    if not isinstance(curve.series, CounterCurve):
        raise TraceError("Phases that overlap can only be told apart by an energy counter, which this device lacks.")
    u = curve.series.counted.knots
    if len(np.unique(u.piece[(u.middle_ns >= from_ns) & (u.middle_ns <= to_ns)])) != 1:
        raise TraceError("The counter's updates do not follow on from each other there. Take an interval without gaps.")
    at_ns, shown_j = fitted_updates(curve.series, from_ns, to_ns)
    _, first = np.unique((at_ns - at_ns[0]) // round(FITTED_S * 1e9), return_index=True)
    kept = np.union1d(first, len(at_ns) - 1)
    return at_ns[kept], np.diff(shown_j[kept])


def fit_phases(
    columns: Floats,
    energy_j: Floats,
    *,
    guessed: Bools | None = None,
    terms: tuple[Term, ...] = TERMS,
    seed: int,
    block_s: float = 10.0,
    n_draws: int = 1_000,
    level: float = 0.95,
) -> PhaseModel:
    """Fit ΔE = P₀·Δt + c_p·prefill tokens + c_s·steps + c_d·output tokens + c_k·context over k intervals.

    columns: (k, 5), see `phase_columns`.  energy_j: (k,), J.  guessed: (k,), see `steps_guessed`; these are left out
    where steps are fitted.  terms: those to fit; the others are taken to cost nothing. Costs are not negative. Errors
    are taken relative to an interval's energy, for idle power is steady and load is not, and large ones count linearly
    (Huber). The intervals are percentiles of a bootstrap of whole blocks of `block_s`, for neighbouring errors are not
    independent. With fewer than 10 blocks, a term that hardly varies, a condition number of 30 and more, or an
    out-of-sample R² of 0.9 and less, nothing is given but the reasons.
    Wrong where a term that matters is left out; R² shows that only if what is left out varies.
    """
    if guessed is not None and "step" in terms:
        columns, energy_j = columns[~guessed], energy_j[~guessed]
    x = columns[:, [TERMS.index(term) for term in terms]]
    length = np.linalg.norm(x, axis=0)
    scaled = x / np.where(length > 0, length, 1.0)
    condition = float(np.linalg.cond(scaled)) if np.all(length > 0) else np.inf
    ends_s = np.cumsum(columns[:, 0])
    blocks = int(columns[:, 0].sum() / block_s + 1e-9)
    reasons = [f"constant_{term}" for term in terms if term != "idle" and not _varies(columns[:, TERMS.index(term)])]
    reasons += ["condition"] * (condition >= CONDITION_MAX) + ["few_blocks"] * (blocks < FEWEST_BLOCKS)
    r2 = np.nan
    if not reasons:
        # A rest shorter than a block belongs to the last.
        block = np.minimum(((ends_s - columns[:, 0] / 2.0) / block_s).astype(np.intp), blocks - 1)
        r2 = _out_of_sample_r2(scaled, energy_j, block * FOLDS // blocks)
        reasons += [] if r2 > R2_MIN else ["r2"]
    value = lo = hi = draws = effective = None
    if not reasons:
        cost = _solve(scaled, energy_j)
        value, effective = cost / length, _effective(scaled / _size(scaled @ cost)[:, None], block)
        draws = _drawn(scaled, energy_j, block, np.random.default_rng(seed), n_draws) / length
        lo, hi = _interval(draws, level, effective)
    return PhaseModel(
        terms=terms, value=value, lo=lo, hi=hi, draws=draws,
        condition=condition, r2=r2, blocks=blocks, effective_blocks=effective,
        level=level, seed=seed, reasons=tuple(reasons),
    )  # fmt: skip


def _solve(x: Floats, energy_j: Floats) -> Floats:
    """Return the costs ≥ 0, (m,), with the least Huber loss of relative errors: least squares, reweighted."""
    from scipy import optimize  # type: ignore[import-untyped]

    cost: Floats = optimize.nnls(x, energy_j)[0]
    for _ in range(SWEEPS):
        size = _size(x @ cost)
        off = np.abs(energy_j - x @ cost) / size
        limit = HUBER * float(np.median(off)) / 0.6745
        if limit <= 0.0:  # at least half of the intervals fit exactly
            break
        root = np.sqrt(np.minimum(limit / np.maximum(off, limit), 1.0)) / size
        before, cost = cost, optimize.nnls(x * root[:, None], energy_j * root)[0]
        if np.allclose(cost, before, rtol=1e-6, atol=0.0):
            break
    return cost


def _size(energy_j: Floats) -> Floats:
    """Return what errors are relative to, (k,), J."""
    return np.maximum(energy_j, RESOLVED_J)


def _drawn(x: Floats, energy_j: Floats, block: NDArray[np.intp], rng: "np.random.Generator", n_draws: int) -> Floats:
    members = [np.flatnonzero(block == b) for b in np.unique(block)]
    draws: Floats = np.empty((n_draws, x.shape[1]))
    for i in range(n_draws):
        k = np.concatenate([members[b] for b in rng.integers(0, len(members), len(members))])
        draws[i] = _solve(x[k], energy_j[k])
    return draws


def _out_of_sample_r2(x: Floats, energy_j: Floats, fold: NDArray[np.intp]) -> float:
    """Return the share of variance that is explained in stretches of time left out of the fit."""
    off = np.empty(len(energy_j))
    for out in (fold == f for f in np.unique(fold)):
        off[out] = energy_j[out] - x[out] @ _solve(x[~out], energy_j[~out])
    spread = float(np.sum((energy_j - energy_j.mean()) ** 2))
    return 1.0 - float(np.sum(off**2)) / spread if spread > 0 else np.nan


def _varies(column: Floats) -> bool:
    return len(column) > 0 and bool(np.std(column) >= VARIATION_MIN * np.mean(column) and np.any(column > 0))


def _effective(x: Floats, block: NDArray[np.intp]) -> Floats:
    """Return the effective number of blocks for each cost, (m,): (Σ w)² / Σ w², w a block's weight in it.

    As Carter, Schnepel and Steigerwald (2017) count clusters: what idles in one block in ten rests on a tenth of them.
    """
    influence = x @ np.linalg.inv(x.T @ x)
    weight = np.array([np.sum(influence[block == b] ** 2, axis=0) for b in np.unique(block)])
    effective: Floats = np.sum(weight, axis=0) ** 2 / np.sum(weight**2, axis=0)
    return effective


def _interval(draws: Floats, level: float, blocks: Floats) -> Floats:
    """Return lo and hi, (2, m), of draws (n, m): percentiles, the further out the fewer blocks (Hesterberg 2015).

    The n draws part the line into n + 1 pieces of like weight (`weibull`), so that few do not cut the tails short.
    """
    from scipy import special, stats

    rest = np.maximum(blocks - 1.0, 1.0)
    t = stats.t.ppf((1.0 + level) / 2.0, rest) * np.sqrt((rest + 1.0) / rest)
    tails = np.column_stack([special.ndtr(-t), special.ndtr(t)])
    found = [np.quantile(drawn, tail, method="weibull") for drawn, tail in zip(draws.T, tails, strict=True)]
    return np.array(found).T


def published(curve: EnergyCurve) -> tuple[Ints, int]:
    """Return when a device's readings are known to have been updated, (m,), and how often they are, ns."""
    if curve.series is None:
        return np.empty(0, dtype=np.int64), 0
    if isinstance(curve.series, CounterCurve):
        return curve.series.counted.knots.middle_ns, curve.series.counted.updates.period_ns
    return curve.series.update_ns, curve.series.period_ns
