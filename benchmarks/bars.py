"""Measures what telemetry itself costs, against the bars in docs/benchmarks.md, and prints a table.

Run it as `python benchmarks/bars.py`; it takes about six minutes, needs no GPU and leaves nothing behind.
What can be a ratio is one: both sides are measured in turn, in one run, on one machine.
"""

import asyncio
import importlib.util
import multiprocessing
import os
import platform
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from telemetry.clock import SteadyClock, take_anchor
from telemetry.collector.pipeline import Channel
from telemetry.collector.poller import Poller
from telemetry.collector.service import Collector
from telemetry.collector.sources.nvml import open_nvml, values
from telemetry.collector.sources.simulated import simulated_library
from telemetry.experiment import RecordedSink
from telemetry.model import Device, Item, ReadingRow
from telemetry.recorder import Recorder, RunRecorder
from telemetry.runners import (
    Prompt,
    RequestSink,
    Runner,
    RunnerThread,
    StandInRunner,
    TransformersRunner,
    find_smollm2,
    open_llama,
)
from telemetry.storage.store import Store, open_store

S, PERIOD_NS, CALL_NS = 1_000_000_000, 20_000_000, 75_000
GPUS, READINGS_S, COLLECT_S, COLLECTORS = 8, 60, 15, 3
REQUESTS, TOKENS_EACH = 200, 256
DECODE_GAPS_MS = ((8, 12), (0.5, 1.5))
BATCH, BATCHES, ROUNDS = 1000, 20, 15
TOKEN_BATCH, TOKEN_BATCHES = 1000, 200
DECODES, DECODE_TOKENS = 24, 64
PROMPT = "Once upon a time there was a river, and"
STREAMS, TICK_S, TICK_TOKENS, FLOOD_S, FLOODS = 50, 0.02, 21, 5, 3  # 50 streams of 1,050 tokens a second each
STARTS, MEMORY_S = 15, 8
GENERATE_S = 12
ENGINES = {"no engine": "telemetry", "stand-in": "telemetry", "llama": "llama_cpp", "transformers": "transformers"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of the table: samples in `unit`, and the bar their median is held against."""

    what: str
    unit: str
    samples: Sequence[float]
    bar: str
    kept: Callable[[float], bool] | None = None

    def line(self) -> str:
        """Return the line, in Markdown: median, 5th and 95th percentile, n."""
        if not self.samples:
            return f"| {self.what} | not measured | – | 0 | {self.bar} | |"
        low, middle, high = (_quantile(self.samples, q) for q in (0.05, 0.5, 0.95))
        spread = f"{low:.3g} – {high:.3g}" if len(self.samples) > 1 else "–"
        verdict = "" if self.kept is None else "yes" if self.kept(middle) else "NO"
        return f"| {self.what} | {middle:.3g} {self.unit} | {spread} | {len(self.samples)} | {self.bar} | {verdict} |"


def main() -> None:
    """Measure each section and print the table."""
    machine = f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.2f}"
    versions = f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    print(f"{time.strftime('%Y-%m-%d')}, {machine}, {versions}\n")
    print("| what | median | 5 – 95 % | n | bar | kept |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TELEMETRY_RUNTIME_DIR"] = folder
        sections = (
            reading_size, token_size, write_path, flood, event_cost, recording_share, start_up, collector_cost,
            beside_generation,
        )  # fmt: skip
        for section in sections:
            for figure in section(Path(folder)):
                print(figure.line(), flush=True)


def reading_size(folder: Path) -> Iterator[Figure]:
    """Bytes of a stored reading, of what eight simulated H200 under three loads give, in order of time."""
    bytes_a_row, rows_a_second = [], []
    for seed, wave in enumerate(("constant:400", "square:100:650:0.7:0.4", "burst:90:690:2:1")):
        devices, items = _polled(f"simulated:h200,gpus={GPUS},seed={seed},wave={wave}", folder)
        path = folder / f"readings-{seed}.db"
        asyncio.run(_ingest(path, devices, items))
        count = sum(isinstance(item, ReadingRow) for _, item in items)
        bytes_a_row.append(_bytes_of(path, "reading") / count)
        rows_a_second.append(count / GPUS / READINGS_S)
    yield Figure(what="size of a reading row", unit="B", samples=bytes_a_row, bar="≤ 54 B",
                 kept=lambda v: v <= 54)  # fmt: skip
    yield Figure(what="rows per GPU and second, of 50 polls", unit="rows", samples=rows_a_second, bar="–")


class _VirtualClock:
    """A clock that only its owner moves, and that each look at it moves by a driver call's half."""

    def __init__(self) -> None:
        self.t_ns = time.monotonic_ns()

    def now_ns(self) -> int:
        self.t_ns += CALL_NS
        return self.t_ns


def _polled(spec: str, folder: Path) -> tuple[list[Device], list[Item]]:
    clock = _VirtualClock()
    began_ns = clock.t_ns
    library = simulated_library(spec, folder, lambda: clock.t_ns)
    sources = open_nvml("all", clock, {}, library=library)
    channel = Channel(10**7)
    pollers = [
        Poller(s, channel, clock, period_ns=PERIOD_NS, seed=k, start_ns=began_ns + k * PERIOD_NS // GPUS)
        for k, s in enumerate(sources)
    ]
    while clock.t_ns < began_ns + READINGS_S * S:
        poller = min(pollers, key=lambda p: p.due_ns)
        clock.t_ns = max(clock.t_ns, poller.due_ns)
        poller.step()
    devices = [source.device for source in sources]
    for source in sources:
        source.close()
    return devices, channel.drain(10**7)


async def _ingest(path: Path, devices: Sequence[Device], items: Sequence[Item]) -> None:
    async with await open_store(path) as store:
        await store.write_devices(devices)
        for k in range(0, len(items), 20):  # as much as 0.2 s of eight GPUs
            await store.write_items(items[k : k + 20])
        await store.checkpoint()


def _bytes_of(path: Path, table: str) -> int:
    """Return the bytes of the pages of a table and its indexes."""
    with sqlite3.connect(path) as connection:
        found = connection.execute(
            "SELECT sum(pgsize) FROM dbstat WHERE name IN (SELECT name FROM sqlite_schema WHERE tbl_name = ?)",
            (table,),
        ).fetchone()
    return int(found[0])


def token_size(folder: Path) -> Iterator[Figure]:
    """Bytes of a stored token, with its share of chunk, index and request, flushed each 0.3 s of its time."""
    for low_ms, high_ms in DECODE_GAPS_MS:
        samples = []
        for seed in range(3):
            path = folder / f"tokens-{low_ms}-{seed}.db"
            asyncio.run(_generate(path, low_ms, high_ms, random.Random(seed)))
            used = _bytes_of(path, "token_chunk") + _bytes_of(path, "request")
            samples.append(used / (REQUESTS * TOKENS_EACH))
        yield Figure(what=f"size of a token, one each {low_ms}–{high_ms} ms", unit="B", samples=samples,
                     bar="≤ 8 B", kept=lambda v: v <= 8)  # fmt: skip


async def _generate(path: Path, low_ms: float, high_ms: float, chance: random.Random) -> None:
    now_ns = time.monotonic_ns()
    flush_ns = now_ns
    async with Recorder(path, collect=False) as recorder, recorder.run(model="m") as run:
        for _ in range(REQUESTS):
            request = run.request(input_tokens=64)
            request.start(now_ns)
            for _ in range(TOKENS_EACH):
                now_ns += round(chance.uniform(low_ms, high_ms) * 1e6)
                request.token_at(now_ns)
                if now_ns > flush_ns + 300_000_000:
                    flush_ns = now_ns
                    await recorder.flush()
            request.end(now_ns)


def write_path(folder: Path) -> Iterator[Figure]:
    """CPU of the store against sqlite3.executemany: same table, same pragmas, same rows, batch by batch."""
    yield Figure(what="CPU of writing readings ÷ raw executemany", unit="×", bar="≤ 1.5 ×",
                 samples=asyncio.run(_write_ratios(folder)), kept=lambda v: v <= 1.5)  # fmt: skip


async def _write_ratios(folder: Path) -> list[float]:
    devices, items = _polled(f"simulated:h200,gpus={GPUS},wave=constant:400", folder)
    rows = [(uid, item) for uid, item in items if isinstance(item, ReadingRow)][:BATCH]
    shift_ns = rows[-1][1].t_ns - rows[0][1].t_ns + S
    ratios = []
    async with await open_store(folder / "ours.db") as ours, await open_store(folder / "raw.db") as made:
        await ours.write_devices(devices)
        raw = sqlite3.connect(made.path, isolation_level=None)
        raw.execute("PRAGMA synchronous=NORMAL")
        raw.execute("PRAGMA wal_autocheckpoint=0")
        numbers = {device.uid: k + 1 for k, device in enumerate(devices)}
        for k in range(ROUNDS):
            ours_ns = raw_ns = 0
            for j in range(BATCHES):
                later_ns = (k * BATCHES + j) * shift_ns
                batch = [(uid, _later(row, later_ns)) for uid, row in rows]
                tuples = [(numbers[uid], *astuple(row)) for uid, row in batch]
                if j % 2:
                    raw_ns += _write_raw(raw, tuples)
                    ours_ns += await _write_ours(ours, batch)
                else:
                    ours_ns += await _write_ours(ours, batch)
                    raw_ns += _write_raw(raw, tuples)
            ratios.append(ours_ns / raw_ns)
            await ours.checkpoint()
            raw.execute("PRAGMA wal_checkpoint(PASSIVE)")
        raw.close()
    return ratios


def _later(row: ReadingRow, by_ns: int) -> ReadingRow:
    return ReadingRow(
        t_ns=row.t_ns + by_ns, power_instant_mw=row.power_instant_mw, power_average_mw=row.power_average_mw,
        energy_mj=row.energy_mj, integral_uj=row.integral_uj, since_ns=row.since_ns, latency_us=row.latency_us,
    )  # fmt: skip


async def _write_ours(store: Store, batch: Sequence[Item]) -> int:
    began = time.process_time_ns()  # of the process: the connection has a thread of its own
    await store.write_items(batch)
    return time.process_time_ns() - began


def _write_raw(connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]) -> int:
    began = time.process_time_ns()
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany("INSERT INTO reading VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
    connection.execute("COMMIT")
    return time.process_time_ns() - began


def event_cost(folder: Path) -> Iterator[Figure]:
    """Time of `token()`, beside the bare clock read and append that it cannot do without."""
    ours, bare = [], []
    with Recorder(folder / "events.db", collect=False) as recorder, recorder.run(model="m") as run:
        for _ in range(TOKEN_BATCHES):
            with run.request() as request:
                request.token()  # the first one tells a simulated GPU and is not the hot path
                stamps: list[int] = []
                began = time.perf_counter_ns()
                for _ in range(TOKEN_BATCH):
                    request.token()
                between = time.perf_counter_ns()
                for _ in range(TOKEN_BATCH):
                    stamps.append(time.monotonic_ns())
                ended = time.perf_counter_ns()
            ours.append((between - began) / TOKEN_BATCH / 1000)
            bare.append((ended - between) / TOKEN_BATCH / 1000)
    yield Figure(what="`token()`, means of 1,000 calls", unit="µs", samples=ours, bar="≤ 1 µs",
                 kept=lambda v: v <= 1)  # fmt: skip
    yield Figure(what="`token()` ÷ bare clock read and append", unit="×", bar="–",
                 samples=[a / b for a, b in zip(ours, bare, strict=True)])  # fmt: skip


def recording_share(folder: Path) -> Iterator[Figure]:
    """CPU of a real decode, recorded and not, in turn: one model thread, from the first token to the last."""
    path = find_smollm2()
    ratios, shares = [], []
    what = "recording: CPU of its threads ÷ the model's, a decode of SmolLM2"
    if path is None or importlib.util.find_spec("llama_cpp") is None:
        what += " (llama-cpp-python or the model is not installed)"
    else:
        with (
            closing(open_llama(path, threads=1, context=512)) as runner,
            Recorder(folder / "decodes.db", collect=False) as recorder,
            recorder.run(model="SmolLM2") as run,
        ):
            for k in range(DECODES + 1):
                sinks = [_DecodeCost(None), _DecodeCost(RecordedSink(run))]
                for sink in sinks if k % 2 else reversed(sinks):
                    runner.generate([Prompt(text=PROMPT, max_tokens=DECODE_TOKENS)], [sink], threading.Event())
                if k:  # the first pair warms up
                    bare, recorded = sinks
                    ratios.append(recorded.thread_ns / bare.thread_ns)
                    shares.append(100 * (recorded.process_ns - recorded.thread_ns) / recorded.thread_ns)
    yield Figure(what=what, unit="%", samples=shares, bar="≤ 0.5 %", kept=lambda v: v <= 0.5)
    yield Figure(what="recording: CPU of the model's thread, recorded ÷ not", unit="×", samples=ratios, bar="–")


class _DecodeCost:
    """Passes one answer on to a sink, where there is one, and keeps the CPU time of its decode."""

    def __init__(self, sink: RequestSink | None) -> None:
        self._sink = sink
        self._tokens = 0
        self.thread_ns = 0  # of the model's thread
        self.process_ns = 0  # of all threads, so with those of the recorder

    def start(self, mono_ns: int) -> None:
        if self._sink:
            self._sink.start(mono_ns)

    def prompt(self, **counts: int) -> None:
        if self._sink:
            self._sink.prompt(**counts)

    def token(self, mono_ns: int) -> None:
        if self._sink:
            self._sink.token(mono_ns)
        self._tokens += 1
        if self._tokens == 1:
            self.thread_ns, self.process_ns = -time.thread_time_ns(), -time.process_time_ns()

    def end(self, mono_ns: int, **about: Any) -> None:
        self.thread_ns += time.thread_time_ns()
        self.process_ns += time.process_time_ns()
        if self._tokens != DECODE_TOKENS:
            raise ValueError(f"the model stopped after {self._tokens} tokens: this measures another length")
        if self._sink:
            self._sink.end(mono_ns, **about)

    def fail(self, mono_ns: int, error: Exception) -> None:
        raise error


def flood(folder: Path) -> Iterator[Figure]:
    """Eight GPUs and 50 streams of tokens into one store from one process: what was produced against what arrived."""
    floods = [asyncio.run(_flood(folder / f"flood-{k}.db")) for k in range(FLOODS)]
    what = f"{GPUS} GPUs at 50 Hz and 50,000 tokens/s together"
    yield Figure(what=f"{what}: tokens per second", unit="k", samples=[one.tokens_s / 1e3 for one in floods],
                 bar="≥ 50 k", kept=lambda v: v >= 50)  # fmt: skip
    yield Figure(what=f"{what}: tokens not in the store", unit="tokens", samples=[one.lost_tokens for one in floods],
                 bar="0", kept=lambda v: v == 0)  # fmt: skip
    yield Figure(what=f"{what}: rows not in the store", unit="rows", samples=[one.lost_rows for one in floods],
                 bar="0", kept=lambda v: v == 0)  # fmt: skip
    yield Figure(what=f"{what}: deadlines kept", unit="%", samples=[one.kept_pct for one in floods], bar="–")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Flood:
    tokens_s: float
    lost_tokens: int
    lost_rows: int
    kept_pct: float


async def _flood(path: Path) -> _Flood:
    spec = f"simulated:h200,gpus={GPUS},wave=square:100:650:0.7:0.4"
    recorder = Recorder(path, source=spec, interval=PERIOD_NS / S)
    async with recorder, recorder.run(model="m") as run:
        began = time.monotonic()
        produced = await asyncio.to_thread(_pour, run)
        took_s = time.monotonic() - began
    assert recorder.collector is not None
    status = recorder.collector.status()
    with sqlite3.connect(path) as connection:
        tokens = connection.execute("SELECT sum(1 + json_array_length(gaps_us)) FROM token_chunk").fetchone()[0]
        rows = connection.execute(
            "SELECT (SELECT count(*) FROM reading) + (SELECT count(*) FROM vitals) + (SELECT count(*) FROM gap)"
        ).fetchone()[0]
    return _Flood(
        tokens_s=produced / took_s,
        lost_tokens=produced - tokens,
        lost_rows=status.rows + status.health.dropped_rows - rows,
        kept_pct=100 * status.health.polls / (status.health.polls + status.health.missed),
    )


def _pour(run: RunRecorder) -> int:
    """Give tokens at their times, each stream a new request every second; return how many."""
    produced, due = 0, time.monotonic()
    for _ in range(FLOOD_S):
        requests = [run.request(input_tokens=64) for _ in range(STREAMS)]
        for request in requests:
            request.start()
        for _ in range(round(1 / TICK_S)):
            for request in requests:
                for _ in range(TICK_TOKENS):
                    request.token()
            produced += STREAMS * TICK_TOKENS
            due += TICK_S
            time.sleep(max(0.0, due - time.monotonic()))
        for request in requests:
            request.end()
    return produced


def start_up(_folder: Path) -> Iterator[Figure]:
    """Wall time of `telemetry --help`, beside a Python that does nothing, in turn."""
    ours, bare = [], []
    for _ in range(STARTS):
        ours.append(_wall_s([sys.executable, "-m", "telemetry.cli", "--help"]))
        bare.append(_wall_s([sys.executable, "-c", "pass"]))
    yield Figure(what="`telemetry --help`", unit="s", samples=ours, bar="≤ 0.3 s", kept=lambda v: v <= 0.3)
    yield Figure(what="`telemetry --help` ÷ `python -c pass`", unit="×", bar="–",
                 samples=[a / b for a, b in zip(ours, bare, strict=True)])  # fmt: skip


def _wall_s(command: Sequence[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def collector_cost(folder: Path) -> Iterator[Figure]:
    """A collector of eight GPUs at the default period, in a process of its own so that memory is its own."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as pool:
        paths = [str(folder / f"collector-{k}.db") for k in range(2 * COLLECTORS)]
        costs = list(pool.map(_collect, paths, ["pynvml", "library"] * COLLECTORS))
    bindings, library = costs[::2], costs[1::2]
    yield Figure(what="8 GPUs: CPU beyond calls of pynvml, share of a core", unit="%", bar="≤ 5 %",
                 samples=[cost.cpu_pct for cost in bindings], kept=lambda v: v <= 5)  # fmt: skip
    yield Figure(what="8 GPUs: the same, pynvml itself counted as ours", unit="%", bar="–",
                 samples=[cost.cpu_pct for cost in library])  # fmt: skip
    yield Figure(what="8 GPUs: CPU inside the simulated driver library", unit="%", bar="–",
                 samples=[cost.driver_pct for cost in library])  # fmt: skip
    yield Figure(what="8 GPUs: deadlines kept", unit="%", bar="≥ 99 %",
                 samples=[cost.kept_pct for cost in costs], kept=lambda v: v >= 99)  # fmt: skip
    yield Figure(what="8 GPUs: p99 lateness, each GPU", unit="ms", bar="≤ 5 ms",
                 samples=[late for cost in costs for late in cost.lateness_ms], kept=lambda v: v <= 5)  # fmt: skip
    yield Figure(what="8 GPUs: peak memory of `telemetry collect`", unit="MiB", bar="≤ 80 MiB",
                 samples=[_memory_mib(folder / f"memory-{k}.db") for k in range(COLLECTORS)],
                 kept=lambda v: v <= 80)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cost:
    cpu_pct: float
    driver_pct: float
    kept_pct: float
    lateness_ms: tuple[float, ...]


class _Timed:
    """Something whose functions, when called through this, add up the CPU time of their threads."""

    def __init__(self, inner: Any, spent_ns: list[int]) -> None:
        self._inner = inner
        self._spent_ns = spent_ns  # appended to by all threads: that is atomic, += is not

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._inner, name)
        if not name.startswith("nvml") or name == "nvmlErrorString":  # pynvml sets attributes on this one
            return function

        def timed(*arguments: Any) -> Any:
            began = time.thread_time_ns()
            try:
                return function(*arguments)
            finally:
                self._spent_ns.append(time.thread_time_ns() - began)

        return timed


def _collect(path: str, border: str) -> _Cost:
    """Collect for a while; what is spent beyond `border`, `pynvml` or the driver's `library`, counts as ours."""
    return asyncio.run(_collect_for_a_while(Path(path), border))


async def _collect_for_a_while(path: Path, border: str) -> _Cost:
    folder, spent_ns = path.parent, list[int]()
    spec = f"simulated:h200,gpus={GPUS},wave=square:100:650:0.7:0.4"
    library = simulated_library(spec, folder, time.monotonic_ns)
    if border == "library":
        library = _Timed(library, spent_ns)
    else:
        values.pynvml = _Timed(values.pynvml, spent_ns)  # the module whose calls are made at each poll
    async with await open_store(path) as store:
        sources = open_nvml("all", SteadyClock(take_anchor()), {}, library=library)
        async with Collector(store, sources, spec=spec, period_s=PERIOD_NS / S, runtime_dir=folder) as collector:
            spent_ns.clear()
            cpu_ns, began_ns = time.process_time_ns(), time.monotonic_ns()
            await collector.wait(asyncio.Event(), COLLECT_S)
            wall_ns, driver_ns = time.monotonic_ns() - began_ns, sum(spent_ns)
            cpu_ns = time.process_time_ns() - cpu_ns
            status = collector.status()
    lateness_ns = [health.spread.lateness_p99_ns for _, health in status.devices]
    return _Cost(
        cpu_pct=100 * (cpu_ns - driver_ns) / wall_ns,
        driver_pct=100 * driver_ns / wall_ns,
        kept_pct=100 * status.health.polls / (status.health.polls + status.health.missed),
        lateness_ms=tuple(late / 1e6 for late in lateness_ns),
    )


def beside_generation(folder: Path) -> Iterator[Figure]:
    """What is left of a collector's schedule while a model in the same process generates, on one thread."""
    spawn = multiprocessing.get_context("spawn")
    for engine, module in ENGINES.items():
        beside: list[_Beside] = []
        what = f"8 GPUs beside {engine} in the same process"
        if importlib.util.find_spec(module) is None or (engine == "llama" and find_smollm2() is None):
            what += " (it is not installed)"
        else:
            with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as pool:
                paths = [str(folder / f"beside-{engine}-{k}.db") for k in range(COLLECTORS)]
                beside = list(pool.map(_collect_beside, paths, [engine] * COLLECTORS))
        yield Figure(what=f"{what}: deadlines kept", unit="%", bar="≥ 99 %",
                     samples=[one.kept_pct for one in beside], kept=lambda v: v >= 99)  # fmt: skip
        yield Figure(what=f"{what}: p99 lateness, each GPU", unit="ms", bar="≤ 5 ms",
                     samples=[late for one in beside for late in one.lateness_ms], kept=lambda v: v <= 5)  # fmt: skip
        if engine != "no engine":
            yield Figure(what=f"{what}: tokens per second", unit="tokens", bar="–",
                         samples=[one.tokens_s for one in beside])  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Beside:
    kept_pct: float
    lateness_ms: tuple[float, ...]
    tokens_s: float


def _collect_beside(path: str, engine: str) -> _Beside:
    return asyncio.run(_collect_while_generating(Path(path), engine))


async def _collect_while_generating(path: Path, engine: str) -> _Beside:
    spec = f"simulated:h200,gpus={GPUS},wave=square:100:650:0.7:0.4"
    async with RunnerThread() as thread:
        runner = None if engine == "no engine" else await thread.call(_open, engine)
        recorder = Recorder(path, source=spec, interval=PERIOD_NS / S)
        async with recorder, recorder.run(model=engine) as run:
            generating = asyncio.ensure_future(thread.call(_generate_on, runner, run, thread.cancel))
            await asyncio.sleep(GENERATE_S)
            thread.cancel.set()
            tokens_s = await generating
            assert recorder.collector is not None
            status = recorder.collector.status()
        if runner is not None:
            await thread.call(runner.close)
    return _Beside(
        kept_pct=100 * status.health.polls / (status.health.polls + status.health.missed),
        lateness_ms=tuple(health.spread.lateness_p99_ns / 1e6 for _, health in status.devices),
        tokens_s=tokens_s,
    )


def _generate_on(runner: Runner | None, run: RunRecorder, cancel: threading.Event) -> float:
    """Answer the same prompt until the cancel; return tokens per second."""
    answers, began = 0, time.monotonic()
    while runner is not None and not cancel.is_set():
        runner.generate([Prompt(text=PROMPT, max_tokens=DECODE_TOKENS)], [RecordedSink(run)], cancel)
        answers += 1
    return max(0, answers - 1) * DECODE_TOKENS / (time.monotonic() - began)  # the last one was cut short


def _open(engine: str) -> Runner:
    if engine == "stand-in":
        return StandInRunner()
    path = find_smollm2()
    if engine == "llama" and path is not None:
        return open_llama(path, threads=1, context=512)
    return _random_transformers()


def _random_transformers() -> TransformersRunner:
    """Return a model of 47 M random weights: they compute as much as any, and no weights are on hand to load."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    letters = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=letters, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=32_000, hidden_size=512, intermediate_size=1536, num_hidden_layers=8,
                         num_attention_heads=8, eos_token_id=None)  # fmt: skip
    return TransformersRunner.wrap(LlamaForCausalLM(config).eval(), PreTrainedTokenizerFast(tokenizer_object=tokenizer))


def _memory_mib(path: Path) -> float:
    """Return the peak memory of the command itself, after some seconds of collecting."""
    line = [sys.executable, "-m", "telemetry.cli", "collect", "--source", f"simulated:h200,gpus={GPUS}"]
    with subprocess.Popen([*line, "--store", str(path)], stderr=subprocess.DEVNULL) as collector:
        time.sleep(MEMORY_S)
        # Not ru_maxrss: Linux hands the parent's peak down to a child that it starts.
        lines = Path(f"/proc/{collector.pid}/status").read_text().splitlines()
        collector.terminate()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def _quantile(samples: Sequence[float], share: float) -> float:
    if len(samples) == 1:
        return samples[0]
    if share == 0.5:
        return statistics.median(samples)
    ordered = sorted(samples)
    place = share * (len(ordered) - 1)
    low = int(place)
    return ordered[low] + (place - low) * (ordered[min(low + 1, len(ordered) - 1)] - ordered[low])


if __name__ == "__main__":
    main()
