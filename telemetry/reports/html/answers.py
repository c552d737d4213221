"""The five questions that a report answers on its first screen, and the sentence above them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from telemetry.reports.figures_runs import Setting, energy_parts, group_name, ranked_settings
from telemetry.reports.wording import format_number, interval, per_output_token, printable, sentence

Document = Mapping[str, Any]

UNTOLD = {
    "few_blocks": "a fit of overlapping requests takes ten blocks of 10 s or more",
    "no_token_times": "nobody recorded when tokens came",
    "no_counter": "the device has no energy counter to fit",
    "gap": "the counter's updates do not follow on from each other",
    "shared_device": "other runs used the devices meanwhile",
    "constant_prefill": "the prompts in work hardly vary",
    "constant_step": "the number of steps hardly varies",
    "constant_output": "the outputs in work hardly vary",
    "constant_context": "the contexts hardly vary",
    "condition": "prompts, steps and outputs rise and fall together",
    "r2": "the fit explains too little of what was drawn",
}


def headline(report: Document) -> str:
    """Return the report in one sentence."""
    groups = [group for group, _ in ranked_settings(report)]
    if not report["runs"]:
        return "There are no runs"
    if not groups:
        n = len(report["runs"])
        return f"The energy of {n} runs; no setting can be ranked" if n > 1 else "The energy of one run"
    best = groups[0]
    if len(groups) == 1:
        return f"{group_name(best['by'])}: {_per_token(best)}"
    if best["tied_with"]:
        return f"{group_name(best['by'])} took the least, {_per_token(best)}, but is not told apart from all others"
    return f"{group_name(best['by'])} is the thriftiest: {_per_token(best)}"


def answers(report: Document) -> list[tuple[str, str]]:
    """Return each question and its answer."""
    settings = ranked_settings(report)
    groups = [group for group, _ in settings]
    name, runs = _first(report, settings)
    return [
        ("Which setting is best?", _best(groups)),
        ("Is the difference real?", _real(report, groups)),
        ("What did a request cost?", _request(name, runs)),
        ("Where did the energy go?", _where(name, runs)),
        ("May I publish this?", _publish(report)),
    ]


def _per_token(group: Document) -> str:
    per = group["j_per_output_token"]
    return f"{interval(per['mean'], per['ci_lo'], per['ci_hi'])} {per_output_token([group])}"


def _best(groups: Sequence[Document]) -> str:
    if not groups:
        return "It cannot be told: no measured run that ended well has both an energy and counted output tokens."
    best, *others = groups
    runs = f"{best['n_runs']} measured run{'s' if best['n_runs'] > 1 else ''}"
    text = f"{group_name(best['by'])}, with {_per_token(best)} over {runs}; brackets hold the 95 % confidence interval."
    if not others:
        return f"There is one setting: {text}"
    ratio = others[0]["j_per_output_token"]["mean"] / best["j_per_output_token"]["mean"]
    return f"{text} Next is {group_name(others[0]['by'])}, with {format_number(ratio)} times as much."


def _real(report: Document, groups: Sequence[Document]) -> str:
    unranked = len(report["groups"]) - len(groups)
    rest = f" {unranked} setting{'s' if unranked > 1 else ''} could not be ranked." if unranked else ""
    if len(groups) < 2:
        return "There is nothing to compare." + rest
    best = groups[0]
    if best["tied_with"]:
        others = "; ".join(group_name(by) for by in best["tied_with"][:5])
        more = len(best["tied_with"]) - 5
        others += f"; and {more} more" if more > 0 else ""
        return f"Not shown: at 95 % the first cannot be told apart from {others}. More runs of both may tell." + rest
    return (
        "Yes: at 95 % the first is told apart from every other setting (Welch's t on the logarithm of the ratio, "
        "Holm-adjusted for all pairs). That speaks of these boards; two that are not calibrated may differ by 8 %."
        + rest
    )


def _request(name: str, runs: Sequence[Document]) -> str:
    told = [run for run in runs if run["requests"]["ok"] and run["j_per_request"]["value"] is not None]
    if not told:
        return "No run has both requests and an energy."
    n = sum(run["requests"]["ok"] + run["requests"]["failed"] for run in told)
    mean, lo, hi = (
        None if any(v is None for v in each) else sum(each) / n
        for key in ("value_j", "lo_j", "hi_j")
        for each in [[run["energy"][key] for run in told]]
    )
    text = f"{name}: on average {interval(mean, lo, hi, 'J')} for one of {n} requests; brackets hold measured bounds."
    spread = [run["j_per_request"] for run in told if run["j_per_request"]["p50"] is not None]
    if spread:
        middle, high = (
            [format_number(min(v)), format_number(max(v))]
            if (v := [s[key] for s in spread if s[key] is not None])
            else []
            for key in ("p50", "p95")
        )
        text += f" Half of a run's requests are charged at most {_range(middle)} J, {spread[0]['of']}"
        text += f", 95 % of them at most {_range(high)} J." if high else "."
    return text


def _range(values: Sequence[str]) -> str:
    return " to ".join(dict.fromkeys(values))


def _where(name: str, runs: Sequence[Document]) -> str:
    parts = energy_parts(runs)
    total = sum(parts.values())
    if total <= 0:
        return "No run has an energy that is resolved."
    shares = ", ".join(
        f"{100 * joules / total:.0f} % {part}" for part, joules in parts.items() if joules > 0.005 * total
    )
    text = f"{name}: {shares}, of {format_number(total, 'J')} in a run."
    reasons = dict.fromkeys(code for run in runs for code in run["phases"]["reasons"])
    if reasons:
        because = "; ".join(f"{UNTOLD[code]} ({code})" if code in UNTOLD else printable(code) for code in reasons)
        text += f" Prefill and decode cannot be told apart: {because}."
    net = [r["energy"]["value_j"] - r["energy"]["net_j"] for r in runs if r["energy"]["net_j"] is not None]
    if len(net) == len(runs):
        text += (
            f" {100 * sum(net) / len(net) / total:.0f} % would have been drawn without any work, by the idle baseline."
        )
    return text


def _first(report: Document, settings: Sequence[Setting]) -> tuple[str, list[Document]]:
    """Return the best setting and its runs; all measured runs where no setting is ranked."""
    if settings:
        return group_name(settings[0][0]["by"]), settings[0][1]
    runs = [r for r in report["runs"] if r["energy"]["value_j"] is not None and not r["warmup"]]
    return "All runs" if len(runs) > 1 else "The run", runs


def _publish(report: Document) -> str:
    measured = [run for run in report["runs"] if not run["warmup"]]
    if not measured:
        return "There is no measured run."
    good = sum(run["verdict"]["publishable"] for run in measured)
    if good == len(measured):
        return f"Yes: all {good} measured runs pass." if good > 1 else "Yes."
    why = Counter(code for run in measured for code in run["verdict"]["reasons"])
    because = " ".join(
        f"{sentence(code)} ({printable(code)}{'' if n == len(measured) else f', {n} run' + 's' * (n > 1)})"
        for code, n in why.most_common()
    )
    return f"No. {because}" if not good else f"{good} of {len(measured)} measured runs: yes; the others no. {because}"
