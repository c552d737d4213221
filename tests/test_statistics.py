"""Percentiles, confidence intervals and latencies."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.analysis.statistics import (
    MIN_N,
    latency,
    log_mean_interval,
    mean_interval,
    percentile,
    percentile_interval,
    summary,
    t_quantile,
)
from telemetry.errors import TraceError

RUNS = [98.7, 99.1, 99.8, 100.0, 100.4, 100.9, 101.2, 101.5, 102.2, 103.9]  # golden T28
MS = 1_000_000


def test_t28_ten_runs() -> None:
    found = summary(RUNS)
    assert (found.n, found.min, found.max) == (10, 98.7, 103.9)
    assert found.mean == pytest.approx(100.77)
    assert found.p50 == pytest.approx(100.65)
    assert (found.p90, found.p95, found.p99) == (None, None, None)
    assert [percentile(RUNS, q) for q in (50, 90, 95)] == pytest.approx([100.65, 102.37, 103.135])
    interval = percentile_interval(RUNS, 50)
    assert interval is not None
    assert (interval.lo, interval.hi) == (99.1, 102.2)
    assert interval.level == pytest.approx(0.979, abs=5e-4)


@pytest.mark.parametrize(("q", "least"), MIN_N.items())
def test_a_percentile_is_printed_from_its_least_n_on(q: int, least: int) -> None:
    assert getattr(summary(range(least - 1)), f"p{q}") is None
    assert getattr(summary(range(least)), f"p{q}") == pytest.approx((least - 1) * q / 100)
    assert 1 - (q / 100) ** least >= 0.95
    if q == 50:  # there both ends of the range matter
        assert percentile_interval(range(least - 1), 50) is None
        assert percentile_interval(range(least), 50) is not None
    else:
        assert 1 - (q / 100) ** (least - 1) < 0.95


def test_nothing_measured_summarises_to_nothing() -> None:
    found = summary([])
    assert found.n == 0
    assert {found.mean, found.min, found.max, found.p50} == {None}
    with pytest.raises(TraceError, match="no values"):
        percentile([], 50)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), st.floats(0, 100))
def test_a_percentile_lies_where_type_7_puts_it(values: list[float], q: float) -> None:
    ordered = sorted(values)
    h = (len(values) - 1) * q / 100
    low, high = ordered[math.floor(h)], ordered[math.ceil(h)]
    expected = low + (high - low) * (h - math.floor(h))
    assert percentile(values, q) == pytest.approx(expected, rel=1e-9, abs=1e-6)


@pytest.mark.parametrize(("n", "q", "ranks"), [(10, 50, (2, 9)), (30, 90, (22, 30)), (100, 95, (90, 99))])
def test_intervals_of_percentiles_are_the_ranks_of_the_specification(n: int, q: float, ranks: tuple[int, int]) -> None:
    found = percentile_interval(np.random.default_rng(1).permutation(np.arange(1, n + 1)), q)
    assert found is not None
    assert (found.lo, found.hi) == ranks


@given(st.integers(1, 60), st.sampled_from([10.0, 50.0, 90.0, 95.0]))
def test_the_level_of_a_percentile_interval_is_the_binomial_probability(n: int, q: float) -> None:
    found = percentile_interval(np.arange(1, n + 1), q)
    p = q / 100
    pmf = [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
    if found is None:
        assert sum(pmf[1:n]) < 0.95  # even from the first to the last rank
    else:
        assert found.level == pytest.approx(sum(pmf[round(found.lo) : round(found.hi)]))
        assert found.level >= 0.95 - 1e-12


def test_an_interval_of_a_percentile_is_found_among_very_many_values() -> None:
    found = percentile_interval(np.arange(100_000), 99)
    assert found is not None
    assert found.lo < 99_000 < found.hi
    assert found.hi - found.lo < 150


@pytest.mark.parametrize(
    ("p", "degrees", "t"),
    [
        (0.975, 1, 12.7062),
        (0.975, 2, 4.30265),
        (0.975, 4, 2.77645),
        (0.975, 9, 2.26216),
        (0.995, 7, 3.49948),
        (0.95, 30, 1.69726),
        (0.975, 1000, 1.96234),
    ],
)
def test_students_quantiles_are_those_of_the_tables(p: float, degrees: int, t: float) -> None:
    assert t_quantile(p, degrees) == pytest.approx(t, abs=1e-5 * t)


def test_the_interval_of_a_mean_is_students() -> None:
    found = mean_interval(RUNS)
    assert found is not None
    half = 2.26216 * 1.5391 / math.sqrt(10)
    assert (found.lo, found.hi) == pytest.approx((100.77 - half, 100.77 + half), abs=1e-3)
    assert mean_interval([1.0]) is None


def test_intervals_of_ratios_are_taken_on_logarithms() -> None:
    found = log_mean_interval([1.0, 2.0, 4.0])
    assert found is not None
    assert math.sqrt(found.lo * found.hi) == pytest.approx(2.0)
    assert math.log(found.hi / 2.0) == pytest.approx(4.30265 * math.log(2) / math.sqrt(3), rel=1e-5)
    assert log_mean_interval([2.0]) is None
    with pytest.raises(TraceError, match="no logarithm"):
        log_mean_interval([1.0, 0.0])


def test_latencies_follow_from_the_times_of_the_tokens() -> None:
    found = latency(
        submitted_ns=10**18, ended_ns=10**18 + 900 * MS, token_ns=10**18 + np.array([100, 150, 400, 700]) * MS
    )
    assert found.ttft_s == pytest.approx(0.1)
    assert found.tpot_s == pytest.approx(0.2)
    assert found.e2e_s == pytest.approx(0.9)
    assert found.itl_s == pytest.approx([0.05, 0.25, 0.3])


def test_a_request_of_too_few_tokens_has_no_latency_between_them() -> None:
    one = latency(submitted_ns=0, ended_ns=5 * MS, token_ns=np.array([2 * MS]))
    assert (one.ttft_s, one.tpot_s, len(one.itl_s)) == (0.002, None, 0)
    none = latency(submitted_ns=0, ended_ns=5 * MS, token_ns=np.array([], dtype=np.int64))
    assert (none.ttft_s, none.tpot_s, none.e2e_s) == (None, None, 0.005)


def test_tokens_that_run_backwards_are_refused() -> None:
    with pytest.raises(TraceError, match="backwards"):
        latency(submitted_ns=0, ended_ns=9, token_ns=np.array([5, 4]))
