"""run llama, run transformers, run openai: one experiment with one model."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from telemetry.cli.asking import show_runs
from telemetry.cli.common import Format, FormatOption, GpusOption, OutputOption, SourceOption, StoreOption
from telemetry.cli.experiments import Scale, ScaleOption, carry_out
from telemetry.settings import load_settings


class Api(StrEnum):
    """Which of a server's two ways to ask is used."""

    completions = "completions"
    chat = "chat"


class Arrival(StrEnum):
    """How requests are spread over time."""

    poisson = "poisson"
    constant = "constant"
    burst = "burst"


PromptsOption = Annotated[
    str, typer.Option("--prompts", help="A file of prompts, synthetic:… or trace:… (docs/prompts.md).")
]
MaxTokensOption = Annotated[int, typer.Option("--max-tokens", min=1, help="Tokens a prompt at most.")]
RepeatOption = Annotated[int, typer.Option("--repeat", min=1, help="Measured runs.")]
WarmupOption = Annotated[int, typer.Option("--warmup", min=0, help="Runs before them, left out.")]
BatchOption = Annotated[int, typer.Option("--batch-size", min=1, help="Prompts computed together.")]
RunSecondsOption = Annotated[
    float, typer.Option("--run-seconds", min=0.0, help="About how long a run goes through the prompts; 0: once.")
]
BaselineOption = Annotated[
    float, typer.Option("--baseline", min=0.0, help="Seconds of idle before and after, for net energy; 30 or more.")
]
GateOption = Annotated[bool, typer.Option("--gate", help="Wait up to 5 minutes until the GPU is idle and cool.")]
ThreadsOption = Annotated[int | None, typer.Option("--threads", min=1, help="CPU threads; half the cores.")]


def llama(
    model: Annotated[str, typer.Option("--model", help="A GGUF file.")],
    prompts: PromptsOption,
    max_tokens: MaxTokensOption = 128,
    batch_size: BatchOption = 1,
    repeat: RepeatOption = 5,
    warmup: WarmupOption = 1,
    run_seconds: RunSecondsOption = 0.0,
    threads: ThreadsOption = None,
    gpu_layers: Annotated[int, typer.Option("--gpu-layers", help="Layers on the GPU; -1: all it takes.")] = -1,
    context: Annotated[int, typer.Option("--context", min=8, help="Context length in tokens.")] = 2048,
    baseline: BaselineOption = 0.0,
    gate: GateOption = False,
    seed: Annotated[int, typer.Option("--seed", help="Recorded with the run; decoding is greedy.")] = 0,
    scale: ScaleOption = Scale.full,
    source: SourceOption = None,
    gpus: GpusOption = None,
    store: StoreOption = None,
    form: FormatOption = Format.table,
    output: OutputOption = None,
) -> None:
    """Measure a GGUF model in llama.cpp."""
    options = {"threads": threads, "gpu_layers": gpu_layers, "context": context, "seed": seed}
    plan = _plan(
        "llama", model, prompts, max_tokens, options,
        batch_size=batch_size, repeat=repeat, warmup=warmup, run_s=run_seconds, baseline_s=baseline, gate=gate,
    )  # fmt: skip
    _report(plan, scale, {"store": store, "source": source, "gpus": gpus}, form, output)


def transformers(
    model: Annotated[str, typer.Option("--model", help="A model's folder, or its name where it can be fetched.")],
    prompts: PromptsOption,
    max_tokens: MaxTokensOption = 128,
    batch_size: BatchOption = 1,
    repeat: RepeatOption = 5,
    warmup: WarmupOption = 1,
    run_seconds: RunSecondsOption = 0.0,
    device: Annotated[str | None, typer.Option("--device", help="cuda, cuda:1, cpu; a GPU where there is one.")] = None,
    dtype: Annotated[
        str | None, typer.Option("--dtype", help="bfloat16, float16, float32; as the model has it.")
    ] = None,
    threads: ThreadsOption = None,
    sync: Annotated[bool, typer.Option("--sync", help="Wait for the GPU at every step: exact times, slower.")] = False,
    baseline: BaselineOption = 0.0,
    gate: GateOption = False,
    scale: ScaleOption = Scale.full,
    source: SourceOption = None,
    gpus: GpusOption = None,
    store: StoreOption = None,
    form: FormatOption = Format.table,
    output: OutputOption = None,
) -> None:
    """Measure a model in transformers."""
    options = {"device": device, "dtype": dtype, "threads": threads, "sync": sync}
    plan = _plan(
        "transformers", model, prompts, max_tokens, options,
        batch_size=batch_size, repeat=repeat, warmup=warmup, run_s=run_seconds, baseline_s=baseline, gate=gate,
    )  # fmt: skip
    _report(plan, scale, {"store": store, "source": source, "gpus": gpus}, form, output)


def openai(
    base_url: Annotated[str, typer.Option("--base-url", help="The server, such as http://127.0.0.1:8000/v1.")],
    model: Annotated[str, typer.Option("--model", help="The model's name, as the server has it.")],
    prompts: PromptsOption,
    max_tokens: MaxTokensOption = 128,
    repeat: RepeatOption = 5,
    warmup: WarmupOption = 1,
    run_seconds: RunSecondsOption = 0.0,
    api: Annotated[
        Api, typer.Option("--api", help="How to ask: the prompt as it is, or as a message.")
    ] = Api.completions,
    concurrency: Annotated[
        int | None, typer.Option("--concurrency", min=1, help="Requests under way at most; 1, or with a rate all.")
    ] = None,
    request_rate: Annotated[
        float | None, typer.Option("--request-rate", min=0.0, help="Requests a second, on average.")
    ] = None,
    arrival: Annotated[
        Arrival | None, typer.Option("--arrival", help="How requests come; with a rate poisson, else burst.")
    ] = None,
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds a server may be silent.")] = 120.0,
    retries: Annotated[int, typer.Option("--retries", min=0, help="Of a request that brought nothing yet.")] = 0,
    baseline: BaselineOption = 0.0,
    gate: GateOption = False,
    seed: Annotated[int, typer.Option("--seed", help="Draws the Poisson arrivals; decoding is greedy.")] = 0,
    scale: ScaleOption = Scale.full,
    source: SourceOption = None,
    gpus: GpusOption = None,
    store: StoreOption = None,
    form: FormatOption = Format.table,
    output: OutputOption = None,
) -> None:
    """Measure a model behind an OpenAI-compatible server on this machine's GPUs (key: OPENAI_API_KEY)."""
    options = {
        "base_url": base_url, "api": api.value, "request_rate": request_rate, "arrival": arrival and arrival.value,
        "timeout": timeout, "retries": retries, "seed": seed,
    }  # fmt: skip
    plan = _plan(
        "openai", model, prompts, max_tokens, options,
        concurrency=concurrency, repeat=repeat, warmup=warmup, run_s=run_seconds, baseline_s=baseline, gate=gate,
    )  # fmt: skip
    _report(plan, scale, {"store": store, "source": source, "gpus": gpus}, form, output)


def _plan(
    engine: Any, model: str, prompts: str, max_tokens: int, options: dict[str, Any],
    *, batch_size: int = 1, concurrency: int | None = 1, gate: bool, **protocol: Any,
) -> Any:  # fmt: skip
    """Return the plan of one setting; an option that is None was not given."""
    from telemetry.experiment import Gate, Plan, Setting, usual_concurrency
    from telemetry.runners.prompts import parse_prompts

    some = parse_prompts(prompts, max_tokens=max_tokens)
    given = {k: v for k, v in options.items() if v is not None}
    setting = Setting(
        name=model, engine=engine, model=model, prompts="prompts", batch_size=batch_size,
        concurrency=concurrency or usual_concurrency(engine, given, some), options=given,
    )  # fmt: skip
    return Plan(
        name=f"run {engine}", settings=(setting,), prompts={"prompts": some}, gate=Gate() if gate else None, **protocol
    )


def _report(plan: Any, scale: Scale, flags: dict[str, Any], form: Format, output: Path | None) -> None:
    show_runs(carry_out(load_settings(flags), plan, scale=scale), form, output)
