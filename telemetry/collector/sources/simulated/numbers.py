"""Numbers as people write them in a source's description: W, s, ms; and what they are inside: mW, ns."""

import math
from collections.abc import Sequence

from telemetry.errors import UsageError


def parse_numbers(where: str, parts: Sequence[str], *, negative: bool = False) -> list[float]:
    """Return finite numbers, of 0 or more unless `negative`. Raises UsageError naming `where`."""
    numbers = []
    for part in parts:
        try:
            number = float(part)
        except ValueError:
            number = math.nan
        if not math.isfinite(number) or (number < 0 and not negative):
            raise UsageError(f"{where}: {part!r} is not a number{'' if negative else ' of 0 or more'}.")
        numbers.append(number)
    return numbers


def parse_integer(name: str, value: str, low: int, high: int) -> int:
    """Return a whole number between two bounds. Raises UsageError naming `name`."""
    if not value.isdecimal() or not low <= int(value) <= high:
        raise UsageError(f"{name}={value} is not a whole number from {low} to {high}.")
    return int(value)


def to_milli(watts: float) -> int:
    """Return W as whole mW."""
    return round(watts * 1e3)


def to_ns(seconds: float) -> int:
    """Return s as whole ns."""
    return round(seconds * 1e9)
