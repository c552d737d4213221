"""Simulated GPUs on a clock that stands where it is put."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from telemetry.collector.sources.nvml import NvmlSource, open_nvml
from telemetry.collector.sources.simulated import (
    SensorParameters,
    SimulatedLibrary,
    Waveform,
    parse_spec,
)

MS = 1_000_000
S = 1_000_000_000
BOOTED_S = 100_000.0  # the machine has been up for a day
EPOCH_NS = 1_800_000_000_000_000_000

EXACT = SensorParameters(  # the canonical sensor: no gain, offset, lag, jitter or noise
    period_ns=100 * MS,
    phase_ns=13 * MS,
    window_ns=25 * MS,
    average_ns=1000 * MS,
    counter_period_ns=100 * MS,
    counter_phase_ns=50 * MS,
)


class VirtualClock:
    """CLOCK_MONOTONIC and the steady clock of a host where time passes only when asked to."""

    def __init__(self, seconds: float = BOOTED_S) -> None:
        self.t_ns = round(seconds * S)
        self.slept_s: list[float] = []

    def mono_ns(self) -> int:
        return self.t_ns

    def now_ns(self) -> int:
        return EPOCH_NS + self.t_ns

    def advance(self, seconds: float) -> None:
        self.t_ns += round(seconds * S)

    def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.advance(seconds)


def library_of(spec: str, clock: VirtualClock, runtime_dir: Path) -> SimulatedLibrary:
    """Return the library of a description whose wave time 0 is the clock's start."""
    return SimulatedLibrary(parse_spec(f"{spec},origin={round(BOOTED_S * S)}"), runtime_dir, clock.mono_ns, clock.sleep)


@contextmanager
def opened(
    spec: str, clock: VirtualClock, runtime_dir: Path, *, spare_counter: bool = True
) -> Iterator[list[NvmlSource]]:
    """Open the GPUs of a description and close them again."""
    sources = open_nvml("all", clock, {}, library=library_of(spec, clock, runtime_dir), spare_counter=spare_counter)
    try:
        yield sources
    finally:
        for source in sources:
            source.close()


def load(pieces: Sequence[tuple[float, float]], *, idle_w: float = 80.0) -> Waveform:
    """Return (seconds, W) pieces one after the other from t = 0, idle before and after."""
    points = [(0, round(idle_w * 1000))]
    t_s = 0.0
    for seconds, power_w in pieces:
        points.append((round(t_s * S), round(power_w * 1000)))
        t_s += seconds
        points.append((round(t_s * S), round(power_w * 1000)))
    return Waveform([*points, (round(t_s * S), round(idle_w * 1000))])
