"""list, show, report, window: what the store says."""

import asyncio
import gc
import os
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any

import typer

from telemetry.cli.common import Format, FormatOption, MethodOption, OutputOption, StoreOption, progress_bar, say
from telemetry.cli.common import show as print_document
from telemetry.errors import UsageError
from telemetry.settings import load_settings

LAST_S = 9_223_372_036  # beyond this, nanoseconds do not fit into 64 bits


def _ask(store: str | None, question: Any, *, read_only: bool = False) -> Any:
    from telemetry.storage.store import open_store

    gc.disable()  # one document is made and printed: collecting garbage would take a fifth of the time

    async def answer() -> Any:
        place = Path(load_settings({"store": store}).store).expanduser()
        locked = place.exists() and not os.access(place, os.W_OK)  # what is worked out is then not kept
        async with await open_store(place, create=False, read_only=read_only or locked) as opened:
            return await question(opened)

    return asyncio.run(answer())


def _boards() -> Any:
    from telemetry.join import load_boards

    settings = load_settings()
    return load_boards(settings.profile, settings.calibration)


def list_runs(store: StoreOption = None, form: FormatOption = Format.table, output: OutputOption = None) -> None:
    """List the runs in the store."""
    from telemetry.join import listing
    from telemetry.reports import list_csv, list_markdown, list_table

    document = _ask(store, listing, read_only=True)
    print_document(document, form, output, table=list_table, csv=list_csv, md=list_markdown)


def show(
    run: Annotated[str, typer.Argument(help="A run's uid, or how it begins.")],
    store: StoreOption = None,
    form: FormatOption = Format.table,
    output: OutputOption = None,
) -> None:
    """Show one run."""
    report([run], store, form, output)


def report(
    runs: Annotated[list[str] | None, typer.Argument(help="Runs by uid, or how it begins; none: all.")] = None,
    store: StoreOption = None,
    form: FormatOption = Format.table,
    output: OutputOption = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 3 where a run is not publishable.")] = False,
    method: MethodOption = "auto",
) -> None:
    """Report the energy of runs, with bounds, grade and verdict."""
    from telemetry.join import report as join
    from telemetry.reports import to_csv, to_markdown, to_table

    with progress_bar("reading") as progress:
        document = _ask(
            store,
            lambda opened: join(opened, tuple(runs or ()), boards=_boards(), method=method, progress=progress),
        )
    print_document(document, form, output, table=to_table, csv=to_csv, md=to_markdown)
    if strict and not all(r["verdict"]["publishable"] for r in document["runs"] if not r["warmup"]):
        raise typer.Exit(3)


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
        return await join(opened, t0, t1, tuple(device or ()), boards=_boards(), method=method)

    document = _ask(store, question, read_only=True)
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
