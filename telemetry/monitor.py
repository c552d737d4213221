"""EnergyMonitor: the energy of a stretch of a program, without a store."""

import asyncio
import os
import threading
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from functools import wraps
from inspect import iscoroutinefunction
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, cast

from telemetry.analysis import Breaks, Rows
from telemetry.clock import SteadyClock, take_anchor
from telemetry.collector.pipeline import Channel
from telemetry.collector.sampler import Sampler
from telemetry.collector.sources.select import open_sources
from telemetry.errors import UserError
from telemetry.join import load_boards
from telemetry.join.boards import watts
from telemetry.join.energy import Trace, measure
from telemetry.model import Gap, Item, Reading, ReadingRow, Sensors, Vitals, power_column
from telemetry.settings import load_settings

LEAST_PERIOD_S = 0.02
TAIL_S = 0.4  # two counter updates of a data-centre GPU, and a little more
KEPT_ROWS = 400_000  # over an hour and a half at 50 Hz with every poll a change
KEPT_VITALS = 8_000

P = ParamSpec("P")
T = TypeVar("T")


class EnergyMonitor:
    """Measures the energy of one device between `start` and `stop`. Takes no lock and writes no store.

    Polling begins at construction, at `sampling_interval` seconds or 20 ms, whichever is shorter;
    `sampling_interval` sets the spacing of the samples that `stop` returns. Use it as a context manager
    (sync or async; the result is then in `.result`) or as a decorator. `close` ends the polling.
    Raises SourceUnavailable where nothing can be measured, UsageError for an unknown GPU.
    """

    def __init__(self, gpu_id: int | str = 0, sampling_interval: float = 0.1, *, source: str | None = None) -> None:
        settings = load_settings({"source": source, "interval": sampling_interval})
        self._clock = SteadyClock(take_anchor())
        self._spacing_s = settings.interval
        self._boards = load_boards(settings.profile, settings.calibration)
        self._sources = open_sources(settings.source, str(gpu_id), self._clock, Path(settings.runtime_dir))
        self._source = self._sources[0]
        self.device = self._source.device
        self._channel = Channel(KEPT_ROWS)
        self._rows: deque[ReadingRow] = deque(maxlen=KEPT_ROWS)
        self._vitals: deque[Vitals] = deque(maxlen=KEPT_VITALS)
        self._gaps: list[Gap] = []
        self._began = self._clock.now_ns()
        self._sampler = Sampler(
            self._source, self._channel, self._clock,
            period_s=min(self._spacing_s, LEAST_PERIOD_S), seed=0, stagger_s=0.0, keep_all=True,
        )  # fmt: skip
        self._sampler.start()
        self._lock = threading.Lock()
        self._t0_ns: int | None = None
        self._closed = False
        self.result: Mapping[str, Any] | None = None

    def start(self) -> None:
        """Stamp the beginning. Raises UserError after `close`."""
        self._t0_ns = self._stamp()

    def stop(self) -> Mapping[str, Any]:
        """Stamp the end, poll on until two later updates or 0.4 s, and return the energy between.

        Keys: energy_joules, energy_low_joules, energy_high_joules, duration_seconds, avg_power_watts,
        peak_power_watts, max_temperature_celsius, grade, method, flags, samples ((s since start, W)),
        device, simulated. A value that was not measured is None. Raises UserError without `start`.
        """
        t1_ns = self._clock.now_ns()
        return self._finish(self._started(), t1_ns)

    def get_current_power(self) -> float | None:
        """Return the latest power, W; None where the driver does not say."""
        reading = self._latest_reading()
        power_mw = reading.power_instant_mw if reading.power_instant_mw is not None else reading.power_average_mw
        return None if power_mw is None else power_mw / 1000

    def get_temperature(self) -> int | None:
        """Return the latest temperature, °C; None where the driver does not say."""
        return self._latest_sensors().temperature_c

    def get_memory_info(self) -> Mapping[str, int | None]:
        """Return used, reserved and total memory, bytes."""
        sensors = self._latest_sensors()
        return {
            "used_bytes": sensors.memory_used_bytes,
            "reserved_bytes": sensors.memory_reserved_bytes,
            "total_bytes": self.device.memory_bytes,
        }

    def close(self) -> None:
        """End the polling. Safe to call twice."""
        if not self._closed:
            self._closed = True
            self._sampler.stop(1.0)
            for source in self._sources:
                source.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.result = self.stop()
        finally:
            self.close()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        t1_ns = self._clock.now_ns()  # here, for a thread may be long in coming
        try:
            self.result = await asyncio.to_thread(self._finish, self._started(), t1_ns)
        finally:
            await asyncio.to_thread(self.close)

    def __call__(self, function: Callable[P, T]) -> Callable[P, T]:
        """Measure each call of a function; the newest result is in `.result`. Polling goes on until `close`.

        Calls may overlap: each is measured from its own start to its own end.
        """
        if iscoroutinefunction(function):

            @wraps(function)
            async def measured_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                t0_ns = self._stamp()
                try:
                    return await cast(Callable[P, Awaitable[Any]], function)(*args, **kwargs)
                finally:
                    self.result = await asyncio.to_thread(self._finish, t0_ns, self._clock.now_ns())

            return cast(Callable[P, T], measured_async)

        @wraps(function)
        def measured(*args: P.args, **kwargs: P.kwargs) -> T:
            t0_ns = self._stamp()
            try:
                return function(*args, **kwargs)
            finally:
                self.result = self._finish(t0_ns, self._clock.now_ns())

        return measured

    def _stamp(self) -> int:
        if self._closed:
            raise UserError("This EnergyMonitor is closed and reads nothing any more. Make a new one.")
        return self._clock.now_ns()

    def _started(self) -> int:
        if self._t0_ns is None:
            raise UserError("EnergyMonitor.stop() was called before start(). Call start() first.")
        t0_ns, self._t0_ns = self._t0_ns, None
        return t0_ns

    def _finish(self, t0_ns: int, t1_ns: int) -> Mapping[str, Any]:
        until = time.monotonic() + TAIL_S
        while time.monotonic() < until and self._updates_after(t1_ns) < 2:
            time.sleep(LEAST_PERIOD_S)
        return self._measure(t0_ns, t1_ns)

    def _take(self) -> None:
        with self._lock:
            items: list[Item] = self._channel.drain(KEPT_ROWS)
            for _, item in items:
                if isinstance(item, ReadingRow):
                    self._rows.append(item)
                elif isinstance(item, Vitals):
                    self._vitals.append(item)
                else:
                    self._gaps.append(item)

    def _updates_after(self, t_ns: int) -> int:
        self._take()
        with self._lock:
            rows = [r for r in self._rows if r.t_ns > t_ns]
        shown = [r.energy_mj if self.device.has_counter else r.integral_uj for r in rows]
        return sum(a != b for a, b in pairwise(shown))

    def _measure(self, t0_ns: int, t1_ns: int) -> Mapping[str, Any]:
        self._take()
        device = self.device
        with self._lock:  # another call may be measured at the same time
            rows, vitals, gaps = list(self._rows), list(self._vitals), list(self._gaps)
        instant = [r.power_instant_mw for r in rows if r.power_instant_mw is not None]
        trace = Trace(
            name=device.name,
            boundary=device.boundary,
            integral_of=device.integral_of,
            limit_w=watts(device.power_limit_mw),
            rows=Rows.of(rows),
            breaks=Breaks.of(gaps, [self._began]),
            vitals=vitals,
            own_pids=[os.getpid()],
        )
        board = self._boards.board(
            name=device.name,
            vbios=device.vbios,
            driver=device.driver,
            limit_w=watts(device.power_limit_mw),
            min_w=watts(min(instant, default=None)),
            max_w=watts(max(instant, default=None)),
        )
        found = measure(trace, board, t0_ns, t1_ns)
        energy = found.energy
        duration_s = (t1_ns - t0_ns) / 1e9
        celsius = found.max_temperature_c
        if celsius is None and (sensors := self._sampler.health().sensors) is not None:
            celsius = sensors.temperature_c  # too short for a row of the slow tier
        return {
            "energy_joules": energy.value,
            "energy_low_joules": energy.lo,
            "energy_high_joules": energy.hi,
            "duration_seconds": duration_s,
            "avg_power_watts": None if energy.value is None or not duration_s else energy.value / duration_s,
            "peak_power_watts": found.peak_power_w,
            "max_temperature_celsius": celsius,
            "grade": energy.grade,
            "method": energy.method,
            "flags": list(energy.flags),
            "samples": self._samples(rows, t0_ns, t1_ns),
            "device": self.device.name,
            "simulated": self.device.simulated,
        }

    def _samples(self, rows: list[ReadingRow], t0_ns: int, t1_ns: int) -> list[tuple[float, float]]:
        """Return (s since start, W) each `sampling_interval`: the reading that was the latest then."""
        if self.device.integral_of is None:
            return []
        column = power_column(self.device.integral_of)
        at_ns = range(t0_ns, t1_ns + 1, round(self._spacing_s * 1e9))
        latest = [bisect_right(rows, t_ns, key=lambda row: row.t_ns) - 1 for t_ns in at_ns]
        held = [(t_ns, getattr(rows[k], column)) for t_ns, k in zip(at_ns, latest, strict=True) if k >= 0]
        return [((t_ns - t0_ns) / 1e9, power_mw / 1000) for t_ns, power_mw in held if power_mw is not None]

    def _latest_reading(self) -> Reading:
        return cast(Reading, self._wait_for("reading"))

    def _latest_sensors(self) -> Sensors:
        return cast(Sensors, self._wait_for("sensors"))

    def _wait_for(self, name: str) -> Any:
        until = time.monotonic() + 5.0
        while (found := getattr(self._sampler.health(), name)) is None:
            if time.monotonic() > until:
                raise UserError(f"{self.device.name} has not answered for 5 s. `telemetry doctor` may say why.")
            time.sleep(LEAST_PERIOD_S)
        return found
