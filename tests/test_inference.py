"""EnergyEfficientInference: text, tokens and joules of one call, with either engine."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from chain_gguf import write_chain_gguf
from chain_hf import write_chain_hf

from telemetry import EnergyEfficientInference
from telemetry.errors import RunnerError, UserError

STEADY = "simulated:h200,wave=constant:400,gain=1,offset=0,noise=0,jitter=0"


@pytest.fixture(params=[
    pytest.param("llama", marks=pytest.mark.engine),
    pytest.param("transformers", marks=pytest.mark.engine("transformers")),
])  # fmt: skip
def inference(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EnergyEfficientInference]:
    """Tells the chain's story, and takes at least 0.1 s for it: shorter ones have no energy."""
    if request.param == "llama":
        import llama_cpp

        llama = llama_cpp.Llama(str(write_chain_gguf(tmp_path / "chain.gguf").path), n_threads=1, verbose=False)
        tokenize = llama.tokenize

        def tokenize_slowly(*arguments: Any, **named: Any) -> Any:
            time.sleep(0.1)
            return tokenize(*arguments, **named)

        vars(llama)["tokenize"] = tokenize_slowly
        with EnergyEfficientInference(llama, source=STEADY) as inference:
            yield inference
        llama.close()
    else:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        path = write_chain_hf(tmp_path / "chain").path
        model, tokenizer = AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)
        model.register_forward_pre_hook(lambda *_: time.sleep(0.1))
        with EnergyEfficientInference(model, tokenizer, source=STEADY) as inference:
            yield inference


def without_measurements(found: Mapping[str, Any]) -> dict[str, Any]:
    return {key: found[key] for key in ("output", "tokens_generated", "device", "simulated")}


def test_one_prompt_gives_text_tokens_and_joules(inference: EnergyEfficientInference) -> None:
    found = inference.generate_with_energy_tracking("Once", max_tokens=5)
    assert (found["output"], found["tokens_generated"]) == (" upon a time small robots", 5)
    truth_j = 400 * found["duration_seconds"]
    assert found["energy_low_joules"] <= truth_j <= found["energy_high_joules"]
    assert found["energy_low_joules"] <= found["energy_joules"] <= found["energy_high_joules"]
    assert found["joules_per_token"] == found["energy_joules"] / 5
    assert found["simulated"]
    assert found["flags"] is not None
    again = inference.generate_with_energy_tracking("Once", max_tokens=5)
    assert without_measurements(again) == without_measurements(found)


def test_several_prompts_give_their_texts_and_sums(inference: EnergyEfficientInference) -> None:
    alone = [inference.generate_with_energy_tracking(p, max_tokens=4) for p in ("Once upon", "then sleep")]
    found = inference.generate_with_energy_tracking(["Once upon", "then sleep"], max_tokens=4)
    assert found["output"] == [one["output"] for one in alone]
    assert found["tokens_generated"] == 8
    assert found["input_tokens"] == sum(one["input_tokens"] for one in alone)


def test_a_prompt_that_cannot_be_answered_raises_and_the_next_is_answered(inference: EnergyEfficientInference) -> None:
    with pytest.raises(RunnerError, match="context"):
        inference.generate_with_energy_tracking(["Once", "Once " * 5000], max_tokens=2)
    with pytest.raises(UserError, match="no prompt"):
        inference.generate_with_energy_tracking([])
    assert inference.generate_with_energy_tracking("Once", max_tokens=2)["tokens_generated"] == 2
    inference.close()
    with pytest.raises(UserError, match="closed"):
        inference.generate_with_energy_tracking("Once", max_tokens=2)


@pytest.mark.engine("transformers")
def test_a_transformers_model_computes_its_prompts_together(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = write_chain_hf(tmp_path / "chain").path
    model, tokenizer = AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    shapes = []
    model.register_forward_pre_hook(
        lambda _, __, named: shapes.append(tuple(named["input_ids"].shape)), with_kwargs=True
    )
    with EnergyEfficientInference(model, tokenizer, source=STEADY) as inference:
        inference.generate_with_energy_tracking(["Once upon", "then", "Once"], max_tokens=3)
    assert shapes == [(3, 2), (3, 1), (3, 1)]
    with pytest.raises(UserError, match="tokenizer is missing"):
        EnergyEfficientInference(model, source=STEADY)


def test_a_model_of_another_kind_is_refused_with_a_way_out() -> None:
    with pytest.raises(UserError, match="of type object cannot be measured"):
        EnergyEfficientInference(object(), source=STEADY)
