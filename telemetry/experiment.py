"""An experiment: warm-up runs, then measured repeats of the same prompts, recorded one after another."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from telemetry.errors import RunnerError
from telemetry.join import BASELINE
from telemetry.model import CountSource, FinishReason
from telemetry.recorder import Recorder, RequestRecorder, RunRecorder
from telemetry.runners import Prompt, Runner, RunnerThread


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is repeated: every run answers all prompts."""

    prompts: Sequence[str]
    max_tokens: int
    repeat: int
    warmup: int
    baseline_s: float = 0.0  # of idle, with the model loaded, before the first run and after the last; 0: none


async def record_idle(recorder: Recorder, name: str, seconds: float, *, experiment: str | None = None) -> str:
    """Record a stretch in which nothing is asked of the devices, as baseline `B0`, `B1` or `B2`; return its uid."""
    async with recorder.run(name=name, runner=BASELINE, experiment=experiment) as run:
        await asyncio.sleep(seconds)
    return run.uid


class RecordedSink:
    """Hands what a runner tells of one prompt to the recorder."""

    def __init__(self, run: RunRecorder) -> None:
        self._run = run
        self._request: RequestRecorder | None = None

    def _of(self) -> RequestRecorder:
        if self._request is None:
            self._request = self._run.request()
        return self._request

    def submit(self, mono_ns: int) -> None:
        self._of().submit(mono_ns)

    def start(self, mono_ns: int) -> None:
        self._of().start(mono_ns)

    def prompt(self, *, input_tokens: int, cached_tokens: int | None) -> None:
        self._of().prompt(input_tokens=input_tokens, cached_tokens=cached_tokens)

    def token(self, mono_ns: int) -> None:
        self._of().token_at(mono_ns)

    def chunk(self, mono_ns: int, tokens: int | None) -> None:
        self._of().chunk_at(mono_ns, tokens)

    def end(
        self,
        mono_ns: int,
        *,
        finish_reason: FinishReason,
        output_tokens: int,
        count_source: CountSource,
        text: str,
    ) -> None:
        self._of().end(mono_ns, finish_reason=finish_reason, output_tokens=output_tokens, count_source=count_source)

    def fail(self, mono_ns: int, error: RunnerError) -> None:
        self._of().fail(str(error), mono_ns)


async def run_experiment(
    recorder: Recorder,
    open_runner: Callable[[], Runner],
    plan: Plan,
    *,
    experiment: str,
    progress: Callable[[int, int, str], None],
) -> list[str]:
    """Run a plan and return the uids of its runs, warm-ups first.

    `progress` is told (runs done, runs in all, what is under way). Raises what opening the runner raises;
    a cancel leaves the run under way recorded as failed.
    """
    uids = []
    async with RunnerThread() as thread:
        runner = await thread.call(open_runner)
        try:
            about = runner.describe()
            total = plan.warmup + plan.repeat
            if plan.baseline_s:
                progress(0, total, f"idle for {plan.baseline_s:g} s")
                await record_idle(recorder, "B1", plan.baseline_s, experiment=experiment)
            for k in range(total):
                warmup = k < plan.warmup
                progress(k, total, "warm-up" if warmup else f"repeat {k - plan.warmup + 1}")
                await thread.call(runner.reset)
                run = recorder.run(
                    name=f"warm-up {k + 1}" if warmup else f"repeat {k - plan.warmup + 1}",
                    experiment=experiment,
                    model=about.model,
                    runner=about.runner,
                    quantisation=about.quantisation,
                    concurrency=about.concurrency,
                    warmup=warmup,
                    repeat=None if warmup else k - plan.warmup + 1,
                    position=k,
                    settings=dict(about.settings)
                    | {"engine_version": about.engine_version, "max_tokens": plan.max_tokens},
                )
                async with run:
                    await _answer(thread, runner, run, plan)
                uids.append(run.uid)
            if plan.baseline_s:
                progress(total, total, f"idle for {plan.baseline_s:g} s")
                await record_idle(recorder, "B1", plan.baseline_s, experiment=experiment)
            progress(total, total, "done")
        finally:
            thread.cancel = threading.Event()
            await thread.call(runner.close)
    return uids


async def _answer(thread: RunnerThread, runner: Runner, run: RunRecorder, plan: Plan) -> None:
    sinks = [RecordedSink(run) for _ in plan.prompts]
    prompts = [Prompt(text=text, max_tokens=plan.max_tokens) for text in plan.prompts]
    await thread.call(runner.generate, prompts, sinks, thread.cancel)
