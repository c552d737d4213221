"""Made texts: exactly as long as asked for, by real tokenizers and by odd ones, and drawn as asked for."""

import math
import statistics
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from chain_gguf import write_chain_gguf
from hypothesis import given
from hypothesis import strategies as st
from runner_contract import ask_each

from telemetry.errors import RunnerError
from telemetry.runners import StandInRunner, find_smollm2, open_llama, prompt_set
from telemetry.runners.prompts.words import WORDS

Count = Callable[[str], int]


class Counted:
    """A way to count that counts how often it was asked."""

    def __init__(self, count: Count) -> None:
        self.count, self.calls = count, 0

    def __call__(self, text: str) -> int:
        self.calls += 1
        return self.count(text)


def merged(text: str) -> int:
    """Count letters, of which some pairs are one: a longer text may have fewer tokens."""
    return len(text.replace("it", "_").replace("er", "_").replace(" s", "_").replace("t ", "_"))


# Each has a text for every length that is large enough.
ODD: dict[str, Count] = {
    "bytes": lambda text: len(text.encode()) + 1,
    "four letters a token": lambda text: math.ceil(len(text) / 4),
    "a template around": lambda text: 37 + len(text.split()),
    "pairs": merged,
    "a long word is four": lambda text: sum(4 if len(word) > 4 else 1 for word in text.split()),
    "twenty letters a token": lambda text: 1 + len(text) // 20,
}


@given(st.sampled_from(sorted(ODD)), st.integers(60, 3000), st.integers())
def test_a_text_has_exactly_the_tokens_that_were_asked_for(name: str, tokens: int, seed: int) -> None:
    count = Counted(ODD[name])
    (prompt,) = prompt_set({"input": tokens, "seed": seed}).make(count)
    assert ODD[name](prompt.text) == tokens
    assert prompt.text == prompt.text.strip()
    assert count.calls <= 40


@given(st.integers(1, 400), st.integers(1, 10), st.integers(0, 3))
def test_however_a_tokenizer_counts_a_text_is_exact_or_refused(tokens: int, step: int, around: int) -> None:
    def count(text: str) -> int:  # in steps, and falling back now and then
        return around + step * (len(text) // 5) - (len(text) % 7 == 3) * step

    with suppress(RunnerError):  # where it skips the length
        (prompt,) = prompt_set({"input": tokens}).make(count)
        assert count(prompt.text) == tokens


NEVER_3000: dict[str, Count] = {
    "constant": lambda text: 5,
    "odd": lambda text: 2 * len(text.split()) + 1,
    "a leap": lambda text: len(text.split()) + (9000 if len(text) > 300 else 0),
}


@pytest.mark.parametrize("name", NEVER_3000)
def test_a_length_that_no_text_has_is_refused_and_the_search_ends(name: str) -> None:
    counted = Counted(NEVER_3000[name])
    with pytest.raises(RunnerError, match="No text of exactly 3000 tokens"):
        prompt_set({"input": 3000}).make(counted)
    assert counted.calls < 200


def test_where_a_word_is_a_token_each_text_takes_one_try() -> None:
    counted = Counted(ODD["a template around"])
    prompt_set({"input": "uniform(60,900)", "n": 50}).make(counted)
    assert counted.calls <= 52  # and one to see what is around a text


@pytest.fixture(scope="module", params=["chain", "smollm2"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Count]:
    """Count as a model does: SentencePiece with a begin mark and few words, and BPE without."""
    path = find_smollm2() if request.param == "smollm2" else None
    path = path or write_chain_gguf(tmp_path_factory.mktemp("model") / "chain.gguf").path
    runner = open_llama(path, threads=1, context=64)
    yield runner.count_tokens
    runner.close()


@pytest.mark.engine
def test_real_tokenizers_count_what_was_asked_for_in_few_tries(tokenizer: Count) -> None:
    asked = prompt_set({"input": "lognormal(256,0.9,3,4000)", "n": 40})
    counted = Counted(tokenizer)
    prompts = asked.make(counted)
    assert [tokenizer(prompt.text) for prompt in prompts] == [draft.input for draft in asked.drafts]
    assert counted.calls < 12 * len(prompts)


def test_texts_are_words_no_two_begin_alike_and_the_seed_says_which() -> None:
    def texts(**asked: Any) -> list[str]:
        return [prompt.text for prompt in prompt_set({"n": 500, **asked}).make(StandInRunner().count_tokens)]

    made = texts(input=40)
    assert set(" ".join(made).split()) <= set(WORDS)
    assert len({text.split()[0] for text in made}) == 500
    assert all(len(set(text.split())) > 30 for text in made)
    assert made == texts(input=40)
    assert not set(made) & set(texts(input=40, seed=1))


def test_lengths_are_drawn_as_asked_for() -> None:
    def drawn(lengths: object, **beside: int) -> list[int]:
        return [int(draft.input) for draft in prompt_set({"input": lengths, "n": 4000, **beside}).drafts]

    assert set(drawn(7)) == {7}
    assert set(drawn("uniform(3,6)")) == {3, 4, 5, 6}
    logs = [math.log(length) for length in drawn("lognormal(500,0.6)")]
    assert math.exp(statistics.mean(logs)) == pytest.approx(500, rel=0.05)
    assert statistics.stdev(logs) == pytest.approx(0.6, rel=0.05)
    cut = drawn("lognormal(500,0.6,400,600)")
    assert (min(cut), max(cut)) == (400, 600)
    assert drawn("uniform(3,600)") == drawn("uniform(3,600)") != drawn("uniform(3,600)", seed=1)


def test_prompts_and_answers_are_drawn_apart() -> None:
    drafts = prompt_set({"input": "uniform(1,9)", "output": "uniform(1,9)", "n": 50}).drafts
    assert [draft.input for draft in drafts] != [draft.output for draft in drafts]


@pytest.mark.engine
def test_a_model_counts_the_made_prompts_when_it_answers_them(tmp_path: Path) -> None:
    runner = open_llama(write_chain_gguf(tmp_path / "chain.gguf").path, threads=1, context=512)
    try:
        asked = prompt_set({"input": "uniform(5,90)", "output": 2, "n": 6})
        sinks = ask_each(runner, asked.make(runner.count_tokens))
    finally:
        runner.close()
    assert [sink.input_tokens for sink in sinks] == [draft.input for draft in asked.drafts]
