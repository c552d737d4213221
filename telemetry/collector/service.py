"""A collector: locks its devices, polls each in a thread, and writes what they read through one writer."""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from telemetry import clock as clocks
from telemetry.collector.lock import DeviceLock, Holder
from telemetry.collector.pipeline import Channel, Item
from telemetry.collector.sampler import Sampler
from telemetry.collector.sources.base import Source
from telemetry.errors import StoreBusy
from telemetry.model import Gap
from telemetry.storage.store import SessionHealth, Store

FLUSH_S = 0.2
BATCH = 1000
CAPACITY = 100_000  # some minutes of eight devices while the store is locked or its disk full
STEP_NS = 5_000_000
STOP_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How a collector does, for the live line."""

    elapsed_s: float
    rows: int
    health: SessionHealth
    devices: tuple[tuple[str, Any], ...]  # (name, SamplerHealth)
    trouble: str | None


class Collector:
    """Collects from enter to exit. The sources become its own and are closed by it."""

    def __init__(
        self, store: Store, sources: Sequence[Source], *, spec: str, period_s: float, runtime_dir: Path
    ) -> None:
        self._store = store
        self._sources = sources
        self._spec = spec
        self._period_s = period_s
        self._locks = [DeviceLock(runtime_dir, source.device.uid) for source in sources]
        self._channel = Channel(CAPACITY)
        self._spool: list[Item] = []
        self._rows = 0
        self._trouble: str | None = None
        self._samplers: list[Sampler] = []
        self._stopping = asyncio.Event()
        self._silent = False  # the samplers hand on nothing more, though one may be stuck in a call
        self._busy_since_ns: int | None = None
        self._dropped = 0

    async def __aenter__(self) -> Self:
        store = self._store
        started = clocks.SteadyClock(store.clock.anchor).now_ns()
        try:
            for lock in self._locks:
                lock.acquire(Holder(pid=os.getpid(), since_ns=started, store=store.path, session=""))
            self._session = await store.start_session(
                source=self._spec,
                settings={"interval": self._period_s},
                version=version("telemetry"),
                devices=[source.device for source in self._sources],
            )
        except BaseException:
            self._let_go()
            raise
        self._cpu_ns, self._began = time.process_time_ns(), time.monotonic()
        for k, source in enumerate(self._sources):
            stagger_s = self._period_s * k / len(self._sources)
            self._samplers.append(
                Sampler(source, self._channel, store.clock, period_s=self._period_s, seed=k, stagger_s=stagger_s)
            )
        for sampler in self._samplers:
            sampler.start()
        self._writer = asyncio.create_task(self._write())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        try:
            stops = [asyncio.to_thread(sampler.stop, STOP_S) for sampler in self._samplers]
            await asyncio.gather(*stops)
            self._silent = True
            await self._writer
        finally:
            self._let_go()

    @property
    def ended(self) -> bool:
        """Whether every source was a recording that has been played to its end."""
        return all(sampler.ended for sampler in self._samplers)

    async def wait(self, stop: asyncio.Event, duration_s: float | None, tell: Callable[[Status], None]) -> None:
        """Collect until `stop` is set, a time is over or the recording ends, telling how it goes."""
        until = None if duration_s is None else time.monotonic() + duration_s
        while not stop.is_set() and not self.ended:
            left = 0.5 if until is None else min(0.5, until - time.monotonic())
            if left <= 0:
                return
            if self._writer.done():
                await self._writer  # it failed: what it raised is what the user must hear
            try:
                await asyncio.wait_for(stop.wait(), left)
            except TimeoutError:
                tell(self.status())

    def status(self) -> Status:
        """Return how the collector does."""
        return Status(
            elapsed_s=time.monotonic() - self._began,
            rows=self._rows,
            health=self._health(),
            devices=tuple(
                (source.device.name, sampler.health())
                for source, sampler in zip(self._sources, self._samplers, strict=True)
            ),
            trouble=self._trouble,
        )

    def _let_go(self) -> None:
        for source in self._sources:
            source.close()
        for lock in self._locks:
            lock.release()

    def _health(self) -> SessionHealth:
        every = [sampler.health() for sampler in self._samplers]
        latencies = [h.spread.latency_p99_ns for h in every if h.spread.latency_p99_ns is not None]
        return SessionHealth(
            polls=sum(h.polls for h in every),
            missed=sum(h.missed for h in every),
            failures=dict(sum((Counter(h.failures) for h in every), Counter[str]())),
            latency_p99_ns=max(latencies, default=None),
            queue_peak=self._channel.peak,
            cpu_ns=time.process_time_ns() - self._cpu_ns,
            dropped_rows=self._channel.dropped,
        )

    async def _write(self) -> None:
        offset, slept = self._store.clock.offset_ns(), clocks.suspended_ns()
        beat = time.monotonic()
        while True:
            stopping = self._silent
            taken = await self._drain()
            if stopping and taken:
                await self._beat(stopped=True)
                return
            if stopping and time.monotonic() - beat > 1.5:
                return  # the store takes nothing: the next start marks this session unclean
            if time.monotonic() - beat >= 1.0 and not stopping and taken:
                beat = time.monotonic()
                await self._beat(stopped=False)
                offset, slept = await self._mind_clock(offset, slept)
            await asyncio.sleep(0.02 if self._stopping.is_set() else FLUSH_S)

    async def _drain(self) -> bool:
        """Write what waits; False while the store takes nothing, and the rows are kept."""
        while True:
            self._spool = self._spool or self._channel.drain(BATCH)
            if not self._spool:
                return True
            try:
                await self._store.write_items(self._spool)
            except StoreBusy as error:
                self._trouble = str(error)
                self._busy_since_ns = self._busy_since_ns or self._store.clock.now_ns()
                return False
            self._rows += len(self._spool)
            self._spool, self._trouble = self._lost_rows(), None
            self._busy_since_ns = None

    def _lost_rows(self) -> list[Item]:
        """Return a gap for each device when rows found no room while the store took none."""
        if self._channel.dropped == self._dropped or self._busy_since_ns is None:
            return []
        self._dropped = self._channel.dropped
        lost = Gap(from_ns=self._busy_since_ns, to_ns=self._store.clock.now_ns(), reason="dropped")
        return [(source.device.uid, lost) for source in self._sources]

    async def _beat(self, *, stopped: bool) -> None:
        try:
            await self._store.heartbeat(self._session, self._health(), stopped=stopped)
            await self._store.checkpoint()
        except StoreBusy as error:
            self._trouble = str(error)

    async def _mind_clock(self, offset: int, slept: int) -> tuple[int, int]:
        now_off, now_slept = self._store.clock.offset_ns(), clocks.suspended_ns()
        suspended = now_slept - slept > STEP_NS
        if abs(now_off - offset) <= STEP_NS and not suspended:
            return offset, slept
        now = self._store.clock.now_ns()
        await self._store.write_clock_step(now, now_off, "suspend" if suspended else "step")
        if suspended:
            items: list[Item] = [
                (s.device.uid, Gap(from_ns=now - 1_000_000_000, to_ns=now, reason="suspend")) for s in self._sources
            ]
            await self._store.write_items(items)
        return now_off, now_slept
