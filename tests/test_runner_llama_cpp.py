"""The llama.cpp runner on a model whose every token is known, and on a small real one."""

import ctypes
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from chain_gguf import STORY, Chain, write_chain_gguf
from runner_contract import RecordingSink, RunnerContract, ask, ask_each, prompts_of

from telemetry.errors import RunnerError
from telemetry.runners import LlamaRunner, Prompt, find_smollm2, open_llama

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    return write_chain_gguf(tmp_path_factory.mktemp("model") / "chain.gguf")


@pytest.fixture
def runner(chain: Chain) -> Iterator[LlamaRunner]:
    runner = open_llama(chain.path, threads=1, context=512)
    yield runner
    runner.close()


def logged_to() -> tuple[int | None, int | None]:
    """Return where the engine's log goes now."""
    import llama_cpp

    callback, data = llama_cpp.llama_log_callback(), ctypes.c_void_p()
    llama_cpp.llama_log_get(ctypes.byref(callback), ctypes.byref(data))
    return ctypes.cast(callback, ctypes.c_void_p).value, data.value


class TestLlamaRunner(RunnerContract):
    refused = "Once " * 600  # more than the context holds

    @pytest.fixture
    def runner(self, runner: LlamaRunner) -> LlamaRunner:
        return runner


def test_the_story_is_told_to_its_end_and_the_end_is_counted(chain: Chain, runner: LlamaRunner) -> None:
    (sink,) = ask(runner, ["Once"], 100)
    assert chain.tokens_after(2) == 42
    assert (sink.finish_reason, sink.output_tokens, len(sink.token_ns)) == ("stop", 42, 42)
    assert f"Once{sink.text}" == STORY  # with é🔋, six tokens, and a word of more than 32 bytes
    assert (sink.input_tokens, sink.cached_tokens) == (2, 0)


def test_each_prompt_is_answered_from_where_it_stands_in_the_story(chain: Chain, runner: LlamaRunner) -> None:
    one, two = ask(runner, ["Once upon a time", "Once upon a time small robots"], 100)
    assert (one.output_tokens, two.output_tokens) == (chain.tokens_after(5), chain.tokens_after(7))
    assert (two.input_tokens, two.cached_tokens) == (7, 0)  # though it shares five tokens with the first
    assert f"Once upon a time small robots{two.text}" == STORY


def test_the_last_token_allowed_may_be_the_end_of_the_text(runner: LlamaRunner) -> None:
    (at_the_end,) = ask(runner, ["Once"], 42)
    (before_it,) = ask(runner, ["Once"], 41)
    assert (at_the_end.finish_reason, before_it.finish_reason) == ("stop", "length")
    assert at_the_end.text == before_it.text


def test_a_text_cut_inside_a_character_says_so_and_keeps_the_rest(chain: Chain, runner: LlamaRunner) -> None:
    up_to_half_of_the_battery = STORY.split().index("café🔋") - 1 + len(" caf") + 2 + 2
    (sink,) = ask(runner, ["Once"], up_to_half_of_the_battery)
    assert sink.text is not None
    assert sink.text.endswith("came and café\N{REPLACEMENT CHARACTER}")


def test_a_stop_string_ends_the_answer_with_the_token_that_completes_it(runner: LlamaRunner) -> None:
    across_tokens, in_the_first, in_a_character, none = ask_each(
        runner,
        [
            Prompt(text="Once", max_tokens=100, stop=("never", "ime sma")),
            Prompt(text="Once", max_tokens=100, stop=("on",)),
            Prompt(text="Once", max_tokens=100, stop=("🔋 dreams",)),
            Prompt(text="Once", max_tokens=100, stop=("Once",)),
        ],
    )
    assert (across_tokens.finish_reason, across_tokens.text) == ("stop", " upon a t")
    assert (across_tokens.output_tokens, len(across_tokens.token_ns)) == (4, 4)  # upon, a, time, small
    assert (in_the_first.finish_reason, in_the_first.text, in_the_first.output_tokens) == ("stop", " up", 1)
    assert (in_a_character.finish_reason, in_a_character.text) == ("stop", STORY[len("Once") : STORY.index("🔋")])
    assert (none.finish_reason, f"Once{none.text}", none.output_tokens) == ("stop", STORY, 42)  # by the model's end


def test_it_counts_tokens_as_it_does_those_of_a_prompt(runner: LlamaRunner, smollm2: LlamaRunner) -> None:
    for text in ("Once upon a time", "</s>Once é🔋", ""):
        (sink,) = ask(runner, [text], 1)
        assert runner.count_tokens(text) == sink.input_tokens
    assert runner.count_tokens("Once " * 600) > 512
    assert smollm2.count_tokens("") == 0


def test_the_context_bounds_prompt_and_answer_together(chain: Chain) -> None:
    runner = open_llama(chain.path, threads=1, context=8)
    some, full, over = ask(
        runner,
        [
            "Once upon a",
            "Once upon a time small robots measured",
            "Once upon a time small robots measured joules",
        ],
        100,
    )
    # The last token is never fed back: n tokens of answer take n − 1 places.
    assert (some.finish_reason, some.input_tokens, some.output_tokens) == ("length", 4, 5)
    assert (full.finish_reason, full.input_tokens, full.output_tokens) == ("length", 8, 1)
    assert over.events == ["fail"]
    assert "has 9 tokens and the context holds 8" in str(over.error)
    assert runner.describe().settings["context"] == 8
    runner.close()


def test_it_says_what_is_in_effect(chain: Chain) -> None:
    import llama_cpp

    runner = open_llama(chain.path, threads=1, context=512, seed=0)
    info = runner.describe()
    assert (info.runner, info.model, info.quantisation) == ("llama_cpp", "chain", "F16")
    assert (info.model_file, info.max_batch_size) == (chain.path, 1)
    assert info.engine_version == f"llama-cpp-python {llama_cpp.__version__}"
    assert info.settings == {
        "threads": 1,
        "gpu_layers": -1 if llama_cpp.llama_supports_gpu_offload() else 0,
        "context": 512,
        "batch_size": 1,
        "batch_tokens": 512,
        "temperature": 0.0,
        "seed": 0,
    }
    runner.close()


@pytest.mark.parametrize(
    ("file", "quantisation"), [("tale-8B.Q5_K_M", "Q5_K_M"), ("tale-iq2_xs", "IQ2_XS"), ("tale", None)]
)
def test_a_file_that_does_not_name_itself_goes_by_its_file_name(
    tmp_path: Path, file: str, quantisation: str | None
) -> None:
    runner = open_llama(write_chain_gguf(tmp_path / f"{file}.gguf", name=None).path, threads=1)
    info = runner.describe()
    assert (info.model, info.quantisation) == (file, quantisation)
    runner.close()


def test_a_truncated_file_is_refused_with_the_engines_own_reason(chain: Chain, tmp_path: Path) -> None:
    content = chain.path.read_bytes()
    path = tmp_path / "half.gguf"
    logged_before = logged_to()
    for kept, reason in (
        (100, "failed to read|exceeds remaining"),
        (len(content) - 4096, "not within the file"),
    ):
        path.write_bytes(content[:kept])
        with pytest.raises(RunnerError, match=rf"half\.gguf cannot be loaded: .*({reason})"):
            open_llama(path)
    assert logged_to() == logged_before


def test_loading_and_generating_print_nothing(chain: Chain, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(chain.path.read_bytes()[:1000])
    with pytest.raises(RunnerError):
        open_llama(damaged)
    runner = open_llama(chain.path, threads=1)
    ask(runner, ["Once", ""], 3)
    runner.close()
    assert capfd.readouterr() == ("", "")


def test_layers_are_not_silently_left_off_a_gpu(chain: Chain) -> None:
    import llama_cpp

    if llama_cpp.llama_supports_gpu_offload():
        pytest.skip("this engine has a GPU")
    with pytest.raises(RunnerError, match="1 layers were asked onto the GPU"):
        open_llama(chain.path, gpu_layers=1)


@pytest.fixture
def foreign(chain: Chain) -> Iterator[Any]:
    import llama_cpp

    llama = llama_cpp.Llama(str(chain.path), n_ctx=512, n_batch=4, n_threads=1, n_threads_batch=1, verbose=False)
    yield llama
    llama.close()


def test_a_wrapped_llama_is_left_as_it_was_and_open(foreign: Any) -> None:
    attributes = set(vars(foreign))
    runner = LlamaRunner.wrap(foreign)
    answered, refused = ask(runner, ["Once", "Once " * 600], 100)
    runner.close()
    assert answered.output_tokens == 42
    assert refused.events == ["fail"]
    assert set(vars(foreign)) - attributes <= {"_sampler"}  # which any generation leaves behind
    assert foreign.create_completion("Once", max_tokens=2, temperature=0)["choices"][0]["text"] == " upon a"


def test_a_wrapped_llama_keeps_an_eval_of_its_owners(foreign: Any) -> None:
    evaluated: list[int] = []
    inner = foreign.eval

    def eval_of_the_owner(tokens: Sequence[int]) -> None:
        evaluated.append(len(tokens))
        inner(tokens)

    foreign.eval = eval_of_the_owner
    (sink,) = ask(LlamaRunner.wrap(foreign), ["Once upon a time small"], 3)
    assert evaluated == [
        4,
        2,
        1,
        1,
    ]  # six tokens of prompt in pieces of four, then one pass a token but the last
    assert (sink.input_tokens, sink.cached_tokens) == (6, 0)
    assert foreign.eval is eval_of_the_owner


def test_a_cancel_cuts_a_long_prompt_between_two_pieces(foreign: Any) -> None:
    cancel = threading.Event()
    inner = foreign.eval
    pieces: list[int] = []

    def cancel_in_the_second_piece(tokens: Sequence[int]) -> None:
        inner(tokens)
        pieces.append(len(tokens))
        if len(pieces) == 2:
            cancel.set()

    foreign.eval = cancel_in_the_second_piece
    (sink,) = ask(LlamaRunner.wrap(foreign), ["Once " * 100], 3, cancel)
    assert pieces == [4, 4]
    assert sink.events == ["start", "end"]
    assert (sink.finish_reason, sink.output_tokens, sink.text) == ("cancelled", 0, "")


def test_an_engine_that_gives_up_fails_the_prompt_and_keeps_its_tokens(foreign: Any) -> None:
    inner = foreign.eval
    passes: list[int] = []

    def give_up_at_the_third_pass(tokens: Sequence[int]) -> None:
        passes.append(len(tokens))
        if len(passes) == 3:
            raise RuntimeError("llama_decode returned -3")
        inner(tokens)

    foreign.eval = give_up_at_the_third_pass
    failed, answered = ask(LlamaRunner.wrap(foreign), ["Once", "Once"], 3)
    assert failed.events == ["start", "prompt", "token", "token", "fail"]
    assert "llama_decode returned -3" in str(failed.error)
    assert answered.output_tokens == 3
    assert foreign.eval is give_up_at_the_third_pass


def test_a_fault_of_the_recording_is_not_taken_for_one_of_the_engine(runner: LlamaRunner) -> None:
    def break_down(name: str) -> None:
        if name == "prompt":
            raise ValueError("no space left")

    with pytest.raises(ValueError, match="no space left"):
        runner.generate(prompts_of(["Once"], 3), [RecordingSink(break_down)], threading.Event())
    (sink,) = ask(runner, ["Once"], 100)
    assert sink.output_tokens == 42


@pytest.fixture(scope="module")
def smollm2() -> Iterator[LlamaRunner]:
    path = find_smollm2()
    assert path is not None
    runner = open_llama(path, threads=1, context=256)
    yield runner
    runner.close()


def test_a_real_model_answers_and_the_engine_counts_as_we_do(smollm2: LlamaRunner) -> None:
    smollm2.reset()
    sinks = ask(smollm2, ["The capital of France is", "Water boils at a temperature of"], 10)
    assert "Paris" in (sinks[0].text or "")
    counters = smollm2.counters()
    assert counters.prompt_tokens == sum(sink.input_tokens or 0 for sink in sinks) > 2
    assert counters.decode_passes == sum(len(sink.token_ns) - 1 for sink in sinks)
    assert counters.prompt_s > 0
    assert counters.decode_s > 0


def test_reset_sets_the_engines_counters_back(smollm2: LlamaRunner) -> None:
    ask(smollm2, ["The capital of France is"], 4)
    smollm2.reset()
    ask(smollm2, ["The capital of Italy is"], 4)
    assert (smollm2.counters().prompt_tokens, smollm2.counters().decode_passes) == (5, 3)


def test_a_model_without_a_first_token_refuses_an_empty_prompt(smollm2: LlamaRunner) -> None:
    (sink,) = ask(smollm2, [""], 4)
    assert sink.events == ["fail"]
    assert "The prompt has no tokens" in str(sink.error)


def test_a_real_model_says_its_quantisation(smollm2: LlamaRunner) -> None:
    assert smollm2.describe().quantisation == "Q4_1"
