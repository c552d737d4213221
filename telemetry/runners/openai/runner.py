"""Prompts to a server, one HTTP stream each, as many at once and at such times as asked for."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from telemetry.errors import RunnerError, UsageError
from telemetry.runners.base import Prompt, RequestSink, RunnerInfo
from telemetry.runners.openai.arrivals import Arrival, arrivals_s
from telemetry.runners.openai.asking import Form, RequestFailed, ask
from telemetry.runners.openai.chunks import Tally, finish_reason
from telemetry.runners.openai.counting import TokenCounter

if TYPE_CHECKING:
    import httpx

CANCEL_CHECK_S = 0.02
LONGEST_WAIT_S = 60.0  # before another try


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How requests come to the server, and how long it has for them.

    At most `concurrency` are under way. In a burst all are due at once and the next begins when one has ended;
    else each is due at its own time, `rate` requests/s on average, and its latencies count from then. Prompts that are
    due at times of their own are asked at those, whatever the rate would be, and so they go with a burst alone.
    timeout_s: of silence. retries: of a request that brought nothing yet.
    """

    concurrency: int = 1
    arrival: Arrival = "burst"
    rate: float | None = None
    seed: int = 0
    timeout_s: float = 120.0
    retries: int = 0


class OpenAIRunner:
    """A server that was found to answer: see `open_openai`.

    Each run opens its own connections, so that the first is like the others. All streams of a run are read by
    one event loop in the calling thread, and a chunk's time is that of the read that brought it.
    """

    def __init__(
        self,
        info: RunnerInfo,
        form: Form,
        load: Load,
        *,
        connect: Callable[[], "httpx.AsyncClient"],
        redact: Callable[[str], str],
    ) -> None:
        self._info, self._form, self._load = info, form, load
        self._connect, self._redact = connect, redact
        self._counter = TokenCounter(connect, form, load.timeout_s)

    def describe(self) -> RunnerInfo:
        """Return what the server told of itself when it was opened, and how it is asked."""
        return self._info

    def generate(self, prompts: Sequence[Prompt], sinks: Sequence[RequestSink], cancel: threading.Event) -> None:
        """Answer the prompts, `concurrency` at once: see `Runner.generate`.

        A cancel is noticed at the next chunk, or within 20 ms of silence; it closes the connections, and the
        server stops in its own time. Raises UsageError where some prompts are due at times of their own and others not,
        or all of them and the load has arrivals too.
        """
        pairs = list(zip(prompts, sinks, strict=True))
        if not pairs:
            return
        due_s = self._due_s(prompts)
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as loop:
            try:
                loop.run(self._answer_all(pairs, due_s, cancel))
            except BaseExceptionGroup as faults:  # of the recording; what is wrong with a request its sink is told
                raise faults.exceptions[0] from None

    def count_tokens(self, text: str) -> int:
        """Return what the server counts of a prompt, with its chat template where it is asked by messages.

        Raises RunnerError where the server does not tell, and for a text that it refuses.
        """
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as loop:
            try:
                return loop.run(self._counter.count(text))
            except RunnerError as error:
                raise RunnerError(self._redact(str(error))) from None  # whose causes may hold the key

    def reset(self) -> None:
        """Do nothing: each request asks the server to forget, as far as it knows how."""

    def close(self) -> None:
        """Do nothing: a run leaves no connection open."""

    def _due_s(self, prompts: Sequence[Prompt]) -> Sequence[float] | None:
        """Return when each prompt is due, s after the run's start; None: each when there is a place."""
        load = self._load
        own = [prompt.due_s for prompt in prompts if prompt.due_s is not None]
        if own and (len(own) < len(prompts) or load.arrival != "burst"):
            raise UsageError(
                f"{len(own)} of {len(prompts)} prompts are due at times of their own, and arrivals are {load.arrival}. "
                "Replay a trace without --request-rate and --arrival, and with no other prompts beside it."
            )
        if own or load.arrival == "burst":
            return own or None
        return arrivals_s(len(prompts), arrival=load.arrival, rate=load.rate, seed=load.seed)

    async def _answer_all(
        self, pairs: Sequence[tuple[Prompt, RequestSink]], due_s: Sequence[float] | None, cancel: threading.Event
    ) -> None:
        begin_ns = time.monotonic_ns()
        due_ns = [None] * len(pairs) if due_s is None else [begin_ns + round(due * 1e9) for due in due_s]
        async with self._connect() as client, asyncio.TaskGroup() as group:
            asking = _Asking(client, self._form, self._load, cancel)
            answers = [
                group.create_task(self._in_turn(asking, prompt, sink, due))
                for (prompt, sink), due in zip(pairs, due_ns, strict=True)
            ]
            watch = group.create_task(_pass_on(cancel, answers))
            await asyncio.wait(answers)
            watch.cancel()

    async def _in_turn(self, asking: "_Asking", prompt: Prompt, sink: RequestSink, due_ns: int | None) -> None:
        """Answer one prompt when it is due and has a place, and end its sink whatever happens."""
        tally = Tally(sink)
        try:
            if due_ns is not None:
                await asyncio.sleep(max(0, due_ns - time.monotonic_ns()) / 1e9)
                sink.submit(due_ns)
            ended_ns = await asking.answer(prompt, sink, tally)
            tokens, counted_by = tally.total()
            reason = finish_reason(tally.finish, tokens=tokens, max_tokens=prompt.max_tokens)
        except asyncio.CancelledError:
            if not asking.cancel.is_set():
                raise
            tokens, counted_by = tally.total()
            ended_ns, reason = time.monotonic_ns(), "cancelled"
        except RunnerError as error:
            sink.fail(time.monotonic_ns(), RunnerError(self._redact(str(error))))
            return
        sink.end(ended_ns, finish_reason=reason, output_tokens=tokens, count_source=counted_by, text=tally.text)


class _Asking:
    """What all requests of a run share."""

    def __init__(self, client: "httpx.AsyncClient", form: Form, load: Load, cancel: threading.Event) -> None:
        self._client, self._form, self._load = client, form, load
        self._places = asyncio.Semaphore(load.concurrency)
        self.cancel = cancel

    async def answer(self, prompt: Prompt, sink: RequestSink, tally: Tally) -> int:
        """Wait for a place and ask until there is an answer or no try is left; return when it ended, ns."""
        async with self._places:
            if self.cancel.is_set():
                raise asyncio.CancelledError
            if not prompt.text.strip():
                raise RunnerError("The prompt is empty, and there is nothing to answer. Give it some text.")
            body = self._form.body(prompt)
            sink.start(time.monotonic_ns())
            for tries_left in range(self._load.retries, -1, -1):
                try:
                    return await ask(
                        self._client, self._form, body, tally, timeout_s=self._load.timeout_s, cancel=self.cancel
                    )
                except RequestFailed as failed:
                    if not (failed.again and tries_left):
                        raise
                    await asyncio.sleep(min(LONGEST_WAIT_S, 1.0 if failed.after_s is None else failed.after_s))
            raise AssertionError("the last try returns or raises")


async def _pass_on(cancel: threading.Event, answers: Sequence[asyncio.Task[None]]) -> None:
    """Cancel the answers under way soon after `cancel` is set, also those that wait for a silent server."""
    while not cancel.is_set():  # noqa: ASYNC110 - it is set by another thread, which knows nothing of this loop
        await asyncio.sleep(CANCEL_CHECK_S)
    for answer in answers:
        answer.cancel()
