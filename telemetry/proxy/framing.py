"""Where HTTP/1.1 messages begin and end in the bytes of a connection, which are passed on as they came."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import h11
import orjson

from telemetry.errors import UsageError

LONGEST_HEAD = 1 << 16  # bytes
RUN_HEADER = b"x-telemetry-run"
REQUEST_HEADER = b"x-telemetry-request"
_BLANK_LINE = re.compile(rb"\n\r?\n")
_REASONS = {400: "Bad Request", 431: "Request Header Fields Too Large", 501: "Not Implemented",
            502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout"}  # fmt: skip

Head = h11.Request | h11.Response | h11.InformationalResponse


class Message:
    """One message, read from a copy of its bytes; `head` is None until it has come.

    Raises h11.RemoteProtocolError where the bytes are none of HTTP/1.
    """

    def __init__(self, parser: h11.Connection) -> None:
        self._parser = parser
        self._unread = b""
        self.head: h11.Request | h11.Response | None = None
        self.complete = False

    @classmethod
    def request(cls) -> "Message":
        """Return the reader of a client's request."""
        return cls(h11.Connection(h11.SERVER))

    @classmethod
    def answer_to(cls, method: bytes) -> "Message":
        """Return the reader of the answer to a request of this method, which decides whether a body follows."""
        parser = h11.Connection(h11.CLIENT)
        parser.send(h11.Request(method=method, target="/", headers=[("Host", "-")]))
        parser.send(h11.EndOfMessage())
        return cls(parser)

    def heads(self, data: bytes) -> Iterator[tuple[Head, bytes]]:
        """Yield each head that these bytes complete, as read and as it came; the last one is the message's own."""
        self._unread = (self._unread + data).lstrip(b"\r\n")
        while self.head is None and (end := _BLANK_LINE.search(self._unread, 0, LONGEST_HEAD)):
            raw, self._unread = self._unread[: end.end()], self._unread[end.end() :]
            self._parser.receive_data(raw)
            event = self._parser.next_event()
            if isinstance(event, h11.Request | h11.Response):
                self.head = event
            assert isinstance(event, Head)
            yield event, raw
        if self.head is None and len(self._unread) > LONGEST_HEAD:
            raise h11.RemoteProtocolError(f"its head is longer than {LONGEST_HEAD} bytes", error_status_hint=431)

    def rest(self) -> bytes:
        """Return, once, the bytes that came with the last head."""
        rest, self._unread = self._unread, b""
        return rest

    def body(self, data: bytes) -> list[bytes]:
        """Return the pieces of the body in these bytes, without what frames them."""
        if data:
            self._parser.receive_data(data)
        return self._events()

    def end(self) -> list[bytes]:
        """The connection has ended, and with it a body that says no length."""
        self._parser.receive_data(b"")
        return self._events()

    def leftover(self) -> bytes:
        """Return the bytes after a complete message."""
        return self._parser.trailing_data[0] if self.complete else b""

    @property
    def last(self) -> bool:
        """Whether the connection serves for no further message."""
        return self._parser.their_state in (h11.MUST_CLOSE, h11.CLOSED)

    def _events(self) -> list[bytes]:
        pieces = []
        while not self.complete:
            event = self._parser.next_event()
            if isinstance(event, h11.Data):
                pieces.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                self.complete = True
            else:  # more has to come
                break
        return pieces


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """The server: where it is, and the path before every path that clients ask for."""

    url: str
    host: str
    port: int
    tls: bool
    authority: bytes
    prefix: bytes

    @classmethod
    def of(cls, url: str) -> "Upstream":
        """Return the server of a URL. Raises UsageError for what is none, and for one that holds a secret."""
        try:
            parts = urlsplit(url)
            tls = parts.scheme == "https"
            port = parts.port or (443 if tls else 80)
        except ValueError:
            raise _no_server() from None
        if parts.scheme not in ("http", "https") or not parts.hostname or not url.isascii():
            raise _no_server()
        if parts.username or parts.password or parts.query or parts.fragment:
            raise UsageError(
                f"The URL of {parts.hostname} has a user, a password or a query in it, and the store would keep them. "
                "Give it without; the keys that clients send are passed on."
            )
        path = parts.path.rstrip("/")
        return cls(
            url=f"{parts.scheme}://{parts.netloc}{path}",
            host=parts.hostname,
            port=port,
            tls=tls,
            authority=parts.netloc.encode(),
            prefix=path.encode(),
        )


def _no_server() -> UsageError:
    return UsageError("--upstream is no URL of a server. Give one such as http://127.0.0.1:8000.")


def refused(request: h11.Request) -> tuple[int, str] | None:
    """Return the status and the reason where a request cannot be passed on."""
    upgrade = header(request, b"upgrade")
    if request.method == b"CONNECT" or not request.target.startswith((b"/", b"*")):
        return 400, "This proxy stands before one server: give it as the client's base URL, not as an HTTP proxy."
    if upgrade is not None and upgrade.lower() != b"h2c":  # an offer that every server may pass over
        return 501, "This proxy passes on HTTP/1.1 requests alone and upgrades no connection. Ask the server itself."
    names = {name for name, _ in request.headers}
    if b"transfer-encoding" in names and (b"content-length" in names or request.http_version < b"1.1"):
        # The server could see its end elsewhere, and take the rest for a request of its own.
        return 400, "It is not clear where the request ends. Give it Content-Length or, in HTTP/1.1, Transfer-Encoding."
    return None


def to_server(request: h11.Request, upstream: Upstream, *, recorded: bool) -> bytes:
    """Return the head that the server gets: the client's, but for the host, and for what concerns the proxy alone."""
    left_out = {b"host", b"upgrade", b"http2-settings", RUN_HEADER} | ({b"accept-encoding"} if recorded else set())
    prefix = upstream.prefix if request.target.startswith(b"/") else b""
    lines = [b"%b %b%b HTTP/%b" % (request.method, prefix, request.target, request.http_version)]
    lines.append(b"Host: " + upstream.authority)
    lines += [b"%b: %b" % (k, v) for k, v in request.headers.raw_items() if k.lower() not in left_out]
    if recorded:  # tokens are counted in what comes back
        lines.append(b"Accept-Encoding: identity")
    return b"\r\n".join([*lines, b"", b""])


def to_client(raw: bytes, record: bytes | None) -> bytes:
    """Return a head as the client gets it: as it came, with one line more where the request is recorded."""
    if record is None:
        return raw
    begin = raw.index(b"\n") + 1
    return b"%b%b: %b\r\n%b" % (raw[:begin], REQUEST_HEADER, record, raw[begin:])


def refusal(status: int, words: str, record: bytes | None = None) -> bytes:
    """Return a whole answer that says, in the shape of OpenAI's errors, why there is no other."""
    told = {"error": {"message": words, "type": "telemetry_proxy_error", "param": None, "code": None}}
    body = orjson.dumps(told)
    head = f"HTTP/1.1 {status} {_REASONS.get(status, 'Error')}\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return to_client(head.encode(), record) + body


def fault(error: h11.RemoteProtocolError) -> str:
    """Return what is wrong with a message, without the bytes that show it: a prompt or a key may be in them."""
    return str(error).partition(": bytearray(")[0]


def header(head: Head, name: bytes) -> bytes | None:
    """Return the value of a header by its name in lower case."""
    return next((value for key, value in head.headers if key == name), None)
