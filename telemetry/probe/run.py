"""A probe from beginning to end: the stages in order, and the profile that they make."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version

from telemetry.errors import UsageError
from telemetry.probe import stages
from telemetry.probe.bench import Bench
from telemetry.probe.fits import FLAT, Grid
from telemetry.probe.stages import Grids
from telemetry.probe.trace import Level
from telemetry.probe.verdict import Signal, decide
from telemetry.profile import DeviceProfile, PublishGrid

INVARIANT = 0.005  # power by the counter may differ by so much when it is read often
SAME_PERIOD = 0.001  # a load in step with one grid then stays in step with the other for the length of a sweep
STAGES_S = {  # what is being done, and about how long it takes
    "idle power": 8,
    "publish grids": 22,
    "reading the counter often, at rest": 49,
    "reading the counter often, under load": 52,
    "signals against each other": 64,
    "what each signal sees of a square load": 38,
    "answer to steps": 32,
    "coming to rest": 12,
}

Tell = Callable[[str, float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class UnderLoad:
    """What only a load shows: the fields of a `DeviceProfile` of the same names."""

    instant_window_ns: int | None = None
    average_window_ns: int | None = None
    average_covers_all: bool | None = None
    counter_window_ns: int | None = None
    counter_covers_all: bool | None = None
    lag_ns: int | None = None
    delay_ns: int | None = None
    idle_after_load_w: float | None = None
    decay_s: float | None = None


class Progress:
    """Says which stage begins, and what share of the probe is done by then."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._done_s = 0.0

    def begin(self, words: str) -> None:
        """Take note that a stage begins."""
        self._tell(words, self._done_s / sum(STAGES_S.values()))
        self._done_s += STAGES_S[words]


def run_probe(bench: Bench, tell: Tell = lambda _words, _share: None) -> DeviceProfile:
    """Characterise a device's sensor; return what it is like and which energy path to trust.

    tell: called with what is being done and what share of it all is done. Takes about five minutes of the
    bench's clock. Without a load what only a load shows stays None, and the verdict is that of a device that
    nobody tested. Raises UsageError for a device that renews nothing and for a load that fails, SourceLost.
    """
    progress = Progress(tell)
    progress.begin("idle power")
    bare = bench.watch_for(4, 0.02).level()
    if bench.load is not None:
        bench.load.open()
    idle = bench.watch_for(4, 0.02).level()
    progress.begin("publish grids")
    grids = stages.find_grids(bench)
    if grids.instant is None:  # some drivers answer 0 mW, or nothing, when they are asked so often
        grids = stages.find_grids(bench, every_s=0.012)
    if grids.instant is None and grids.counter is None:
        raise UsageError(f"{bench.device.name} renewed neither its power nor its counter in 20 s: nothing to probe.")
    stamps, ring = stages.find_stamps(bench), stages.find_ring(bench)
    call_rate = _call_rate(bench, progress, grids.counter)
    progress.begin("signals against each other")
    steady = stages.measure_steady(bench, grids.counter)
    loaded = bench.load is not None
    found = _under_load(bench, progress, grids, idle, steady.level) if loaded else UnderLoad()
    invariant = all(abs(r - 1) <= INVARIANT for _, r in call_rate) if loaded and call_rate else None
    if invariant is False:  # what such a counter shows of a square load says nothing
        found = replace(found, counter_covers_all=None, counter_window_ns=None)
    agreement = _ratio(steady.counter_w, steady.level.instant_w) if loaded else None
    verdict = decide(
        has_counter=grids.counter is not None,
        invariant=invariant,
        counter_covers_all=found.counter_covers_all,
        best_signal=_best_signal(grids.instant, found),
        counter_over_instant=agreement,
    )
    device = bench.device
    return DeviceProfile(
        name=device.name,
        vbios=device.vbios,
        driver=device.driver,
        simulated=device.simulated,
        probed=datetime.now(UTC).isoformat(timespec="seconds"),
        version=version("telemetry"),
        floor_w=round(0.8 * bench.least_w, 3),
        cap_w=round(max(1.35 * (device.power_limit_mw or 0) / 1000, 1.1 * bench.most_w), 3),
        instant=_published(grids.instant),
        average=_published(grids.average),
        counter=_published(grids.counter),
        counter_call_rate_invariant=invariant,
        call_rate=call_rate,
        counter_over_instant=agreement,
        average_over_instant=_ratio(steady.level.average_w, steady.level.instant_w) if loaded else None,
        latency_p50_ns=steady.latency_p50_ns,
        latency_p99_ns=steady.latency_p99_ns,
        ring_samples=ring and ring[0],
        ring_spacing_ns=ring and ring[1],
        stamps=stamps,
        idle_bare_w=_known(bare.instant_w),
        idle_context_w=_known(idle.instant_w) if loaded else None,
        **asdict(found),
        **asdict(verdict),
    )


def _call_rate(bench: Bench, progress: Progress, counter: Grid | None) -> tuple[tuple[float, float], ...]:
    """Return for each time between reads the ratio that is further from 1, of rest and load."""
    worst: dict[float, float] = {}
    for busy, words in ((False, "at rest"), (True, "under load")):
        progress.begin(f"reading the counter often, {words}")
        if counter is not None and (bench.load is not None or not busy):
            for period_s, ratio in stages.measure_call_rate(bench, counter, busy=busy).items():
                worst[period_s] = max(ratio, worst.get(period_s, 1.0), key=lambda r: abs(r - 1))
    return tuple(worst.items())


def _under_load(bench: Bench, progress: Progress, grids: Grids, idle: Level, steady: Level) -> UnderLoad:
    progress.begin("what each signal sees of a square load")
    seen = _seen(bench, grids, idle, steady)
    progress.begin("answer to steps")
    delay_ns = ramp_ns = None
    if grids.instant:
        delay_ns, ramp_ns = stages.measure_rise(bench, grids.instant, low=idle, high=steady)
    progress.begin("coming to rest")
    after_load_w, decay_s = stages.measure_rest(bench, idle_w=idle.instant_w)
    if delay_ns is not None and seen.instant_window_ns is not None:
        delay_ns -= seen.instant_window_ns / 2 + (seen.lag_ns or 0)  # the middle of a window lies half of it back
    return replace(
        seen,
        average_window_ns=None if ramp_ns is None else round(ramp_ns),
        delay_ns=None if delay_ns is None else round(max(0.0, delay_ns)),
        idle_after_load_w=_known(after_load_w),
        decay_s=decay_s,
    )


def _seen(bench: Bench, grids: Grids, idle: Level, steady: Level) -> UnderLoad:
    """Sweep a square load over the grid of the power signals, and of the counter where that is another."""
    instant, counter = grids.instant, grids.counter
    power = stages.sweep(bench, instant, counter or instant) if instant else None
    counted = power
    if counter and not (instant and abs(counter.period_ns / instant.period_ns - 1) < SAME_PERIOD):
        counted = stages.sweep(bench, counter, counter)
    found = UnderLoad()
    levels = {"low_w": idle.instant_w, "high_w": steady.instant_w}
    if instant and power:
        window = stages.look(power.instant_w, **levels)
        found = UnderLoad(
            instant_window_ns=None if window is None else round(window.width * instant.period_ns),
            lag_ns=None if window is None else round(window.lag * instant.period_ns),
            average_covers_all=stages.covers_all(power.average_w),
        )
    if counter and counted:
        covers_all = stages.covers_all(counted.counter_w)
        part = stages.look(counted.counter_w, **levels) if covers_all is False else None
        part_ns = None if part is None else round(part.width * counter.period_ns)
        found = replace(found, counter_covers_all=covers_all, counter_window_ns=part_ns)
    return found


def _best_signal(grid: Grid | None, found: UnderLoad) -> Signal:
    """Return INSTANT unless only AVERAGE takes in all energy: AVERAGE smears the edges of a run over a second."""
    whole = grid is not None and (found.instant_window_ns or 0) > (1 - FLAT) * grid.period_ns
    return "average" if grid is None or (found.average_covers_all and not whole) else "instant"


def _published(grid: Grid | None) -> PublishGrid | None:
    return None if grid is None else PublishGrid(period_ns=round(grid.period_ns), jitter_ns=round(grid.jitter_ns))


def _ratio(a: float, b: float) -> float | None:
    return None if math.isnan(a / b) else a / b


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
