"""What was read of a device at chosen times, as arrays."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from telemetry.collector.sources.base import Source
from telemetry.errors import SourceBusy
from telemetry.model import Reading
from telemetry.probe.clock import WaitingClock

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """Mean powers by the two signals, W; NaN where the device has none."""

    instant_w: float
    average_w: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Readings in the order of time, all (n,). NaN: the driver did not say.

    t_ns is the middle of a call; energy_j counts from the first known value of the trace.
    """

    t_ns: Ints
    latency_ns: Ints
    instant_w: Floats
    average_w: Floats
    energy_j: Floats

    @classmethod
    def of(cls, readings: list[Reading]) -> Self:
        """Return readings as arrays."""
        counted = [r.energy_mj for r in readings]
        first_mj = next((mj for mj in counted if mj is not None), 0)
        return cls(
            t_ns=np.array([r.t_ns for r in readings], dtype=np.int64),
            latency_ns=np.array([r.latency_ns for r in readings], dtype=np.int64),
            instant_w=_kilo([r.power_instant_mw for r in readings]),
            average_w=_kilo([r.power_average_mw for r in readings]),
            # From the first value on: a counter of 2⁶² mJ would lose its mJ as a float.
            energy_j=_kilo([None if mj is None else mj - first_mj for mj in counted]),
        )

    def between(self, from_ns: int, to_ns: int) -> Self:
        """Return the readings of [from, to)."""
        inside = (self.t_ns >= from_ns) & (self.t_ns < to_ns)
        return type(self)(**{name: getattr(self, name)[inside] for name in self.__slots__})

    def level(self) -> Level:
        """Return the mean powers, each reading counting alike."""
        return Level(instant_w=mean_known(self.instant_w), average_w=mean_known(self.average_w))


def watch(source: Source, clock: WaitingClock, times_ns: Iterable[int]) -> Trace:
    """Read a source once at each of these times; a read that fails tells nothing. Raises SourceLost."""
    readings = []
    for t_ns in times_ns:
        clock.sleep_until(t_ns)
        try:
            readings.append(source.read())
        except SourceBusy:
            readings.append(Reading(t_ns=clock.now_ns(), latency_ns=0))
    return Trace.of(readings)


def _kilo(milli: list[int | None]) -> Floats:
    return np.array([np.nan if value is None else value / 1000 for value in milli], dtype=np.float64)


def mean_known(values: Floats) -> float:
    """Return the mean of what is known of some values; NaN where nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
