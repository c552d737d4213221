"""The figures that compare settings: ranking, energy against latency and throughput, where the energy went."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from telemetry.analysis.rows import Floats
from telemetry.join.groups import measured
from telemetry.reports import figures_sql as sql
from telemetry.reports.figures import Axis, Bars, Figure, Line, Mark, Panel, Points, floats, spread_out
from telemetry.reports.wording import by_rank, per_output_token, printable

Document = Mapping[str, Any]
Setting = tuple[Document, list[Document]]  # a group of the report, and its runs

MOST_ROWS = 40  # settings in a figure with a row for each; the tables hold all
MOST_POINTS = 300
PARTS = ("prefill", "decode", "idle", "unattributed", "other runs", "not told apart")
LEAST_SHARE = 0.002  # of a bar, below which nobody sees a part
RANKING_CAPTION = (
    "Points: joules of all measured runs of a setting over their output tokens. Bars: 95 % confidence interval over "
    "its runs; a point without one is a single run. Settings of one rank cannot be told apart."
)
AGAINST_CAPTION = (
    "The front joins the settings of which none other is both thriftier and {}. Bars up and down: 95 % confidence "
    "interval of the energy; bars across: the least and the most of the setting's runs."
)
SPLIT_CAPTION = (
    "Mean of a setting's runs. Prefill and decode: while a prompt was read, while tokens came; measured where requests "
    "followed one another, else modelled, and then idle is the part that did not depend on the requests. Unattributed: "
    "while no request ran. Not told apart: of requests whose phases could be neither measured nor modelled. Point: "
    "what the devices would have drawn anyway, by the baseline of the loaded model; it is part of the bar."
)


def group_name(by: Document) -> str:
    """Return settings as people say them: the model, then each other one with its name; of a hash the beginning."""
    told = {k: printable(v)[:8] if k == "environment" else printable(v) for k, v in by.items()}
    return ", ".join(v if k == "model" else f"{k.replace('_', ' ')} {v}" for k, v in told.items())


def ranked_settings(report: Document) -> list[Setting]:
    """Return the settings that have a rank, each with its measured runs, the thriftiest first."""
    groups = [group for group in by_rank(report["groups"]) if group["rank"] is not None]
    names = list(groups[0]["by"]) if groups else []  # those of all groups
    runs: dict[tuple[Any, ...], list[Document]] = defaultdict(list)
    for run in measured(report["runs"]):
        runs[tuple(run[name] for name in names)].append(run)
    return [(group, runs[tuple(group["by"].values())]) for group in groups]


def ranking(settings: Sequence[Setting]) -> Figure | None:
    """Return energy per token of each setting with its confidence interval; None where nothing can be ranked."""
    shown = settings[:MOST_ROWS]
    if not shown:
        return None
    mean, lo, hi = _per_token(shown)
    names = tuple(group_name(group["by"]) for group, _ in shown)
    row = np.arange(len(shown), dtype=np.float64)
    ranks = np.array([group["rank"] for group, _ in shown])
    marks = tuple(
        Points(name=f"rank {rank}", x=mean[at], y=row[at], x_lo=lo[at], x_hi=hi[at], labels=_picked(names, at))
        for rank in dict.fromkeys(ranks.tolist())
        for at in [np.flatnonzero(ranks == rank)]
    )
    return Figure(
        key="ranking",
        title=f"Ranking: {_ranked_by(shown)}",
        x=Axis(name=_ranked_by(shown), unit="J", log=spread_out(mean)),
        panels=(Panel(y=Axis(name="setting"), rows=names, marks=marks, height=30 + 36 * len(shown)),),
        caption=RANKING_CAPTION + _left_out(settings, shown),
        sql=(sql.settings(_ids(shown)) + _gross(shown),),
        simulated=_simulated(shown),
    )


def energy_against(settings: Sequence[Setting], what: str) -> Figure | None:
    """Return energy per token against `latency` or `throughput`, with the Pareto front; None below two settings."""
    latency = what == "latency"
    name, unit, of, statement = (
        ("time per output token", "ms", _tpot_ms, sql.latency)
        if latency
        else ("output tokens a second", "1/s", _tokens_per_s, sql.throughput)
    )
    told = [(group, runs) for group, runs in settings if any(of(run) is not None for run in runs)]
    if len(told) < 2:
        return None
    shown = told[:MOST_POINTS]
    values = [floats([of(run) for run in runs]) for _, runs in shown]
    x, x_lo, x_hi = (floats([reduce(each) for each in values]) for reduce in (np.nanmean, np.nanmin, np.nanmax))
    y, y_lo, y_hi = _per_token(shown)
    front = _front(x if latency else -x, y)
    names = tuple(group_name(group["by"]) for group, _ in shown)
    single: tuple[Mark, ...] = ()
    if sum(len(runs) for _, runs in shown) <= MOST_POINTS:
        joules = "net_j" if _above_idle(shown) else "value_j"
        each_y = floats([run["energy"][joules] / run["output_tokens"] for _, runs in shown for run in runs])
        labels = tuple(printable(uid)[:8] for uid in _ids(shown))
        single = (Points(name="single runs", x=np.concatenate(values), y=each_y, labels=labels, faint=True),)
    marks = (
        *single,
        Line(name="Pareto front", x=x[front], y=y[front], dashed=True),
        Points(name="settings", x=x, y=y, x_lo=x_lo, x_hi=x_hi, y_lo=y_lo, y_hi=y_hi, labels=names),
    )
    better = "faster" if latency else "of more throughput"
    return Figure(
        key=f"energy-{what}",
        title=f"Energy against {what}",
        x=Axis(name=name, unit=unit, log=spread_out(x)),
        panels=(Panel(y=Axis(name=_ranked_by(shown), unit="J", log=spread_out(y)), marks=marks, height=320),),
        caption=AGAINST_CAPTION.format(better) + _left_out(told, shown),
        sql=(statement(_ids(shown)) + _gross(shown),),
        simulated=_simulated(shown),
    )


def split(report: Document, settings: Sequence[Setting]) -> Figure | None:
    """Return where the joules of each setting's runs went, or of each run without one; None without any energy."""
    named = [(group_name(group["by"]), runs) for group, runs in settings]
    named = named or [(printable(run["run"])[:8], [run]) for run in report["runs"]]
    every = [(name, runs, parts) for name, runs in named if (parts := energy_parts(runs))]
    if not every:
        return None
    shown = every[:MOST_ROWS]
    names = [p for p in PARTS if any(of.get(p, 0.0) > LEAST_SHARE * sum(of.values()) for _, _, of in shown)]
    bars: list[Mark] = [Bars(name=part, x=floats([of.get(part) for _, _, of in shown])) for part in names]
    return Figure(
        key="split",
        title="Where the energy went",
        x=Axis(name="energy of a run", unit="J", zero=True),
        panels=(
            Panel(
                y=Axis(name="setting"),
                rows=tuple(name for name, _, _ in shown),
                marks=(*bars, *_idle_floor(shown)),
                height=30 + 36 * len(shown),
            ),
        ),
        caption=SPLIT_CAPTION + _left_out(every, shown),
        sql=(sql.parts([run["run"] for _, runs, _ in shown for run in runs]),),
        simulated=any(run["simulated"] for _, runs, _ in shown for run in runs),
    )


def energy_parts(runs: Sequence[Document]) -> dict[str, float]:
    """Return the mean energy of runs by part, J, the last what is left of the whole. Empty without an energy."""
    known = [run for run in runs if run["energy"]["value_j"] is not None]
    if not known:
        return {}
    modelled = known[0]["phases"].get("label") == "modelled"
    told = {
        "prefill": [_value(run["phases"].get("prefill_j")) for run in known],
        "decode": [_value(run["phases"].get("decode_j")) for run in known],
        "idle": [_value(run["phases"].get("base_j")) for run in known],
        "unattributed": [
            None if modelled and _value(run["phases"].get("base_j")) else run["unattributed_j"] for run in known
        ],
        "other runs": [run["others_j"] for run in known],
    }
    parts = {part: float(np.mean(floats(values))) for part, values in told.items() if None not in values}
    total = float(np.mean([run["energy"]["value_j"] for run in known]))
    return parts | {"not told apart": max(0.0, total - sum(parts.values()))}


def _value(entry: Document | None) -> float | None:
    return None if entry is None else entry["value"]


def _idle_floor(parts: Sequence[tuple[str, list[Document], dict[str, float]]]) -> list[Mark]:
    """Return a mark at the energy that the devices would have drawn without any work; none without a baseline."""
    energies = [[run["energy"] for run in runs if run["energy"]["value_j"] is not None] for _, runs, _ in parts]
    idle = floats(
        [np.mean([np.nan if e["net_j"] is None else e["value_j"] - e["net_j"] for e in each]) for each in energies]
    )
    at = np.flatnonzero(np.isfinite(idle))
    if not len(at):
        return []
    return [
        Points(name="idle baseline", x=idle[at], y=at.astype(np.float64), labels=_picked([n for n, _, _ in parts], at))
    ]


def _front(worse: Floats, y: Floats) -> np.ndarray[Any, np.dtype[np.intp]]:
    """Return the indices of the points of which none other is at most as bad in both, from the least of `worse` on."""
    order = [k for k in np.lexsort((y, worse)) if np.isfinite(worse[k]) and np.isfinite(y[k])]
    least = np.minimum.accumulate([y[k] for k in order])
    return np.array([k for n, k in enumerate(order) if n == 0 or y[k] < least[n - 1]], dtype=np.intp)


def _tpot_ms(run: Document) -> float | None:
    mean = (run["tpot_s"] or {}).get("mean")
    return None if mean is None else 1000 * mean


def _tokens_per_s(run: Document) -> float | None:
    value: float | None = run["tokens_per_s"]
    return value


def _picked(names: Sequence[str], at: Any) -> tuple[str, ...]:
    return tuple(names[k] for k in at)


def _per_token(settings: Sequence[Setting]) -> tuple[Floats, Floats, Floats]:
    """Return each setting's energy per output token and its confidence interval."""
    each = [group["j_per_output_token"] for group, _ in settings]
    mean, lo, hi = (floats([per[key] for per in each]) for key in ("mean", "ci_lo", "ci_hi"))
    return mean, lo, hi


def _above_idle(settings: Sequence[Setting]) -> bool:
    return "above idle" in per_output_token([group for group, _ in settings])


def _ranked_by(settings: Sequence[Setting]) -> str:
    return "energy above idle per output token" if _above_idle(settings) else "energy per output token"


def _gross(settings: Sequence[Setting]) -> str:
    return sql.GROSS if _above_idle(settings) else ""


def _left_out(every: Sequence[Any], shown: Sequence[Any]) -> str:
    return f" The first {len(shown)} of {len(every)} by rank are shown." if len(every) > len(shown) else ""


def _ids(settings: Sequence[Setting]) -> list[str]:
    return [run["run"] for _, runs in settings for run in runs]


def _simulated(settings: Sequence[Setting]) -> bool:
    return any(run["simulated"] for _, runs in settings for run in runs)
