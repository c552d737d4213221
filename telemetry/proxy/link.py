"""One client's connection and its own to the server: bytes go from one to the other in the call that brings them.

Each read is written on at once and then read from a copy, so that what is recorded holds nothing up. Where a
side takes no more, the other is not read, so that neither side's bytes pile up here.
"""

import asyncio
import ssl
import time
from dataclasses import dataclass, field

import h11

from telemetry.proxy.framing import Message, Upstream, fault, refusal, refused, to_client, to_server
from telemetry.proxy.record import Record, is_recorded
from telemetry.proxy.runs import Runs

CONNECT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """What all links of a proxy share."""

    upstream: Upstream
    tls: ssl.SSLContext | None
    runs: Runs
    group: asyncio.TaskGroup
    places: int  # for links; who comes when they are taken is told so
    links: "set[Link]" = field(default_factory=set)


class Link(asyncio.Protocol):
    """The client's side, and what both sides share."""

    _client: asyncio.Transport

    def __init__(self, house: House) -> None:
        self._house = house
        self._server: asyncio.Transport | None = None
        self._record: Record | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._closing = False
        self._unsent = b""  # to a server that is being connected to
        self._early = b""  # of the next request, while this one is being answered
        self._trouble: tuple[int, str] | None = None  # which the client is told when it has asked to the end
        self.moved_s = time.monotonic()  # when bytes last went either way
        self._expect_request()

    @property
    def is_idle(self) -> bool:
        """Whether no request is under way."""
        return self._request.head is None

    # The client.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has come."""
        assert isinstance(transport, asyncio.Transport)
        self._client = transport
        if len(self._house.links) >= self._house.places:
            self._trouble = 503, f"{self._house.places} connections are open, and the proxy takes no more. Try again."
        self._house.links.add(self)

    def data_received(self, data: bytes) -> None:
        """The client has sent something."""
        self.moved_s = time.monotonic()
        if self._closing:
            return
        if self._request.complete:
            self._early += data
            self._client.pause_reading()
            return
        try:
            self._pass_on_request(data)
        except h11.RemoteProtocolError as error:
            self._break(error.error_status_hint, f"The request is none that HTTP/1.1 knows: {fault(error)}.")

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has hung up, or was."""
        self._closing = True
        self._house.links.discard(self)
        if self._connecting is not None:
            self._connecting.cancel()
        if self._server is not None:
            self._server.abort()
        if self._record is not None:
            self._record.cancel(time.monotonic_ns())

    def pause_writing(self) -> None:
        """The client takes no more for now."""
        if self._server is not None:
            self._server.pause_reading()

    def resume_writing(self) -> None:
        """The client takes more."""
        self.moved_s = time.monotonic()
        if self._server is not None:
            self._server.resume_reading()

    def _pass_on_request(self, data: bytes) -> None:
        request, now_ns = self._request, time.monotonic_ns()
        sent = b""
        if request.head is None:
            for head, _ in request.heads(data):
                assert isinstance(head, h11.Request)
                if (no := refused(head)) is not None:
                    self._refuse(*no)
                    return
                self._answer = Message.answer_to(head.method)
                self._record = Record(self._house.runs, head, now_ns) if is_recorded(head) else None
                sent = to_server(head, self._house.upstream, recorded=self._record is not None)
            if request.head is None:
                return
            data = request.rest()
        pieces = request.body(data)
        self._early = request.leftover()
        self._send(sent + data[: len(data) - len(self._early)])
        if self._record is not None:
            self._record.asked(pieces)
            if request.complete:
                self._record.open()
        if self._early:
            self._client.pause_reading()
        self._tell_trouble()

    # The server.

    def _send(self, data: bytes) -> None:
        if self._server is not None:
            self._server.write(data)
        elif self._trouble is None:
            self._unsent += data
            self._client.pause_reading()
            if self._connecting is None:
                self._connecting = self._house.group.create_task(self._connect())

    async def _connect(self) -> None:
        upstream = self._house.upstream
        try:
            async with asyncio.timeout(CONNECT_S):
                await asyncio.get_running_loop().create_connection(
                    lambda: _ServerSide(self), upstream.host, upstream.port, ssl=self._house.tls
                )
        except (OSError, TimeoutError) as error:
            why = str(error) or f"silent for {CONNECT_S:g} s"
            words = f"The server at {upstream.url} cannot be reached: {why}. Start it, or check --upstream."
            self._trouble = 502, words
            self._unsent = b""
            self._client.resume_reading()
            self._tell_trouble()

    def connected(self, server: asyncio.Transport) -> None:
        """There is a connection to the server."""
        self._server = server
        self._client.resume_reading()  # before the write, which may be too much at once and pause it
        server.write(self._unsent)
        self._unsent = b""

    def server_is_full(self) -> None:
        """The server takes no more for now."""
        self._client.pause_reading()

    def server_takes_more(self) -> None:
        """The server takes more."""
        self.moved_s = time.monotonic()
        self._client.resume_reading()

    def _tell_trouble(self) -> None:
        head = self._request.head
        if self._trouble is None or head is None or self._closing:
            return
        waits = any(key == b"expect" for key, _ in head.headers)
        if self._request.complete or waits:  # to close before it has sent all could lose it the answer
            self._refuse(*self._trouble)

    def answered(self, data: bytes) -> None:
        """The server has sent something."""
        now_ns = time.monotonic_ns()
        self.moved_s = now_ns / 1e9
        if self._closing:
            return
        if self.is_idle:  # an answer to nothing
            self._close()
            return
        answer, first = self._answer, self._answer.head is None
        try:
            if first:
                data = self._pass_on_heads(data)
            else:
                self._client.write(data)
            if answer.head is None:
                return
            pieces = answer.body(data)
        except h11.RemoteProtocolError as error:
            self._break(502, f"The server's answer is none that HTTP/1.1 knows: {fault(error)}.")
            return
        if self._record is not None:
            if first:
                assert isinstance(answer.head, h11.Response)
                self._record.answer(answer.head)
            self._record.answered(pieces, now_ns)
        if answer.complete:
            self._end(now_ns)

    def _pass_on_heads(self, data: bytes) -> bytes:
        """Write what these bytes complete of the heads; return the bytes of the body that came with them."""
        passed = []
        for head, raw in self._answer.heads(data):
            is_last = isinstance(head, h11.Response)
            passed.append(to_client(raw, self._record.name if self._record is not None and is_last else None))
        rest = self._answer.rest() if self._answer.head is not None else b""
        if passed:
            self._client.write(b"".join([*passed, rest]))
        return rest

    def server_lost(self, error: Exception | None) -> None:
        """The server has closed its connection."""
        self._server = None
        if self._closing:
            return
        if self.is_idle:
            self._close()
            return
        why = "" if error is None else f" ({error})"
        if self._answer.head is None:
            self._break(502, f"The server closed the connection before it answered{why}. Look into its log.")
            return
        try:
            pieces = self._answer.end()
        except h11.RemoteProtocolError:
            self._break(502, f"The connection to the server broke within the answer{why}. Look into the server's log.")
            return
        now_ns = time.monotonic_ns()
        if self._record is not None:
            self._record.answered(pieces, now_ns)
        self._end(now_ns)

    # The end.

    def silent(self, timeout_s: float) -> None:
        """No byte has gone either way for so long that nobody waits any more."""
        if self._closing or self.is_idle:
            self._client.abort()
        else:
            words = f"No byte went either way for {timeout_s:g} s. Look into the server's log, or raise --timeout."
            self._break(504, words)

    def stop(self, words: str) -> None:
        """End at once."""
        if self._record is not None:
            self._record.broken(words, time.monotonic_ns())
        self._client.abort()

    def _end(self, mono_ns: int) -> None:
        """The answer is complete: wait for the next request, where the connections serve for one."""
        if self._record is not None:
            self._record.complete(mono_ns)
        if not self._request.complete or self._request.last or self._answer.last or self._server is None:
            self._close()
            return
        self._expect_request()
        early, self._early = self._early, b""
        self._client.resume_reading()
        if early:
            self.data_received(early)

    def _expect_request(self) -> None:
        self._request = Message.request()
        self._record = None

    def _break(self, status: int, words: str) -> None:
        """Tell the client where nothing has been answered yet; else an answer that stops short tells it."""
        if self.is_idle or self._answer.head is None:
            self._refuse(status, words)
            return
        if self._record is not None:
            self._record.broken(words, time.monotonic_ns())
        self._close()

    def _refuse(self, status: int, words: str) -> None:
        record = self._record
        self._client.write(refusal(status, words, None if record is None else record.name))
        if record is not None:
            record.fail(words, time.monotonic_ns())
        self._close()

    def _close(self) -> None:
        """Close both connections; what has been written to the client still gets there."""
        self._closing = True
        self._client.close()
        if self._server is not None:
            self._server.abort()


class _ServerSide(asyncio.Protocol):
    """The server's side, which tells the link of everything."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._link.connected(transport)

    def data_received(self, data: bytes) -> None:
        self._link.answered(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._link.server_lost(exc)

    def pause_writing(self) -> None:
        self._link.server_is_full()

    def resume_writing(self) -> None:
        self._link.server_takes_more()
