"""Comparisons, rankings and spreads: what many runs say, and when they say nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats  # type: ignore[import-untyped]
from sensor import MS, S, Sensor, Waveform, load

from telemetry.analysis.attribution import Attribution, attribute
from telemetry.analysis.bootstrap import Arm, arm_interval, nested_interval
from telemetry.analysis.comparison import (
    BOARDS_APART,
    Comparison,
    LogRatio,
    compare,
    detectable_effect,
    holm,
    noise_floor,
    permutation_p,
)
from telemetry.analysis.estimates import EnergyEstimates
from telemetry.analysis.per_token import token_energy_percentile
from telemetry.analysis.ranking import ranked
from telemetry.analysis.rows import Floats
from telemetry.analysis.spread import by_length, over_requests, over_runs, over_windows
from telemetry.analysis.work import Requests
from telemetry.errors import TraceError

T28 = [98.7, 99.1, 99.8, 100.0, 100.4, 100.9, 101.2, 101.5, 102.2, 103.9]


def arm(*values: float) -> Arm:
    return Arm(energy_j=np.array(values), tokens=np.ones(len(values)))


def drawn(rng: np.random.Generator, n: int, *, value: float = 2.0, cv: float = 0.02) -> Arm:
    """Return n runs of unlike numbers of tokens whose J/token is `value` on the long run."""
    tokens = rng.uniform(800, 1_200, n)
    return Arm(energy_j=tokens * value * np.exp(rng.normal(-(cv**2) / 2, cv, n)), tokens=tokens)


def test_j_per_token_is_a_ratio_of_sums() -> None:
    found = Arm(energy_j=np.array([100.0, 900.0]), tokens=np.array([100.0, 300.0]))
    assert found.value == 2.5  # the mean of the ratios is 2


@pytest.mark.parametrize("n", [5, 10, 29])
def test_intervals_of_one_arm_and_of_a_ratio_hold_the_truth(n: int) -> None:
    rng = np.random.default_rng(n)
    held = np.zeros(2)
    for seed in range(400):
        a, b = drawn(rng, n), drawn(rng, n)
        one = arm_interval(a, seed=seed)
        assert one is not None
        assert one.method == "t-log"
        log_ratio = LogRatio.of(a, b)
        held += one.lo <= 2.0 <= one.hi, 2 * min(log_ratio.p_above(), 1 - log_ratio.p_above()) > 0.05
    assert (held / 400 >= 0.925).all()


def test_intervals_from_thirty_runs_on_are_bca_and_hold_the_truth() -> None:
    rng = np.random.default_rng(30)
    held = 0
    for seed in range(100):
        found = arm_interval(drawn(rng, 30), seed=seed)
        assert found is not None
        assert (found.method, found.seed) == ("bca", seed)
        held += found.lo <= 2.0 <= found.hi
    assert held >= 89


def test_a_bca_interval_is_scipys_and_comes_back_from_its_seed() -> None:
    values = np.random.default_rng(2).lognormal(0, 0.5, 40)
    found = arm_interval(arm(*values), seed=11)
    assert found is not None
    expected = stats.bootstrap((values,), np.mean, n_resamples=10_000, rng=np.random.default_rng(5)).confidence_interval
    assert (found.lo, found.hi) == pytest.approx((expected.low, expected.high), rel=0.03)
    assert found == arm_interval(arm(*values), seed=11)
    assert found != arm_interval(arm(*values), seed=12)


def test_bca_is_taken_further_out_as_students_t_is() -> None:
    values = np.random.default_rng(2).normal(100, 1, 30)
    found = arm_interval(arm(*values), seed=11)
    assert found is not None
    plain = stats.bootstrap((values,), np.mean, n_resamples=10_000, rng=np.random.default_rng(11)).confidence_interval
    assert (found.hi - found.lo) / (plain.high - plain.low) == pytest.approx(2.045 / 1.960 * np.sqrt(30 / 29), abs=0.02)


def test_runs_that_agree_have_an_interval_without_width_and_one_run_has_none() -> None:
    for n in (2, 30):
        found = arm_interval(arm(*[3.0] * n), seed=1)
        assert found is not None
        assert (found.lo, found.hi) == pytest.approx((3.0, 3.0))
    assert arm_interval(arm(3.0), seed=1) is None


def test_the_interval_of_alike_runs_is_students_on_logarithms() -> None:
    found = arm_interval(arm(*T28), seed=1)
    assert found is not None
    half = 2.26216 * 1.539 / np.sqrt(10) / 100.77
    assert (np.log(found.lo / 100.77), np.log(found.hi / 100.77)) == pytest.approx((-half, half), rel=1e-3)


def test_requests_of_a_run_are_no_replicates() -> None:
    rng = np.random.default_rng(0)
    few, many = (
        [rng.normal(level, 0.01, n) for level in np.linspace(1, 2, 8)] for n in (20, 2_000)
    )  # runs differ, requests do not
    wide, narrow = (nested_interval(runs, np.mean, seed=1, n_draws=500) for runs in (few, many))
    assert wide is not None
    assert narrow is not None
    assert narrow.hi - narrow.lo == pytest.approx(wide.hi - wide.lo, rel=0.1)
    assert narrow.hi - narrow.lo > 0.3
    assert nested_interval(few[:5], np.mean, seed=1) is None
    assert nested_interval([*few[:5], np.empty(0)], np.mean, seed=1) is None
    assert nested_interval([*few, np.empty(0)], np.mean, seed=1, n_draws=500) == wide


def test_an_effect_comes_with_interval_p_and_what_could_have_been_seen() -> None:
    a, b = arm(2.0, 2.01, 1.99, 2.02, 2.0), arm(2.2, 2.21, 2.19, 2.22, 2.2)
    found = compare(a, b, seed=3)
    assert found.ratio == pytest.approx(11.02 / 10.02)
    assert found.interval is not None
    assert found.interval.lo < found.ratio < found.interval.hi
    assert found.interval.method == "welch-t-log-few-runs"
    assert found.p == pytest.approx(2 / 252)  # the least that five against five can give
    assert found.conclusion == "worse"
    assert compare(b, a, seed=3).conclusion == "better"
    assert compare(a, b, seed=3, lower_is_better=False).conclusion == "better"
    assert found.detectable is not None
    assert 0.005 < found.detectable < 0.02
    six = compare(arm(*a.energy_j, 2.0), arm(*b.energy_j, 2.2), seed=3).interval
    assert six is not None
    assert six.method == "welch-t-log"


def test_the_interval_of_the_ratio_is_welchs() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(100, 1, 8), rng.normal(102, 3, 12)
    found = compare(arm(*a), arm(*b), seed=1)
    expected = stats.ttest_ind(np.log(b), np.log(a), equal_var=False).confidence_interval(0.95)
    assert found.interval is not None
    assert np.log([found.interval.lo, found.interval.hi]) == pytest.approx([expected.low, expected.high], abs=5e-4)


def test_thirty_runs_an_arm_are_resampled() -> None:
    rng = np.random.default_rng(4)
    found = compare(drawn(rng, 30), drawn(rng, 30, value=2.2), seed=9)
    assert found.interval is not None
    assert (found.interval.method, found.interval.seed) == ("bca", 9)
    assert found.interval.lo < found.ratio < found.interval.hi
    assert found.conclusion == "worse"


def test_equivalent_is_shown_not_assumed() -> None:
    rng = np.random.default_rng(6)
    close = compare(drawn(rng, 10, cv=0.005), drawn(rng, 10, cv=0.005), seed=1)
    assert close.conclusion == "equivalent"
    assert close.p_equivalent is not None
    assert close.p_equivalent < 0.05
    vague = compare(drawn(rng, 5, cv=0.05), drawn(rng, 5, cv=0.05), seed=1)
    assert vague.conclusion == "not resolvable"
    assert compare(arm(2.0), arm(3.0, 3.0), seed=1).conclusion == "not resolvable"
    same = arm(2.0, 2.0)
    assert compare(same, same, seed=1).conclusion == "equivalent"


def test_a_small_effect_surely_within_the_margin_is_equivalent_though_it_is_real() -> None:
    rng = np.random.default_rng(8)
    found = compare(drawn(rng, 20, cv=0.002), drawn(rng, 20, value=2.01, cv=0.002), seed=1)
    assert found.interval is not None
    assert found.interval.lo > 1.0
    assert found.conclusion == "equivalent"
    assert compare(drawn(rng, 20, cv=0.002), drawn(rng, 20, value=2.1, cv=0.002), seed=1, margin=0.1).conclusion == (
        "equivalent"
    )


def test_no_effect_is_told_below_the_noise_floor_or_between_boards() -> None:
    rng = np.random.default_rng(2)
    a, b = drawn(rng, 10, cv=0.004), drawn(rng, 10, value=2.1, cv=0.004)
    assert compare(a, b, seed=1).conclusion == "worse"
    assert compare(a, b, seed=1, floor=0.06).conclusion == "not resolvable"
    assert compare(a, b, seed=1, calibration=BOARDS_APART).conclusion == "not resolvable"
    assert compare(a, a, seed=1, calibration=BOARDS_APART).conclusion == "not resolvable"
    drifted = Arm(energy_j=a.energy_j * 1.03, tokens=a.tokens)
    assert noise_floor(a, drifted, seed=1) > 0.03
    with pytest.raises(TraceError, match="no noise"):
        noise_floor(arm(1.0), arm(1.0), seed=1)


def test_boards_differ_by_what_two_independent_gains_do() -> None:
    rng = np.random.default_rng(0)
    apart = np.abs(rng.uniform(-0.05, 0.05, 100_000) - rng.uniform(-0.05, 0.05, 100_000))
    assert np.quantile(apart, 0.95) == pytest.approx(BOARDS_APART, abs=1e-3)


def test_timing_stands_beside_repeatability_and_is_merged_into_nothing() -> None:
    ones = np.ones(6)
    a = Arm(energy_j=100 * ones, tokens=10 * ones, energy_lo_j=90 * ones, energy_hi_j=110 * ones)
    b = Arm(energy_j=200 * ones, tokens=20 * ones, energy_lo_j=190 * ones, energy_hi_j=210 * ones)
    found = compare(a, b, seed=1, calibration=0.01)
    assert found.timing == pytest.approx((190 / 110 / 2, 210 / 90 / 2))
    assert found.interval is not None
    assert (found.interval.lo, found.interval.hi) == pytest.approx((1.0, 1.0))
    assert found.calibration == 0.01
    assert compare(arm(1, 2), arm(1, 2), seed=1).timing is None


@pytest.mark.parametrize(("n", "percent"), [(5, 3.0), (10, 2.0), (20, 1.4)])
def test_planning_gives_the_detectable_differences_of_the_specification(n: int, percent: float) -> None:
    assert 100 * detectable_effect(cv=0.015, n_a=n, n_b=n) == pytest.approx(percent, abs=0.05)
    with pytest.raises(TraceError, match="single run"):
        detectable_effect(cv=0.015, n_a=1, n_b=n)


def test_four_fifths_of_detectable_effects_are_detected() -> None:
    rng = np.random.default_rng(3)
    effect = detectable_effect(cv=0.015, n_a=10, n_b=10)
    found = [
        LogRatio.of(drawn(rng, 10, cv=0.015), drawn(rng, 10, value=2 * np.exp(effect), cv=0.015)) for _ in range(500)
    ]
    assert np.mean([each.p_above() < 0.025 for each in found]) == pytest.approx(0.8, abs=0.05)


@given(st.lists(st.floats(0.5, 2.0), min_size=6, max_size=8), st.integers(2, 4))
def test_the_p_of_exchanging_runs_does_not_ask_which_arm_is_first(values: list[float], n_a: int) -> None:
    a, b = arm(*values[:n_a]), arm(*values[n_a:])
    assert permutation_p(a, b, seed=1) == pytest.approx(permutation_p(b, a, seed=1))
    assert 0.0 < permutation_p(a, b, seed=1) <= 1.0
    with pytest.raises(TraceError, match="exchanged"):
        permutation_p(arm(1.0), b, seed=1)


def test_p_values_looked_at_together_are_adjusted_by_holm() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert len(holm([])) == 0


def test_arms_and_options_that_mean_nothing_are_refused() -> None:
    for energy_j, tokens in (([], []), ([1.0, 0.0], [1.0, 1.0]), ([1.0], [0.0]), ([1.0], [1.0, 2.0])):
        with pytest.raises(TraceError, match="run"):
            Arm(energy_j=np.array(energy_j), tokens=np.array(tokens))
    for options in ({"level": 1.0}, {"margin": 0.0}, {"floor": -1.0}, {"calibration": -1.0}):
        with pytest.raises(TraceError, match="shares"):
            compare(arm(1, 2), arm(1, 2), seed=1, **options)  # type: ignore[arg-type]


def test_groups_that_cannot_be_told_apart_share_a_rank() -> None:
    rng = np.random.default_rng(5)
    best, same, worse, last = (drawn(rng, 8, value=v, cv=0.004) for v in (2.0, 2.002, 2.2, 2.6))
    places = ranked([worse, best, last, same])
    assert [p.rank for p in places] == [3, 1, 4, 1]
    assert [p.tied_with for p in places] == [(), (3,), (), (1,)]
    assert [p.rank for p in ranked([worse, best, last, same], lower_is_better=False)] == [2, 3, 1, 3]
    assert [p.rank for p in ranked([worse, best, last, same], floor=0.15)] == [1, 1, 4, 1]


def test_a_group_of_one_run_is_tied_with_all() -> None:
    rng = np.random.default_rng(5)
    places = ranked([arm(1.0), drawn(rng, 8), drawn(rng, 8, value=3.0)])
    assert [p.rank for p in places] == [1, 1, 2]
    assert [p.tied_with for p in places] == [(1, 2), (0,), (0,)]
    assert ranked([]) == []


def test_in_a_table_of_equal_groups_hardly_ever_one_stands_out() -> None:
    rng = np.random.default_rng(9)
    tables = [ranked([drawn(rng, 5) for _ in range(6)]) for _ in range(200)]
    assert np.mean([any(p.rank > 1 for p in table) for table in tables]) <= 0.06


def t23() -> Waveform:
    """Tokens of 240 and 480 W in turns, 25 ms each."""
    return load([(0.025, 240.0), (0.025, 480.0)] * 200, idle_w=360.0)


def naive_token_j(phase_ms: float) -> Floats:
    """Return P · Δt of each token, P the INSTANT shown when it ends, as tools do that poll faster than the sensor."""
    sensor = Sensor(truth=t23(), phase_ns=round(phase_ms * MS))
    ends = np.arange(40, 400) * 25 * MS
    return (sensor.instant_mw(ends) * (1e-3 * 0.025)).astype(np.float64)


@pytest.mark.parametrize(("phase_ms", "token_j"), [(0.0, 12.0), (12.5, 9.0), (25.0, 6.0), (37.5, 9.0)])
def test_t23_percentiles_over_tokens_are_the_sensors_phase_and_are_refused(phase_ms: float, token_j: float) -> None:
    wave = t23()
    assert wave.between_j(0, 10 * S) / 400 == pytest.approx(9.0)
    naive = naive_token_j(phase_ms)
    assert [np.percentile(naive, q) for q in (5, 50, 95)] == pytest.approx([token_j] * 3)
    with pytest.raises(TraceError, match="cannot be measured"):
        token_energy_percentile(50)


def windows(seconds: float, energy_j: list[float]) -> EnergyEstimates:
    n = len(energy_j)
    t0 = np.arange(n) * round(seconds * S)
    return EnergyEstimates(
        t0_ns=t0,
        t1_ns=t0 + round(seconds * S),
        value_j=np.array(energy_j),
        lo_j=np.zeros(n),
        hi_j=np.zeros(n),
        method=np.full(n, "counter-plateau"),
        flags=np.zeros(n, dtype=np.uint64),
    )


def test_t23_windows_of_half_a_second_say_nine_joules_and_shorter_ones_are_refused() -> None:
    wave = t23()
    energy_j = [wave.between_j(i * S // 2, (i + 1) * S // 2) for i in range(20)]
    found = over_windows(windows(0.5, energy_j), np.full(20, 20), period_ns=100 * MS)
    assert found.over == "windows (windowed, 0.5 s)"
    assert found.values.p50 == pytest.approx(9.0)
    assert (found.values.n, found.values.p90) == (20, None)
    with pytest.raises(TraceError, match="too short"):
        over_windows(windows(0.4, energy_j), np.full(20, 20), period_ns=100 * MS)
    with pytest.raises(TraceError, match="too short"):
        over_windows(windows(0.5, energy_j), np.full(20, 20), period_ns=200 * MS)


def test_windows_without_tokens_or_energy_are_left_out_and_mixed_lengths_refused() -> None:
    found = over_windows(windows(1.0, [10.0, 20.0, float("nan")]), [5, 0, 5], period_ns=100 * MS)
    assert (found.values.n, found.values.mean) == (1, 2.0)
    mixed = windows(1.0, [10.0, 20.0])
    mixed.t1_ns[1] += S
    with pytest.raises(TraceError, match="different lengths"):
        over_windows(mixed, [5, 5], period_ns=100 * MS)


def charged(n: int) -> Attribution:
    start = np.arange(n) * S
    engine = Requests(
        start_ns=start,
        first_token_ns=start,
        end_ns=start + S,
        input_tokens=np.zeros(n, dtype=np.int64),
        cached_tokens=np.zeros(n, dtype=np.int64),
        output_tokens=np.ones(n, dtype=np.int64),
    )
    both = {"a": lambda t: t * 1e-9 * 40.0, "b": lambda t: t * 1e-9 * 60.0}
    return attribute(engine, both, from_ns=0, to_ns=(n + 1) * S)


def test_percentiles_over_requests_are_labelled_allocated_and_printed_as_n_allows() -> None:
    found = over_requests(charged(30))
    assert found.over == "requests (allocated, affine-shapley)"
    assert [found.values.p50, found.values.p90] == pytest.approx([100.0, 100.0])
    assert found.values.p95 is None
    assert set(found.intervals) == {"p50", "p90"}
    per_token = over_requests(charged(3), per_token=np.array([10, 0, 20]))
    assert [per_token.values.n, per_token.values.min, per_token.values.max] == pytest.approx([2, 5, 10])


def test_lengths_are_sorted_into_buckets() -> None:
    found = by_length(charged(5), np.array([0, 127, 128, 40_000, 129]))
    assert [(b.least, b.below, b.spread.values.n) for b in found] == [(0, 128, 2), (128, 512, 2), (32_768, None, 1)]
    (rare,) = by_length(charged(2), np.array([5, 5]), per_token=np.array([0, 50]))
    assert [rare.spread.values.n, rare.spread.values.mean] == pytest.approx([1, 2.0])


def test_t28_the_spread_over_runs_prints_what_ten_runs_allow() -> None:
    found = over_runs(T28)
    assert found.over == "runs"
    assert found.values.p50 == pytest.approx(100.65)
    assert found.values.p90 is None
    assert set(found.intervals) == {"p50"}
    assert (found.intervals["p50"].lo, found.intervals["p50"].hi) == (99.1, 102.2)


def test_a_comparison_without_runs_enough_still_names_its_ratio() -> None:
    found = compare(arm(2.0), arm(3.0), seed=1)
    assert found == Comparison(ratio=1.5, timing=None, calibration=0.0, floor=None, margin=0.02, n_a=1, n_b=1)
