"""What a GPU supports, found out by asking: drivers and parts differ in nearly every call."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import pynvml

from telemetry.collector.sources.nvml.errors import LOST, UNKNOWN_FIELD
from telemetry.collector.sources.nvml.values import checked
from telemetry.model import Boundary, Device, counter_is_suspect

T = TypeVar("T")

INSTANT = pynvml.NVML_FI_DEV_POWER_INSTANT
AVERAGE = pynvml.NVML_FI_DEV_POWER_AVERAGE
ENERGY = pynvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION
MEMORY_TEMP = pynvml.NVML_FI_DEV_MEMORY_TEMP
_PROBES = 3  # NotSupported also comes now and then from parts that do support a field


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a GPU's fast tier is read."""

    fields: tuple[tuple[int, int], ...]  # (field, scope)
    legacy_power: bool
    legacy_energy: bool
    boundary: Boundary

    def without_counter(self) -> "Plan":
        """Return the same without the energy counter."""
        fields = tuple(each for each in self.fields if each[0] != ENERGY)
        return replace(self, fields=fields, legacy_energy=False)

    @property
    def integral_of(self) -> str | None:
        """The power signal that energy can be integrated from; None where there is none."""
        served = {field for field, _ in self.fields}
        if INSTANT in served:
            return "instant"
        if AVERAGE in served:
            return "average"
        return "legacy" if self.legacy_power else None

    @property
    def has_counter(self) -> bool:
        """Whether the GPU counts its energy."""
        return self.legacy_energy or any(field == ENERGY for field, _ in self.fields)


def make_plan(handle: Any) -> Plan:
    """Find out how a GPU answers for power and energy. Raises NVMLError."""
    gpu, module = pynvml.NVML_POWER_SCOPE_GPU, pynvml.NVML_POWER_SCOPE_MODULE
    power = _supported(handle, [(INSTANT, gpu), (AVERAGE, gpu)])
    boundary: Boundary = "gpu-board"
    if not power:
        power = _supported(handle, [(INSTANT, module), (AVERAGE, module)])
        boundary = "module" if power else "gpu-board"
    others = _supported(handle, [(ENERGY, gpu), (MEMORY_TEMP, gpu)])
    counted = (ENERGY, gpu) in others
    return Plan(
        fields=(*power, *others),
        legacy_power=not power and _answers(pynvml.nvmlDeviceGetPowerUsage, handle),
        legacy_energy=not counted and _answers(pynvml.nvmlDeviceGetTotalEnergyConsumption, handle),
        boundary=boundary,
    )


def _supported(handle: Any, fields: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return those of the fields that the GPU has ever answered in a few tries. Raises NVMLError."""
    answered: set[tuple[int, int]] = set()
    for _ in range(_PROBES):
        try:
            values = pynvml.nvmlDeviceGetFieldValues(handle, fields)
        except pynvml.NVMLError as error:
            if error.value in UNKNOWN_FIELD:
                return []
            raise
        for field, value in zip(fields, values, strict=True):
            if value.nvmlReturn in LOST:
                raise pynvml.NVMLError(value.nvmlReturn)
            if value.nvmlReturn not in UNKNOWN_FIELD:
                answered.add(field)
    return [field for field in fields if field in answered]


def _answers(call: Callable[[Any], int], handle: Any) -> bool:
    try:
        call(handle)
    except pynvml.NVMLError as error:
        if error.value in LOST:
            raise
        return error.value not in UNKNOWN_FIELD
    return True


def describe(handle: Any, plan: Plan, *, simulated: bool) -> Device:
    """Return what a GPU says of itself. Raises NVMLError when it is lost."""
    name = _text(pynvml.nvmlDeviceGetName, handle)
    return Device(
        uid=str(pynvml.nvmlDeviceGetUUID(handle)),
        name=name,
        index=int(pynvml.nvmlDeviceGetIndex(handle)),
        boundary=plan.boundary,
        simulated=simulated,
        integral_of=plan.integral_of,
        has_counter=plan.has_counter,
        counter_suspect=counter_is_suspect(name),
        driver=_optional(_text, pynvml.nvmlSystemGetDriverVersion),
        vbios=_optional(_text, pynvml.nvmlDeviceGetVbiosVersion, handle),
        memory_bytes=_optional(_memory_total, handle),
        power_limit_mw=_optional(_power_limit, handle),
    )


def _optional(call: Callable[..., T], *arguments: Any) -> T | None:
    """Return what describes a GPU but is not needed to measure it; None where it is not told."""
    try:
        return call(*arguments)
    except pynvml.NVMLError as error:
        if error.value in LOST:
            raise
        return None


def _text(call: Callable[..., str], *arguments: Any) -> str:
    try:
        text = str(call(*arguments))
    except UnicodeDecodeError as error:  # pynvml takes all that a driver says for UTF-8
        text = error.object.decode(errors="replace")
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)


def _power_limit(handle: Any) -> int | None:
    return checked("power_limit", pynvml.nvmlDeviceGetEnforcedPowerLimit(handle), [])


def _memory_total(handle: Any) -> int:
    return int(pynvml.nvmlDeviceGetMemoryInfo(handle).total)
