"""bench: many models and settings, measured by turns."""

from pathlib import Path
from typing import Annotated

import typer

from telemetry.cli.common import Format, FormatOption, GpusOption, OutputOption, SourceOption, StoreOption, show
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
    from telemetry.reports import to_csv, to_markdown, to_table

    asked = read_plan(plan)
    if scale is Scale.quick:
        asked = asked.quick()
    settings = load_settings({"store": store, "source": source, "gpus": gpus})
    show(carry_out(settings, asked, again=again), form, output, table=to_table, csv=to_csv, md=to_markdown)
