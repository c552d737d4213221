"""The energy of any interval, as the window's JSON, version 1."""

from itertools import pairwise
from typing import Any

import numpy as np

from telemetry.analysis import calibrated, sum_devices
from telemetry.analysis.calibration import together
from telemetry.errors import TraceError
from telemetry.join.boards import Boards
from telemetry.join.boundaries import headline
from telemetry.join.documents import device_json, energy_json, iso, told_energy
from telemetry.join.energy import Path
from telemetry.join.traces import board_of, device_energy
from telemetry.model import power_column
from telemetry.storage import reader
from telemetry.storage.reader import StoredDevice
from telemetry.storage.store import Store

RATES_NS = 600_000_000_000


async def window(
    store: Store, t0_ns: int, t1_ns: int, uids: tuple[str, ...] = (), *, boards: Boards, method: str = "auto"
) -> dict[str, Any]:
    """Return the energy of devices, all or those of these UIDs or names, between two times of the steady clock.

    Raises UsageError for a method that does not exist, TraceError where the interval and the readings do not
    meet, saying by how much they miss.
    """
    if t1_ns <= t0_ns:
        raise TraceError("The window ends before it begins. Swap --from and --to.")
    every = [d for d in await reader.devices(store) if not uids or d.uid in uids or d.name in uids]
    spans = {d.id: span for d in every if (span := await reader.span_ns(store, d.id))}
    meets = [d for d in every if d.id in spans and spans[d.id][0] < t1_ns and spans[d.id][1] > t0_ns]
    if not meets:
        raise TraceError(await _missed(store, t0_ns, t1_ns, list(spans.values())))
    clock, duration_s = await reader.wall_clock(store), (t1_ns - t0_ns) / 1e9
    parts = [
        await device_energy(store, d, await board_of(store, d, boards), t0_ns, t1_ns, clock=clock, method=method)
        for d in meets
    ]
    true = [calibrated(p.energy, duration_s, boards.calibrations.get(d.uid)) for d, p in zip(meets, parts, strict=True)]
    summed = {d.id for d in headline(meets)}
    total = sum_devices([p.estimates for d, p in zip(meets, parts, strict=True) if d.id in summed]).at(0)
    return {
        "schema": "telemetry.window/1",
        "store": store.path,
        "from": iso(clock.wall_ns(t0_ns)),
        "to": iso(clock.wall_ns(t1_ns)),
        "duration_s": duration_s,
        "simulated": any(d.simulated for d in meets),
        "energy": energy_json(
            told_energy(total), together([t for d, t in zip(meets, true, strict=True) if d.id in summed])
        ),
        "devices": [
            device_json(
                d,
                energy_json(told_energy(p.energy), of_device),
                duration_s,
                peak_power_w=p.peak_power_w,
                max_temperature_c=p.max_temperature_c,
                max_memory_used_bytes=p.max_memory_used_bytes,
                residual=p.residual,
                throttled=p.throttled_s,
                automatic=p.automatic,
            )
            for d, p, of_device in zip(meets, parts, true, strict=True)
        ],
        "source": await _source(store, meets[0], t0_ns, t1_ns, parts[0].curve.path),
        "flags": list(total.flags),
    }


async def _source(store: Store, device: StoredDevice, t0_ns: int, t1_ns: int, path: Path) -> dict[str, Any]:
    """Return what the energy comes from; the rates are medians of the first readings of a long window.

    Polls are counted by vitals: a poll that read nothing new left no reading.
    """
    column = power_column(device.integral_of or "instant") if path == "integral" else None
    samples, largest_gap_ns = await reader.coverage(store, device.id, t0_ns, t1_ns)
    rows = await reader.rows_inside(store, device.id, t0_ns, t1_ns, limit=10_000)
    counted = await reader.vitals(store, device.id, t0_ns, min(t1_ns, t0_ns + RATES_NS))
    polled_hz = [now.polls * 1e9 / (now.t_ns - before.t_ns) for before, now in pairwise(counted)]
    polled_hz = polled_hz or [1e9 / r.since_ns for r in rows if r.since_ns > 0]
    shown = [(r.t_ns, getattr(r, column) if column else r.energy_mj) for r in rows]
    refresh = np.diff([t_ns for (_, old), (t_ns, new) in pairwise(shown) if old != new])
    return {
        "column": device.integral_of if path == "integral" else "energy counter",
        "poll_hz": float(np.median(polled_hz)) if polled_hz else None,
        "refresh_hz": float(1e9 / np.median(refresh)) if len(refresh) else None,
        "largest_gap_s": None if largest_gap_ns is None else largest_gap_ns / 1e9,
        "samples": samples,
    }


async def _missed(store: Store, t0_ns: int, t1_ns: int, spans: list[tuple[int, int]]) -> str:
    if not spans:
        return f"{store.path} holds no readings. Collect or import some first."
    begin, end = min(spans, key=lambda s: max(s[0] - t1_ns, t0_ns - s[1]))
    off_s = abs(begin - t1_ns if begin >= t1_ns else end - t0_ns) / 1e9
    apart = f"{off_s / 3600:.2f} hours" if off_s >= 360 else f"{off_s:.1f} seconds"
    clock = await reader.wall_clock(store)
    text = (
        f"The window and the readings do not meet: they miss each other by {apart} "
        f"(the readings run from {iso(clock.wall_ns(begin))} to {iso(clock.wall_ns(end))})."
    )
    if await reader.tz_assumed(store):
        hours = round(((begin + end) / 2 - (t0_ns + t1_ns) / 2) / 3.6e12)
        text += (
            " The imported file's stamps name no zone and were read as UTC; if its clock was "
            f"{hours:+03d}:00 of UTC, import it into a new store with --tz {hours:+03d}:00."
        )
    return text
