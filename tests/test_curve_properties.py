"""What holds of every energy curve, whatever the load, the sensor's phase and the polls' luck."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sensor import EPOCH_NS, MS, Recording, S, Sensor, Waveform, load, poll_times, published_rows, record

from telemetry.analysis import Breaks, EnergyCurve, EnergyEstimates, PowerLimits, Rows
from telemetry.analysis.curve import Method
from telemetry.model import ReadingRow

LIMITS = PowerLimits(floor_w=60.0, cap_w=945.0)
SPAN_S = 4.0

powers = st.floats(60.0, 945.0, allow_nan=False)
pieces = st.tuples(st.floats(0.005, 1.0), powers, powers)
times = st.floats(-1.0, SPAN_S + 1.0)
methods: st.SearchStrategy[Method] = st.sampled_from(("plateau", "linear"))


@st.composite
def waves(draw: st.DrawFn) -> Waveform:
    return load(draw(st.lists(pieces, min_size=1, max_size=12)), idle_w=draw(powers), idle_s=12.0)


@st.composite
def sensors(draw: st.DrawFn) -> Sensor:
    return Sensor(
        truth=draw(waves()),
        phase_ns=draw(st.integers(0, 99)) * MS,
        counter_phase_ns=draw(st.integers(0, 99)) * MS,
        period_ns=draw(st.sampled_from((20, 63, 100, 130))) * MS,
        jitter_ns=draw(st.sampled_from((0, 2, 8))) * MS,
        counter_start_mj=draw(st.integers(0, 2**62)),
        seed=draw(st.integers(0, 99)),
    )


def recorded(sensor: Sensor, *, period_ms: int = 20, **faults: list[tuple[int, int]]) -> Recording:
    seed = sensor.seed
    polls = poll_times(-3 * S, round((SPAN_S + 3) * S), period_ns=period_ms * MS, seed=seed)
    return record(sensor, polls, seed=seed, **faults)  # type: ignore[arg-type]


def counter(rows: list[ReadingRow], breaks: Breaks | None = None, limits: PowerLimits = LIMITS) -> EnergyCurve:
    return EnergyCurve.of(Rows.of(rows), path="counter", limits=limits, breaks=breaks)


def integral(rows: list[ReadingRow], limits: PowerLimits = LIMITS) -> EnergyCurve:
    return EnergyCurve.of(Rows.of(rows), path="integral", limits=limits)


def ask(curve: EnergyCurve, *spans_s: tuple[float, float], method: Method = "auto") -> EnergyEstimates:
    t0, t1 = (np.array([EPOCH_NS + round(span[i] * S) for span in spans_s]) for i in (0, 1))
    return curve.energy(t0, t1, method)


@settings(max_examples=60)
@given(
    sensors(),
    st.lists(st.tuples(times, times), min_size=1, max_size=6),
    st.sampled_from((7, 20, 50, 130)),
    st.tuples(times, st.floats(0.0, 1.5)),
    st.tuples(times, st.floats(0.0, 0.3)),
)
def test_the_enclosure_holds_the_truth(
    sensor: Sensor,
    spans: list[tuple[float, float]],
    period_ms: int,
    lost: tuple[float, float],
    null: tuple[float, float],
) -> None:
    def span_ns(span: tuple[float, float]) -> list[tuple[int, int]]:
        return [(round(span[0] * S), round((span[0] + span[1]) * S))]

    made = recorded(sensor, period_ms=period_ms, lost_ns=span_ns(lost), null_ns=span_ns(null))
    spans = [(min(span), max(span)) for span in spans]
    found = ask(counter(made.rows, Breaks.of(made.gaps)), *spans)
    truth = np.array([sensor.truth.between_j(round(a * S), round(b * S)) for a, b in spans])
    assert np.all(found.lo_j <= truth)
    assert np.all(truth <= found.hi_j)
    valued = np.isfinite(found.value_j)
    assert np.all((found.lo_j <= found.value_j)[valued])
    assert np.all((found.value_j <= found.hi_j)[valued])
    assert not any({"bound_violation", "over_cap", "under_floor"} & set(found.at(n).flags) for n in range(len(found)))


@settings(max_examples=40)
@given(sensors(), st.lists(times, min_size=3, max_size=3), methods)
def test_energy_adds_up_over_any_split(sensor: Sensor, edges: list[float], method: Method) -> None:
    a, b, c = sorted(edges)
    found = ask(counter(recorded(sensor).rows), (a, b), (b, c), (a, c), method=method)
    # A value that would leave its bounds is held there, and then gives up adding up for being possible.
    assume(np.all((found.lo_j < found.value_j) & (found.value_j < found.hi_j)))
    assert found.value_j[0] + found.value_j[1] == pytest.approx(found.value_j[2], rel=1e-12, abs=1e-9)


@settings(max_examples=30)
@given(sensors(), st.lists(times, min_size=3, max_size=3))
def test_an_integral_adds_up_over_any_split(sensor: Sensor, edges: list[float]) -> None:
    a, b, c = sorted(edges)
    found = ask(integral(recorded(sensor).rows), (a, b), (b, c), (a, c), method="stored")
    assert found.value_j[0] + found.value_j[1] == pytest.approx(found.value_j[2], rel=1e-12, abs=1e-9)


@settings(max_examples=25)
@given(sensors(), times, times, st.integers(2, 9), methods)
def test_scaling_power_scales_energy_and_bounds(
    sensor: Sensor, a: float, b: float, factor: int, method: Method
) -> None:
    rows = recorded(replace(sensor, counter_start_mj=0)).rows
    scaled = [
        replace(
            r,
            power_instant_mw=(r.power_instant_mw or 0) * factor,
            energy_mj=(r.energy_mj or 0) * factor,
            integral_uj=(r.integral_uj or 0) * factor,
        )
        for r in rows
    ]
    limits = PowerLimits(floor_w=LIMITS.floor_w * factor, cap_w=LIMITS.cap_w * factor)
    span = (min(a, b), max(a, b))
    for one, many in [
        (ask(counter(rows), span, method=method), ask(counter(scaled, limits=limits), span, method=method)),
        (ask(integral(rows), span), ask(integral(scaled, limits), span)),
    ]:
        assert many.value_j == pytest.approx(factor * one.value_j, rel=1e-9, abs=2e-3 * factor)
        assert many.lo_j == pytest.approx(factor * one.lo_j, rel=1e-9, abs=2e-3 * factor)
        assert many.hi_j == pytest.approx(factor * one.hi_j, rel=1e-9, abs=2e-3 * factor)


@settings(max_examples=25)
@given(sensors(), times, times, st.integers(-(10**18), 10**18))
def test_shifting_time_changes_nothing(sensor: Sensor, a: float, b: float, shift_ns: int) -> None:
    rows = recorded(sensor).rows
    moved = [replace(r, t_ns=r.t_ns + shift_ns) for r in rows]
    t0, t1 = (np.array([EPOCH_NS + round(t * S)]) for t in sorted((a, b)))
    for make in (counter, integral):
        here, there = make(rows).energy(t0, t1), make(moved).energy(t0 + shift_ns, t1 + shift_ns)
        assert here.at(0) == there.at(0)


@settings(max_examples=25)
@given(sensors(), times, times, st.floats(1.0, 500.0))
def test_adding_a_constant_power_adds_its_area(sensor: Sensor, a: float, b: float, extra_w: float) -> None:
    sensor = replace(sensor, jitter_ns=0)
    a, b = min(a, b), max(a, b)
    plain, more = (
        published_rows(replace(sensor, offset_w=watts), -3 * S, round((SPAN_S + 3) * S)) for watts in (0.0, extra_w)
    )
    wide = PowerLimits(floor_w=0.0, cap_w=3000.0)
    one, other = (ask(counter(rows, limits=wide), (a, b), method="linear") for rows in (plain, more))
    assume(np.all((one.lo_j < one.value_j) & (one.value_j < one.hi_j)))
    assert (other.value_j - one.value_j)[0] == pytest.approx(extra_w * (b - a), abs=0.01)


@settings(max_examples=25)
@given(sensors(), times, st.floats(0.0, 2.0), st.floats(0.0, 1.0), methods)
def test_a_longer_interval_holds_no_less_energy(
    sensor: Sensor, a: float, seconds: float, more: float, method: Method
) -> None:
    found = ask(counter(recorded(sensor).rows), (a, a + seconds), (a, a + seconds + more), method=method)
    assert found.value_j[1] >= found.value_j[0] - 1e-9
