"""The simulated driver library: the C functions that pynvml looks up by name, with their C arguments.

pynvml passes ctypes objects; what is passed by reference is written through `ref._obj`.
"""

import ctypes
import functools
import time
from collections.abc import Callable
from math import exp
from pathlib import Path
from typing import Any

from telemetry.collector.sources.simulated import codes
from telemetry.collector.sources.simulated.answers import DEVICE_ANSWERS, Call, Code, put, put_text
from telemetry.collector.sources.simulated.chance import bits, normal
from telemetry.collector.sources.simulated.events import EventLog, EventTruth
from telemetry.collector.sources.simulated.faults import Fault, FaultKind, active_faults
from telemetry.collector.sources.simulated.gpu import SimulatedGpu
from telemetry.collector.sources.simulated.sensor import draw
from telemetry.collector.sources.simulated.spec import SimulatedSpec, parse_spec
from telemetry.collector.sources.simulated.waveform import Truth

_DRIVER = "580.65.06"
_FIRST_HANDLE = 0x51D00000
_SLOW_S, _LATENCY_SIGMA, _LATENCY_SEED = 0.008, 0.5, 0x1A7
_STALL_NS, _STALL_EVERY_NS, _STALL_SEED = 5_000_000, 100_000_000, 0x57A11
_ERROR_FAULTS: dict[FaultKind, int] = {
    "no_driver": codes.DRIVER_NOT_LOADED,
    "no_permission": codes.NO_PERMISSION,
    "mismatch": codes.LIB_RM_VERSION_MISMATCH,
    "lost": codes.GPU_IS_LOST,
    "busy": codes.TIMEOUT,
    "unknown": codes.UNKNOWN,
}
_DRIVER_FAULTS: tuple[FaultKind, ...] = ("no_driver", "no_permission", "mismatch")

_FOR_EVER_NS = 10**18

Faults = dict[FaultKind, Fault]


class SimulatedLibrary:
    """A driver library with simulated GPUs behind it; `nvml.install` puts it in the place of the real one.

    sleep: how hang, slow and latency pass time, taking seconds.
    """

    def __init__(
        self,
        spec: SimulatedSpec,
        runtime_dir: Path,
        mono_ns: Callable[[], int],
        sleep: Callable[[float], None],
    ) -> None:
        self.identity = ("simulated", spec, str(runtime_dir), mono_ns)
        self._spec = spec
        self._sleep = sleep
        self._clock_ns = mono_ns
        self._wall_offset_ns = time.time_ns() - time.monotonic_ns()
        self._initialised = 0
        self._calls = 0
        self._events: EventTruth | None = None
        truth: Truth
        if spec.follows_events:
            log = EventLog(spec.event_log_path(runtime_dir), mono_ns=mono_ns)
            truth = self._events = EventTruth(log, spec.levels())
            self._clock_ns = truth.now_ns
            truth.now_ns()  # a file that is no event log is refused here and not in the middle of a run
        else:
            truth = spec.waveform()
        self.gpus = tuple(self._gpu(truth, index) for index in range(spec.gpus))
        self._functions = self._table()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Return the C function of that name, as looking it up in a loaded library would."""
        try:
            return self.__dict__["_functions"][name]  # type: ignore[no-any-return]
        except KeyError:
            raise AttributeError(f"the simulated driver has no {name}") from None

    @property
    def function_names(self) -> tuple[str, ...]:
        """The C functions that are provided."""
        return tuple(self._functions)

    def now_ns(self) -> int:
        """Take in new events and return the CLOCK_MONOTONIC time up to which the truth is now known, ns."""
        return self._clock_ns()

    def close(self) -> None:
        """Let go of the event log. Safe to call twice."""
        if self._events is not None:
            self._events.close()

    def _gpu(self, truth: Truth, index: int) -> SimulatedGpu:
        preset = self._spec.preset
        parameters = draw(preset, seed=bits(self._spec.seed, index))
        return SimulatedGpu(preset=preset, truth=truth, parameters=parameters, index=index, seed=self._spec.seed)

    def _table(self) -> dict[str, Callable[..., Any]]:
        system: dict[str, Callable[..., Any]] = {
            "nvmlInitWithFlags": self._init,
            "nvmlShutdown": self._shutdown,
            # pynvml sets `restype` on this one, which a method would refuse
            "nvmlErrorString": functools.partial(_error_string),
        }
        answers: dict[str, Callable[..., Code]] = {
            "nvmlSystemGetDriverVersion": lambda buffer, size: put_text(_DRIVER, buffer, size),
            "nvmlSystemGetNVMLVersion": lambda buffer, size: put_text(f"13.{_DRIVER}", buffer, size),
            "nvmlSystemGetCudaDriverVersion_v2": lambda ref: put(ref, 13000),
            "nvmlDeviceGetCount_v2": lambda ref: put(ref, len(self.gpus)),
            "nvmlDeviceGetHandleByIndex_v2": self._handle_by_index,
            "nvmlDeviceGetHandleByUUID": self._handle_by_uuid,
        }
        of_device = DEVICE_ANSWERS | {"nvmlDeviceGetComputeRunningProcesses_v3": self._processes}
        return (
            system
            | {name: functools.partial(self._of_system, answer) for name, answer in answers.items()}
            | {name: functools.partial(self._of_device, answer) for name, answer in of_device.items()}
        )

    def _faults(self, now_ns: int, gpu: int | None) -> Faults:
        mine = (fault for fault in self._spec.faults if gpu is None or fault.gpu in (None, gpu))
        return active_faults(mine, now_ns - self._spec.origin_ns)

    def _driver_fault(self) -> Code:
        faults = self._faults(self.now_ns(), None)
        return next((_ERROR_FAULTS[kind] for kind in _DRIVER_FAULTS if kind in faults), codes.SUCCESS)

    def _init(self, flags: int) -> Code:
        code = self._driver_fault()
        if code == codes.SUCCESS:
            self._initialised += 1
        return code

    def _shutdown(self) -> Code:
        if not self._initialised:
            return codes.UNINITIALIZED
        self._initialised -= 1
        return codes.SUCCESS

    def _of_system(self, answer: Callable[..., Code], *arguments: Any) -> Code:
        if not self._initialised:
            return codes.UNINITIALIZED
        return self._driver_fault() or answer(*arguments)

    def _of_device(self, answer: Callable[..., Code], handle: Any, *arguments: Any) -> Code:
        if not self._initialised:
            return codes.UNINITIALIZED
        index = (ctypes.cast(handle, ctypes.c_void_p).value or 0) - _FIRST_HANDLE
        if not 0 <= index < len(self.gpus):
            return codes.INVALID_ARGUMENT
        now_ns, faults = self._wait(index)
        for kind, code in _ERROR_FAULTS.items():
            if kind in faults:
                return code
        stale = faults.get("stale")
        seen_ns = now_ns if stale is None else self._spec.origin_ns + stale.from_ns
        call = Call(
            gpu=self.gpus[index],
            now_ns=now_ns,
            seen_ns=seen_ns,
            wall_offset_ns=self._wall_offset_ns,
            restarted_ns=self._restarted_ns(seen_ns, index),
            faults=faults,
        )
        return answer(call, *arguments)

    def _wait(self, gpu: int) -> tuple[int, Faults]:
        """Pass the time that the call takes; return when it is answered and the faults then."""
        self._calls += 1
        latency_ms = self._spec.preset.latency_ms
        if latency_ms:
            spread = _LATENCY_SIGMA * normal(_LATENCY_SEED, self._spec.seed, self._calls)
            self._sleep(latency_ms / 1e3 * exp(spread))
        now_ns = self.now_ns()
        faults = self._faults(now_ns, gpu)
        if "slow" in faults:
            self._sleep(_SLOW_S)
            now_ns = self.now_ns()
            faults = self._faults(now_ns, gpu)
        if "stall" in faults:
            self._sleep(self._stall_left_ns(now_ns) / 1e9)
            now_ns = self.now_ns()
            faults = self._faults(now_ns, gpu)
        if "hang" in faults:
            hang = faults["hang"]
            left_ns = _FOR_EVER_NS
            if hang.duration_ns is not None:
                left_ns = self._spec.origin_ns + hang.from_ns + hang.duration_ns - now_ns
            self._sleep(left_ns / 1e9)
            now_ns = self.now_ns()
            faults = self._faults(now_ns, gpu)
        return now_ns, faults

    def _stall_left_ns(self, now_ns: int) -> int:
        """Return how long the driver is still held by somebody else, ns."""
        period = now_ns // _STALL_EVERY_NS
        free_ns = bits(_STALL_SEED, self._spec.seed, period) % (_STALL_EVERY_NS - _STALL_NS)
        began_ns = period * _STALL_EVERY_NS + free_ns
        return began_ns + _STALL_NS - now_ns if began_ns <= now_ns < began_ns + _STALL_NS else 0

    def _restarted_ns(self, now_ns: int, gpu: int) -> int | None:
        """Return when the counter of a GPU last restarted; None where it has not since boot."""
        at_ns = [
            self._spec.origin_ns + fault.from_ns
            for fault in self._spec.faults
            if fault.kind == "reset" and fault.gpu in (None, gpu)
        ]
        return max((t_ns for t_ns in at_ns if t_ns <= now_ns), default=None)

    def _handle_by_index(self, index: Any, ref: Any) -> Code:
        if index.value >= len(self.gpus):
            return codes.INVALID_ARGUMENT
        return self._put_handle(index.value, ref)

    def _handle_by_uuid(self, uuid: Any, ref: Any) -> Code:
        for gpu in self.gpus:
            if gpu.uuid.encode() == uuid.value:
                return self._put_handle(gpu.index, ref)
        return codes.NOT_FOUND

    def _put_handle(self, index: int, ref: Any) -> Code:
        faults = self._faults(self.now_ns(), index)
        if "lost" in faults:
            return codes.GPU_IS_LOST
        # A handle is an opaque pointer: any address will do, as nobody looks behind it.
        address = ctypes.c_void_p(_FIRST_HANDLE + index)
        ctypes.memmove(ctypes.addressof(ref._obj), ctypes.addressof(address), ctypes.sizeof(address))
        return codes.SUCCESS

    def _processes(self, call: Call, count_ref: Any, infos: Any) -> Code:
        pids = self._events.pids() if self._events is not None else ()
        room = count_ref._obj.value
        count_ref._obj.value = len(pids)
        if len(pids) > room or (pids and infos is None):
            return codes.INSUFFICIENT_SIZE
        for i, pid in enumerate(pids):
            infos[i].pid = pid
            infos[i].usedGpuMemory = call.gpu.memory.used_bytes // len(pids)
            infos[i].gpuInstanceId = infos[i].computeInstanceId = 0xFFFFFFFF
        return codes.SUCCESS


def simulated_library(spec: str, runtime_dir: Path, mono_ns: Callable[[], int] = time.monotonic_ns) -> SimulatedLibrary:
    """Return the driver library of a description, `simulated[:PRESET][,key=value...]`.

    Calls really take time only on the host's own clock. Raises UsageError for what is no description.
    """
    sleep = time.sleep if mono_ns is time.monotonic_ns else _no_sleep
    return SimulatedLibrary(parse_spec(spec), runtime_dir, mono_ns, sleep)


def _no_sleep(_: float) -> None:
    """Pass no time: a virtual clock is moved by its owner."""


def _error_string(code: int) -> bytes:
    return codes.ERROR_STRINGS.get(code, b"Unknown Error")
