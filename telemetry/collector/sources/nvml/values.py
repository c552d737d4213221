"""Field values, numbers out of NVML's unions, and the reasons why some are none."""

import struct
from collections.abc import Iterator, Sequence
from typing import Any

import pynvml

_FIELD_VALUE = struct.Struct("IIqqII8s")  # pynvml.c_nvmlFieldValue_t: ids, times, type, return code, union
_UNION = tuple(struct.Struct(member).unpack_from for member in "dILQqiH")  # by NVML_VALUE_TYPE_*
_MOST = 2**63 - 1  # what a store can hold
_MOST_OF = {  # and what cannot be true: drivers write 2**32 - 1 where they have no value
    "power_instant": 100_000_000,
    "power_average": 100_000_000,
    "power_limit": 100_000_000,
    "temperature": 1_000,
    "memory_temp": 1_000,
}


def ask_fields(handle: Any, fields: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int | float | None]]:
    """Ask a GPU for some (field, scope) in one call; return an iterator over each one's return code and number.

    The number is None for a type that NVML has not. Raises NVMLError.
    """
    return _answers(pynvml.nvmlDeviceGetFieldValues(handle, list(fields)))


def _answers(values: Any) -> Iterator[tuple[int, int | float | None]]:
    for _, _, _, _, kind, code, union in _FIELD_VALUE.iter_unpack(values):
        # The 32-bit member of a 64-bit counter would wrap every 4294.967 kJ: 1.7 hours at 700 W.
        yield code, _UNION[kind](union)[0] if kind < len(_UNION) else None


def checked(name: str, number: int | float | None, missing: list[str]) -> int | None:
    """Return a whole number that can be true and be stored, or None and say why not in `missing`."""
    lowest = -273 if "temp" in name else 0
    if number is None or not lowest <= number <= _MOST_OF.get(name, _MOST):  # which NaN is not either
        missing.append(f"{name}:range")
        return None
    if number == 0 and name.startswith("power"):
        missing.append(f"{name}:zero")
        return None
    return round(number)
