"""The store: what it refuses, what it keeps when a process dies, and that migrations make its tables."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, create_engine
from stored import rows

from telemetry.errors import StoreBusy, StoreError
from telemetry.model import Device, Gap, Item, ReadingRow, RequestRow, Run, TokenChunk
from telemetry.storage import schema
from telemetry.storage.store import Store, open_store
from telemetry.storage.tables import metadata

GPU = Device(uid="GPU-1", name="a GPU", index=0, integral_of="instant")
T0_NS = 1_700_000_000_000_000_000


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with await open_store(tmp_path / "t.db") as opened:
        yield opened


def reading(t_ns: int) -> ReadingRow:
    return ReadingRow(
        t_ns=t_ns, power_instant_mw=400_000, power_average_mw=None, energy_mj=None, integral_uj=0,
        since_ns=20_000_000, latency_us=100,
    )  # fmt: skip


async def test_a_store_is_made_with_its_folders_and_leaves_no_draft_behind(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "t.db"
    async with await open_store(path):
        pass
    assert [p.name for p in path.parent.iterdir() if p.suffix == ".new"] == []
    assert rows(path, "PRAGMA application_id") == [(schema.APPLICATION_ID,)]
    assert rows(path, "PRAGMA journal_mode") == [("wal",)]
    assert rows(path, "SELECT version_num FROM alembic_version") == [(schema.HEAD,)]


async def test_every_opening_of_a_boot_tells_the_time_by_the_same_anchor(tmp_path: Path) -> None:
    async with await open_store(tmp_path / "t.db") as first:
        anchor = first.clock.anchor
    async with await open_store(tmp_path / "t.db") as second:
        assert second.clock.anchor == anchor
    assert rows(tmp_path / "t.db", "SELECT count(*) FROM clock_anchor") == [(1,)]


@pytest.mark.parametrize("how", [{"create": False}, {"read_only": True}])
async def test_a_missing_store_is_not_made_by_those_who_only_read(tmp_path: Path, how: dict[str, bool]) -> None:
    with pytest.raises(StoreError, match=r"There is no store at .*t\.db\. Measure something first, or name"):
        await open_store(tmp_path / "t.db", **how)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["text", "empty", "database"])
async def test_a_foreign_file_is_refused_and_left_as_it_was(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "t.db"
    if kind == "database":
        with closing(sqlite3.connect(path)) as other:
            other.execute("CREATE TABLE reading (mine)")
    else:
        path.write_bytes(b"a,b\n1,2\n" * 20 if kind == "text" else b"")
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"is not a telemetry store: .* left untouched. Name another"):
        await open_store(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["t.db"]


async def test_a_store_on_a_medium_that_takes_no_writing_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await (await open_store(tmp_path / "t.db")).close()
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and real(path, mode))
    async with await open_store(tmp_path / "t.db", read_only=True) as store:
        assert await store.fetch("SELECT count(*) FROM run") == [(0,)]
        assert [each.name for each in tmp_path.iterdir()] == ["t.db"], "nothing was written beside it"
    with pytest.raises(StoreError, match="may not be written by this user"):
        await open_store(tmp_path / "t.db")


async def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"is a folder. A store is one file: name it with --store"):
        await open_store(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("revision", "words"),
    [
        (
            "0000",
            r"made by an older version \(revision 0000, this one writes \d+\)\. Bring it up to date with `telemetry db",
        ),
        ("9999", r"made by a newer version \(revision 9999, this one knows \d+\)\. Upgrade telemetry"),
    ],
)
async def test_a_store_of_another_version_is_refused_and_left_as_it_was(
    tmp_path: Path, revision: str, words: str
) -> None:
    path = tmp_path / "t.db"
    schema.create(path)
    with closing(sqlite3.connect(path)) as other:
        other.execute("UPDATE alembic_version SET version_num = ?", (revision,))
        other.commit()
    before = path.read_bytes()
    with pytest.raises(StoreError, match=words):
        await open_store(path)
    assert path.read_bytes() == before
    assert rows(path, "SELECT count(*) FROM host") == [(0,)]


def test_the_migrations_go_up_down_and_up_and_make_the_tables_that_the_code_knows(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 't.db'}")

    def objects(connection: Connection) -> list[tuple[Any, ...]]:
        found = connection.exec_driver_sql(
            "SELECT type, name, sql FROM sqlite_master WHERE tbl_name <> 'alembic_version' ORDER BY 1, 2"
        )
        return [tuple(row) for row in found]

    with engine.begin() as connection:
        schema.migrate(connection)
        made = objects(connection)
        schema.migrate(connection, "base")
        assert objects(connection) == []
        schema.migrate(connection)
        assert objects(connection) == made
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        assert {name for kind, name, _ in made if kind == "table"} == set(metadata.tables)
    engine.dispose()


async def test_the_token_view_gives_every_token_its_exact_time(store: Store) -> None:
    await store.start_run(Run(uid="r", start_ns=T0_NS))
    gaps_us = tuple(1 + 977 * k for k in range(63))
    second_ns = T0_NS + 1000 * sum(gaps_us) + 5_000_000
    request = RequestRow(
        run="r", number=0, submitted_ns=T0_NS, started_ns=None, first_token_ns=T0_NS, last_token_ns=second_ns,
        ended_ns=second_ns, input_tokens=1, cached_tokens=0, output_tokens=65, finish_reason="stop",
        count_source="caller", status="ok",
    )  # fmt: skip
    chunks = [
        TokenChunk(run="r", request=0, first_index=0, kind="token", start_ns=T0_NS, gaps_us=gaps_us),
        TokenChunk(run="r", request=0, first_index=64, kind="coalesced", start_ns=second_ns, gaps_us=()),
    ]
    await store.write_events([request], chunks)
    shown = rows(Path(store.path), 'SELECT run, request, "index", kind, t_ns FROM token ORDER BY "index"')
    times = [T0_NS + 1000 * sum(gaps_us[:k]) for k in range(64)]
    assert shown == [("r", 0, k, "token", t_ns) for k, t_ns in enumerate(times)] + [
        ("r", 0, 64, "coalesced", second_ns)
    ]


async def test_the_energy_view_answers_for_a_run_only_where_updates_stand_on_both_sides_of_its_edges(
    store: Store,
) -> None:
    ms = 1_000_000
    counting = Device(uid="GPU-2", name="a GPU", index=0, has_counter=True)
    # 400 W; updates at 50, 150, ... ms, each seen 10 ms later by polls 20 ms apart.
    seen = [(0, 0, 7)] + [(60 + 100 * k, 20, 40_007 + 40_000 * k) for k in range(5)]
    items: list[Item] = [
        (
            counting.uid,
            ReadingRow(
                t_ns=T0_NS + at * ms, power_instant_mw=None, power_average_mw=None, energy_mj=energy_mj,
                integral_uj=None, since_ns=since * ms, latency_us=100,
            ),
        )
        for at, since, energy_mj in seen
    ]  # fmt: skip
    await store.write_devices([counting])
    await store.write_items(items)
    for uid, start_ms, stop_ms in (("early", 10, 210), ("between", 110, 210), ("late", 210, 510)):
        await store.start_run(Run(uid=uid, start_ns=T0_NS + start_ms * ms, devices=(counting.uid,)))
        await store.write_events([], [], (uid, T0_NS + stop_ms * ms, "ok", None))
    assert rows(Path(store.path), "SELECT run, energy_j FROM v_run_energy ORDER BY run") == [
        ("between", pytest.approx(40.0, abs=0.02)),  # the latency shifts the midpoints by 50 µs
        ("early", None),
        ("late", None),
    ]


async def test_a_chunk_written_again_as_it_grows_replaces_itself(store: Store) -> None:
    await store.start_run(Run(uid="r", start_ns=T0_NS))
    for gaps_us in ((), (10,), (10, 20)):
        chunk = TokenChunk(run="r", request=0, first_index=0, kind="token", start_ns=T0_NS, gaps_us=gaps_us)
        await store.write_events([], [chunk])
    assert rows(Path(store.path), "SELECT t_ns FROM token ORDER BY t_ns") == [
        (T0_NS,), (T0_NS + 10_000,), (T0_NS + 30_000,),
    ]  # fmt: skip


async def test_a_recording_is_imported_once(store: Store) -> None:
    file = ("abc", "trace.csv", "nvidia-smi", True, "[]")
    items: list[Item] = [(GPU.uid, reading(T0_NS + k * 20_000_000)) for k in range(3)]
    items.append((GPU.uid, Gap(from_ns=T0_NS, to_ns=T0_NS + 1, reason="file")))
    await store.write_import(file, [GPU], items, "1", (T0_NS, T0_NS + 40_000_000))
    with pytest.raises(StoreError, match=r"trace\.csv was imported into .* before\. Nothing was added"):
        await store.write_import(file, [GPU], items, "1", (T0_NS, T0_NS + 40_000_000))
    path = Path(store.path)
    for table, count in (("reading", 3), ("gap", 1), ("session", 1), ("import_file", 1)):
        assert rows(path, f"SELECT count(*) FROM {table}") == [(count,)], table


async def test_an_import_that_fails_at_its_last_row_leaves_no_row(store: Store) -> None:
    items: list[Item] = [(GPU.uid, reading(T0_NS)), (GPU.uid, reading(T0_NS))]  # one time twice
    with pytest.raises(StoreError, match="holds a reading of this device at this time already"):
        await store.write_import(("abc", "t.csv", "f", True, "[]"), [GPU], items, "1", (T0_NS, T0_NS))
    for table in ("reading", "session", "import_file"):
        assert rows(Path(store.path), f"SELECT count(*) FROM {table}") == [(0,)], table


async def test_a_store_locked_by_another_program_says_so_and_takes_the_rows_afterwards(store: Store) -> None:
    await store.write_devices([GPU])
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreBusy, match=r"has been locked by another program for over 5 s. Close it and"):
            await store.write_items([(GPU.uid, reading(T0_NS))])
        other.execute("ROLLBACK")
    await store.write_items([(GPU.uid, reading(T0_NS))])
    assert rows(Path(store.path), "SELECT count(*) FROM reading") == [(1,)]


async def test_a_killed_collector_loses_nothing_committed_and_the_next_marks_it_unclean(
    tmp_path: Path,
) -> None:
    path = tmp_path / "t.db"
    line = [
        sys.executable,
        "-m",
        "telemetry.cli",
        "collect",
        "--source",
        "simulated:h200",
        "--store",
        str(path),
    ]
    with subprocess.Popen(line, stderr=subprocess.PIPE) as collector:
        until = time.monotonic() + 30
        while not path.exists() or rows(path, "SELECT count(*) FROM reading")[0][0] < 20:
            assert collector.poll() is None, (collector.stderr or sys.stdin).read()
            assert time.monotonic() < until
            await asyncio.sleep(0.05)
        committed = rows(path, "SELECT * FROM reading ORDER BY t_ns")
        collector.send_signal(signal.SIGKILL)
        collector.wait()

    assert rows(path, "PRAGMA integrity_check") == [("ok",)]
    assert set(committed) <= set(rows(path, "SELECT * FROM reading"))
    assert rows(path, "SELECT state FROM session") == [("open",)]

    subprocess.run([*line, "--duration", "0.5"], check=True, capture_output=True, timeout=30)
    assert rows(path, "SELECT state, stop_ns IS NULL FROM session ORDER BY id") == [
        ("unclean", 1),
        ("clean", 0),
    ]
    after = rows(path, "SELECT * FROM reading")
    assert set(committed) <= set(after)
    assert len(after) > len(committed)


def of_first_version(path: Path) -> None:
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.exec_driver_sql(f"PRAGMA application_id={schema.APPLICATION_ID}")
        schema.migrate(connection, "0001")
        connection.exec_driver_sql("INSERT INTO host (machine, name) VALUES ('m', 'kept')")
    engine.dispose()


async def test_an_older_store_is_brought_up_to_date_with_all_it_holds_and_kept_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    of_first_version(path)
    before = path.read_bytes()
    assert schema.upgrade(path) == ("0001", tmp_path / "t.db.0001")
    async with await open_store(path) as store:
        assert ("kept",) in [tuple(row) for row in await store.fetch("SELECT name FROM host")]
        assert await store.fetch("SELECT * FROM experiment") == []
    assert (tmp_path / "t.db.0001").read_bytes() == before
    assert schema.upgrade(path) is None
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t.db", "t.db.0001"]


def test_an_older_store_that_is_being_written_to_is_left_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    of_first_version(path)
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match=r"cannot be brought up to date: .*left as it was"):
            schema.upgrade(path)
    assert rows(path, "SELECT version_num FROM alembic_version") == [("0001",)]
    assert [p.name for p in tmp_path.iterdir()] == ["t.db"]
