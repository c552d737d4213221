"""The store as a reader: the few rows around an edge, found by index seeks, as records."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

import orjson

from telemetry.model import Gap, ReadingRow, Sensors, Vitals
from telemetry.storage.store import Store

EDGE_NS = 2_500_000_000  # rows that an edge wants on each side
SETTINGS = ("model", "runner", "batch_size", "concurrency", "environment")


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
    vbios: str | None
    driver: str | None


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
    pid: int | None
    experiment: str | None
    environment: str | None  # hash; None: not known
    flags: tuple[str, ...]  # what spoke against the run while it was recorded
    quick: bool  # made to be done soon, not to be published
    setting: str | None  # what an experiment calls it

    @property
    def settings(self) -> tuple[Any, ...]:
        """What runs must share to be repeats of each other."""
        return tuple(getattr(self, name) for name in SETTINGS)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRequest:
    """A request as the store knows it."""

    number: int
    submitted_ns: int
    started_ns: int | None
    first_token_ns: int | None
    ended_ns: int | None
    input_tokens: int | None
    cached_tokens: int | None
    output_tokens: int | None
    count_source: str | None
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSession:
    """A collector's life, and what it says of itself."""

    source: str
    start_ns: int
    polls: int | None
    missed: int | None
    latency_p99_ns: int | None
    cpu_ns: int | None
    dropped_rows: int | None


class Sessions:
    """The sessions of each device, in the order of their start."""

    def __init__(self, by_device: Mapping[int, Sequence[StoredSession]]) -> None:
        self._by_device = by_device

    def at(self, device: int, t_ns: int) -> StoredSession | None:
        """Return the one that ran at a time or last before it."""
        every = self._by_device.get(device, ())
        place = bisect_right(every, t_ns, key=lambda session: session.start_ns)
        return every[place - 1] if place else None


class WallClock:
    """The wall clock beside the steady one: (t_ns, offset_ns from then on), sorted, the first at 0."""

    def __init__(self, steps: Sequence[tuple[int, int]]) -> None:
        self._steps = steps

    def wall_ns(self, t_ns: int) -> int:
        """Return what the wall clock showed at a steady time."""
        return t_ns + self._steps[bisect_right(self._steps, t_ns, key=lambda step: step[0]) - 1][1]

    def offsets_ns(self, from_ns: int, to_ns: int) -> tuple[int, ...]:
        """Return the offset at the start of an interval, and each that it changed to inside."""
        first = bisect_right(self._steps, from_ns, key=lambda step: step[0]) - 1
        return tuple(offset for since, offset in self._steps[first:] if since <= to_ns)

    def steady_ns(self, wall_ns: int) -> int:
        """Return the steady time at which the wall clock showed this; the later one where it did so twice."""
        return next(wall_ns - offset for since, offset in reversed(self._steps) if wall_ns - offset >= since)


# The columns are the records' fields, in their order.
_READING = tuple(each.name for each in fields(ReadingRow))
_DEVICE = tuple(each.name for each in fields(StoredDevice))
_RUN = tuple(each.name for each in fields(StoredRun) if each.name not in ("quick", "setting"))
_SESSION = tuple(each.name for each in fields(StoredSession))
_VITALS = ("t_ns", "memory_temp_c", "power_max_mw", "power_min_mw", "polls", "misses")
_REQUEST = tuple(each.name for each in fields(StoredRequest))
_SENSORS = tuple(each.name for each in fields(Sensors) if each.name != "missing")


async def runs(store: Store) -> list[StoredRun]:
    """Return all runs, oldest first."""
    quick = "coalesce(json_extract(settings, '$.scale') = 'quick', 0)"
    setting = "json_extract(settings, '$.setting')"
    found = await store.fetch(f"SELECT {', '.join(_RUN)}, {quick}, {setting} FROM run ORDER BY start_ns, id")
    names = (*_RUN, "quick", "setting")
    runs = []
    for row in found:
        run = dict(zip(names, row, strict=True))
        run["warmup"], run["quick"], run["flags"] = bool(run["warmup"]), bool(run["quick"]), codes(run["flags"])
        runs.append(StoredRun(**run))
    return runs


async def devices(store: Store) -> list[StoredDevice]:
    """Return all devices."""
    found = await store.fetch(f"SELECT {', '.join(_DEVICE)} FROM device ORDER BY id")
    each = [dict(zip(_DEVICE, row, strict=True)) for row in found]
    return [StoredDevice(**device | {"simulated": bool(device["simulated"])}) for device in each]


async def rows_between(store: Store, device: int, from_ns: int, to_ns: int) -> list[ReadingRow]:
    """Return the readings of an interval, with the nearest one on each side."""
    found = await store.fetch(
        f"SELECT {', '.join(_READING)} FROM reading WHERE device = ? AND t_ns BETWEEN "
        "coalesce((SELECT max(t_ns) FROM reading WHERE device = ? AND t_ns < ?), ?) AND "
        "coalesce((SELECT min(t_ns) FROM reading WHERE device = ? AND t_ns > ?), ?) ORDER BY t_ns",
        (device, device, from_ns, from_ns, device, to_ns, to_ns),
    )
    return [_row(row) for row in found]


async def rows_inside(store: Store, device: int, from_ns: int, to_ns: int, *, limit: int) -> list[ReadingRow]:
    """Return the first readings of an interval, at most so many."""
    found = await store.fetch(
        f"SELECT {', '.join(_READING)} FROM reading WHERE device = ? AND t_ns BETWEEN ? AND ? ORDER BY t_ns LIMIT ?",
        (device, from_ns, to_ns, limit),
    )
    return [_row(row) for row in found]


async def coverage(store: Store, device: int, from_ns: int, to_ns: int) -> tuple[int, int | None]:
    """Return how many readings an interval holds, and the longest time from poll to poll, ns."""
    found = await store.fetch(
        "SELECT count(*), max(nullif(since_ns, 0)) FROM reading WHERE device = ? AND t_ns BETWEEN ? AND ?",
        (device, from_ns, to_ns),
    )
    return found[0][0], found[0][1]


async def power_strokes_mw(
    store: Store, device: int, column: str, from_ns: int, to_ns: int, stroke_ns: int
) -> list[tuple[int, int, int]]:
    """Return the time of the first reading, and the least and the most power, of each stretch that has a reading."""
    found = await store.fetch(
        f"SELECT min(t_ns), min({column}), max({column}) FROM reading WHERE device = ? AND t_ns BETWEEN ? AND ? "
        f"AND {column} IS NOT NULL GROUP BY (t_ns - ?) / ? ORDER BY 1",
        (device, from_ns, to_ns, from_ns, stroke_ns),
    )
    return [tuple(row) for row in found]


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


async def vitals(store: Store, device: int, from_ns: int, to_ns: int) -> list[Vitals]:
    """Return the device's slow tier in an interval."""
    found = await store.fetch(
        f"SELECT {', '.join((*_VITALS, *_SENSORS))} FROM vitals "
        "WHERE device = ? AND t_ns BETWEEN ? AND ? ORDER BY t_ns",
        (device, from_ns, to_ns),
    )
    rows = []
    for row in found:
        sensors = dict(zip(_SENSORS, row[len(_VITALS) :], strict=True))
        listed = sensors["processes"]
        sensors["processes"] = None if listed is None else tuple((pid, size) for pid, size in orjson.loads(listed))
        rows.append(Vitals(**dict(zip(_VITALS, row[: len(_VITALS)], strict=True)), sensors=Sensors(**sensors)))
    return rows


async def power_range_mw(store: Store, device: int) -> tuple[int | None, int | None]:
    """Return the least and the most power that was ever read of a device."""
    found = await store.fetch("SELECT min(power_min_mw), max(power_max_mw) FROM vitals WHERE device = ?", (device,))
    return found[0][0], found[0][1]


async def requests(store: Store, run: int) -> list[StoredRequest]:
    """Return a run's requests in the order of their numbers."""
    found = await store.fetch(f"SELECT {', '.join(_REQUEST)} FROM request WHERE run = ? ORDER BY number", (run,))
    return [StoredRequest(**dict(zip(_REQUEST, row, strict=True))) for row in found]


async def requests_of_others(store: Store, run: int, others: Sequence[int], device: int) -> list[StoredRequest]:
    """Return the requests of those of the other runs that use the device."""
    found = await store.fetch(
        f"SELECT {', '.join(_REQUEST)} FROM request WHERE run IN (SELECT run FROM run_device WHERE device = ? "
        f"AND run IN ({', '.join('?' * len(others))}) AND run != ?) ORDER BY run, number",
        (device, *others, run),
    )
    return [StoredRequest(**dict(zip(_REQUEST, row, strict=True))) for row in found]


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


async def span_ns(store: Store, device: int) -> tuple[int, int] | None:
    """Return the first and last reading of a device."""
    found = await store.fetch("SELECT min(t_ns), max(t_ns) FROM reading WHERE device = ?", (device,))
    return None if found[0][0] is None else (found[0][0], found[0][1])


async def session_within(store: Store, uid: str, from_ns: int, to_ns: int) -> tuple[int, int] | None:
    """Return when a session that measured a device began and ended, of those that touch an interval the first."""
    found = await store.fetch(
        "SELECT s.start_ns, coalesce(s.stop_ns, s.heartbeat_ns) FROM session s JOIN session_device sd "
        "ON sd.session = s.id JOIN device d ON d.id = sd.device "
        "WHERE d.uid = ? AND s.start_ns <= ? AND coalesce(s.stop_ns, s.heartbeat_ns) >= ? ORDER BY s.start_ns LIMIT 1",
        (uid, to_ns, from_ns),
    )
    return (found[0][0], found[0][1]) if found else None


async def imported(store: Store) -> set[str]:
    """Return the SHA-256 of every file that was imported."""
    return {row[0] for row in await store.fetch("SELECT sha256 FROM import_file")}


async def tz_assumed(store: Store) -> bool:
    """Return whether an imported file's stamps had no zone and none was named."""
    return bool(await store.fetch("SELECT 1 FROM import_file WHERE NOT tz_given"))


async def wall_clock(store: Store) -> WallClock:
    """Return how the wall clock of the store's host stood beside the steady one, at all times."""
    return WallClock([(0, 0), *await store.fetch("SELECT t_ns, offset_ns FROM clock_step ORDER BY t_ns")])


async def requests_in_chunks(store: Store, run: int) -> set[int]:
    """Return the requests of a run whose times are those of pieces of text, not of tokens."""
    found = await store.fetch("SELECT DISTINCT request FROM token_chunk WHERE run = ? AND kind = 'chunk'", (run,))
    return {row[0] for row in found}


async def sessions(store: Store) -> Sessions:
    """Return all collectors' sessions, by device."""
    found = await store.fetch(
        f"SELECT sd.device, {', '.join(f's.{name}' for name in _SESSION)} "
        "FROM session s JOIN session_device sd ON sd.session = s.id ORDER BY s.start_ns"
    )
    by_device: dict[int, list[StoredSession]] = {}
    for device, *row in found:
        by_device.setdefault(device, []).append(StoredSession(**dict(zip(_SESSION, row, strict=True))))
    return Sessions(by_device)


async def run_devices(store: Store, from_id: int, to_id: int) -> dict[int, list[int]]:
    """Return the ids of the devices of each run whose id lies between two."""
    used: dict[int, list[int]] = {}
    for run, device in await store.fetch(
        "SELECT run, device FROM run_device WHERE run BETWEEN ? AND ? ORDER BY run, device", (from_id, to_id)
    ):
        used.setdefault(run, []).append(device)
    return used


async def runs_alike(store: Store) -> dict[tuple[Any, ...], int]:
    """Return how many measured runs ended well, by `StoredRun.settings`."""
    found = await store.fetch(
        f"SELECT count(*), {', '.join(SETTINGS)} FROM run WHERE status = 'ok' AND NOT warmup "
        f"GROUP BY {', '.join(SETTINGS)}"
    )
    return {tuple(settings): n for n, *settings in found}


def _row(row: Sequence[Any]) -> ReadingRow:
    return ReadingRow(**dict(zip(_READING, row, strict=True)))


@cache
def codes(flags: str) -> tuple[str, ...]:
    """Return the codes in a stored list of them."""
    return tuple(orjson.loads(flags))
