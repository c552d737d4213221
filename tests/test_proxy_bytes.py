"""The proxy passes bytes on: the same, at once, either way, and no more than the other side takes."""

import asyncio
import re
import socket
from pathlib import Path

import pytest
from proxied import asked, post, proxied, rows, saying

from telemetry.errors import UsageError
from telemetry.proxy import Upstream, link

RECORD = re.compile(rb"x-telemetry-request: [0-9a-f]{32}/0\r\n")
JSON = b'{"choices": [{"text": "a", "finish_reason": "stop"}], "usage": {"completion_tokens": 1}}'
ANSWERS = {
    "chunked": b"HTTP/1.1 200 OK\r\ncontent-TYPE:  text/event-stream \r\nTransfer-Encoding: chunked\r\n\r\n"
    b'5;name="x"\r\ndata:\r\n0007\r\n [DONE]\r\n2\r\n\n\n\r\n0\r\nX-Trailer: t\r\n\r\n',
    "length": b"HTTP/1.1 200 Fine\r\nContent-Length: %d\r\nX-Odd:\r\n\r\n%s" % (len(JSON), JSON),
    "until the end": b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: [DONE]\n\n",
    "bare lines": b"HTTP/1.1 200 OK\nContent-Length: 2\n\n{}",
    "informed": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "refused": b"HTTP/1.1 429 Slow Down\r\nRetry-After: 3\r\nContent-Length: 4\r\n\r\nwait",
    "failed": b"HTTP/1.1 500 Internal Server Error\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n<b>\r\n0\r\n\r\n",
    "nothing": b"HTTP/1.1 204 No Content\r\n\r\n",
    "cut": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
}
REQUESTS = {
    "get": b"GET /v1/models?a=%20b HTTP/1.1\r\nHost: x\r\nACCEPT: */*\r\nConnection: close\r\n\r\n",
    "head": b"HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "options": b"OPTIONS * HTTP/1.0\r\nHost: x\r\n\r\n",
    "delete": b"DELETE /v1/files/1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "upload": b"PUT /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\nConnection: close\r\n\r\n"
    + bytes(9000000),
    "chunked": b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
    b"Accept-Encoding: identity\r\nConnection: close\r\n\r\n1;e\r\n{\r\n1\r\n}\r\n0\r\nA: b\r\n\r\n",
    "a key": post(b"{}", "Accept-Encoding: identity", "Authorization: Bearer sk-4711"),
}


def lines(head: bytes) -> set[bytes]:
    return set(head.lower().split(b"\r\n"))


@pytest.mark.parametrize("kind", ANSWERS)
async def test_an_answer_comes_through_byte_by_byte_with_one_line_more(kind: str, tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        writer.write(ANSWERS[kind])
        await writer.drain()

    async with saying(answer) as url, proxied(url, tmp_path / "t.db") as port:
        through = await asked(port, post(b"{}"))
        assert await asked(url.rpartition(":")[2], post(b"{}")) == ANSWERS[kind]
    assert len(RECORD.findall(through)) == 1
    assert RECORD.sub(b"", through) == ANSWERS[kind]
    ((uid, number),) = rows(tmp_path / "t.db", "select r.uid, q.number from request q join run r on r.id = q.run")
    assert f"{uid}/{number}".encode() in through


@pytest.mark.parametrize("kind", REQUESTS)
async def test_a_request_comes_through_with_its_body_as_it_is(kind: str, tmp_path: Path) -> None:
    seen: list[bytes] = []
    request = REQUESTS[kind]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        seen.append(head + await reader.readexactly(len(request.partition(b"\r\n\r\n")[2])))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n")
        writer.write(b"" if kind == "head" else b"hello")

    async with saying(answer) as url, proxied(f"{url}/api/", tmp_path / "t.db") as port:
        assert (await asked(port, request)).endswith(b"\r\n\r\n" if kind == "head" else b"hello")
    (passed,) = seen
    head, _, body = request.partition(b"\r\n\r\n")
    first, *_ = head.split(b"\r\n")
    assert passed.partition(b"\r\n\r\n")[2] == body
    assert passed.split(b"\r\n")[0] == (first if b"*" in first else first.replace(b" /", b" /api/", 1))
    host = url.removeprefix("http://").encode()
    assert lines(passed.partition(b"\r\n\r\n")[0].partition(b"\r\n")[2]) == lines(
        head.partition(b"\r\n")[2].replace(b"Host: x", b"Host: " + host)
    )


async def test_a_piece_is_passed_on_before_the_next_one_exists(tmp_path: Path) -> None:
    had = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1")
        await had.wait()
        writer.write(b"2\n\n")

    async with saying(answer) as url, proxied(url, tmp_path / "t.db") as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(post(b"{}"))
        await asyncio.wait_for(reader.readuntil(b"data: 1"), 30)
        had.set()
        assert await reader.read() == b"2\n\n"
        writer.close()


async def test_a_body_is_sent_when_the_server_has_asked_for_it(tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert await reader.readexactly(2) == b"{}"
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    async with saying(answer) as url, proxied(url, tmp_path / "t.db") as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(post(b"", "Expect: 100-continue").replace(b"Length: 0", b"Length: 2"))
        assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30) == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"{}")
        assert (await reader.read()).endswith(b"{}")
        writer.close()


async def test_a_connection_serves_for_several_requests_also_sent_ahead(tmp_path: Path) -> None:
    connections = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while path := (await reader.readuntil(b"\r\n\r\n")).split()[1]:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(path), path))

    async with saying(answer) as url, proxied(url, tmp_path / "t.db") as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"".join(b"GET /answer%d HTTP/1.1\r\nHost: x\r\n\r\n" % k for k in range(3)))
        for k in range(3):
            assert (await asyncio.wait_for(reader.readuntil(b"/answer%d" % k), 30)).startswith(b"HTTP/1.1 200 OK")
        writer.write(b"GET /answer3 HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.wait_for(reader.readuntil(b"/answer3"), 30)
        writer.close()
    assert connections == 1


async def test_what_a_client_does_not_take_stays_with_the_server(tmp_path: Path) -> None:
    written = 0
    full = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while written < 1 << 28:
            writer.write(bytes(1 << 16))
            try:
                await asyncio.wait_for(writer.drain(), 1.0)
            except TimeoutError:
                full.set()
                await writer.drain()
            written += 1 << 16

    async with saying(answer) as url, proxied(url, tmp_path / "t.db") as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.wait_for(full.wait(), 60)
        assert written < 1 << 26
        writer.transport.abort()


async def test_what_a_server_does_not_take_stays_with_the_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = link._ServerSide.connection_made

    def small(side: link._ServerSide, transport: asyncio.Transport) -> None:
        transport.set_write_buffer_limits(high=1)  # so that what waited for the connection is too much at once
        made(side, transport)

    monkeypatch.setattr(link._ServerSide, "connection_made", small)
    head = b"POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (1 << 28)
    hold = asyncio.Event()

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await hold.wait()
        writer.close()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        # Short segments, as between machines, and little room: the system takes less than has come by then.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        server = await asyncio.start_server(deaf, sock=listening)
        async with proxied(f"http://127.0.0.1:{listening.getsockname()[1]}", tmp_path / "t.db") as port:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head + bytes(1 << 20))
            written, full = 0, False
            while not full and written < 1 << 27:
                writer.write(bytes(1 << 16))
                written += 1 << 16
                try:
                    await asyncio.wait_for(writer.drain(), 1.0)
                except TimeoutError:
                    full = True
            assert full
            writer.transport.abort()
        hold.set()
        server.close()
        await server.wait_closed()


REFUSED = {
    "garbage": (b"hello\r\n\r\n", b"400 ", b"none that HTTP/1.1 knows"),
    "a long head": (b"GET / HTTP/1.1\r\nA: " + b"a" * 70_000, b"431 ", b"longer than 65536 bytes"),
    "a long head at once": (
        b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 70_000 + b"\r\n\r\n",
        b"431 ",
        b"longer than 65536 bytes",
    ),
    "two lengths": (
        post(b"0\r\n\r\nGET /admin HTTP/1.1\r\nHost: x\r\n\r\n", "Transfer-Encoding: chunked"),
        b"400 ",
        b"not clear where the request ends",
    ),
    "chunks before there were any": (
        post(b"", "Transfer-Encoding: chunked")
        .replace(b"HTTP/1.1", b"HTTP/1.0")
        .replace(b"Content-Length: 0\r\n", b""),
        b"400 ",
        b"not clear where the request ends",
    ),
    "another protocol": (
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"501 ",
        b"upgrades no connection",
    ),
    "a tunnel": (b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n", b"400 ", b"as the client's base URL"),
    "another server": (b"GET http://other/ HTTP/1.1\r\nHost: other\r\n\r\n", b"400 ", b"as the client's base URL"),
}


@pytest.mark.parametrize("kind", REFUSED)
async def test_what_cannot_be_passed_on_is_refused_in_a_sentence(kind: str, tmp_path: Path) -> None:
    request, status, words = REFUSED[kind]
    async with proxied("http://127.0.0.1:1", tmp_path / "t.db") as port:
        answer = await asked(port, request)
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert words in answer
    assert rows(tmp_path / "t.db", "select * from run") == []


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8000", "ftp://host", "http://", "http://h:x", "http://u:pw@host", "http://host?key=pw"]
)
def test_a_url_that_is_none_or_holds_a_secret_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(UsageError) as refused:
        Upstream.of(url)
    assert "pw" not in str(refused.value)
