"""Numbers out of NVML's unions, and the reasons why some are none."""

import math
from typing import Any

_UNION = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")  # by NVML_VALUE_TYPE_*
_MAX_COUNTER = 2**63 - 1  # what a store can hold


def number(value: Any) -> int | float | None:
    """Return the member of the union that the value's type names; None for a type that NVML has not."""
    kind = value.valueType
    # The 32-bit member of a 64-bit counter would wrap every 4294.967 kJ: 1.7 hours at 700 W.
    return getattr(value.value, _UNION[kind]) if kind < len(_UNION) else None


def checked(name: str, number: int | float | None, missing: list[str]) -> int | None:
    """Return a whole number that can be true and be stored, or None and say why not in `missing`."""
    lowest = -273 if name == "memory_temp" else 0
    if number is None or not math.isfinite(number) or not lowest <= number <= _MAX_COUNTER:
        missing.append(f"{name}:range")
        return None
    if number == 0 and name.startswith("power"):
        missing.append(f"{name}:zero")
        return None
    return round(number)
