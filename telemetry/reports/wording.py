"""Numbers, intervals and reasons as people read them. What was not measured is a dash, never a 0."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from telemetry.analysis import FLAGS

NOTHING = "–"
SIMULATED = "SIMULATED: no hardware was measured for {}. These numbers say nothing about a real GPU."

REASONS = {
    "too_few_runs": "Fewer than five measured runs of these settings exist; repeat the run.",
    "simulated": "The device is simulated.",
    "replay": "The readings were replayed from a recording.",
    "quick": "It was a quick one, made to see that everything works.",
    "gate_timeout": "The devices were not idle and cool when it began, and the longest wait was over.",
    "not_interleaved": "One was measured wholly before the other: a drift between them looks like an effect.",
    "unlike_environments": "Its runs differ in more than the group's name says, and such are never pooled.",
    "failed_run": "The run failed: what it was to do was not done.",
    "failed_requests": "Some requests failed, so energy was spent on answers that are not counted.",
    "uncounted_tokens": "The server did not count its tokens; pieces of text are none, so no energy is told per token.",
    "grade_c": "The bounds are wider than 5 % of the energy; measure for longer.",
    "grade_u": "The energy is unresolved; measure for longer.",
}


def format_number(value: float | None, unit: str = "") -> str:
    """Return up to four significant digits and the unit; a dash for None, NaN and infinities."""
    if value is None or not math.isfinite(value):
        return NOTHING
    rounded = float(f"{value:.4g}")
    # `g` alone would turn 12345 into 1.234e+04.
    text = f"{rounded:.0f}" if 1000 <= abs(rounded) < 1e12 else f"{rounded:.4g}"
    return f"{text} {unit}" if unit else text


def interval(value: float | None, lo: float | None, hi: float | None, unit: str = "") -> str:
    """Return `4000 [3966..4034] J`; `0-27 J` where only bounds are known, `4000 J` where they are not."""
    point, low, high = format_number(value), format_number(lo), format_number(hi)
    bounded = NOTHING not in (low, high)
    if point == NOTHING and not bounded:
        return NOTHING
    if point == NOTHING:
        text = f"{low} to {high}" if low.startswith("-") else f"{low}-{high}"
    else:
        text = f"{point} [{low}..{high}]" if bounded else point
    return f"{text} {unit}" if unit else text


def bounds(entry: Mapping[str, Any] | None, suffix: str = "", unit: str = "") -> str:
    """Return the interval of a `{value, lo, hi}` object whose keys end in `suffix`."""
    entry = entry or {}
    value, lo, hi = (entry.get(f"{key}{suffix}") for key in ("value", "lo", "hi"))
    return interval(value, lo, hi, unit)


def resolved(entry: Mapping[str, Any] | None, energy: Mapping[str, Any], suffix: str = "", unit: str = "") -> str:
    """Return `bounds`, without the point value where the grade of the energy it comes from says unresolved."""
    if entry and energy["grade"] == "U":
        entry = {**entry, f"value{suffix}": None}
    return bounds(entry, suffix, unit)


def request_energy(run: Mapping[str, Any]) -> str:
    """Return the mean energy of a run's requests, and where enough give one the median of what they are charged."""
    each = run["j_per_request"] or {}
    mean = resolved(each, run["energy"])
    return f"{mean} p50 {format_number(each['p50'])} {each['of']}" if each.get("p50") is not None else mean


def net(energy: Mapping[str, Any]) -> str:
    """Return the energy above idle with its bounds and baseline; `active` where only that of bare idle is known."""
    if energy.get("net_j") is not None:
        joules = interval(energy["net_j"], energy.get("net_lo_j"), energy.get("net_hi_j"), "J")
        return f"{joules} above {printable(energy['baseline'])}"
    if energy.get("active_j") is not None:
        return f"{format_number(energy['active_j'], 'J')} above {printable(energy.get('active_baseline'))}"
    return NOTHING


def per_output_token(groups: Sequence[Mapping[str, Any]]) -> str:
    """Return what groups are ranked by: joules per output token, and whether they are those above idle alone."""
    above = any("above idle" in group["j_per_output_token"]["method"] for group in groups)
    return "J above idle per output token" if above else "J per output token"


def by_rank(groups: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return groups as they are listed: the thriftiest first, those without a rank last."""

    def place(group: Mapping[str, Any]) -> tuple[bool, int, float]:
        return group["rank"] is None, group["rank"] or 0, group["j_per_output_token"]["mean"] or 0.0

    return sorted(groups, key=place)


def residual(devices: Sequence[Mapping[str, Any]]) -> str:
    """Return by how much counter and power readings differ, of the device where they differ most; a dash below 10 s."""
    known = [r for device in devices if (r := device.get("counter_residual")) is not None]
    return f"{100 * max(known, key=abs):+.2f} %" if known else NOTHING


def printable(text: object) -> str:
    """Return the text on one line; control characters, which could steer a terminal, become `�`."""
    if text is None or text == "":
        return NOTHING
    return "".join(sign if sign.isprintable() else "�" for sign in str(text))


def middle(latency: Mapping[str, Any] | None) -> str:
    """Return a latency's median where enough requests give one, else its mean, and which it is."""
    for name in ("p50", "mean"):
        text = format_number((latency or {}).get(name))
        if text != NOTHING:
            return f"{text} {name}"
    return NOTHING


def sentence(code: str) -> str:
    """Return what a flag or a reason of a verdict means."""
    if code in REASONS:
        return REASONS[code]
    return FLAGS[code].sentence if code in FLAGS else "This version does not know the code."


def short(uid: object) -> str:
    """Return as much of a run's uid as people type; commands take any beginning of it."""
    return printable(uid)[:8]


def report_notes(report: Mapping[str, Any]) -> list[str]:
    """Return the lines below a report: each flag once, why runs failed, each verdict with the runs it holds for."""
    runs = report["runs"]
    flags = dict.fromkeys(code for run in runs for code in run["flags"])
    lines = [f"{printable(code)}: {sentence(code)}" for code in flags]
    failures: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        if run["status"] == "failed" and run["error"]:
            failures.setdefault(run["error"], []).append(run)
    lines += [f"{_named(members, runs)}: failed. {printable(error)}" for error, members in failures.items()]
    verdicts: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for run in runs:
        reasons = () if run["verdict"]["publishable"] else tuple(run["verdict"]["reasons"])
        verdicts.setdefault(reasons, []).append(run)
    for reasons, members in verdicts.items():
        because = " ".join(f"{sentence(code)} ({printable(code)})" for code in reasons)
        judged = f"not publishable. {because}" if reasons else "publishable."
        lines.append(f"{_named(members, runs)}: {judged}")
    return lines


def simulated_line(report: Mapping[str, Any]) -> str | None:
    """Return the loud line for a report or list that holds simulated runs, None where it holds none."""
    simulated = [run for run in report["runs"] if run["simulated"]]
    return SIMULATED.format(_named(simulated, report["runs"])) if simulated else None


def _named(some: Sequence[Mapping[str, Any]], every: Sequence[Mapping[str, Any]]) -> str:
    if len(some) == len(every) > 1:
        return f"all {len(every)} runs"
    return ", ".join(short(run["run"]) for run in some)
