"""The prompts that transformers computes together, and what becomes of each of them, step by step."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from telemetry.model import FinishReason
from telemetry.runners.base import Prompt, RequestSink

Decode = Callable[[Sequence[int]], str]


class Row:
    """One prompt of a batch and its answer so far; `limit` is the most tokens that it may have."""

    def __init__(self, prompt: Prompt, sink: RequestSink, input_ids: list[int], limit: int, decode: Decode) -> None:
        self.sink = sink
        self.input_ids = input_ids
        self.limit = limit
        self.output: list[int] = []
        self.ended = False
        self._stop = prompt.stop
        # A token that counts says a byte or more, and a character of up to 4 may have begun before.
        self._stop_tokens = max((len(stop.encode()) for stop in prompt.stop), default=0) + 4
        self._decode = decode

    def take(self, token: int, mono_ns: int) -> None:
        """Add one token, the first of which says that the prompt has been read."""
        if not self.output:
            self.sink.prompt(input_tokens=len(self.input_ids), cached_tokens=0)
        self.output.append(token)
        self.sink.token(mono_ns)

    def end_if_done(self, eos_ids: frozenset[int], *, cancelled: bool) -> None:
        """End the answer if its last token was the last."""
        reason: FinishReason | None = None
        if self.output[-1] in eos_ids or self._says_stop():
            reason = "stop"
        elif len(self.output) == self.limit:
            reason = "length"
        elif cancelled:
            reason = "cancelled"
        if reason is not None:
            self.end(reason)

    def end(self, reason: FinishReason) -> None:
        """Tell the sink that the answer is over."""
        ended_ns = time.monotonic_ns()
        self.ended = True
        text = self._text(self.input_ids, self.output)
        for stop in self._stop:
            text = text.partition(stop)[0]
        self.sink.end(
            ended_ns, finish_reason=reason, output_tokens=len(self.output), count_source="ids", text=text
        )  # fmt: skip

    def _says_stop(self) -> bool:
        if not self._stop:
            return False
        first = max(0, len(self.output) - self._stop_tokens)
        before = self.output[first - 1 : first] or self.input_ids[-1:]
        text = self._text(before, self.output[first:])
        return any(stop in text for stop in self._stop)

    def _text(self, before: Sequence[int], ids: Sequence[int]) -> str:
        # Together with what stands before them: some tokenizers drop the blank at a text's beginning.
        return self._decode([*before, *ids])[len(self._decode(before)) :]


class StepCriteria:
    """What `generate` asks after each decoding step, with the ids just sampled, whether the rows are done.

    Copying the ids to the host waits for the device, so the stamp after it is true; it is the wait that
    `generate` makes at each step anyway. `synchronize` is called before the first, or before each, stamp.
    """

    def __init__(
        self,
        torch: Any,
        rows: Sequence[Row],
        eos_ids: frozenset[int],
        cancel: threading.Event,
        *,
        synchronize: Callable[[], None],
        every_step: bool,
    ) -> None:
        self._torch = torch
        self._rows = rows
        self._eos_ids = eos_ids
        self._cancel = cancel
        self._synchronize = synchronize
        self._every_step = every_step
        self.steps = 0

    def __call__(self, input_ids: Any, _scores: Any, **_named: Any) -> Any:
        tokens: list[int] = input_ids[:, -1].tolist()
        if self._every_step or self.steps == 0:
            self._synchronize()
        mono_ns = time.monotonic_ns()
        self.steps += 1
        under_way = [(row, token) for row, token in zip(self._rows, tokens, strict=True) if not row.ended]
        for row, token in under_way:
            row.take(token, mono_ns)
        cancelled = self._cancel.is_set()
        for row, _ in under_way:
            row.end_if_done(self._eos_ids, cancelled=cancelled)
        return self._torch.tensor([row.ended for row in self._rows], device=input_ids.device)
