"""The energy curve of a device without a counter: the stored integral, its holes and its bounds."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from sensor import EPOCH_NS, MS, S, Sensor, load, poll_times, record

from telemetry.analysis import Breaks, EnergyCurve, PowerLimits, Rows
from telemetry.analysis.curve import Method
from telemetry.errors import TraceError
from telemetry.model import Estimate, ReadingRow

LIMITS = PowerLimits(floor_w=60.0, cap_w=945.0)
WAVE = load([(10, 500)])
POLLS = poll_times(-3 * S, 14 * S)


def curve(rows: Sequence[ReadingRow], breaks: Breaks | None = None, *, integral_of: str = "instant") -> EnergyCurve:
    return EnergyCurve.of(Rows.of(rows), path="integral", limits=LIMITS, breaks=breaks, integral_of=integral_of)


def ask(curve: EnergyCurve, t0_s: float, t1_s: float, method: Method = "stored") -> Estimate:
    t0, t1 = (np.array([EPOCH_NS + round(t * S)]) for t in (t0_s, t1_s))
    return curve.energy(t0, t1, method).at(0)


def numbers(estimate: Estimate) -> tuple[float, float, float]:
    assert estimate.value is not None
    assert estimate.lo is not None
    assert estimate.hi is not None
    return estimate.lo, estimate.value, estimate.hi


def trapezoid_j(sensor: Sensor, t0_s: float, t1_s: float) -> float:
    """Return the area under all polls, with straight lines between them and the edges on the lines."""
    edges = np.rint(np.array([t0_s, t1_s]) * S)
    power = sensor.instant_mw(POLLS) * 1e-3
    inside = (edges[0] < POLLS) & (edges[1] > POLLS)
    t = np.concatenate([edges[:1], POLLS[inside], edges[1:]])
    return float(np.trapezoid(np.interp(t, POLLS, power), t * 1e-9))


def test_any_window_is_the_exact_trapezoid_over_all_polls() -> None:
    sensor = Sensor(truth=load([(3, 200, 700), (0.5, 150), (3, 500)]))
    rows = record(sensor, POLLS, latency_us=(0, 0)).rows
    assert len(rows) < len(POLLS) / 3  # most polls wrote no row
    made = curve(rows)
    for t0_s, t1_s in [(0, 6.5), (-1.003, 3.217), (0.111, 0.122), (2.9999, 3.5001), (1.0, 1.0)]:
        _, value, _ = numbers(ask(made, t0_s, t1_s))
        assert value == pytest.approx(trapezoid_j(sensor, t0_s, t1_s), rel=1e-6, abs=1e-4)


def test_the_rows_around_the_edges_give_the_same_value_as_all_rows() -> None:
    whole = record(Sensor(truth=WAVE), POLLS)
    parts = [Rows.of(part) for part in whole.near(0, 10 * S)]
    assert sum(map(len, parts)) < len(whole.rows)
    sparse = EnergyCurve.of(Rows.concat(parts), path="integral", limits=LIMITS)
    assert numbers(ask(sparse, 0, 10))[1] == pytest.approx(numbers(ask(curve(whole.rows), 0, 10))[1])


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("instant", "integral-instant"),
        ("average", "integral-average"),
        ("legacy", "integral-legacy"),
        ("power.draw", "trapezoid"),
        ("power.draw.instant", "trapezoid"),
    ],
)
def test_the_method_names_the_signal_and_calls_an_import_a_trapezoid(name: str, method: str) -> None:
    rows = record(Sensor(truth=WAVE), POLLS, integral_of="instant" if "instant" in name else "average").rows
    assert ask(curve(rows, integral_of=name), 0, 10).method == method


@pytest.mark.parametrize("phase", range(0, 100, 10))
@pytest.mark.parametrize("signal", ["instant", "average"])
def test_the_bounds_hold_a_step_load_whatever_the_phase(signal: str, phase: int) -> None:
    sensor = Sensor(truth=WAVE, phase_ns=phase * MS)
    rows = record(sensor, POLLS, integral_of=signal, seed=phase).rows
    low, value, high = numbers(ask(curve(rows, integral_of=signal), 0, 10))
    assert low <= 5000.0 <= high
    assert low <= value <= high


def test_a_model_of_timing_never_earns_an_a_and_says_what_it_is() -> None:
    wave = load([(200, 500)])
    rows = record(Sensor(truth=wave), poll_times(-3 * S, 203 * S, period_ns=50 * MS)).rows
    found = ask(curve(rows), 0, 200)
    low, value, high = numbers(found)
    assert (high - low) / 2 < 0.01 * value
    assert (found.grade, found.flags) == ("B", ("timing_model", "part_time_sensor"))


def test_a_window_of_less_than_fifty_averaging_times_says_so() -> None:
    rows = record(Sensor(truth=WAVE), POLLS, integral_of="average").rows
    assert "short_for_averaging" in ask(curve(rows, integral_of="average"), 0, 10).flags
    rows = record(Sensor(truth=WAVE), POLLS).rows
    assert "short_for_averaging" not in ask(curve(rows), 0, 10).flags
    assert "short_for_averaging" in ask(curve(rows), 0, 1.2).flags


def test_a_varying_load_widens_the_bounds_of_a_sensor_that_looks_part_of_the_time() -> None:
    varying = load([(0.25, 200), (0.25, 700)] * 20)
    steady = load([(10, 450)])
    widths = []
    for wave in (steady, varying):
        low, _, high = numbers(ask(curve(record(Sensor(truth=wave), POLLS).rows), 0, 10))
        widths.append(high - low)
    assert widths[1] > widths[0] + 2 * 0.75 * 400 * np.sqrt(0.1 * 10)


def test_a_gap_is_bridged_with_the_powers_beside_it_and_bounded_by_floor_and_cap() -> None:
    lost = record(Sensor(truth=WAVE), POLLS, lost_ns=[(4 * S, 6 * S)])
    breaks = Breaks.of(lost.gaps)
    found = ask(curve(lost.rows, breaks), 0, 10)
    whole = ask(curve(record(Sensor(truth=WAVE), POLLS).rows), 0, 10)
    assert "gap" in found.flags
    assert numbers(found)[1] == pytest.approx(numbers(whole)[1], rel=1e-4)
    hole_s = (lost.gaps[0].to_ns - lost.gaps[0].from_ns) * 1e-9
    assert numbers(whole)[0] - numbers(found)[0] == pytest.approx((500 - 60) * hole_s, rel=1e-2)
    assert numbers(found)[2] - numbers(whole)[2] == pytest.approx((945 - 500) * hole_s, rel=1e-2)
    assert "gap" not in ask(curve(lost.rows, breaks), 7, 10).flags


def test_half_a_gap_is_half_bridged() -> None:
    lost = record(Sensor(truth=WAVE), POLLS, lost_ns=[(4 * S, 6 * S)])
    assert numbers(ask(curve(lost.rows, Breaks.of(lost.gaps)), 2, 5))[1] == pytest.approx(1500.0, rel=1e-3)


def test_missing_powers_are_a_hole_even_if_nobody_recorded_a_gap() -> None:
    nulls = record(Sensor(truth=WAVE), POLLS, null_ns=[(4 * S, 5 * S)])
    found = ask(curve(nulls.rows), 0, 10)
    assert "gap" in found.flags
    low, value, high = numbers(found)
    assert value == pytest.approx(trapezoid_j(Sensor(truth=WAVE), 0, 10), rel=2e-4)
    assert low < value - 400
    assert high > value + 400


@pytest.mark.parametrize("told", [True, False])
def test_an_integral_that_restarts_with_a_session_is_never_differenced_across(told: bool) -> None:
    lost = record(Sensor(truth=WAVE), POLLS, lost_ns=[(4 * S, 6 * S)])
    start = next(i for i, r in enumerate(lost.rows) if r.t_ns > EPOCH_NS + 6 * S)
    base = lost.rows[start].integral_uj or 0
    rows = [
        replace(r, integral_uj=(r.integral_uj or 0) - base, since_ns=0 if i == start else r.since_ns)
        if i >= start
        else r
        for i, r in enumerate(lost.rows)
    ]
    breaks = Breaks.of((), [EPOCH_NS + 6 * S] if told else ())
    found = ask(curve(rows, breaks), 0, 10)
    assert numbers(found)[1] == pytest.approx(trapezoid_j(Sensor(truth=WAVE), 0, 10), rel=2e-4)
    assert "gap" in found.flags


def test_a_session_that_has_counted_beyond_the_last_one_is_not_taken_for_it() -> None:
    rows = record(Sensor(truth=WAVE), POLLS).rows
    base = next(r.integral_uj for r in rows if r.t_ns > EPOCH_NS + 4 * S) or 0
    old = [r for r in rows if r.t_ns <= EPOCH_NS + 2 * S]
    new = [replace(r, integral_uj=(r.integral_uj or 0) - base) for r in rows if r.t_ns > EPOCH_NS + 8 * S]
    assert (new[0].integral_uj or 0) > (old[-1].integral_uj or 0)
    breaks = Breaks.of((), [EPOCH_NS + 4 * S])
    made = EnergyCurve.of(Rows.concat([Rows.of(old), Rows.of(new)]), path="integral", limits=LIMITS, breaks=breaks)
    found = ask(made, 0, 10)
    assert numbers(found)[1] == pytest.approx(trapezoid_j(Sensor(truth=WAVE), 0, 10), rel=2e-4)
    assert "gap" in found.flags


def test_the_stretch_of_a_counter_reset_is_unmeasured_for_the_integral_too() -> None:
    lost = record(Sensor(truth=WAVE), POLLS, lost_ns=[(4 * S, 6 * S)])
    resets = [replace(gap, reason="counter_reset") for gap in lost.gaps]
    assert ask(curve(lost.rows, Breaks.of(resets)), 0, 10) == ask(curve(lost.rows, Breaks.of(lost.gaps)), 0, 10)


def test_the_bounds_are_those_of_late_edges() -> None:
    sensor = Sensor(truth=WAVE)
    rows = record(sensor, POLLS, latency_us=(0, 0), integral_of="average").rows
    made = curve(rows, integral_of="average")
    late_s = 1.1
    low, value, high = numbers(ask(made, 0, 10))
    _, begin_late, _ = numbers(ask(made, late_s, 10))
    _, end_late, _ = numbers(ask(made, 0, 10 + late_s))
    assert low == pytest.approx(begin_late, rel=1e-3)
    assert high == pytest.approx(end_late, rel=1e-3)
    # Where the rows end with the load, its power is taken to go on.
    ended = [r for r in rows if r.t_ns <= EPOCH_NS + 10 * S]
    assert numbers(ask(curve(ended, integral_of="average"), 0, 10))[2] == pytest.approx(value + 500 * late_s, rel=5e-3)


def test_an_edge_at_the_end_of_the_rows_goes_on_with_the_last_power() -> None:
    rows = [r for r in record(Sensor(truth=WAVE), POLLS).rows if r.t_ns <= EPOCH_NS + 5 * S]
    found = ask(curve(rows), 0, 5.5)
    assert "edge_extrapolated" in found.flags
    assert numbers(found)[1] == pytest.approx(trapezoid_j(Sensor(truth=WAVE), 0, 5.5), rel=2e-4)
    assert ask(curve(rows), 0, 7).flags == ("not_covered",)
    assert ask(curve(rows), -9, 4).flags == ("not_covered",)


def test_rows_without_the_named_signal_cover_nothing() -> None:
    rows = [replace(r, power_instant_mw=None) for r in record(Sensor(truth=WAVE), POLLS).rows]
    assert ask(curve(rows), 0, 10).flags == ("not_covered",)


def test_an_integral_knows_no_plateau() -> None:
    t = np.array([EPOCH_NS])
    with pytest.raises(TraceError, match="integral path, which has auto"):
        curve(record(Sensor(truth=WAVE), POLLS).rows).energy(t, t, "plateau")


@pytest.mark.parametrize("lost_s", [0.5, 2.0])
def test_polls_far_apart_are_a_gap_that_floor_and_cap_bound_and_the_value_stays(lost_s: float) -> None:
    sensor = Sensor(truth=load([(3, 300), (lost_s, 700), (5, 300)]))
    kept = POLLS[(POLLS < 3 * S) | ((3 + lost_s) * S < POLLS)]
    found = ask(curve(record(sensor, kept).rows), 1, 7)
    lo, value, hi = numbers(found)
    assert "gap" in found.flags
    assert lo < sensor.truth.between_j(1 * S, 7 * S) < hi
    edges = np.array([1, 7]) * S
    inside = np.concatenate([edges[:1], kept[(edges[0] < kept) & (kept < edges[1])], edges[1:]])
    shown_w = np.interp(inside, kept, sensor.instant_mw(kept) * 1e-3)
    assert value == pytest.approx(float(np.trapezoid(shown_w, inside * 1e-9)), rel=1e-5)
    assert "gap" not in ask(curve(record(sensor, POLLS).rows), 1, 7).flags
