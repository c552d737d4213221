"""Which column is which: names as nvidia-smi printed them over the years."""

from collections.abc import Mapping
from dataclasses import dataclass

# Our name of a column, and the names before " [" by which it is known, in lower case.
ALIASES: Mapping[str, tuple[str, ...]] = {
    "timestamp": ("timestamp", "time", "datetime"),
    "uuid": ("uuid", "gpu_uuid"),
    "index": ("index",),
    "gpu_index": ("gpu_index",),
    "gpu": ("gpu",),
    "pci.bus_id": ("pci.bus_id", "pci_bus_id", "gpu_bus_id"),
    "name": ("name", "gpu_name"),
    "driver_version": ("driver_version",),
    "vbios_version": ("vbios_version",),
    "memory.total": ("memory.total", "memory_total"),
    "power.draw": ("power.draw", "power_draw"),
    "power.draw.average": ("power.draw.average", "power_draw_average"),
    "power.draw.instant": ("power.draw.instant", "power_draw_instant"),
    "total_energy_consumption": ("total_energy_consumption", "total.energy.consumption", "total_energy"),
    "temperature.memory": ("temperature.memory", "temperature_memory"),
    "temperature.gpu": ("temperature.gpu", "temperature_gpu"),
    "memory.used": ("memory.used", "memory_used"),
    "memory.reserved": ("memory.reserved", "memory_reserved"),
    "utilization.gpu": ("utilization.gpu", "utilization_gpu"),
    "utilization.memory": ("utilization.memory", "utilization_memory"),
    "clocks.sm": ("clocks.sm", "clocks.current.sm"),
    "clocks.mem": ("clocks.mem", "clocks.current.memory"),
    "enforced.power.limit": ("enforced.power.limit",),
    "power.limit": ("power.limit", "power_limit"),
    "clocks_event_reasons.active": ("clocks_event_reasons.active", "clocks_throttle_reasons.active"),
}
# Each clocks-event reason that can be asked for by itself, and its bit in NVML's mask.
REASON_BITS: Mapping[str, int] = {
    "gpu_idle": 0x1,
    "applications_clocks_setting": 0x2,
    "sw_power_cap": 0x4,
    "hw_slowdown": 0x8,
    "sync_boost": 0x10,
    "sw_thermal_slowdown": 0x20,
    "hw_thermal_slowdown": 0x40,
    "hw_power_brake_slowdown": 0x80,
}
_REASONS = ("clocks_event_reasons.", "clocks_throttle_reasons.")  # since driver 535, and before
_KNOWN = {alias: name for name, aliases in ALIASES.items() for alias in aliases}
_KNOWN |= {f"{prefix}{reason}": f"clocks_event_reasons.{reason}" for prefix in _REASONS for reason in REASON_BITS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column as the header gives it."""

    position: int
    name: str  # as the file writes it, before the bracket
    unit: str | None  # in the bracket
    known: str | None  # our name, where we know it


def parse_header(cells: list[str]) -> tuple[Column, ...]:
    """Return the columns of a header line."""
    columns = []
    for position, cell in enumerate(cells):
        name, bracket, rest = cell.partition("[")
        unit = rest.rstrip().removesuffix("]").strip() if bracket else None
        columns.append(Column(position=position, name=name.strip(), unit=unit, known=_KNOWN.get(name.strip().lower())))
    return tuple(columns)


def looks_like_header(cells: list[str]) -> bool:
    """Return whether a line names a column that we know."""
    return any(column.known for column in parse_header(cells))
