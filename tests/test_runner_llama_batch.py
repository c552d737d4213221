"""llama.cpp with several sequences at once, on a model whose every token is known, and on a small real one."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chain_gguf import STORY, Chain, write_chain_gguf
from runner_contract import RecordingSink, RunnerContract, ask, ask_each, prompts_of

from telemetry.errors import UsageError
from telemetry.runners import LlamaRunner, Prompt, find_smollm2, open_llama

pytestmark = pytest.mark.engine

BEGINNINGS = ("Once", "Once upon a time small robots", "Once upon", "Once upon a time", "Once upon a")


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    return write_chain_gguf(tmp_path_factory.mktemp("model") / "chain.gguf")


@pytest.fixture
def runner(chain: Chain) -> Iterator[LlamaRunner]:
    runner = open_llama(chain.path, threads=1, context=512, batch_size=4)
    yield runner
    runner.close()


@pytest.fixture(scope="module")
def model() -> Path:
    path = find_smollm2()
    assert path is not None
    return path


def passes_of(monkeypatch: pytest.MonkeyPatch, *, broken: int | None = None) -> list[int]:
    """Return a list that gets the number of tokens of each pass from now on; pass `broken` (from 1) fails."""
    import llama_cpp

    passes: list[int] = []
    decode = llama_cpp.llama_decode

    def watched_decode(ctx: Any, batch: Any) -> int:
        passes.append(batch.n_tokens)
        return -3 if len(passes) == broken else decode(ctx, batch)

    monkeypatch.setattr(llama_cpp, "llama_decode", watched_decode)
    return passes


class TestBatches(RunnerContract):
    batch_size = 4
    refused = "Once " * 600  # more than one sequence may hold, less than all of them

    @pytest.fixture
    def runner(self, runner: LlamaRunner) -> LlamaRunner:
        return runner


def test_each_answer_of_a_batch_goes_to_its_own_end(chain: Chain, runner: LlamaRunner) -> None:
    ended, cut, stopped, shortest = ask_each(
        runner,
        [
            Prompt(text="Once", max_tokens=100),
            Prompt(text="Once upon a time small robots", max_tokens=7),
            Prompt(text="Once upon", max_tokens=100, stop=("they said",)),
            Prompt(text="Once upon a time", max_tokens=1),
        ],
    )
    assert (ended.finish_reason, ended.output_tokens, len(ended.token_ns)) == ("stop", chain.tokens_after(2), 42)
    assert f"Once{ended.text}" == STORY
    assert (cut.finish_reason, cut.output_tokens) == ("length", 7)
    assert cut.text == " measured joules for every word they said"
    assert (stopped.finish_reason, stopped.text) == ("stop", " a time small robots measured joules for every word ")
    assert (stopped.output_tokens, len(stopped.token_ns)) == (11, 11)
    assert (shortest.finish_reason, shortest.output_tokens, shortest.text) == ("length", 1, " small")
    assert [sink.input_tokens for sink in (ended, cut, stopped, shortest)] == [2, 7, 3, 5]


def test_the_prompts_are_read_together_and_each_pass_gives_every_unfinished_answer_a_token(
    runner: LlamaRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = passes_of(monkeypatch)
    sinks = ask_each(
        runner, [Prompt(text=text, max_tokens=wanted) for text, wanted in zip(BEGINNINGS, (3, 1, 5, 3, 2), strict=True)]
    )
    # Four prompts of 2, 7, 3 and 5 tokens, then the fifth, of 4, alone: more prompts than the batch holds.
    assert passes == [17, 3, 3, 1, 1, 4, 1]
    first_batch = sinks[:4]
    assert len({sink.stamps_ns[0] for sink in first_batch}) == 1
    for earlier, later in ((0, 1), (1, 2)):
        assert max(sink.token_ns[earlier] for sink in first_batch if len(sink.token_ns) > later) < min(
            sink.token_ns[later] for sink in first_batch if len(sink.token_ns) > later
        )


def test_the_engine_computes_as_many_tokens_as_we_count(runner: LlamaRunner) -> None:
    runner.reset()
    sinks = ask(runner, BEGINNINGS[:3], 100)  # a batch larger than the prompts
    counters = runner.counters()
    fed = sum((sink.input_tokens or 0) + len(sink.token_ns) - 1 for sink in sinks)
    assert counters.prompt_tokens + counters.decode_passes == fed == 12 + 42 + 37 + 41 - 3


def test_long_prompts_are_read_in_pieces_and_begin_to_answer_together(
    runner: LlamaRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = passes_of(monkeypatch)
    texts = ["Once " * 300 + "Once", "Once " * 400 + "upon", "Once"]
    sinks = ask(runner, texts, 2)
    inputs = [runner.count_tokens(text) for text in texts]
    assert [sink.input_tokens for sink in sinks] == inputs
    assert passes == [sum(inputs) - 512, 512, 3]
    assert [sink.text for sink in sinks] == [" upon a", " a time", " upon a"]


def test_a_cancel_cuts_the_reading_of_a_batch_between_two_pieces(
    runner: LlamaRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancel = threading.Event()
    passes = passes_of(monkeypatch)
    first = RecordingSink(lambda name: cancel.set() if name == "start" else None)
    sinks = [first, RecordingSink()]
    runner.generate(prompts_of(["Once " * 300, "Once " * 300], 2), sinks, cancel)
    assert passes == []
    for sink in sinks:
        assert sink.events == ["start", "end"]
        assert (sink.finish_reason, sink.output_tokens, sink.text) == ("cancelled", 0, "")


def test_an_engine_that_gives_up_fails_the_answers_under_way_and_no_later_batch(
    runner: LlamaRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes_of(monkeypatch, broken=3)
    answered, failed, failed_too, also_failed, later = ask_each(
        runner, [Prompt(text=text, max_tokens=wanted) for text, wanted in zip(BEGINNINGS, (2, 9, 9, 9, 3), strict=True)]
    )
    assert (answered.finish_reason, answered.output_tokens) == ("length", 2)
    for sink in (failed, failed_too, also_failed):
        assert sink.events == ["start", "prompt", "token", "token", "fail"]
        assert "llama_decode returned -3" in str(sink.error)
    assert (later.finish_reason, later.text) == ("length", " time small robots")


def test_a_prompt_that_is_too_long_leaves_the_rest_of_its_batch_alone(chain: Chain) -> None:
    runner = open_llama(chain.path, threads=1, context=8, batch_size=2)
    some, over, full = ask(
        runner,
        ["Once upon a", "Once upon a time small robots measured joules", "Once upon a time small robots measured"],
        100,
    )
    assert (some.finish_reason, some.input_tokens, some.output_tokens) == ("length", 4, 5)
    assert over.events == ["fail"]
    assert "has 9 tokens and the context holds 8" in str(over.error)
    assert (full.finish_reason, full.input_tokens, full.output_tokens) == ("length", 8, 1)
    assert [sink.events for sink in ask(runner, ["Once " * 20] * 2, 1)] == [["fail"]] * 2  # a batch of none
    runner.close()


def test_every_sequence_has_the_whole_context(chain: Chain) -> None:
    runner = open_llama(chain.path, threads=1, context=300, batch_size=3)
    sinks = ask(runner, ["Once " * 297 + "Once"] * 3, 100)  # with the begin mark 299 tokens
    assert [(sink.finish_reason, sink.input_tokens, sink.output_tokens) for sink in sinks] == [("length", 299, 2)] * 3
    runner.close()


def test_it_says_that_it_computes_batches(runner: LlamaRunner) -> None:
    about = runner.describe()
    assert (about.max_batch_size, about.settings["batch_size"], about.settings["context"]) == (4, 4, 512)
    assert about.settings["batch_tokens"] == 512


def test_without_a_context_each_sequence_has_what_the_model_was_trained_for(chain: Chain) -> None:
    runner = open_llama(chain.path, threads=1, context=0, batch_size=2)
    assert runner.describe().settings["context"] == 2048
    runner.close()


@pytest.mark.parametrize("size", [0, 257])
def test_a_batch_that_the_engine_cannot_have_is_refused(chain: Chain, size: int) -> None:
    with pytest.raises(UsageError, match=f"batch size is {size}, and llama.cpp computes 1 to 256"):
        open_llama(chain.path, batch_size=size)


def test_opening_and_computing_a_batch_print_nothing(chain: Chain, capfd: pytest.CaptureFixture[str]) -> None:
    runner = open_llama(chain.path, threads=1, context=64, batch_size=2)
    ask(runner, ["Once", ""], 3)
    runner.close()
    assert capfd.readouterr() == ("", "")


def test_a_fault_of_the_recording_is_not_taken_for_one_of_the_engine(runner: LlamaRunner) -> None:
    def break_down(name: str) -> None:
        if name == "token":
            raise ValueError("no space left")

    with pytest.raises(ValueError, match="no space left"):
        runner.generate(
            prompts_of(["Once", "Once"], 3), [RecordingSink(), RecordingSink(break_down)], threading.Event()
        )
    (sink,) = ask(runner, ["Once"], 100)
    assert sink.output_tokens == 42


def test_a_real_model_says_in_a_batch_what_it_says_alone(model: Path) -> None:
    # Of different lengths both ways, so that answers change their sequence while they are under way.
    prompts = [
        Prompt(text=text, max_tokens=wanted)
        for text, wanted in (
            ("The capital of France is", 20),
            ("Water boils at a temperature of", 6),
            ("My favourite colour is", 11),
            ("List three fruits:", 25),
            ("Two plus two", 3),
            ("The opposite of hot is", 12),
        )
    ]
    said: dict[int, list[tuple[str | None, str | None, int | None]]] = {}
    for batch_size in (1, 4):
        runner = open_llama(model, threads=1, context=128, batch_size=batch_size)
        runner.reset()
        sinks = ask_each(runner, prompts)
        said[batch_size] = [(sink.text, sink.finish_reason, sink.output_tokens) for sink in sinks]
        counters = runner.counters()
        fed = sum((sink.input_tokens or 0) + len(sink.token_ns) - 1 for sink in sinks)
        assert counters.prompt_tokens + counters.decode_passes == fed
        runner.close()
    assert said[4] == said[1]
    assert "Paris" in (said[4][0][0] or "")
