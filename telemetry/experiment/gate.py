"""The start gate: runs begin where the devices are idle and cool."""

import asyncio
import time
from collections.abc import Callable, Sequence

import numpy as np

from telemetry.experiment.plan import Gate
from telemetry.join import Boards
from telemetry.join.baselines import power_by_second
from telemetry.join.boards import Board
from telemetry.join.traces import board_of
from telemetry.storage import reader
from telemetry.storage.reader import StoredDevice
from telemetry.storage.store import Store

LOOK_S = 1.0
BEHIND_S = 0.5  # what the collector has read is in the store by then
S = 1_000_000_000


async def wait_until_idle(
    store: Store, devices: Sequence[StoredDevice], gate: Gate, boards: Boards, waiting: Callable[[str], None]
) -> str | None:
    """Wait until every device keeps within the gate; return None, or why one still does not when time is up.

    `waiting` is told each second what is waited for.
    """
    until = time.monotonic() + gate.wait_s
    each = [(device, await board_of(store, device, boards)) for device in devices]
    while True:
        reasons = [why for device, board in each if (why := await _not_idle(store, device, board, gate))]
        if not reasons:
            return None
        if time.monotonic() >= until:
            return " ".join(reasons)
        waiting(reasons[0])
        await asyncio.sleep(LOOK_S)


async def _not_idle(store: Store, device: StoredDevice, board: Board, gate: Gate) -> str | None:
    """Return what keeps a device from being idle; None where it is."""
    to_ns = store.clock.now_ns() - round(BEHIND_S * S)
    from_ns = to_ns - round(gate.for_s * S)
    _, power_w = await power_by_second(store, device, board, from_ns, to_ns)
    known_w = power_w[np.isfinite(power_w)]
    if len(known_w) < max(1.0, gate.for_s - 1):
        return f"{device.name} has been read for less than {gate.for_s:g} s."
    if np.ptp(known_w) > gate.within_w:
        return (
            f"{device.name} moved between {known_w.min():.1f} and {known_w.max():.1f} W within {gate.for_s:g} s; "
            f"idle is within {gate.within_w:g} W."
        )
    found = await reader.vitals(store, device.id, to_ns - 3 * S, to_ns)
    hottest = max((v.sensors.temperature_c for v in found if v.sensors.temperature_c is not None), default=None)
    if hottest is not None and hottest >= gate.below_c:
        return f"{device.name} has {hottest} °C; it must be below {gate.below_c:g} °C."
    return None
