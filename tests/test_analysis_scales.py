"""Calibration, idle baselines, and what is refused of single tokens."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from telemetry.analysis import (
    Baseline,
    Calibration,
    baseline_between,
    calibrated,
    check_windows,
    energy_above,
    grade_of,
    idle_baseline,
    token_energy_percentile,
    uncertainty_above_j,
)
from telemetry.errors import TraceError
from telemetry.model import Estimate

S = 1_000_000_000
ENERGY = Estimate(value=5270.0, lo=5220.0, hi=5290.0, method="counter-plateau", grade="A", flags=("gap",))
FILE = {"gain": 1.05, "offset_w": 2.0, "gain_off": 0.005, "offset_off_w": 0.2, "provenance": "meter X, 2026-01-02"}


def test_a_calibrated_board_reads_true_and_says_who_found_it() -> None:
    found = calibrated(ENERGY, 10.0, Calibration.of(FILE))
    assert found.value_j == pytest.approx(5000.0)
    assert found.provenance == "meter X, 2026-01-02"
    assert found.lo_j == pytest.approx((5220 - 22) / 1.055)
    assert found.hi_j == pytest.approx((5290 - 18) / 1.045)
    assert found.u_j == pytest.approx(np.hypot(5000 * 0.005, 2.0) / 1.05 / np.sqrt(3))


def test_a_board_nobody_calibrated_may_be_five_percent_off() -> None:
    found = calibrated(replace(ENERGY, value=1000.0, lo=1000.0, hi=1000.0), 0.0)
    assert found.value_j == 1000.0
    assert found.u_j == pytest.approx(1000 * 0.05 / np.sqrt(3))
    assert found.lo_j == pytest.approx(1000 / 1.05)
    assert found.hi_j == pytest.approx(1000 / 0.95)
    assert found.provenance == "not calibrated"


def test_what_has_no_value_gets_none_by_calibration() -> None:
    found = calibrated(replace(ENERGY, value=None, lo=0.0, hi=None), 1.0)
    assert (found.value_j, found.u_j, found.hi_j) == (None, None, None)
    assert found.lo_j is not None
    assert found.lo_j < 0.0


@example(-100.0, 0.95, 0.0, 0.0)
@given(
    st.floats(-100.0, 1e5),
    st.floats(0.95, 1.05),
    st.floats(-3.0, 3.0),
    st.floats(0.0, 100.0),
)
def test_the_limits_hold_the_truth_of_any_board_within_them(
    true_j: float, gain: float, offset_w: float, seconds: float
) -> None:
    read = gain * true_j + offset_w * seconds
    found = calibrated(replace(ENERGY, value=read, lo=read, hi=read), seconds)
    assert found.lo_j is not None
    assert found.hi_j is not None
    assert found.lo_j - 1e-6 <= true_j <= found.hi_j + 1e-6


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"gain": "1.05"}, "Give a number"),
        ({"gain": True}, "Give a number"),
        ({"gain": float("nan")}, "mean nothing"),
        ({"gain_off": -0.1}, "mean nothing"),
        ({"gain": 0.001}, "may be 0"),
        ({"provenance": " "}, "a guess"),
        ({"offset": 1.0}, "Look at: offset"),
    ],
)
def test_a_calibration_that_means_nothing_is_refused(change: dict[str, object], word: str) -> None:
    with pytest.raises(TraceError, match=word):
        Calibration.of(FILE | change)


def test_a_calibration_without_one_of_its_numbers_is_refused() -> None:
    for name in FILE:
        with pytest.raises(TraceError, match=f"Look at: {name}"):
            Calibration.of({k: v for k, v in FILE.items() if k != name})


SECONDS = np.arange(0, 31) * S


def test_idle_is_thirty_seconds_within_three_watts() -> None:
    found = idle_baseline("B1", t_ns=SECONDS, power_w=120.0 + np.arange(31.0) % 2)
    assert found.power_w == pytest.approx(120.5, abs=0.02)
    assert 0.0 < found.u_w < 0.2
    with pytest.raises(TraceError, match=r"29.0 s of idle"):
        idle_baseline("B1", t_ns=SECONDS[:-1], power_w=np.full(30, 120.0))
    with pytest.raises(TraceError, match="not idle"):
        idle_baseline("B1", t_ns=SECONDS, power_w=120.0 + np.arange(31.0) * 0.2)
    with pytest.raises(TraceError, match=r"0.0 s of idle"):
        idle_baseline("B0", t_ns=np.array([], dtype=np.int64), power_w=np.array([]))


@pytest.mark.parametrize(
    ("after_w", "flags"), [(122.9, ()), (117.1, ()), (123.1, ("baseline_drift",)), (116.9, ("baseline_drift",))]
)
def test_a_baseline_that_moved_says_so(after_w: float, flags: tuple[str, ...]) -> None:
    found, raised = baseline_between(
        Baseline(name="B1", power_w=120.0, u_w=0.1), Baseline(name="B1", power_w=after_w, u_w=0.1)
    )
    assert raised == flags
    assert found.power_w == pytest.approx((120 + after_w) / 2)
    assert found.u_w > abs(after_w - 120) / 4


def test_a_large_baseline_may_move_by_two_percent() -> None:
    before, after = (Baseline(name="B0", power_w=w, u_w=0.0) for w in (200.0, 203.9))
    assert baseline_between(before, after)[1] == ()
    with pytest.raises(TraceError, match="different baselines"):
        baseline_between(before, replace(after, name="B1"))


def test_net_energy_may_be_negative_and_is_not_clipped() -> None:
    found = energy_above(replace(ENERGY, value=90.0, lo=80.0, hi=110.0), Baseline(name="B1", power_w=10.0, u_w=0), 10.0)
    assert (found.value, found.lo, found.hi) == (-10.0, -20.0, 10.0)
    assert found.grade == "U"


def test_the_grade_of_a_net_energy_is_that_of_its_own_size() -> None:
    found = energy_above(ENERGY, Baseline(name="B1", power_w=450.0, u_w=0.0), 10.0)
    assert found.value == pytest.approx(770.0)
    assert found.grade == "B"
    assert found.flags == ("gap",)


def test_a_foreign_process_withholds_net_and_compared_energies_alone() -> None:
    flags = ["foreign_process"]
    assert grade_of(100.0, 99.9, 100.1, flags) == "A"
    assert grade_of(100.0, 99.9, 100.1, flags, "net") == "U"
    assert grade_of(100.0, 99.9, 100.1, flags, "compare") == "U"
    busy = replace(ENERGY, flags=("foreign_process",))
    assert energy_above(busy, Baseline(name="B1", power_w=80.0, u_w=0.0), 10.0).grade == "U"


def test_the_uncertainty_of_idle_joins_that_of_the_energy() -> None:
    assert uncertainty_above_j(30.0, Baseline(name="B1", power_w=80.0, u_w=4.0), 10.0) == pytest.approx(50.0)


def test_percentiles_over_tokens_are_refused_whatever_is_asked() -> None:
    for q in (5, 50, 99.9):
        with pytest.raises(TraceError, match=f"There is no p{q:g}: the energy of single tokens cannot be measured"):
            token_energy_percentile(q)


def test_windows_for_joules_per_token_hold_half_a_second_and_five_periods() -> None:
    t0 = np.array([0, S])
    check_windows(t0, t0 + S // 2, period_ns=S // 10)
    with pytest.raises(TraceError, match=r"0.499 s is too short"):
        check_windows(t0, t0 + S // 2 - 1_000_000, period_ns=S // 10)
    with pytest.raises(TraceError, match=r"Take 0.5 s"):
        check_windows(t0, t0 + S // 4, period_ns=S // 50)
    check_windows(t0, t0 + S // 2, period_ns=101_000_000)  # as updates of a sensor of 100 ms may have it
    with pytest.raises(TraceError, match=r"Take 2.4255 s"):
        check_windows(t0, t0 + S, period_ns=495_000_000)
