"""What every runner keeps: prompts in, timed tokens out.

A runner knows one inference engine and nothing of stores, recorders or collectors: what happens to a
prompt is told to the sink that came with it. All stamps are `time.monotonic_ns()`, taken in the thread
that has the token, never on an event loop.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from telemetry.errors import RunnerError, UsageError
from telemetry.model import CountSource, FinishReason


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerInfo:
    """What answers the prompts, with the settings that are in effect (not those that were asked for)."""

    runner: str
    model: str
    engine_version: str
    quantisation: str | None = None
    model_file: Path | None = None  # or its folder
    max_batch_size: int = 1  # prompts computed together; more are answered one after another
    concurrency: int = 1  # requests under way at once, at most, where the engine is a server
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One text to be answered, and how far.

    stop: strings that end the answer; the tokens that spelt one were generated and count, its text is left out.
    due_s: when it is to be asked, after the run's start; None: as the runner's load has it.
    Raises UsageError for `max_tokens` below 1 and for an empty stop string.
    """

    text: str
    max_tokens: int
    stop: tuple[str, ...] = ()
    due_s: float | None = None

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise UsageError(
                f"max_tokens is {self.max_tokens}, and a prompt is answered with at least 1 token. Give 1 or more."
            )
        if "" in self.stop:
            raise UsageError("A stop string is empty, and would end every answer at once. Give it a text, or none.")


class RequestSink(Protocol):
    """Takes what happens to one prompt, in this order: start, prompt, token or chunk …, then end or fail.

    A prompt that is refused, or not begun before the cancel, has no start. Each sink gets exactly one
    end or fail. The calls come from the runner's thread and hold up generation for as long as they
    last; `token` is the hot path. Of a server, `prompt` may come after the tokens or not at all.
    """

    def submit(self, mono_ns: int) -> None:
        """The request is due; until it starts it waits for a place. Only where requests arrive at their own times."""
        ...

    def start(self, mono_ns: int) -> None:
        """The prefill begins."""
        ...

    def prompt(self, *, input_tokens: int, cached_tokens: int | None) -> None:
        """The prompt has been read: its tokens, and how many of them needed no computing; None: not told."""
        ...

    def token(self, mono_ns: int) -> None:
        """One token has been generated; the one that ends the text counts too, for it costs a pass."""
        ...

    def chunk(self, mono_ns: int, tokens: int | None) -> None:
        """A piece of the answer has come that is not one token: several at once, or None: nobody says how many."""
        ...

    def end(
        self,
        mono_ns: int,
        *,
        finish_reason: FinishReason,
        output_tokens: int,
        count_source: CountSource,
        text: str,
    ) -> None:
        """The prompt has been answered, or its answer was cut short by a cancel."""
        ...

    def fail(self, mono_ns: int, error: RunnerError) -> None:
        """The prompt could not be answered; tokens that came before stay counted."""
        ...


class Runner(Protocol):
    """An opened engine with its model. Use it from one thread only: see `RunnerThread`."""

    def describe(self) -> RunnerInfo:
        """Return what answers the prompts. Cheap; may be called before, between and after runs."""
        ...

    def generate(self, prompts: Sequence[Prompt], sinks: Sequence[RequestSink], cancel: threading.Event) -> None:
        """Answer every prompt, and block until it is done.

        A prompt that cannot be answered fails its own sink and leaves the others alone. Once `cancel` is
        set, the answers under way end as `cancelled`, and so do those not begun, without a token.
        """
        ...

    def count_tokens(self, text: str) -> int:
        """Return the tokens that `generate` would count as the input of a prompt of this text.

        Raises RunnerError where the engine does not tell.
        """
        ...

    def reset(self) -> None:
        """Forget everything a former prompt left behind, so that the next run starts like the first."""
        ...

    def close(self) -> None:
        """Free the model. Safe to call twice."""
        ...


def refuse_due(prompts: Sequence[Prompt]) -> None:
    """Raise UsageError for a prompt that is due at its own time: an engine in this process is asked in turn."""
    for prompt in prompts:
        if prompt.due_s is not None:
            raise UsageError(
                f"A prompt is due {prompt.due_s:g} s after the start, and an engine in this process answers in turn. "
                "Leave due_s out, or ask a server."
            )


def answer_in_batches(
    prompts: Sequence[Prompt],
    sinks: Sequence[RequestSink],
    cancel: threading.Event,
    batch_size: int,
    answer: Callable[[Sequence[tuple[Prompt, RequestSink]]], None],
) -> None:
    """Answer so many prompts at a time, the last ones fewer; `answer` ends or fails every sink it is given.

    Raises ValueError for unequal numbers of prompts and sinks, UsageError for a prompt with a time of its own.
    """
    refuse_due(prompts)
    asked = list(zip(prompts, sinks, strict=True))
    for first in range(0, len(asked), batch_size):
        batch = asked[first : first + batch_size]
        if not cancel.is_set():
            answer(batch)
            continue
        for _, sink in batch:
            sink.end(time.monotonic_ns(), finish_reason="cancelled", output_tokens=0, count_source="ids", text="")


def answer_in_turn(
    prompts: Sequence[Prompt],
    sinks: Sequence[RequestSink],
    cancel: threading.Event,
    answer: Callable[[Prompt, RequestSink], None],
) -> None:
    """Answer prompts one after another, where no batches are computed.

    `answer` ends the sink, or raises RunnerError, which fails that sink alone.
    Raises ValueError for unequal numbers of prompts and sinks.
    """

    def answer_one(batch: Sequence[tuple[Prompt, RequestSink]]) -> None:
        ((prompt, sink),) = batch
        try:
            answer(prompt, sink)
        except RunnerError as error:
            sink.fail(time.monotonic_ns(), error)

    answer_in_batches(prompts, sinks, cancel, 1, answer_one)
