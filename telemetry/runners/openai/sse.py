"""Server-sent events out of a body's bytes, however TCP has cut them."""

from telemetry.errors import RunnerError

LONGEST_LINE = 1 << 24  # bytes; what is longer is no event but a fault, and would fill the memory


class EventReader:
    """Takes the pieces of a body as they come and gives the data of the events that they complete.

    Lines end in LF or CRLF; comments, which servers send to keep a connection alive, and fields other than
    `data` are skipped. Bytes are not decoded, so that a character may be cut in two.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, piece: bytes) -> list[bytes]:
        """Return the data of each event that this piece completes. Raises RunnerError for an endless line."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if len(self._rest) > LONGEST_LINE:
            raise RunnerError(
                f"The server sent more than {LONGEST_LINE} bytes without a line's end, which is no event stream. "
                "Check that --base-url leads to an OpenAI-compatible server."
            )
        return [data for line in lines if (data := self._take(line.removesuffix(b"\r"))) is not None]

    def close(self) -> bytes | None:
        """Return the last event's data where the body ended without the blank line after it."""
        self._take(self._rest)
        self._rest = b""
        return self._take(b"")

    def _take(self, line: bytes) -> bytes | None:
        if line.startswith(b"data:"):
            self._data.append(line[5:].removeprefix(b" "))
        elif not line and self._data:
            event, self._data = b"\n".join(self._data), []
            return event
        return None
