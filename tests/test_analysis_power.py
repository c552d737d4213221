"""Energies from power readings alone: what each estimator promises, and when it refuses."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sensor import EPOCH_NS, MS, Recording, S, Sensor, Waveform, load, poll_times, record

from telemetry.analysis import Breaks, EnergyCurve, EnergyEstimates, PowerLimits, Rows, sensor_profile
from telemetry.analysis.aliasing import aliasing_j, unseen_share
from telemetry.analysis.curve import METHODS, Method
from telemetry.analysis.publishes import find_publishes
from telemetry.analysis.updates import power_period_ns
from telemetry.errors import TraceError
from telemetry.model import Estimate, ReadingRow

LIMITS = PowerLimits(floor_w=60.0, cap_w=945.0)
WAVE = load([(4, 500)])
FROM_POWER: tuple[Method, ...] = ("instant-trapezoid", "average-counter", "average-telescope", "average-extended")
AVERAGED = FROM_POWER[1:]


def recording(
    wave: Waveform = WAVE, *, begin_s: float = -3, end_s: float = 8, **faults: list[tuple[int, int]]
) -> Recording:
    times = poll_times(round(begin_s * S), round(end_s * S))
    return record(Sensor(truth=wave), times, **faults)  # type: ignore[arg-type]


def curve(rows: Sequence[ReadingRow], breaks: Breaks | None = None) -> EnergyCurve:
    return EnergyCurve.of(Rows.of(rows), path="integral", limits=LIMITS, breaks=breaks)


def many(curve: EnergyCurve, method: Method, *spans_s: tuple[float, float], marker_ns: int = 0) -> EnergyEstimates:
    t0, t1 = (np.array([EPOCH_NS + round(span[i] * S) for span in spans_s]) for i in (0, 1))
    return curve.energy(t0, t1, method, marker_ns=marker_ns)


def ask(curve: EnergyCurve, t0_s: float, t1_s: float, method: Method) -> Estimate:
    return many(curve, method, (t0_s, t1_s)).at(0)


def refused(estimate: Estimate) -> bool:
    return (estimate.value, estimate.grade) == (None, "U") and "method_refused" in estimate.flags


@pytest.mark.parametrize("method", FROM_POWER)
@pytest.mark.parametrize("path", ["counter", "integral"])
def test_each_estimator_can_be_forced_on_either_path_and_says_its_name(path: str, method: Method) -> None:
    made = EnergyCurve.of(Rows.of(recording().rows), path=path, limits=LIMITS)  # type: ignore[arg-type]
    found = ask(made, 0, 4, method)
    assert found.method.startswith(method)
    assert found.value == pytest.approx(2000.0, rel=0.01)
    assert "timing_model" in found.flags
    assert found.grade != "A"


def test_a_method_of_another_path_is_refused_with_the_names_of_those_there_are() -> None:
    t = np.array([EPOCH_NS])
    counter = EnergyCurve.of(Rows.of(recording().rows), path="counter", limits=LIMITS)
    with pytest.raises(TraceError, match="counter path, which has auto, plateau, linear, pad, instant-trapezoid"):
        counter.energy(t, t, "stored")
    assert set(METHODS["counter"]) & set(METHODS["integral"]) == {"auto", *FROM_POWER}


@pytest.mark.parametrize("method", FROM_POWER)
def test_many_intervals_at_once_are_each_what_they_are_alone(method: Method) -> None:
    made = curve(recording(load([(1, 300), (1, 600), (0.5, 450), (1.5, 700)])).rows)
    spans = [(-0.5 + 0.01 * n, 4 + 0.02 * n) for n in range(12)] + [(1.0, 1.0), (-9.0, 2.0), (3.0, 30.0), (0.5, 1.8)]
    together = many(made, method, *spans)
    for n, span in enumerate(spans):
        assert together.at(n) == ask(made, *span, method)


def test_the_publish_period_is_found_though_most_publishes_change_nothing() -> None:
    busy = load([(0.7, 200), (0.4, 650)] * 6)
    rows = Rows.of([r for r in recording(busy, end_s=6.5).rows if r.t_ns > EPOCH_NS + 1.1 * S])
    assert power_period_ns(rows, Breaks()) == pytest.approx(100 * MS, rel=0.1)
    found = find_publishes(rows, rows.power_average_mw, Breaks())
    assert found is not None
    assert found.period_ns == pytest.approx(100 * MS, rel=0.001)


@pytest.mark.parametrize("method", FROM_POWER)
def test_without_the_readings_it_needs_a_method_covers_nothing(method: Method) -> None:
    rows = [replace(r, power_instant_mw=None, power_average_mw=None) for r in recording().rows]
    found = ask(curve(rows), 0, 4, method)
    assert (found.value, found.flags) == (None, ("not_covered",))


@pytest.mark.parametrize("method", FROM_POWER)
def test_rows_around_the_edges_alone_are_not_enough(method: Method) -> None:
    wave = load([(12, 500)])
    whole = recording(wave, end_s=16)
    parts = [Rows.of(part) for part in whole.near(0, 12 * S)]
    sparse = EnergyCurve.of(Rows.concat(parts), path="integral", limits=LIMITS)
    assert refused(ask(sparse, 0, 12, method))
    assert not refused(ask(curve(whole.rows), 0, 12, method))
    assert ask(sparse, 0, 12, "auto").method == "integral-instant"
    assert ask(curve(whole.rows), 0, 12, "auto").method == "instant-trapezoid"


@pytest.mark.parametrize("method", AVERAGED)
def test_estimators_from_average_refuse_a_hole(method: Method) -> None:
    lost = recording(lost_ns=[(1 * S, 2 * S)])
    assert refused(ask(curve(lost.rows, Breaks.of(lost.gaps)), 0, 4, method))
    assert refused(ask(curve(lost.rows), 0, 4, method))  # nobody recorded the gap
    nulls = recording(null_ns=[(1 * S, 2 * S)])
    assert refused(ask(curve(nulls.rows), 0, 4, method))


@pytest.mark.parametrize("method", ["average-telescope", "average-extended"])
@pytest.mark.parametrize("side", ["before", "after"])
def test_estimators_that_take_idle_off_refuse_where_there_is_none(method: Method, side: str) -> None:
    ramp: tuple[float, ...] = (2.5, 80, 400) if side == "before" else (2.5, 400, 80)
    pieces: list[tuple[float, ...]] = [ramp, (2, 500)] if side == "before" else [(2, 500), ramp]
    start_s = 2.5 if side == "before" else 0.0
    rows = recording(load(pieces), end_s=9).rows
    assert refused(ask(curve(rows), start_s, start_s + 2, method))
    assert not refused(ask(curve(rows), 0, 4.5, method))


def test_a_pseudo_counter_needs_a_second_of_flat_idle_to_start_from() -> None:
    busy = load([(0.7, 200), (0.4, 650)] * 6, idle_w=80)
    rows = recording(busy, end_s=6.5).rows
    inside = [r for r in rows if EPOCH_NS + 1.1 * S < r.t_ns < EPOCH_NS + 6.5 * S]
    assert refused(ask(curve(inside), 2.2, 4.4, "average-counter"))
    found = ask(curve(rows), 2.2, 4.4, "average-counter")
    assert found.value == pytest.approx(busy.between_j(2200 * MS, 4400 * MS), rel=3e-3)


def test_a_pseudo_counter_can_start_from_idle_that_comes_after() -> None:
    rows = [r for r in recording(end_s=8).rows if r.t_ns > EPOCH_NS + 0.5 * S]
    assert ask(curve(rows), 1.2, 4.0, "average-counter").value == pytest.approx(1400.0, rel=4e-3)


@pytest.mark.parametrize("method", AVERAGED)
def test_publishes_that_do_not_fill_the_window_evenly_are_refused_where_it_matters(method: Method) -> None:
    odd = Sensor(truth=load([(4, 500), (0.5, 480), (0.5, 520)] * 2), period_ns=106_500_000, phase_ns=13 * MS)
    rows = record(odd, poll_times(-3 * S, 14 * S)).rows
    assert refused(ask(curve(rows), 0, 10, method))


def test_a_step_at_the_edges_is_seen_whole_by_readings_that_do_not_straddle_it() -> None:
    for phase in (30, 60, 95):
        rows = record(Sensor(truth=WAVE, phase_ns=phase * MS), poll_times(-3 * S, 8 * S)).rows
        assert ask(curve(rows), 0, 4, "instant-trapezoid").value == pytest.approx(2000.0, rel=1e-3)


def test_an_interval_without_a_publish_has_no_value_from_readings() -> None:
    found = ask(curve(recording().rows), 1.02, 1.05, "instant-trapezoid")
    assert refused(found)
    assert found.lo is not None
    assert found.hi is not None
    assert found.lo <= 15.0 <= found.hi


def test_a_flat_stretch_is_no_long_ramp_to_the_step_after_it() -> None:
    wave = load([(6, 100), (2, 600)], idle_w=100)
    rows = recording(wave, end_s=11).rows
    assert ask(curve(rows), 0, 8, "instant-trapezoid").value == pytest.approx(1800.0, abs=30.0)


def test_a_hole_is_bridged_by_a_straight_line_and_bounded_by_floor_and_cap() -> None:
    lost = recording(lost_ns=[(1 * S, 2 * S)])
    found = many(curve(lost.rows, Breaks.of(lost.gaps)), "instant-trapezoid", (0, 4), (2.5, 4), (0, 1.5), (1.5, 4))
    whole = many(curve(recording().rows), "instant-trapezoid", (0, 4))
    assert "gap" in found.at(0).flags
    assert found.value_j[0] == pytest.approx(whole.value_j[0], rel=2e-3)
    assert whole.lo_j[0] - found.lo_j[0] == pytest.approx(440.0, rel=0.15)
    assert found.hi_j[0] - whole.hi_j[0] == pytest.approx(445.0, rel=0.15)
    assert "gap" not in found.at(1).flags
    assert refused(found.at(2))  # an edge in the hole
    assert refused(found.at(3))
    assert found.lo_j[2] <= WAVE.between_j(0, 1500 * MS) <= found.hi_j[2]


def test_what_is_published_again_is_filled_in_up_to_the_last_row() -> None:
    sensor = Sensor(truth=load([(3, 200), (2, 400)], idle_w=200), phase_ns=40 * MS)
    rows = Rows.of(record(sensor, poll_times(-2 * S, 6 * S)).rows)
    found = find_publishes(rows, rows.power_instant_mw, Breaks())
    assert found is not None
    assert found.period_ns == pytest.approx(100 * MS, rel=0.01)
    near = np.abs(found.t_ns - EPOCH_NS - 5 * S) < 800 * MS
    off_ns = (found.t_ns[near] - EPOCH_NS - 40 * MS + 50 * MS) % (100 * MS) - 50 * MS
    assert np.max(np.abs(off_ns)) < 15 * MS
    assert found.until_ns[-1] - found.t_ns[-1] < 101 * MS
    assert np.all(np.diff(found.t_ns) > 0)


def test_marks_that_may_be_off_widen_the_bounds_and_leave_the_value() -> None:
    rows = Rows.of(recording().rows)
    made = EnergyCurve.of(rows, path="counter", limits=LIMITS)
    exact, off = many(made, "auto", (0, 4)), many(made, "auto", (0, 4), marker_ns=50 * MS)
    inner, outer = many(made, "auto", (0.05, 3.95)), many(made, "auto", (-0.05, 4.05))
    assert off.value_j == exact.value_j
    assert off.lo_j == inner.lo_j
    assert off.hi_j == outer.hi_j
    assert off.hi_j - off.lo_j > exact.hi_j - exact.lo_j + 30.0
    assert many(made, "auto", (0, 4), marker_ns=9 * S).at(0).flags == ("not_covered",)
    with pytest.raises(TraceError, match="positive number"):
        many(made, "auto", (0, 4), marker_ns=-1)


def test_marks_off_by_more_than_half_the_interval_leave_it_no_less_than_nothing() -> None:
    made = EnergyCurve.of(Rows.of(recording().rows), path="counter", limits=LIMITS)
    off = many(made, "auto", (1.0, 1.02), marker_ns=100 * MS)
    still = many(made, "auto", (1.01, 1.01))
    assert off.lo_j == still.lo_j
    assert off.hi_j == many(made, "auto", (0.9, 1.12)).hi_j


def test_a_part_time_sensor_is_known_by_its_window_and_period() -> None:
    assert unseen_share(25 * MS, 100 * MS) == 0.75
    assert unseen_share(100 * MS, 100 * MS) == 0.0
    assert unseen_share(100 * MS, 101 * MS) == 0.0  # the period is not known any better
    assert unseen_share(S, 100 * MS) == 0.0


def test_aliasing_widens_by_the_quartile_range_of_the_readings_inside() -> None:
    at = np.arange(10) * 100 * MS
    power = np.where(np.arange(10) < 5, 100.0, np.arange(10) * 100.0)
    t0, t1 = np.array([0, 500 * MS]), np.array([500 * MS, S])
    found = aliasing_j(t0, t1, at_ns=at, power_w=power, unseen=0.75, period_ns=100 * MS)
    assert found[0] == 0.0
    assert found[1] == pytest.approx(0.75 * 200.0 * np.sqrt(0.1 * 0.5))


@pytest.mark.parametrize(
    ("name", "instant_ms", "legacy_ms"),
    [
        ("Tesla V100-SXM2-16GB", 10, 10),
        ("Tesla T4", 100, 100),
        ("NVIDIA A100-SXM4-80GB", 25, 25),
        ("NVIDIA A10", 100, 1000),
        ("NVIDIA RTX A3000", 100, 1000),
        ("NVIDIA GeForce RTX 3090", 100, 1000),
        ("NVIDIA GH200 480GB", 20, 1000),
        ("NVIDIA H200", 25, 1000),
        ("NVIDIA RTX 2000 Ada Generation", 25, 1000),
        ("Something new", 25, 1000),
    ],
)
def test_a_profile_is_found_by_the_devices_name(name: str, instant_ms: int, legacy_ms: int) -> None:
    found = sensor_profile(name)
    assert (found.window_ns("instant"), found.window_ns("legacy")) == (instant_ms * MS, legacy_ms * MS)
    assert found.window_ns("average") == S
    assert found.window_ns("power.draw.instant") == instant_ms * MS


levels = st.floats(80.0, 900.0)
runs = st.lists(st.tuples(st.floats(0.05, 0.6), levels), min_size=1, max_size=4)
long_runs = st.lists(st.tuples(st.floats(0.4, 0.6), levels), min_size=4, max_size=4)
margins = st.floats(0.0, 0.09)


def around(pieces: list[tuple[float, float]], before_s: float, after_s: float) -> tuple[float, float]:
    return -before_s, sum(seconds for seconds, _ in pieces) + after_s


def run_rows(pieces: list[tuple[float, float]], phase: int, extra_w: float = 0.0) -> list[ReadingRow]:
    sensor = Sensor(truth=load(list(pieces), idle_s=12.0), phase_ns=phase * MS, offset_w=extra_w)
    length_s = sum(seconds for seconds, _ in pieces)
    return record(sensor, poll_times(-5 * S // 2, round((length_s + 4) * S), seed=phase), seed=phase).rows


@settings(max_examples=25)
@given(runs, margins, margins, st.integers(0, 99), st.sampled_from(AVERAGED))
def test_an_average_over_idle_ground_gives_any_run_its_energy(
    pieces: list[tuple[float, float]], before_s: float, after_s: float, phase: int, method: Method
) -> None:
    span = around(pieces, before_s, after_s)
    found = ask(curve(run_rows(pieces, phase)), *span, method)
    true_j = load(list(pieces), idle_s=12.0).between_j(round(span[0] * S), round(span[1] * S))
    assert found.lo is not None
    assert found.hi is not None
    assert found.lo <= true_j <= found.hi


@settings(max_examples=15)
@given(runs, margins, st.integers(0, 99), st.integers(2, 9), st.sampled_from(FROM_POWER))
def test_scaling_power_scales_the_energy(
    pieces: list[tuple[float, float]], margin_s: float, phase: int, factor: int, method: Method
) -> None:
    rows = run_rows(pieces, phase)
    scaled = [
        replace(
            r,
            power_instant_mw=(r.power_instant_mw or 0) * factor,
            power_average_mw=(r.power_average_mw or 0) * factor,
        )
        for r in rows
    ]
    span = around(pieces, margin_s, margin_s)
    wide = PowerLimits(floor_w=0.0, cap_w=1e5)
    one, other = (
        many(EnergyCurve.of(Rows.of(each), path="integral", limits=wide), method, span) for each in (rows, scaled)
    )
    assert other.value_j == pytest.approx(factor * one.value_j, rel=1e-9, nan_ok=True)


@settings(max_examples=15)
@given(runs, margins, st.integers(0, 99), st.integers(-(10**18), 10**18), st.sampled_from(FROM_POWER))
def test_shifting_time_changes_nothing(
    pieces: list[tuple[float, float]], margin_s: float, phase: int, shift_ns: int, method: Method
) -> None:
    rows = run_rows(pieces, phase)
    moved = [replace(r, t_ns=r.t_ns + shift_ns) for r in rows]
    t0, t1 = (np.array([EPOCH_NS + round(t * S)]) for t in around(pieces, margin_s, margin_s))
    here, there = curve(rows).energy(t0, t1, method), curve(moved).energy(t0 + shift_ns, t1 + shift_ns, method)
    assert here.at(0) == there.at(0)


@settings(max_examples=15)
@given(
    runs,
    margins,
    st.integers(0, 99),
    st.integers(1, 500),
    st.sampled_from(("instant-trapezoid", "average-telescope", "average-extended")),
)
def test_adding_a_constant_power_adds_its_area(
    pieces: list[tuple[float, float]], margin_s: float, phase: int, extra_w: int, method: Method
) -> None:
    rows = run_rows(pieces, phase)
    more = [
        replace(
            r,
            power_instant_mw=(r.power_instant_mw or 0) + extra_w * 1000,
            power_average_mw=(r.power_average_mw or 0) + extra_w * 1000,
        )
        for r in rows
    ]
    span = around(pieces, margin_s, margin_s)
    one, other = (many(curve(each), method, span) for each in (rows, more))
    assume(np.isfinite(one.value_j[0]))
    assert (other.value_j - one.value_j)[0] == pytest.approx(extra_w * (span[1] - span[0]), abs=1e-6)


@settings(max_examples=15)
@given(long_runs, st.floats(0.0, 0.1), st.floats(0.4, 0.6), st.floats(0.9, 1.0), st.integers(0, 99))
def test_a_pseudo_counter_adds_up_over_any_split(
    pieces: list[tuple[float, float]], a: float, b: float, c: float, phase: int
) -> None:
    length_s = sum(seconds for seconds, _ in pieces)
    a, b, c = a * length_s, b * length_s, c * length_s
    found = many(curve(run_rows(pieces, phase)), "average-counter", (a, b), (b, c), (a, c))
    assert set(found.method) == {"average-counter-plateau"}
    # A value is held inside the bounds that a counter would have; these are wider by what its seed may be off.
    assume(np.all((found.lo_j + 10 < found.value_j) & (found.value_j < found.hi_j - 10)))
    assert found.value_j[0] + found.value_j[1] == pytest.approx(found.value_j[2], rel=1e-12, abs=1e-9)
