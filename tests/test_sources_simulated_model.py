"""What the simulated driver can be told to do as real ones do: delays, stamps, scopes, rings, stalls, refusals."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pynvml
import pytest
from virtual_gpus import EXACT, MS, S, VirtualClock, library_of, load, opened

from telemetry.collector.sources.nvml import install
from telemetry.collector.sources.simulated import Sensor, SimulatedLibrary, Waveform
from telemetry.errors import UsageError

SQUARE = Waveform([(0, 600_000), (50 * MS, 600_000), (50 * MS, 100_000), (100 * MS, 100_000)], repeat=True)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


def fields(library: SimulatedLibrary, *asked: tuple[int, int]) -> list[Any]:
    """Return what the driver answers for (field, scope) pairs."""
    with install(library):
        pynvml.nvmlInit()
        return list(pynvml.nvmlDeviceGetFieldValues(pynvml.nvmlDeviceGetHandleByIndex(0), asked))


def ring_us(spec: str, clock: VirtualClock, folder: Path) -> list[int]:
    """Return the stamps of the driver's power samples, µs."""
    with install(library_of(spec, clock, folder)):
        pynvml.nvmlInit()
        _, samples = pynvml.nvmlDeviceGetSamples(pynvml.nvmlDeviceGetHandleByIndex(0), 0, 0)
        return [sample.timeStamp for sample in samples]


# Sensor.


@pytest.mark.parametrize("delay_ms", [0, 7, 130])
def test_a_delay_puts_off_the_publication_and_leaves_the_window_where_it_was(delay_ms: int) -> None:
    sensor = Sensor(load([(1, 500.0)]), replace(EXACT, delay_ns=delay_ms * MS))
    assert sensor.published_ns(0) == EXACT.phase_ns + delay_ms * MS
    assert sensor.slot(sensor.published_ns(5)) == 5
    assert sensor.slot(sensor.published_ns(5) - 1) == 4
    assert sensor.sampled_ns(5) == EXACT.phase_ns + 5 * EXACT.period_ns
    assert sensor.instant_mw(5) == 500_000


def test_a_part_time_average_is_the_mean_of_the_instants_of_its_second() -> None:
    exact = replace(EXACT, phase_ns=40 * MS)
    full, part = Sensor(SQUARE, exact), Sensor(SQUARE, replace(exact, average_part_time=True))
    instants_mw = [part.instant_mw(slot) for slot in range(31, 41)]
    assert part.average_mw(40) == pytest.approx(sum(instants_mw) / 10, abs=1.5)
    assert full.average_mw(40) == 350_000
    assert part.average_mw(40) == 600_000


def test_gain_and_offset_are_in_a_part_time_average_too() -> None:
    sensor = Sensor(load([(9, 500.0)]), replace(EXACT, average_part_time=True, gain_ppm=1_050_000, offset_mw=2000))
    assert sensor.average_mw(50) == 527_000


def test_a_part_time_average_behind_a_lag_is_refused() -> None:
    with pytest.raises(UsageError, match="not modelled"):
        Sensor(load([(1, 100.0)]), replace(EXACT, average_part_time=True, lag_ns=1))


# Driver.


def test_a_stamp_is_the_time_of_the_call_or_of_the_sample(clock: VirtualClock, runtime_dir: Path) -> None:
    clock.advance(3.21)
    asked = ((186, 0), (185, 0), (83, 0), (82, 0))
    told = {}
    for word in ("call", "sensor"):
        library = library_of(f"simulated:h200,timestamp={word},wave=constant:100", clock, runtime_dir)
        told[word] = [value.timestamp * 1000 - library._wall_offset_ns for value in fields(library, *asked)]
        sensor = library.gpus[0].sensor
    assert told["call"] == pytest.approx([clock.t_ns] * 4, abs=1000)
    sampled_ns = sensor.sampled_ns(sensor.slot(clock.t_ns))
    counted_ns = sensor.counter_latched_ns(clock.t_ns)
    assert told["sensor"] == pytest.approx([sampled_ns, sampled_ns, counted_ns, clock.t_ns], abs=1000)
    assert len({sampled_ns, counted_ns, clock.t_ns}) == 3


@pytest.mark.parametrize(
    ("preset", "instant", "average"),
    [("h200", [0], [0, 2]), ("a100", [0], []), ("ga10x", [0], [0]), ("gh200", [1], [1])],
)
def test_each_part_has_its_own_scopes(
    preset: str, instant: list[int], average: list[int], clock: VirtualClock, runtime_dir: Path
) -> None:
    library = library_of(f"simulated:{preset},wave=constant:100", clock, runtime_dir)
    asked = [(field, scope) for field in (186, 185) for scope in (0, 1, 2)]
    answered = [pair for pair, value in zip(asked, fields(library, *asked), strict=True) if value.nvmlReturn == 0]
    assert answered == [(186, scope) for scope in instant] + [(185, scope) for scope in average]


def test_the_memory_draws_a_part_of_the_board(clock: VirtualClock, runtime_dir: Path) -> None:
    library = library_of("simulated:h200,wave=constant:200,gain=1,offset=0", clock, runtime_dir)
    (memory,) = fields(library, (185, 2))
    assert memory.value.uiVal == 30_000


@pytest.mark.parametrize(("preset", "spacing_ms"), [("v100", 20), ("h200", 100), ("ada_geforce", 1000)])
def test_the_ring_holds_120_samples_at_the_spacing_of_its_part(
    preset: str, spacing_ms: int, clock: VirtualClock, runtime_dir: Path
) -> None:
    stamps_us = ring_us(f"simulated:{preset},wave=constant:100", clock, runtime_dir)
    assert len(stamps_us) == 120
    gaps = {b - a for a, b in pairwise(stamps_us)}
    assert gaps == {spacing_ms * 1000}


def test_a_driver_asked_too_often_answers_zero_or_nothing_and_counts_on(clock: VirtualClock, runtime_dir: Path) -> None:
    with opened("simulated:h200,wave=constant:200,rate_limit=100", clock, runtime_dir) as (source,):
        clock.advance(1)
        source.read()
        why: set[str] = set()
        for _ in range(50):
            clock.advance(0.002)
            reading = source.read()
            assert reading.power_instant_mw is None
            assert reading.power_average_mw is None
            assert reading.energy_mj is not None
            why |= set(reading.missing)
        assert why == {f"power_{s}:{r}" for s in ("instant", "average") for r in ("zero", "not_supported")}
        clock.advance(0.02)
        assert source.read().missing == ()


def test_a_stalling_driver_holds_calls_back_by_up_to_5_ms(clock: VirtualClock, runtime_dir: Path) -> None:
    with opened("simulated:h200,wave=constant:200,fault=stall@0", clock, runtime_dir) as (source,):
        latencies_ms = []
        for _ in range(4000):
            clock.advance(0.0017)
            latencies_ms.append(source.read().latency_ns / 1e6)
    held = [latency for latency in latencies_ms if latency]
    assert min(held) > 0
    assert 4 < max(held) <= 5
    # A call that was held passes the stall, so that each stall of 5 ms meets one or two calls.
    assert len(held) == pytest.approx(4000 * 0.0017 / 0.1, rel=0.25)


def test_a_stall_is_at_the_same_time_for_every_process(runtime_dir: Path) -> None:
    seen = []
    for _ in range(2):
        clock = VirtualClock()
        with opened("simulated:h200,seed=4,wave=constant:200,fault=stall@0", clock, runtime_dir) as (source,):
            when = []
            for k in range(500):
                clock.t_ns = max(clock.t_ns, round(100_000.5 * S) + k * 2 * MS)
                before_ns = clock.t_ns
                when.append((before_ns, source.read().latency_ns))
        seen.append(when)
    assert seen[0] == seen[1]
    assert any(latency_ns for _, latency_ns in seen[0])
