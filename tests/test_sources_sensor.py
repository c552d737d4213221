"""The simulated sensor against worked-out numbers and against brute force."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from virtual_gpus import EXACT, MS, S, VirtualClock, load, opened

from telemetry.collector.sources.simulated import (
    PRESETS,
    Energy,
    Sensor,
    SensorParameters,
    SimulatedGpu,
    Waveform,
)
from telemetry.errors import UsageError

SQUARE = [(0.05, 600.0), (0.05, 100.0)] * 200


def counter_j(sensor: Sensor, t_ns: int) -> float:
    return sensor.counter_mj(since_ns=-60 * S, latched_ns=sensor.counter_latched_ns(t_ns)) / 1000


def instant_w(sensor: Sensor, t_ns: int) -> float:
    return sensor.instant_mw(sensor.slot(t_ns)) / 1000


def average_w(sensor: Sensor, t_ns: int) -> float:
    average_mw = sensor.average_mw(sensor.slot(t_ns))
    assert average_mw is not None
    return average_mw / 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """A row of the golden table of the measurement notes, J."""

    pieces: list[tuple[float, float]]
    true: float
    a10: float
    i10: float
    cd: float


GOLDEN = {
    "T02": Golden(pieces=[(10, 500.0)], true=5000.00, a10=4753.46, i10=4958.84, cd=4979.00),
    "T04": Golden(pieces=[(1, 500.0)], true=500.00, a10=255.29, i10=458.84, cd=479.00),
    "T05": Golden(pieces=[(0.25, 600.0)], true=150.00, a10=27.85, i10=99.04, cd=154.00),
    "T07": Golden(pieces=SQUARE, true=7000.00, a10=6844.75, i10=7185.03, cd=6999.00),
    "T13": Golden(pieces=[(0.3, 650.0), (1.2, 280.0)] * 8, true=4248.00, a10=4130.60, i10=4228.40, cd=4238.00),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_the_raw_signals_are_those_of_the_golden_table(name: str) -> None:
    golden = GOLDEN[name]
    truth = load(golden.pieces)
    sensor = Sensor(truth, EXACT)
    end_ns = round(sum(seconds for seconds, _ in golden.pieces) * S)
    assert truth.total(Energy(), end_ns) / 1e12 == pytest.approx(golden.true, rel=1e-9)
    assert counter_j(sensor, end_ns) - counter_j(sensor, 0) == pytest.approx(golden.cd, rel=2e-4)
    times = [*range(0, end_ns, 100 * MS), end_ns]
    for read_w, expected in ((instant_w, golden.i10), (average_w, golden.a10)):
        powers = [read_w(sensor, t) for t in times]
        trapezoid = sum((b - a) / S * (p + q) / 2 for (a, p), (b, q) in pairwise(zip(times, powers, strict=True)))
        assert trapezoid == pytest.approx(expected, rel=2e-4)


@pytest.mark.parametrize(("phase_ms", "expected"), [(13, 7199.0), (30, 12_000.0), (80, 2_000.0)])
def test_a_part_time_counter_misreads_a_load_in_step_with_it(phase_ms: int, expected: float) -> None:
    grid = replace(EXACT, phase_ns=phase_ms * MS, counter_phase_ns=phase_ms * MS, part_time=True)
    sensor = Sensor(load(SQUARE), grid)
    seen_j = counter_j(sensor, 20 * S) - counter_j(sensor, 0)
    assert seen_j == pytest.approx(expected, rel=0.003 if phase_ms != 13 else 2e-4)


def test_a_lag_delays_power_but_loses_no_energy() -> None:
    truth = load([(10, 500.0)])
    lagged = Sensor(truth, replace(EXACT, lag_ns=150 * MS, period_ns=20 * MS, window_ns=1 * MS))
    times = [t * 20 * MS for t in range(501)]
    powers = [instant_w(lagged, t) for t in times]
    trapezoid = sum(0.02 * (p + q) / 2 for p, q in pairwise(powers))
    assert trapezoid == pytest.approx(4929.8, rel=1e-3)
    whole = (lagged.sensed_pj(14 * S) - lagged.sensed_pj(-4 * S)) / 1e12
    assert whole == pytest.approx(5000 + 8 * 80, rel=1e-9)


def test_a_lag_is_the_first_order_answer_to_a_step() -> None:
    lagged = Sensor(load([(10, 500.0)]), replace(EXACT, lag_ns=150 * MS))
    for t_ms in (10, 150, 600):
        # E of 80 W, then 80 W + 420 W (1 - exp(-t/tau)) integrated from the step on
        tau, t = 0.15, t_ms / 1000
        expected = 80 * t + 420 * (t - tau * (1 - 2.718281828459045 ** (-t / tau)))
        sensed = (lagged.sensed_pj(t_ms * MS) - lagged.sensed_pj(0)) / 1e12
        assert sensed == pytest.approx(expected, rel=1e-6)


def test_gain_and_offset_are_in_every_signal() -> None:
    sensor = Sensor(load([(10, 500.0)]), replace(EXACT, gain_ppm=1_050_000, offset_mw=2000))
    assert instant_w(sensor, 5 * S) == pytest.approx(527.0)
    assert average_w(sensor, 5 * S) == pytest.approx(527.0)
    assert counter_j(sensor, 6 * S) - counter_j(sensor, 5 * S) == pytest.approx(527.0, abs=0.002)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A wave as drawn, with an integral of its own: one trapezoid a segment, in floating point."""

    points: list[tuple[int, int]]
    repeat: bool

    @property
    def truth(self) -> Waveform:
        return Waveform(self.points, repeat=self.repeat)

    def energy_j(self, from_ns: int, to_ns: int) -> float:
        return sum(
            (p + q) * (b - a) / 2e12
            for (a, p), (b, q) in (
                self._cut(first, second, from_ns, to_ns) for first, second in self._segments(from_ns, to_ns)
            )
            if b > a
        )

    def _segments(self, from_ns: int, to_ns: int) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
        last_ns = self.points[-1][0]
        if self.repeat:
            for cycle in range(from_ns // last_ns, to_ns // last_ns + 1):
                moved = [(t_ns + cycle * last_ns, power) for t_ns, power in self.points]
                yield from pairwise(moved)
            return
        ends = [(min(from_ns, 0), self.points[0][1]), *self.points, (max(to_ns, last_ns), self.points[-1][1])]
        yield from pairwise(ends)

    def _cut(
        self, first: tuple[int, int], second: tuple[int, int], from_ns: int, to_ns: int
    ) -> tuple[tuple[int, float], tuple[int, float]]:
        (a, p), (b, q) = first, second
        start, end = max(a, from_ns), min(b, to_ns)
        if end <= start:
            return (0, 0.0), (0, 0.0)
        slope = (q - p) / (b - a)
        return (start, p + slope * (start - a)), (end, p + slope * (end - a))


@st.composite
def waves(draw: st.DrawFn) -> Drawn:
    points = [(0, draw(st.integers(0, 700_000)))]
    for corner in sorted(draw(st.sets(st.integers(1, 3000), min_size=1, max_size=8))):
        points += [(corner * MS, draw(st.integers(0, 700_000))) for _ in range(2)]
    return Drawn(points=points, repeat=draw(st.booleans()))


sensors = st.builds(
    SensorParameters,
    period_ns=st.sampled_from([20 * MS, 100 * MS, 495 * MS]),
    phase_ns=st.integers(0, 19 * MS),
    window_ns=st.sampled_from([10 * MS, 20 * MS]),
    average_ns=st.just(1000 * MS),
    counter_period_ns=st.sampled_from([20 * MS, 90 * MS, 106_500_000]),
    counter_phase_ns=st.integers(0, 19 * MS),
    jitter_ns=st.integers(0, 9 * MS),
    counter_jitter_ns=st.integers(0, 9 * MS),
    seed=st.integers(0, 99),
)


@given(waves(), sensors, st.integers(0, 5 * S), st.integers(0, 5 * S))
def test_the_counter_integrates_the_truth_between_its_publications(
    wave: Drawn, parameters: SensorParameters, a: int, b: int
) -> None:
    sensor = Sensor(wave.truth, parameters)
    a, b = sensor.counter_latched_ns(min(a, b)), sensor.counter_latched_ns(max(a, b))
    counted_mj = sensor.counter_mj(since_ns=-S, latched_ns=b) - sensor.counter_mj(since_ns=-S, latched_ns=a)
    assert counted_mj / 1000 == pytest.approx(wave.energy_j(a, b), abs=1.01e-3)


@given(waves(), sensors, st.integers(0, 5 * S))
def test_instant_and_average_are_the_means_of_windows_that_ended_before_they_were_published(
    wave: Drawn, parameters: SensorParameters, now: int
) -> None:
    sensor = Sensor(wave.truth, parameters)
    slot = sensor.slot(now)
    end = parameters.phase_ns + slot * parameters.period_ns
    assert end <= sensor.published_ns(slot) <= now < sensor.published_ns(slot + 1)
    instant = wave.energy_j(end - parameters.window_ns, end) / parameters.window_ns * 1e12
    assert sensor.instant_mw(slot) == pytest.approx(instant, abs=1.6)
    average = wave.energy_j(end - S, end) * 1000
    assert sensor.average_mw(slot) == pytest.approx(average, abs=1.6)


@given(sensors, st.integers(0, 5 * S))
def test_the_counter_stands_still_between_publications_and_never_runs_ahead(
    parameters: SensorParameters, now: int
) -> None:
    sensor = Sensor(load([(10, 500.0)]), parameters)
    latched = sensor.counter_latched_ns(now)
    assert latched <= now
    assert sensor.counter_latched_ns(latched) == latched
    assert sensor.counter_latched_ns(latched - 1) < latched
    assert now - latched <= parameters.counter_period_ns + 2 * parameters.counter_jitter_ns


@given(waves(), st.integers(0, 2 * S), st.integers(0, 30))
def test_a_part_time_counter_is_the_sum_of_instant_times_its_period(wave: Drawn, a: int, slots: int) -> None:
    parameters = replace(EXACT, counter_phase_ns=EXACT.phase_ns, part_time=True)
    sensor = Sensor(wave.truth, parameters)
    first = sensor.slot(a)
    summed_j = sum(sensor.instant_mw(first + k) * 1e-4 for k in range(1, slots + 1))
    ends = [sensor.published_ns(first), sensor.published_ns(first + slots)]
    counted = counter_j(sensor, ends[1]) - counter_j(sensor, ends[0])
    assert counted == pytest.approx(summed_j, abs=1e-3 + 1e-4 * slots)


def test_a_part_time_counter_behind_a_lag_is_refused() -> None:
    with pytest.raises(UsageError, match="not modelled"):
        Sensor(load([(1, 100.0)]), replace(EXACT, part_time=True, lag_ns=1))


def test_the_gpu_tells_the_energy_before_and_after_its_sensor() -> None:
    gpu = SimulatedGpu(
        preset=PRESETS["h200"],
        truth=load([(10, 500.0)]),
        parameters=replace(EXACT, gain_ppm=1_050_000, offset_mw=2000),
        index=0,
        seed=0,
    )
    assert gpu.true_energy_j(0, 10 * S) == pytest.approx(5000.0)
    assert gpu.sensor_energy_j(0, 10 * S) == pytest.approx(5270.0)


@pytest.mark.parametrize(
    ("spec", "period_s", "factor"),
    [
        ("simulated:ada_geforce,wave=constant:29.5", 0.01, 0.244),
        ("simulated:ada_geforce,wave=constant:29.5", 0.1, 0.867),
        ("simulated:ada_geforce,wave=constant:29.5", 1.0, 0.984),
        ("simulated:laptop_rtx,wave=constant:27.9", 0.02, 20.5),
        ("simulated:laptop_rtx,wave=constant:27.9", 0.5, 1.0),
        ("simulated:h200,wave=constant:100", 0.01, 1.0),
    ],
)
def test_some_parts_count_wrongly_when_they_are_read_often(
    spec: str, period_s: float, factor: float, runtime_dir: Path
) -> None:
    clock = VirtualClock()
    with opened(f"{spec},gain=1,offset=0", clock, runtime_dir, spare_counter=False) as (source,):
        energies = []
        for _ in range(round(20 / period_s)):
            clock.advance(period_s)
            energies.append(source.read().energy_mj or 0)
        power_w = float(spec.rpartition(":")[2])
        counted_w = (energies[-1] - energies[0]) / 1000 / (20 - period_s)
        assert counted_w == pytest.approx(power_w * factor, rel=0.06)


def test_a_counter_that_reading_may_change_is_read_once_a_second(runtime_dir: Path) -> None:
    clock = VirtualClock()
    with opened("simulated:ada_geforce,wave=constant:100,gain=1,offset=0", clock, runtime_dir) as (source,):
        assert source.device.energy_path == "integral"
        seen = []
        for _ in range(500):
            clock.advance(0.02)
            seen.append(source.read().energy_mj)
    counted = [energy for energy in seen if energy is not None]
    assert len(counted) == pytest.approx(10, abs=1)
    assert (counted[-1] - counted[0]) / 1000 == pytest.approx(98.4 * (len(counted) - 1), rel=0.06)


def test_noise_is_drawn_once_for_each_publication(runtime_dir: Path) -> None:
    clock = VirtualClock()
    with opened("simulated:h200,wave=constant:300,gain=1,offset=0,noise=5", clock, runtime_dir) as (source,):
        seen = []
        for _ in range(2000):
            clock.advance(0.01)
            seen.append(source.read().power_instant_mw or 0)
    changes = sum(a != b for a, b in pairwise(seen))
    assert changes == pytest.approx(200, abs=3)
    values = set(seen)
    mean = sum(values) / len(values)
    spread = (sum((v - mean) ** 2 for v in values) / len(values)) ** 0.5
    assert mean == pytest.approx(300_000, abs=2_000)
    assert spread == pytest.approx(5_000, rel=0.25)
