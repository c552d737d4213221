"""One GPU as a source."""

from collections.abc import Callable
from typing import Any, TypeVar

import pynvml

from telemetry.clock import Clock
from telemetry.collector.sources.nvml import slow
from telemetry.collector.sources.nvml.driver import Installation, driver
from telemetry.collector.sources.nvml.errors import DOCTOR, DRIVER_GONE, LOST, NEVER, reason
from telemetry.collector.sources.nvml.features import (
    AVERAGE,
    ENERGY,
    INSTANT,
    MEMORY_TEMP,
    Plan,
    describe,
    make_plan,
)
from telemetry.collector.sources.nvml.values import ask_fields, checked
from telemetry.errors import SourceBusy, SourceLost, SourceUnavailable
from telemetry.model import Device, Reading, Sensors

T = TypeVar("T")

COUNTER_PAUSE_NS = 1_000_000_000

_NAMES = {
    INSTANT: "power_instant",
    AVERAGE: "power_average",
    ENERGY: "energy",
    MEMORY_TEMP: "memory_temp",
}


class NvmlSource:
    """One GPU, read through NVML. See `base.Source` for what each call promises."""

    def __init__(self, uuid: str, clock: Clock, installation: Installation | None, *, spare_counter: bool) -> None:
        """Open a GPU. `spare_counter`: read a counter that reading may change no more than once a second."""
        self._uuid = uuid
        self._clock = clock
        self._spare_counter = spare_counter
        self._counter_due_ns = 0
        self._closed = False
        self._unsupported: set[str] = set()
        self._throttle_fields = list(slow.THROTTLE_NS)
        driver.acquire()
        self._installation = installation.join() if installation is not None else None
        try:
            self._attach()
            if self._device.energy_path is None:
                raise SourceUnavailable(
                    f"{self._device.name} ({uuid}) tells neither power nor energy. Leave it out with --gpus." + DOCTOR
                )
        except BaseException as error:
            self.close()
            if isinstance(error, pynvml.NVMLError):
                raise SourceUnavailable(
                    f"The GPU {uuid} cannot be opened: {error}. Try again, or leave it out with --gpus." + DOCTOR
                ) from error
            raise

    @property
    def device(self) -> Device:
        """The GPU, as it was found when the source was opened or opened again."""
        return self._device

    def read(self) -> Reading:
        """Read power, energy and memory temperature in one call. See `base.Source.read`."""
        missing: list[str] = []
        found: dict[str, int | None] = {}
        handle = self._current_handle()
        before_ns = self._clock.now_ns()
        plan = self._plan_now(before_ns)
        try:
            answers = ask_fields(handle, plan.fields) if plan.fields else iter(())
        except pynvml.NVMLError as error:
            raise self._translated(error) from error
        if plan.legacy_power:
            found["power_average"] = self._legacy("power_average", pynvml.nvmlDeviceGetPowerUsage, missing)
        if plan.legacy_energy:
            found["energy"] = self._legacy("energy", pynvml.nvmlDeviceGetTotalEnergyConsumption, missing)
        after_ns = self._clock.now_ns()
        for (field, _), (code, number) in zip(plan.fields, answers, strict=True):
            name = _NAMES[field]
            if code == pynvml.NVML_SUCCESS:
                found[name] = checked(name, number, missing)
            else:
                self._refused(name, code, missing)
        return Reading(
            t_ns=(before_ns + after_ns) // 2,
            latency_ns=after_ns - before_ns,
            power_instant_mw=found.get("power_instant"),
            power_average_mw=found.get("power_average"),
            energy_mj=found.get("energy"),
            memory_temp_c=found.get("memory_temp"),
            missing=tuple(missing),
        )

    def _plan_now(self, now_ns: int) -> Plan:
        if self._sparing is None:
            return self._plan
        if now_ns < self._counter_due_ns:
            return self._sparing
        self._counter_due_ns = now_ns + COUNTER_PAUSE_NS
        return self._plan

    def read_sensors(self, *, processes: bool) -> Sensors:
        """Read the slow tier, each value by its own call. See `base.Source.read_sensors`."""
        missing: list[str] = []
        memory = self._ask(missing, "memory", *slow.MEMORY)
        throttle_ns: dict[str, Any] = self._throttle_ns(missing)
        utilisation = self._ask(missing, "utilisation", pynvml.nvmlDeviceGetUtilizationRates)
        return Sensors(
            temperature_c=self._checked(missing, "temperature", *slow.TEMPERATURE),
            memory_used_bytes=memory[0] if memory else None,
            memory_reserved_bytes=memory[1] if memory else None,
            util_gpu_pct=utilisation.gpu if utilisation else None,
            util_memory_pct=utilisation.memory if utilisation else None,
            clock_sm_mhz=self._ask(missing, "clock_sm", slow.CLOCK_SM),
            clock_memory_mhz=self._ask(missing, "clock_memory", slow.CLOCK_MEMORY),
            power_limit_mw=self._checked(missing, "power_limit", pynvml.nvmlDeviceGetEnforcedPowerLimit),
            throttle_reasons=self._ask(missing, "throttle_reasons", *slow.EVENT_REASONS),
            processes=self._ask(missing, "processes", slow.processes) if processes else None,
            **throttle_ns,
            missing=tuple(missing),
        )

    def reopen(self) -> None:
        """Find the GPU again by its UUID, also after the driver was reloaded. Raises SourceLost."""
        seen = driver.generation
        try:
            try:
                self._attach()
            except pynvml.NVMLError as error:
                # Only then: restarting the driver for one dead GPU would disturb all the others.
                if error.value not in DRIVER_GONE:
                    raise
                driver.restart(seen)
                self._attach()
        except pynvml.NVMLError as error:
            raise SourceLost(f"The GPU {self._uuid} is not back yet: {error}.") from error

    def close(self) -> None:
        """Let go of the driver. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        driver.release()
        if self._installation is not None:
            self._installation.restore()

    def _attach(self) -> None:
        """Find the GPU and what it supports. Raises NVMLError."""
        generation = driver.generation
        handle = pynvml.nvmlDeviceGetHandleByUUID(self._uuid)
        self._plan = make_plan(handle)
        self._device = describe(handle, self._plan, simulated=driver.installation is not None)
        sparing = self._spare_counter and self._device.counter_suspect and self._plan.integral_of is not None
        self._sparing = self._plan.without_counter() if sparing else None
        self._handle, self._generation = handle, generation

    def _current_handle(self) -> Any:
        if self._generation != driver.generation:  # another GPU's source had to start the driver again
            generation = driver.generation
            try:
                self._handle = pynvml.nvmlDeviceGetHandleByUUID(self._uuid)
            except pynvml.NVMLError as error:
                raise SourceLost(f"The GPU {self._uuid} went away with the driver: {error}.") from error
            self._generation = generation
        return self._handle

    def _translated(self, error: Any) -> SourceBusy | SourceLost:
        kind = SourceLost if error.value in LOST else SourceBusy
        return kind(f"{self._device.name} ({self._uuid}) answers: {error}.")

    def _refused(self, name: str, code: int, missing: list[str]) -> None:
        """Say why a value is missing. Raises SourceLost."""
        if code in LOST:
            error = pynvml.NVMLError(code)
            raise self._translated(error) from error
        missing.append(f"{name}:{reason(code)}")

    def _legacy(self, name: str, call: Callable[[Any], int], missing: list[str]) -> int | None:
        try:
            value = int(call(self._handle))
        except pynvml.NVMLError as error:
            self._refused(name, error.value, missing)
            return None
        return checked(name, value, missing)

    def _ask(self, missing: list[str], name: str, *calls: Callable[[Any], T]) -> T | None:
        """Return the first answer of calls for one thing; what is not supported is not asked again."""
        handle = self._current_handle()
        why = None
        for number_of_call, call in enumerate(calls):
            key = f"{name}:{number_of_call}"
            if key in self._unsupported:
                continue
            try:
                return call(handle)
            except pynvml.NVMLError as error:
                if error.value in LOST:
                    raise self._translated(error) from error
                why = f"{name}:{reason(error.value)}"
                if error.value not in NEVER:
                    break
                self._unsupported.add(key)
        if why is not None:
            missing.append(why)
        return None

    def _checked(self, missing: list[str], name: str, *calls: Callable[[Any], int]) -> int | None:
        number = self._ask(missing, name, *calls)
        return None if number is None else checked(name, number, missing)

    def _throttle_ns(self, missing: list[str]) -> dict[str, int | None]:
        fields = self._throttle_fields
        if not fields:
            return {}
        answers = self._ask(missing, "throttle_ns", lambda handle: ask_fields(handle, [(field, 0) for field in fields]))
        if answers is None:
            return {}
        found: dict[str, int | None] = {}
        for field, (code, number) in zip(tuple(fields), answers, strict=True):
            name = slow.THROTTLE_NS[field]
            if code == pynvml.NVML_SUCCESS:
                found[name] = checked(name, number, missing)
                continue
            self._refused(name, code, missing)
            if code in NEVER:
                fields.remove(field)
        return found
