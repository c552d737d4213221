"""The energy curve of a counter: edges, breaks, and what each flag is raised for."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from sensor import EPOCH_NS, MS, Recording, S, Sensor, Waveform, load, poll_times, record

from telemetry.analysis import Breaks, EnergyCurve, PowerLimits, Rows, sum_devices
from telemetry.analysis.counter import CounterCurve
from telemetry.analysis.curve import Method
from telemetry.analysis.enclosure import enclose
from telemetry.analysis.grid import fit_grid
from telemetry.analysis.updates import begin_ns, end_ns, find_updates
from telemetry.errors import TraceError
from telemetry.model import Estimate, Gap, ReadingRow

LIMITS = PowerLimits(floor_w=60.0, cap_w=945.0)
WAVE = load([(10, 500)])


def recording(wave: Waveform = WAVE, *, begin_s: float = -3, end_s: float = 13) -> Recording:
    return record(Sensor(truth=wave), poll_times(round(begin_s * S), round(end_s * S)))


def curve(rows: Sequence[ReadingRow], breaks: Breaks | None = None, limits: PowerLimits = LIMITS) -> EnergyCurve:
    return EnergyCurve.of(Rows.of(rows), path="counter", limits=limits, breaks=breaks)


def ask(curve: EnergyCurve, t0_s: float, t1_s: float, method: Method = "auto") -> Estimate:
    t0, t1 = (np.array([EPOCH_NS + round(t * S)]) for t in (t0_s, t1_s))
    return curve.energy(t0, t1, method).at(0)


def bounds(estimate: Estimate) -> tuple[float, float]:
    assert estimate.lo is not None
    assert estimate.hi is not None
    return estimate.lo, estimate.hi


def true_j(t0_s: float, t1_s: float, wave: Waveform = WAVE) -> float:
    return wave.between_j(round(t0_s * S), round(t1_s * S))


def test_a_counter_that_starts_anywhere_gives_the_same_energy_to_the_bit() -> None:
    whole = recording()
    high = [replace(r, energy_mj=(r.energy_mj or 0) + 2**62 + 12_345) for r in whole.rows]
    near_zero = [replace(r, energy_mj=(r.energy_mj or 0) + 10**6) for r in whole.rows]
    assert ask(curve(high), 0, 10) == ask(curve(near_zero), 0, 10)


def test_only_the_rows_around_the_edges_are_needed() -> None:
    whole = recording()
    parts = [Rows.of(part) for part in whole.near(0, 10 * S)]
    assert sum(map(len, parts)) < len(whole.rows)
    sparse = EnergyCurve.of(Rows.concat(parts), path="counter", limits=LIMITS)
    assert ask(sparse, 0, 10) == ask(curve(whole.rows), 0, 10)


def test_a_piece_that_starts_between_updates_claims_no_bracket_for_its_first_row() -> None:
    wave = load([(10, 300, 700)])
    rows = recording(wave).rows
    energies = [r.energy_mj for r in rows]
    # Row n changed the power only: the value its counter shows had been there since the row before.
    n = next(i for i in range(200, len(rows)) if energies[i] == energies[i - 1] != energies[i - 2])
    pieces = Rows.concat([Rows.of(rows[:100]), Rows.of(rows[n:])])
    between_s = (rows[n - 1].t_ns + rows[n].t_ns - 2 * EPOCH_NS) / 2 * 1e-9
    found = EnergyCurve.of(pieces, path="counter", limits=LIMITS)
    low, high = bounds(ask(found, -1, between_s))
    assert low <= true_j(-1, between_s, wave) <= high


def test_overlapping_pieces_are_joined_as_if_they_had_been_read_at_once() -> None:
    rows = recording().rows
    joined = Rows.concat([Rows.of(rows[50:]), Rows.of(rows[:80])])
    whole = Rows.of(rows)
    assert np.array_equal(joined.t_ns, whole.t_ns)
    assert np.array_equal(joined.is_first, whole.is_first)


def test_a_value_missing_for_a_while_widens_the_bracket_and_nothing_else() -> None:
    nulls = record(Sensor(truth=WAVE), poll_times(-3 * S, 13 * S), null_ns=[(-20 * MS, 90 * MS)])
    found = ask(curve(nulls.rows), 0, 10)
    assert found.value == pytest.approx(5000.0, rel=5e-3)
    low, high = bounds(found)
    assert low <= 5000.0 <= high
    narrow_low, narrow_high = bounds(ask(curve(recording().rows), 0, 10))
    assert high - low > narrow_high - narrow_low


def test_zero_counter_values_are_values_and_missing_ones_are_not() -> None:
    rows = recording().rows
    silent = [replace(r, energy_mj=None) for r in rows]
    assert ask(curve(silent), 0, 10).flags == ("not_covered",)
    assert ask(curve([]), 0, 10).flags == ("not_covered",)


def test_an_edge_without_two_later_updates_is_extrapolated_and_says_so() -> None:
    short = recording(end_s=10.02)
    found = ask(curve(short.rows), 0, 10)
    assert "edge_extrapolated" in found.flags
    assert found.grade == "B"
    assert found.value == pytest.approx(5000.0, rel=1e-3)
    low, high = bounds(found)
    assert low <= 5000.0 <= high


def test_an_edge_before_the_first_update_is_extrapolated_and_says_so() -> None:
    late = recording(begin_s=-0.02)
    found = ask(curve(late.rows), 0, 10)
    assert "edge_extrapolated" in found.flags
    low, high = bounds(found)
    assert low <= 5000.0 <= high


@pytest.mark.parametrize("span", [(-5.0, 10.0), (0.0, 15.0), (-9.0, -5.0)])
def test_an_edge_far_from_all_rows_has_no_energy(span: tuple[float, float]) -> None:
    found = ask(curve(recording().rows), *span)
    assert (found.value, found.lo, found.hi) == (None, None, None)
    assert (found.grade, found.flags) == ("U", ("not_covered",))


def test_an_edge_inside_lost_polls_has_wider_bounds_that_still_hold() -> None:
    lost = record(Sensor(truth=WAVE), poll_times(-3 * S, 13 * S), lost_ns=[(-S, S)])
    found = ask(curve(lost.rows, Breaks.of(lost.gaps)), 0, 10)
    low, high = bounds(found)
    assert low <= 5000.0 <= high
    assert high - low > 400.0
    assert "gap" in found.flags


def test_polls_far_apart_are_a_gap_even_if_nobody_recorded_one() -> None:
    lost = record(Sensor(truth=WAVE), poll_times(-3 * S, 13 * S), lost_ns=[(5 * S, 5500 * MS)])
    assert "gap" in ask(curve(lost.rows), 0, 10).flags
    assert ask(curve(lost.rows), 6, 10).flags == ()


@pytest.mark.parametrize("since_ns", [0, 300_000])
def test_a_session_that_starts_inside_leaves_the_counter_whole(since_ns: int) -> None:
    lost = record(Sensor(truth=WAVE), poll_times(-3 * S, 13 * S), lost_ns=[(4 * S, 6 * S)])
    restart = next(i for i, r in enumerate(lost.rows) if r.t_ns > EPOCH_NS + 6 * S)
    # The first poll of a session has no poll before it, whatever its row says.
    rows = [replace(r, since_ns=since_ns) if i == restart else r for i, r in enumerate(lost.rows)]
    breaks = Breaks.of((), [EPOCH_NS + 6 * S - MS])
    found = ask(curve(rows, breaks), 0, 10)
    assert found.value == pytest.approx(5000.0, rel=2e-4)
    assert found.flags == ("gap",)
    # Its first bracket is not believed: an edge just before it is still enclosed.
    low, high = bounds(ask(curve(rows, breaks), 0, 5.99))
    assert low <= true_j(0, 5.99) <= high


def test_a_reset_named_by_the_collector_is_bridged_even_if_the_counter_came_back_higher() -> None:
    sensor = Sensor(truth=WAVE, reset_ns=5 * S)
    rows = record(sensor, poll_times(-3 * S, 13 * S)).rows
    higher = [
        replace(r, energy_mj=(r.energy_mj or 0) + (10**9 if r.t_ns > EPOCH_NS + 5 * S + 70 * MS else 0)) for r in rows
    ]
    fell = next(i for i in range(1, len(rows)) if (rows[i].energy_mj or 0) < (rows[i - 1].energy_mj or 0))
    cut = [r for i, r in enumerate(higher) if i >= fell + 40 or i < fell]
    span = Gap(from_ns=cut[fell - 1].t_ns, to_ns=cut[fell].t_ns, reason="counter_reset")
    found = ask(curve(cut, Breaks.of([span])), 0, 10)
    assert found.value == pytest.approx(5000.0, rel=1e-2)
    assert "counter_reset" in found.flags
    low, high = bounds(found)
    assert low <= 5000.0 <= high


def test_a_fall_that_the_collector_names_too_is_bridged_once() -> None:
    rows = record(Sensor(truth=WAVE, reset_ns=5 * S), poll_times(-3 * S, 13 * S)).rows
    fell = next(i for i in range(1, len(rows)) if (rows[i].energy_mj or 0) < (rows[i - 1].energy_mj or 0))
    half_ns = [rows[i].latency_us * 500 for i in (fell - 1, fell)]
    # As the collector writes it: from the begin of the last call before to the end of the one that saw it.
    span = Gap(from_ns=rows[fell - 1].t_ns - half_ns[0], to_ns=rows[fell].t_ns + half_ns[1], reason="counter_reset")
    assert bounds(ask(curve(rows, Breaks.of([span])), 0, 10)) == bounds(ask(curve(rows), 0, 10))


def test_two_restarts_in_one_interval_are_both_bridged() -> None:
    rows = record(Sensor(truth=WAVE, reset_ns=3 * S), poll_times(-3 * S, 13 * S)).rows
    again = [
        replace(r, energy_mj=(r.energy_mj or 0) - (1_700_000 if r.t_ns > EPOCH_NS + 6520 * MS else 0)) for r in rows
    ]
    found = ask(curve(again), 0, 10)
    assert (found.grade, found.flags) == ("C", ("counter_reset",))
    low, high = bounds(found)
    assert low <= 5000.0 <= high
    assert found.value == pytest.approx(5000.0, rel=2e-2)


def test_a_counter_that_jumps_is_over_the_cap_there_and_sound_elsewhere() -> None:
    jumped = [
        replace(r, energy_mj=(r.energy_mj or 0) + (10**6 if r.t_ns > EPOCH_NS + 5 * S else 0)) for r in recording().rows
    ]
    assert "over_cap" in ask(curve(jumped), 0, 10).flags
    assert ask(curve(jumped), 0, 10).grade == "U"
    clean = ask(curve(jumped), 5.3, 9)
    assert clean.flags == ()
    assert bounds(clean) == pytest.approx(bounds(ask(curve(recording().rows), 5.3, 9)))


def test_a_counter_that_stands_still_is_under_the_floor() -> None:
    stuck = [replace(r, energy_mj=(r.energy_mj or 0) // 20) for r in recording().rows]
    found = ask(curve(stuck), 0, 10)
    assert "under_floor" in found.flags
    assert found.grade == "U"


def test_limits_that_the_counter_contradicts_only_over_several_updates_are_a_violation() -> None:
    # Each pair of brackets leaves room for 480 W, eight of them do not.
    found = ask(curve(recording().rows, limits=PowerLimits(floor_w=60.0, cap_w=480.0)), 0.5, 9.5)
    assert {"bound_violation", "over_cap"} & set(found.flags)
    assert found.grade == "U"


def test_a_publisher_without_a_grid_is_noticed() -> None:
    wild = record(Sensor(truth=WAVE, jitter_ns=45 * MS), poll_times(-3 * S, 13 * S))
    found = ask(curve(wild.rows), 0, 10)
    assert "grid_unstable" in found.flags
    assert found.value == pytest.approx(5000.0, rel=3e-3)
    steady = record(Sensor(truth=WAVE, jitter_ns=2 * MS), poll_times(-3 * S, 13 * S))
    assert ask(curve(steady.rows), 0, 10).flags == ()


@pytest.mark.parametrize("period_ms", [63, 250, 495])
def test_a_publish_period_other_than_100_ms_is_found(period_ms: int) -> None:
    other = Sensor(truth=WAVE, period_ns=period_ms * MS, counter_phase_ns=20 * MS)
    found = ask(curve(record(other, poll_times(-5 * S, 15 * S)).rows), 0, 10)
    assert found.value == pytest.approx(5000.0, rel=3e-4)
    assert found.flags == ()


def test_polls_lost_near_an_edge_do_not_spoil_the_grid_on_its_side() -> None:
    wave = load([(10, 900)])
    for seed in range(5):
        polls = poll_times(-3 * S, 13 * S, seed=seed)
        lost = record(Sensor(truth=wave), polls, lost_ns=[(3 * S, 9300 * MS)], seed=seed)
        found = ask(curve(lost.rows), 0, 10)  # nobody recorded the gap
        assert found.flags == ("gap",)
        assert found.value == pytest.approx(9000.0, abs=1.0)
        # Of the many publishes that nobody saw, the first value after is the last.
        assert ask(curve(lost.rows), 0, 9.3).value == pytest.approx(8370.0, abs=5.0)
        series = curve(lost.rows, Breaks.of(lost.gaps)).series
        assert isinstance(series, CounterCurve)
        edge = series.counted.at(np.array([EPOCH_NS + 2990 * MS]), np.array([0]))
        assert edge.stencil.u_s[0, 2] == pytest.approx(-0.04, abs=0.004)  # the publish at 2.95 s


def test_the_power_beside_an_edge_is_never_taken_from_across_a_break() -> None:
    rows = recording().rows

    def pieces(*spans_s: tuple[float, float]) -> EnergyCurve:
        parts = [[r for r in rows if a * S <= r.t_ns - EPOCH_NS <= b * S] for a, b in spans_s]
        return EnergyCurve.of(Rows.concat([Rows.of(p) for p in parts]), path="counter", limits=LIMITS)

    for before, after in [(0.1, 7), (3, 9.82), (3, 9.9), (3, 9.98)]:
        found = ask(pieces((-3, before), (after, 13)), 0, 10)
        assert "edge_extrapolated" in found.flags
        low, high = bounds(found)
        assert low <= 5000.0 <= high
    assert "gap" in ask(pieces((-3, 3), (7, 13)), 0, 5).flags  # nothing was read around 5 s
    assert ask(pieces((-3, 3), (7, 13)), 0, 10).flags == ()


def test_every_bracket_holds_its_publish() -> None:
    wave = load([(10, 100, 900)])
    often = [(k * 270 * MS, k * 270 * MS + 50 * MS) for k in range(40)]
    for seed, (lost, null) in enumerate([([], []), ([(2 * S, 3 * S)], []), ([], often)] * 4):
        sensor = Sensor(truth=wave, jitter_ns=9 * MS, seed=seed)
        made = record(sensor, poll_times(-3 * S, 13 * S, seed=seed), lost_ns=lost, null_ns=null, seed=seed)
        rows = Rows.of(made.rows)
        found = find_updates(rows, rows.energy_mj, rows.energy_known, Breaks.of(made.gaps), restarts=True)
        publishes = sensor.publishes(sensor.counter_phase_ns)
        shown = dict(zip(sensor.counter_mj(publishes).tolist(), publishes.tolist(), strict=True))
        published = np.array([EPOCH_NS + shown[mj] for mj in rows.energy_mj[found.row].tolist()])
        assert np.all(published <= found.high_ns)
        assert np.all((found.low_ns < published)[found.bracketed])
        narrow = (found.high_ns - found.low_ns)[found.is_knot]
        assert np.median(narrow) < 25 * MS


def test_the_brackets_allow_for_what_is_lost_in_whole_microseconds() -> None:
    model = recording().rows[0]
    for latency_ns in range(0, 3000, 7):
        begin, end = EPOCH_NS, EPOCH_NS + latency_ns
        polled = replace(
            model,
            t_ns=(begin + end) // 2,
            latency_us=latency_ns // 1000,
            since_ns=20 * MS + latency_ns,
            energy_mj=2,
        )
        rows = Rows.of([replace(model, t_ns=EPOCH_NS - 50 * MS, energy_mj=1), polled])
        assert begin_ns(rows)[1] <= begin
        assert end_ns(rows)[1] >= end
        found = find_updates(rows, rows.energy_mj, rows.energy_known, Breaks())
        assert found.low_ns[1] <= begin - 20 * MS
        assert found.low_ns[1] > begin - 20 * MS - 2000


def test_an_enclosure_is_made_of_floor_cap_and_the_counters_rounding() -> None:
    def bounds_of(low_s: float, high_s: float, *, bracketed: bool = True) -> list[float]:
        lo, hi = enclose(
            low_s=np.array([[low_s]]),
            high_s=np.array([[high_s]]),
            value_j=np.array([[5.0]]),
            bracketed=np.array([[bracketed]]),
            use=np.array([[True]]),
            limits=LIMITS,
        )
        return [float(lo[0]), float(hi[0])]

    assert bounds_of(0.0, 0.0) == pytest.approx([5.0, 5.001])
    assert bounds_of(-0.3, -0.1) == pytest.approx([5 + 60 * 0.1, 5.001 + 945 * 0.3])
    assert bounds_of(0.1, 0.3) == pytest.approx([5 - 945 * 0.3, 5.001 - 60 * 0.1])
    assert bounds_of(-0.1, 0.2) == pytest.approx([5 - 945 * 0.2, 5.001 + 945 * 0.1])
    assert np.isnan(bounds_of(-0.1, -0.1, bracketed=False)[1])


def test_a_late_publish_stays_inside_its_bracket_and_leaves_the_grid_alone() -> None:
    u = np.arange(20) * 0.1
    u[7] += 0.012
    low, high = u - 0.004, u + 0.006
    grid = fit_grid(
        low_s=np.array([low], dtype=np.float64),
        high_s=np.array([high], dtype=np.float64),
        middle_s=(low + high)[None] / 2,
        step=np.arange(20.0)[None],
        use=np.ones((1, 20), dtype=np.bool_),
    )
    assert not grid.unstable[0]
    assert low[7] <= grid.u_s[0, 7] <= high[7]
    assert np.delete(grid.u_s[0] - u, 7) == pytest.approx(0.0, abs=0.006)


def test_a_counter_that_restarts_after_its_first_reading_is_followed_from_there() -> None:
    rows = recording().rows
    odd = [replace(rows[0], energy_mj=2**40), *rows[1:]]
    assert ask(curve(odd), 0, 10) == ask(curve(rows), 0, 10)
    # Of the single value before it nothing can be said.
    assert ask(curve(odd), -3, 10).flags == ("not_covered",)


def test_a_short_interval_across_a_restart_has_bounds_only() -> None:
    rows = record(Sensor(truth=WAVE, reset_ns=5 * S), poll_times(-3 * S, 13 * S)).rows
    found = ask(curve(rows), 4.96, 5.04)
    assert found.value is None
    low, high = bounds(found)
    assert low <= 40.0 <= high


def test_pad_is_refused_beside_anything_but_idle() -> None:
    busy = load([(0.5, 80, 500), (0.3, 600), (0.5, 500, 80)])
    rows = recording(busy, end_s=5).rows
    assert ask(curve(rows), 0.5, 0.8, "pad").value is None
    assert ask(curve(rows), 0.5, 0.8, "pad").flags == ("too_short",)
    for before, after in [((0.5, 80, 500), (0.5, 80)), ((0.5, 80), (0.5, 500, 80))]:  # one side is enough
        rows = recording(load([before, (0.3, 600), after]), end_s=5).rows
        assert ask(curve(rows), 0.5, 0.8, "pad").value is None
    calm = recording(load([(0.3, 600)]), end_s=3.3).rows
    assert ask(curve(calm), 0, 0.3, "pad").value == pytest.approx(180.0, rel=2e-3)
    # Where the rows end after two later updates, the pad before the interval vouches for the one after.
    ended = recording(load([(0.2, 600)]), end_s=0.41).rows
    assert ask(curve(ended), 0, 0.2).method == "counter-pad"
    warm = recording(load([(0.2, 600), (1, 120)]), end_s=0.41).rows
    assert ask(curve(warm), 0, 0.2, "pad").value is None


def test_many_intervals_at_once_are_each_what_they_are_alone() -> None:
    made = curve(recording().rows)
    starts = np.linspace(-1, 8, 40)
    ends = starts + np.linspace(0.0, 3.0, 40)
    t0, t1 = (np.array([EPOCH_NS + round(t * S) for t in times]) for times in (starts, ends))
    together = made.energy(t0, t1)
    for n in range(40):
        assert together.at(n) == made.energy(t0[n : n + 1], t1[n : n + 1]).at(0)


def test_average_power_is_energy_over_duration_and_nothing_without_duration() -> None:
    t0 = np.array([EPOCH_NS, EPOCH_NS])
    found = curve(recording().rows).energy(t0, t0 + np.array([10 * S, 0]))
    power = found.average_power_w()
    assert power[0] == pytest.approx(500.0, rel=2e-4)
    assert np.isnan(power[1])


def test_devices_are_summed_with_their_bounds_and_flags() -> None:
    t0, t1 = np.array([EPOCH_NS]), np.array([EPOCH_NS + 10 * S])
    one = curve(recording().rows).energy(t0, t1)
    other = curve(recording(end_s=10.02).rows).energy(t0, t1)
    both = sum_devices([one, other])
    assert both.value_j[0] == one.value_j[0] + other.value_j[0]
    assert both.lo_j[0] == one.lo_j[0] + other.lo_j[0]
    assert both.hi_j[0] == one.hi_j[0] + other.hi_j[0]
    assert both.at(0).flags == ("edge_extrapolated",)
    assert both.at(0).method == "counter-plateau"


def test_a_device_without_a_value_leaves_the_sum_without_one() -> None:
    t0, t1 = np.array([EPOCH_NS]), np.array([EPOCH_NS + 10 * S])
    both = sum_devices([curve(recording().rows).energy(t0, t1), curve([]).energy(t0, t1)])
    assert both.at(0).value is None
    with pytest.raises(TraceError, match="no device"):
        sum_devices([])
    with pytest.raises(TraceError, match="different intervals"):
        sum_devices([curve([]).energy(t0, t1), curve([]).energy(t0, t1 + 1)])


def test_peak_power_is_the_highest_reading_that_was_current() -> None:
    wave = load([(2, 300), (0.5, 700), (2, 300)])
    made = curve(recording(wave, end_s=7).rows)
    spans = np.array([(0.3, 1.9), (0.5, 4), (2.4, 2.45), (-9, -8)])
    t0, t1 = (EPOCH_NS + np.rint(spans[:, i] * S).astype(np.int64) for i in (0, 1))
    peak = made.peak_power_w(t0, t1)
    assert peak[:3] == pytest.approx([300.0, 700.0, 700.0])
    assert np.isnan(peak[3])


def test_a_reading_before_a_gap_is_not_current_inside_it() -> None:
    lost = record(Sensor(truth=WAVE), poll_times(-3 * S, 13 * S), lost_ns=[(4 * S, 6 * S)])
    inside = np.array([EPOCH_NS + 4500 * MS])
    assert np.isnan(curve(lost.rows, Breaks.of(lost.gaps)).peak_power_w(inside, inside + S))
    assert curve(lost.rows).peak_power_w(inside, inside + S) == pytest.approx([500.0])


def test_peak_power_falls_back_to_the_average_signal() -> None:
    rows = [replace(r, power_instant_mw=None) for r in recording().rows]
    t0, t1 = np.array([EPOCH_NS + 5 * S]), np.array([EPOCH_NS + 6 * S])
    assert curve(rows).peak_power_w(t0, t1) == pytest.approx([500.0])


def test_questions_that_make_no_sense_are_refused_with_a_reason() -> None:
    made = curve(recording().rows)
    t = np.array([EPOCH_NS, EPOCH_NS])
    with pytest.raises(TraceError, match="one length"):
        made.energy(t, t[:1])
    with pytest.raises(TraceError, match="before it begins"):
        made.energy(t, t - 1)
    with pytest.raises(TraceError, match="not one of the counter path"):
        made.energy(t, t, "guess")  # type: ignore[arg-type]
    with pytest.raises(TraceError, match="not later than the one before"):
        Rows.of(recording().rows[::-1])
