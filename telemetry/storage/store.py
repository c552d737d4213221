"""The store as a writer: one connection, short transactions, rows as tuples to statements compiled once."""

import asyncio
import logging
import os
import platform
import sqlite3
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, Self

import orjson
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from telemetry import clock as clocks
from telemetry.errors import StoreBusy, StoreError
from telemetry.model import Device, Experiment, Item, ReadingRow, RequestRow, Run, TokenChunk, Vitals
from telemetry.storage import schema

BUSY_TIMEOUT_MS = 5000
log = logging.getLogger("telemetry")


def _insert(table: str, columns: Sequence[str], conflict: str = "") -> str:
    places = ", ".join("?" * len(columns))
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places}) {conflict}"


_READING = _insert(
    "reading",
    ("device", "t_ns", "power_instant_mw", "power_average_mw", "energy_mj", "integral_uj", "since_ns", "latency_us"),
)  # fmt: skip
_VITALS_COLUMNS = (
    "device", "t_ns", "temperature_c", "memory_used_bytes", "memory_reserved_bytes", "util_gpu_pct",
    "util_memory_pct", "clock_sm_mhz", "clock_memory_mhz", "power_limit_mw", "throttle_reasons",
    "throttle_power_cap_ns", "throttle_sync_boost_ns", "throttle_sw_thermal_ns", "throttle_hw_thermal_ns",
    "throttle_power_brake_ns", "processes", "memory_temp_c", "power_max_mw", "power_min_mw", "polls", "misses",
)  # fmt: skip
_VITALS = _insert("vitals", _VITALS_COLUMNS)
_GAP = _insert("gap", ("device", "from_ns", "to_ns", "reason"))
_REQUEST_COLUMNS = (
    "run", "number", "submitted_ns", "started_ns", "first_token_ns", "last_token_ns", "ended_ns",
    "input_tokens", "cached_tokens", "output_tokens", "finish_reason", "count_source", "status", "error",
)  # fmt: skip
_request = attrgetter(*_REQUEST_COLUMNS[1:])
_REQUEST = _insert(
    "request",
    _REQUEST_COLUMNS,
    "ON CONFLICT (run, number) DO UPDATE SET " + ", ".join(f"{c} = excluded.{c}" for c in _REQUEST_COLUMNS[3:]),
)
_CHUNK = _insert(
    "token_chunk",
    ("run", "request", "first_index", "kind", "start_ns", "gaps_us"),
    "ON CONFLICT (run, request, first_index) DO UPDATE SET gaps_us = excluded.gaps_us",
)
_HEARTBEAT = (
    "UPDATE session SET heartbeat_ns = ?, polls = ?, missed = ?, failures = ?, latency_p99_ns = ?, "
    "queue_peak = ?, cpu_ns = ?, dropped_rows = ?, stop_ns = ?, state = ? WHERE uid = ?"
)
_STOP_RUN = "UPDATE run SET stop_ns = ?, status = ?, error = ? WHERE id = ?"


# What becomes of a session, or of a run and its requests, whose process is gone.
_BURY = {
    "session": ("UPDATE session SET state = 'unclean' WHERE id = ?",),
    "run": (
        "UPDATE run SET status = 'failed', error = 'the process ended without stopping the run', "
        "stop_ns = coalesce((SELECT max(coalesce(q.ended_ns, q.last_token_ns, q.submitted_ns)) "
        "FROM request q WHERE q.run = run.id), start_ns) WHERE id = ?",
        "UPDATE request SET status = 'failed', error = 'the process ended' WHERE run = ? AND status = 'open'",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionHealth:
    """What a collector reports of itself with each heartbeat."""

    polls: int = 0
    missed: int = 0
    failures: Mapping[str, int] | None = None
    latency_p99_ns: int | None = None
    queue_peak: int = 0
    cpu_ns: int | None = 0  # None: not known
    dropped_rows: int = 0


class Store:
    """An open store. Make one with `open_store`; use it from one event loop; close it when done."""

    def __init__(self, path: str, engine: AsyncEngine, connection: AsyncConnection, *, read_only: bool) -> None:
        self.path = path
        self.read_only = read_only
        self.engine = engine
        self.clock = clocks.SteadyClock(clocks.take_anchor())
        self._connection = connection
        self._lock = asyncio.Lock()
        self._file = _identity(path)
        self._devices: dict[str, int] = {}
        self._runs: dict[str, int] = {}
        self._host = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of the file. What was written is committed already."""
        await self._connection.close()
        await self.engine.dispose()

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[AsyncConnection]:
        """The connection, for one writer at a time. Raises StoreBusy (try again) or StoreError."""
        async with self._lock:
            with _translated(self.path):
                await self._mind_file()
                yield self._connection

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection]:
        """One short write, whole or not at all. Raises what `_turn` does."""
        async with self._turn() as connection:
            await connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                yield connection
                await connection.exec_driver_sql("COMMIT")
            except BaseException:
                await _roll_back(connection)
                raise

    async def _write(self, rows: Mapping[str, Sequence[tuple[Any, ...]]]) -> None:
        """Write the rows of each statement in one transaction. Raises what `_turn` does.

        This is the hot path: one hop to aiosqlite's thread, where its public calls take one for each statement and
        cost more than the writing itself.
        """
        async with self._turn() as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            await driver._execute(_write_whole, driver._conn, rows)

    async def _mind_file(self) -> None:
        """See that what is written goes into the file at `path`; put it back where somebody removed it.

        A removed file lives on while it is open, and takes rows that nobody will ever read.
        """
        if _identity(self.path) == self._file:
            return
        place = Path(self.path)
        if not place.exists():
            draft = place.with_name(f".{place.name}.{os.getpid()}.saved")
            place.parent.mkdir(parents=True, exist_ok=True)
            await self._connection.exec_driver_sql("VACUUM INTO ?", (str(draft),))
            if await asyncio.to_thread(schema.put_in_place, draft, place):
                log.warning("%s was removed while in use. It has been put back with all that it held.", self.path)
        schema.check(place)
        engine, connection = await _connect(place, "rw")
        dated = "SELECT 1 FROM clock_anchor WHERE wall_ns = ?"
        if not (await connection.exec_driver_sql(dated, (self.clock.anchor.wall_ns,))).fetchall():
            await connection.close()
            await engine.dispose()
            raise StoreError(
                f"{self.path} has been replaced by another store while in use. Move that one away: "
                "what is being recorded waits in memory, and the store will be put back."
            )
        await self.close()
        self.engine, self._connection, self._file = engine, connection, _identity(self.path)

    async def fetch(self, statement: str, values: Sequence[Any] = ()) -> Sequence[Any]:
        """Return the rows of a query."""
        async with self._lock:
            with _translated(self.path):
                result = await self._connection.exec_driver_sql(statement, tuple(values))
                return result.fetchall()

    async def register_host(self) -> None:
        """Write this host and boot, and take the clock that all its processes share."""
        key, anchor = clocks.boot_key(), clocks.take_anchor()
        async with self._transaction() as c:
            await c.exec_driver_sql(
                "INSERT OR IGNORE INTO host (machine, name) VALUES (?, ?)", (key.machine, platform.node())
            )
            dated = await c.exec_driver_sql(
                "INSERT OR IGNORE INTO clock_anchor VALUES (?, ?, ?, ?, ?)",
                (key.machine, key.boot, key.time_namespace, anchor.mono_ns, anchor.wall_ns),
            )
            if dated.rowcount:  # offsets of an earlier boot end here
                await c.exec_driver_sql(
                    "INSERT INTO clock_step (host, t_ns, offset_ns, cause) SELECT h.id, ?, 0, 'boot' FROM host h "
                    "WHERE h.machine = ? AND EXISTS (SELECT 1 FROM clock_step c WHERE c.host = h.id)",
                    (anchor.wall_ns, key.machine),
                )
        await self.adopt_clock()

    async def adopt_clock(self) -> None:
        """Take the clock of this host's boot, where a process of it has written here before."""
        key = clocks.boot_key()
        rows = await self.fetch(
            "SELECT a.mono_ns, a.wall_ns, h.id FROM clock_anchor a JOIN host h ON h.machine = a.machine "
            "WHERE a.machine = ? AND a.boot = ? AND a.time_namespace = ?",
            (key.machine, key.boot, key.time_namespace),
        )
        if rows:
            self.clock = clocks.SteadyClock(clocks.Anchor(mono_ns=rows[0][0], wall_ns=rows[0][1]))
            self._host = rows[0][2]

    async def write_devices(self, devices: Iterable[Device]) -> None:
        """Write what is known of these devices, replacing what was."""
        columns = (
            "uid", "host", "name", "idx", "kind", "boundary", "simulated", "energy_path", "integral_of",
            "driver", "vbios", "memory_bytes", "power_limit_mw",
        )  # fmt: skip
        update = ", ".join(f"{c} = excluded.{c}" for c in columns[1:])
        statement = _insert("device", columns, f"ON CONFLICT (uid) DO UPDATE SET {update}")
        rows = [
            (d.uid, self._host, d.name, d.index, d.kind, d.boundary, d.simulated, d.energy_path, d.integral_of,
             d.driver, d.vbios, d.memory_bytes, d.power_limit_mw)
            for d in devices
        ]  # fmt: skip
        async with self._transaction() as c:
            await c.exec_driver_sql(statement, rows)
        for uid, number in await self.fetch("SELECT uid, id FROM device"):
            self._devices[uid] = number

    async def start_session(
        self, *, source: str, settings: Mapping[str, Any], version: str, devices: Sequence[Device]
    ) -> str:
        """Write a collector's start and its devices; mark sessions of this host that died unclean."""
        await self.write_devices(devices)
        await self.mark_dead()
        uid, now = uuid.uuid4().hex, self.clock.now_ns()
        columns = ("uid", "host", "source", "settings", "version", "pid", "start_ns", "heartbeat_ns", "state")
        async with self._transaction() as c:
            await c.exec_driver_sql(
                _insert("session", columns),
                (uid, self._host, source, _json(settings), version, os.getpid(), now, now, "open"),
            )
            await c.exec_driver_sql(
                "INSERT INTO session_device SELECT s.id, ? FROM session s WHERE s.uid = ?",
                [(self._devices[d.uid], uid) for d in devices],
            )
        return uid

    async def mark_dead(self) -> list[tuple[int, str]]:
        """Mark sessions and runs of this host whose process is gone: unclean, failed; return the runs' (pid, uid)."""
        pairs = await self.fetch(
            "SELECT 'session', id, pid, uid FROM session WHERE state = 'open' AND host = ? "
            "UNION ALL SELECT 'run', id, pid, uid FROM run WHERE status = 'open' AND host = ?",
            (self._host, self._host),
        )
        dead = [pair for pair in pairs if not _alive(pair[2])]
        if dead:
            async with self._transaction() as c:
                for table, number, _, _ in dead:
                    for statement in _BURY[table]:
                        await c.exec_driver_sql(statement, (number,))
        return [(pid, uid) for table, _, pid, uid in dead if table == "run"]

    async def heartbeat(self, session: str, health: SessionHealth, *, stopped: bool = False) -> None:
        """Write that the collector lives and how it does; `stopped` ends the session cleanly."""
        now = self.clock.now_ns()
        row = (
            now, health.polls, health.missed, _json(health.failures or {}), health.latency_p99_ns,
            health.queue_peak, health.cpu_ns, health.dropped_rows, now if stopped else None,
            "clean" if stopped else "open", session,
        )  # fmt: skip
        await self._write({_HEARTBEAT: [row]})

    async def offset_ns(self) -> int:
        """Return how far this host's wall clock last stood from the steady one, as far as written."""
        found = await self.fetch(
            "SELECT offset_ns FROM clock_step WHERE host = ? ORDER BY t_ns DESC LIMIT 1", (self._host,)
        )
        return int(found[0][0]) if found else 0

    async def write_clock_step(self, t_ns: int, offset_ns: int, cause: str) -> None:
        """Write that the wall clock now stands `offset_ns` from the steady one, and why."""
        async with self._transaction() as c:
            await c.exec_driver_sql(
                _insert("clock_step", ("host", "t_ns", "offset_ns", "cause")),
                (self._host, t_ns, offset_ns, cause),
            )

    async def write_items(self, items: Sequence[Item]) -> None:
        """Write readings, vitals and gaps of registered devices in one transaction."""
        await self._write(self._rows_of(items))

    def _rows_of(self, items: Sequence[Item]) -> dict[str, Sequence[tuple[Any, ...]]]:
        """Return the rows of items by the statement that inserts them."""
        readings, vitals, gaps = [], [], []
        for uid, item in items:
            number = self._devices[uid]
            if isinstance(item, ReadingRow):
                readings.append((  # each attribute by name: a third of the time that attrgetter takes
                    number, item.t_ns, item.power_instant_mw, item.power_average_mw, item.energy_mj,
                    item.integral_uj, item.since_ns, item.latency_us,
                ))  # fmt: skip
            elif isinstance(item, Vitals):
                vitals.append((number, *_vitals(item)))
            else:
                gaps.append((number, item.from_ns, item.to_ns, item.reason))
        return {_READING: readings, _VITALS: vitals, _GAP: gaps}

    async def checkpoint(self) -> None:
        """Move what is committed from the log into the file, as far as readers allow."""
        await self.fetch("PRAGMA wal_checkpoint(PASSIVE)")

    def knows(self, run: str) -> bool:
        """Whether the start of the run with this UID has been written, by this process."""
        return run in self._runs

    async def start_run(self, run: Run) -> None:
        """Write a run's start; its devices must be registered."""
        async with self._transaction() as c:
            number = await self._insert_run(c, run, "open")
        self._runs[run.uid] = number

    async def _insert_run(self, c: AsyncConnection, run: Run, status: str, stop_ns: int | None = None) -> int:
        columns = (
            "uid", "name", "experiment", "model", "runner", "quantisation", "batch_size", "concurrency",
            "warmup", "repeat", "position", "settings", "environment", "host", "pid", "start_ns", "stop_ns", "status",
            "flags",
        )  # fmt: skip
        row = (
            run.uid, run.name, run.experiment, run.model, run.runner, run.quantisation, run.batch_size,
            run.concurrency, run.warmup, run.repeat, run.position, _json(run.settings), run.environment,
            self._host, run.pid, run.start_ns, stop_ns, status, _json(run.flags),
        )  # fmt: skip
        found = await c.exec_driver_sql(_insert("run", columns, "RETURNING id"), row)
        number: int = found.scalar_one()
        for uid in run.devices:
            await c.exec_driver_sql("INSERT INTO run_device SELECT ?, id FROM device WHERE uid = ?", (number, uid))
        return number

    async def write_environment(self, digest: str, snapshot: Mapping[str, Any]) -> None:
        """Keep what a run's environment was, under its hash."""
        async with self._transaction() as c:
            await c.exec_driver_sql("INSERT OR IGNORE INTO environment VALUES (?, ?)", (digest, _json(snapshot)))

    async def write_experiment(self, experiment: Experiment) -> None:
        """Write what an experiment is to do."""
        row = (experiment.uid, experiment.name, _json(experiment.plan), experiment.plan_hash, self.clock.now_ns())
        async with self._transaction() as c:
            await c.exec_driver_sql("INSERT INTO experiment VALUES (?, ?, ?, ?, ?)", row)

    async def write_events(
        self,
        requests: Sequence[RequestRow],
        chunks: Sequence[TokenChunk],
        stopped: tuple[str, int, str, str | None] | None = None,
    ) -> None:
        """Write requests and token chunks of started runs, replacing their earlier state.

        `stopped` is (run, stop_ns, status, error) and ends a run in the same transaction.
        """
        rows: dict[str, Sequence[tuple[Any, ...]]] = {
            _REQUEST: [(self._runs[r.run], *_request(r)) for r in requests],
            _CHUNK: [
                (self._runs[t.run], t.request, t.first_index, t.kind, t.start_ns, _json(t.gaps_us)) for t in chunks
            ],
        }
        if stopped:
            run, stop_ns, status, error = stopped
            rows[_STOP_RUN] = [(stop_ns, status, error, self._runs[run])]
        await self._write(rows)

    async def write_import(
        self, file: tuple[str, str, str, bool, str], devices: Sequence[Device], items: Sequence[Item],
        version: str, span_ns: tuple[int, int], runs: Sequence[tuple[Run, int]] = (),
    ) -> None:  # fmt: skip
        """Write an imported recording whole or not at all.

        file: (sha256, path, format, tz_given, notes as JSON).  runs: each with when it ended, ns.
        Raises StoreError when it was imported before.
        """
        if await self.fetch("SELECT 1 FROM import_file WHERE sha256 = ?", (file[0],)):
            raise StoreError(f"{file[1]} was imported into {self.path} before. Nothing was added.")
        await self.write_devices(devices)
        columns = (
            "uid",
            "host",
            "source",
            "settings",
            "version",
            "pid",
            "start_ns",
            "heartbeat_ns",
            "stop_ns",
            "state",
        )
        async with self._transaction() as c:
            for statement, rows in self._rows_of(items).items():
                if rows:
                    await c.exec_driver_sql(statement, rows)
            found = await c.exec_driver_sql(
                _insert("session", columns, "RETURNING id"),
                (
                    uuid.uuid4().hex,
                    self._host,
                    "import",
                    "{}",
                    version,
                    os.getpid(),
                    *span_ns,
                    span_ns[1],
                    "clean",
                ),
            )
            number = found.scalar_one()
            await c.exec_driver_sql(
                "INSERT INTO session_device VALUES (?, ?)", [(number, self._devices[d.uid]) for d in devices]
            )
            await c.exec_driver_sql(
                "INSERT INTO import_file (sha256, path, format, tz_given, notes, session) VALUES (?, ?, ?, ?, ?, ?)",
                (*file, number),
            )
            for run, stop_ns in runs:
                await self._insert_run(c, run, "ok", stop_ns)


async def open_store(path: str | Path, *, create: bool = True, read_only: bool = False) -> Store:
    """Open the store at `path`, making it where there is none.

    With `read_only` nothing is written, not even this host's clock.
    Raises StoreError for a missing file (without `create`), a foreign one, or one of another version.
    """
    place = Path(path).expanduser().resolve()
    if not place.exists():
        if not create or read_only:
            raise StoreError(
                f"There is no store at {place}. Measure something first, or name another with --store or "
                "TELEMETRY_STORE."
            )
        schema.create(place)
    try:
        schema.check(place)
    except OSError as error:
        raise StoreError(f"{place} cannot be read: {error.strerror}. Check its permissions.") from error
    mode = "ro" if read_only or not os.access(place, os.W_OK) else "rw"
    if mode == "ro" and not read_only:
        raise StoreError(f"{place} may not be written by this user. Name another place with --store.")
    engine, connection = await _connect(place, mode)
    store = Store(str(place), engine, connection, read_only=read_only)
    try:
        found = await store.fetch("SELECT version_num FROM alembic_version")
        schema.check_revision(str(place), found[0][0] if found else None)
        if read_only:
            await store.adopt_clock()
        else:
            await store.register_host()
    except BaseException:
        await store.close()
        raise
    return store


async def _connect(place: Path, mode: str) -> tuple[AsyncEngine, AsyncConnection]:
    options = f"mode={mode}&uri=true"
    if mode == "ro" and not os.access(place.parent, os.W_OK) and not Path(f"{place}-wal").exists():
        options += "&immutable=1"  # on a read-only medium; else SQLite wants to write an index of the log
    engine = create_async_engine(f"sqlite+aiosqlite:///file:{place}?{options}", isolation_level="AUTOCOMMIT")
    with _translated(str(place)):
        connection = await engine.connect()
        await connection.exec_driver_sql(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        await connection.exec_driver_sql("PRAGMA synchronous=NORMAL")
        if mode == "rw":
            await connection.exec_driver_sql("PRAGMA wal_autocheckpoint=0")
    return engine, connection


def _identity(path: str) -> tuple[int, int] | None:
    """Return which file lies at a path; None where there is none."""
    try:
        found = Path(path).stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


class _translated:  # noqa: N801  reads as a word where it is used
    """Foreign errors become ours at this border."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        cause = error.orig if isinstance(error, DBAPIError) else error
        if not isinstance(cause, sqlite3.Error):
            return
        why = str(cause)
        if "locked" in why:
            raise StoreBusy(
                f"{self._path} has been locked by another program for over 5 s. Close it and try again."
            ) from error
        if "full" in why:
            raise StoreBusy(f"The disk of {self._path} is full. Make room.") from error
        if "UNIQUE constraint failed: reading" in why:
            raise StoreError(
                f"{self._path} holds a reading of this device at this time already. Import into a new store (--store)."
            ) from error
        if any(sign in why for sign in ("readonly", "unable to open", "disk I/O", "malformed", "not a database")):
            raise StoreError(f"{self._path} cannot be used: {why}. Check the file and its folder.") from error


def _write_whole(connection: sqlite3.Connection, rows: Mapping[str, Sequence[tuple[Any, ...]]]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement, values in rows.items():
            connection.executemany(statement, values)
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:  # an error; SQLite rolls back by itself after some
            connection.execute("ROLLBACK")


async def _roll_back(connection: AsyncConnection) -> None:
    try:
        await connection.exec_driver_sql("ROLLBACK")
    except DBAPIError as error:
        if "no transaction" not in str(error.orig):  # BEGIN itself failed, or SQLite rolled back by itself
            raise


def _alive(pid: int | None) -> bool:
    if pid is None:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


def _vitals(v: Vitals) -> tuple[Any, ...]:
    s = v.sensors
    return (
        v.t_ns, s.temperature_c, s.memory_used_bytes, s.memory_reserved_bytes, s.util_gpu_pct,
        s.util_memory_pct, s.clock_sm_mhz, s.clock_memory_mhz, s.power_limit_mw, s.throttle_reasons,
        s.throttle_power_cap_ns, s.throttle_sync_boost_ns, s.throttle_sw_thermal_ns, s.throttle_hw_thermal_ns,
        s.throttle_power_brake_ns, None if s.processes is None else _json(s.processes), v.memory_temp_c,
        v.power_max_mw, v.power_min_mw, v.polls, v.misses,
    )  # fmt: skip
