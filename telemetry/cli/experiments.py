"""What `run`, `bench` and `demo` share: a plan carried out, with its progress, and the report of its runs."""

import asyncio
import math
import signal
from contextlib import AbstractContextManager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from telemetry.cli.asking import report_of
from telemetry.cli.common import say
from telemetry.errors import RunnerError

if TYPE_CHECKING:
    from telemetry.experiment import Plan
    from telemetry.settings import Settings


class Scale(StrEnum):
    """How much of a plan is carried out."""

    full = "full"
    quick = "quick"


ScaleOption = Annotated[
    Scale, typer.Option("--scale", help="quick: a first look in seconds, two settings, never publishable.")
]


def carry_out(
    settings: "Settings", plan: "Plan", *, scale: Scale = Scale.full, again: bool | None = None
) -> dict[str, Any]:
    """Carry out a plan, as much of it as the scale says, and return the report of its runs.

    again: False goes on where the last experiment with the same plan stopped; True measures anew, and may itself be
    gone on with; None does neither. Ctrl-C, SIGTERM and an engine that is gone leave what has been recorded.
    """
    from telemetry.experiment import check_setting

    if scale is Scale.quick:
        plan = plan.quick()
    for setting in plan.settings:
        check_setting(setting, plan.prompts[setting.prompts])  # before a store is made for nothing
    progress = _Progress(len(plan.slots))
    try:
        return asyncio.run(_carried_out(settings, plan, again, progress))
    except (KeyboardInterrupt, asyncio.CancelledError, RunnerError) as stop:
        if again is not None:
            command = "The same command without --again" if again else "The same command"
            say(f"Stopped with {progress.done} of {len(plan.slots)} runs recorded. {command} goes on from there.")
        if isinstance(stop, asyncio.CancelledError):
            raise typer.Exit(128 + signal.SIGTERM) from None
        raise


async def _carried_out(settings: "Settings", plan: "Plan", again: bool | None, progress: "_Progress") -> dict[str, Any]:
    import uuid

    from telemetry.experiment import alone_on, conduct, digest
    from telemetry.model import Experiment
    from telemetry.recorder import Recorder
    from telemetry.storage import experiments

    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)  # as Ctrl-C: what is done is kept
    recorder = Recorder(settings.store, source=settings.source, gpus=settings.gpus)
    with progress as bar:
        async with recorder:
            with alone_on(recorder.devices, Path(recorder.settings.runtime_dir)):
                content = plan.as_json()
                uid = None if again is not False else await experiments.last_planned_so(recorder.store, digest(content))
                if uid:
                    bar.say("This plan was begun before: runs that are recorded are not repeated.")
                else:
                    uid = uuid.uuid4().hex
                    await recorder.store.write_experiment(
                        Experiment(uid=uid, name=plan.name, plan=content, plan_hash=digest(content))
                    )
                uids = await conduct(recorder, plan, experiment=uid, progress=bar.show, say=bar.say)
    return await report_of(settings, uids)


class _Progress(AbstractContextManager["_Progress"]):
    """Measured runs done and the time left, on stderr where that is a terminal."""

    def __init__(self, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        # The pace of the whole experiment: a run may well outlast the half minute that rich looks back.
        self._bar = Progress(*columns, console=console, disable=not console.is_terminal, speed_estimate_period=math.inf)
        self._shown = self._bar.add_task("opening", total=total)
        self.done = 0

    def __enter__(self) -> "_Progress":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, done: int, total: int, what: str) -> None:
        self.done = done
        self._bar.update(self._shown, completed=done, total=total, description=what)

    def say(self, words: str) -> None:
        if self._bar.disable:
            say(words)
        else:
            self._bar.console.print(words, markup=False, highlight=False)
