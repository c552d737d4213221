"""baseline: the idle power that net energy is measured from."""

import asyncio
from enum import StrEnum
from typing import Annotated, Any

import typer

from telemetry.cli.asking import report_of, show_runs
from telemetry.cli.common import (
    Format,
    FormatOption,
    GpusOption,
    OutputOption,
    SourceOption,
    StoreOption,
    progress_bar,
    say,
)
from telemetry.settings import load_settings


class Name(StrEnum):
    """Which idle."""

    bare = "B0"
    loaded = "B1"
    after_load = "B2"


def baseline(
    name: Annotated[
        Name,
        typer.Option("--name", help="B0: nothing has the GPU open. B1: a model is loaded, quiet. B2: just after load."),
    ] = Name.bare,
    seconds: Annotated[float, typer.Option("--seconds", min=30.0, help="For how long.")] = 30.0,
    source: SourceOption = None,
    gpus: GpusOption = None,
    store: StoreOption = None,
    form: FormatOption = Format.table,
    output: OutputOption = None,
) -> None:
    """Record idle power, from which the net energy of runs within an hour is measured."""
    settings = load_settings({"store": store, "source": source, "gpus": gpus})
    with progress_bar(f"idle for {seconds:g} s") as progress:
        document = asyncio.run(_record(settings, name.value, seconds, progress))
    show_runs(document, form, output)
    for device in document["runs"][0]["devices"]:
        watts = device["idle_power_w"]
        if watts is None:
            say(f"{device['name']}: no baseline. Its power did not stay within 3 W; wait until nothing runs on it.")
        else:
            say(f"{device['name']}: {name.value} is {watts['value']:.2f} W ({watts['lo']:.2f} to {watts['hi']:.2f}).")


async def _record(settings: Any, name: str, seconds: float, progress: Any) -> dict[str, Any]:
    from telemetry.experiment import record_idle
    from telemetry.recorder import Recorder

    async with Recorder(settings.store, source=settings.source, gpus=settings.gpus) as recorder:
        async with asyncio.TaskGroup() as tasks:
            recording = tasks.create_task(record_idle(recorder, name, seconds))
            for second in range(int(seconds)):
                progress(second, int(seconds))
                await asyncio.wait({recording}, timeout=1.0)
        uid = recording.result()
    return await report_of(settings, [uid])
