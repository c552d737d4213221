"""bench: many models and settings, measured by turns."""

from pathlib import Path
from typing import Annotated

import typer

from telemetry.cli.asking import show_runs
from telemetry.cli.common import Format, FormatOption, GpusOption, OutputOption, SourceOption, StoreOption
from telemetry.cli.experiments import Scale, ScaleOption, carry_out
from telemetry.settings import load_settings


def bench(
    plan: Annotated[Path, typer.Argument(help="A TOML file.", show_default=False)],
    scale: ScaleOption = Scale.full,
    again: Annotated[
        bool, typer.Option("--again", help="Measure all anew, though runs of this plan are there.")
    ] = False,
    source: SourceOption = None,
    gpus: GpusOption = None,
    store: StoreOption = None,
    form: FormatOption = Format.table,
    output: OutputOption = None,
) -> None:
    """Measure the models and settings of a plan; the same command again goes on where it was stopped."""
    from telemetry.experiment import read_plan

    settings = load_settings({"store": store, "source": source, "gpus": gpus})
    show_runs(carry_out(settings, read_plan(plan), scale=scale, again=again), form, output)
