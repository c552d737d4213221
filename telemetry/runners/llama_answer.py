"""A prompt and its answer as llama.cpp's tokens, however many are computed at a time."""

import ctypes
from typing import Any

from telemetry.errors import RunnerError
from telemetry.model import FinishReason
from telemetry.runners.base import Prompt, RequestSink
from telemetry.runners.stopping import StopWatch


class Vocabulary:
    """A loaded model's tokens."""

    def __init__(self, engine: Any, llama: Any) -> None:
        self._engine = engine
        self._llama = llama
        self._vocab = engine.llama_model_get_vocab(llama.model)

    def ids(self, text: str) -> list[int]:
        """Split a prompt, as the engine's own completions do: special tokens spelt out in it are taken as such."""
        ids: list[int] = self._llama.tokenize(text.encode(), add_bos=True, special=True)
        return ids

    def piece(self, token: int) -> bytes:
        """Return what a token says. Not by the engine's own detokenize, which loses all beyond 32 bytes."""
        size = 32
        while True:
            buffer = ctypes.create_string_buffer(size)
            length = self._engine.llama_token_to_piece(self._vocab, token, buffer, size, 0, False)
            if length >= 0:
                return buffer.raw[:length]
            size = -length

    def ends_text(self, token: int) -> bool:
        """Return whether the model ends its answer with this token."""
        return bool(self._engine.llama_vocab_is_eog(self._vocab, token))


class Answer:
    """One answer under way: it tells the sink of each token and knows the last one.

    tokens: the prompt's, then those of the answer.
    context: tokens that prompt and answer may have together.
    Raises RunnerError for a prompt without tokens, and for one longer than the context.
    """

    def __init__(self, prompt: Prompt, sink: RequestSink, *, vocabulary: Vocabulary, context: int) -> None:
        self.sink = sink
        self.tokens = vocabulary.ids(prompt.text)
        self.input_tokens = len(self.tokens)
        if not self.tokens:
            raise RunnerError("The prompt has no tokens, and there is nothing to answer. Give it some text.")
        if self.input_tokens > context:
            raise RunnerError(
                f"The prompt has {self.input_tokens} tokens and the context holds {context}. "
                "Shorten the prompt or open the model with a larger context."
            )
        # The last token is sampled and never fed back, so it needs no place in the context.
        self._limit = min(self.input_tokens + prompt.max_tokens, context + 1)
        self._vocabulary = vocabulary
        self._watch = StopWatch(prompt.stop)

    def take(self, token: int, mono_ns: int) -> FinishReason | None:
        """Count a token that was sampled at `mono_ns`, and return why it is the last one, if it is."""
        self.sink.token(mono_ns)
        self.tokens.append(token)
        if self._vocabulary.ends_text(token) or self._watch.feed(self._vocabulary.piece(token)):
            return "stop"
        return "length" if len(self.tokens) == self._limit else None

    def end(self, mono_ns: int, reason: FinishReason) -> None:
        """Close the sink with all that was said."""
        self.sink.end(
            mono_ns,
            finish_reason=reason,
            output_tokens=len(self.tokens) - self.input_tokens,
            count_source="ids",
            text=self._watch.text,
        )
