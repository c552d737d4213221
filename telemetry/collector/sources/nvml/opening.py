"""The way from what the user names to open sources."""

import os
from collections.abc import Mapping
from functools import partial
from typing import Any

import pynvml

from telemetry.clock import Clock
from telemetry.collector.sources.nvml.driver import DriverLibrary, Installation, driver, install
from telemetry.collector.sources.nvml.errors import DOCTOR, NO_DRIVER
from telemetry.collector.sources.nvml.source import NvmlSource
from telemetry.collector.sources.visible import choose_gpus
from telemetry.collector.sources.within import within
from telemetry.errors import SourceUnavailable

START_S = 20.0  # without persistence mode a driver wakes every GPU first
ANSWER_S = 5.0
_SILENT = "The NVIDIA driver does not answer: a call hangs in it. Restart the machine, or wait for what it does."


def open_nvml(
    gpus: str,
    clock: Clock,
    environ: Mapping[str, str] = os.environ,
    *,
    library: DriverLibrary | None = None,
    spare_counter: bool = True,
    refused: list[SourceUnavailable] | None = None,
) -> list[NvmlSource]:
    """Return one open source for each GPU that is meant.

    gpus: "all", or NVML indices and UUIDs between commas. "all" honours CUDA_VISIBLE_DEVICES of `environ`;
    anything else goes before it, and its numbers are NVML's and not CUDA's.
    library: a stand-in, installed for as long as a source is open; the devices are then marked simulated.
    spare_counter: read a counter that reading may change no more than once a second.
    refused: takes the causes of GPUs that cannot be read; without it the first such cause is raised.
    Raises UsageError for a GPU that does not exist, SourceUnavailable with the cause when none can be read.
    """
    installation = None if library is None else install(library)
    sources: list[NvmlSource] = []
    try:
        within(START_S, driver.acquire)
        try:
            answers = _uuids()
            for index in choose_gpus(gpus, environ, [str(answer) or "no answer" for answer in answers]):
                try:
                    sources.append(_open(index, answers[index], clock, installation, spare_counter))
                except SourceUnavailable as error:
                    if refused is None:
                        raise
                    refused.append(error)
        finally:
            driver.release()
    except BaseException as error:
        for source in sources:
            source.close()
        if isinstance(error, TimeoutError):
            raise SourceUnavailable(_SILENT + DOCTOR) from error
        if isinstance(error, pynvml.NVMLError):
            known = NO_DRIVER.get(error.value, f"The NVIDIA driver cannot be used: {error}.")
            raise SourceUnavailable(known + DOCTOR) from error
        raise
    finally:
        if installation is not None:
            installation.restore()
    return sources


def _open(index: int, uuid: Any, clock: Clock, installation: Installation | None, spare_counter: bool) -> NvmlSource:
    """Open the GPU of an answer of `_uuids`. Raises SourceUnavailable."""
    if isinstance(uuid, pynvml.NVMLError):
        raise SourceUnavailable(f"GPU {index} answers: {uuid}. Reset it, or leave it out with --gpus." + DOCTOR)
    try:
        if isinstance(uuid, TimeoutError):
            raise uuid
        return within(ANSWER_S, partial(NvmlSource, str(uuid), clock, installation, spare_counter=spare_counter))
    except TimeoutError as error:
        raise SourceUnavailable(
            f"GPU {index} does not answer: a call to it has hung for {ANSWER_S:.0f} s. "
            "Reset it, or leave it out with --gpus." + DOCTOR
        ) from error


def _uuids() -> list[Any]:
    """Return by NVML index each GPU's UUID, or the NVMLError that it answers instead, or a TimeoutError."""
    count = within(ANSWER_S, pynvml.nvmlDeviceGetCount)
    if count == 0:
        raise SourceUnavailable("The NVIDIA driver is loaded but finds no GPU." + DOCTOR)
    answers: list[Any] = []
    for index in range(count):
        try:
            answers.append(within(ANSWER_S, partial(_uuid, index)))
        except (pynvml.NVMLError, TimeoutError) as error:
            answers.append(error)
    return answers


def _uuid(index: int) -> str:
    return str(pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(index)))
