"""list, show, report, analyse, window: what the store says."""

from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any

import typer

from telemetry.cli.asking import ask, known_boards, renderers_of_runs
from telemetry.cli.common import (
    FiguresOption,
    Format,
    FormatOption,
    MethodOption,
    OutputOption,
    ReportFormat,
    ReportFormatOption,
    StoreOption,
    emit,
    progress_bar,
    say,
)
from telemetry.cli.common import show as print_document
from telemetry.cli.drawing import draw, page, save
from telemetry.errors import UsageError

LAST_S = 9_223_372_036  # beyond this, nanoseconds do not fit into 64 bits


def list_runs(store: StoreOption = None, form: FormatOption = Format.table, output: OutputOption = None) -> None:
    """List the runs in the store."""
    from telemetry.join import listing
    from telemetry.reports import list_csv, list_markdown, list_table

    document = ask(store, listing, read_only=True)
    print_document(document, form, output, table=list_table, csv=list_csv, md=list_markdown)


def show(
    run: Annotated[str, typer.Argument(help="A run's uid, or how it begins.")],
    store: StoreOption = None,
    form: ReportFormatOption = ReportFormat.table,
    output: OutputOption = None,
    figures: FiguresOption = None,
    requests: Annotated[bool, typer.Option("--requests", help="List its requests, and what each is charged.")] = False,
) -> None:
    """Show one run."""
    if requests and form is ReportFormat.html:
        raise UsageError("A page has no list of requests. Leave out --requests, or choose another --format.")
    document = _report((run,), store, with_requests=requests)
    _print(document, form, output, figures, store, _of_requests() if requests else renderers_of_runs())


def report(
    runs: Annotated[list[str] | None, typer.Argument(help="Runs by uid, or how it begins; none: all.")] = None,
    store: StoreOption = None,
    form: ReportFormatOption = ReportFormat.table,
    output: OutputOption = None,
    figures: FiguresOption = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 3 where a run is not publishable.")] = False,
    method: MethodOption = "auto",
    policy: Annotated[str, typer.Option("--policy", help="M0 to M4: how energy is shared out among requests.")] = "M4",
    sum_boundaries: Annotated[
        bool, typer.Option("--sum-boundaries", help="Add up GPU, CPU and memory; else the first of these counts.")
    ] = False,
    group_by: Annotated[
        str, typer.Option("--group-by", help="Names separated by commas, such as model,batch_size.")
    ] = "",
    net: Annotated[bool, typer.Option("--net/--gross", help="Rank groups by joules above idle, or by all.")] = False,
) -> None:
    """Report the energy of runs, with bounds, grade and verdict."""
    from telemetry.join import SHORT, How

    if policy not in SHORT:
        raise UsageError(f"There is no policy {policy}. Known are: {', '.join(SHORT)}.")
    how = How(method=method, policy=SHORT[policy], all_boundaries=sum_boundaries)
    document = _report(tuple(runs or ()), store, how=how, group_by=_names(group_by), net=net)
    _print(document, form, output, figures, store, renderers_of_runs())
    if strict and not all(r["verdict"]["publishable"] for r in document["runs"] if not r["warmup"]):
        raise typer.Exit(3)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _report(uids: tuple[str, ...], store: str | None, **options: Any) -> Any:
    from telemetry.join import report as join

    with progress_bar("reading") as progress:
        return ask(store, lambda opened: join(opened, uids, boards=known_boards(), progress=progress, **options))


def _print(
    document: Any,
    form: ReportFormat,
    output: Path | None,
    figures: Path | None,
    store: str | None,
    renderers: dict[str, Any],
) -> None:
    """Print a report, as a page or in the other formats, and write its figures where asked."""
    if form is not ReportFormat.html and figures is None:
        print_document(document, Format(form), output, **renderers)
        return
    with progress_bar("drawing"):
        drawn = ask(store, lambda opened: draw(opened, document, known_boards()), read_only=True)
    if figures is not None:
        save(drawn, figures)
    if form is ReportFormat.html:
        emit(page(document, drawn), output)
    else:
        print_document(document, Format(form), output, **renderers)


def _of_requests() -> dict[str, Any]:
    from telemetry.reports import requests_csv, requests_markdown, requests_table

    return {"table": requests_table, "csv": requests_csv, "md": requests_markdown}


def analyse(
    runs: Annotated[list[str] | None, typer.Argument(help="Runs by uid, or how it begins; none: all.")] = None,
    store: StoreOption = None,
) -> None:
    """Work out runs anew and keep the results, where SQL sees them, in place of what was kept."""
    from telemetry.join import work_out

    uids = tuple(runs or ())
    with progress_bar("working out") as progress:
        count, version = ask(
            store, lambda opened: work_out(opened, uids, boards=known_boards(), progress=progress), write=True
        )
    typer.echo(f"{count} run{'' if count == 1 else 's'} worked out, by version {version} of the analysis.")


def window(
    begin: Annotated[str, typer.Option("--from", help="ISO time or epoch seconds.")],
    end: Annotated[str, typer.Option("--to", help="ISO time or epoch seconds.")],
    device: Annotated[list[str] | None, typer.Option("--device", help="A device's UID or name.")] = None,
    method: MethodOption = "auto",
    store: StoreOption = None,
    form: FormatOption = Format.table,
    output: OutputOption = None,
) -> None:
    """Report the energy of any interval."""
    from telemetry.join import window as join
    from telemetry.reports import window_csv, window_markdown, window_table
    from telemetry.storage import reader

    t0_ns, t1_ns = _time_ns(begin, "--from"), _time_ns(end, "--to")

    async def question(opened: Any) -> Any:
        clock = await reader.wall_clock(opened)
        t0, t1 = clock.steady_ns(t0_ns), clock.steady_ns(t1_ns)
        return await join(opened, t0, t1, tuple(device or ()), boards=known_boards(), method=method)

    document = ask(store, question, read_only=True)
    print_document(document, form, output, table=window_table, csv=window_csv, md=window_markdown)
    if "short_for_averaging" in document["flags"]:
        say("The window is short against the sensor's averaging time: its bounds are wide for that reason.")


def _time_ns(text: str, name: str) -> int:
    """Return an ISO time or epoch seconds as ns since 1970."""
    seconds = _epoch_seconds(text, name)
    if not 0 <= seconds < LAST_S:
        raise UsageError(f"{name} is {text}, which is no time between 1970 and 2262.")
    return int(seconds * 1_000_000_000)


def _epoch_seconds(text: str, name: str) -> Decimal:
    try:
        seconds = Decimal(text)
    except InvalidOperation:
        pass
    else:
        return seconds if seconds.is_finite() else Decimal(-1)
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{name} is {text!r}, neither an ISO time nor epoch seconds.") from error
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    return int(time.replace(microsecond=0).timestamp()) + Decimal(time.microsecond) / 1_000_000
