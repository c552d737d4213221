"""The store as a reader: the few rows around an edge, found by index seeks, as records."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from telemetry.model import Gap, ReadingRow
from telemetry.storage.store import Store

EDGE_NS = 2_500_000_000  # rows that an edge wants on each side


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDevice:
    """A device as the store knows it."""

    id: int
    uid: str
    name: str
    boundary: str
    simulated: bool
    energy_path: str | None
    integral_of: str | None
    power_limit_mw: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """A run as the store knows it."""

    id: int
    uid: str
    name: str | None
    model: str | None
    runner: str | None
    batch_size: int
    concurrency: int
    warmup: bool
    start_ns: int
    stop_ns: int | None
    status: str
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRequest:
    """A request as the store knows it."""

    number: int
    submitted_ns: int
    first_token_ns: int | None
    ended_ns: int | None
    input_tokens: int | None
    output_tokens: int | None
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Extremes:
    """What the slow tier says of a stretch; None where it has nothing."""

    min_power_mw: int | None
    max_power_mw: int | None
    max_temperature_c: int | None
    max_memory_used_bytes: int | None
    polls: int
    misses: int


_READING = "t_ns, power_instant_mw, power_average_mw, energy_mj, integral_uj, since_ns, latency_us"
_DEVICE = "d.id, d.uid, d.name, d.boundary, d.simulated, d.energy_path, d.integral_of, d.power_limit_mw"
_RUN = "id, uid, name, model, runner, batch_size, concurrency, warmup, start_ns, stop_ns, status, error"


async def runs(store: Store, uids: Sequence[str] = ()) -> list[StoredRun]:
    """Return these runs (all, when none is named), oldest first; a uid may be shortened."""
    found = await store.fetch(f"SELECT {_RUN} FROM run ORDER BY start_ns, id")
    names = [name.strip() for name in _RUN.split(",")]
    every = [StoredRun(**dict(zip(names, row, strict=True)) | {"warmup": bool(row[7])}) for row in found]
    return [r for r in every if not uids or any(r.uid.startswith(uid) for uid in uids)]


async def devices(store: Store, run: int | None = None) -> list[StoredDevice]:
    """Return the devices of a run, or all."""
    where = "JOIN run_device rd ON rd.device = d.id WHERE rd.run = ?" if run is not None else ""
    found = await store.fetch(f"SELECT {_DEVICE} FROM device d {where} ORDER BY d.id", () if run is None else (run,))
    names = [name.strip()[2:] for name in _DEVICE.split(",")]
    return [StoredDevice(**dict(zip(names, row, strict=True)) | {"simulated": bool(row[4])}) for row in found]


async def rows_between(store: Store, device: int, from_ns: int, to_ns: int) -> list[ReadingRow]:
    """Return the readings of an interval, with the nearest one on each side."""
    found = await store.fetch(
        f"SELECT {_READING} FROM reading WHERE device = ? AND t_ns BETWEEN "
        "coalesce((SELECT max(t_ns) FROM reading WHERE device = ? AND t_ns < ?), ?) AND "
        "coalesce((SELECT min(t_ns) FROM reading WHERE device = ? AND t_ns > ?), ?) ORDER BY t_ns",
        (device, device, from_ns, from_ns, device, to_ns, to_ns),
    )
    names = _READING.split(", ")
    return [ReadingRow(**dict(zip(names, row, strict=True))) for row in found]


async def gaps(store: Store, device: int, from_ns: int, to_ns: int) -> list[Gap]:
    """Return the device's gaps that touch an interval."""
    found = await store.fetch(
        "SELECT from_ns, to_ns, reason FROM gap WHERE device = ? AND to_ns >= ? AND from_ns <= ?",
        (device, from_ns, to_ns),
    )
    return [Gap(from_ns=a, to_ns=b, reason=why) for a, b, why in found]


async def session_starts(store: Store, device: int, from_ns: int, to_ns: int) -> list[int]:
    """Return when collectors of the device started in an interval."""
    found = await store.fetch(
        "SELECT s.start_ns FROM session s JOIN session_device sd ON sd.session = s.id "
        "WHERE sd.device = ? AND s.start_ns BETWEEN ? AND ?",
        (device, from_ns, to_ns),
    )
    return [row[0] for row in found]


async def extremes(store: Store, device: int, from_ns: int, to_ns: int) -> Extremes:
    """Return what the slow tier saw from one time to another."""
    found = await store.fetch(
        "SELECT min(power_min_mw), max(power_max_mw), max(temperature_c), max(memory_used_bytes), "
        "coalesce(sum(polls), 0), coalesce(sum(misses), 0) FROM vitals WHERE device = ? AND t_ns BETWEEN ? AND ?",
        (device, from_ns, to_ns),
    )
    row = found[0]
    return Extremes(
        min_power_mw=row[0], max_power_mw=row[1], max_temperature_c=row[2], max_memory_used_bytes=row[3],
        polls=row[4], misses=row[5],
    )  # fmt: skip


async def requests(store: Store, run: int) -> list[StoredRequest]:
    """Return a run's requests in the order of their numbers."""
    columns = "number, submitted_ns, first_token_ns, ended_ns, input_tokens, output_tokens, status"
    found = await store.fetch(f"SELECT {columns} FROM request WHERE run = ? ORDER BY number", (run,))
    return [StoredRequest(**dict(zip(columns.split(", "), row, strict=True))) for row in found]


async def token_times(store: Store, run: int) -> dict[int, list[int]]:
    """Return the token times of each request of a run, ns, in order."""
    found = await store.fetch(
        "SELECT request, start_ns, gaps_us FROM token_chunk WHERE run = ? ORDER BY request, first_index",
        (run,),
    )
    times: dict[int, list[int]] = {}
    for number, start_ns, gaps_us in found:
        stamps = times.setdefault(number, [])
        stamps.append(start_ns)
        for gap_us in orjson.loads(gaps_us):
            stamps.append(stamps[-1] + 1000 * gap_us)
    return times


async def session_health(store: Store, device: int, at_ns: int) -> dict[str, Any]:
    """Return what the collector of a device says of itself, the one that ran at a time."""
    found = await store.fetch(
        "SELECT s.source, s.polls, s.missed, s.latency_p99_ns, s.cpu_ns, s.dropped_rows FROM session s "
        "JOIN session_device sd ON sd.session = s.id WHERE sd.device = ? AND s.start_ns <= ? "
        "ORDER BY s.start_ns DESC LIMIT 1",
        (device, at_ns),
    )
    names = ("source", "polls", "missed", "latency_p99_ns", "cpu_ns", "dropped_rows")
    return dict(zip(names, found[0], strict=True)) if found else {}


async def span_ns(store: Store, device: int) -> tuple[int, int] | None:
    """Return the first and last reading of a device."""
    found = await store.fetch("SELECT min(t_ns), max(t_ns) FROM reading WHERE device = ?", (device,))
    return None if found[0][0] is None else (found[0][0], found[0][1])


async def tz_assumed(store: Store) -> bool:
    """Return whether an imported file's stamps had no zone and none was named."""
    return bool(await store.fetch("SELECT 1 FROM import_file WHERE NOT tz_given"))


async def offset_ns(store: Store, t_ns: int) -> int:
    """Return how far the wall clock stood from the steady one at a time, ns."""
    found = await store.fetch("SELECT offset_ns FROM clock_step WHERE t_ns <= ? ORDER BY t_ns DESC LIMIT 1", (t_ns,))
    return int(found[0][0]) if found else 0
