"""A store of two settings side by side, recorded in virtual time, and the report of it."""

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recorded import S, record
from virtual_gpus import BOOTED_S, EPOCH_NS

from telemetry.cli.drawing import Drawn, draw
from telemetry.join import Boards, report
from telemetry.storage.store import open_store

WAVE_NS = EPOCH_NS + round(BOOTED_S * S)  # wave time 0
SPEC = "simulated:h200,gpus=2,gain=1,offset=0,noise=0,jitter=0,latency=0.06,wave=square:200:600:1:0.5,fault=lost@65:3:1"
EVIL = "<script>alert('x')</script> & \"friends\""
SETTINGS = {"plain": ("smollm2-135m", 1), "evil": (EVIL, 4)}
TOKENS = 40
REQUEST_S = 2.0
# Two settings by turns, the first run a warm-up; one without any request, in which a GPU is lost; one that failed.
RUNS = [
    *(
        (f"{name}{k}", 20.0 * k + 10.0 * n, 20.0 * k + 10.0 * n + 8.0)
        for k in range(3)
        for n, name in enumerate(SETTINGS)
    ),
    ("idle", 62.0, 72.0),
    ("failed", 74.0, 78.0),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """The store's file, its report, and what a page needs beyond it."""

    path: Path
    document: dict[str, Any]
    drawn: Drawn


async def compared(path: Path, runtime_dir: Path) -> Compared:
    """Record the store and report it."""
    await record(path, runtime_dir, SPEC, RUNS)
    with closing(sqlite3.connect(path)) as store:
        for name, (model, batch) in SETTINGS.items():
            about = (model, batch, batch, f"{name}%")
            store.execute("UPDATE run SET model = ?, batch_size = ?, concurrency = ? WHERE name LIKE ?", about)
        store.execute("UPDATE run SET warmup = 1 WHERE name = 'plain0'")
        store.execute("UPDATE run SET status = 'failed', error = 'the engine died' WHERE name = 'failed'")
        for name, from_s, _ in RUNS[:-2]:
            add_requests(store, f"{name}-{from_s}", from_s, lanes=SETTINGS[name[:-1]][1])
        # The session began when this test did; it should have when the recording does.
        store.execute("UPDATE session SET start_ns = ?, heartbeat_ns = ?", (WAVE_NS - 5 * S, WAVE_NS + 99 * S))
        store.commit()
    return await read(path)


async def read(path: Path, *uids: str) -> Compared:
    """Return the report of a store, of all its runs or of some."""
    async with await open_store(path) as opened:
        document = await report(opened, uids, boards=Boards())
        return Compared(path=path, document=document, drawn=await draw(opened, document, Boards()))


def add_requests(store: sqlite3.Connection, run: str, from_s: float, *, lanes: int, rounds: int = 3) -> None:
    """Write requests of 2 s each, so many at a time, the first quarter of each a prefill."""
    ((number,),) = store.execute("SELECT id FROM run WHERE uid = ?", (run,)).fetchall()
    for k in range(rounds * lanes):
        begin = WAVE_NS + round((from_s + 0.5 + REQUEST_S * (k // lanes)) * S)
        first, ended = begin + S // 2, begin + round(REQUEST_S * S)
        gap_us = (ended - first) // (TOKENS - 1) // 1000
        times = {"submitted_ns": begin - S // 10, "started_ns": begin, "first_token_ns": first, "ended_ns": ended}
        counts = {"input_tokens": 100, "output_tokens": TOKENS, "count_source": "ids", "status": "ok"}
        insert(store, "request", [{"run": number, "number": k, "last_token_ns": ended} | times | counts])
        gaps_us = f"[{','.join([str(gap_us)] * (TOKENS - 1))}]"
        chunk = {"run": number, "request": k, "first_index": 0, "kind": "token", "start_ns": first, "gaps_us": gaps_us}
        insert(store, "token_chunk", [chunk])


def insert(store: sqlite3.Connection, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows, which have the same columns."""
    names = ", ".join(rows[0])
    values = [tuple(row.values()) for row in rows]
    store.executemany(f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(rows[0]))})", values)
