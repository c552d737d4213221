"""probe: what a GPU's power sensor really does, found out by experiment."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from telemetry.cli.common import Format, FormatOption, SourceOption, emit, lined_table, progress_bar, say
from telemetry.errors import UsageError
from telemetry.settings import load_settings

if TYPE_CHECKING:
    from telemetry.profile import DeviceProfile


def probe(
    source: SourceOption = None,
    gpu: Annotated[int, typer.Option("--gpu", help="NVML index of the GPU.")] = 0,
    load: Annotated[
        str | None, typer.Option("--load", help="A program that loads the GPU on command (docs/probe.md), or none.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The file of profiles it goes into (TELEMETRY_PROFILE).")
    ] = None,
    form: FormatOption = Format.table,
) -> None:
    """Find out how a GPU measures its power, and which energy path to trust: about five minutes."""
    from telemetry.probe import open_bench, run_probe
    from telemetry.profile import SCHEMA, check_profiles, save_profile
    from telemetry.reports import to_json

    if form not in (Format.table, Format.json):
        raise UsageError("probe prints table or json. Give one of these with --format.")
    settings = load_settings({"source": source})
    written = output or Path(settings.profile)
    check_profiles(written)
    with open_bench(settings.source, gpu, load) as bench, progress_bar("opening") as tell:
        profile = run_probe(bench, lambda words, share: tell(share, 1.0, words))
    if form is Format.json:
        emit(to_json({"schema": SCHEMA, "profiles": [asdict(profile)]}), None)
    else:
        print_profile(profile)
    save_profile(written, profile)
    say(f"Written into {written}.")


def print_profile(profile: "DeviceProfile") -> None:
    """Print a profile as a table."""
    from rich.console import Console

    rows = []
    for name, value in asdict(profile).items():
        label, _, unit = name.rpartition("_") if name.endswith(("_ns", "_w", "_s")) else (name, "", "")
        rows.append((label.replace("_", " "), _words(value, unit)))
    Console().print(lined_table(("what", "found"), rows))


def _words(value: object, unit: str) -> str:
    """Return a field for people: times in ms, a grid as period and jitter, nothing as a dash."""
    match value:
        case None | ():
            return "–"
        case bool():
            return "yes" if value else "no"
        case {"period_ns": int(period_ns), "jitter_ns": int(jitter_ns)}:
            return f"every {period_ns / 1e6:.2f} ms ± {jitter_ns / 1e6:.2f}"
        case int() if unit == "ns":
            return f"{value / 1e6:.2f} ms"
        case float():
            return f"{value:.4g} {unit.upper() if unit == 'w' else unit}".rstrip()
        case tuple() if isinstance(value[0], tuple):
            return ", ".join(f"{ratio:.4f} at {period_s * 1000:g} ms" for period_s, ratio in value)
        case tuple():
            return " ".join(map(str, value))
    return str(value)
