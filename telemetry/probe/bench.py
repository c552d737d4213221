"""A device on the bench: read at chosen times, under a load, with its extremes kept."""

from collections.abc import Iterable
from typing import Protocol

import numpy as np

from telemetry.collector.sources.base import Source
from telemetry.model import Device
from telemetry.probe.clock import WaitingClock
from telemetry.probe.fits import Grid
from telemetry.probe.load import Busy, Load
from telemetry.probe.trace import Trace, watch

S = 1_000_000_000
MS = 1_000_000
LEAD_NS = 100 * MS  # what is asked of the load begins so much later: it has to be told in time


class Details(Protocol):
    """What a driver tells beside its readings."""

    def ring_us(self) -> list[int] | None:
        """Return when each power sample that the driver keeps was taken, µs; None where it keeps none."""
        ...

    def stamp_us(self) -> int | None:
        """Return the driver's stamp on INSTANT, µs; None where it does not answer now."""
        ...


class Bench:
    """The device, the clock, the load (None: there is none).

    `least_w` and `most_w` are the extremes of power seen so far, by INSTANT where it is told; 0 before any.
    """

    def __init__(self, source: Source, details: Details, clock: WaitingClock, load: Load | None) -> None:
        self.source = source
        self.details = details
        self.clock = clock
        self.load = load
        self._chance = np.random.default_rng(0)
        self.least_w = 0.0
        self.most_w = 0.0

    @property
    def device(self) -> Device:
        """The device."""
        return self.source.device

    def watch(self, times_ns: Iterable[int]) -> Trace:
        """Read the device at these times."""
        trace = watch(self.source, self.clock, times_ns)
        power_w = np.where(np.isnan(trace.instant_w), trace.average_w, trace.instant_w)
        known_w = power_w[~np.isnan(power_w)]
        if len(known_w):
            least_w = float(known_w.min())
            self.least_w = min(self.least_w, least_w) if self.most_w else least_w
            self.most_w = max(self.most_w, float(known_w.max()))
        return trace

    def watch_for(self, seconds: float, every_s: float, *, dither: bool = False) -> Trace:
        """Read the device so long, so often; with `dither` ± 30 %, so that no grid is met always alike."""
        steps = np.full(round(seconds / every_s), every_s * S)
        if dither:
            steps *= self._chance.uniform(0.7, 1.3, len(steps))
        begin_ns = self.clock.now_ns()
        return self.watch((begin_ns + np.cumsum(steps).astype(np.int64)).tolist())

    def play(self, busy: list[Busy]) -> None:
        """Have the load keep the device busy during these stretches; without one nothing happens."""
        if self.load is not None:
            self.load.play(busy)

    def soon_ns(self) -> int:
        """Return the earliest time at which a load can be asked to begin."""
        return self.clock.now_ns() + LEAD_NS

    def counter_w(self, grid: Grid, *, seconds: float, every_s: float | None) -> float:
        """Return the mean power by the counter over about so long, W; `every_s` None: by two reads alone.

        The first and the last read lie in the middle between two publishes and a whole number of periods
        apart: what is counted between is then what was drawn in that time, however late a read may be.
        """
        periods = max(1, round(seconds * S / grid.period_ns))
        begin_ns = grid.phase_at(self.clock.now_ns(), 0.5)
        span_ns = round(periods * grid.period_ns)
        inner = [] if every_s is None else np.arange(every_s * S, span_ns, every_s * S).astype(int).tolist()
        trace = self.watch([begin_ns, *(begin_ns + t for t in inner), begin_ns + span_ns])
        return float((trace.energy_j[-1] - trace.energy_j[0]) / span_ns * S)
