"""Pieces that the documents of docs/json.md share."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from telemetry.analysis import Calibrated
from telemetry.join.baselines import AboveIdle
from telemetry.model import Estimate
from telemetry.storage.reader import StoredDevice


def iso(t_ns: int) -> str:
    """Return a UTC time with milliseconds."""
    return datetime.fromtimestamp(t_ns / 1e9, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def told_energy(energy: Estimate) -> dict[str, Any]:
    """Return an energy, J, with bounds, method, grade and flags."""
    return {
        "value_j": energy.value,
        "lo_j": energy.lo,
        "hi_j": energy.hi,
        "method": energy.method,
        "grade": energy.grade,
        "flags": list(energy.flags),
    }


def energy_of(told: Mapping[str, Any]) -> Estimate:
    """Return the energy of which `told_energy` told."""
    return Estimate(
        value=told["value_j"],
        lo=told["lo_j"],
        hi=told["hi_j"],
        method=told["method"],
        grade=told["grade"],
        flags=tuple(told["flags"]),
    )


def energy_json(
    told: Mapping[str, Any], true: Calibrated, net: AboveIdle | None = None, active: AboveIdle | None = None
) -> dict[str, Any]:
    """Return an energy of which `told_energy` told with what calibration does to it, and what is left above idle, J.

    net: above B1, the model loaded and quiet; active: above B0, nothing has the device open.
    """
    return {
        **told,
        "net_j": net and net.energy.value,
        "baseline": None if net is None else f"B1 {net.idle_w:.4g} W",
        "net_lo_j": net and net.energy.lo,
        "net_hi_j": net and net.energy.hi,
        "net_u_idle_j": net and net.u_idle_j,
        "active_j": active and active.energy.value,
        "active_baseline": None if active is None else f"B0 {active.idle_w:.4g} W",
        "active_u_idle_j": active and active.u_idle_j,
        "calibrated": {
            "value_j": true.value_j,
            "u_j": true.u_j,
            "lo_j": true.lo_j,
            "hi_j": true.hi_j,
            "provenance": true.provenance,
        },
    }


def device_json(
    device: StoredDevice,
    energy: dict[str, Any],
    duration_s: float,
    *,
    peak_power_w: float | None,
    max_temperature_c: float | None,
    max_memory_used_bytes: float | None,
    residual: float | None,
    throttled: Mapping[str, float],
    automatic: Estimate | None,
    idle_power_w: Estimate | None = None,
) -> dict[str, Any]:
    """Return one device's part of a run or window; `energy` as `told_energy` or `energy_json` gives it."""
    return {
        "uid": device.uid,
        "name": device.name,
        "boundary": device.boundary,
        "energy": energy,
        "avg_power_w": average_w(energy["value_j"], duration_s),
        "peak_power_w": peak_power_w,
        "max_temperature_c": whole(max_temperature_c),
        "max_memory_used_bytes": whole(max_memory_used_bytes),
        # Reasons overlap: the longest is what is surely known.
        "throttled_s": max(throttled.values(), default=None),
        "throttled_by": dict(throttled),
        "counter_residual": residual,
        "automatic": None if automatic is None else bounds_json(automatic) | {"method": automatic.method},
        "idle_power_w": None if idle_power_w is None else bounds_json(idle_power_w),
    }


def bounds_json(estimate: Estimate) -> dict[str, Any]:
    """Return a number with its bounds."""
    return {"value": estimate.value, "lo": estimate.lo, "hi": estimate.hi}


def average_w(energy_j: float | None, duration_s: float) -> float | None:
    """Return energy over duration, W; None without either."""
    return None if energy_j is None or not duration_s else energy_j / duration_s


def whole(number: float | None) -> int | None:
    """Return a stored number that counts something as the integer it is."""
    return None if number is None else int(number)
