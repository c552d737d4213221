"""Rows into traces: one device's readings in order, its slow values thinned, doubts counted."""

from collections.abc import Callable
from functools import lru_cache
from operator import itemgetter
from typing import Any

from telemetry.importers.base import Trace
from telemetry.importers.cells import CellError, Quantity, is_nothing
from telemetry.importers.layout import Layout, positions
from telemetry.model import Device, Reading, Sensors, power_column

_SECOND_NS = 1_000_000_000
_STUCK_NS = 5 * _SECOND_NS
_REMEMBERED = 1 << 16  # texts a column: every 10 mW up to 655 W

CellReader = Callable[[list[str]], int | None]


class RowReader:
    """Turns the cells of one row into a reading or into slow values, by a layout.

    The same few thousand texts make up a file of a million rows, so what was parsed is remembered.
    `slow_cells` picks the cells that `sensors` takes, as a tuple; None: the file has no slow values.
    """

    def __init__(self, layout: Layout) -> None:
        self._instant = _cell_reader(layout.instant)
        self._average = _cell_reader(layout.average)
        self._energy = _cell_reader(layout.energy)
        self._memory_temp = _cell_reader(layout.memory_temp)
        self._slow = [(f, len(positions(q)), lru_cache(_REMEMBERED)(q.parse)) for f, q in layout.slow]
        slow_positions = [position for _, column in layout.slow for position in positions(column)]
        self.slow_cells: Callable[[list[str]], tuple[str, ...]] | None = None
        if slow_positions:  # one position more, since itemgetter makes no tuple of one
            self.slow_cells = itemgetter(*slow_positions, slow_positions[0])
        self.sensors = lru_cache(_REMEMBERED)(self._parse_sensors)
        self.memory_total = _cell_reader(layout.memory_total)

    def reading(self, t_ns: int, cells: list[str]) -> Reading:
        """Return the row's fast values. Raises CellError."""
        instant, why_instant = _power(self._instant, cells, "power_instant")
        average, why_average = _power(self._average, cells, "power_average")
        return Reading(
            t_ns=t_ns,
            latency_ns=0,
            power_instant_mw=instant,
            power_average_mw=average,
            energy_mj=self._energy(cells) or None if self._energy else None,  # 0: it did not answer, as below
            memory_temp_c=self._memory_temp(cells) if self._memory_temp else None,
            missing=why_instant + why_average,
        )

    def _parse_sensors(self, slow_cells: tuple[str, ...]) -> Sensors:
        """Return a row's slow values. Raises CellError."""
        values: dict[str, Any] = {}
        begin = 0
        for field, width, parse in self._slow:
            values[field] = parse(*slow_cells[begin : begin + width])
            begin += width
        return Sensors(**values)


def _cell_reader(column: Quantity | None) -> CellReader | None:
    if column is None:
        return None
    position, parse = column.position, lru_cache(_REMEMBERED)(column.parse)
    return lambda cells: parse(cells[position])


def _power(read: CellReader | None, cells: list[str], field: str) -> tuple[int | None, tuple[str, ...]]:
    power_mw = read(cells) if read else None
    if power_mw or read is None:
        return power_mw, ()
    # A powered board never draws 0 W: drivers write it when the sensor did not answer.
    return None, (f"{field}:{'zero' if power_mw == 0 else 'absent'}",)


class TraceBuilder:
    """Gathers one device's rows."""

    def __init__(self, reader: RowReader, first: list[str]) -> None:
        """Start the trace of the device that the cells `first` are of. Raises CellError."""
        self.first = first
        self._memory_bytes = reader.memory_total(first) if reader.memory_total else None
        self.repeated = 0
        self.rows = 0
        self.readings: list[Reading] = []
        self._reader = reader
        self._slow_cells: tuple[str, ...] = ()
        self._sensors: list[tuple[int, Sensors]] = []

    def add(self, t_ns: int, cells: list[str]) -> None:
        """Take the next row; of rows with equal stamps the last stays.

        Raises CellError for a value that cannot be read and for time running backwards.
        """
        reading = self._reader.reading(t_ns, cells)
        last_ns = self.readings[-1].t_ns if self.readings else t_ns - 1
        if t_ns < last_ns:
            raise CellError(
                f"its time is {(last_ns - t_ns) / 1e9:g} s before the row above it of the same GPU: the "
                "clock was set back, or logs were put together in the wrong order. Split the file there"
            )
        if t_ns == last_ns:
            self.repeated += 1
            self.readings[-1] = reading
        else:
            self.readings.append(reading)
        self.rows += 1
        self._add_sensors(t_ns, cells)

    def _add_sensors(self, t_ns: int, cells: list[str]) -> None:
        if self._reader.slow_cells is None:
            return
        slow_cells = self._reader.slow_cells(cells)
        if self._sensors and slow_cells == self._slow_cells and t_ns - self._sensors[-1][0] < _SECOND_NS:
            return
        if self._sensors and self._sensors[-1][0] == t_ns:
            self._sensors.pop()
        self._sensors.append((t_ns, self._reader.sensors(slow_cells)))
        self._slow_cells = slow_cells

    def signal(self, preferred: tuple[Quantity, ...]) -> Quantity | None:
        """Return the first of the power columns in which this device has a value; the first if none has."""
        for column in preferred:
            if any(self._powers(column)):
                return column
        return preferred[0] if preferred else None

    def has_values(self, layout: Layout) -> bool:
        """Return whether this device has any power or counter value at all."""
        return any(any(self._powers(column)) for column in layout.preferred) or any(
            reading.energy_mj is not None for reading in self.readings
        )

    def mean_mw(self, column: Quantity) -> float:
        """Return the mean of a power column over the rows that have it, mW; 0 when none has."""
        powers = [power_mw for power_mw in self._powers(column) if power_mw]
        return sum(powers) / len(powers) if powers else 0.0

    def notes(self, layout: Layout, index: int) -> list[str]:
        """Return what is doubtful about the power of this device, GPU `index`."""
        column = self.signal(layout.preferred)
        if column is None:
            return []
        powers = self._powers(column)
        notes = []
        if absent := powers.count(None):
            notes.append(f"GPU {index}: {absent} of {len(powers)} values of {column.name} are missing.")
        if len(set(powers) - {None}) == 1 and self.readings[-1].t_ns - self.readings[0].t_ns > _STUCK_NS:
            notes.append(f"GPU {index}: {column.name} never changes in {len(powers)} rows: the sensor may be stuck.")
        return notes

    def build(self, layout: Layout, *, uid: str, index: int) -> Trace:
        """Return the trace, its device described by the device's first row."""
        signal = self.signal(layout.preferred)
        device = Device(
            uid=uid,
            name=self._text(layout, "name") or f"GPU {index} (imported)",
            index=index,
            integral_of=signal.name if signal else None,
            has_counter=any(reading.energy_mj is not None for reading in self.readings),
            driver=self._text(layout, "driver_version"),
            vbios=self._text(layout, "vbios_version"),
            memory_bytes=self._memory_bytes,
            power_limit_mw=self._sensors[0][1].power_limit_mw if self._sensors else None,
        )
        return Trace(device=device, readings=tuple(self.readings), sensors=tuple(self._sensors))

    def _powers(self, column: Quantity) -> list[int | None]:
        field = power_column(column.name)
        return [getattr(reading, field) for reading in self.readings]

    def _text(self, layout: Layout, known: str) -> str | None:
        position = layout.at(known)
        if position is None or is_nothing(self.first[position]):
            return None
        return self.first[position]
