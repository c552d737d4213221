"""The runs that requests belong to: one open for each label and model, from its first request to its last."""

import asyncio
import logging
import math
import time
from collections.abc import Mapping
from typing import Any

from telemetry.errors import StoreBusy, StoreError
from telemetry.recorder import FLUSH_S, PATIENCE_S, Recorder, RequestRecorder, RunRecorder

IDLE_NS = 10_000_000_000  # without a request, after which a run is closed

log = logging.getLogger("telemetry")


class ProxyRun(RunRecorder):
    """A run that begins with its first request and ends with its last, though both are written later."""

    def __init__(self, recorder: Recorder, about: dict[str, Any], begin_ns: int) -> None:
        super().__init__(recorder, about | {"start_ns": recorder.store.clock.at(begin_ns)})
        self._end_ns = begin_ns
        self._under_way = 0

    @property
    def next_number(self) -> int:
        """The number that the next request gets."""
        return self._requests

    def request(self, *, input_tokens: int | None = None) -> RequestRecorder:
        """Return the run's next request. Tell `done` when it has ended."""
        request = super().request(input_tokens=input_tokens)
        self._under_way += 1
        return request

    def done(self, mono_ns: int) -> None:
        """One of the requests has ended."""
        self._under_way -= 1
        self._end_ns = max(self._end_ns, mono_ns)

    @property
    def is_written(self) -> bool:
        """Whether the store has the run's start."""
        return self._recorder.store.knows(self.uid)

    def is_idle(self, now_ns: int) -> bool:
        """Whether the run has had no request for so long that it is over."""
        return not self._under_way and self.is_written and now_ns - self._end_ns > IDLE_NS

    def finish(self) -> None:
        """End the run where its last request ended."""
        self.stop(mono_ns=self._end_ns)


class Runs:
    """The open runs of a proxy."""

    def __init__(self, recorder: Recorder, group: asyncio.TaskGroup, *, name: str, settings: Mapping[str, Any]) -> None:
        self._recorder, self._group = recorder, group
        self._name, self._settings = name, settings
        self._open: dict[tuple[str, str | None], ProxyRun] = {}
        self._until = math.inf  # when the store is given up that takes no run

    def of(self, label: str | None, model: str | None, mono_ns: int) -> ProxyRun:
        """Return the run of this label and model, opened by the request of that time where none is open."""
        name = label or self._name
        run = self._open.get((name, model))
        if run is None:
            about = {"name": name, "model": model, "runner": "proxy", "settings": self._settings}
            run = self._open[name, model] = ProxyRun(self._recorder, about, mono_ns)
            self._group.create_task(self._begin(run))
        return run

    def close_idle(self) -> None:
        """Close the runs that have had no request for a while."""
        now_ns = time.monotonic_ns()
        for key, run in list(self._open.items()):
            if run.is_idle(now_ns):
                self._open.pop(key).finish()

    def stopping(self) -> None:
        """No run will come any more: let the tasks of the group end."""
        self._until = time.monotonic() + PATIENCE_S

    def close(self) -> None:
        """Close all runs, when the tasks have ended. Raises StoreBusy for those whose start the store did not take."""
        lost = 0
        for run in self._open.values():
            if run.is_written:
                run.finish()
            else:
                lost += 1
        if lost:
            raise StoreBusy(
                f"The store took nothing for {PATIENCE_S:g} s; runs that are lost: {lost}. Look at its disk."
            )

    async def _begin(self, run: ProxyRun) -> None:
        """Write a run's start, trying again while the store takes nothing."""
        trouble = None
        while not run.is_written and time.monotonic() < self._until:
            try:
                await run.__aenter__()
            except (StoreBusy, StoreError) as error:
                if trouble != str(error):
                    log.warning("%s The run waits in memory and is tried again.", error)
                trouble = str(error)
                await asyncio.sleep(FLUSH_S)
