"""A proxy in the test's own event loop, before a server that says bytes; and a client that reads bytes."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from telemetry.proxy import Upstream, listen, serve
from telemetry.recorder import Recorder

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def proxied(url: str, store: Path, *, timeout_s: float = 30.0, name: str = "proxy") -> AsyncIterator[int]:
    """Yield the port of a proxy before the server at this URL; on leaving it stops as on a signal."""
    ready, stop = asyncio.Event(), asyncio.Event()
    async with Recorder(store, collect=False) as recorder:
        with listen("127.0.0.1", 0) as listening:
            port = listening.getsockname()[1]
            serving = asyncio.create_task(
                serve(recorder, Upstream.of(url), listening, name=name, timeout_s=timeout_s, stop=stop, ready=ready.set)
            )
            await ready.wait()
            try:
                yield port
            finally:
                stop.set()
                await serving


@asynccontextmanager
async def saying(handler: Handler) -> AsyncIterator[str]:
    """Yield the URL of a server that handles each connection so, and closes it then."""
    tasks = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, backlog=1024)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def asked(port: int | str, request: bytes) -> bytes:
    """Send bytes; return all that comes back until the connection is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.read(), 30)
    finally:
        writer.close()


def post(body: bytes, *headers: str, path: str = "/v1/completions") -> bytes:
    """Return a request that asks for an answer and for the connection's end."""
    lines = [f"POST {path} HTTP/1.1", "Host: x", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, *headers, "Connection: close", "", ""]).encode() + body


def rows(store: Path, query: str) -> list[tuple[Any, ...]]:
    """Return what a query on the store gives."""
    connection = sqlite3.connect(store)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()
