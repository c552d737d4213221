"""What is read from which column of a file, and in which unit."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from telemetry.errors import ImportRefused, UsageError
from telemetry.importers import cells as c
from telemetry.importers.base import ReadOptions
from telemetry.importers.cells import CellError, Quantity, Scale
from telemetry.importers.columns import REASON_BITS, Column, parse_header
from telemetry.model import power_column

# Field of `Sensors`, units, the unit of a bare number, and the columns it can come from, best first.
_SLOW: tuple[tuple[str, Scale, str, tuple[str, ...]], ...] = (
    ("temperature_c", c.TEMPERATURE_C, "C", ("temperature.gpu",)),
    ("memory_used_bytes", c.MEMORY_BYTES, "MiB", ("memory.used",)),
    ("memory_reserved_bytes", c.MEMORY_BYTES, "MiB", ("memory.reserved",)),
    ("util_gpu_pct", c.PERCENT, "%", ("utilization.gpu",)),
    ("util_memory_pct", c.PERCENT, "%", ("utilization.memory",)),
    ("clock_sm_mhz", c.CLOCK_MHZ, "MHz", ("clocks.sm",)),
    ("clock_memory_mhz", c.CLOCK_MHZ, "MHz", ("clocks.mem",)),
    ("power_limit_mw", c.POWER_MW, "W", ("enforced.power.limit", "power.limit")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mask:
    """A column of NVML's bit mask of clocks-event reasons, in hexadecimal."""

    position: int
    name: str

    def parse(self, cell: str) -> int | None:
        """Return the mask, None where the file has none. Raises CellError for anything else."""
        if c.is_nothing(cell):
            return None
        try:
            mask = int(cell, 16)
        except ValueError as error:
            raise CellError(f"{self.name} is {cell!r}, which is no bit mask such as 0x4") from error
        if not 0 <= mask <= c.STORED_MOST:
            raise CellError(f"{self.name} is {cell!r}, which no device reports")
        return mask


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """Columns of one clocks-event reason each; a reason that the file does not have counts as not active."""

    bits: tuple[tuple[int, int], ...]  # position of the column, bit in NVML's mask

    def parse(self, *cells: str) -> int | None:
        """Return the mask, None where no column says anything. Raises CellError for other words."""
        mask = None
        for cell, (_, bit) in zip(cells, self.bits, strict=True):
            if c.is_nothing(cell):
                continue
            if cell.lower() not in ("active", "not active"):
                raise CellError(f"a clocks-event reason is {cell!r}, which is neither Active nor Not Active")
            mask = (mask or 0) | (bit if cell.lower() == "active" else 0)
        return mask


SlowColumn = Quantity | Mask | Flags


def positions(column: SlowColumn) -> tuple[int, ...]:
    """Return where the cells stand that a column of slow values reads."""
    if isinstance(column, Flags):
        return tuple(position for position, _ in column.bits)
    return (column.position,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where everything that is read stands."""

    columns: tuple[Column, ...]
    instant: Quantity | None
    average: Quantity | None
    energy: Quantity | None
    memory_temp: Quantity | None
    memory_total: Quantity | None
    slow: tuple[tuple[str, SlowColumn], ...]  # with the field of `Sensors`
    preferred: tuple[Quantity, ...]  # power columns, that to integrate first
    unitless: tuple[Quantity, ...]  # power columns of which only the cells can say the unit

    def at(self, known: str) -> int | None:
        """Return the position of the column we know by that name."""
        return next((column.position for column in self.columns if column.known == known), None)


def lay_out(columns: tuple[Column, ...], options: ReadOptions) -> Layout:
    """Decide what is read from which column.

    Raises ImportRefused when there is neither power nor a counter, or a unit that is not known; UsageError
    when an option names a column or unit that does not exist.
    """
    if options.power_unit not in (None, "W", "mW"):
        raise UsageError(f"the power unit {options.power_unit!r} is not known. W and mW are.")
    by_name = {column.known: column for column in reversed(columns) if column.known}
    chosen = _chosen(columns, options.power_col)
    instant = by_name.get("power.draw.instant")
    average = by_name.get("power.draw.average") or by_name.get("power.draw")
    if chosen and power_column(_signal(chosen)) == "power_instant_mw":
        instant = chosen
    elif chosen:
        average = chosen
    energy = by_name.get("total_energy_consumption")
    if not (instant or average or energy):
        names = ", ".join(column.name for column in columns)
        raise ImportRefused(
            f"there is no power column among: {names}. Looked for power.draw, power.draw.average and "
            "power.draw.instant; name another with --power-col."
        )
    if energy and energy.unit is None:
        raise ImportRefused(
            f"the counter {energy.name} names no unit; NVML counts in mJ, other tools print J or MJ. "
            f"Write its unit in the header, such as '{energy.name} [mJ]'."
        )
    for column in (instant, average):
        if column and column.unit and options.power_unit not in (None, column.unit):
            raise ImportRefused(
                f"the header says that {column.name} is in [{column.unit}], and --power-unit says "
                f"{options.power_unit}. Leave --power-unit out, or correct the header."
            )
    quantities = {column: _power(column, options.power_unit) for column in (instant, average) if column}
    order = [chosen] if chosen else [column for column in (instant, average) if column]
    return Layout(
        columns=columns,
        instant=quantities[instant] if instant else None,
        average=quantities[average] if average else None,
        energy=_quantity(energy, c.ENERGY_MJ, "mJ") if energy else None,
        memory_temp=_optional(by_name.get("temperature.memory"), c.TEMPERATURE_C, "C"),
        memory_total=_optional(by_name.get("memory.total"), c.MEMORY_BYTES, "MiB"),
        slow=_slow(by_name),
        preferred=tuple(quantities[column] for column in order),
        unitless=tuple(q for column, q in quantities.items() if not q.unit_known and not options.power_unit),
    )


def _chosen(columns: tuple[Column, ...], power_col: str | None) -> Column | None:
    if power_col is None:
        return None
    wanted = parse_header([power_col])[0].name.lower()
    for column in columns:
        if wanted in (column.name.lower(), column.known):
            return column
    names = ", ".join(column.name for column in columns)
    raise UsageError(f"--power-col names {power_col!r}, which is no column of the file. It has: {names}.")


def _signal(column: Column) -> str:
    return column.known or column.name


def _slow(by_name: Mapping[str, Column]) -> tuple[tuple[str, SlowColumn], ...]:
    found: list[tuple[str, SlowColumn]] = []
    for field, scale, bare, names in _SLOW:
        column = next((by_name[name] for name in names if name in by_name), None)
        if column:
            found.append((field, _quantity(column, scale, bare)))
    reasons = by_name.get("clocks_event_reasons.active")
    flags = tuple(
        (by_name[f"clocks_event_reasons.{reason}"].position, bit)
        for reason, bit in REASON_BITS.items()
        if f"clocks_event_reasons.{reason}" in by_name
    )
    if reasons:
        found.append(("throttle_reasons", Mask(position=reasons.position, name=reasons.name)))
    elif flags:
        found.append(("throttle_reasons", Flags(bits=flags)))
    return tuple(found)


def _optional(column: Column | None, scale: Scale, bare: str) -> Quantity | None:
    return _quantity(column, scale, bare) if column else None


def _power(column: Column, power_unit: str | None) -> Quantity:
    return replace(_quantity(column, c.POWER_MW, power_unit or "W"), unit_known=column.unit is not None)


def _quantity(column: Column, scale: Scale, bare: str) -> Quantity:
    unit, factors = column.unit if column.unit is not None else bare, scale.factors
    if unit not in factors:
        raise ImportRefused(
            f"the column {column.name} is in [{unit}], which is no unit known for it. Read are {', '.join(factors)}."
        )
    return Quantity(position=column.position, name=_signal(column), scale=scale, factor=factors[unit])
