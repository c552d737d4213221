"""sql and import: rows out and recordings in."""

import asyncio
import csv
import sys
from pathlib import Path
from typing import Annotated

import typer

from telemetry.cli.common import Format, FormatOption, StoreOption, lined_table, say
from telemetry.errors import UsageError
from telemetry.settings import load_settings


def sql(
    query: Annotated[
        str | None, typer.Argument(help="One SELECT on the tables and views of docs/store.md; none: ask for them.")
    ] = None,
    store: StoreOption = None,
    form: FormatOption = Format.table,
) -> None:
    """Question the store, read-only."""
    if form is Format.md:
        raise UsageError("sql prints table, json or csv. Give one of these with --format.")
    place = load_settings({"store": store}).store
    if query is not None:
        _answer(place, query, form)
    elif sys.stdin.isatty():
        _prompt(place, form)
    else:
        _answer(place, sys.stdin.read(), form)


def _prompt(place: str, form: Format) -> None:
    """Ask for queries, each ended by a semicolon, until the input ends."""
    import readline  # noqa: F401  gives input() its history and line editing

    from telemetry.storage.query import CONTENTS, is_complete

    _answer(place, CONTENTS, form)
    say("End a query with a semicolon; Ctrl-D leaves.")
    query = ""
    while True:
        try:
            query += input("telemetry> " if not query else "      ...> ") + "\n"
        except EOFError:
            return
        if is_complete(query):
            try:
                _answer(place, query, form)
            except UsageError as error:
                say(str(error))
            query = ""


def _answer(place: str, query: str, form: Format) -> None:
    from telemetry.storage.query import select

    names, rows = asyncio.run(select(place, query))
    if form is Format.json:
        import orjson

        listed = [dict(zip(names, row, strict=True)) for row in rows]
        typer.echo(orjson.dumps(listed, option=orjson.OPT_INDENT_2).decode())
    elif form is Format.csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")  # as reports; a shell takes a carriage return for text
        writer.writerow(names)
        writer.writerows(rows)
    else:
        from rich.console import Console

        Console(width=None if sys.stdout.isatty() else 120).print(lined_table(names, rows))


def import_files(
    files: Annotated[
        list[Path], typer.Argument(help="nvidia-smi query CSV, plain or gzip; folders of tools/gpu/record.py.")
    ],
    store: StoreOption = None,
    tz: Annotated[str | None, typer.Option("--tz", help="Zone of stamps without one: +01:00, UTC …")] = None,
    columns: Annotated[str | None, typer.Option("--columns", help="Names, for files without a header.")] = None,
    gpus: Annotated[int | None, typer.Option("--gpus", help="Rows of one loop, where nothing tells.")] = None,
    interval: Annotated[float | None, typer.Option("--interval", help="Seconds between loops.")] = None,
    start: Annotated[str | None, typer.Option("--start", help="Time of the first row.")] = None,
    power_col: Annotated[str | None, typer.Option("--power-col", help="The column to integrate.")] = None,
    power_unit: Annotated[str | None, typer.Option("--power-unit", help="W or mW.")] = None,
) -> None:
    """Import recordings, all or nothing."""
    from telemetry.importers import ReadOptions, read_recording
    from telemetry.importers.storing import store_recordings

    options = ReadOptions(
        tz=tz, columns=columns, gpus=gpus, interval_s=interval, start=start, power_col=power_col,
        power_unit=power_unit,
    )  # fmt: skip
    recordings = [read_recording(file, options) for file in files]
    lines = asyncio.run(store_recordings(load_settings({"store": store}).store, recordings))
    for line in lines:
        typer.echo(line)
    for recording in recordings:
        for note in recording.notes:
            say(note)
