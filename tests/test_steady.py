"""When a run counts as settled, and when too little is known to say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.analysis.rows import Floats
from telemetry.analysis.steady import settled, warm_up


def stepped(n: int, at: float, by: float = 0.25, noise: float = 0.007) -> Floats:
    """Return n values that step up at a share of them, with noise."""
    rng = np.random.default_rng(n)
    return 400.0 * (1.0 + by * (np.arange(n) >= at * n) + noise * rng.standard_normal(n))


@pytest.mark.parametrize("n", [60, 120, 600])
@pytest.mark.parametrize(("at", "holds"), [(0.1, True), (0.3, True), (0.65, False)])
def test_a_step_in_the_first_half_is_warm_up_and_one_in_the_second_is_not(n: int, at: float, holds: bool) -> None:
    assert settled(stepped(n, at)) == holds


@pytest.mark.parametrize("n", [120, 600])
def test_the_cut_is_where_the_step_is(n: int) -> None:
    cut = warm_up(stepped(n, 0.3))
    assert cut is not None
    assert 0.3 * n <= cut <= 0.3 * n + 0.1 * n


def test_what_rises_all_the_time_never_settles() -> None:
    assert not settled(np.linspace(300.0, 400.0, 120))


def test_noise_is_hardly_ever_called_unsteady() -> None:
    rng = np.random.default_rng(5)
    small, large = ([settled(100.0 + size * rng.standard_normal(120)) for _ in range(200)] for size in (1.0, 10.0))
    assert all(small)
    assert np.mean(large) > 0.96


def test_a_late_step_that_hardly_matters_is_let_pass() -> None:
    assert settled(stepped(120, 0.65, by=0.005, noise=0.0))
    assert not settled(stepped(120, 0.65, by=0.05, noise=0.0))


def test_of_few_values_or_gaps_nothing_is_said_against_a_run() -> None:
    assert warm_up(stepped(49, 0.6)) is None
    assert settled(stepped(49, 0.6))
    gone = stepped(60, 0.6)
    gone[3] = np.nan
    assert settled(gone)


@given(st.floats(1e-3, 1e9), st.integers(50, 200))
def test_what_never_changes_is_steady_at_any_scale(value: float, n: int) -> None:
    assert warm_up(np.full(n, value)) == 0
    assert settled(np.full(n, value))
