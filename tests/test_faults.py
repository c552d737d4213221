"""Faults of the store and of the driver while a collector runs: nothing measured is lost, and nothing is hidden."""

import asyncio
import logging
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from stored import rows

from telemetry import clock as clocks
from telemetry.collector import service
from telemetry.collector.service import Collector
from telemetry.collector.sources.select import open_sources
from telemetry.errors import StoreBusy
from telemetry.storage.store import Store, open_store

STEADY = "simulated:h200,wave=constant:400"


@asynccontextmanager
async def collecting(path: Path, runtime_dir: Path, spec: str = STEADY) -> AsyncIterator[Collector]:
    async with await open_store(path) as store:
        sources = open_sources(spec, "all", store.clock, runtime_dir)
        async with Collector(store, sources, spec=spec, period_s=0.02, runtime_dir=runtime_dir) as collector:
            yield collector


async def until(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come about"
        await asyncio.sleep(0.02)


def readings(path: Path) -> int:
    return int(rows(path, "SELECT count(*) FROM reading")[0][0]) if path.exists() else 0


@pytest.mark.parametrize("what", ["file", "folder"])
async def test_a_store_removed_while_collecting_is_put_back_with_all_its_rows(
    tmp_path: Path, runtime_dir: Path, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    path = tmp_path / "folder" / "t.db"
    async with collecting(path, runtime_dir) as collector:
        await until(lambda: readings(path) > 10)
        before = rows(path, "SELECT * FROM reading")
        if what == "folder":
            shutil.rmtree(path.parent)
        else:
            for part in path.parent.iterdir():
                part.unlink()
        await until(lambda: path.exists() and readings(path) > len(before) + 10)
    after = rows(path, "SELECT * FROM reading")
    assert set(before) <= set(after)
    assert len(after) == collector.status().rows - rows(path, "SELECT count(*) FROM vitals")[0][0]
    assert rows(path, "SELECT state, dropped_rows FROM session") == [("clean", 0)]
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]
    assert rows(path, "SELECT max(since_ns) < 500000000 FROM reading") == [(1,)], "polling went on"
    assert "was removed while in use" in caplog.text
    assert not list(path.parent.glob("*.saved*")), "no draft is left"


def move(path: Path, to: Path) -> None:
    """Move a store with its log and index."""
    for tail in ("", "-wal", "-shm"):
        if (part := Path(f"{path}{tail}")).exists():
            part.rename(f"{to}{tail}")


async def test_rows_wait_while_another_store_lies_in_the_place_of_ours(
    tmp_path: Path, runtime_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, ours, other = tmp_path / "t.db", tmp_path / "ours.db", tmp_path / "other.db"
    await (await open_store(other)).close()
    async with collecting(path, runtime_dir):
        await until(lambda: readings(path) > 10)
        before = rows(path, "SELECT * FROM reading")
        move(path, ours)
        move(other, path)
        await until(lambda: "has been replaced by another store" in caplog.text)
        assert readings(path) == 0
        move(path, other)
        await until(lambda: readings(path) > len(before))
    assert set(before) <= set(rows(path, "SELECT * FROM reading"))
    assert rows(path, "SELECT max(since_ns) < 500000000 FROM reading") == [(1,)]
    assert "takes rows again" in caplog.text


async def fill(store: Store, *, full: bool) -> None:
    """Let SQLite say that the disk is full, or not any more."""
    pages = (await store.fetch("PRAGMA page_count"))[0][0] if full else 2**30
    await store.fetch(f"PRAGMA max_page_count={pages}")


async def test_a_full_disk_costs_only_what_found_no_room_in_memory_and_says_so(
    tmp_path: Path, runtime_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(service, "CAPACITY", 30)
    path = tmp_path / "t.db"
    async with collecting(path, runtime_dir, "simulated:h200,wave=square:100:600:0.3:0.5") as collector:
        await until(lambda: readings(path) > 10)
        await fill(collector._store, full=True)
        await until(lambda: collector.status().health.dropped_rows > 5)
        assert "is full. Make room" in (collector.status().trouble or "")
        await fill(collector._store, full=False)
        count = readings(path)
        await until(lambda: readings(path) > count + 40)
        assert collector.status().trouble is None
    assert rows(path, "SELECT state, dropped_rows > 5 FROM session") == [("clean", 1)]
    ((start, end),) = rows(path, "SELECT from_ns, to_ns FROM gap WHERE reason = 'dropped'")
    assert rows(path, f"SELECT count(*) FROM reading WHERE t_ns BETWEEN {start} AND {end}") == [(0,)]
    warnings = [r.message for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 2, warnings
    assert "takes rows again" in warnings[1]


async def collect_and_fill(path: Path, runtime_dir: Path) -> None:
    async with collecting(path, runtime_dir) as collector:
        await until(lambda: readings(path) > 10)
        await fill(collector._store, full=True)
        await until(lambda: collector.status().trouble is not None)
        await asyncio.sleep(1.6)


async def test_a_stop_while_the_store_takes_nothing_says_how_much_is_lost(tmp_path: Path, runtime_dir: Path) -> None:
    path = tmp_path / "t.db"
    with pytest.raises(StoreBusy, match=r"is full. Make room. \d+ rows are lost"):
        await collect_and_fill(path, runtime_dir)


async def test_a_clock_that_is_set_moves_what_is_printed_and_no_energy(
    tmp_path: Path, runtime_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.db"
    moved_ns = 0
    real = clocks.SteadyClock.offset_ns
    monkeypatch.setattr(clocks.SteadyClock, "offset_ns", lambda clock: real(clock) + moved_ns)
    async with collecting(path, runtime_dir):
        await until(lambda: readings(path) > 10)
        moved_ns = -7_200_000_000_000
        await until(lambda: bool(rows(path, "SELECT 1 FROM clock_step")))
        count = readings(path)
        await until(lambda: readings(path) > count + 20)
    ((step_ns, offset_ns, cause),) = rows(path, "SELECT t_ns, offset_ns, cause FROM clock_step")
    assert cause == "step"
    assert offset_ns == pytest.approx(moved_ns, abs=5e6)
    assert rows(path, "SELECT count(*) FROM gap") == [(0,)]
    seen = rows(path, "SELECT t_ns, time FROM v_reading ORDER BY t_ns")
    hours = {(t_ns >= step_ns, round((t_ns / 1e9 - _seconds(text)) / 3600)) for t_ns, text in seen}
    assert hours == {(False, 0), (True, 2)}


def _seconds(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()


# What of the driver's faults stands in the store: (fault, seconds until it can be seen, query, answer).
DRIVER_FAULTS = {
    "lost": ("lost@1:1", "SELECT reason FROM gap", [("lost",)]),
    "hang": ("hang@1:1", "SELECT reason, to_ns - from_ns > 900000000 FROM gap", [("hang", 1)]),
    "reset": ("reset@1:1", "SELECT reason FROM gap", [("counter_reset",)]),
    "unknown": ("unknown@1:1", "SELECT reason FROM gap", [("error",)]),
    "zero": ("zero@1:1", "SELECT DISTINCT power_instant_mw IS NULL, energy_mj IS NULL FROM reading ORDER BY 1",
             [(0, 0), (1, 0)]),
    "not_supported": ("not_supported@1:1", "SELECT DISTINCT power_instant_mw IS NULL FROM reading ORDER BY 1",
                      [(0,), (1,)]),
}  # fmt: skip


@pytest.mark.parametrize("name", DRIVER_FAULTS)
async def test_a_driver_fault_of_one_gpu_stands_in_the_store_and_leaves_the_other_alone(
    tmp_path: Path, runtime_dir: Path, name: str
) -> None:
    fault, query, answer = DRIVER_FAULTS[name]
    path = tmp_path / "t.db"
    origin = time.monotonic_ns()
    spec = f"simulated:h200,gpus=2,wave=square:100:600:1:0.5,origin={origin},fault={fault}:0"
    async with collecting(path, runtime_dir, spec) as collector:
        await asyncio.sleep(3.2)
        assert all(health.polls > 50 for _, health in collector.status().devices)
    of_first = query.replace("FROM gap", "FROM gap WHERE device = 1").replace(
        "FROM reading", "FROM reading WHERE device = 1"
    )
    assert rows(path, of_first) == answer
    assert rows(path, "SELECT count(*) FROM gap WHERE device = 2") == [(0,)]
    assert rows(path, "SELECT max(since_ns) < 400000000 FROM reading WHERE device = 2") == [(1,)]
    assert rows(path, "SELECT count(*) FROM reading WHERE power_instant_mw = 0 OR energy_mj = 0 AND device = 2") == [
        (0,)
    ]
    assert rows(path, "SELECT state FROM session") == [("clean",)]
