"""The way from what the user names to open sources."""

import os
from collections.abc import Mapping
from typing import Any

import pynvml

from telemetry.clock import Clock
from telemetry.collector.sources.nvml.driver import DriverLibrary, driver, install
from telemetry.collector.sources.nvml.errors import DOCTOR, NO_DRIVER
from telemetry.collector.sources.nvml.source import NvmlSource
from telemetry.collector.sources.visible import choose_gpus
from telemetry.errors import SourceUnavailable


def open_nvml(
    gpus: str,
    clock: Clock,
    environ: Mapping[str, str] = os.environ,
    *,
    library: DriverLibrary | None = None,
    spare_counter: bool = True,
) -> list[NvmlSource]:
    """Return one open source for each GPU that is meant.

    gpus: "all", or NVML indices and UUIDs between commas. "all" honours CUDA_VISIBLE_DEVICES of `environ`;
    anything else goes before it, and its numbers are NVML's and not CUDA's.
    library: a stand-in, installed for as long as a source is open; the devices are then marked simulated.
    spare_counter: read a counter that reading may change no more than once a second.
    Raises UsageError for a GPU that does not exist, SourceUnavailable with the cause when none can be read.
    """
    installation = None if library is None else install(library)
    sources: list[NvmlSource] = []
    try:
        driver.acquire()
        try:
            answers = _uuids()
            for index in choose_gpus(gpus, environ, [str(answer) for answer in answers]):
                uuid = answers[index]
                if isinstance(uuid, pynvml.NVMLError):
                    raise SourceUnavailable(
                        f"GPU {index} answers: {uuid}. Reset it, or leave it out with --gpus." + DOCTOR
                    )
                sources.append(NvmlSource(str(uuid), clock, installation, spare_counter=spare_counter))
        finally:
            driver.release()
    except BaseException as error:
        for source in sources:
            source.close()
        if isinstance(error, pynvml.NVMLError):
            known = NO_DRIVER.get(error.value, f"The NVIDIA driver cannot be used: {error}.")
            raise SourceUnavailable(known + DOCTOR) from error
        raise
    finally:
        if installation is not None:
            installation.restore()
    return sources


def _uuids() -> list[Any]:
    """Return by NVML index each GPU's UUID, or the NVMLError that it answers instead."""
    count = pynvml.nvmlDeviceGetCount()
    if count == 0:
        raise SourceUnavailable("The NVIDIA driver is loaded but finds no GPU." + DOCTOR)
    answers: list[Any] = []
    for index in range(count):
        try:
            answers.append(pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(index)))
        except pynvml.NVMLError as error:
            answers.append(error)
    return answers
