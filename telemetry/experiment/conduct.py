"""A plan carried out: engines opened, devices waited for, runs recorded one after another."""

import asyncio
import functools
import itertools
import threading
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from math import ceil
from typing import Any

from telemetry.errors import RunnerError
from telemetry.experiment.engines import open_engine
from telemetry.experiment.environment import sha256_of, snapshot
from telemetry.experiment.gate import wait_until_idle
from telemetry.experiment.plan import Plan, Setting, Slot, digest
from telemetry.experiment.sinks import RecordedSink
from telemetry.join import BASELINE, load_boards
from telemetry.recorder import Recorder, RunRecorder
from telemetry.runners import Prompt, Runner, RunnerThread
from telemetry.storage import experiments, reader
from telemetry.storage.experiments import PlannedRun

Progress = Callable[[int, int, str], None]
GATE_TIMEOUT = "gate_timeout"


async def record_idle(recorder: Recorder, name: str, seconds: float, *, experiment: str | None = None) -> str:
    """Record a stretch in which nothing is asked of the devices, as baseline `B0`, `B1` or `B2`; return its uid."""
    async with recorder.run(name=name, runner=BASELINE, experiment=experiment) as run:
        await asyncio.sleep(seconds)
    return run.uid


async def conduct(
    recorder: Recorder,
    plan: Plan,
    *,
    experiment: str,
    progress: Progress,
    say: Callable[[str], None],
    opened: Callable[[Setting], Runner] = open_engine,
) -> list[str]:
    """Carry out what is left of a plan and return the uids of all runs of the experiment, warm-ups too.

    Runs that the store has already are not repeated. `progress` is told (measured runs done, in all, what is under
    way), `say` what a person must know. Raises what opening an engine raises, and RunnerError where a run's prompts all
    fail; the run under way is then recorded as failed.
    """
    recorded = await experiments.runs_of(recorder.store, experiment)
    done = {run.position: run for run in recorded if run.status == "ok" and run.position is not None}
    left = [slot for slot in plan.slots if slot.position not in done]
    work = _Work(recorder, plan, experiment, progress, say, done.values())
    for _, same in itertools.groupby(left, key=lambda slot: slot.setting.opened_as()):
        slots = list(same)
        work.tell(f"opening {slots[0].setting.name}")
        async with _engine(functools.partial(opened, slots[0].setting)) as engine:
            await work.measure(engine, slots)
    progress(len(plan.slots), len(plan.slots), "done")
    return [run.uid for run in await experiments.runs_of(recorder.store, experiment)]


@dataclass(frozen=True, slots=True)
class _Engine:
    """An open engine and its thread."""

    thread: RunnerThread
    runner: Runner
    model_sha256: str | None


@asynccontextmanager
async def _engine(opened: Callable[[], Runner]) -> AsyncIterator[_Engine]:
    async with RunnerThread() as thread:
        runner = await thread.call(opened)
        try:
            sha256 = await thread.call(sha256_of, runner.describe().model_file)
            yield _Engine(thread, runner, sha256)
        finally:
            thread.cancel = threading.Event()
            await thread.call(runner.close)


class _Work:
    """What the runs of one experiment share."""

    def __init__(
        self,
        recorder: Recorder,
        plan: Plan,
        experiment: str,
        progress: Progress,
        say: Callable[[str], None],
        recorded: Collection[PlannedRun],
    ) -> None:
        self._recorder, self._plan, self._experiment = recorder, plan, experiment
        self._progress, self._say = progress, say
        self._done = len(recorded)
        self._passes = {run.settings["setting"]: int(run.settings["passes"]) for run in recorded}
        self._environments = {run.settings["setting"]: run.environment for run in recorded}

    def tell(self, what: str) -> None:
        """Say how far the experiment is, and what is under way."""
        self._progress(self._done, len(self._plan.slots), what)

    async def measure(self, engine: _Engine, slots: Sequence[Slot]) -> None:
        """Carry out runs that share an open engine: gate, idle, each setting's warm-up and runs, idle."""
        flags = await self._gate(slots[0].setting)
        await self._idle()
        for setting, its in itertools.groupby(slots, key=lambda slot: slot.setting):
            self.tell("making prompts")
            source = self._plan.prompts[setting.prompts]
            prompts = self._plan.scaled(await engine.thread.call(source.make, engine.runner.count_tokens))
            environment = await self._environment(engine, setting)
            about = self._about(engine, setting, environment, flags)
            await self._warm_up(engine, setting, prompts, about)
            for slot in its:
                self.tell(f"{setting.name}, repeat {slot.repeat}")
                await asyncio.sleep(self._plan.cool_down_s)
                await self._record(
                    engine, setting, prompts, about, f"repeat {slot.repeat}",
                    passes=self._passes[setting.name], repeat=slot.repeat, position=slot.position,
                )  # fmt: skip
                self._done += 1
        await self._idle()

    async def _gate(self, setting: Setting) -> tuple[str, ...]:
        gate, recorder = self._plan.gate, self._recorder
        if gate is None:
            return ()
        boards = load_boards(recorder.settings.profile, recorder.settings.calibration)
        devices = [d for d in await reader.devices(recorder.store) if d.uid in recorder.devices]
        why = await wait_until_idle(recorder.store, devices, gate, boards, lambda words: self.tell(f"waiting: {words}"))
        if why is None:
            return ()
        self._say(f"The start gate stayed shut for {gate.wait_s:g} s: {why} Going on; runs of {setting.name} say so.")
        return (GATE_TIMEOUT,)

    async def _idle(self) -> None:
        if self._plan.baseline_s:
            self.tell(f"idle for {self._plan.baseline_s:g} s")
            await record_idle(self._recorder, "B1", self._plan.baseline_s, experiment=self._experiment)

    async def _environment(self, engine: _Engine, setting: Setting) -> str:
        store = self._recorder.store
        found = snapshot(
            setting,
            engine.runner.describe(),
            engine.model_sha256,
            self._plan.prompts[setting.prompts].to_settings() | {"scale": self._plan.scale},
            await experiments.device_facts(store, self._recorder.devices),
        )
        name = digest(found)
        await store.write_environment(name, found)
        if self._environments.setdefault(setting.name, name) != name:
            self._environments[setting.name] = name
            self._say(
                f"The environment of {setting.name} has changed: its runs until now are not pooled with those that "
                "follow. To have them all alike, measure anew with --again."
            )
        return name

    def _about(self, engine: _Engine, setting: Setting, environment: str, flags: Collection[str]) -> dict[str, Any]:
        """Return what the record says of every run of a setting."""
        about = engine.runner.describe()
        return {
            "experiment": self._experiment,
            "model": about.model,
            "runner": about.runner,
            "quantisation": about.quantisation,
            "batch_size": about.max_batch_size,
            "concurrency": about.concurrency,
            "environment": environment,
            "flags": tuple(flags),
            "settings": {
                **about.settings,
                "engine_version": about.engine_version,
                "setting": setting.name,
                "prompts": self._plan.prompts[setting.prompts].to_settings(),
                "scale": self._plan.scale,
            },
        }

    async def _warm_up(
        self, engine: _Engine, setting: Setting, prompts: Sequence[Prompt], about: dict[str, Any]
    ) -> None:
        """Go through the prompts until it is enough, and find how often they go into a run."""
        began = time.monotonic()
        count, lasted_s = 0, 0.0
        while count < self._plan.warmup or time.monotonic() - began < self._plan.warmup_s:
            count += 1
            self.tell(f"{setting.name}, warm-up {count}")
            start = time.monotonic()
            await self._record(engine, setting, prompts, about, f"warm-up {count}", passes=1, warmup=True)
            lasted_s = time.monotonic() - start
        once = self._plan.prompts[setting.prompts].replayed or not self._plan.run_s
        often = 1 if once else ceil(self._plan.run_s / lasted_s)
        self._passes.setdefault(setting.name, often)

    async def _record(
        self, engine: _Engine, setting: Setting, prompts: Sequence[Prompt], about: dict[str, Any], what: str,
        *, passes: int, **place: Any,
    ) -> None:  # fmt: skip
        """Record one run: so many passes through the prompts. place: keywords of `model.Run` that are its own."""
        name = what if len(self._plan.settings) == 1 else f"{setting.name}, {what}"
        settings = about["settings"] | {"passes": passes}
        async with self._recorder.run(**about | {"settings": settings}, name=name, **place) as run:
            await self._answer(engine, run, [*prompts] * passes)

    async def _answer(self, engine: _Engine, run: RunRecorder, prompts: Sequence[Prompt]) -> None:
        await engine.thread.call(engine.runner.reset)
        sinks = [RecordedSink(run) for _ in prompts]
        await engine.thread.call(engine.runner.generate, prompts, sinks, engine.thread.cancel)
        if all(sink.error for sink in sinks):
            raise RunnerError(f"No prompt was answered. The first failed so: {sinks[0].error}")
