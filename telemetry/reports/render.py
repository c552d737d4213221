"""Report, window and list, which are plain dicts (docs/json.md), as table, JSON and Markdown (CSV: `flat`).

Every text ends in a newline. A number that is null is a dash, never a 0.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import orjson
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from telemetry.reports.wording import (
    NOTHING,
    SIMULATED,
    by_rank,
    format_number,
    interval,
    middle,
    net,
    per_output_token,
    printable,
    report_notes,
    request_energy,
    residual,
    resolved,
    sentence,
    short,
    simulated_line,
)

Document = Mapping[str, Any]
Fields = Mapping[str, Callable[[Document], str]]

MOST_ROWS = 200  # in a table; more than that nobody reads, and rich takes seconds to lay out
WIDE_COLUMNS = 120  # below this a report's table would fold its numbers, so each run becomes a record


def _requests(run: Document) -> str:
    failed = run["requests"]["failed"]
    return f"{run['requests']['ok']}, {failed} failed" if failed else str(run["requests"]["ok"])


def _listed(codes: Iterable[str]) -> str:
    return printable(" ".join(codes))


def _settings(by: Document) -> str:
    return ", ".join(f"{printable(k)}={printable(v)}" for k, v in by.items())


_RUN: Fields = {
    "run": lambda run: short(run["run"]),
    "name": lambda run: printable(run["name"]),
    "model": lambda run: printable(run["model"]),
    "runner": lambda run: printable(run["runner"]),
    "requests": _requests,
    "out tokens": lambda run: printable(run["output_tokens"]),
    "energy": lambda run: resolved(run["energy"], run["energy"], "_j", "J"),
    "net": lambda run: net(run["energy"]),
    "J/token": lambda run: resolved(run["j_per_output_token"], run["energy"]),
    "J/request": request_energy,
    "avg W": lambda run: format_number(run["avg_power_w"]),
    "peak W": lambda run: format_number(run["peak_power_w"]),
    "tok/s": lambda run: format_number(run["tokens_per_s"]),
    "TTFT s": lambda run: middle(run["ttft_s"]),
    "grade": lambda run: printable(run["energy"]["grade"]),
    "kind": lambda run: (
        " ".join(
            word
            for word, holds in (
                ("FAILED", run["status"] == "failed"),
                ("SIMULATED", run["simulated"]),
                ("warm-up", run["warmup"]),
            )
            if holds
        )
        or "measured"
    ),
    "residual": lambda run: residual(run["devices"]),
    "flags": lambda run: _listed(run["flags"]),
}
_RUN_STACKS = (
    ("run", "name"),
    ("model", "runner"),
    ("requests", "out tokens"),
    ("energy", "net", "J/token", "J/request"),
    ("avg W", "peak W"),
    ("tok/s", "TTFT s"),
    ("grade", "kind"),
    ("residual", "flags"),
)
_GROUP: Fields = {
    "rank": lambda group: printable(group["rank"]),
    "group": lambda group: _settings(group["by"]),
    "runs": lambda group: str(group["n_runs"]),
    "J/token": lambda group: interval(*(group["j_per_output_token"][key] for key in ("mean", "ci_lo", "ci_hi"))),
    "tied with": lambda group: printable("; ".join(_settings(other) for other in group["tied_with"])),
}
_WINDOW: Fields = {
    "device": lambda device: printable(device["uid"]),
    "name": lambda device: printable(device["name"]),
    "energy": lambda device: resolved(device["energy"], device["energy"], "_j", "J"),
    "avg W": lambda device: format_number(device["avg_power_w"]),
    "peak W": lambda device: format_number(device["peak_power_w"]),
    "grade": lambda device: printable(device["energy"]["grade"]),
}
_LIST: Fields = {
    "run": lambda run: short(run["run"]),
    "name": lambda run: printable(run["name"]),
    "model": lambda run: printable(run["model"]),
    "start": lambda run: printable(run["start"]),
    "lasted s": lambda run: format_number(run["duration_s"]),
    "status": lambda run: printable(run["status"]) + (" SIMULATED" if run["simulated"] else ""),
}
_FOLDED = {
    "run",
    "name",
    "model",
    "runner",
    "flags",
    "group",
    "tied with",
    "device",
    "grade",
    "kind",
    "status",
    "quantity",
    "B is",
    "what differs",
    "in A",
    "in B",
}


def to_json(document: Document) -> bytes:
    """Return a report, window or list as indented JSON in UTF-8; NaN and infinities become null."""
    # Analysis hands out NumPy's numbers, which orjson refuses unless told.
    options = orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
    return orjson.dumps(document, option=options)


def to_table(report: Document, console: Console) -> None:
    """Print a report: a table at 120 columns or more, else a record a run; then what the flags mean."""
    loud(simulated_line(report), console)
    runs = newest(report["runs"], console)
    fields = _told(runs)
    if not runs:
        console.print("There are no runs.")
    elif console.width >= WIDE_COLUMNS:
        styles = ["dim" if run["warmup"] else "" for run in runs]
        stacks = [tuple(name for name in stack if name in fields) for stack in _RUN_STACKS]
        console.print(entries_table(runs, fields, stacks, styles))
    else:
        for run in runs:
            _record(run, fields, console, style="dim" if run["warmup"] else "")
    if report["groups"]:
        console.print(entries_table(by_rank(report["groups"]), _group_fields(report["groups"])))
    _print_lines(report_notes(report), console)


def to_markdown(report: Document) -> str:
    """Return a report as Markdown: runs, groups where there are any, and what the flags mean."""
    parts = [entries_markdown(report["runs"], _told(report["runs"]))]
    if report["groups"]:
        parts.append(entries_markdown(by_rank(report["groups"]), _group_fields(report["groups"])))
    return document_markdown(simulated_line(report), parts, report_notes(report))


def run_cells(runs: Sequence[Document]) -> tuple[list[tuple[str, ...]], list[list[tuple[str, ...]]]]:
    """Return the head and the rows of a table of runs, as `to_table` lays them out: each cell a stack of texts."""
    fields = _told(runs)
    stacks = [tuple(name for name in stack if name in fields) for stack in _RUN_STACKS]
    return stacks, [[tuple(fields[name](run) for name in stack) for stack in stacks] for run in runs]


def window_table(window: Document, console: Console) -> None:
    """Print a window: its energy, its devices, what it was measured from and what the flags mean."""
    loud(_window_simulated(window), console)
    _print_lines(_window_head(window), console)
    console.print(entries_table(window["devices"], _WINDOW))
    _print_lines(_window_notes(window), console)


def window_markdown(window: Document) -> str:
    """Return a window as Markdown."""
    head = "\n".join(f"- {_escaped(line)}" for line in _window_head(window))
    return document_markdown(
        _window_simulated(window), [head, entries_markdown(window["devices"], _WINDOW)], _window_notes(window)
    )


def list_table(listing: Document, console: Console) -> None:
    """Print the runs of a store."""
    loud(simulated_line(listing), console)
    runs = newest(listing["runs"], console)
    console.print(entries_table(runs, _LIST) if runs else "There are no runs.")


def list_markdown(listing: Document) -> str:
    """Return the runs of a store as Markdown."""
    return document_markdown(simulated_line(listing), [entries_markdown(listing["runs"], _LIST)], [])


def _told(runs: Sequence[Document]) -> Fields:
    """Return the fields of a run; net energy only where one of the runs has it."""
    return _RUN if any(net(run["energy"]) != NOTHING for run in runs) else {k: v for k, v in _RUN.items() if k != "net"}


def _group_fields(groups: Sequence[Document]) -> Fields:
    """Return the fields of a group; what it is ranked by says so where that is joules above idle alone."""
    ranked_by = per_output_token(groups).replace(" per output token", "/token")
    return {ranked_by if name == "J/token" else name: cell for name, cell in _GROUP.items()}


def newest(entries: Sequence[Document], console: Console, what: str = "runs") -> Sequence[Document]:
    """Return the last of the entries, saying how many are left out."""
    if len(entries) > MOST_ROWS:
        others = "Name runs to see others; " if what == "runs" else ""
        console.print(
            f"The newest {MOST_ROWS} of {len(entries)} {what} are shown. {others}--format csv, json and md hold all."
        )
    return entries[-MOST_ROWS:]


def _window_head(window: Document) -> list[str]:
    energy, source = window["energy"], window["source"]
    joules = resolved(energy, energy, "_j", "J")
    duration, gap = (format_number(v, "s") for v in (window["duration_s"], source["largest_gap_s"]))
    polled, refreshed = (format_number(source[key], "Hz") for key in ("poll_hz", "refresh_hz"))
    return [
        f"{printable(window['from'])} to {printable(window['to'])}, {duration}",
        f"energy: {joules}, grade {printable(energy['grade'])}, by {printable(energy['method'])}",
        f"from {printable(source['column'])}: {printable(source['samples'])} samples, polled at {polled}, "
        f"refreshed at {refreshed}, largest gap {gap}",
    ]


def _window_notes(window: Document) -> list[str]:
    return [f"{printable(code)}: {sentence(code)}" for code in window["flags"]]


def _window_simulated(window: Document) -> str | None:
    return SIMULATED.format("this window") if window.get("simulated") else None


def entries_table(
    entries: Sequence[Document],
    fields: Fields,
    stacks: Sequence[tuple[str, ...]] = (),
    styles: Sequence[str] = (),
) -> Table:
    """Lay entries out; the fields of a stack share a column, one below the other."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 0), leading=1 if stacks else 0)
    stacks = stacks or [(name,) for name in fields]
    for stack in stacks:
        text = set(stack) <= _FOLDED
        table.add_column(Text("\n".join(stack)), justify="left" if text else "right", no_wrap=not text, overflow="fold")
    for entry, style in zip(entries, styles or [""] * len(entries), strict=True):
        # Text, for a model's name may hold brackets that rich would take for markup.
        table.add_row(*(Text("\n".join(fields[f](entry) for f in stack)) for stack in stacks), style=style)
    return table


def _record(entry: Document, fields: Fields, console: Console, *, style: str) -> None:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, cell in fields.items():
        grid.add_row(Text(name), Text(cell(entry)), style=style)
    console.print(grid)
    console.print()


def loud(line: str | None, console: Console) -> None:
    """Print a line that nobody overlooks, where there is one."""
    if line:
        console.print(Text(line, style="bold white on red"))


def _print_lines(lines: Iterable[str], console: Console) -> None:
    for line in lines:
        console.print(Text(line))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def entries_markdown(entries: Sequence[Document], fields: Fields) -> str:
    """Return a Markdown table of these fields of entries."""
    rows = [list(fields), ["---"] * len(fields)]
    rows += [[_escaped(cell(entry)) for cell in fields.values()] for entry in entries]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def document_markdown(simulated: str | None, parts: Sequence[str], notes: Sequence[str]) -> str:
    """Return Markdown: that it is simulated, where it is; the parts; and the notes as a list."""
    loud = [f"**{_escaped(simulated)}**"] if simulated else []
    below = ["\n".join(f"- {_escaped(note)}" for note in notes)] if notes else []
    return "\n\n".join([*loud, *parts, *below]) + "\n"
