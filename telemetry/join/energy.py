"""The energy of one device over one interval, from the stored rows around its edges."""

from dataclasses import dataclass
from typing import Literal, cast

import numpy as np

from telemetry.analysis import Breaks, EnergyCurve, EnergyEstimates, PowerLimits, Rows, power_limits
from telemetry.model import Estimate
from telemetry.storage import reader
from telemetry.storage.reader import EDGE_NS, StoredDevice
from telemetry.storage.store import Store

# A row of vitals holds the extremes of the second before it; a row this long after the start holds none of before.
VITALS_NS = 1_050_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceEnergy:
    """One device over one interval; None where nothing was measured."""

    device: StoredDevice
    estimates: EnergyEstimates  # of the one interval
    peak_power_w: float | None
    max_temperature_c: int | None
    max_memory_used_bytes: int | None

    @property
    def energy(self) -> Estimate:
        """The device's energy, J."""
        return self.estimates.at(0)


async def limits_of(store: Store, device: StoredDevice) -> PowerLimits:
    """Return between which powers a device stays, from its limit and all that was ever read of it."""
    ever = await reader.extremes(store, device.id, 0, 2**62)
    return power_limits(
        limit_w=_kilo(device.power_limit_mw),
        min_instant_w=_kilo(ever.min_power_mw),
        max_instant_w=_kilo(ever.max_power_mw),
        name=device.name,
    )


async def device_energy(
    store: Store, device: StoredDevice, limits: PowerLimits, t0_ns: int, t1_ns: int
) -> DeviceEnergy:
    """Return the energy of one device over [t0, t1], from the rows around its edges and its breaks."""
    holes = await reader.gaps(store, device.id, t0_ns - EDGE_NS, t1_ns + EDGE_NS)
    starts = await reader.session_starts(store, device.id, t0_ns - EDGE_NS, t1_ns + EDGE_NS)
    places = [(t0_ns - EDGE_NS, t0_ns + EDGE_NS), (t1_ns - EDGE_NS, t1_ns + EDGE_NS)]
    places += [(gap.from_ns, gap.to_ns) for gap in holes] + [(start, start) for start in starts]
    pieces = [await reader.rows_between(store, device.id, *place) for place in _merged(places)]
    curve = EnergyCurve.of(
        Rows.concat([Rows.of(piece) for piece in pieces if piece]),
        path=cast(Literal["counter", "integral"], device.energy_path or "integral"),
        limits=limits,
        breaks=Breaks.of(holes, starts),
        integral_of=device.integral_of or "instant",
    )
    t0, t1 = np.array([t0_ns]), np.array([t1_ns])
    inside = await reader.extremes(store, device.id, t0_ns + VITALS_NS, t1_ns)
    around = await reader.extremes(store, device.id, t0_ns, t1_ns + VITALS_NS)
    peaks = [*curve.peak_power_w(t0, t1).tolist(), _kilo(inside.max_power_mw)]
    return DeviceEnergy(
        device=device,
        estimates=curve.energy(t0, t1),
        peak_power_w=max((p for p in peaks if p is not None and np.isfinite(p)), default=None),
        max_temperature_c=around.max_temperature_c,
        max_memory_used_bytes=around.max_memory_used_bytes,
    )


def _kilo(milli: int | None) -> float | None:
    return None if milli is None else milli / 1000


def _merged(places: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for begin, end in sorted(places):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return merged
