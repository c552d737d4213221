"""Measures what `telemetry proxy` adds to each piece of a stream, beside a bare byte relay, and prints a table.

Run it as `python benchmarks/proxy.py`; it takes about two minutes and needs no GPU. Server, relay, proxy and client
are processes of their own. The server writes into each piece when it sent it; the client's clock is the same one.
"""

import asyncio
import json
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from telemetry.proxy import Upstream, listen, serve
from telemetry.recorder import Recorder

ROUNDS, SHORT, STREAMS = 20, 20, ((1, 0.01), (8, 0.02))  # streams at once, and s between the pieces of one
PIECES = 50
PATHS = ("direct", "relay", "proxy")
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Stream as many pieces as the request's max_tokens, as vLLM does with running counts."""
    with suppress(ConnectionError, asyncio.IncompleteReadError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].split()[0])
            asked = json.loads(await reader.readexactly(length))
            writer.write(HEAD)
            for n in range(asked["max_tokens"]):
                usage = {"prompt_tokens": 9, "completion_tokens": n + 1}
                choice = {"index": 0, "text": " watt", "finish_reason": None}
                told = {"t": time.monotonic_ns(), "choices": [choice], "usage": usage}
                event = b"data: " + json.dumps(told).encode() + b"\n\n"
                writer.write(b"%x\r\n%b\r\n" % (len(event), event))
                await asyncio.sleep(asked["gap_s"])
            writer.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
    writer.close()


async def _server(tell: Callable[[int], None]) -> None:
    server = await asyncio.start_server(_answer, "127.0.0.1", 0)
    tell(server.sockets[0].getsockname()[1])
    await server.serve_forever()


async def _relay(tell: Callable[[int], None], port: int) -> None:
    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def both(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pump(reader, there[1]), pump(there[0], writer))

    server = await asyncio.start_server(both, "127.0.0.1", 0)
    tell(server.sockets[0].getsockname()[1])
    await server.serve_forever()


async def _proxy(tell: Callable[[int], None], port: int, folder: str) -> None:
    upstream = Upstream.of(f"http://127.0.0.1:{port}")
    async with Recorder(Path(folder) / "proxy.db", source="simulated:h200") as recorder:
        with listen("127.0.0.1", 0) as listening:
            tell(listening.getsockname()[1])
            await serve(recorder, upstream, listening, name="benchmark", timeout_s=60, stop=asyncio.Event())


def _run(part: Callable[..., Any], pipe: Any, arguments: Sequence[Any]) -> None:
    asyncio.run(part(pipe.send, *arguments))


def _start(part: Callable[..., Any], *arguments: Any) -> tuple[Any, int]:
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    process = spawn.Process(target=_run, args=(part, there, arguments), daemon=True)
    process.start()
    return process, here.recv()


async def _stream(port: int, gap_s: float, pieces: int) -> tuple[float, list[float]]:
    """Return the time to the first piece, on a connection of its own, and how late each piece came, ms."""
    body = json.dumps({"model": "m", "prompt": "x", "stream": True, "max_tokens": pieces, "gap_s": gap_s}).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    sent_ns = time.monotonic_ns()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head + body)
    first_ns, late_ms, buffer = 0, [], b""
    while not buffer.startswith(b"0\r\n"):  # the last chunk
        data = await reader.read(1 << 16)
        now_ns = time.monotonic_ns()
        if not data:
            raise ConnectionError("the stream was cut")
        *events, buffer = (buffer + data).split(b"\n\n\r\n")
        for event in events:
            if b'"t": ' in event:
                first_ns = first_ns or now_ns
                late_ms.append((now_ns - int(event.partition(b'"t": ')[2].split(b",")[0])) / 1e6)
    writer.close()
    return (first_ns - sent_ns) / 1e6, late_ms


async def _short(port: int) -> list[float]:
    """Return the times to the first piece of answers that come one after another, ms."""
    return [(await _stream(port, 0.0, 1))[0] for _ in range(SHORT)]


async def _long(port: int, streams: int, gap_s: float) -> list[float]:
    """Return how late the pieces of streams at once came, ms."""

    async def later(k: int) -> list[float]:
        await asyncio.sleep(gap_s * k / streams)  # or the server would send all pieces at one moment
        return (await _stream(port, gap_s, PIECES))[1]

    return [late for one in await asyncio.gather(*map(later, range(streams))) for late in one]


def main() -> None:
    """Measure and print the table."""
    load = os.getloadavg()[0]
    print(
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {os.cpu_count()} cores, load {load:.2f}, "
        f"Python {platform.python_version()}\n"
    )
    print("| what | direct | relay | proxy | n each | proxy − direct | proxy ÷ relay | bar | kept |")
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TELEMETRY_RUNTIME_DIR"] = folder
        server, port = _start(_server)
        relay, relay_port = _start(_relay, port)
        proxy, proxy_port = _start(_proxy, port, folder)
        ports = dict(zip(PATHS, (port, relay_port, proxy_port), strict=True))
        _report("time to the first piece", _in_turn(ports, _short))
        for streams, gap_s in STREAMS:
            what = f"delay of a piece, {streams} × {1 / gap_s:.0f}/s"
            _report(what, _in_turn(ports, partial(_long, streams=streams, gap_s=gap_s)))
        for process in (proxy, relay, server):
            process.terminate()
            process.join()


def _in_turn(
    ports: dict[str, int], measure: Callable[[int], Coroutine[Any, Any, list[float]]]
) -> dict[str, list[float]]:
    """Measure each path in each round, in another order each time; the first round warms up."""
    found: dict[str, list[float]] = {path: [] for path in PATHS}
    for k in range(ROUNDS + 1):
        for path in PATHS[k % 3 :] + PATHS[: k % 3]:
            measured = asyncio.run(measure(ports[path]))
            found[path] += measured if k else []
    return found


def _report(what: str, late_ms: dict[str, list[float]]) -> None:
    n = len(late_ms["proxy"])
    for name, quantile in (("median", statistics.median), ("p99", _p99)):
        direct, relay, proxy = (quantile(late_ms[path]) for path in PATHS)
        if name == "median":
            bar, kept = "≤ 1 ms more than direct", proxy - direct <= 1
        else:
            bar, kept = "≤ 2 × the relay", proxy <= 2 * relay
        figures = " | ".join(f"{value:.3g} ms" for value in (direct, relay, proxy))
        print(
            f"| {what}, {name} | {figures} | {n} | {proxy - direct:.3g} ms | {proxy / relay:.3g} × | {bar} "
            f"| {'yes' if kept else 'NO'} |",
            flush=True,
        )


def _p99(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[98]


if __name__ == "__main__":
    main()
