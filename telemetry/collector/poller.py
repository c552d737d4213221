"""One device's polling, slot by slot, without a thread: what a call's outcome means and what is handed on."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from threading import Lock
from types import MappingProxyType
from typing import TypeVar

from telemetry.clock import Clock
from telemetry.collector.pace import WINDOW_NS, Deadlines, RecentPolls, Spread
from telemetry.collector.pipeline import Channel, Reducer, end_of, start_of
from telemetry.collector.sources.base import Source
from telemetry.errors import SourceBusy, SourceLost
from telemetry.model import Gap, Reading, ReadingRow, Sensors, Vitals

S = 1_000_000_000
HANG_NS = 300_000_000  # a call this long is a hang, and a distance this long between polls a gap
STUCK_NS = 5 * S
SLOW_TIER_NS = S
PROCESSES_EACH = 10
BACK_OFF_NS = (S // 2, 10 * S)  # between attempts to open a lost device: first, longest
COSTLY_NS = 5_000_000  # p99 of a call beyond which the device is asked less often
SLOWEST = 8  # times the period that was asked for

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerHealth:
    """How a device's polling goes, at one moment."""

    polls: int  # successful ones
    missed: int  # deadlines that passed unused
    failures: Mapping[str, int]  # failed calls and values not given, by reason
    spread: Spread
    period_ns: int
    slowed: int  # how many times the period asked for: 1, 2, 4 or 8 where calls are costly
    lost: bool
    ended: bool
    reading: Reading | None
    sensors: Sensors | None


class Poller:
    """Polls one device at its deadlines. One thread calls `step`; the others may be called from any."""

    def __init__(
        self,
        source: Source,
        channel: Channel,
        clock: Clock,
        *,
        period_ns: int,
        seed: int,
        start_ns: int,
        keep_all: bool = False,
    ) -> None:
        """Poll first at `start_ns`. `keep_all`: see `Reducer`."""
        self.in_call_since_ns: int | None = None
        self._source = source
        self._uid = source.device.uid
        self._channel = channel
        self._clock = clock
        self._asked_ns = period_ns
        self._deadlines = Deadlines(start_ns, period_ns, Random(seed))
        self._reducer = Reducer(source.device, period_ns, keep_all=keep_all)
        self._recent = RecentPolls()
        self._lock = Lock()
        self._closed = False
        self.ended = False
        self._retry_ns: int | None = None  # not None: the device is lost
        self._retry_wait_ns = BACK_OFF_NS[0]
        self._measured_to_ns = start_ns
        self._hung = self._failed = False  # since then
        self._judged_ns = start_ns
        self._slow_due_ns = start_ns
        self._slow_rows = 0
        self._extremes_mw: tuple[int, int] | None = None
        self._polls_since = self._misses_since = 0
        self._polls = self._missed = 0
        self._failures: Counter[str] = Counter()
        self._reading: Reading | None = None
        self._sensors: Sensors | None = None

    @property
    def due_ns(self) -> int:
        """When to call `step` next."""
        return self._deadlines.due_ns if self._retry_ns is None else self._retry_ns

    def step(self) -> None:
        """Poll the device once, or try to open it again. Raises SourceEnded when a recording is over."""
        now_ns = self._clock.now_ns()
        was_lost = self._retry_ns is not None
        try:
            if was_lost:
                self._call(self._source.reopen)
            self._fast(now_ns - self.due_ns)
            if now_ns >= self._slow_due_ns:
                self._slow()
        except SourceBusy as error:
            with self._lock:
                self._failed = True
                self._count(error)
                if was_lost:  # opened, but it has not answered yet
                    self._retry_later()
        except SourceLost as error:
            with self._lock:
                self._count(error)
                self._retry_later()
        with self._lock:
            if self._retry_ns is None:
                self._move_on(was_lost=was_lost)

    def end(self) -> None:
        """Note that the recording is over: nothing is missing after it."""
        with self._lock:
            self.ended = self._closed = True

    def close(self, *, stuck: bool) -> None:
        """Hand on the gap that is open now, if any, and nothing after it, whatever still returns."""
        with self._lock:
            if self._closed:
                return
            now_ns = self._clock.now_ns()
            if stuck:
                self._emit_gap(now_ns, "stuck")
            elif self._retry_ns is not None or now_ns - self._measured_to_ns > self._tolerated_ns():
                self._emit_gap(now_ns, self._cause())
            self._closed = True

    def health(self) -> SamplerHealth:
        """Return how it goes."""
        with self._lock:
            return SamplerHealth(
                polls=self._polls,
                missed=self._missed,
                failures=MappingProxyType(dict(self._failures)),
                spread=self._recent.spread(self._clock.now_ns()),
                period_ns=self._deadlines.period_ns,
                slowed=self._deadlines.period_ns // self._asked_ns,
                lost=self._retry_ns is not None,
                ended=self.ended,
                reading=self._reading,
                sensors=self._sensors,
            )

    def _call(self, call: Callable[[], T]) -> T:
        began_ns = self._clock.now_ns()
        self.in_call_since_ns = began_ns
        try:
            return call()
        finally:
            self.in_call_since_ns = None
            if self._clock.now_ns() - began_ns > HANG_NS:
                self._hung = True

    def _fast(self, lateness_ns: int) -> None:
        reading = self._call(self._source.read)
        with self._lock:
            if self._closed:  # given up as stuck; what comes after its gap would contradict it
                return
            self._mind_gap(reading)
            reduced = self._reducer.push(reading)
            self._emit(reduced.gap)
            self._emit(reduced.row)
            self._measured_to_ns = end_of(reading)
            self._hung = self._failed = False
            self._retry_ns, self._retry_wait_ns = None, BACK_OFF_NS[0]
            self._reading = reading
            self._polls += 1
            self._polls_since += 1
            if reading.missing:
                self._failures.update(reading.missing)
            self._recent.add(reading.t_ns, reading.latency_ns, lateness_ns)
            power_mw = reading.power_average_mw if reading.power_instant_mw is None else reading.power_instant_mw
            if power_mw is not None:
                low, high = self._extremes_mw or (power_mw, power_mw)
                self._extremes_mw = min(low, power_mw), max(high, power_mw)
            elif self._source.device.integral_of is not None:  # it has a power signal, and did not tell it
                self._misses_since += 1

    def _slow(self) -> None:
        t_ns = self._clock.now_ns()
        # Before the call: one that fails is tried again in a second, not at each poll.
        self._slow_due_ns = max(self._slow_due_ns + SLOW_TIER_NS, t_ns)
        processes = self._slow_rows % PROCESSES_EACH == 0
        sensors = self._call(lambda: self._source.read_sensors(processes=processes))
        with self._lock:
            low, high = self._extremes_mw or (None, None)
            self._emit(
                Vitals(
                    t_ns=t_ns,
                    sensors=sensors,
                    memory_temp_c=self._reading.memory_temp_c if self._reading else None,
                    power_max_mw=high,
                    power_min_mw=low,
                    polls=self._polls_since,
                    misses=self._misses_since,
                )
            )
            self._slow_rows += 1
            self._sensors = sensors
            self._failures.update(sensors.missing)
            self._extremes_mw, self._polls_since, self._misses_since = None, 0, 0

    def _mind_gap(self, reading: Reading) -> None:
        """Report the stretch since the poll before, if it is too long to have been measured."""
        # A hanging call took its value at an unknown moment; until it returned nothing was measured.
        hung_here = reading.latency_ns > HANG_NS
        to_ns = end_of(reading) if hung_here else start_of(reading)
        if self._retry_ns is not None or to_ns - self._measured_to_ns > self._tolerated_ns():
            self._emit_gap(to_ns, self._cause())
            self._reducer.gap()

    def _tolerated_ns(self) -> int:
        return max(3 * self._deadlines.period_ns, HANG_NS)

    def _cause(self) -> str:
        if self._retry_ns is not None:
            return "lost"
        if self._hung:
            return "hang"
        return "error" if self._failed else "missed"

    def _count(self, error: SourceBusy | SourceLost) -> None:
        self._failures[str(error)] += 1
        self._misses_since += 1

    def _retry_later(self) -> None:
        self._retry_ns = self._clock.now_ns() + self._retry_wait_ns
        self._retry_wait_ns = min(2 * self._retry_wait_ns, BACK_OFF_NS[1])

    def _move_on(self, *, was_lost: bool) -> None:
        """Choose the next deadline; ask less often where the last ten seconds' calls were costly."""
        now_ns = self._clock.now_ns()
        passed = self._deadlines.advance(now_ns)
        missed = 0 if was_lost else passed  # nobody was late while there was no device
        self._missed += missed
        if now_ns - self._judged_ns < WINDOW_NS:
            return
        self._judged_ns = now_ns
        p99_ns = self._recent.spread(now_ns).latency_p99_ns
        if p99_ns is not None and p99_ns > COSTLY_NS and self._deadlines.period_ns < SLOWEST * self._asked_ns:
            self._deadlines.slow_down(2)
            self._reducer.period_ns = self._deadlines.period_ns
            self._recent.clear()  # the next judgement is of the new pace alone

    def _emit_gap(self, to_ns: int, reason: str) -> None:
        self._emit(Gap(from_ns=self._measured_to_ns, to_ns=to_ns, reason=reason))

    def _emit(self, item: ReadingRow | Vitals | Gap | None) -> None:
        if item is not None and not self._closed:
            self._channel.put((self._uid, item))
