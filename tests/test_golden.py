"""The golden table: what every estimator must say of sixteen loads, seen by an exactly known sensor."""

from dataclasses import dataclass

import numpy as np
import pytest
from sensor import (
    EPOCH_NS,
    MS,
    Recording,
    S,
    Sensor,
    Waveform,
    load,
    poll_times,
    published_rows,
    record,
    square,
)

from telemetry.analysis import Breaks, EnergyCurve, PowerLimits, Rows
from telemetry.analysis.counter import Method
from telemetry.model import Estimate

LIMITS = PowerLimits(floor_w=60.0, cap_w=945.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """A row of the table, J. `pieces` of power from t = 0; the run ends with the last."""

    pieces: list[tuple[float, ...]]
    true: float
    a1: float
    a10: float
    i10: float
    cd: float
    linear: float
    plateau: float
    enclosure: tuple[float, float]
    idle_w: float = 80.0

    @property
    def wave(self) -> Waveform:
        return load(self.pieces, idle_w=self.idle_w)

    @property
    def end_ns(self) -> int:
        return int(self.wave.at_ns[-2])


def bursts() -> list[tuple[float, ...]]:
    rng = np.random.default_rng(7)
    pieces: list[tuple[float, ...]] = []
    while sum(piece[0] for piece in pieces) < 20.0:
        pieces += [(float(rng.exponential(0.17)), 120.0), (0.03, 700.0)]
    return pieces


def squares(period_s: float, seconds: float) -> list[tuple[float, ...]]:
    return list(square(600.0, 100.0, period_s=period_s, seconds=seconds))


def row(
    pieces: list[tuple[float, ...]], *columns: float, enclosure: tuple[float, float], idle_w: float = 80.0
) -> Golden:
    true, a1, a10, i10, cd, linear, plateau = columns
    return Golden(
        pieces=pieces,
        true=true,
        a1=a1,
        a10=a10,
        i10=i10,
        cd=cd,
        linear=linear,
        plateau=plateau,
        enclosure=enclosure,
        idle_w=idle_w,
    )


# fmt: off
TABLE = {  # true, A1, A10, I10, CD, LINEAR, PLATEAU
    "T01": row([(10, 400)], 4000, 4000, 4000, 4000, 4000, 4000, 4000, enclosure=(3966.0, 4034.0), idle_w=400),
    "T02": row([(10, 500)], 5000, 4543.46, 4753.46, 4958.84, 4979, 4979, 5000, enclosure=(4956, 5002)),
    "T03": row([(60, 500)], 30000, 29543.46, 29753.46, 29958.83, 29979, 29979, 30000,
               enclosure=(29956, 30002)),
    "T04": row([(1, 500)], 500, 80, 255.29, 458.84, 479, 479, 500, enclosure=(456.0, 502.0)),
    "T05": row([(0.25, 600)], 150, 20, 27.85, 99.04, 154, 137, 150, enclosure=(123.0, 151.0)),
    "T06": row([(0.04, 650)], 26, 3.2, 3.35, 9.13, 0, 12.32, 12.32, enclosure=(-6.45, 27.2)),
    "T07": row(squares(0.1, 20), 7000, 6709.75, 6844.75, 7185.03, 6999, 6986.5, 7000,
               enclosure=(6971, 7002)),
    "T08": row(squares(0.101, 20.2), 7070, 6782.5, 6916.25, 7054.03, 7069, 7056.5, 7069.97,
               enclosure=(7041, 7072)),
    "T09": row(squares(1 / 15, 20), 7000, 6711.59, 6845.67, 6986.03, 6990.67, 6986.5, 7000,
               enclosure=(6971, 7002)),
    "T10": row(squares(0.02, 20), 7000, 6708.26, 6843.26, 6782.02, 6989, 6986.5, 7000,
               enclosure=(6971, 7002)),
    "T11": row(squares(1.0, 20), 7000, 6728.26, 6904.01, 6998.04, 6999, 6986.5, 7000,
               enclosure=(6971, 7002)),
    "T12": row([(5, 100, 700)], 2000, 1396.95, 1661.83, 1938.97, 1969.15, 1984, 2000.14,
               enclosure=(1966, 2002)),
    "T13": row([(0.3, 650), (1.2, 280)] * 8, 4248, 4030.6, 4130.6, 4228.4, 4238, 4228.75, 4248,
               enclosure=(4207.5, 4250)),
    "T14": row(bursts(), 4125.75, 3970.7, 4060, 3983.96, 4103.2, 4119.9, 4124.61, enclosure=(4102.2, 4127.2)),
    "T15": row([(0.018, 420), (0.007, 250)] * 1200, 11172, 10854.77, 11000.96, 11145.8, 11157.38,
               11157.38, 11172, enclosure=(11140.8, 11174)),
    "T16": row([(60, 400, 424)], 24720, 24346.3, 24518.15, 24686.24, 24702.8, 24703.4, 24720,
               enclosure=(24684.8, 24722)),
}
# fmt: on
IDS = sorted(TABLE)


def near(value: float) -> object:
    """The table's tolerance, 0.02 %, or half of the last digit it prints."""
    return pytest.approx(value, rel=2e-4, abs=0.006)


def exact_curve(golden: Golden) -> EnergyCurve:
    rows = Rows.of(published_rows(Sensor(truth=golden.wave), -5 * S, golden.end_ns + 5 * S))
    return EnergyCurve.of(rows, path="counter", limits=LIMITS)


def ask(curve: EnergyCurve, t0_ns: int, t1_ns: int, method: Method = "auto") -> Estimate:
    return curve.energy(np.array([EPOCH_NS + t0_ns]), np.array([EPOCH_NS + t1_ns]), method).at(0)


def value(curve: EnergyCurve, t0_ns: int, t1_ns: int, method: Method = "auto") -> float:
    found = ask(curve, t0_ns, t1_ns, method).value
    assert found is not None
    return found


@pytest.mark.parametrize("name", IDS)
def test_the_test_sensor_shows_what_the_table_says_of_naive_readings(name: str) -> None:
    golden = TABLE[name]
    sensor, end = Sensor(truth=golden.wave), golden.end_ns
    tenths, seconds = (np.unique(np.append(np.arange(0, end, step), end)) for step in (S // 10, S))
    assert golden.wave.between_j(0, end) == near(golden.true)
    assert np.trapezoid(sensor.instant_mw(tenths), tenths) * 1e-12 == near(golden.i10)
    assert np.trapezoid(sensor.average_mw(tenths), tenths) * 1e-12 == near(golden.a10)
    assert np.sum(sensor.average_mw(seconds)[:-1] * np.diff(seconds)) * 1e-12 == near(golden.a1)
    assert float(np.diff(sensor.counter_mj(np.array([0, end])))[0]) * 1e-3 == near(golden.cd)


@pytest.mark.parametrize("name", IDS)
def test_linear_agrees_with_the_table(name: str) -> None:
    golden = TABLE[name]
    assert value(exact_curve(golden), 0, golden.end_ns, "linear") == near(golden.linear)


@pytest.mark.parametrize("name", IDS)
def test_plateau_agrees_with_the_table(name: str) -> None:
    golden = TABLE[name]
    assert value(exact_curve(golden), 0, golden.end_ns, "plateau") == near(golden.plateau)


@pytest.mark.parametrize("name", IDS)
def test_the_enclosure_agrees_with_the_table_and_holds_the_truth(name: str) -> None:
    golden = TABLE[name]
    found = ask(exact_curve(golden), 0, golden.end_ns)
    assert found.lo is not None
    assert found.hi is not None
    assert found.lo == near(golden.enclosure[0])
    assert found.hi == near(golden.enclosure[1])
    assert found.lo <= golden.true <= found.hi


@pytest.mark.parametrize("name", ["T05", "T06"])
def test_pad_recovers_a_short_burst_between_idle(name: str) -> None:
    golden = TABLE[name]
    assert value(exact_curve(golden), 0, golden.end_ns, "pad") == near(golden.true)
    found = ask(exact_curve(golden), 0, golden.end_ns)
    assert (found.method, found.value) == ("counter-pad", near(golden.true))


def test_a_burst_without_an_update_inside_and_without_idle_around_has_bounds_only() -> None:
    # 200 W before, 300 W after, rising all the time: no pad is flat.
    wave = load([(2.0, 80, 400), (0.04, 650), (2.0, 400, 80)])
    rows = Rows.of(published_rows(Sensor(truth=wave, counter_phase_ns=30 * MS), -5 * S, 8 * S))
    curve = EnergyCurve.of(rows, path="counter", limits=LIMITS)
    found = ask(curve, 2040 * MS - 5 * MS, 2080 * MS)
    assert found.value is None
    assert found.lo is not None
    assert found.hi is not None
    assert found.lo <= wave.between_j(2035 * MS, 2080 * MS) <= found.hi
    assert (found.grade, found.flags) == ("U", ("too_short",))
    assert ask(curve, 2035 * MS, 2080 * MS, "pad").value is None


def sweep(golden: Golden, method: Method, phases: range = range(0, 100)) -> tuple[list[float], list[bool]]:
    """Return relative errors and whether the truth was enclosed, at these phases, ms; polls 20 ms ± 30 %."""
    errors, held = [], []
    for phase in phases:
        sensor = Sensor(truth=golden.wave, phase_ns=phase * MS, counter_phase_ns=(phase + 37) % 100 * MS, seed=phase)
        recording = windows(sensor, golden.end_ns, seed=phase)
        found = ask(EnergyCurve.of(recording, path="counter", limits=LIMITS), 0, golden.end_ns, method)
        assert found.value is not None
        assert found.lo is not None
        assert found.hi is not None
        errors.append(abs(found.value / golden.true - 1.0))
        held.append(found.lo <= golden.true <= found.hi)
    return errors, held


def windows(sensor: Sensor, end_ns: int, *, seed: int) -> Rows:
    """Return the rows within 2.5 s of either edge of [0, end]."""
    times = poll_times(-3 * S, end_ns + 3 * S, seed=seed)
    times = times[(times < 3 * S) | (times > end_ns - 3 * S)]
    recording = record(sensor, times, seed=seed)
    return Rows.concat([Rows.of(part) for part in recording.near(0, end_ns)])


@pytest.mark.parametrize(("name", "worst"), [("T02", 2e-4), ("T04", 1e-3), ("T05", 7e-3)])
def test_plateau_is_as_close_as_promised_at_every_phase_of_the_sensor(name: str, worst: float) -> None:
    errors, held = sweep(TABLE[name], "plateau")
    assert max(errors) <= worst
    assert all(held)


@pytest.mark.parametrize("name", ["T06", "T07", "T09", "T10", "T12", "T13", "T14"])
def test_the_enclosure_holds_the_truth_at_every_phase_of_the_sensor(name: str) -> None:
    _, held = sweep(TABLE[name], "linear", range(0, 100, 5))
    assert all(held)


def test_t19_a_burst_inside_lost_polls_is_in_the_counter() -> None:
    wave = load([(20, 300), (3, 650), (37, 300)])
    sensor = Sensor(truth=wave, phase_ns=10 * MS)
    recording = record(sensor, poll_times(-3 * S, 63 * S), lost_ns=[(20 * S, 23_100 * MS)])
    breaks = Breaks.of(recording.gaps)
    found = ask(EnergyCurve.of(Rows.of(recording.rows), path="counter", limits=LIMITS, breaks=breaks), 0, 60 * S)
    assert found.value == pytest.approx(19_050.0, rel=2e-4)
    assert (found.grade, found.flags) == ("A", ("gap",))

    integral = EnergyCurve.of(
        Rows.of(recording.rows), path="integral", limits=LIMITS, breaks=breaks, integral_of="instant"
    )
    bridged = ask(integral, 0, 60 * S)
    assert bridged.value == pytest.approx(19_050.0 - 3 * 350.0, rel=2e-3)  # it cannot know of the burst
    assert bridged.lo is not None
    assert bridged.hi is not None
    assert bridged.lo <= 19_050.0 <= bridged.hi
    assert "gap" in bridged.flags


def reset_run() -> tuple[Recording, Waveform]:
    wave = load([(60, 400)])
    sensor = Sensor(truth=wave, reset_ns=30 * S, counter_start_mj=10**9)
    return record(sensor, poll_times(-3 * S, 63 * S)), wave


def test_t20_a_counter_that_restarts_is_never_differenced_across() -> None:
    recording, wave = reset_run()
    curve = EnergyCurve.of(Rows.of(recording.rows), path="counter", limits=LIMITS)
    found = ask(curve, 0, 60 * S)
    readings = [r.energy_mj for r in recording.rows if r.energy_mj is not None]
    assert readings[-1] < readings[0]
    assert found.value == pytest.approx(24_000.0, abs=94.5)
    assert found.value == pytest.approx(24_000.0, rel=1e-3)
    assert found.lo is not None
    assert found.hi is not None
    assert found.lo <= wave.between_j(0, 60 * S) <= found.hi
    assert (found.grade, found.flags) == ("C", ("counter_reset",))
    assert ask(curve, 0, 20 * S).flags == ()
    assert ask(curve, 40 * S, 50 * S).value == pytest.approx(4000.0, rel=2e-4)


def test_t26_a_wrong_gain_shifts_the_value_and_raises_no_flag() -> None:
    rows = Rows.of(published_rows(Sensor(truth=TABLE["T02"].wave, gain=1.05, offset_w=2.0), -5 * S, 15 * S))
    found = ask(EnergyCurve.of(rows, path="counter", limits=LIMITS), 0, 10 * S)
    assert found.value == pytest.approx(5270.0, rel=2e-4)
    assert found.flags == ()
