"""The recorder: what a program generates, joined with what its devices drew, from one process or several."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from stored import rows

from telemetry.errors import CollectorRunning, UserError
from telemetry.join import Boards, report
from telemetry.model import CountSource
from telemetry.recorder import Recorder
from telemetry.storage.store import open_store

CONSTANT = "simulated:h200,wave=constant:400,gain=1,offset=0"


@contextmanager
def collecting(path: Path) -> Iterator[int]:
    """A collector of another process that is already reading; gives its pid."""
    line = [sys.executable, "-m", "telemetry.cli", "collect", "--source", CONSTANT, "--store", str(path)]
    with subprocess.Popen(line, stderr=subprocess.DEVNULL) as process:
        try:
            until = time.monotonic() + 30
            while not path.exists() or rows(path, "SELECT count(*) FROM reading") == [(0,)]:
                assert process.poll() is None
                assert time.monotonic() < until
                time.sleep(0.05)
            yield process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


async def assert_the_store_agrees_with_the_report(path: Path, tokens: list[int]) -> None:
    async with await open_store(path, create=False, read_only=True) as store:
        runs = {run["run"]: run for run in (await report(store, boards=Boards()))["runs"]}
    best = {
        row[0]: row[1:]
        for row in rows(
            path,
            "SELECT run, energy_j, energy_lo_j, energy_hi_j, j_per_output_token, j_per_output_token_lo, "
            "j_per_output_token_hi, method, grade, output_tokens, simulated FROM v_run_best",
        )
    }
    linear = {row[0]: row[1:] for row in rows(path, "SELECT run, energy_j, avg_power_w FROM v_run_efficiency")}
    assert sorted(run["output_tokens"] for run in runs.values()) == sorted(tokens)
    assert set(best) == set(linear) == set(runs)
    for uid, run in runs.items():
        e, j = run["energy"], run["j_per_output_token"]
        assert best[uid] == (
            e["value_j"], e["lo_j"], e["hi_j"], j["value"], j["lo"], j["hi"], e["method"], e["grade"],
            run["output_tokens"], 1,
        )  # fmt: skip
        assert e["lo_j"] <= linear[uid][0] <= e["hi_j"]
        assert e["lo_j"] <= 400 * run["duration_s"] <= e["hi_j"]
        assert e["hi_j"] - e["lo_j"] < 0.5 * e["value_j"]  # so that lying inside says something
        assert linear[uid][1] == pytest.approx(400, rel=0.05)
        assert run["status"] == "ok"
        assert run["requests"] == {"ok": 1, "failed": 0}


async def test_runs_of_a_program_without_asyncio_are_stored_as_they_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    with Recorder(path, source=CONSTANT) as recorder:
        time.sleep(0.3)  # a run that starts before the first reading has no energy in plain SQL
        for tokens in (5, 70):
            with recorder.run(model="m") as run, run.request(input_tokens=3) as request:
                for _ in range(tokens):
                    request.token()
                time.sleep(0.8)
    await assert_the_store_agrees_with_the_report(path, [5, 70])


async def test_runs_of_a_program_with_asyncio_are_stored_as_they_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    async with Recorder(path, source=CONSTANT) as recorder:
        await asyncio.sleep(0.3)  # a run that starts before the first reading has no energy in plain SQL
        for tokens in (9, 130):
            async with recorder.run(model="m") as run, run.request(input_tokens=3) as request:
                request.tokens(tokens)
                await asyncio.sleep(0.8)
    await assert_the_store_agrees_with_the_report(path, [9, 130])


async def test_token_times_come_back_as_they_were_told(tmp_path: Path) -> None:
    stamps = [time.monotonic_ns() + 1_234_567 * k for k in range(150)]
    async with Recorder(tmp_path / "t.db", collect=False) as recorder:
        async with recorder.run() as run, run.request() as request:
            for k, stamp in enumerate(stamps):
                request.token_at(stamp)
                if k in {10, 64, 100}:  # a chunk grows from one flush to the next
                    await recorder.flush()
        times = [recorder.store.clock.at(stamp) for stamp in stamps]
    shown = rows(tmp_path / "t.db", 'SELECT "index", t_ns FROM token ORDER BY "index"')
    assert [index for index, _ in shown] == list(range(150))
    assert all(0 <= told - t_ns < 1000 for (_, t_ns), told in zip(shown, times, strict=True))


def test_a_run_that_raises_is_recorded_as_failed_with_the_tokens_that_came(tmp_path: Path) -> None:
    class Broken(Exception):
        pass

    with Recorder(tmp_path / "t.db", collect=False) as recorder:
        with pytest.raises(Broken), recorder.run() as run, run.request() as request:  # noqa: PT012
            request.token()
            request.token()
            raise Broken("no memory left")
        with recorder.run() as run, run.request() as request:
            request.token()
    path = tmp_path / "t.db"
    assert rows(path, "SELECT status, error, stop_ns IS NOT NULL FROM run ORDER BY id") == [
        ("failed", "Broken: no memory left", 1),
        ("ok", None, 1),
    ]
    assert rows(path, "SELECT status, error, output_tokens, finish_reason FROM request ORDER BY id") == [
        ("failed", "Broken: no memory left", 2, "error"),
        ("ok", None, 1, "stop"),
    ]


def test_a_request_left_open_is_failed_with_its_run_and_keeps_its_tokens(tmp_path: Path) -> None:
    with Recorder(tmp_path / "t.db", collect=False) as recorder, recorder.run() as run:
        request = run.request()
        request.start()
        request.token()
    assert rows(tmp_path / "t.db", "SELECT r.status, q.status, q.error, q.output_tokens FROM run r, request q") == [
        ("ok", "failed", "the run ended before the request did", 1)
    ]


async def test_tokens_wait_while_the_store_is_locked_and_are_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Recorder(tmp_path / "t.db", collect=False) as recorder, recorder.run() as run:
        await recorder.store.fetch("PRAGMA busy_timeout=50")
        with closing(sqlite3.connect(tmp_path / "t.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            async with run.request() as request:
                request.token()
            while "Tokens wait in memory" not in caplog.text:
                await asyncio.sleep(0.02)
            other.execute("ROLLBACK")
    assert rows(tmp_path / "t.db", "SELECT status, output_tokens FROM request") == [("ok", 1)]


async def test_a_run_that_stops_while_the_store_is_locked_is_stopped_when_it_takes_rows_again(
    tmp_path: Path,
) -> None:
    path = tmp_path / "t.db"
    async with Recorder(path, collect=False) as recorder:
        await recorder.store.fetch("PRAGMA busy_timeout=50")
        async with recorder.run(model="m") as run:
            async with run.request() as request:
                request.token()
            other = sqlite3.connect(path, isolation_level=None)
            other.execute("BEGIN EXCLUSIVE")
        asyncio.get_running_loop().call_later(1.0, other.close)  # which rolls back
    assert rows(path, "SELECT status, stop_ns IS NOT NULL FROM run") == [("ok", 1)]
    assert rows(path, "SELECT status, output_tokens FROM request") == [("ok", 1)]


async def test_a_recorder_goes_on_reading_when_the_collector_it_relied_on_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "t.db"
    with collecting(path) as pid:
        async with Recorder(path, source=CONSTANT) as recorder:
            assert recorder.collector is None
            async with recorder.run(model="m"):
                os.kill(pid, signal.SIGKILL)
                until = time.monotonic() + 20
                while recorder.collector is None:
                    assert time.monotonic() < until
                    await asyncio.sleep(0.05)
                await asyncio.sleep(1.0)
    assert "reads them itself from here on" in caplog.text
    async with await open_store(path) as store:
        (run,) = (await report(store, boards=Boards()))["runs"]
    energy = run["energy"]
    assert energy["lo_j"] <= 400 * run["duration_s"] <= energy["hi_j"]
    assert energy["value_j"] == pytest.approx(400 * run["duration_s"], rel=0.05)
    assert "not_covered" not in run["flags"]


async def test_pieces_of_text_are_no_tokens_in_a_report(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    async with Recorder(path, source=CONSTANT) as recorder:
        sources: tuple[tuple[CountSource, int | None], ...] = (("server", 21), ("chunks", None))
        for source, tokens in sources:
            async with recorder.run(model=source) as run, run.request() as request:
                began = time.monotonic_ns()
                for k in range(5):
                    request.chunk_at(began + k * 100_000_000, None)
                await asyncio.sleep(0.45)
                request.end(output_tokens=tokens, count_source=source)
    async with await open_store(path) as store:
        counted, uncounted = (await report(store, boards=Boards()))["runs"]
    assert counted["tpot_s"]["mean"] == pytest.approx(0.4 / 20, rel=1e-3)
    assert counted["itl_s"]["n"] == 0
    assert counted["j_per_output_token"]["value"] == pytest.approx(counted["energy"]["value_j"] / 21)
    assert uncounted["uncounted_requests"] == 1
    assert uncounted["j_per_output_token"] == {"value": None, "lo": None, "hi": None}
    assert uncounted["tpot_s"]["n"] == 0
    assert "uncounted_tokens" in uncounted["verdict"]["reasons"]


async def test_a_run_is_entered_the_way_its_recorder_was(tmp_path: Path) -> None:
    async with Recorder(tmp_path / "t.db", collect=False) as recorder:
        with pytest.raises(UserError, match="entered with `async with`; enter its runs the same way"):
            recorder.run().__enter__()
    assert rows(tmp_path / "t.db", "SELECT count(*) FROM run") == [(0,)]


RECORDING = """
import sys
from telemetry.recorder import Recorder
with Recorder(sys.argv[1], collect=False) as recorder:
    for _ in range(5):
        with recorder.run(model=sys.argv[2]) as run:
            for _ in range(4):
                with run.request() as request:
                    for _ in range(100):
                        request.token()
"""


def test_two_processes_record_into_one_store_and_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "t.db"  # made by whichever comes first
    both = [subprocess.Popen([sys.executable, "-c", RECORDING, str(path), model]) for model in ("a", "b")]
    assert [process.wait(timeout=60) for process in both] == [0, 0]
    assert rows(
        path,
        "SELECT r.model, count(DISTINCT r.uid), count(*), count(DISTINCT t.request) FROM run r "
        "JOIN token t ON t.run = r.uid GROUP BY r.model ORDER BY r.model",
    ) == [("a", 5, 2000, 4), ("b", 5, 2000, 4)]
    assert rows(path, "SELECT count(DISTINCT pid), count(DISTINCT host), min(status) FROM run") == [(2, 1, "ok")]
    assert rows(path, "SELECT count(*) FROM clock_anchor") == [(1,)]


async def test_a_device_has_one_collector_whose_pid_the_second_is_told(tmp_path: Path) -> None:
    first, second = tmp_path / "first.db", tmp_path / "second.db"
    with collecting(first) as pid:
        with pytest.raises(CollectorRunning, match=rf"pid {pid}\) .*first\.db.*second\.db.*telemetry stop"):
            async with Recorder(second, source=CONSTANT):
                pass
        line = [sys.executable, "-m", "telemetry.cli", "collect", "--source", CONSTANT, "--store", str(first)]
        refused = subprocess.run(line, capture_output=True, text=True, timeout=30, check=False)
        assert refused.returncode != 0
        assert f"already read by process {pid}" in refused.stderr
        assert len(refused.stderr.strip().splitlines()) == 1

        async with Recorder(first, source=CONSTANT) as recorder, recorder.run(model="m"):
            pass  # into the collector's own store one may record
    assert rows(first, "SELECT pid, state FROM session") == [(pid, "clean")]
    assert rows(first, "SELECT r.pid, d.simulated FROM run r JOIN run_device rd ON rd.run = r.id "
                       "JOIN device d ON d.id = rd.device") == [(os.getpid(), 1)]  # fmt: skip
