"""One request to a server: its body, its stream read to the end, and what can go wrong, in our words."""

import asyncio
import itertools
import os
import threading
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import orjson

from telemetry.errors import RunnerError
from telemetry.model import CountSource, FinishReason
from telemetry.runners.base import Prompt
from telemetry.runners.openai.chunks import DONE, Tally, read_chunk, said
from telemetry.runners.openai.sse import EventReader

if TYPE_CHECKING:
    import httpx

Api = Literal["completions", "chat"]

AFTER_DONE_S = 1.0  # in which the body may end, so that its connection can be used again
_PATHS: Mapping[Api, str] = {"completions": "/completions", "chat": "/chat/completions"}
_TRY_AGAIN = (408, 429, 502, 503, 504)
_WHAT_TO_DO = {
    401: "Set the environment variable OPENAI_API_KEY to a key that the server takes.",
    403: "Set the environment variable OPENAI_API_KEY to a key that may use this model.",
    404: "Check --base-url, --model and --api.",
    429: "Lower --concurrency or --request-rate.",
}
_numbers = itertools.count()


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How a prompt is asked: where, and with which fields beside it."""

    api: Api
    model: str
    fields: Mapping[str, Any]

    @property
    def path(self) -> str:
        """Below the base URL."""
        return _PATHS[self.api]

    def text(self, text: str) -> dict[str, Any]:
        """Return the part of a body that holds a prompt's text."""
        return {"messages": [{"role": "user", "content": text}]} if self.api == "chat" else {"prompt": text}

    def body(self, prompt: Prompt) -> bytes:
        """Return the body that asks for this prompt's answer as a stream, greedily."""
        asked: dict[str, Any] = {"model": self.model, "stream": True, "temperature": 0.0}
        asked |= {"max_tokens": prompt.max_tokens, **self.text(prompt.text), **self.fields}
        if prompt.stop:
            asked["stop"] = prompt.stop
        if "cache_salt" in asked:  # another one each time: no prompt is answered from a former one's cache
            asked["cache_salt"] = f"{os.getpid()}-{time.monotonic_ns()}-{next(_numbers)}"
        return orjson.dumps(asked)


class RequestFailed(RunnerError):
    """A request brought no answer. `again`: nothing of one has come, and another try may bring it."""

    def __init__(
        self, words: str, *, status: int | None = None, again: bool = False, after_s: float | None = None
    ) -> None:
        super().__init__(words)
        self.status, self.again, self.after_s = status, again, after_s


async def ask(
    client: "httpx.AsyncClient", form: Form, body: bytes, tally: Tally, *, timeout_s: float, cancel: threading.Event
) -> int:
    """Send a request and hand what comes back to the tally; return when the last of it came, monotonic ns.

    timeout_s: how long the server may be silent; a comment that keeps the connection alive does not break the
    silence. Raises RunnerError where the answer does not come to its end, CancelledError at the first chunk
    after `cancel` is set.
    """
    import httpx

    now = asyncio.get_running_loop().time
    done = False
    last_ns = time.monotonic_ns()
    try:
        async with asyncio.timeout(timeout_s) as limit, client.stream("POST", form.path, content=body) as response:
            if response.status_code != 200:
                raise await refusal(response)
            async with aclosing(_events(response)) as events:
                async for mono_ns, data in events:
                    if done:
                        continue
                    done, last_ns = data == DONE, mono_ns
                    limit.reschedule(now() + (AFTER_DONE_S if done else timeout_s))
                    if not done:
                        tally.add(read_chunk(data), mono_ns)
                        if cancel.is_set():
                            raise asyncio.CancelledError
    except (TimeoutError, httpx.HTTPError) as error:
        if not done and tally.finish is None:
            raise _broken(error, tally, timeout_s) from error
    if not done and tally.finish is None:
        raise RequestFailed(
            "The server closed the stream before the answer was finished. Look into its log; some servers "
            "drop an answer when the next request comes.",
            again=not tally.begun,
        )
    return last_ns


async def short_answer(client: "httpx.AsyncClient", form: Form, prompt: Prompt, timeout_s: float) -> Tally:
    """Return the tally of an answer that is part of no run. Raises as `ask` does."""
    tally = Tally(_Silent())
    await ask(client, form, form.body(prompt), tally, timeout_s=timeout_s, cancel=threading.Event())
    return tally


async def refusal(response: "httpx.Response") -> RequestFailed:
    """Return what a status other than 200 means, with the server's own words."""
    try:
        words = said(orjson.loads(await response.aread()))
    except (ValueError, AttributeError):  # no JSON, or no object
        words = f"{response.text.strip()[:400].rstrip('.')}."
    status = response.status_code
    advice = _WHAT_TO_DO.get(status, "Look into the server's log." if status >= 500 else "Check the options given.")
    after = response.headers.get("retry-after", "")
    return RequestFailed(
        f"The server answered {status} {response.reason_phrase}: {words} {advice}",
        status=status,
        again=status in _TRY_AGAIN,
        after_s=float(after) if after.isdecimal() else None,
    )


def _broken(error: Exception, tally: Tally, timeout_s: float) -> RequestFailed:
    import httpx

    if isinstance(error, TimeoutError):
        return RequestFailed(
            f"The server was silent for {timeout_s:g} s and the request was given up. "
            "Look into its log, or give it longer with --timeout."
        )
    if isinstance(error, httpx.ConnectError):
        words = f"No server answers: {error}. Start it, or check --base-url."
    else:
        words = f"The connection broke: {error or type(error).__name__}. Look into the server's log."
    return RequestFailed(words, again=not tally.begun)


async def _events(response: "httpx.Response") -> AsyncGenerator[tuple[int, bytes], None]:
    """Yield each event's data with the time of the read that completed it; several may come with one read."""
    reader = EventReader()
    async for piece in response.aiter_bytes():
        mono_ns = time.monotonic_ns()
        for data in reader.feed(piece):
            yield mono_ns, data
    if (data_at_the_end := reader.close()) is not None:
        yield time.monotonic_ns(), data_at_the_end


class _Silent:
    """A sink for a short answer."""

    def submit(self, mono_ns: int) -> None: ...

    def start(self, mono_ns: int) -> None: ...

    def prompt(self, *, input_tokens: int, cached_tokens: int | None) -> None: ...

    def token(self, mono_ns: int) -> None: ...

    def chunk(self, mono_ns: int, tokens: int | None) -> None: ...

    def end(
        self, mono_ns: int, *, finish_reason: FinishReason, output_tokens: int, count_source: CountSource, text: str
    ) -> None: ...

    def fail(self, mono_ns: int, error: RunnerError) -> None: ...
