"""run llama, run openai: one experiment with llama.cpp, or with a server."""

import asyncio
import signal
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from telemetry.cli.common import (
    Format,
    FormatOption,
    GpusOption,
    OutputOption,
    SourceOption,
    StoreOption,
    show,
)
from telemetry.errors import UsageError
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


PromptsOption = Annotated[Path, typer.Option("--prompts", help="A text file, one prompt a line.")]
MaxTokensOption = Annotated[int, typer.Option("--max-tokens", min=1, help="Tokens a prompt at most.")]
RepeatOption = Annotated[int, typer.Option("--repeat", min=1, help="Measured runs.")]
WarmupOption = Annotated[int, typer.Option("--warmup", min=0, help="Runs before them, left out.")]
BaselineOption = Annotated[
    float, typer.Option("--baseline", min=0.0, help="Seconds of idle before and after, for net energy; 30 or more.")
]


def measure(
    settings: Any,
    open_runner: Callable[[], Any],
    prompts: list[str],
    *,
    max_tokens: int,
    repeat: int,
    warmup: int,
    baseline_s: float = 0.0,
) -> dict[str, Any]:
    """Run one experiment with a progress bar and return its report."""
    import uuid

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from telemetry.experiment import Plan, run_experiment
    from telemetry.join import load_boards, report
    from telemetry.recorder import Recorder
    from telemetry.storage.store import open_store

    plan = Plan(prompts=prompts, max_tokens=max_tokens, repeat=repeat, warmup=warmup, baseline_s=baseline_s)
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())

    async def work() -> dict[str, Any]:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)  # as Ctrl-C: the run is kept
        with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
            shown = bar.add_task("opening", total=repeat + warmup)

            def progress(done: int, total: int, what: str) -> None:
                bar.update(shown, completed=done, total=total, description=what)

            recorder = Recorder(settings.store, source=settings.source, gpus=settings.gpus)
            async with recorder:
                uids = await run_experiment(recorder, open_runner, plan, experiment=uuid.uuid4().hex, progress=progress)
        async with await open_store(settings.store) as store:
            return await report(store, tuple(uids), boards=load_boards(settings.profile, settings.calibration))

    try:
        return asyncio.run(work())
    except asyncio.CancelledError:
        raise typer.Exit(128 + signal.SIGTERM) from None


def llama(
    model: Annotated[Path, typer.Option("--model", help="A GGUF file.")],
    prompts: PromptsOption,
    max_tokens: MaxTokensOption = 128,
    repeat: RepeatOption = 5,
    warmup: WarmupOption = 1,
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="CPU threads; half the cores.")] = None,
    gpu_layers: Annotated[int, typer.Option("--gpu-layers", help="Layers on the GPU; -1: all it takes.")] = -1,
    context: Annotated[int, typer.Option("--context", min=8, help="Context length in tokens.")] = 2048,
    baseline: BaselineOption = 0.0,
    seed: Annotated[int, typer.Option("--seed", help="Recorded with the run; decoding is greedy.")] = 0,
    source: SourceOption = None,
    gpus: GpusOption = None,
    store: StoreOption = None,
    form: FormatOption = Format.table,
    output: OutputOption = None,
) -> None:
    """Measure a GGUF model in llama.cpp."""
    from telemetry.reports import to_csv, to_markdown, to_table
    from telemetry.runners import open_llama, read_prompts
    from telemetry.runners.llama_engine import check_gguf

    if not model.exists():
        raise UsageError(f"There is no model file {model}. Check --model.")
    texts = read_prompts(prompts)
    check_gguf(model)  # before a store is made for nothing
    settings = load_settings({"store": store, "source": source, "gpus": gpus})

    def opened() -> Any:
        return open_llama(model, threads=threads, gpu_layers=gpu_layers, context=context, seed=seed)

    document = measure(
        settings, opened, texts, max_tokens=max_tokens, repeat=repeat, warmup=warmup, baseline_s=baseline
    )
    show(document, form, output, table=to_table, csv=to_csv, md=to_markdown)


def openai(
    base_url: Annotated[str, typer.Option("--base-url", help="The server, such as http://127.0.0.1:8000/v1.")],
    model: Annotated[str, typer.Option("--model", help="The model's name, as the server has it.")],
    prompts: PromptsOption,
    max_tokens: MaxTokensOption = 128,
    repeat: RepeatOption = 5,
    warmup: WarmupOption = 1,
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
    seed: Annotated[int, typer.Option("--seed", help="Draws the Poisson arrivals; decoding is greedy.")] = 0,
    source: SourceOption = None,
    gpus: GpusOption = None,
    store: StoreOption = None,
    form: FormatOption = Format.table,
    output: OutputOption = None,
) -> None:
    """Measure a model behind an OpenAI-compatible server on this machine's GPUs (key: OPENAI_API_KEY)."""
    from telemetry.reports import to_csv, to_markdown, to_table
    from telemetry.runners import Load, open_openai, read_prompts

    texts = read_prompts(prompts)
    if arrival is None:
        arrival = Arrival.poisson if request_rate else Arrival.burst
    if (arrival is Arrival.burst) != (request_rate is None):
        raise UsageError(
            f"--arrival {arrival} and --request-rate {request_rate} do not go together. Give poisson or constant "
            "arrivals a rate, and a burst none."
        )
    load = Load(
        concurrency=concurrency or (len(texts) if request_rate else 1),
        arrival=arrival.value,
        rate=request_rate,
        seed=seed,
        timeout_s=timeout,
        retries=retries,
    )
    settings = load_settings({"store": store, "source": source, "gpus": gpus})
    runner = open_openai(base_url, model, api=api.value, load=load)  # before a store is made for nothing
    document = measure(
        settings, lambda: runner, texts, max_tokens=max_tokens, repeat=repeat, warmup=warmup, baseline_s=baseline
    )
    show(document, form, output, table=to_table, csv=to_csv, md=to_markdown)
