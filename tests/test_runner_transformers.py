"""The transformers runner on a model whose every token is known, and on one that minds what it read."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from chain_gguf import STORY
from chain_hf import CONTEXT, ChainFolder, write_chain_hf, write_random_hf
from runner_contract import RecordingSink, RunnerContract, ask, ask_each, prompts_of

from telemetry.errors import RunnerError, UsageError
from telemetry.runners import Padding, Prompt, TransformersRunner, open_transformers

pytestmark = pytest.mark.engine("transformers")


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> ChainFolder:
    return write_chain_hf(tmp_path_factory.mktemp("model") / "chain")


@pytest.fixture(scope="module")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_hf(tmp_path_factory.mktemp("model") / "random")


@pytest.fixture
def runner(chain: ChainFolder) -> Iterator[TransformersRunner]:
    """Answers three prompts at a time."""
    runner = open_transformers(chain.path, threads=1, batch_size=3)
    yield runner
    runner.close()


@pytest.fixture
def loaded(chain: ChainFolder) -> tuple[Any, Any]:
    """A model and its tokenizer that someone else loaded."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(chain.path), AutoTokenizer.from_pretrained(chain.path)


class TestOneByOne(RunnerContract):
    @pytest.fixture
    def runner(self, chain: ChainFolder) -> Iterator[TransformersRunner]:
        runner = open_transformers(chain.path, threads=1)
        yield runner
        runner.close()


class TestInBatches(RunnerContract):
    batch_size = 3
    refused = "Once " * (CONTEXT + 1)  # more than the context holds

    @pytest.fixture
    def runner(self, runner: TransformersRunner) -> TransformersRunner:
        return runner


def test_the_rows_of_a_batch_have_their_tokens_at_the_same_times(runner: TransformersRunner) -> None:
    one, other, third, next_batch = ask(runner, ["Once upon a time", "Once", "then sleep", "Once"], 5)
    for sink in (other, third):
        assert (sink.stamps_ns[0], sink.token_ns) == (one.stamps_ns[0], one.token_ns)
    assert len(set(one.token_ns)) == 5
    assert next_batch.stamps_ns[0] > one.token_ns[-1]


def test_a_cancel_that_comes_with_the_last_rows_token_ends_the_first_row_there_too(runner: TransformersRunner) -> None:
    cancel = threading.Event()
    last = RecordingSink(lambda name: cancel.set() if name == "token" else None)
    first = RecordingSink()
    runner.generate(prompts_of(["Once", "Once upon"], 8), [first, last], cancel)
    assert [(sink.finish_reason, sink.output_tokens) for sink in (first, last)] == [("cancelled", 1)] * 2


def test_the_rows_of_a_batch_end_each_at_its_own_token(chain: ChainFolder, runner: TransformersRunner) -> None:
    prompts = [
        Prompt(text="Once", max_tokens=100),  # to the end of the text
        Prompt(text="Once upon a time", max_tokens=7),
        Prompt(text="Once upon", max_tokens=100, stop=("joules for", "small robots")),
    ]
    whole, cut, stopped = ask_each(runner, prompts)
    assert (whole.finish_reason, whole.output_tokens) == ("stop", len(chain.story) - 1)
    assert f"Once{whole.text}" == STORY  # with é🔋, six tokens
    assert (cut.finish_reason, cut.output_tokens) == ("length", 7)
    assert cut.text == " small robots measured joules for every word"
    assert (stopped.finish_reason, stopped.output_tokens, stopped.text) == ("stop", 4, " a time ")
    assert [sink.input_tokens for sink in (whole, cut, stopped)] == [1, 4, 2]
    assert [len(sink.token_ns) for sink in (whole, cut, stopped)] == [len(chain.story) - 1, 7, 4]
    assert cut.token_ns == whole.token_ns[:7]


def test_counts_are_those_of_the_ids_that_generate_returns(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    returned: list[list[int]] = []
    generate = model.generate

    def kept(**arguments: Any) -> Any:
        returned.extend((ids := generate(**arguments))[:, arguments["input_ids"].shape[1] :].tolist())
        return ids

    model.generate = kept
    runner = TransformersRunner.wrap(model, tokenizer, batch_size=4)
    prompts = [
        Prompt(text="then sleep", max_tokens=100),
        Prompt(text="Once", max_tokens=100, stop=("fé🔋", "e")),
        Prompt(text="Once upon a time", max_tokens=9),
        Prompt(text="Once upon a", max_tokens=100),
    ]
    sinks = ask_each(runner, prompts)
    pad = tokenizer.eos_token_id
    for sink, ids in zip(sinks, returned, strict=True):
        assert sink.output_tokens is not None
        assert set(ids[sink.output_tokens :]) <= {pad}  # what follows an end was computed, and is no token
        assert pad not in ids[: sink.output_tokens - 1]
    assert [sink.output_tokens for sink in sinks] == [17, 3, 9, 39]
    assert runner.padding() == Padding(prompt_tokens=2 + 3 + 1, decode_tokens=(39 - 17) + (39 - 3) + (39 - 9))
    runner.reset()
    assert runner.padding() == Padding(prompt_tokens=0, decode_tokens=0)


def test_a_prompt_is_answered_in_a_batch_as_it_is_alone(random_model: Path) -> None:
    prompts = ["Once", "Once upon a time small robots", "then sleep came and", "by day", "Once"]
    together = open_transformers(random_model, threads=1, batch_size=3)
    alone = open_transformers(random_model, threads=1)
    answers = [sink.text for sink in ask(together, prompts, 20)]
    assert answers == [sink.text for sink in ask(alone, prompts, 20)]
    assert len(set(answers)) == 4


def test_decoding_is_greedy_whatever_the_models_settings_ask_for(random_model: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(random_model), AutoTokenizer.from_pretrained(random_model)
    ids = list(tokenizer("then sleep came").input_ids)
    read = len(ids)
    with torch.no_grad():
        for _ in range(20):
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    (sink,) = ask(TransformersRunner.wrap(model, tokenizer), ["then sleep came"], 20)
    assert sink.text == tokenizer.decode(ids[read:], skip_special_tokens=True)
    assert model.generation_config.do_sample


def test_a_model_that_breaks_fails_its_batch_and_keeps_the_tokens_that_came(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    runner = TransformersRunner.wrap(model, tokenizer, batch_size=2)
    passes = 0

    def break_at_the_fourth(*_: Any) -> None:
        nonlocal passes
        passes += 1
        if passes == 4:
            raise RuntimeError("out of memory\nwith a long story")

    hook = model.register_forward_pre_hook(break_at_the_fourth)
    ended, broken, whole = ask_each(
        runner,
        [
            Prompt(text="Once", max_tokens=2),
            Prompt(text="Once upon", max_tokens=9),
            Prompt(text="Once", max_tokens=9),
        ],
    )
    hook.remove()
    assert (ended.finish_reason, ended.output_tokens) == ("length", 2)
    assert broken.events == ["start", "prompt", "token", "token", "token", "fail"]
    assert str(broken.error) == (
        "The engine gave up on the batch: out of memory. Try a smaller batch or a shorter prompt."
    )
    assert (whole.finish_reason, whole.output_tokens) == ("length", 9)


def test_an_answer_that_generate_leaves_unfinished_fails(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    model.generation_config.max_time = 0.0
    (sink,) = ask(TransformersRunner.wrap(model, tokenizer), ["Once"], 9)
    assert sink.events == ["start", "prompt", "token", "fail"]
    assert "before the answer had ended" in str(sink.error)


def test_the_context_bounds_prompt_and_answer_together(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    model.config.max_position_embeddings = 8
    runner = TransformersRunner.wrap(model, tokenizer, batch_size=4)
    some, full, over = ask(
        runner,
        [
            "Once upon a time",
            "Once upon a time small robots measured joules",
            "Once upon a time small robots measured joules for",
        ],
        100,
    )
    # The last token is never fed back: n tokens of answer take n − 1 places.
    assert (some.finish_reason, some.input_tokens, some.output_tokens) == ("length", 4, 5)
    assert (full.finish_reason, full.input_tokens, full.output_tokens) == ("length", 8, 1)
    assert over.events == ["fail"]
    assert "has 9 tokens and the context holds 8" in str(over.error)
    # Together they would have needed 8 + 5 − 1 places, so they were computed apart and nothing was padded.
    assert runner.padding() == Padding(prompt_tokens=0, decode_tokens=0)
    cancel = threading.Event()
    sink, apart = RecordingSink(lambda name: cancel.set()), RecordingSink()
    runner.generate(prompts_of(["Once upon a time", "Once"], 100), [sink, apart], cancel)
    assert (sink.output_tokens, apart.events) == (1, ["end"])


@pytest.mark.parametrize(
    ("stop", "tokens", "text"),
    [
        ("caf", 5, " came and "),
        ("é", 7, " came and caf"),  # two tokens are one character
        ("nd ca", 4, " came a"),
        ("\N{BATTERY} dr", 12, " came and café"),
        ("sleep", 17, " came and café\N{BATTERY} dreams refilled them all ."),  # the prompt's own words are no stop
    ],
)
def test_a_stop_string_ends_the_answer_wherever_tokens_begin(
    runner: TransformersRunner, stop: str, tokens: int, text: str
) -> None:
    (sink,) = ask_each(runner, [Prompt(text="then sleep", max_tokens=100, stop=(stop,))])
    assert (sink.finish_reason, sink.output_tokens, sink.text) == ("stop", tokens, text)


def test_what_is_counted_beforehand_is_what_is_read(runner: TransformersRunner) -> None:
    prompt = "Once upon a café\N{BATTERY}"
    (sink,) = ask(runner, [prompt], 1)
    assert runner.count_tokens(prompt) == sink.input_tokens == 12


def test_a_prompt_with_a_time_of_its_own_is_refused(runner: TransformersRunner) -> None:
    due = replace(Prompt(text="Once", max_tokens=1), due_s=1.5)
    with pytest.raises(UsageError, match=r"due 1\.5 s after the start"):
        ask_each(runner, [due])


def test_it_says_what_is_in_effect(chain: ChainFolder, loaded: tuple[Any, Any]) -> None:
    import torch
    import transformers

    runner = open_transformers(chain.path, threads=1, batch_size=3, dtype="bfloat16", device="cpu")
    info = runner.describe()
    assert (info.runner, info.model, info.quantisation) == ("transformers", "chain", "bfloat16")
    assert info.engine_version == f"transformers {transformers.__version__}, torch {torch.__version__}"
    assert (info.max_batch_size, info.model_file) == (3, chain.path)
    assert info.settings == {
        "revision": None,
        "device": "cpu",
        "dtype": "bfloat16",
        "attention": "sdpa",
        "threads": 1,
        "batch_size": 3,
        "context": CONTEXT,
        "sync": False,
        "temperature": 0.0,
        "seed": 0,
    }
    model, tokenizer = loaded
    model.config.quantization_config = {"quant_method": "gptq", "bits": 4}
    model.config._name_or_path = "someone/tale-8b"
    wrapped = TransformersRunner.wrap(model, tokenizer).describe()
    assert (wrapped.model, wrapped.quantisation, wrapped.model_file) == ("someone/tale-8b", "gptq 4-bit", None)
    model.config._name_or_path = ""
    nameless = TransformersRunner.wrap(model, tokenizer).describe()
    assert (nameless.model, nameless.model_file) == (type(model).__name__, None), "and not the folder we are in"


def test_what_cannot_be_opened_is_refused_with_a_sentence(chain: ChainFolder, tmp_path: Path) -> None:
    import torch

    with pytest.raises(UsageError, match="no folder"):
        open_transformers(tmp_path / "nowhere")
    with pytest.raises(RunnerError, match=r"cannot be loaded: .*\. Give a folder"):
        open_transformers(tmp_path)
    with pytest.raises(UsageError, match="dtype is 'float3'"):
        open_transformers(chain.path, dtype="float3")
    with pytest.raises(UsageError, match="device is 'toaster'"):
        open_transformers(chain.path, device="toaster")
    with pytest.raises(RunnerError, match=f"sees {torch.cuda.device_count()} CUDA devices"):
        open_transformers(chain.path, device="cuda:99")
    with pytest.raises(UsageError, match="at least 1 prompt"):
        open_transformers(chain.path, batch_size=0)
    weights = chain.path / "model.safetensors"
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((chain.path / name).read_bytes())
    (tmp_path / weights.name).write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(RunnerError, match="cannot be loaded"):
        open_transformers(tmp_path)


def test_loading_and_generating_print_nothing(chain: ChainFolder, capfd: pytest.CaptureFixture[str]) -> None:
    runner = open_transformers(chain.path, threads=1, batch_size=2)
    ask(runner, ["Once", "", "Once upon"], 3)
    runner.close()
    assert capfd.readouterr() == ("", "")
