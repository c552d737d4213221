"""Run, request and token events from any Python program, with or without asyncio.

A recorder sees to it that the devices are being read while it is open: by the collector that is
running on them already, or by one of its own.
"""

import asyncio
import logging
import os
import threading
import time
import uuid
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from telemetry.clock import SteadyClock
from telemetry.collector.lock import holder
from telemetry.collector.service import Collector
from telemetry.collector.sources.select import check_sources, open_sources
from telemetry.errors import CollectorRunning, StoreBusy, StoreError, UserError
from telemetry.join import load_boards, report
from telemetry.model import CountSource, FinishReason, RequestRow, Run, TokenChunk, TokenKind
from telemetry.settings import load_settings
from telemetry.storage.store import Store, open_store

CHUNK = 64
FLUSH_S = 0.3  # a kill -9 loses this and a commit; each flush costs a busy processor a millisecond
LEAD_S = 0.5  # and how long they go before the first run, so that its start does too
PATIENCE_S = 60.0  # with a store that takes nothing at the end
TAIL_S = 2.5  # how long readings go on after the last run, so that its end lies between updates

T = TypeVar("T")
log = logging.getLogger("telemetry")


class Recording:
    """Runs on their way into an open store, on devices that somebody reads."""

    store: Store  # to be set, with `devices`, before `begin`

    def __init__(self, *, patience_s: float = PATIENCE_S) -> None:
        """Wait for `patience_s` at the end where the store takes nothing."""
        self.devices: tuple[str, ...] = ()
        self._patience_s = patience_s
        self._loop_thread: _LoopThread | None = None
        self._followers: list[Any] = []
        self._open: list[RequestRecorder] = []
        self._stops: list[tuple[str, int, str, str | None]] = []  # of runs, not yet written
        self._flushing = asyncio.Lock()

    def begin(self) -> None:
        """Write into `store` what comes, until `finish`."""
        self._done = asyncio.Event()
        self._flusher = asyncio.create_task(self._flush_often())

    async def finish(self) -> None:
        """Write what is left, trying again for as long as a store may well be locked."""
        self._done.set()
        await self._flusher
        until = time.monotonic() + self._patience_s
        while True:
            try:
                await self.flush()
            except (StoreBusy, StoreError):
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(FLUSH_S)
            else:
                return

    def run(self, **about: Any) -> "RunRecorder":
        """Return a run to be entered; keywords are those of `model.Run`."""
        return RunRecorder(self, about)

    def stop_run(self, uid: str, stop_ns: int, status: str, why: str | None) -> None:
        """Take down that a run has ended, for the next flush."""
        self._stops.append((uid, stop_ns, status, why))

    def tell(self, kind: str, key: str) -> None:
        """Let a simulated GPU that follows the events know of one, before anything else happens."""
        for follower in self._followers:
            follower.append(kind, key)

    async def flush(self) -> None:
        """Write what has come of begun runs; what the store does not take now stays for the next flush."""
        async with self._flushing:
            taken = [(request, *request.pending()) for request in self._open if self.store.knows(request.run)]
            if taken:
                chunks = [chunk for _, _, some, _ in taken for chunk in some]
                await self.store.write_events([row for _, row, _, _ in taken], chunks)
            for request, row, _, count in taken:
                request.forget(count)
                if row.status != "open":
                    self._open.remove(request)
            while self._stops:
                await self.store.write_events([], [], self._stops[0])
                del self._stops[0]

    async def _flush_often(self) -> None:
        trouble = None
        while not self._done.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._done.wait(), FLUSH_S)
            try:
                await self.flush()
                trouble = None
            except (StoreBusy, StoreError) as error:  # nothing is lost: the rows stay pending
                if trouble != str(error):
                    log.warning("%s Tokens wait in memory and are tried again.", error)
                trouble = str(error)
            await self._mind_readings()

    async def _mind_readings(self) -> None:
        """See to it that somebody goes on reading the devices; here that is another's business."""


class Recorder(Recording):
    """Writes what a program generates into a store. Use it as a context manager, sync or async.

    `collect=False` records tokens alone, for a client whose GPUs are elsewhere.
    Raises what opening a store or a source raises, and CollectorRunning where a collector already reads
    a device into another store.
    """

    def __init__(
        self,
        store: str | Path | None = None,
        *,
        source: str | None = None,
        gpus: str | None = None,
        interval: float | None = None,
        collect: bool = True,
    ) -> None:
        self.settings = load_settings(
            {"store": store and str(store), "source": source, "gpus": gpus, "interval": interval}
        )
        super().__init__()
        self._collect = collect
        self._stopped: list[str] = []
        self._last_stop = 0.0
        self.hurry = False  # True: do not wait for readings after the last run
        self.listen: str | None = None  # the event socket that serves beside, for others to know

    async def __aenter__(self) -> Self:
        if self._collect:
            await asyncio.to_thread(
                check_sources, self.settings.source, self.settings.gpus, Path(self.settings.runtime_dir)
            )
        self.store = await open_store(self.settings.store)
        self.collector: Collector | None = None
        self._followers = []
        try:
            dead = await self.store.mark_dead()
            if self._collect:
                await self._see_to_readings()
            for pid, run in dead:  # a simulated GPU would go on working for them
                self.tell("clear", f"{pid}:{run}")
        except BaseException:
            await self.store.close()
            raise
        self.begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.finish()
            if self._collect and self._stopped and not self.hurry:
                tail_s = TAIL_S if self.collector else TAIL_S / 2
                await asyncio.sleep(max(0.0, self._last_stop + tail_s - time.monotonic()))
        finally:
            if self.collector:
                await self.collector.__aexit__(None, None, None)
        try:
            if self._stopped:
                boards = load_boards(self.settings.profile, self.settings.calibration)
                await report(self.store, tuple(self._stopped), boards=boards)
        finally:
            for follower in self._followers:
                follower.close()
            await self.store.close()

    def __enter__(self) -> Self:
        self._loop_thread = _LoopThread()
        try:
            self._loop_thread.wait(self.__aenter__())
        except BaseException:
            self._loop_thread.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._loop_thread is not None
        try:
            self._loop_thread.wait(self.__aexit__(kind, error, trace))
        finally:
            self._loop_thread.close()

    def stop_run(self, uid: str, stop_ns: int, status: str, why: str | None) -> None:
        """Take down that a run has ended; it is reported when the recorder closes."""
        super().stop_run(uid, stop_ns, status, why)
        self._stopped.append(uid)
        self._last_stop = time.monotonic()

    async def _mind_readings(self) -> None:
        """Go on reading where the collector of another process did so and has ended."""
        runtime_dir = Path(self.settings.runtime_dir)
        if not self._collect or self.collector or any(holder(runtime_dir, uid) for uid in self.devices):
            return
        log.warning("The collector that read the devices has ended. This recorder reads them itself from here on.")
        try:
            await self._see_to_readings(lead_s=0.0)
        except UserError as error:
            log.warning("%s It is tried again.", error)

    async def _see_to_readings(self, *, lead_s: float = LEAD_S) -> None:
        runtime_dir = Path(self.settings.runtime_dir)
        spec = self.settings.source
        sources = await asyncio.to_thread(open_sources, spec, self.settings.gpus, self.store.clock, runtime_dir)
        self.devices = tuple(source.device.uid for source in sources)
        held = [h for uid in self.devices if (h := holder(runtime_dir, uid))]
        elsewhere = [h for h in held if Path(h.store).resolve() != Path(self.store.path).resolve()]
        if held:
            for source in sources:
                source.close()
        if elsewhere:
            raise CollectorRunning(
                f"A collector (pid {elsewhere[0].pid}) reads this device into {elsewhere[0].store}, "
                f"not into {self.store.path}. Record into that store, or stop it with `telemetry stop`."
            )
        if not held:
            collector = Collector(
                self.store,
                sources,
                spec=spec,
                period_s=self.settings.interval,
                runtime_dir=runtime_dir,
                kind="recorder",
                listen=self.listen,
            )
            await collector.__aenter__()
            self.collector = collector
            await asyncio.sleep(lead_s)
        else:
            await self.store.write_devices([source.device for source in sources])
        self._followers = self._followers or followers(spec, sources, runtime_dir)


def followers(spec: str, sources: Sequence[Any], runtime_dir: Path) -> list[Any]:
    """Return the logs of the simulated GPUs that follow the events, to be closed by the caller."""
    if not spec.startswith("simulated") or not sources:
        return []
    from telemetry.collector.sources.simulated import EventLog, parse_spec

    parsed = parse_spec(spec)
    return [EventLog(parsed.event_log_path(runtime_dir))] if parsed.follows_events else []


class RunRecorder:
    """One run, from enter to exit; an exception inside marks it failed."""

    def __init__(self, recorder: Recording, about: dict[str, Any]) -> None:
        self._recorder = recorder
        self._about = {"pid": os.getpid()} | about
        self.uid = uuid.uuid4().hex
        self._requests = 0

    async def __aenter__(self) -> Self:
        recorder = self._recorder
        usual: dict[str, Any] = {"devices": recorder.devices, "start_ns": recorder.store.clock.now_ns()}
        await recorder.store.start_run(Run(**usual | self._about, uid=self.uid))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stopped = kind is not None and issubclass(kind, asyncio.CancelledError | KeyboardInterrupt)
        self.stop("it was stopped" if stopped else f"{kind.__name__}: {error}" if kind else None)
        with suppress(StoreBusy, StoreError):  # it waits, like the tokens, and is told of by the flusher
            await self._recorder.flush()

    def stop(self, error: str | None = None, mono_ns: int | None = None) -> None:
        """End the run, now or at a CLOCK_MONOTONIC time, with the next flush; with an error it has failed."""
        recorder = self._recorder
        mono_ns = mono_ns or time.monotonic_ns()
        for request in recorder._open:
            if request.run == self.uid and not request.ended:
                request.fail("the run ended before the request did", mono_ns)
        recorder.tell("clear", f"{self._about['pid']}:{self.uid}")
        recorder.stop_run(self.uid, recorder.store.clock.at(mono_ns), "failed" if error else "ok", error)

    def __enter__(self) -> Self:
        return self._wait(self.__aenter__())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wait(self.__aexit__(kind, error, trace))

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        if self._recorder._loop_thread is None:
            work.close()
            raise UserError("The recorder was entered with `async with`; enter its runs the same way.")
        return self._recorder._loop_thread.wait(work)

    def request(self, *, input_tokens: int | None = None) -> "RequestRecorder":
        """Return the run's next request, submitted now."""
        key = f"{self._about['pid']}:{self.uid}:{self._requests}"
        request = RequestRecorder(self._recorder, self.uid, self._requests, key, input_tokens)
        self._requests += 1
        self._recorder._open.append(request)
        return request


class RequestRecorder:
    """One prompt. `token()` is the hot path: a clock read and an append.

    All stamps are `time.monotonic_ns()`; the methods may be called from any one thread.
    """

    def __init__(self, recorder: Recording, run: str, number: int, key: str, input_tokens: int | None) -> None:
        self._recorder = recorder
        self._key = key  # by which followers know it
        self.run, self._number = run, number
        self._submitted = time.monotonic_ns()
        self._started: int | None = None
        self._ended: int | None = None
        self._input, self._cached = input_tokens, None if input_tokens is None else 0
        self._stamps: list[int] = []
        self._closed: list[tuple[int, TokenKind, list[int]]] = []
        self._counted = 0
        self._finish: str | None = None
        self._source: CountSource = "caller"
        self._output: int | None = None
        self._error: str | None = None
        self._lock = threading.Lock()  # of the chunks that are closed; token() does without
        self._first: int | None = None
        self._written = 0

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.ended:
            if kind:
                self.fail(f"{kind.__name__}: {error}")
            else:
                self.end()

    @property
    def ended(self) -> bool:
        """Whether the request has an answer or has failed."""
        return self._ended is not None

    def submit(self, mono_ns: int) -> None:
        """The request was due at this CLOCK_MONOTONIC time, which its latencies count from."""
        self._submitted = mono_ns

    def start(self, mono_ns: int | None = None) -> None:
        """The prefill begins."""
        self._started = mono_ns or time.monotonic_ns()
        self._submitted = min(self._submitted, self._started)  # a runner may take the stamp before it tells of it
        self._recorder.tell("start", self._key)

    def prompt(self, *, input_tokens: int, cached_tokens: int | None) -> None:
        """The prompt's tokens, and how many of them needed no computing; None: not known."""
        self._input, self._cached = input_tokens, cached_tokens

    def token(self) -> None:
        """One output token is there, now."""
        self.token_at(time.monotonic_ns())

    def token_at(self, mono_ns: int) -> None:
        """One output token was there at this CLOCK_MONOTONIC time."""
        if not self._stamps and not self._counted:
            self._recorder.tell("first_token", self._key)
        self._stamps.append(mono_ns)

    def tokens(self, n: int) -> None:
        """Several output tokens arrived together, now."""
        self.chunk_at(time.monotonic_ns(), n)

    def chunk_at(self, mono_ns: int, tokens: int | None) -> None:
        """Several output tokens arrived together at this CLOCK_MONOTONIC time; None: a piece of text, uncounted."""
        if tokens == 1:
            self.token_at(mono_ns)
            return
        if not self._stamps and not self._counted:
            self._recorder.tell("first_token", self._key)
        kind: TokenKind = "chunk" if tokens is None else "coalesced"
        stamps = [mono_ns] * (1 if tokens is None else tokens)
        with self._lock:
            if self._stamps:
                self._closed.append((self._counted, "token", self._stamps))
                self._counted += len(self._stamps)
                self._stamps = []
            if self._closed and self._closed[-1][1] == kind:
                self._closed[-1][2].extend(stamps)  # else a stream of chunks would take a row each
            else:
                self._closed.append((self._counted, kind, stamps))
            self._counted += len(stamps)
        if tokens is None:
            self._source = "chunks"

    def end(
        self,
        mono_ns: int | None = None,
        *,
        finish_reason: FinishReason = "stop",
        output_tokens: int | None = None,
        count_source: CountSource = "caller",
    ) -> None:
        """The answer is complete; `output_tokens` where the engine counts for itself."""
        self._finish, self._output, self._source = finish_reason, output_tokens, count_source
        self._recorder.tell("end", self._key)
        self._ended = mono_ns or time.monotonic_ns()

    def fail(self, error: str, mono_ns: int | None = None) -> None:
        """The prompt could not be answered; tokens that came stay counted."""
        self._finish, self._error = "error", error
        self._recorder.tell("end", self._key)
        self._ended = mono_ns or time.monotonic_ns()

    def pending(self) -> tuple[RequestRow, list[TokenChunk], int]:
        """Return the request as it stands, the chunks not yet written, and the tokens known by now."""
        ended = self._ended
        clock = self._recorder.store.clock
        with self._lock:
            closed = [(begin, kind, stamps[:]) for begin, kind, stamps in self._closed]  # the last one may grow
            segments = [*closed, (self._counted, "token", self._stamps[:])]
        chunks, total = [], 0
        last = None
        for begin, kind, stamps in segments:
            for k in range(0, len(stamps), CHUNK):
                part = stamps[k : k + CHUNK]
                if begin + k + len(part) > self._written:
                    chunks.append(_chunk(clock, self.run, self._number, begin + k, kind, part))
            if stamps:
                self._first, last = self._first or stamps[0], stamps[-1]
            total = begin + len(stamps)
        row = RequestRow(
            run=self.run,
            number=self._number,
            submitted_ns=clock.at(self._submitted),
            started_ns=_at(clock, self._started),
            first_token_ns=_at(clock, self._first),
            last_token_ns=_at(clock, last),
            ended_ns=_at(clock, ended),
            input_tokens=self._input,
            cached_tokens=self._cached,
            output_tokens=total if self._output is None else self._output,
            finish_reason=self._finish,
            count_source=self._source,
            status="open" if ended is None else "failed" if self._error else "ok",
            error=self._error,
        )
        return row, chunks, total

    def forget(self, written: int) -> None:
        """Let go of the stamps that the store has and no later write needs, of the first `written` tokens."""
        with self._lock:
            self._written = written
            kept = [part for part in self._closed[:-1] if part[0] + len(part[2]) > written]
            for begin, kind, stamps in self._closed[-1:]:  # it may grow
                whole = _whole_chunks(begin, len(stamps), written)
                kept.append((begin + whole, kind, stamps[whole:]))
            self._closed = kept
            whole = _whole_chunks(self._counted, len(self._stamps), written)
            self._counted += whole  # before they go: no token may look like the first
            del self._stamps[:whole]


def _whole_chunks(begin: int, n: int, written: int) -> int:
    """Return how many of `n` stamps, the first of which is number `begin`, fill chunks that will not change."""
    return max(0, min(written - begin, n) - 1) // CHUNK * CHUNK


def _at(clock: SteadyClock, mono_ns: int | None) -> int | None:
    return None if mono_ns is None else clock.at(mono_ns)


def _chunk(clock: SteadyClock, run: str, request: int, first: int, kind: Any, stamps: list[int]) -> TokenChunk:
    # From the first stamp, so that gaps do not drift; rounded down, so that no chunk ends after the next begins.
    offsets_us = [(s - stamps[0]) // 1000 for s in stamps]
    return TokenChunk(
        run=run,
        request=request,
        first_index=first,
        kind=kind,
        start_ns=clock.at(stamps[0]),
        gaps_us=tuple(b - a for a, b in pairwise(offsets_us)),
    )


class _LoopThread:
    """An event loop in a thread of its own, for programs without one."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="recorder", daemon=True)
        self._thread.start()

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
