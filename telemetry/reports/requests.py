"""The requests of a report's runs, one row each: table, CSV, Markdown."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console

from telemetry.reports.flat import rows_csv
from telemetry.reports.render import Fields, document_markdown, entries_markdown, entries_table, loud, newest
from telemetry.reports.wording import format_number, printable, short, simulated_line

Document = Mapping[str, Any]
_CSV = (
    *("run", "number", "status", "input_tokens", "cached_tokens", "output_tokens", "ttft_s", "e2e_s"),
    *("energy_j", "marginal_j", "of"),
)


def _number(name: str) -> Callable[[Document], str]:
    return lambda entry: format_number(entry[name])


_FIELDS: Fields = {
    "run": lambda entry: short(entry["run"]),
    "request": lambda entry: printable(entry["number"]),
    "status": lambda entry: printable(entry["status"]),
    "in": _number("input_tokens"),
    "cached": _number("cached_tokens"),
    "out": _number("output_tokens"),
    "TTFT s": _number("ttft_s"),
    "E2E s": _number("e2e_s"),
    "J": _number("energy_j"),
    "marginal J": _number("marginal_j"),
    "of": lambda entry: printable(entry["of"]),
}


def requests_table(report: Document, console: Console) -> None:
    """Print the requests of a report, the newest where they are many."""
    loud(simulated_line(report), console)
    entries = newest(_entries(report), console, "requests")
    console.print(entries_table(entries, _FIELDS) if entries else "There are no requests.")


def requests_csv(report: Document) -> str:
    """Return a header and one row a request."""
    return rows_csv(_CSV, ([entry[key] for key in _CSV] for entry in _entries(report)))


def requests_markdown(report: Document) -> str:
    """Return the requests of a report as Markdown."""
    return document_markdown(simulated_line(report), [entries_markdown(_entries(report), _FIELDS)], [])


def _entries(report: Document) -> Sequence[Document]:
    return [
        entry | {"run": run["run"], "of": run["j_per_request"]["of"]}
        for run in report["runs"]
        for entry in run["per_request"]
    ]
