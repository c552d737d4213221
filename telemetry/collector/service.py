"""A collector: locks its devices, polls each in a thread, and writes what they read through one writer."""

import asyncio
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Self

from telemetry import clock as clocks
from telemetry.collector.lock import DeviceLock, Holder, Kind
from telemetry.collector.pipeline import Channel
from telemetry.collector.poller import SamplerHealth
from telemetry.collector.sampler import Sampler
from telemetry.collector.sources.base import Source
from telemetry.errors import StoreBusy, StoreError
from telemetry.model import Gap, Item
from telemetry.storage.store import SessionHealth, Store

FLUSH_S = 0.2
SLOWEST_S = 2.0  # between tries while the store takes nothing
BATCH = 1000
CAPACITY = 100_000  # some minutes of eight devices while the store is locked or its disk full
STEP_NS = 5_000_000
log = logging.getLogger("telemetry")
STOP_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """How a collector does, for the live line."""

    rows: int
    health: SessionHealth
    devices: tuple[tuple[str, SamplerHealth], ...]  # by name
    trouble: str | None


class Collector:
    """Collects from enter to exit. The sources become its own and are closed by it."""

    def __init__(
        self,
        store: Store,
        sources: Sequence[Source],
        *,
        spec: str,
        period_s: float,
        runtime_dir: Path,
        kind: Kind = "collector",
        listen: str | None = None,
    ) -> None:
        """Collect into a store. `kind`: `recorder` where the process does other work besides.

        listen: the Unix socket on which the process takes events, for others to know.
        """
        self._kind = kind
        self._listen = listen
        self.failures = Counter[str]()  # of what the process does beside reading, stored with the session's own
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

    async def __aenter__(self) -> Self:
        store = self._store
        started = clocks.SteadyClock(store.clock.anchor).now_ns()
        me = Holder(kind=self._kind, pid=os.getpid(), since_ns=started, store=store.path, listen=self._listen)
        try:
            for lock in self._locks:
                lock.acquire(me)
            self._session = await store.start_session(
                source=self._spec,
                settings={"interval": self._period_s},
                version=version("telemetry"),
                devices=[source.device for source in self._sources],
            )
        except BaseException:
            self._let_go()
            raise
        self._offset_ns, self._slept_ns = await store.offset_ns(), clocks.suspended_ns()
        self._cpu_ns = time.process_time_ns()
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

    async def wait(
        self, stop: asyncio.Event, duration_s: float | None, tell: Callable[[Status], None] | None = None
    ) -> None:
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
                if tell is not None:
                    tell(self.status())

    def status(self) -> Status:
        """Return how the collector does."""
        every = self._each_health()
        return Status(
            rows=self._rows,
            health=self._health(every),
            devices=tuple((source.device.name, one) for source, one in zip(self._sources, every, strict=True)),
            trouble=self._trouble,
        )

    def _let_go(self) -> None:
        for source in self._sources:
            source.close()
        for lock in self._locks:
            lock.release()

    def _each_health(self) -> list[SamplerHealth]:
        return [sampler.health() for sampler in self._samplers]

    def _health(self, every: Sequence[SamplerHealth]) -> SessionHealth:
        latencies = [h.spread.latency_p99_ns for h in every if h.spread.latency_p99_ns is not None]
        return SessionHealth(
            polls=sum(h.polls for h in every),
            missed=sum(h.missed for h in every),
            failures=dict(sum((Counter(h.failures) for h in every), self.failures)),
            latency_p99_ns=max(latencies, default=None),
            queue_peak=self._channel.peak,
            # Of a process that does other work besides nobody can say which part was measuring.
            cpu_ns=time.process_time_ns() - self._cpu_ns if self._kind == "collector" else None,
            dropped_rows=self._channel.dropped,
        )

    async def _write(self) -> None:
        beat, pause_s = time.monotonic(), FLUSH_S
        while True:
            stopping = self._silent
            taken = await self._drain()
            pause_s = FLUSH_S if taken else min(2 * pause_s, SLOWEST_S)
            if stopping and taken and await self._beat(stopped=True):
                return
            if stopping and time.monotonic() - beat > 1.5:
                raise StoreBusy(f"{self._trouble} {len(self._spool) + len(self._channel)} rows are lost.")
            if time.monotonic() - beat >= 1.0 and not stopping and taken:
                beat = time.monotonic()
                await self._beat(stopped=False)
            await self._rest(pause_s)

    async def _rest(self, seconds: float) -> None:
        """Wait for the next flush; while stopping, only a moment."""
        if self._stopping.is_set():
            await asyncio.sleep(0.02)
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    async def _drain(self) -> bool:
        """Write what waits; False while the store takes nothing, and the rows are kept."""
        while True:
            self._spool = self._spool or self._channel.drain(BATCH)
            if not self._spool:
                return True
            try:
                await self._store.write_items(self._spool)
            except (StoreBusy, StoreError) as error:
                self._complain(error)
                return False
            self._rows += len(self._spool)
            self._spool = self._channel.lost()
            if self._trouble:
                log.warning("%s takes rows again.", self._store.path)
            self._trouble = None

    def _complain(self, error: StoreBusy | StoreError) -> None:
        if self._trouble != str(error):
            log.warning("%s Rows wait in memory (room for %d) and are tried again.", error, CAPACITY)
        self._trouble = str(error)

    async def _beat(self, *, stopped: bool) -> bool:
        try:
            await self._store.heartbeat(self._session, self._health(self._each_health()), stopped=stopped)
            await self._store.checkpoint()
            await self._mind_clock()
        except (StoreBusy, StoreError) as error:
            self._complain(error)
            return False
        return True

    async def _mind_clock(self) -> None:
        """Write down that the wall clock has moved beside the steady one, and a sleep of the host as a gap."""
        store = self._store
        offset_ns, slept_ns = store.clock.offset_ns(), clocks.suspended_ns()
        suspended = slept_ns - self._slept_ns > STEP_NS
        if abs(offset_ns - self._offset_ns) <= STEP_NS and not suspended:
            return
        now_ns = store.clock.now_ns()
        await store.write_clock_step(now_ns, offset_ns, "suspend" if suspended else "step")
        self._offset_ns, self._slept_ns = offset_ns, slept_ns
        if suspended:  # the steady clock stood still meanwhile: the gap is the second in which that was
            gap = Gap(from_ns=now_ns - 1_000_000_000, to_ns=now_ns, reason="suspend")
            await store.write_items([(source.device.uid, gap) for source in self._sources])
