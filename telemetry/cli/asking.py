"""What the commands ask of a store, and how runs are printed."""

import asyncio
import gc
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from telemetry.cli.common import Format, show
from telemetry.settings import Settings, load_settings

if TYPE_CHECKING:
    from telemetry.join import Boards


def ask(store: str | None, question: Any, *, read_only: bool = False, write: bool = False) -> Any:
    """Return the answer of a store; with `write` one that may not be written is an error."""
    gc.disable()  # one document is made and printed: collecting garbage would take a fifth of the time
    from telemetry.storage.store import open_store

    async def answer() -> Any:
        place = Path(load_settings({"store": store}).store).expanduser()
        # What is worked out is not kept in a store that may not be written.
        locked = not write and place.exists() and not os.access(place, os.W_OK)
        async with await open_store(place, create=False, read_only=read_only or locked) as opened:
            return await question(opened)

    document = asyncio.run(answer())
    gc.freeze()  # nor is it looked through when the program ends
    return document


def known_boards(settings: Settings | None = None) -> "Boards":
    """Return what profiles and calibrations say of boards, as the settings name them."""
    from telemetry.join import load_boards

    settings = settings or load_settings()
    return load_boards(settings.profile, settings.calibration)


async def report_of(settings: Settings, uids: Sequence[str]) -> dict[str, Any]:
    """Return the report of runs that have just been recorded."""
    from telemetry.join import report
    from telemetry.storage.store import open_store

    async with await open_store(settings.store) as opened:
        return await report(opened, tuple(uids), boards=known_boards(settings))


def renderers_of_runs() -> dict[str, Any]:
    """Return what prints a report of runs, by format."""
    from telemetry.reports import to_csv, to_markdown, to_table

    return {"table": to_table, "csv": to_csv, "md": to_markdown}


def show_runs(document: Any, form: Format, output: Path | None) -> None:
    """Print a report of runs in the asked format, to stdout or a file."""
    show(document, form, output, **renderers_of_runs())
