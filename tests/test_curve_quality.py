"""Grades, flags, limits and verdicts."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from telemetry.analysis import FLAGS, estimate_of, grade_of, power_limits, verdict
from telemetry.analysis.checks import counter_vs_integral, over_cap, stale
from telemetry.analysis.quality import bits, codes_of, severity
from telemetry.model import Estimate

DOCS = Path(__file__).resolve().parent.parent / "docs" / "measurement.md"
GOOD = Estimate(value=100.0, lo=99.5, hi=100.5, method="counter-plateau", grade="A")


@pytest.mark.parametrize(
    ("half_width", "grade"),
    [(1.0, "A"), (1.01, "B"), (5.0, "B"), (5.01, "C"), (20.0, "C"), (20.01, "U")],
)
def test_the_grade_is_the_half_width_against_the_value(half_width: float, grade: str) -> None:
    assert grade_of(100.0, 100.0 - half_width, 100.0 + half_width) == grade


def test_without_a_value_or_a_bound_there_is_nothing_to_grade() -> None:
    assert grade_of(None, 0.0, 27.0) == "U"
    assert grade_of(10.0, None, None) == "U"


@pytest.mark.parametrize(
    ("flag", "grade"),
    [
        ("gap", "A"),
        ("edge_extrapolated", "B"),
        ("timing_model", "B"),
        ("counter_reset", "C"),
        ("over_cap", "U"),
        ("under_floor", "U"),
        ("bound_violation", "U"),
        ("counter_refuted", "U"),
        ("not_covered", "U"),
    ],
)
def test_a_flag_holds_the_grade_down(flag: str, grade: str) -> None:
    assert grade_of(100.0, 99.9, 100.1, [flag]) == grade
    assert grade_of(100.0, 0.0, 200.0, [flag]) == "U"  # and never lifts it


def test_every_red_flag_withholds_the_result() -> None:
    for code, flag in FLAGS.items():
        if flag.severity == "R":
            assert grade_of(100.0, 99.9, 100.1, [code]) == "U"


def test_an_estimate_turns_nan_and_infinity_into_nothing() -> None:
    found = estimate_of(math.nan, -1.0, math.inf, method="counter-linear", flags=["too_short"])
    assert (found.value, found.lo, found.hi, found.grade) == (None, -1.0, None, "U")


def test_flags_survive_the_way_through_a_mask() -> None:
    for code in FLAGS:
        assert codes_of(bits(code)) == (code,)
    assert codes_of(bits("over_cap", "gap", "gap")) == ("gap", "over_cap")
    with pytest.raises(KeyError):
        bits("no_such_flag")
    with pytest.raises(KeyError):
        severity("no_such_flag")


def test_the_docs_name_every_flag_with_its_severity() -> None:
    text = DOCS.read_text(encoding="utf-8")
    assert [code for code, flag in FLAGS.items() if f"| `{code}` | {flag.severity} |" not in text] == []


def test_limits_take_the_wider_of_what_is_allowed_and_what_was_seen() -> None:
    def limits(
        limit_w: float | None, low_w: float | None, high_w: float | None, name: str = "NVIDIA L40S"
    ) -> tuple[float, float]:
        found = power_limits(limit_w=limit_w, min_instant_w=low_w, max_instant_w=high_w, name=name)
        return found.floor_w, found.cap_w

    assert limits(700, 80, 500) == pytest.approx((64, 945))
    assert limits(700, 80, 915) == pytest.approx((64, 1006.5))
    assert limits(700, 350, 690) == pytest.approx((70, 945))  # never seen idle
    assert limits(None, 80, 500) == pytest.approx((64, 550))
    assert limits(700, None, None, "NVIDIA H200") == pytest.approx((60, 945))
    assert limits(350, None, None) == pytest.approx((0, 472.5))
    assert limits(None, None, None) == (0.0, 1e6)


def test_a_mean_above_the_enforced_limit_is_over_the_cap_only_if_it_lasts() -> None:
    assert over_cap(mean_power_w=740, duration_s=10, limit_w=700) == ("over_cap",)
    assert over_cap(mean_power_w=730, duration_s=10, limit_w=700) == ()
    assert over_cap(mean_power_w=740, duration_s=1, limit_w=700) == ()


@pytest.mark.parametrize(
    ("counter_j", "seconds", "may_alias", "flags"),
    [
        (102.9, 10, False, ()),
        (103.1, 10, False, ("counter_vs_integral",)),
        (96.0, 10, False, ("counter_vs_integral",)),
        (108.1, 10, False, ("counter_refuted",)),
        (4.6, 10, False, ("counter_refuted",)),
        (171.0, 10, True, ("counter_vs_integral",)),
        (171.0, 9, False, ()),
    ],
)
def test_the_two_energy_paths_check_each_other(
    counter_j: float, seconds: float, may_alias: bool, flags: tuple[str, ...]
) -> None:
    found = counter_vs_integral(counter_j=counter_j, integral_j=100.0, duration_s=seconds, may_alias=may_alias)
    assert found == flags


def test_readings_are_stale_where_they_stand_still_while_the_device_changes() -> None:
    def ask(updates: list[int], changes: list[int]) -> tuple[str, ...]:
        return stale(
            update_ns=np.array(updates, dtype=np.int64),
            change_ns=np.array(changes, dtype=np.int64),
            t0_ns=0,
            t1_ns=2000,
            period_ns=100,
        )

    steady = list(range(0, 2001, 100))
    assert ask(steady, [450, 1250]) == ()
    assert ask([u for u in steady if not 500 < u < 900], [700]) == ("stale",)
    assert ask([u for u in steady if not 500 < u < 900], [450]) == ()  # nothing changed meanwhile
    assert ask([u for u in steady if not 500 < u < 800], [700]) == ()  # three periods are allowed
    assert ask([], [1000]) == ("stale",)
    assert ask([], [3000]) == ()


def test_a_good_estimate_of_five_runs_may_be_published() -> None:
    found = verdict(GOOD, measured_runs=5, simulated=False, replayed=False, failed_requests=0)
    assert found.publishable
    assert found.reasons == ()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"measured_runs": 4}, "too_few_runs"),
        ({"simulated": True}, "simulated"),
        ({"replayed": True}, "replay"),
        ({"failed_requests": 1}, "failed_requests"),
        ({"failed": True}, "failed_run"),
        ({"quick": True}, "quick"),
        ({"noted": ("gate_timeout",)}, "gate_timeout"),
    ],
)
def test_each_reason_alone_forbids_publishing(change: dict[str, object], reason: str) -> None:
    usual: dict[str, object] = {"measured_runs": 5, "simulated": False, "replayed": False, "failed_requests": 0}
    found = verdict(GOOD, **(usual | change))  # type: ignore[arg-type]
    assert not found.publishable
    assert found.reasons == (reason,)


def test_a_poor_grade_and_each_red_flag_forbid_publishing() -> None:
    def reasons(estimate: Estimate) -> tuple[str, ...]:
        found = verdict(estimate, measured_runs=9, simulated=False, replayed=False, failed_requests=0)
        assert found.publishable == (not found.reasons)
        return found.reasons

    assert reasons(replace(GOOD, grade="B", flags=("gap",))) == ()
    assert reasons(replace(GOOD, grade="C")) == ("grade_c",)
    assert reasons(replace(GOOD, grade="U", flags=("gap", "over_cap"))) == ("grade_u", "over_cap")
