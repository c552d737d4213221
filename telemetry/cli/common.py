"""What the commands share: options, and printing in the asked format."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from telemetry.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table


class Format(StrEnum):
    """How a result is printed."""

    table = "table"
    json = "json"
    csv = "csv"
    md = "md"


class ReportFormat(StrEnum):
    """How a report of runs is printed."""

    table = "table"
    json = "json"
    csv = "csv"
    md = "md"
    html = "html"


StoreOption = Annotated[str | None, typer.Option("--store", help="The store's file (TELEMETRY_STORE).")]
SourceOption = Annotated[
    str | None, typer.Option("--source", help="auto, nvml, rapl, nvml,rapl, simulated[:PRESET,…] or replay:FILE.")
]
GpusOption = Annotated[str | None, typer.Option("--gpus", help="all, or NVML indices and UUIDs separated by commas.")]
IntervalOption = Annotated[float | None, typer.Option("--interval", help="Seconds between polls of a device (0.02).")]
FormatOption = Annotated[Format, typer.Option("--format", help="How to print the result.")]
ReportFormatOption = Annotated[ReportFormat, typer.Option("--format", help="How to print the report.")]
FiguresOption = Annotated[
    Path | None, typer.Option("--figures", help="Also write each figure as PNG and SVG into this folder.")
]
MethodOption = Annotated[
    str, typer.Option("--method", help="An estimator of docs/measurement.md in place of the one chosen.")
]
OutputOption = Annotated[Path | None, typer.Option("-o", "--output", help="A file instead of stdout.")]


def say(words: str) -> None:
    """Print words for people, to stderr."""
    typer.echo(words, err=True)


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[..., None]]:
    """Show (done, total, and what is done where that changes) on stderr where that is a terminal, and nothing after."""
    if not sys.stderr.isatty():
        yield lambda done, total, words="": None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        shown = bar.add_task(escape(what), total=None)  # paths and names may hold brackets
        yield lambda done, total, words="": bar.update(
            shown, completed=done, total=total, description=escape(words or what)
        )


def lined_table(names: Sequence[str], rows: Iterable[Sequence[object]]) -> "Table":
    """Lay rows out. Cells are text, never markup; None is left empty; what is too long is folded and never cut."""
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for name in names:
        table.add_column(Text(name), overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    return table


def show(
    document: Any,
    form: Format,
    output: Path | None,
    *,
    table: Callable[[Any, Any], None],
    csv: Callable[[Any], str],
    md: Callable[[Any], str],
) -> None:
    """Print a document in the asked format, to stdout or a file."""
    from telemetry.reports import to_json

    if form is Format.table:
        from rich.console import Console

        if output is None:
            table(document, Console(width=None if sys.stdout.isatty() else 120))
            return
        page = StringIO()
        table(document, Console(file=page, width=120))
        emit(page.getvalue(), output)
    elif form is Format.json:
        emit(to_json(document), output)
    else:
        emit((csv if form is Format.csv else md)(document), output)


def emit(text: str | bytes, output: Path | None) -> None:
    """Print text, or its UTF-8, to stdout or a file."""
    if output is None:
        typer.echo(text, nl=False)  # every text ends in a newline
        return
    try:
        output.write_bytes(text.encode() if isinstance(text, str) else text)
    except OSError as error:
        raise UsageError(f"{output} cannot be written: {error.strerror}. Give another file with -o.") from error
