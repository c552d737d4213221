"""One prompt at a time, through `Llama.generate()` of llama-cpp-python, on a Llama of ours or of someone else.

`generate()` yields every token's id right after it was sampled, the one that ends the text too, so
counts and times are exact: a chunk of text is not a token. Sampling reads the logits and therefore waits
for the device, so the stamps hold on a GPU as well.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Any

from telemetry.model import FinishReason
from telemetry.runners.base import RequestSink
from telemetry.runners.llama_answer import Answer
from telemetry.runners.llama_engine import engine_gave_up


def answer_one(engine: Any, llama: Any, answer: Answer, cancel: threading.Event) -> None:
    """Compute one answer to its end or to the cancel. Raises RunnerError when the engine gives up."""
    reason: FinishReason = "cancelled"
    llama.reset()  # else a prefix shared with the last prompt costs nothing, and phases lie
    watch = _Eval(engine, llama, answer.input_tokens, answer.sink, cancel)
    with _watched_eval(llama, watch), closing(llama.generate(answer.tokens, temp=0.0)) as stream:
        with suppress(_CancelledError):
            for token in stream:
                if last := answer.take(token, time.monotonic_ns()):
                    reason = last
                    break
                if cancel.is_set():
                    break
        ended_ns = time.monotonic_ns()
    answer.end(ended_ns, reason)


class _CancelledError(Exception):
    """A prefill was given up between two pieces."""


class _Eval:
    """Stands in for one Llama's `eval` while it answers one prompt: the first call is the prefill."""

    def __init__(self, engine: Any, llama: Any, input_tokens: int, sink: RequestSink, cancel: threading.Event) -> None:
        self._engine = engine
        self._llama = llama
        self._eval = llama.eval
        self._input_tokens = input_tokens
        self._sink = sink
        self._cancel = cancel
        self._prefilled = False

    def __call__(self, tokens: Sequence[int]) -> None:
        if self._prefilled:
            self._run(tokens)
            return
        self._sink.start(time.monotonic_ns())
        # The same pieces that the engine would make of it, with a look at `cancel` between them.
        for first in range(0, len(tokens), self._llama.n_batch):
            if self._cancel.is_set():
                raise _CancelledError
            self._run(tokens[first : first + self._llama.n_batch])
        # On a GPU the last piece may still be running; the prompt is read when it is done.
        self._engine.llama_synchronize(self._llama.ctx)
        self._sink.prompt(input_tokens=self._input_tokens, cached_tokens=self._input_tokens - len(tokens))
        self._prefilled = True

    def _run(self, tokens: Sequence[int]) -> None:
        try:
            self._eval(tokens)
        except (RuntimeError, ValueError) as error:
            raise engine_gave_up(error) from error


@contextmanager
def _watched_eval(llama: Any, stand_in: _Eval) -> Iterator[None]:
    # On the object and not by a subclass, so that a Llama which someone else made can be watched too.
    attributes = vars(llama)
    before = {"eval": attributes["eval"]} if "eval" in attributes else {}
    attributes["eval"] = stand_in
    try:
        yield
    finally:
        del attributes["eval"]
        attributes.update(before)
