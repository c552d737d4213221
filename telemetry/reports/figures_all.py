"""All figures of a report, and a sentence for each that it has no data for."""

from collections.abc import Mapping, Sequence
from typing import Any

from telemetry.join.series import RunSeries
from telemetry.reports.figures import Figure
from telemetry.reports.figures_runs import energy_against, ranked_settings, ranking, split
from telemetry.reports.figures_time import timeline

Document = Mapping[str, Any]

MOST_TIMELINES = 8


def runs_over_time(report: Document) -> list[Document]:
    """Return the runs that get a timeline: the newest of each setting, thriftiest first, then the newest others."""
    first = [runs[-1] for _, runs in ranked_settings(report)]
    others = [run for warmup in (False, True) for run in reversed(report["runs"]) if run["warmup"] == warmup]
    chosen = {run["run"]: run for run in [*first, *others] if run["devices"]}
    return list(chosen.values())[:MOST_TIMELINES]


def figures_of(report: Document, series: Sequence[RunSeries]) -> tuple[list[Figure], list[str]]:
    """Return the figures of a report, those of single runs last, and what is not drawn and why."""
    settings = ranked_settings(report)
    drawn = {
        "Ranking": (ranking(settings), "no measured run that ended well has both an energy and counted output tokens"),
        "Energy against latency": (energy_against(settings, "latency"), _FEW.format("a time per output token")),
        "Energy against throughput": (energy_against(settings, "throughput"), _FEW.format("counted tokens")),
        "Where the energy went": (split(report, settings), "no run has an energy that is resolved"),
    }
    notes = [f"{name} is not drawn: {why}." for name, (figure, why) in drawn.items() if figure is None]
    runs = {run["run"]: run for run in report["runs"]}
    over_time = [timeline(runs[each.run], each, k) for k, each in enumerate(series, start=1)]
    if left_out := len(runs) - len(series):
        notes.append(
            f"{len(series)} runs are shown over time, the newest of each setting first; {left_out} are not. "
            "Name runs, as in `telemetry report RUN --format html`, to see others."
        )
    return [*(figure for figure, _ in drawn.values() if figure), *over_time], notes


_FEW = "it takes two settings with both energy per token and {}"
