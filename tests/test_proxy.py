"""What the proxy records of the requests that pass through it, and that it loses and leaks nothing."""

import asyncio
import json
import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from proxied import asked, post, proxied, rows, saying
from scripted_server import (
    CUT,
    DONE,
    HOLD,
    STREAM,
    Asked,
    Reply,
    ScriptedServer,
    Step,
    counting,
    event,
    piece,
    telling,
    usage,
)

from telemetry.errors import StoreBusy, UserError
from telemetry.proxy import record, runs, server
from telemetry.storage.store import Store

KEY = "sk-secret-4711-of-the-user"
REQUESTS = """
    select status, finish_reason, output_tokens, count_source, input_tokens, first_token_ns is null, error
    from request order by run, number
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "TICK_S", 0.02)


def body(prompt: str = "Say it", **fields: Any) -> bytes:
    return json.dumps({"model": "m", "prompt": prompt, "stream": True, "max_tokens": 8} | fields).encode()


async def through(steps: Sequence[Step], store: Path, *, status: int = 200, kind: str = "text/event-stream") -> bytes:
    """Ask once for an answer of these steps; return it as it came."""
    reply = Reply(steps=steps, status=status, headers={"Content-Type": kind})
    with ScriptedServer(lambda asked: reply) as upstream:
        async with proxied(upstream.url, store, timeout_s=0.5) as port:
            return await asked(port, post(body()))


# Tokens.


async def test_a_stream_becomes_a_request_with_a_time_for_each_token(tmp_path: Path) -> None:
    reply = Reply(steps=[event(piece("a", usage=usage(n))) for n in (1, 2, 4)] + [event(piece(finish="stop")), DONE])
    counted = Reply(steps=reply.steps, headers={"Content-Type": "text/event-stream; charset=utf-8"})
    with ScriptedServer(lambda asked: counted) as upstream:
        async with proxied(upstream.url, tmp_path / "t.db") as port:
            answer = await asked(port, post(body(), path="/v1/chat/completions"))
    assert rows(tmp_path / "t.db", REQUESTS) == [("ok", "stop", 4, "server", 3, 0, None)]
    ((uid, *about),) = rows(tmp_path / "t.db", "select uid, runner, model, name, status, start_ns, stop_ns from run")
    assert about[:4] == ["proxy", "m", "proxy", "ok"]
    assert f"x-telemetry-request: {uid}/0\r\n".encode() in answer
    kinds = rows(tmp_path / "t.db", 'select kind, count(*) from token group by kind order by min("index")')
    assert kinds == [("token", 2), ("coalesced", 2)]
    (times,) = rows(
        tmp_path / "t.db", "select submitted_ns, started_ns, first_token_ns, last_token_ns, ended_ns from request"
    )
    assert list(times) == sorted(times)
    assert (about[4], about[5]) == (times[0], times[-1])  # a run lasts from its first request to its last


async def test_without_usage_pieces_are_counted_and_said_to_be(tmp_path: Path) -> None:
    await through([event(piece("a")), event(piece("b", finish="stop")), DONE], tmp_path / "t.db")
    assert rows(tmp_path / "t.db", REQUESTS) == [("ok", "stop", 2, "chunks", None, 0, None)]


async def test_an_answer_in_one_piece_has_its_counts_and_no_time_of_a_token(tmp_path: Path) -> None:
    answer = json.dumps(piece("a b c", finish="length", usage=usage(7))).encode()
    await through([answer[:9], answer[9:]], tmp_path / "t.db", kind="application/json")
    assert rows(tmp_path / "t.db", REQUESTS) == [("ok", "length", 7, "server", 3, 1, None)]
    assert rows(tmp_path / "t.db", "select * from token_chunk") == []


async def test_an_answer_that_nobody_counted_is_not_one_of_no_tokens(tmp_path: Path) -> None:
    await through([json.dumps(piece("a")).encode()], tmp_path / "t.db", kind="application/json")
    assert rows(tmp_path / "t.db", "select status, count_source from request") == [("ok", "chunks")]


async def test_other_requests_pass_and_are_not_recorded(tmp_path: Path) -> None:
    with ScriptedServer(counting) as upstream:
        async with proxied(upstream.url, tmp_path / "t.db") as port:
            got = await asked(port, b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            other = await asked(port, post(body(), path="/v1/embeddings"))
    assert b"1.2.3" in got
    assert b"x-telemetry" not in got + other
    assert rows(tmp_path / "t.db", "select * from run") == []


# Runs.


async def test_a_run_has_the_requests_of_one_label_and_one_model(tmp_path: Path) -> None:
    with ScriptedServer(counting) as upstream:
        async with proxied(upstream.url, tmp_path / "t.db", name="day") as port:
            for model, label in (("m", ()), ("n", ()), ("m", ("X-Telemetry-Run: größe 1",)), ("m", ())):
                await asked(port, post(body(model=model), *label))
        assert all("x-telemetry-run" not in one.headers for one in upstream.asked)
    counts = "select r.name, r.model, count(*) from run r join request q on q.run = r.id group by r.id order by r.id"
    assert rows(tmp_path / "t.db", counts) == [("day", "m", 2), ("day", "n", 1), ("größe 1", "m", 1)]


async def test_a_run_without_requests_for_a_while_is_closed_and_the_next_opens_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "IDLE_NS", 0)
    with ScriptedServer(counting) as upstream:
        async with proxied(upstream.url, tmp_path / "t.db") as port:
            await asked(port, post(body()))
            while rows(tmp_path / "t.db", "select status from run") != [("ok",)]:
                await asyncio.sleep(0.02)
            await asked(port, post(body()))
    assert rows(tmp_path / "t.db", "select status, name from run") == [("ok", "proxy")] * 2


async def test_a_store_that_is_busy_delays_no_answer_and_loses_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    free = asyncio.Event()
    start_run = Store.start_run

    async def busy(self: Store, run: Any) -> None:
        if not free.is_set():
            raise StoreBusy("The store is locked.")
        await start_run(self, run)

    monkeypatch.setattr(Store, "start_run", busy)
    with ScriptedServer(counting) as upstream:
        async with proxied(upstream.url, tmp_path / "t.db") as port:
            assert b"DONE" in await asked(port, post(body()))
            assert b"DONE" in await asked(port, post(body()))
            free.set()
    assert rows(tmp_path / "t.db", "select number, status, output_tokens from request") == [(0, "ok", 8), (1, "ok", 8)]
    assert "The store is locked. The run waits" in caplog.text


async def test_a_store_that_takes_no_run_to_the_end_is_told_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_run = Store.start_run

    async def busy(self: Store, run: Any) -> None:
        if run.model == "n":
            raise StoreBusy("The store is locked.")
        await start_run(self, run)

    monkeypatch.setattr(Store, "start_run", busy)
    monkeypatch.setattr(runs, "PATIENCE_S", 0.1)

    async def ask() -> None:
        with ScriptedServer(counting) as upstream:
            async with proxied(upstream.url, tmp_path / "t.db") as port:
                for model in "mn":
                    await asked(port, post(body(model=model)))

    with pytest.raises(StoreBusy, match="runs that are lost: 1"):
        await ask()
    states = "select r.model, r.status, q.status from run r join request q on q.run = r.id"
    assert rows(tmp_path / "t.db", states) == [("m", "ok", "ok")]


# Failures are data, and reach the client as they would without the proxy.

BEGUN = [event(piece("a", usage=usage(1))), event(piece("b", usage=usage(2)))]
BROKEN: dict[str, tuple[list[Step], str]] = {
    "cut": ([CUT], "broke within the answer"),
    "closed": ([], "closed the stream before the answer was finished"),
    "stalled": ([HOLD], "No byte went either way for 0.5 s"),
    "no JSON": ([event(b'{"choices": [{"te'), DONE], "no JSON"),
    "error": ([event({"error": {"message": "CUDA out of memory"}}), DONE], "CUDA out of memory"),
    "broken off": ([event(piece("c", finish="abort"))], "broke the answer off"),
}


@pytest.mark.parametrize("fault", BROKEN)
async def test_an_answer_that_breaks_is_a_failure_that_keeps_its_tokens(fault: str, tmp_path: Path) -> None:
    steps, words = BROKEN[fault]
    answer = await through([*BEGUN, *steps], tmp_path / "t.db")
    assert answer.count(b"data: ") == 2 + sum(isinstance(step, bytes) for step in steps)
    ((status, _, tokens, *_, error),) = rows(tmp_path / "t.db", REQUESTS)
    assert (status, tokens) == ("failed", 2)
    assert words in error


@pytest.mark.parametrize("rest", [[CUT], [HOLD], []])
async def test_an_answer_is_whole_when_the_model_has_finished(rest: list[Step], tmp_path: Path) -> None:
    await through([event(piece("a", finish="stop", usage=usage(1))), *rest], tmp_path / "t.db")
    assert rows(tmp_path / "t.db", REQUESTS) == [("ok", "stop", 1, "server", 3, 0, None)]


async def test_what_comes_after_the_end_is_not_of_the_answer(tmp_path: Path) -> None:
    done = [event(piece("a", finish="stop", usage=usage(1))), DONE]
    answer = await through([*done, event(piece("b", usage=usage(2))), event(b"{")], tmp_path / "t.db")
    assert answer.count(b"data: ") == 4
    assert rows(tmp_path / "t.db", REQUESTS) == [("ok", "stop", 1, "server", 3, 0, None)]
    assert rows(tmp_path / "t.db", "select count(*) from token") == [(1,)]


@pytest.mark.parametrize("status", [429, 500])
async def test_a_refusal_is_passed_on_and_recorded_with_the_servers_words(status: int, tmp_path: Path) -> None:
    words = b'{"error": {"message": "not now"}}' if status == 429 else b"<b>"
    answer = await through([words], tmp_path / "t.db", status=status)
    assert answer.startswith(b"HTTP/1.1 %d Scripted" % status)
    assert words in answer
    ((told, *_, error),) = rows(tmp_path / "t.db", REQUESTS)
    assert told == "failed"
    assert f"answered {status}: {'not now' if status == 429 else '<b>'}." in error


@pytest.mark.parametrize("steps", [[CUT], [HOLD]])
async def test_no_answer_at_all_is_said_in_openais_shape(steps: list[Step], tmp_path: Path) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}")
        if steps == [HOLD]:
            await reader.read()

    async with saying(silent) as url, proxied(url, tmp_path / "t.db", timeout_s=0.5) as port:
        answer = await asked(port, post(body()))
    assert answer.startswith(b"HTTP/1.1 504" if steps == [HOLD] else b"HTTP/1.1 502")
    told = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["message"]
    assert rows(tmp_path / "t.db", "select status, error from request") == [("failed", told)]


async def test_a_server_that_is_down_is_a_502_that_names_its_record(tmp_path: Path) -> None:
    with ScriptedServer(counting) as upstream:
        url = upstream.url
    async with proxied(url, tmp_path / "t.db") as port, httpx.AsyncClient(trust_env=False) as client:
        answer = await client.post(f"http://127.0.0.1:{port}/v1/completions", content=body())
        big = await client.post(f"http://127.0.0.1:{port}/v1/completions", content=body("x" * 3_000_000))
    assert (answer.status_code, big.status_code) == (502, 502)
    assert "cannot be reached" in answer.json()["error"]["message"]
    ((uid, model),) = rows(tmp_path / "t.db", "select uid, model from run")
    assert (answer.headers["x-telemetry-request"], model) == (f"{uid}/0", "m")
    assert [status for status, *_ in rows(tmp_path / "t.db", REQUESTS)] == ["failed", "failed"]


async def test_a_client_that_hangs_up_ends_the_servers_work_and_keeps_the_tokens(tmp_path: Path) -> None:
    gone = asyncio.Event()

    async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + b"".join(BEGUN))
        assert await reader.read() == b""
        gone.set()

    async with saying(stream) as url, proxied(url, tmp_path / "t.db") as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(post(body()))
        await reader.readuntil(BEGUN[1])
        writer.close()
        await asyncio.wait_for(gone.wait(), 30)
    assert rows(tmp_path / "t.db", REQUESTS) == [("ok", "cancelled", 2, "server", 3, 0, None)]


async def test_a_request_that_was_never_asked_to_its_end_is_none(tmp_path: Path) -> None:
    begun, gone = asyncio.Event(), asyncio.Event()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{")
        begun.set()
        await reader.read()
        gone.set()

    async with saying(listen) as url, proxied(url, tmp_path / "t.db") as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(post(body())[:-5])
        await asyncio.wait_for(begun.wait(), 30)
        writer.close()
        await asyncio.wait_for(gone.wait(), 30)
    assert rows(tmp_path / "t.db", "select * from run") == []


@pytest.mark.parametrize("count", [2**40, 2**63])
async def test_a_count_that_no_model_has_is_none_and_harms_no_other_record(count: int, tmp_path: Path) -> None:
    wrong = Reply(steps=[event(piece("a", usage=usage(count) | {"prompt_tokens": count})), DONE], headers=STREAM)
    with ScriptedServer(lambda asked: wrong if asked.prompt == "Wrong" else counting(asked)) as upstream:
        async with proxied(upstream.url, tmp_path / "t.db") as port:
            for prompt in ("Wrong", "Right"):
                assert b"DONE" in await asked(port, post(body(prompt)))
    assert rows(tmp_path / "t.db", "select status, input_tokens is null, output_tokens from request") == [
        ("ok", 1, 1),
        ("ok", 0, 8),
    ]


# Stopping, and many at once.


async def test_a_stop_lets_answers_end_and_then_cuts_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "GRACE_S", 1.0)
    go = threading.Event()

    def answer(asked: Asked) -> Reply:
        rest: list[Step] = [go, event(piece("b", finish="stop")), DONE] if asked.prompt == "End" else [HOLD]
        return Reply(steps=[*BEGUN, *rest], headers=STREAM)

    with ScriptedServer(answer) as upstream:
        async with proxied(upstream.url, tmp_path / "t.db") as port:
            clients = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]  # the last stays idle
            for prompt, (reader, writer) in zip(("End", "Hold"), clients, strict=False):
                writer.write(post(body(prompt)))
                await reader.readuntil(BEGUN[1])
            go.set()
        ends = [await reader.read() for reader, _ in clients]
        for _, writer in clients:
            writer.close()
    assert [b"DONE" in end for end in ends] == [True, False, False]
    (ended, cut) = rows(tmp_path / "t.db", REQUESTS)
    assert ended[:2] == ("ok", "stop")
    assert (cut[0], cut[2]) == ("failed", 2)
    assert "stopped before the answer was finished" in cut[-1]


STREAMS, TOKENS = 1000, 12


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_a_thousand_streams_at_once_lose_nothing_and_leave_nothing(tmp_path: Path) -> None:
    everyone = asyncio.Barrier(STREAMS)
    said = [event(piece("a", usage=usage(n + 1))) for n in range(TOKENS)] + [event(piece(finish="stop")), DONE]

    async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}")
        await everyone.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        for one in said:
            writer.write(one)
            await asyncio.sleep(0.01)

    async with saying(stream) as url:
        files, tasks = open_files(), len(asyncio.all_tasks())
        async with proxied(url, tmp_path / "t.db") as port:
            answers = await asyncio.gather(*(asked(port, post(body())) for _ in range(STREAMS)))
        assert len(asyncio.all_tasks()) == tasks
        assert open_files() == files
    assert {answer.partition(b"\r\n\r\n")[2] for answer in answers} == {b"".join(said)}
    assert len({answer.partition(b"x-telemetry-request: ")[2].split()[0] for answer in answers}) == STREAMS
    assert rows(tmp_path / "t.db", "select status, output_tokens, count(*) from request group by 1, 2") == [
        ("ok", TOKENS, STREAMS)
    ]
    assert rows(tmp_path / "t.db", "select count(*) from token") == [(STREAMS * TOKENS,)]


async def test_one_client_too_many_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "PLACES", 1)
    with ScriptedServer(counting) as upstream:
        async with proxied(upstream.url, tmp_path / "t.db") as port:
            _, first = await asyncio.open_connection("127.0.0.1", port)
            assert (await asked(port, post(body()))).startswith(b"HTTP/1.1 503 ")
            first.close()


async def test_a_body_too_long_to_be_read_passes_and_is_recorded_without_its_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "LONGEST_COPY", 20)
    with ScriptedServer(counting) as upstream:
        async with proxied(upstream.url, tmp_path / "t.db") as port:
            await asked(port, post(body()))
    assert rows(tmp_path / "t.db", "select model from run") == [(None,)]


# The key, and the command.


async def test_a_key_passes_and_is_kept_nowhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    def answer(asked: Asked) -> Reply:
        echo = {"error": {"message": f"no such key {asked.headers['authorization']}"}}
        if asked.prompt == "Refuse":
            return Reply(status=401, steps=[json.dumps(echo).encode()])
        return Reply(steps=[event(echo)], headers=STREAM)

    with ScriptedServer(answer) as upstream:
        async with proxied(upstream.url, tmp_path / "t.db") as port:
            for prompt in ("Refuse", "Break"):
                assert KEY.encode() in await asked(port, post(body(prompt), f"Authorization: Bearer {KEY}"))
    assert [error for *_, error in rows(tmp_path / "t.db", REQUESTS)] == [
        "The server answered 401: no such key Bearer ***.",
        "The server gave up the answer: no such key Bearer ***. Look into the server's log.",
    ]
    assert KEY not in caplog.text
    for file in tmp_path.iterdir():
        assert KEY.encode() not in file.read_bytes(), file


async def test_what_is_said_against_the_protocol_is_kept_nowhere(tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nOnce upon a time\r\n")

    chunked = post(b"Tell me of time\r\n", "Transfer-Encoding: chunked").replace(b"Content-Length: 17\r\n", b"")
    async with saying(answer) as url, proxied(url, tmp_path / "t.db") as port:
        assert (await asked(port, chunked)).startswith(b"HTTP/1.1 400 ")
        await asked(port, post(b"{}"))
    errors = rows(tmp_path / "t.db", "select error from request")
    assert ["illegal chunk header." in error for (error,) in errors] == [True, True]
    for file in tmp_path.iterdir():
        assert b"of time" not in file.read_bytes(), file
        assert b"a time" not in file.read_bytes(), file


def command(*words: object) -> "subprocess.Popen[str]":
    line = [sys.executable, "-m", "telemetry.cli", "proxy", *map(str, words)]
    return subprocess.Popen(line, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_command_records_until_it_is_told_to_stop(host: str, tmp_path: Path) -> None:
    try:
        server.listen(host, 0).close()
    except UserError:
        pytest.skip(f"{host} is no address of this machine")
    store = tmp_path / "t.db"
    streamed = telling(*BEGUN, event(piece(finish="stop")), DONE)
    with (
        ScriptedServer(streamed) as upstream,
        command(
            "--upstream",
            upstream.url,
            "--host",
            host,
            "--port",
            0,
            "--store",
            store,
            "--source",
            "simulated:h200",
            "--run",
            "r",
        ) as proxy,
    ):
        assert proxy.stderr is not None
        words = ""
        while "base URL" not in words:
            words += proxy.stderr.readline()
        url = words.partition("base URL: ")[2].partition(";")[0]
        answer = httpx.post(f"{url}/completions", content=body(), trust_env=False)
        proxy.send_signal(signal.SIGTERM)
        assert proxy.wait(60) == 0
    assert answer.status_code == 200
    assert rows(store, "select name, runner, status from run") == [("r", "proxy", "ok")]
    assert rows(store, "select count(*) from result where quantity = 'energy_j' and value > 0")[0][0] > 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--upstream", "nowhere"), 2, "no URL of a server"),
        (("--upstream", "http://127.0.0.1:1", "--host", "192.0.2.1"), 1, "cannot listen"),
    ],
)
def test_the_command_says_what_cannot_be_before_it_makes_a_store(
    words: tuple[str, ...], code: int, said: str, tmp_path: Path
) -> None:
    with command(*words, "--store", tmp_path / "t.db", "--source", "simulated:h200") as proxy:
        _, told = proxy.communicate()
    assert (proxy.returncode, said in told, "Traceback" in told) == (code, True, False), told
    assert not (tmp_path / "t.db").exists()
