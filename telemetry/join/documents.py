"""Pieces that the documents of docs/json.md share."""

from datetime import UTC, datetime
from typing import Any

from telemetry.model import Estimate
from telemetry.storage.reader import StoredDevice


def iso(t_ns: int) -> str:
    """Return a UTC time with milliseconds."""
    return datetime.fromtimestamp(t_ns / 1e9, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def energy_json(energy: Estimate) -> dict[str, Any]:
    """Return an energy, J, with bounds, method and grade."""
    return {
        "value_j": energy.value, "lo_j": energy.lo, "hi_j": energy.hi, "method": energy.method,
        "grade": energy.grade, "net_j": None, "baseline": None,
    }  # fmt: skip


def device_json(
    device: StoredDevice,
    energy: Estimate,
    duration_s: float,
    *,
    peak_power_w: float | None,
    max_temperature_c: float | None,
    max_memory_used_bytes: float | None,
) -> dict[str, Any]:
    """Return one device's part of a run or window."""
    return {
        "uid": device.uid,
        "name": device.name,
        "energy": energy_json(energy),
        "avg_power_w": average_w(energy, duration_s),
        "peak_power_w": peak_power_w,
        "max_temperature_c": whole(max_temperature_c),
        "max_memory_used_bytes": whole(max_memory_used_bytes),
        "throttled_s": None,
    }


def average_w(energy: Estimate, duration_s: float) -> float | None:
    """Return energy over duration, W; None without either."""
    return None if energy.value is None or not duration_s else energy.value / duration_s


def whole(number: float | None) -> int | None:
    """Return a stored number that counts something as the integer it is."""
    return None if number is None else int(number)
