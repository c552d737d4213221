"""What the simulated driver answers about one GPU: each function has the arguments of its C namesake."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from telemetry.collector.sources.simulated import codes
from telemetry.collector.sources.simulated.chance import bits
from telemetry.collector.sources.simulated.faults import Fault, FaultKind
from telemetry.collector.sources.simulated.gpu import SimulatedGpu

Code = int
_RING = 120  # power samples that the driver keeps
_POWERS = (codes.FIELD_POWER_INSTANT, codes.FIELD_POWER_AVERAGE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call about one GPU: when it is answered, and under which faults."""

    gpu: SimulatedGpu
    now_ns: int
    seen_ns: int  # the time that power and energy are of: earlier than now while they are stale
    wall_offset_ns: int
    restarted_ns: int | None
    faults: Mapping[FaultKind, Fault]

    @property
    def refused(self) -> bool:
        """Whether power and energy answer NOT_SUPPORTED."""
        return "not_supported" in self.faults

    def wall_us(self, mono_ns: int) -> int:
        """Return the wall clock at a time of CLOCK_MONOTONIC, µs."""
        return (mono_ns + self.wall_offset_ns) // 1000

    @property
    def slot(self) -> int:
        """The number of the INSTANT and AVERAGE that are shown."""
        return self.gpu.sensor.slot(self.seen_ns)

    def power_mw(self, *, average: bool) -> int | None:
        """Return INSTANT or AVERAGE as faults and hurry leave it, mW; None where it is not supported."""
        hurried = self.gpu.hurried(self.now_ns)
        unsupported, zero = self.refused, "zero" in self.faults
        if hurried:  # a driver that is asked too often answers now one, now the other
            zero = bits(self.now_ns) % 2 == 0
            unsupported = unsupported or not zero
        sensor = self.gpu.sensor
        power_mw = None if unsupported else (sensor.average_mw if average else sensor.instant_mw)(self.slot)
        return 0 if power_mw is not None and zero else power_mw

    def energy_mj(self) -> int:
        """Return the counter, mJ."""
        return self.gpu.counter_mj(self.seen_ns, restarted_ns=self.restarted_ns)


def put(ref: Any, value: int) -> Code:
    """Write a number that was passed by reference."""
    ref._obj.value = value
    return codes.SUCCESS


def put_text(text: str, buffer: Any, size: Any) -> Code:
    """Write a string into the caller's buffer."""
    if len(text) >= size.value:
        return codes.INSUFFICIENT_SIZE
    buffer.value = text.encode()
    return codes.SUCCESS


def _mig_mode(_: Call, current: Any, pending: Any) -> Code:
    return put(current, 0) or put(pending, 0)


def _memory_v1(call: Call, ref: Any) -> Code:
    memory = call.gpu.memory
    ref._obj.total = memory.total_bytes
    ref._obj.used = memory.used_bytes + memory.reserved_bytes  # as version 1 does
    ref._obj.free = memory.total_bytes - ref._obj.used
    return codes.SUCCESS


def _memory_v2(call: Call, ref: Any) -> Code:
    memory = call.gpu.memory
    if ref._obj.version != codes.MEMORY_V2:
        return codes.ARGUMENT_VERSION_MISMATCH
    ref._obj.total = memory.total_bytes
    ref._obj.reserved = memory.reserved_bytes
    ref._obj.used = memory.used_bytes
    ref._obj.free = memory.total_bytes - memory.reserved_bytes - memory.used_bytes
    return codes.SUCCESS


def _power_usage(call: Call, ref: Any) -> Code:
    power_mw = call.power_mw(average=call.gpu.sensor.parameters.average_ns is not None)
    return codes.NOT_SUPPORTED if power_mw is None else put(ref, power_mw)


def _total_energy(call: Call, ref: Any) -> Code:
    return codes.NOT_SUPPORTED if call.refused else put(ref, call.energy_mj())


def _field_values(call: Call, count: Any, ref: Any) -> Code:
    for i in range(count.value):
        value = ref._obj[i]
        value.timestamp = call.wall_us(_stamped_ns(call, value.fieldId))
        value.latencyUsec = 0
        number, kind = _field(call, value.fieldId, value.scopeId)
        if number is None:
            value.nvmlReturn = codes.NOT_SUPPORTED
            continue
        value.nvmlReturn = codes.SUCCESS
        value.valueType = kind
        if kind == codes.VALUE_UNSIGNED_LONG_LONG:
            value.value.ullVal = number
        else:
            value.value.uiVal = number
    return codes.SUCCESS


def _stamped_ns(call: Call, field: int) -> int:
    if call.gpu.preset.sensor_stamps and field in _POWERS:
        return call.gpu.sensor.sampled_ns(call.slot)
    if call.gpu.preset.sensor_stamps and field in codes.FIELDS_ENERGY:
        return call.gpu.sensor.counter_latched_ns(call.seen_ns)
    return call.now_ns


def _field(call: Call, field: int, scope: int) -> tuple[int | None, int]:
    """Return a field's value, None where the GPU does not support it, and the type of the value."""
    gpu = call.gpu
    number: int | None = None
    if field in _POWERS:
        average = field == codes.FIELD_POWER_AVERAGE
        if scope == (codes.SCOPE_MODULE if gpu.preset.module_scope else codes.SCOPE_GPU):
            number = call.power_mw(average=average)
        elif scope == codes.SCOPE_MEMORY and average and gpu.preset.memory_share:
            board_mw = call.power_mw(average=True)
            number = None if board_mw is None else round(gpu.preset.memory_share * board_mw)
        return number, codes.VALUE_UNSIGNED_INT
    if field == codes.FIELD_MEMORY_TEMPERATURE:
        if gpu.preset.memory_temperature:
            number = round(gpu.temperature_c(call.now_ns) + 6)
        return number, codes.VALUE_UNSIGNED_INT
    if field in codes.FIELDS_ENERGY:
        number = None if call.refused else call.energy_mj()
    elif field == codes.FIELD_POWER_CAP_NS:
        number = gpu.power_capped_ns(call.now_ns)
    elif field in codes.FIELDS_NEVER_THROTTLED_NS:
        number = 0
    return number, codes.VALUE_UNSIGNED_LONG_LONG


def _samples(call: Call, kind: Any, last_seen_us: Any, type_ref: Any, count_ref: Any, samples: Any) -> Code:
    if kind.value not in (codes.SAMPLES_TOTAL_POWER, codes.SAMPLES_MODULE_POWER):
        return codes.INVALID_ARGUMENT
    if (kind.value == codes.SAMPLES_MODULE_POWER) != call.gpu.preset.module_scope or call.refused:
        return codes.NOT_SUPPORTED
    type_ref._obj.value = codes.VALUE_UNSIGNED_INT
    if samples is None:
        count_ref._obj.value = _RING
        return codes.SUCCESS
    sensor = call.gpu.sensor
    every = call.gpu.preset.ring_every
    newest = call.slot // every * every
    kept = range(newest - (_RING - 1) * every, newest + 1, every)
    stamps = ((slot, call.wall_us(sensor.published_ns(slot))) for slot in kept)
    unseen = [(slot, stamp_us) for slot, stamp_us in stamps if stamp_us > last_seen_us.value]
    unseen = unseen[-count_ref._obj.value :]
    count_ref._obj.value = len(unseen)
    for i, (slot, stamp_us) in enumerate(unseen):
        samples[i].timeStamp = stamp_us
        samples[i].sampleValue.uiVal = sensor.instant_mw(slot)
    return codes.SUCCESS


def _utilisation(call: Call, ref: Any) -> Code:
    ref._obj.gpu = call.gpu.utilisation_pct(call.now_ns)
    ref._obj.memory = ref._obj.gpu // 2
    return codes.SUCCESS


def _temperature_v(call: Call, ref: Any) -> Code:
    ref._obj.temperature = round(call.gpu.temperature_c(call.now_ns))
    return codes.SUCCESS


def _clock(call: Call, kind: Any, ref: Any) -> Code:
    if kind.value == codes.CLOCK_MEMORY:
        return put(ref, call.gpu.preset.clock_memory_mhz)
    return put(ref, call.gpu.clock_sm_mhz(call.now_ns))


def _max_clock(call: Call, kind: Any, ref: Any) -> Code:
    preset = call.gpu.preset
    return put(ref, preset.clock_memory_mhz if kind.value == codes.CLOCK_MEMORY else preset.clock_sm_mhz)


def _limit_constraints(call: Call, low: Any, high: Any) -> Code:
    return put(low, call.gpu.limit_mw // 3) or put(high, call.gpu.limit_mw)


def _throttle_reasons(call: Call, ref: Any) -> Code:
    return put(ref, call.gpu.throttle_reasons(call.now_ns))


def _brand(call: Call, ref: Any) -> Code:
    return put(ref, codes.BRAND_GEFORCE_RTX if "GeForce" in call.gpu.preset.product else codes.BRAND_NVIDIA)


DEVICE_ANSWERS: dict[str, Callable[..., Code]] = {
    "nvmlDeviceGetName": lambda call, buffer, size: put_text(call.gpu.preset.name, buffer, size),
    "nvmlDeviceGetUUID": lambda call, buffer, size: put_text(call.gpu.uuid, buffer, size),
    "nvmlDeviceGetVbiosVersion": lambda call, buffer, size: put_text("51.D0.00.00.01", buffer, size),
    "nvmlDeviceGetIndex": lambda call, ref: put(ref, call.gpu.index),
    "nvmlDeviceGetArchitecture": lambda call, ref: put(ref, call.gpu.preset.architecture),
    "nvmlDeviceGetBrand": _brand,
    "nvmlDeviceGetPersistenceMode": lambda call, ref: put(ref, 1),
    "nvmlDeviceGetMigMode": _mig_mode,
    "nvmlDeviceGetMemoryInfo": _memory_v1,
    "nvmlDeviceGetMemoryInfo_v2": _memory_v2,
    "nvmlDeviceGetPowerUsage": _power_usage,
    "nvmlDeviceGetTotalEnergyConsumption": _total_energy,
    "nvmlDeviceGetFieldValues": _field_values,
    "nvmlDeviceGetSamples": _samples,
    "nvmlDeviceGetUtilizationRates": _utilisation,
    "nvmlDeviceGetTemperature": lambda call, sensor, ref: put(ref, round(call.gpu.temperature_c(call.now_ns))),
    "nvmlDeviceGetTemperatureV": _temperature_v,
    "nvmlDeviceGetClockInfo": _clock,
    "nvmlDeviceGetMaxClockInfo": _max_clock,
    "nvmlDeviceGetEnforcedPowerLimit": lambda call, ref: put(ref, call.gpu.limit_mw),
    "nvmlDeviceGetPowerManagementLimit": lambda call, ref: put(ref, call.gpu.limit_mw),
    "nvmlDeviceGetPowerManagementDefaultLimit": lambda call, ref: put(ref, call.gpu.limit_mw),
    "nvmlDeviceGetPowerManagementLimitConstraints": _limit_constraints,
    "nvmlDeviceGetCurrentClocksEventReasons": _throttle_reasons,
    "nvmlDeviceGetCurrentClocksThrottleReasons": _throttle_reasons,
}
