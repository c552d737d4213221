"""Several prompts computed together: one context of llama.cpp with a sequence for each of them.

The batches are static: the prompts of one are read together, then every pass gives each unfinished answer
one token, and nothing takes the place of an answer that has ended.
"""

import itertools
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from telemetry.errors import RunnerError
from telemetry.runners.llama_answer import Answer
from telemetry.runners.llama_engine import engine_gave_up

PIECE_TOKENS = 512  # that one call of the engine takes at most, as llama-cpp-python has it


class LlamaBatch:
    """A context of its own over the model of a `Llama`, with `context` tokens for each of `size` sequences.

    Raises RunnerError when there is no memory for it.
    """

    def __init__(self, engine: Any, llama: Any, *, size: int, context: int) -> None:
        params = type(llama.context_params).from_buffer_copy(llama.context_params)
        params.n_ctx = size * context
        params.n_batch = params.n_ubatch = PIECE_TOKENS
        params.n_seq_max = size
        # Each sequence looks at its own cells only. With one buffer for all of them, a pass over 8 sequences of
        # 400 tokens took 1.8 times as long.
        params.kv_unified = False
        self.ctx = engine.llama_init_from_model(llama.model, params)
        if not self.ctx:
            raise RunnerError(
                f"llama.cpp made no context for {size} sequences of {context} tokens each. "
                "Take a smaller batch, or a smaller context if memory is short."
            )
        self.size = size
        self.context = context
        self.piece_tokens = int(engine.llama_n_batch(self.ctx))
        self._engine = engine
        self._memory = engine.llama_get_memory(self.ctx)
        self._tokens = engine.llama_batch_init(self.piece_tokens, 0, 1)
        self._sampler = engine.llama_sampler_init_greedy()
        self._freeing = ExitStack()
        self._freeing.callback(engine.llama_free, self.ctx)
        self._freeing.callback(engine.llama_batch_free, self._tokens)
        self._freeing.callback(engine.llama_sampler_free, self._sampler)

    def answer(self, answers: Sequence[Answer], cancel: threading.Event) -> None:
        """Compute at most `size` answers together, each to its own end, or all of them to the cancel.

        When the engine gives up, those under way fail.
        """
        # Row i is sequence i. The engine splits what it is given wherever a number is left out, so rows are kept
        # without gaps; while prompts are read, it does so where the shorter ones end, so they come last.
        rows = sorted(answers, key=lambda answer: answer.input_tokens, reverse=True)
        self.clear()
        started_ns = time.monotonic_ns()
        for row in rows:
            row.sink.start(started_ns)
        try:
            if self._prefill(rows, cancel):
                while self._take_tokens(rows) and not cancel.is_set():
                    self._compute(_last_tokens(rows), wanted=len(rows))
        except RunnerError as error:
            for row in rows:
                row.sink.fail(time.monotonic_ns(), error)
            return
        for row in rows:
            row.end(time.monotonic_ns(), "cancelled")

    def clear(self) -> None:
        """Forget all sequences."""
        self._engine.llama_memory_clear(self._memory, True)

    def close(self) -> None:
        """Free the context. Safe to call twice; to be called before the model is freed."""
        self._freeing.close()

    def _prefill(self, rows: Sequence[Answer], cancel: threading.Event) -> bool:
        """Read the prompts, and return False if the cancel came between two pieces."""
        beginnings = [
            (token, position, sequence)
            for sequence, row in enumerate(rows)
            for position, token in enumerate(row.tokens[:-1])
        ]
        tokens = beginnings + _last_tokens(rows)
        # The first piece is the short one, so that the last one has the last tokens of all prompts.
        first_end = (len(tokens) - 1) % self.piece_tokens + 1
        for begin, end in itertools.pairwise([0, *range(first_end, len(tokens) + 1, self.piece_tokens)]):
            if cancel.is_set():
                return False
            self._compute(tokens[begin:end], wanted=len(rows) if end == len(tokens) else 0)
        for row in rows:
            row.sink.prompt(input_tokens=row.input_tokens, cached_tokens=0)
        return True

    def _take_tokens(self, rows: list[Answer]) -> bool:
        """Sample a token for each row, let go of the rows that end with it, and return whether any is left."""
        first = self._tokens.n_tokens - len(rows)
        sampled = [
            (self._engine.llama_sampler_sample(self._sampler, self.ctx, first + row), time.monotonic_ns())
            for row in range(len(rows))
        ]
        for row in reversed(range(len(rows))):  # so that the last row, which takes a free place, has been dealt with
            if reason := rows[row].take(*sampled[row]):
                rows[row].end(time.monotonic_ns(), reason)
                last = rows.pop()
                if row < len(rows):
                    self._engine.llama_memory_seq_cp(self._memory, len(rows), row, -1, -1)
                    rows[row] = last
        return bool(rows)

    def _compute(self, tokens: Sequence[tuple[int, int, int]], *, wanted: int) -> None:
        """Feed (token, position, sequence), and keep the logits of the last `wanted` of them."""
        batch = self._tokens
        batch.n_tokens = len(tokens)
        for place, (token, position, sequence) in enumerate(tokens):
            batch.token[place] = token
            batch.pos[place] = position
            batch.n_seq_id[place] = 1
            batch.seq_id[place][0] = sequence
            batch.logits[place] = place >= len(tokens) - wanted
        code = self._engine.llama_decode(self.ctx, batch)
        if code:
            raise engine_gave_up(f"llama_decode returned {code}")
        self._engine.llama_synchronize(self.ctx)


def _last_tokens(rows: Sequence[Answer]) -> list[tuple[int, int, int]]:
    return [(row.tokens[-1], len(row.tokens) - 1, sequence) for sequence, row in enumerate(rows)]
