"""The event socket: what any program tells is stored as told, and no program can harm the others or the collector."""

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from stored import rows

from telemetry.collector.service import Collector
from telemetry.collector.sources.select import open_sources
from telemetry.errors import CollectorRunning, UsageError
from telemetry.events import Listener, SharedRecording, ask, bound, listener, messages
from telemetry.events.listener import REFUSED
from telemetry.recorder import Recorder
from telemetry.storage.store import open_store

ROOT = Path(__file__).parents[1]
CLIENTS = ROOT / "examples" / "clients"
SIMULATED = "simulated:h200"


class Place:
    """A listener, its socket, its store, and what it counted."""

    def __init__(self, folder: Path) -> None:
        self.path, self.store = folder / "events.sock", folder / "t.db"
        self.failures = Counter[str]()


@asynccontextmanager
async def listening(runtime_dir: Path) -> AsyncIterator[Place]:
    """A listener beside a collector, in this process."""
    place = Place(runtime_dir)
    with bound(place.path) as sock:
        async with await open_store(place.store) as store:
            sources = open_sources(SIMULATED, "all", store.clock, runtime_dir)
            collector = Collector(store, sources, spec=SIMULATED, period_s=0.02, runtime_dir=runtime_dir)
            async with collector, SharedRecording(store, sources, SIMULATED, runtime_dir) as recording:
                place.failures = collector.failures
                async with Listener(recording, sock, collector.failures, asyncio.Event()):
                    yield place


class Talk:
    """A program's end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def tell(self, *events: dict[str, Any] | bytes) -> None:
        lines = [event if isinstance(event, bytes) else json.dumps(event).encode() + b"\n" for event in events]
        self._writer.write(b"".join(lines))
        await self._writer.drain()

    async def answer(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(await self._reader.readline())
        return answer

    async def ask(self, event: dict[str, Any] | bytes) -> dict[str, Any]:
        await self.tell(event)
        return await self.answer()


@asynccontextmanager
async def talking(place: Place) -> AsyncIterator[Talk]:
    reader, writer = await asyncio.open_unix_connection(place.path)
    try:
        yield Talk(reader, writer)
    finally:
        writer.close()
        await writer.wait_closed()


def event(kind: str, run: str = "r", request: object = None, **more: Any) -> dict[str, Any]:
    return {"event": kind, "run": run} | ({} if request is None else {"request": request}) | more


async def until(holds: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come about"
        await asyncio.sleep(0.02)


def stopped(place: Place, runs: int = 1) -> Callable[[], bool]:
    return lambda: rows(place.store, "SELECT count(*) FROM run WHERE status <> 'open'") == [(runs,)]


# What is told is stored.


async def test_what_a_program_tells_is_stored_as_it_was_told(runtime_dir: Path) -> None:
    began = time.monotonic_ns() - 10_000_000_000
    stamps = [began + 2_000_000 + 1_234_567 * k for k in range(1500)]
    async with listening(runtime_dir) as place, talking(place) as talk:
        about: dict[str, Any] = {
            "name": "n", "model": "m", "runner": "x", "quantisation": "q4", "experiment": "e", "batch_size": 2,
            "concurrency": 3, "warmup": True, "repeat": 4, "settings": {"a": [1]},
        }  # fmt: skip
        started = await talk.ask(event("run_start", t_mono_ns=began, **about))
        await talk.tell(event("request_start", request="a", input_tokens=5, cached_tokens=2, t_mono_ns=began + 1000))
        await talk.tell(event("request_start", started["run"], 7, t_mono_ns=began + 1000))
        for k, stamp in enumerate(stamps):
            await talk.tell(event("token", request="a", t_mono_ns=stamp))
            if k in {10, 64, 1000}:  # a chunk grows from one flush to the next
                await asyncio.sleep(0.4)
        await talk.tell(event("token", request=7, n=3, t_mono_ns=stamps[0]))
        await talk.tell(event("token", request=7, n=None, t_mono_ns=stamps[1]))
        await talk.tell(event("request_end", request="a", finish_reason="length", t_mono_ns=stamps[-1] + 1000))
        await talk.tell(event("request_end", request=7, output_tokens=9, input_tokens=4, t_mono_ns=stamps[-1]))
        ended = await talk.ask(event("run_stop", t_mono_ns=stamps[-1] + 2000))
        async with await open_store(place.store, read_only=True) as store:
            at = store.clock.at
    assert started == {"ok": True, "run": started["run"], "line": 1}
    assert ended == {"ok": True, "run": started["run"], "line": 1508}
    assert place.failures == {}
    names = ", ".join(about)
    assert rows(place.store, f"SELECT uid, status, pid, start_ns, stop_ns, {names} FROM run") == [
        (started["run"], "ok", os.getpid(), at(began), at(stamps[-1] + 2000),
         "n", "m", "x", "q4", "e", 2, 3, 1, 4, '{"a":[1]}')
    ]  # fmt: skip
    columns = "status, submitted_ns, started_ns, first_token_ns, last_token_ns, ended_ns, input_tokens, cached_tokens, "
    assert rows(place.store, f"SELECT {columns} output_tokens, finish_reason, count_source FROM request") == [
        ("ok", at(began + 1000), at(began + 1000), at(stamps[0]), at(stamps[-1]), at(stamps[-1] + 1000),
         5, 2, 1500, "length", "caller"),
        ("ok", at(began + 1000), at(began + 1000), at(stamps[0]), at(stamps[1]), at(stamps[-1]),
         4, None, 9, "stop", "server"),
    ]  # fmt: skip
    shown = rows(place.store, 'SELECT "index", t_ns FROM token WHERE request = 0 ORDER BY "index"')
    assert [index for index, _ in shown] == list(range(1500))
    assert all(0 <= at(told) - t_ns < 1000 for (_, t_ns), told in zip(shown, stamps, strict=True))
    assert rows(place.store, "SELECT kind, count(*) FROM token WHERE request = 1 GROUP BY kind ORDER BY kind") == [
        ("chunk", 1),
        ("coalesced", 3),
    ]


async def test_wall_times_are_stored_as_the_moments_they_were_whatever_has_been_done_to_the_clock(
    runtime_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.time_ns
    async with listening(runtime_dir) as place, talking(place) as talk:
        monkeypatch.setattr(time, "time_ns", lambda: real() + 3600 * 10**9)  # set after the store was dated
        before = time.monotonic_ns()
        await talk.ask(event("run_start", t_wall_ns=real() + 3600 * 10**9))
        after = time.monotonic_ns()
        await talk.ask(event("run_stop"))
        async with await open_store(place.store, read_only=True) as store:
            ((start_ns,),) = rows(place.store, "SELECT start_ns FROM run")
            slack_ns = 1_000_000  # two clocks are read one after the other
            assert store.clock.at(before) - slack_ns <= start_ns <= store.clock.at(after) + slack_ns


async def test_an_event_without_a_time_was_when_its_line_was_read(runtime_dir: Path) -> None:
    async with listening(runtime_dir) as place, talking(place) as talk:
        before = time.monotonic_ns()
        await talk.ask(event("run_start"))
        await talk.ask(event("run_stop"))
        after = time.monotonic_ns()
        async with await open_store(place.store, read_only=True) as store:
            ((start_ns, stop_ns),) = rows(place.store, "SELECT start_ns, stop_ns FROM run")
            assert store.clock.at(before) <= start_ns < stop_ns <= store.clock.at(after)


async def test_pieces_of_text_that_nobody_counted_are_no_tokens(runtime_dir: Path) -> None:
    async with listening(runtime_dir) as place, talking(place) as talk:
        await talk.tell(event("run_start"), event("request_start", request=1), event("token", request=1, n=None))
        await talk.tell(event("request_end", request=1), event("run_stop"))
        await until(stopped(place))
    assert rows(place.store, "SELECT count_source FROM request") == [("chunks",)]


# Bad lines.

T = 10**18  # as CLOCK_MONOTONIC, in some decades
DEEP = b"[" * 500 + b"]" * 500
REFUSALS: list[tuple[dict[str, Any] | bytes, str | None]] = [
    (b"no json\n", "is no JSON"),
    (b"[1]\n", "is no object"),
    (b'{"event": ["token"]}\n', "is no object"),
    (b"\xff\n", "is no JSON"),
    (b'{"event": "status"' + b" " * (1 << 20) + b"}\n", "longer than 1048576 bytes"),
    ({"event": "tocken"}, "one of run_start"),
    ({"event": "status", "run": "r"}, "status has no field 'run'. It has none"),
    (event("run_start", "s", temperature=1), "no field 'temperature'. It has run, name"),
    (event("token"), "token has no 'request'"),
    (event("run_start", "s", batch_size=True), "'batch_size' of run_start is true, which is not a whole number"),
    (event("run_start", "s", settings=[]), "is not an object"),
    (b'{"event":"run_start","run":"s","settings":{"a":' + DEEP + b"}}\n", "not an object of at most 100 levels"),
    (b'{"event":"run_start","run":"s","model":' + DEEP + b"}\n", "'model' of run_start is […], which is not a text"),
    (event("run_start", "s", model="x" * 100), None),
    (event("run_start", ""), "not a text that is not empty"),
    (event("token", request=1, n=0), "from 1 to 10000, or null"),
    (event("token", request=1, n=10_001), "from 1 to 10000, or null"),
    (event("token", request=1.5), "not a text that is not empty or a whole number"),
    (event("request_start", request=3, cached_tokens=2, input_tokens=1), "cached_tokens are a part"),
    (event("request_end", request=1, finish_reason="error"), "one of stop, length, cancelled"),
    (event("run_start"), "'r' is open on this connection already"),
    (event("request_start", "nobody", 1), "No run 'nobody' is open"),
    (event("request_start", request=1), "request 1 is open in run 'r' already"),
    (event("token", request=2), "No request 2 is open in run 'r'. Begin it"),
    (event("request_end", request="1"), "No request '1' is open"),
    (event("token", request=1, t_mono_ns=T), "s in the future"),
    (event("token", request=1, t_wall_ns=3 * T), "s in the future"),
    (event("token", request=1, t_wall_ns=T // 10**9), "before this host was started"),
    (event("token", request=1, t_mono_ns=1), "before the request's previous event"),
    (event("request_start", request=3, t_mono_ns=1), "before the run's start"),
    (event("run_stop", t_mono_ns=1), "before the run's last event"),
    (event("token", request=1, t_mono_ns=1, t_wall_ns=1), "two times"),
]


async def test_bad_lines_are_answered_and_counted_and_change_nothing(runtime_dir: Path) -> None:
    async with listening(runtime_dir) as place, talking(place) as talk:
        uid = (await talk.ask(event("run_start")))["run"]
        await talk.tell(b"\n", event("request_start", request=1))
        line, bad = 3, 0
        for what, words in REFUSALS:
            line += 1
            answer = await talk.ask(what)
            assert answer["line"] == line
            if words is None:
                await talk.ask(event("run_stop", "s"))
                line += 1
                continue
            assert words in answer["error"]
            assert answer["error"].endswith(".")
            bad += 1
        await talk.tell(event("token", request=1), event("request_end", request=1))
        assert "No request 1 is open" in (await talk.ask(event("token", request=1)))["error"]
        assert await talk.ask({"event": "status"}) == {
            "ok": True, "connections": 0, "events": 6, "errors": bad + 1, "line": line + 4
        }  # fmt: skip
        assert (await talk.ask(event("run_stop")))["run"] == uid
        assert "No run" in (await talk.ask(event("run_stop")))["error"]
    assert place.failures == {REFUSED: bad + 2}
    assert rows(place.store, "SELECT status, output_tokens FROM request") == [("ok", 1)]
    assert rows(place.store, "SELECT status FROM run") == [("ok",), ("ok",)]
    ((failures,),) = rows(place.store, "SELECT failures FROM session")
    assert json.loads(failures)[REFUSED] == bad + 2


# Programs that leave, flood or are many.

KILLED = """
import os, signal, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(b'{"event":"run_start","run":"r"}\\n{"event":"request_start","run":"r","request":1}\\n')
s.sendall(b'{"event":"token","run":"r","request":1}\\n' * 100 + b'{"event":"token","run":"r","requ')
os.kill(os.getpid(), signal.SIGKILL)
"""


async def test_a_program_that_is_killed_within_a_line_leaves_a_failed_run_with_its_tokens(runtime_dir: Path) -> None:
    async with listening(runtime_dir) as place:
        killed = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED, str(place.path))
        await killed.wait()
        await until(stopped(place))
        async with talking(place) as talk:  # the collector goes on
            assert "ok" in await talk.ask({"event": "status"})
    gone = "the client hung up"
    assert rows(place.store, "SELECT pid, status, error FROM run") == [(killed.pid, "failed", gone)]
    assert rows(place.store, "SELECT status, error, output_tokens FROM request") == [("failed", gone, 100)]
    assert place.failures == {REFUSED: 1}


async def test_a_program_that_reads_no_answers_is_heard_to_its_end(runtime_dir: Path) -> None:
    async with listening(runtime_dir) as place:
        with socket.socket(socket.AF_UNIX) as deaf:
            deaf.connect(str(place.path))
            lines = [event("run_start"), event("request_start", request=1), *[event("token", request=1)] * 500]
            lines += [event("request_end", request=1), event("run_stop")]
            deaf.sendall("".join(json.dumps(line) + "\n" for line in lines).encode())
        await until(stopped(place))
    assert rows(place.store, "SELECT r.status, q.output_tokens FROM run r, request q") == [("ok", 500)]


async def test_programs_record_side_by_side_under_the_same_names_while_the_devices_are_read(runtime_dir: Path) -> None:
    async def flood(place: Place, model: str) -> None:
        async with talking(place) as talk:
            await talk.ask(event("run_start", model=model))
            await talk.tell(event("request_start", request=1))
            for _ in range(20):
                await talk.tell(*[event("token", request=1)] * 500)
            await talk.tell(event("request_end", request=1))
            await talk.ask(event("run_stop"))

    async with listening(runtime_dir) as place, asyncio.TaskGroup() as group:
        for model in "abcd":
            group.create_task(flood(place, model))
    assert rows(place.store, "SELECT r.model, r.status, q.output_tokens FROM run r JOIN request q ON q.run = r.id "
                             "ORDER BY r.model") == [(model, "ok", 10_000) for model in "abcd"]  # fmt: skip
    assert rows(place.store, "SELECT count(*) FROM token") == [(40_000,)]
    assert rows(place.store, "SELECT state, dropped_rows, polls > 0 FROM session") == [("clean", 0, 1)]
    assert rows(place.store, "SELECT count(*) FROM run_device") == [(4,)]
    (log,) = runtime_dir.glob("*.events")
    told = Counter(line.split()[1] for line in log.read_text().splitlines())
    assert told == {"start": 4, "first_token": 4, "end": 4, "clear": 4}
    assert {line.split()[2].split(":")[0] for line in log.read_text().splitlines()} == {str(os.getpid())}


async def test_nothing_more_is_read_while_the_store_takes_nothing_and_nothing_is_lost(
    runtime_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "AHEAD", 1000)
    n = 50_000  # far more than the kernel and the listener hold
    async with listening(runtime_dir) as place, talking(place) as talk:
        await talk.ask(event("run_start"))
        await talk.ask({"event": "status"})
        with closing(sqlite3.connect(place.store, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            await talk.tell(event("request_start", request=1))
            sending = asyncio.create_task(talk.tell(*[event("token", request=1)] * n))
            counts: list[int] = []
            while len(counts) < 3 or counts[-1] < 1000 or counts[-1] != counts[-3]:
                await asyncio.sleep(0.2)
                counts.append((await asyncio.to_thread(ask, str(place.path)))["events"])
            assert 1000 <= counts[-1] < 2000
            assert not sending.done()
            other.execute("ROLLBACK")
        await sending
        await talk.tell(event("request_end", request=1))
        await talk.ask(event("run_stop"))
    assert rows(place.store, "SELECT r.status, q.status, q.output_tokens FROM run r, request q") == [("ok", "ok", n)]
    assert rows(place.store, "SELECT count(*) FROM token") == [(n,)]


async def test_a_recorder_keeps_no_stamps_that_the_store_has_and_stores_the_others_in_their_place(
    tmp_path: Path,
) -> None:
    told = []
    async with Recorder(tmp_path / "t.db", collect=False) as recorder, recorder.run() as run, run.request() as request:
        for together in (1, 1, 3, 3, 3, 1, 3, 1, 1):
            for _ in range(100):
                told += [time.monotonic_ns()] * together
                request.chunk_at(told[-1], together)
            await recorder.flush()
            assert len(request._stamps) + sum(len(stamps) for _, _, stamps in request._closed) <= 3 * 64
        times = [recorder.store.clock.at(mono_ns) for mono_ns in told]
    shown = rows(tmp_path / "t.db", 'SELECT "index", t_ns FROM token ORDER BY "index"')
    assert [index for index, _ in shown] == list(range(len(told)))
    assert all(0 <= t - t_ns < 1000 for (_, t_ns), t in zip(shown, times, strict=True))
    assert rows(tmp_path / "t.db", "SELECT output_tokens, first_token_ns, last_token_ns FROM request") == [
        (len(told), times[0], times[-1])
    ]


async def test_stopping_takes_what_has_arrived_and_fails_what_is_open(
    runtime_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket(socket.AF_UNIX) as program:
        async with listening(runtime_dir) as place:
            program.connect(str(place.path))
            program.sendall(json.dumps(event("run_start")).encode() + b"\n")
            await until(lambda: rows(place.store, "SELECT count(*) FROM run") == [(1,)])
            # Without a moment for the listener in between: this lies in the kernel when it is told to stop.
            program.sendall(json.dumps(event("request_start", request=1)).encode() + b"\n")
            program.sendall((json.dumps(event("token", request=1)) + "\n").encode() * 1000)
    stop = "the collector stopped"
    assert rows(place.store, "SELECT r.status, r.error, q.status, q.error, q.output_tokens FROM run r, request q") == [
        ("failed", stop, "failed", stop, 1000)
    ]
    assert rows(place.store, "SELECT state FROM session") == [("clean",)]
    assert "is lost" not in caplog.text


async def test_one_program_too_many_is_told_so(runtime_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "PROGRAMS", 1)
    async with listening(runtime_dir) as place, talking(place) as first:
        await first.ask({"event": "status"})
        async with talking(place) as second:
            assert "1 programs are connected" in (await second.answer())["error"]
        assert "ok" in await first.ask({"event": "status"})


# The socket's file.


def test_the_socket_is_its_owners_and_goes_with_the_listener(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with bound(path):
        assert path.stat().st_mode & 0o777 == 0o600
    assert not path.exists()


def test_the_socket_of_a_dead_collector_is_replaced_and_that_of_a_live_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with bound(path):
        with pytest.raises(CollectorRunning, match=rf"already listens at {path}"), bound(path):
            pass
        assert path.is_socket()


@pytest.mark.parametrize(
    ("name", "words"), [("file", "is no socket"), ("no/s", "No such file"), ("s" * 200, "too long")]
)
def test_where_nobody_can_listen_one_sentence_says_why(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "file").write_text("precious")
    with pytest.raises(UsageError, match=words), bound(tmp_path / name):
        pass
    assert (tmp_path / "file").read_text() == "precious"


# As users run it.


def telemetry(*line: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "telemetry.cli", *map(str, line)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)


@contextmanager
def collecting(*options: object) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "telemetry.cli", "collect", "--source", SIMULATED, *map(str, options)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as collector:
        assert collector.stderr is not None
        while "Collecting" not in collector.stderr.readline():
            assert collector.poll() is None
        try:
            yield collector
        finally:
            collector.terminate()


def store() -> Path:
    return Path(os.environ["TELEMETRY_STORE"])


def test_a_collector_that_is_told_to_stop_writes_what_it_was_told(runtime_dir: Path) -> None:
    path = runtime_dir / "events.sock"
    with collecting("--listen") as collector, socket.socket(socket.AF_UNIX) as program:
        program.connect(str(path))
        lines = [event("run_start", model="m"), event("request_start", request=1), *[event("token", request=1)] * 300]
        program.sendall("".join(json.dumps(line) + "\n" for line in lines).encode() + b"bad\n")
        with program.makefile() as answers:
            assert json.loads(answers.readline())["ok"]
            assert "no JSON" in json.loads(answers.readline())["error"]
        words = telemetry("status").stdout
        assert f"taking events at {path}: 1 program, 302 events, 1 error\n" in words
        program.sendall((json.dumps(event("token", request=1)) + "\n").encode() * 200)
        collector.send_signal(signal.SIGTERM)
        assert collector.wait(timeout=30) == 0
    assert rows(store(), "SELECT r.model, r.status, r.error, q.status, q.output_tokens FROM run r, request q") == [
        ("m", "failed", "the collector stopped", "failed", 500)
    ]
    assert rows(store(), "SELECT count(*) FROM token") == [(500,)]
    ((state, failures),) = rows(store(), "SELECT state, failures FROM session")
    assert (state, json.loads(failures)[REFUSED]) == ("clean", 1)
    assert not path.exists()


def test_a_detached_collector_listens_at_the_path_that_it_was_given(tmp_path: Path) -> None:
    telemetry("collect", "--source", SIMULATED, "--detach", "--listen", tmp_path / "here")
    try:
        assert ask(str(tmp_path / "here"))["events"] == 0
    finally:
        telemetry("stop")
    assert not (tmp_path / "here").exists()


TELLING = """
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(b'{"event":"run_start","run":"r","model":"told"}\\n{"event":"run_stop","run":"r"}\\n')
lines = s.makefile()
print(lines.readline(), lines.readline())
"""


def test_a_command_that_is_collected_around_can_tell_its_own_runs(runtime_dir: Path) -> None:
    done = telemetry(
        "collect", "--source", SIMULATED, "--listen", "--", sys.executable, "-c", TELLING, runtime_dir / "events.sock"
    )
    assert done.stdout.count('"ok":true') == 2
    assert rows(store(), "SELECT runner, model, status FROM run ORDER BY id") == [
        ("command", None, "ok"),
        (None, "told", "ok"),
    ]


def has_netcat() -> bool:
    netcat = shutil.which("nc")
    if netcat is None:
        return False
    words = subprocess.run([netcat, "-h"], capture_output=True, text=True, timeout=10, check=False)
    return "OpenBSD" in words.stdout + words.stderr


@pytest.mark.skipif(not has_netcat(), reason="OpenBSD's nc is not installed: examples/clients/events.sh was not tried")
def test_the_client_in_shell_records_a_line_as_a_token(runtime_dir: Path) -> None:
    with collecting("--listen"):
        line = ["sh", str(CLIENTS / "events.sh"), str(runtime_dir / "events.sock"), "m"]
        told = subprocess.run(line, input="one\ntwo\nthree\n", capture_output=True, text=True, timeout=60, check=True)
    assert told.stdout.count('"ok":true') == 2
    assert rows(store(), "SELECT r.model, r.status, q.status, q.output_tokens FROM run r, request q") == [
        ("m", "ok", "ok", 3)
    ]


@pytest.mark.skipif(
    shutil.which("node") is None, reason="Node is not installed: examples/clients/events.mjs was not tried"
)
def test_the_client_in_node_records_its_tokens_with_their_times(runtime_dir: Path) -> None:
    with collecting("--listen"):
        line = ["node", str(CLIENTS / "events.mjs"), str(runtime_dir / "events.sock"), "m"]
        told = subprocess.run(line, capture_output=True, text=True, timeout=60, check=True)
    assert told.stdout.count('"ok":true') == 2
    assert rows(store(), "SELECT r.model, r.status, q.status, q.output_tokens FROM run r, request q") == [
        ("m", "ok", "ok", 8)
    ]
    gaps_ns = rows(store(), "SELECT max(t_ns) - min(t_ns) FROM token")
    assert gaps_ns[0][0] > 7 * 15_000_000  # its pauses, which the lines' arrival alone would not keep


GOING = """
import socket, sys
with socket.socket(socket.AF_UNIX) as listening:
    listening.bind(sys.argv[1])
    listening.listen()
    print("ready", flush=True)
    program, _ = listening.accept()
    with program, program.makefile("rb") as lines:
        lines.readline()
        program.sendall(b'{"ok":true,"run":"u","line":1}\\n')
        lines.read()
"""


@pytest.mark.parametrize(
    ("words", "there"),
    [(["sh", "events.sh"], has_netcat()), (["node", "events.mjs"], shutil.which("node") is not None)],
)
def test_a_client_whose_run_was_not_stopped_does_not_end_well(words: list[str], there: bool, tmp_path: Path) -> None:
    if not there:
        pytest.skip(f"what {words[1]} needs is not installed")
    line = [sys.executable, "-c", GOING, str(tmp_path / "s")]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as going:
        assert going.stdout is not None
        assert going.stdout.readline() == "ready\n"
        client = [words[0], str(CLIENTS / words[1]), str(tmp_path / "s"), "m"]
        told = subprocess.run(client, input="one\n", capture_output=True, text=True, timeout=60, check=False)
    assert (told.returncode, told.stdout.count('"ok":true')) == (1, 1), told.stderr


# The page.

PAGE = ROOT / "docs" / "events.md"


def documented() -> dict[str, list[str]]:
    """Return the fields that the page's table of each event names."""
    parts = re.split(r"^#+ `?(.*?)`?$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    headed = [(head, text) for head, text in zip(parts[1::2], parts[2::2], strict=True) if head in messages.EVENTS]
    cells = {head: " ".join(re.findall(r"^\|([^|]*)\|", text, flags=re.MULTILINE)) for head, text in headed}
    return {head: re.findall(r"`(\w+)`", text) for head, text in cells.items()}


def test_the_page_names_every_event_with_its_fields_and_no_others() -> None:
    page = documented()
    times = ["t_mono_ns", "t_wall_ns"]
    assert {k: sorted(v) for k, v in page.items()} == {
        kind: sorted(name for name in fields if name not in times) for kind, fields in messages.EVENTS.items()
    }


def test_the_lines_on_the_page_are_taken() -> None:
    lines = re.findall(r"^(\{\"event\".*)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    kinds = [messages.parse(line.encode())["event"] for line in lines]
    assert set(kinds) == set(messages.EVENTS)
