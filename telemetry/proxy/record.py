"""What is recorded of one request: read from copies of its bytes, after they have been passed on."""

import sys
import time
from typing import Any

import h11
import orjson

from telemetry.errors import RunnerError
from telemetry.experiment import RecordedSink
from telemetry.model import CountSource
from telemetry.proxy.framing import RUN_HEADER, header
from telemetry.proxy.runs import Runs
from telemetry.runners.openai.chunks import DONE, Tally, finish_reason, read_chunk, said
from telemetry.runners.openai.sse import EventReader

LONGEST_COPY = 1 << 24  # bytes of a body that are kept to be read
_SECRETS = (b"authorization", b"api-key", b"x-api-key")


def is_recorded(request: h11.Request) -> bool:
    """Whether this request asks a model for text in OpenAI's way, also by `/chat/completions`."""
    path = request.target.partition(b"?")[0].rstrip(b"/")
    return request.method == b"POST" and path.endswith(b"/completions")


class Record:
    """One request, from its head to the end of its answer.

    It belongs to a run once it has been asked to its end, or is answered before; what is given up sooner is no request.
    """

    def __init__(self, runs: Runs, request: h11.Request, mono_ns: int) -> None:
        self._runs, self._arrived_ns = runs, mono_ns
        label = header(request, RUN_HEADER)
        self._label = None if label is None else label.decode(errors="replace")
        told = [value.decode("latin-1").split() for key, value in request.headers if key in _SECRETS]
        self._secrets = [words[-1] for words in told if words]
        self._asked, self._answered = _Copy(), _Copy()
        self._name: bytes | None = None
        self._head: h11.Response | None = None
        self._events: EventReader | None = None
        self._ended = False

    @property
    def name(self) -> bytes:
        """The run's UID and the request's number in it."""
        self.open()
        assert self._name is not None
        return self._name

    def asked(self, pieces: list[bytes]) -> None:
        """Take pieces of the request's body."""
        self._asked.add(pieces)

    def open(self) -> None:
        """Give the request its place in a run, once."""
        if self._name is not None:
            return
        try:
            body = orjson.loads(self._asked.bytes())
        except ValueError:  # the server will say so
            body = None
        told: dict[str, Any] = body if isinstance(body, dict) else {}
        model, limit = told.get("model"), told.get("max_completion_tokens") or told.get("max_tokens")
        self._max_tokens = limit if isinstance(limit, int) else sys.maxsize
        self._run = self._runs.of(self._label, model if isinstance(model, str) else None, self._arrived_ns)
        self._name = f"{self._run.uid}/{self._run.next_number}".encode()
        self._sink = RecordedSink(self._run)
        self._sink.submit(self._arrived_ns)
        self._sink.start(time.monotonic_ns())
        self._tally = Tally(self._sink)

    def answer(self, head: h11.Response) -> None:
        """Take the answer's head."""
        self.open()
        self._head = head
        if (header(head, b"content-type") or b"").lower().startswith(b"text/event-stream") and _is_good(head):
            self._events = EventReader()

    def answered(self, pieces: list[bytes], mono_ns: int) -> None:
        """Take pieces of the answer's body that came at this time."""
        if self._events is None:
            self._answered.add(pieces)
            return
        try:
            for piece in pieces:
                self._take(self._events.feed(piece), mono_ns)
        except RunnerError as error:
            self.fail(str(error), mono_ns)

    def complete(self, mono_ns: int) -> None:
        """The answer came to its end."""
        assert self._head is not None
        try:
            if not _is_good(self._head):
                raise RunnerError(f"The server answered {self._head.status_code}: {self._words()}")
            if header(self._head, b"content-encoding") not in (None, b"identity"):
                raise RunnerError("The server compressed the answer though it was asked not to: nothing was counted.")
            if self._events is None:
                self._count(mono_ns)
            else:
                last = self._events.close()
                self._take([] if last is None else [last], mono_ns)
                self.broken("The server closed the stream before the answer was finished. Look into its log.", mono_ns)
        except RunnerError as error:
            self.fail(str(error), mono_ns)

    def broken(self, words: str, mono_ns: int) -> None:
        """Nothing more will come; that is a failure, unless the model had finished."""
        if self._name is not None and self._tally.finish is not None:
            self._end(mono_ns, *self._tally.total())
        else:
            self.fail(words, mono_ns)

    def cancel(self, mono_ns: int) -> None:
        """The client has hung up; what came until then counts."""
        if self._name is None or self._ended:
            return
        tokens, source = self._tally.total()
        if self._tally.finish is not None:
            self._end(mono_ns, tokens, source)
            return
        self._sink.end(mono_ns, finish_reason="cancelled", output_tokens=tokens, count_source=source, text="")
        self._done(mono_ns)

    def fail(self, words: str, mono_ns: int) -> None:
        """The request was not answered, or not to the end."""
        if self._name is None or self._ended:
            return
        for secret in self._secrets:
            words = words.replace(secret, "***")
        self._sink.fail(mono_ns, RunnerError(words))
        self._done(mono_ns)

    def _take(self, events: list[bytes], mono_ns: int) -> None:
        for data in events:
            if self._ended:
                return
            if data == DONE:
                self._end(mono_ns, *self._tally.total())
            else:
                self._tally.add(read_chunk(data), mono_ns)

    def _count(self, mono_ns: int) -> None:
        """Take an answer that came in one piece: it says how many tokens there were, and not when."""
        chunk = read_chunk(self._answered.bytes())
        if chunk.input_tokens is not None:
            self._sink.prompt(input_tokens=chunk.input_tokens, cached_tokens=chunk.cached_tokens)
        self._tally.finish = chunk.finish
        self._end(mono_ns, chunk.running or 0, "chunks" if chunk.running is None else "server")

    def _end(self, mono_ns: int, tokens: int, source: CountSource) -> None:
        if self._ended:
            return
        try:
            reason = finish_reason(self._tally.finish, tokens=tokens, max_tokens=self._max_tokens)
        except RunnerError as error:
            self.fail(str(error), mono_ns)
            return
        self._sink.end(mono_ns, finish_reason=reason, output_tokens=tokens, count_source=source, text="")
        self._done(mono_ns)

    def _done(self, mono_ns: int) -> None:
        self._ended = True
        self._run.done(mono_ns)

    def _words(self) -> str:
        """Return what the server says of an error, in JSON or not."""
        body = self._answered.bytes()
        try:
            told = orjson.loads(body)
        except ValueError:
            told = body.decode(errors="replace")
        return said(told if isinstance(told, dict) else {"error": told})


class _Copy:
    """A body, up to a size; of a longer one nothing."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0

    def add(self, pieces: list[bytes]) -> None:
        self._size += sum(map(len, pieces))
        if self._size > LONGEST_COPY:
            self._pieces.clear()
        else:
            self._pieces += pieces

    def bytes(self) -> bytes:
        return b"".join(self._pieces)


def _is_good(head: h11.Response) -> bool:
    return 200 <= head.status_code < 300
