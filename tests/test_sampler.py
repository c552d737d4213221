"""The polling of one device: on time, through faults, and with an end."""

import threading
import time
from itertools import pairwise

import pytest

from telemetry.clock import SteadyClock, take_anchor
from telemetry.collector.pipeline import Channel
from telemetry.collector.poller import Poller
from telemetry.collector.sampler import Sampler
from telemetry.errors import SourceBusy, SourceEnded, SourceLost
from telemetry.model import Device, Gap, Reading, ReadingRow, Sensors, Vitals

MS, S = 1_000_000, 1_000_000_000
PERIOD_NS = 20 * MS
GPU = Device(uid="GPU-1", name="a GPU", index=0, has_counter=True, integral_of="instant")


class VirtualClock:
    def __init__(self) -> None:
        self.t_ns = 1_000 * S

    def now_ns(self) -> int:
        return self.t_ns


class Scripted:
    """A source that reads 400 W, except in the spans of time where it is told to fail."""

    device = GPU

    def __init__(self, clock: VirtualClock) -> None:
        self.clock, self.began = clock, clock.t_ns
        self.trouble: list[tuple[int, int, Exception]] = []
        self.reopened = 0
        self.latency_ns = 0
        self.power_mw: int | None = 400_000
        self.polled: list[int] = []

    def _fail(self) -> None:
        since = self.clock.t_ns - self.began
        for from_ns, to_ns, error in self.trouble:
            if from_ns <= since < to_ns:
                raise error

    def read(self) -> Reading:
        self._fail()
        self.polled.append(self.clock.t_ns)
        self.clock.t_ns += self.latency_ns
        return Reading(
            t_ns=self.clock.t_ns - self.latency_ns // 2,
            latency_ns=self.latency_ns,
            power_instant_mw=self.power_mw,
            energy_mj=self.clock.t_ns // MS,
        )

    def read_sensors(self, *, processes: bool) -> Sensors:
        return Sensors(temperature_c=40)

    def reopen(self) -> None:
        self.reopened += 1
        self._fail()

    def close(self) -> None: ...


def polled(clock: VirtualClock, source: Scripted, seconds: float) -> tuple[Poller, Channel]:
    channel = Channel(100_000)
    poller = Poller(source, channel, clock, period_ns=PERIOD_NS, seed=1, start_ns=clock.t_ns)
    until = clock.t_ns + int(seconds * S)
    while poller.due_ns < until:
        clock.t_ns = max(clock.t_ns, poller.due_ns)
        poller.step()
    return poller, channel


def gaps(channel: Channel) -> list[Gap]:
    return [item for _, item in channel.drain(100_000) if isinstance(item, Gap)]


def test_polls_are_dithered_about_deadlines_that_do_not_drift() -> None:
    clock = VirtualClock()
    source = Scripted(clock)
    poller, channel = polled(clock, source, 10.0)
    off = [t - source.began - k * PERIOD_NS for k, t in enumerate(source.polled)]
    assert 499 <= len(off) <= 501
    assert max(map(abs, off)) <= 0.3 * PERIOD_NS
    assert max(off) - min(off) > 0.4 * PERIOD_NS
    kinds = [type(item) for _, item in channel.drain(100_000)]
    assert kinds.count(Vitals) in {9, 10, 11}
    assert kinds.count(ReadingRow) == len(off)  # the counter changes at each poll
    assert poller.health().polls == len(off)
    assert poller.health().missed == 0


def test_failing_calls_are_counted_by_reason_and_leave_a_gap() -> None:
    clock = VirtualClock()
    source = Scripted(clock)
    source.trouble = [(1 * S, 2 * S, SourceBusy("timeout"))]
    poller, channel = polled(clock, source, 3.0)
    (gap,) = gaps(channel)
    assert gap.reason == "error"
    assert gap.from_ns - source.began == pytest.approx(1 * S, abs=2 * PERIOD_NS)
    assert gap.to_ns - source.began == pytest.approx(2 * S, abs=2 * PERIOD_NS)
    assert sum(poller.health().failures.values()) == pytest.approx(50, abs=2)


def test_a_lost_device_is_opened_again_and_its_absence_is_a_gap() -> None:
    clock = VirtualClock()
    source = Scripted(clock)
    source.trouble = [(1 * S, 3 * S, SourceLost("gpu is lost"))]
    poller, channel = polled(clock, source, 8.0)
    (gap,) = gaps(channel)
    assert gap.reason == "lost"
    assert gap.from_ns - source.began == pytest.approx(1 * S, abs=2 * PERIOD_NS)
    assert gap.to_ns - source.began >= 3 * S
    assert source.reopened >= 2
    assert not poller.health().lost


def test_a_late_thread_counts_the_slots_it_missed() -> None:
    clock = VirtualClock()
    source = Scripted(clock)
    poller, channel = polled(clock, source, 1.0)
    clock.t_ns += 1 * S
    poller.step()
    assert poller.health().missed == pytest.approx(49, abs=2)
    assert [gap.reason for gap in gaps(channel)] == ["missed"]


def test_a_device_whose_calls_are_costly_is_asked_less_often_and_not_without_end() -> None:
    clock = VirtualClock()
    source = Scripted(clock)
    source.latency_ns = 6 * MS
    poller, channel = polled(clock, source, 120.0)
    late = [b - a for a, b in pairwise(source.polled[-50:])]
    assert sum(late) / len(late) == pytest.approx(8 * PERIOD_NS, rel=0.05)
    assert poller.health().slowed == 8
    assert poller.health().missed == 0
    assert gaps(channel) == []


def test_polls_that_give_no_power_are_told_in_the_vitals() -> None:
    clock = VirtualClock()
    source = Scripted(clock)
    source.power_mw = None
    _, channel = polled(clock, source, 3.0)
    rows = [item for _, item in channel.drain(100_000) if isinstance(item, Vitals)]
    assert [(row.power_max_mw, row.misses == row.polls) for row in rows] == [(None, True)] * len(rows)


def test_a_recording_that_ends_raises_out_of_the_poller() -> None:
    clock = VirtualClock()
    source = Scripted(clock)
    source.trouble = [(1 * S, 9 * S, SourceEnded("over"))]
    with pytest.raises(SourceEnded):
        polled(clock, source, 2.0)


def test_a_call_that_hangs_does_not_hold_up_the_stop_and_is_told_as_a_gap() -> None:
    clock = SteadyClock(take_anchor())
    never = threading.Event()

    class Hanging(Scripted):
        def read(self) -> Reading:
            if self.polled:
                never.wait(20)
            self.polled.append(clock.now_ns())
            return Reading(t_ns=clock.now_ns(), latency_ns=0, energy_mj=1)

    channel = Channel(1000)
    sampler = Sampler(Hanging(VirtualClock()), channel, clock, period_s=0.02, seed=0, stagger_s=0.0)
    sampler.start()
    until = time.monotonic() + 5
    while not (sampler.health().polls and sampler.in_call_since_ns) and time.monotonic() < until:
        time.sleep(0.01)
    assert not sampler.stop(0.2)
    assert [gap.reason for gap in gaps(channel)] == ["stuck"]
    never.set()
    until = time.monotonic() + 5
    while sampler.running and time.monotonic() < until:
        time.sleep(0.01)
    assert channel.drain(10) == []  # what the call brings afterwards is not handed on
