"""Texts of an exact length in tokens, through whatever counts the model's tokens."""

import random
from collections.abc import Callable, Sequence

from telemetry.errors import RunnerError
from telemetry.runners.prompts.words import WORDS

# What fills up the last tokens, where no further word fits: nearly every tokenizer has a token for each.
_PIECES: tuple[str, ...] = (" a", " it", " of", " we", " no", *".,;!?", *"sxq7", " x", " 7")


class TextMaker:
    """Makes texts of English words, drawn by the seed: each prompt begins with another word, as far as they go.

    A text counts what `count_tokens` says of the whole of it, begin mark and chat template included. Counts need not
    grow with each word; they must only grow in the long run.
    """

    def __init__(self, count_tokens: Callable[[str], int], *, seed: int) -> None:
        self._count_tokens = count_tokens
        self._seed = seed
        draw = random.Random(f"first words {seed}")
        self._first = sorted(WORDS, key=lambda word: draw.random())
        self._around = 0  # tokens around a text, about
        self._per_word = 0.0  # tokens a word, about; 0: nothing has been counted yet

    def make(self, number: int, tokens: int) -> str:
        """Return the text of prompt `number`. Raises RunnerError when none of exactly so many tokens is found."""
        first = self._first[number % len(WORDS)]
        if not self._per_word:
            self._around, self._per_word = max(0, self._count_tokens(first) - 1), 1.0
        draw = random.Random(f"text {self._seed} {number}")
        words = [first, *draw.choices(WORDS, k=8 * tokens + 64)]  # no tokenizer makes so few tokens of so many
        text, is_whole = self._search(words, tokens)
        if is_whole:
            return text
        filled = self._fill_up(text, tokens)
        if filled is None:
            raise RunnerError(
                f"No text of exactly {tokens} tokens could be made for this model; '{first}' alone has "
                f"{self._count_tokens(first)}, with what the model puts around a text. Ask for another length."
            )
        return filled

    def _search(self, words: Sequence[str], tokens: int) -> tuple[str, bool]:
        """Return a text of the first words and whether it has so many tokens; else one word more would be too much."""
        low, at_low = 0, self._around
        high = len(words)
        while high - low > 1:
            kept = min(max(low + round((tokens - at_low) / self._per_word), low + 1), high - 1)
            text = " ".join(words[:kept])
            counted = self._count_tokens(text)
            if counted == tokens:
                return text, True
            if counted < tokens:
                low, at_low = kept, counted
            else:
                high = kept
            self._per_word = max(0.1, (counted - self._around) / kept)
        return " ".join(words[:low]), False

    def _fill_up(self, text: str, tokens: int) -> str | None:
        """Return the text with pieces behind it until it has so many tokens; None where they do not fit."""
        counted = before = -1
        while True:
            for piece in _PIECES:
                longer = (text + piece).strip()
                now = self._count_tokens(longer)
                if now == tokens:
                    return longer
                if counted <= now < tokens:  # a piece without a token of its own may let the next one have one
                    text, counted = longer, now
            if counted == before:
                return None
            before = counted
