"""The calls of the slow tier, each with the older one that it replaced."""

from collections.abc import Callable
from typing import Any

import pynvml

THROTTLE_NS = {  # by number: pynvml has named some of them twice
    74: "throttle_power_cap_ns",
    76: "throttle_sync_boost_ns",
    269: "throttle_sw_thermal_ns",
    270: "throttle_hw_thermal_ns",
    271: "throttle_power_brake_ns",
}


def _memory_v2(handle: Any) -> tuple[int, int | None]:
    info = pynvml.nvmlDeviceGetMemoryInfo(handle, pynvml.nvmlMemory_v2)
    return int(info.used), int(info.reserved)


def _memory_v1(handle: Any) -> tuple[int, int | None]:
    return int(pynvml.nvmlDeviceGetMemoryInfo(handle).used), None  # version 1 folds `reserved` into `used`


def _clock_of(kind: int) -> Callable[[Any], int]:
    """Return the call for one clock, MHz."""
    return lambda handle: int(pynvml.nvmlDeviceGetClockInfo(handle, kind))


def processes(handle: Any) -> tuple[tuple[int, int | None], ...]:
    """Return (pid, bytes) of each compute process; bytes None where the driver does not tell."""
    found = pynvml.nvmlDeviceGetComputeRunningProcesses_v3(handle)
    return tuple((int(process.pid), process.usedGpuMemory) for process in found)


def _temperature(handle: Any) -> int:
    return int(pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU))


def _temperature_v(handle: Any) -> int:
    return int(pynvml.nvmlDeviceGetTemperatureV(handle, pynvml.NVML_TEMPERATURE_GPU))


# Older bindings lack the newer of two calls for one thing.
TEMPERATURE = (_temperature_v, _temperature) if hasattr(pynvml, "nvmlDeviceGetTemperatureV") else (_temperature,)
EVENT_REASONS = tuple(
    getattr(pynvml, name)
    for name in ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")
    if hasattr(pynvml, name)
)
MEMORY = (_memory_v2, _memory_v1)  # (used, reserved)
CLOCK_SM = _clock_of(pynvml.NVML_CLOCK_SM)
CLOCK_MEMORY = _clock_of(pynvml.NVML_CLOCK_MEM)
