"""One cell of a text table: a number with or without a unit, or one of the many spellings of nothing."""

import csv
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

_NOTHING = frozenset(("", "-", "n/a", "nan"))
# What DCGM writes for "no value", as a float reads it: 32-bit, 64-bit and floating blanks.
_BLANKS = frozenset(
    [float(0x7FFFFFF0 + code) for code in range(4)] + [float(2**47 + code) for code in range(4)] + [float(2**63)]
)
_NUMBER_AND_UNIT = re.compile(r"([-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?)\s*([A-Za-z%°]+)")

STORED_MOST = 2**63 - 1  # what a column of the store takes


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """What a column may measure: what each unit is in ours, and the most that is believed, in ours."""

    factors: Mapping[str, float]  # unit as the file spells it (mJ is not MJ)
    most: int


POWER_MW = Scale(factors={"W": 1e3, "mW": 1.0, "kW": 1e6}, most=10_000_000)
ENERGY_MJ = Scale(factors={"mJ": 1.0, "J": 1e3, "kJ": 1e6, "MJ": 1e9}, most=STORED_MOST)
MEMORY_BYTES = Scale(factors={"MiB": 2**20, "B": 1, "KiB": 2**10, "GiB": 2**30, "MB": 1e6, "GB": 1e9}, most=STORED_MOST)
PERCENT = Scale(factors={"%": 1.0}, most=1_000)
CLOCK_MHZ = Scale(factors={"MHz": 1.0}, most=100_000)
TEMPERATURE_C = Scale(factors={"C": 1.0, "°C": 1.0}, most=1_000)
_BARE_POWER = 100  # times the most is believed of a number without a unit, which may be mW: its mean will tell


class CellError(Exception):
    """A cell that cannot be what its column says. It never leaves the importers: they add the line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """A column of numbers: where it stands, and what one of it is in our unit."""

    position: int
    name: str
    scale: Scale
    factor: float  # of a cell that carries no unit
    unit_known: bool = True  # of such a cell

    def parse(self, cell: str) -> int | None:
        """Return a cell's value in our unit, rounded; None where the file has none.

        Raises CellError for anything that is neither a number, nor a known way to say nothing.
        """
        factor = self.factor
        try:
            value = float(cell)
        except ValueError:
            if is_nothing(cell):
                return None
            value, factor = self._with_unit(cell)
        if value in _BLANKS or math.isnan(value):
            return None
        if value < 0 or math.isinf(value):
            raise CellError(f"{self.name} is {cell!r}, which no device reports")
        most = self.scale.most * (1 if self.unit_known or unit_of(cell) else _BARE_POWER)
        if value * factor > most:
            raise CellError(
                f"{self.name} is {cell!r}, more than any device reports: write [N/A] there if it did not answer"
            )
        return round(value * factor)

    def _with_unit(self, cell: str) -> tuple[float, float]:
        found = _NUMBER_AND_UNIT.fullmatch(cell)
        try:
            value = float(found[1]) if found else None
        except ValueError:  # "1.2.3 W"
            value = None
        if found is None or value is None:
            raise CellError(f"{self.name} is {cell!r}, which is no number")
        factors = self.scale.factors
        if found[2] not in factors:
            raise CellError(f"{self.name} is {cell!r}, in the unit {found[2]!r}; read are {', '.join(factors)}")
        return value, factors[found[2]]


def is_nothing(cell: str) -> bool:
    """Return whether a cell says that there is no value: empty, `-`, `N/A`, or any text in brackets."""
    return cell.lower() in _NOTHING or (cell[:1] == "[" and cell[-1:] == "]")


def unit_of(cell: str) -> str | None:
    """Return the unit behind a number; None for a bare number and for anything else."""
    found = _NUMBER_AND_UNIT.fullmatch(cell)
    return found[2] if found else None


def is_number(cell: str) -> bool:
    """Return whether a cell is a number, with or without a unit."""
    try:
        float(cell)
    except ValueError:
        return unit_of(cell) is not None
    return True


def split_line(line: str) -> list[str]:
    """Return the cells of one line, stripped; quotes are those of CSV and end within the line.

    Raises CellError for a quote that does not.
    """
    if '"' not in line:
        return [cell.strip() for cell in line.split(",")]
    try:
        return [cell.strip() for cell in next(csv.reader([line.strip()], skipinitialspace=True, strict=True))]
    except csv.Error as error:
        raise CellError(f"its quotes do not match ({error})") from error
