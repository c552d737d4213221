"""Measures what sharing out a run's energy among its requests takes, from the store and back into it.

Run it as `python benchmarks/attribution.py`. One run of half an hour on one made-up device, with 1,000, 10,000 and
100,000 requests of eight tokens, sixty-four at a time.
"""

import asyncio
import json
import sqlite3
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from report import EPOCH_NS, MS, S

from telemetry.join.boards import Boards
from telemetry.join.energy import DeviceEnergy
from telemetry.join.report import work_out
from telemetry.join.requests import Served, charge, followed, served
from telemetry.join.traces import board_of, device_energy
from telemetry.storage import reader, schema
from telemetry.storage.results import OfRequests, write_results
from telemetry.storage.store import Store, open_store

SECONDS, AT_ONCE, TOKENS = 1800, 64, 8
START_NS = EPOCH_NS + 3 * S
STOP_NS = START_NS + SECONDS * S
T = TypeVar("T")


def main() -> None:
    """Print a table: CPU seconds of each part, and all of `telemetry analyse`, by number of requests."""
    print(
        "| requests | read | follow the counter | share out | keep | `analyse`, all of it |\n|---|---|---|---|---|---|"
    )
    for n in (1_000, 10_000, 100_000):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "served.db"
            _fill(path, n)
            seconds = asyncio.run(_measured(path))
        print(f"| {n:,} | " + " | ".join(f"{each:.2f} s" for each in seconds) + " |", flush=True)


async def _measured(path: Path) -> list[float]:
    seconds: list[float] = []

    async def timed(work: Callable[[], Awaitable[T]]) -> T:
        began = time.process_time()
        found = await work()
        seconds.append(time.process_time() - began)
        return found

    async with await open_store(path) as store:
        (run,), (device,) = await reader.runs(store), await reader.devices(store)
        part = await device_energy(
            store, device, await board_of(store, device, Boards()), START_NS, STOP_NS,
            clock=await reader.wall_clock(store), course=True,
        )  # fmt: skip
        work = await timed(lambda: served(store, run, STOP_NS, [device.id], []))
        energy = await timed(lambda: _followed(part))
        charged = await timed(lambda: _charged(work, energy))
        await timed(lambda: _keep(store, work, charged))
        await timed(lambda: work_out(store, boards=Boards()))
    return seconds


async def _followed(part: DeviceEnergy) -> Any:
    return followed({1: part}, START_NS, STOP_NS)


async def _charged(work: Served, energy: Any) -> Any:
    return charge(work, energy, START_NS, STOP_NS)


async def _keep(store: Store, work: Served, charged: Any) -> None:
    numbers, values = [q.number for q in work.requests], charged.shares.energy_j.sum(axis=0).tolist()
    shares = OfRequests(run=1, quantity="energy_j", method="allocated(M4)", numbers=numbers, values=values)
    await write_results(store, "0", [], [shares], {})


def _fill(path: Path, n: int) -> None:
    schema.create(path)
    with sqlite3.connect(path) as c:
        c.execute("INSERT INTO host (id, machine, name) VALUES (1, 'm', 'h')")
        c.execute(
            "INSERT INTO device (id, uid, host, name, idx, kind, boundary, simulated, energy_path, integral_of, "
            "power_limit_mw) VALUES (1, 'GPU-1', 1, 'NVIDIA H200', 0, 'gpu', 'gpu-board', 1, 'counter', 'instant', "
            "700000)"
        )
        c.executemany(
            "INSERT INTO reading VALUES (1, ?, 400000, 400000, ?, ?, 20000000, 80)",
            ((EPOCH_NS + k * 100 * MS, 10**12 + 40_000 * k, 40_000_000 * k) for k in range((SECONDS + 6) * 10)),
        )
        c.execute(
            "INSERT INTO run (id, uid, model, batch_size, concurrency, warmup, settings, host, start_ns, stop_ns, "
            "status) VALUES (1, 'r', 'm', 1, 1, 0, '{}', 1, ?, ?, 'ok')",
            (START_NS, STOP_NS),
        )
        c.execute("INSERT INTO run_device VALUES (1, 1)")
        each_ns = SECONDS * S * AT_ONCE // n
        for number in range(n):
            begin_ns = START_NS + number * each_ns // AT_ONCE
            first_ns, end_ns = begin_ns + each_ns // 4, min(begin_ns + each_ns, STOP_NS)
            gap_us = max((end_ns - first_ns) // (TOKENS - 1) // 1000, 0)
            c.execute(
                "INSERT INTO request (run, number, submitted_ns, started_ns, first_token_ns, last_token_ns, ended_ns, "
                "input_tokens, cached_tokens, output_tokens, finish_reason, count_source, status) "
                "VALUES (1, ?, ?, ?, ?, ?, ?, 64, 0, ?, 'length', 'ids', 'ok')",
                (number, begin_ns, begin_ns, first_ns, end_ns, end_ns, TOKENS),
            )
            c.execute(
                "INSERT INTO token_chunk (run, request, first_index, kind, start_ns, gaps_us) "
                "VALUES (1, ?, 0, 'token', ?, ?)",
                (number, first_ns, json.dumps([gap_us] * (TOKENS - 1))),
            )


if __name__ == "__main__":
    main()
