"""A paced stand-in for a model: a stream of tokens on time, for machines without an engine."""

import functools
import threading
import time
from collections.abc import Sequence

from telemetry.errors import RunnerError
from telemetry.model import FinishReason
from telemetry.runners.base import Prompt, RequestSink, RunnerInfo, answer_in_turn, refuse_due
from telemetry.runners.stopping import StopWatch

WORD = "watt "


class StandInRunner:
    """Emits tokens at a set pace and computes nothing; every record of it says so.

    A prompt costs `prefill_s_per_token` for each of its words, then a token comes at once and another
    every `token_interval_s`, until a stop string or `max_tokens`: it never ends a text by itself.
    """

    def __init__(self, *, prefill_s_per_token: float = 0.002, token_interval_s: float = 0.02) -> None:
        self._prefill_s_per_token = prefill_s_per_token
        self._token_interval_s = token_interval_s

    def describe(self) -> RunnerInfo:
        """Return a description that cannot be taken for a model's."""
        return RunnerInfo(
            runner="stand-in",
            model="paced stand-in (no model)",
            engine_version="none",
            settings={
                "prefill_s_per_token": self._prefill_s_per_token,
                "token_interval_s": self._token_interval_s,
            },
        )

    def generate(self, prompts: Sequence[Prompt], sinks: Sequence[RequestSink], cancel: threading.Event) -> None:
        """Emit each prompt's tokens: see `Runner.generate`."""
        refuse_due(prompts)
        answer_in_turn(prompts, sinks, cancel, functools.partial(self._answer, cancel=cancel))

    def count_tokens(self, text: str) -> int:
        """Return the text's words."""
        return len(text.split())

    def reset(self) -> None:
        """Do nothing: there is nothing to forget."""

    def close(self) -> None:
        """Do nothing: there is nothing to free."""

    def _answer(self, prompt: Prompt, sink: RequestSink, *, cancel: threading.Event) -> None:
        words = self.count_tokens(prompt.text)
        if not words:
            raise RunnerError("The prompt is empty, and there is nothing to answer. Give it some text.")
        started_ns = time.monotonic_ns()
        sink.start(started_ns)
        # Each token is due at its own time from the start, so that the pace does not drift.
        first_ns = started_ns + round(words * self._prefill_s_per_token * 1e9)
        watch = StopWatch(prompt.stop)
        count = 0
        reason: FinishReason = "length"
        while count < prompt.max_tokens:
            due_ns = first_ns + round(count * self._token_interval_s * 1e9)
            if cancel.wait(max(0, due_ns - time.monotonic_ns()) / 1e9):
                reason = "cancelled"
                break
            if count == 0:
                sink.prompt(input_tokens=words, cached_tokens=0)
            sink.token(time.monotonic_ns())
            count += 1
            if watch.feed(WORD.encode()):
                reason = "stop"
                break
        sink.end(
            time.monotonic_ns(),
            finish_reason=reason,
            output_tokens=count,
            count_source="ids",
            text=watch.text,
        )
