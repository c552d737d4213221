"""From the text of `--source` to open sources. Each kind is imported when it is asked for."""

import time
from pathlib import Path

from telemetry.clock import SteadyClock, take_anchor
from telemetry.collector.sources.base import Source
from telemetry.errors import SourceUnavailable, UsageError

_FORMS = "auto, nvml, rapl[:FOLDER], nvml,rapl[:FOLDER], simulated[:PRESET][,key=value...] or replay:PATH[,tz=ZONE]"


def open_sources(spec: str, gpus: str, clock: SteadyClock, runtime_dir: Path) -> list[Source]:
    """Return the open sources of a description, one for each device.

    spec: one of `_FORMS`. `nvml,rapl` is both, GPUs first; `auto` is the first of the two that serves.
    gpus: see `nvml.open_nvml`; a CPU and a recording have none to choose from, and where some are named `auto`
    is nvml.
    runtime_dir: where the processes of a host meet.
    Raises UsageError for what does not exist, SourceUnavailable with every reason when nothing can be read.
    """
    kind, _, argument = spec.partition(":")
    if spec == "auto":
        return _open_auto(gpus, clock)
    if spec == "nvml":
        return _open_nvml(gpus, clock)
    if kind == "rapl":
        return _open_rapl(argument, clock)
    if kind == "nvml,rapl":
        return _open_both(gpus, argument, clock)
    if kind.partition(",")[0] == "simulated":
        return _open_simulated(spec, gpus, clock, runtime_dir)
    if kind == "replay":
        return _open_replay(argument, clock)
    raise UsageError(f"There is no source {spec!r}. Write {_FORMS}.")


def check_sources(spec: str, gpus: str, runtime_dir: Path) -> None:
    """Raise what `open_sources` would, before anything is made for readings that cannot come."""
    for source in open_sources(spec, gpus, SteadyClock(take_anchor()), runtime_dir):
        source.close()


def _open_auto(gpus: str, clock: SteadyClock) -> list[Source]:
    reasons = []
    try:
        return _open_nvml(gpus, clock)
    except SourceUnavailable as error:
        reasons.append(f"nvml: {error}")
    if gpus.strip() == "all":  # who names a GPU does not mean the CPU
        try:
            return _open_rapl("", clock)
        except SourceUnavailable as error:
            reasons.append(f"rapl: {error}")
    raise SourceUnavailable(
        f"Nothing can be measured here. {' '.join(reasons)} To try the tool all the same, with made-up "
        "numbers that are marked as such, use --source simulated."
    )


def _open_both(gpus: str, folder: str, clock: SteadyClock) -> list[Source]:
    sources = _open_nvml(gpus, clock)
    try:
        return [*sources, *_open_rapl(folder, clock)]
    except BaseException:
        for source in sources:
            source.close()
        raise


def _open_nvml(gpus: str, clock: SteadyClock) -> list[Source]:
    from telemetry.collector.sources.nvml import open_nvml

    return [*open_nvml(gpus, clock)]


def _open_rapl(folder: str, clock: SteadyClock) -> list[Source]:
    from telemetry.collector.sources.rapl import open_rapl

    return [*open_rapl(folder, clock)]


def _open_simulated(spec: str, gpus: str, clock: SteadyClock, runtime_dir: Path) -> list[Source]:
    from telemetry.collector.sources.nvml import open_nvml
    from telemetry.collector.sources.simulated import simulated_library

    library = simulated_library(spec, runtime_dir, time.monotonic_ns)
    # CUDA_VISIBLE_DEVICES speaks of real GPUs.
    return [*open_nvml(gpus, clock, {}, library=library)]


def _open_replay(argument: str, clock: SteadyClock) -> list[Source]:
    from telemetry.collector.sources.replay import open_replay

    return open_replay(argument, clock)
