"""From the text of `--source` to open sources. Each kind is imported when it is asked for."""

import time
from pathlib import Path

from telemetry.clock import SteadyClock, take_anchor
from telemetry.collector.sources.base import Source
from telemetry.errors import SourceUnavailable, UsageError

_FORMS = "auto, nvml, simulated[:PRESET][,key=value...] or replay:PATH[,key=value...]"


def open_sources(spec: str, gpus: str, clock: SteadyClock, runtime_dir: Path) -> list[Source]:
    """Return the open sources of a description, one for each device.

    spec: auto, nvml, simulated[:PRESET][,key=value...] or replay:PATH[,key=value...].
    gpus: see `nvml.open_nvml`; a recording has none to choose from.
    runtime_dir: where the processes of a host meet.
    Raises UsageError for what does not exist, SourceUnavailable with every reason when nothing can be read.
    """
    kind = spec.split(",", maxsplit=1)[0].split(":", maxsplit=1)[0]
    if spec == "auto":
        return _open_auto(gpus, clock)
    if spec == "nvml":
        return _open_nvml(gpus, clock)
    if kind == "simulated":
        return _open_simulated(spec, gpus, clock, runtime_dir)
    if kind == "replay":
        return _open_replay(spec.partition(":")[2], clock)
    raise UsageError(f"There is no source {spec!r}. Write {_FORMS}.")


def check_sources(spec: str, gpus: str, runtime_dir: Path) -> None:
    """Raise what `open_sources` would, before anything is made for readings that cannot come."""
    for source in open_sources(spec, gpus, SteadyClock(take_anchor()), runtime_dir):
        source.close()


def _open_auto(gpus: str, clock: SteadyClock) -> list[Source]:
    try:
        return _open_nvml(gpus, clock)
    except SourceUnavailable as error:
        raise SourceUnavailable(
            f"Nothing can be measured here. nvml: {error} To try the tool without a GPU, and with made-up "
            "numbers that are marked as such, use --source simulated."
        ) from error


def _open_nvml(gpus: str, clock: SteadyClock) -> list[Source]:
    from telemetry.collector.sources.nvml import open_nvml

    return [*open_nvml(gpus, clock)]


def _open_simulated(spec: str, gpus: str, clock: SteadyClock, runtime_dir: Path) -> list[Source]:
    from telemetry.collector.sources.nvml import open_nvml
    from telemetry.collector.sources.simulated import simulated_library

    library = simulated_library(spec, runtime_dir, time.monotonic_ns)
    # CUDA_VISIBLE_DEVICES speaks of real GPUs.
    return [*open_nvml(gpus, clock, {}, library=library)]


def _open_replay(argument: str, clock: SteadyClock) -> list[Source]:
    from telemetry.collector.sources.replay import open_replay

    return open_replay(argument, clock)
