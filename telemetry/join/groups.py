"""Runs of equal settings taken together: means with intervals, ranks, and a verdict."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from telemetry.analysis import Arm, arm_interval, ranked, summary
from telemetry.analysis.bootstrap import t_interval
from telemetry.analysis.quality import MIN_RUNS
from telemetry.analysis.statistics import mean_interval
from telemetry.errors import UsageError
from telemetry.join.baselines import BASELINE
from telemetry.storage.reader import SETTINGS

Run = Mapping[str, Any]
SEED = 0  # of resampling: the same report each time
TELLING = (*SETTINGS, "boundary")  # what runs must share to be a group
# Sums of joules over sums of these; and plain means over runs of what is no ratio of sums.
RATIOS: Mapping[str, Callable[[Run], int]] = {
    "j_per_output_token": lambda run: 0 if run["uncounted_requests"] else run["output_tokens"],
    "j_per_total_token": lambda run: 0 if run["uncounted_requests"] else run["input_tokens"] + run["output_tokens"],
    "j_per_input_token": lambda run: run["input_tokens"],
    "j_per_request": lambda run: run["requests"]["ok"] + run["requests"]["failed"],
}
MEANS = (
    "tokens_per_s", "tokens_per_s_per_w", "avg_power_w", "edp_js", "mean_running_requests", "pct_of_power_limit",
    "max_memory_used_bytes", "ttft_s", "tpot_s", "itl_s", "e2e_s",
)  # fmt: skip


def groups(runs: Sequence[Run], by: Sequence[str] = (), *, net: bool = False) -> list[dict[str, Any]]:
    """Return measured runs of equal settings together, ranked by J/output token; a group of unknowns has no rank.

    by: what groups share instead. Runs that differ in anything else are listed together and still not pooled: such a
    group has no J/token and no rank, and says `unlike_environments`. net: joules above the idle power B1.
    Raises UsageError for a name that runs do not have.
    """
    grouped = measured(runs)
    if unknown := [name for name in by if grouped and name not in grouped[0]]:
        raise UsageError(f"Runs have no {unknown[0]}. Group them by names of the report, such as model,batch_size.")
    members: dict[tuple[Any, ...], list[Run]] = defaultdict(list)
    for run in grouped:
        members[tuple(run[name] for name in by or TELLING)].append(run)
    alike = {s for s, some in members.items() if not by or len({tuple(r[n] for n in TELLING) for r in some}) == 1}
    arms = {
        settings: arm
        for settings, some in members.items()
        if settings in alike and (arm := _arm(some, "j_per_output_token", net=net))
    }
    places = dict(zip(arms, ranked(list(arms.values())), strict=True))
    names = {settings: dict(zip(by, settings, strict=True)) for settings in members} if by else _names(members)
    return [
        {
            "by": names[settings],
            "n_runs": len(some),
            "simulated": any(run["simulated"] for run in some),
            "boundary": some[0]["boundary"],
            "j_per_output_token": _ranked_by(arms.get(settings), net=net),
            "metrics": _metrics(some if settings in alike else []),
            "rank": places[settings].rank if settings in places else None,
            "tied_with": [names[list(arms)[k]] for k in places[settings].tied_with] if settings in places else [],
            "verdict": _verdict(some, alike=settings in alike),
        }
        for settings, some in members.items()
    ]


def measured(runs: Sequence[Run]) -> list[Run]:
    """Return the runs that groups are made of: neither failed nor warm-ups nor baselines."""
    return [run for run in runs if run["status"] == "ok" and not run["warmup"] and run["runner"] != BASELINE]


def _names(members: Mapping[tuple[Any, ...], Sequence[Run]]) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Return what tells each group from the others; a hash of its environment only where nothing else does."""
    firsts = {settings: some[0] for settings, some in members.items()}
    plain = [n for n in TELLING if n != "environment"]
    plain = [n for n in plain if n == "model" or len({run[n] for run in firsts.values()}) > 1]
    one_each = all(len({run["setting"] for run in some} - {None}) == 1 for some in members.values())
    for more in ([], ["setting"] if one_each else [], ["environment"]):
        names = {settings: {n: run[n] for n in (*plain, *more)} for settings, run in firsts.items()}
        if len({tuple(name.values()) for name in names.values()}) == len(names):
            break
    return names


def _arm(runs: Sequence[Run], name: str, *, net: bool = False) -> Arm | None:
    """Return runs as one arm of a comparison; None where one has no energy, or nothing to share it among."""
    energy = [run["energy"]["net_j" if net else "value_j"] for run in runs]
    shared = [RATIOS[name](run) for run in runs]
    if not runs or any(not joules or joules < 0 for joules in energy) or not all(shared):
        return None
    return Arm(energy_j=np.array(energy, dtype=np.float64), tokens=np.array(shared, dtype=np.float64))


def _ranked_by(arm: Arm | None, *, net: bool) -> dict[str, Any]:
    likely = arm_interval(arm, seed=SEED) if arm else None
    method = f"sum of {'joules above idle' if net else 'joules'} / sum of output tokens"
    each = arm.energy_j / arm.tokens if arm else np.empty(0)
    return {
        "mean": arm.value if arm else None,
        "ci_lo": likely and likely.lo,
        "ci_hi": likely and likely.hi,
        "method": method + (f"; 95 % interval: {likely.method}" if likely else ""),
        "p50": summary(each).p50,
        "n": len(each),
    }


def _metrics(runs: Sequence[Run]) -> dict[str, Any]:
    """Return each metric over the runs that have it, with Student's 95 % interval from two on."""
    found = {}
    for name in RATIOS:
        arm = _arm(runs, name)
        likely = t_interval(arm) if arm else None
        found[name] = _mean(arm.value if arm else None, likely, len(arm) if arm else 0)
    for name in MEANS:
        values = _values(runs, name)
        likely = mean_interval(values)
        found[name] = _mean(float(np.mean(values)) if values else None, likely, len(values))
    return found


def _mean(mean: float | None, likely: Any, n: int) -> dict[str, Any]:
    return {"mean": mean, "ci_lo": likely and likely.lo, "ci_hi": likely and likely.hi, "n": n}


def _values(runs: Sequence[Run], name: str) -> list[float]:
    """Return a metric of the runs that have it: of a latency its mean, of the memory the most of any device."""
    if name == "max_memory_used_bytes":
        found = (max((used for d in run["devices"] if (used := d[name]) is not None), default=None) for run in runs)
    elif runs and isinstance(runs[0][name], dict):
        found = (run[name]["mean"] for run in runs)
    else:
        found = (run[name] for run in runs)
    return [value for value in found if value is not None]


def _verdict(runs: Sequence[Run], *, alike: bool) -> dict[str, Any]:
    """Return whether the runs together may be published: each of them, enough of them, and all of one setting."""
    few = ["too_few_runs"] * (len(runs) < MIN_RUNS) + ["unlike_environments"] * (not alike)
    each = [reason for run in runs for reason in run["verdict"]["reasons"] if reason != "too_few_runs"]
    reasons = list(dict.fromkeys(few + each))
    return {"publishable": not reasons, "reasons": reasons}
