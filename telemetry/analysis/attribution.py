"""What each request of a mixed batch is charged: a device's energy split by a named policy.

The energy of one request in a batch cannot be measured. What is here is *allocated*: it adds up to what was
measured, and how it is shared out is a choice, named with each result.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from telemetry.analysis.counted import plateau_at
from telemetry.analysis.counter import CounterCurve
from telemetry.analysis.curve import EnergyCurve
from telemetry.analysis.rows import Bools, Floats, Ints
from telemetry.analysis.work import Requests, Stretches, Work, work_of
from telemetry.errors import TraceError

CumulativeEnergy = Callable[[Ints], Floats]  # times (k,), sorted, ns → J since any one moment, (k,)

Policy = Literal["run-average", "time-share", "token-share", "weighted-tokens", "affine-shapley"]  # M0 … M4
POLICIES: tuple[Policy, ...] = get_args(Policy)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCosts:
    """What an engine's step costs: J, or any other unit, for only their ratios matter.

    A step costs `step`, whoever is in it, and besides for each token computed in prefill, each output token, and each
    token of context that an output token looks back on. source: where the numbers come from.
    """

    step: float
    prefill_token: float
    output_token: float
    context_token: float = 0.0
    source: str


# A step of 16-bit weights reads 2 bytes a parameter, and a token takes 2 operations a parameter. By the H100 SXM's
# data sheet (3.35 TB/s, 989 dense TFLOP/s) reading them takes as long as the arithmetic of 295 tokens.
H100_ROOFLINE = StepCosts(
    step=1.0, prefill_token=1 / 295, output_token=1 / 295, source="H100 SXM data sheet: 3.35 TB/s, 989 TFLOP/s"
)
_PLAIN_TOKENS = StepCosts(step=0.0, prefill_token=1.0, output_token=1.0, source="every token alike")
_TIME_ALONE = StepCosts(step=1.0, prefill_token=0.0, output_token=0.0, source="every request alike")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """The energy of d devices shared out among n requests, J.

    energy_j: (d, n).  marginal_j: (d, n), of it what the request's own tokens cost beyond the step that it shared:
    what would have been saved without it; NaN for policies that do not tell.
    unattributed_j: (d,), of the time in which no request ran.  total_j: (d,), all. For each device the requests'
    energies and the unattributed one add up to the total.
    """

    policy: Policy
    costs: StepCosts | None
    devices: tuple[str, ...]
    from_ns: int
    to_ns: int
    energy_j: Floats
    marginal_j: Floats
    unattributed_j: Floats
    total_j: Floats
    label: Literal["allocated"] = "allocated"


def attribute(
    requests: Requests,
    energy: Mapping[str, CumulativeEnergy],
    *,
    from_ns: int,
    to_ns: int,
    policy: Policy = "affine-shapley",
    costs: StepCosts = H100_ROOFLINE,
    step_ns: Ints | None = None,
) -> Attribution:
    """Share out each device's energy in [from_ns, to_ns] among the requests.

    energy: for each device, see `cumulative_energy`.  costs: for the last two policies.  step_ns: see
    `Stretches.steps`.  In each stretch of time in which the same requests run, ΔE is shared

    - `run-average` (M0): by output tokens, at one price over all stretches: sees neither prompts nor batches;
    - `time-share` (M1): equally among the requests that run;
    - `token-share` (M2): by the tokens computed, of the prompt and put out alike;
    - `weighted-tokens` (M3): by the tokens' `costs`;
    - `affine-shapley` (M4): steps · `costs.step` equally, and each request its own tokens' costs, scaled so that
      together they are ΔE: the Shapley value of the game in which a step costs F + Σ aᵢ.

    Where no running request has a share by that rule (nobody made a token), they pay equally. Energy of time without
    any request stays unattributed under every policy. Takes O((pieces + devices) log pieces), where a request has
    two pieces, or one for each token whose time is given.

    Wrong where a step's cost is not additive beyond F, as when arithmetic and not memory limits a decode step: the
    sum is still right, the shares are the policy's.
    Raises TraceError for an empty interval, costs that are negative, or an energy unknown somewhere inside.
    """
    if to_ns <= from_ns:
        raise TraceError(f"The interval ends {from_ns - to_ns} ns before it begins, or has no length. Swap its edges.")
    if min(costs.step, costs.prefill_token, costs.output_token, costs.context_token) < 0:
        raise TraceError("A step or a token cannot cost less than nothing. Give costs of 0 and more.")
    work = work_of(requests).between(from_ns, to_ns)
    cut = Stretches.of(work, from_ns, to_ns)
    active = cut.active()
    split = _Split.of(work, cut, active, _costs_of(policy, costs), step_ns)
    paid, own, total, idle = [], [], [], []
    for name, cumulative_j in energy.items():
        spent_j = np.diff(cumulative_j(cut.edges_ns))
        if not np.isfinite(spent_j).all():
            raise TraceError(f"The energy of {name} is not known throughout the interval, so it cannot be shared out.")
        total.append(spent_j.sum())
        idle.append(spent_j[active == 0].sum())
        if policy == "run-average":
            shares = _output_shares(work, len(requests))
            each, marginal = shares * spent_j[active > 0].sum(), np.full(len(requests), np.nan)
        else:
            each, marginal = split.shared(spent_j, len(requests))
        paid.append(each)
        own.append(marginal if policy == "affine-shapley" else np.full(len(requests), np.nan))
    shape = len(energy), len(requests)
    return Attribution(
        policy=policy,
        costs=costs if policy in ("weighted-tokens", "affine-shapley") else None,
        devices=tuple(energy),
        from_ns=from_ns,
        to_ns=to_ns,
        energy_j=np.array(paid).reshape(shape),
        marginal_j=np.array(own).reshape(shape),
        unattributed_j=np.array(idle),
        total_j=np.array(total),
    )


def cumulative_energy(
    curve: EnergyCurve, *, from_ns: int, to_ns: int, published_j: float | None = None
) -> CumulativeEnergy:
    """Return a device's energy since from_ns as a function of time that reaches the interval's own estimate.

    Between the edges it follows the counter by PLATEAU, or the stored integral, whose energies add up over any
    split; it is scaled to the figure that is published for the whole, by default what `curve.energy` gives by `auto`.
    All rows of the interval are needed. NaN where there is no such figure, or nothing rose that could be scaled.
    Raises TraceError, when called, where the counter restarted inside.
    """
    if published_j is None:
        published_j = float(curve.energy(np.array([from_ns]), np.array([to_ns])).value_j[0])
    whole_j = published_j

    def followed_j(t_ns: Ints) -> Floats:
        if not np.isfinite(whole_j):
            return np.full(len(t_ns), np.nan)
        if isinstance(curve.series, CounterCurve):
            return plateau_at(curve.series, t_ns)
        return curve.energy(np.full(len(t_ns), from_ns), t_ns, "stored").value_j

    def at(t_ns: Ints) -> Floats:
        every_j = followed_j(np.concatenate([[from_ns], t_ns, [to_ns]]))
        all_j = float(every_j[-1] - every_j[0])
        scaled: Floats = (every_j[1:-1] - every_j[0]) * (whole_j / all_j if all_j > 0.0 else np.nan)
        return scaled

    return at


@dataclass(frozen=True, slots=True, kw_only=True)
class _Split:
    """What the pieces of work cost beside each other, in units of `StepCosts`.

    fixed: (s,), each stretch's shared cost.  cost: (s,), all of its cost.  own: (p,), each piece's own cost per ns.
    """

    work: Work
    cut: Stretches
    active: Ints
    fixed: Floats
    cost: Floats
    own: Floats

    @classmethod
    def of(cls, work: Work, cut: Stretches, active: Ints, costs: StepCosts, step_ns: Ints | None) -> "_Split":
        tokens = (
            costs.prefill_token * work.prefill_tokens
            + costs.output_token * work.output_tokens
            + costs.context_token * work.context_tokens
        )
        together, own = cut.total(tokens / (work.to_ns - work.from_ns))
        tokens_cost = together * cut.length_ns
        fixed = costs.step * cut.steps(work, step_ns) if costs.step else np.zeros(len(active))
        fixed = np.where((active > 0) & (fixed + tokens_cost <= 0), 1.0, fixed)
        return cls(work=work, cut=cut, active=active, fixed=fixed, cost=fixed + tokens_cost, own=own)

    def shared(self, spent_j: Floats, n: int) -> tuple[Floats, Floats]:
        """Return each request's energy and its marginal part, (n,), J, of energies spent_j, (s,)."""
        busy: Bools = self.active > 0
        price = np.divide(spent_j, self.cost, out=np.zeros(len(spent_j)), where=busy)  # J a unit of cost
        equal = np.divide(price * self.fixed, self.active, out=np.zeros(len(spent_j)), where=busy)
        marginal_j = self.own * self._over_pieces(price * self.cut.length_ns)
        energy_j = self._over_pieces(equal) + marginal_j
        return self.work.by_request(energy_j, n), self.work.by_request(marginal_j, n)

    def _over_pieces(self, each: Floats) -> Floats:
        """Return Σ over the stretches of each piece, (p,), of a quantity (s,).

        As a difference of running sums, in extended precision where the machine has it.
        """
        running = np.concatenate([[0.0], np.cumsum(each, dtype=np.longdouble)])
        total: Floats = (running[self.cut.last] - running[self.cut.first]).astype(np.float64)
        return total


def _costs_of(policy: Policy, costs: StepCosts) -> StepCosts:
    match policy:
        case "run-average" | "time-share":
            return _TIME_ALONE
        case "token-share":
            return _PLAIN_TOKENS
        case "weighted-tokens":
            return StepCosts(
                step=0.0,
                prefill_token=costs.prefill_token,
                output_token=costs.output_token,
                context_token=costs.context_token,
                source=costs.source,
            )
        case "affine-shapley":
            return costs


def _output_shares(work: Work, n: int) -> Floats:
    """Return each request's share of all output tokens, (n,); equal shares where there are none."""
    tokens = work.by_request(work.output_tokens, n)
    if tokens.sum() <= 0:
        tokens = (work.by_request(np.ones(len(work)), n) > 0).astype(np.float64)
    total = float(tokens.sum())
    return tokens / total if total > 0 else tokens
