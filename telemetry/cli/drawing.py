"""What a report as a page, or as pictures, needs from the store beyond its document."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from telemetry.cli.common import say

if TYPE_CHECKING:
    from telemetry.join import Boards
    from telemetry.reports.figures import Figure
    from telemetry.storage.provenance import Provenance
    from telemetry.storage.store import Store


class Drawn(NamedTuple):
    """A report's figures, what none of them shows and why, and what stands behind the runs."""

    figures: "list[Figure]"
    notes: list[str]
    behind: "Provenance"


async def draw(store: "Store", document: Mapping[str, Any], boards: "Boards") -> Drawn:
    """Return what a page and pictures of a report show."""
    from telemetry.join.series import series
    from telemetry.reports.figures_all import figures_of, runs_over_time
    from telemetry.storage.provenance import provenance

    figures, notes = figures_of(document, await series(store, runs_over_time(document), boards))
    return Drawn(figures, notes, await provenance(store, [run["run"] for run in document["runs"]]))


def page(document: Mapping[str, Any], drawn: Drawn) -> str:
    """Return the report as one HTML file."""
    from telemetry.reports.html import to_html

    return to_html(document, *drawn)


def save(drawn: Drawn, folder: Path) -> None:
    """Write the figures as PNG and SVG into a folder."""
    from telemetry.reports.figures_draw import save_figures

    written = save_figures(drawn.figures, folder)
    for note in drawn.notes:
        say(note)
    say(f"{len(written)} files written to {folder}.")
