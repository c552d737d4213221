"""Which energy to trust: the counter's own, or that of the power readings."""

import numpy as np
import pytest

from telemetry.analysis import FLAGS, EnergyEstimates, call_rate, choose_path, residuals
from telemetry.analysis.estimates import raised
from telemetry.analysis.paths import SENTENCES
from telemetry.errors import TraceError

S = 1_000_000_000


def energies(*values_j: float, seconds: float = 60, flag: str | None = None) -> EnergyEstimates:
    t0 = np.arange(len(values_j)) * 1000 * S
    value = np.array(values_j, dtype=np.float64)
    none = np.zeros(len(values_j), dtype=np.uint64)
    return EnergyEstimates(
        t0_ns=t0,
        t1_ns=t0 + round(seconds * S),
        value_j=value,
        lo_j=value - 10,
        hi_j=value + 10,
        method=np.full(len(value), "any"),
        flags=none if flag is None else raised(flag, np.ones(len(value), dtype=np.bool_)),
    )


def test_a_counter_that_agrees_with_the_readings_is_trusted() -> None:
    found = choose_path(energies(1000, 2000), energies(1010, 1990), name="NVIDIA H200")
    assert (found.path, found.reason, found.flags) == ("counter", "counter_trusted", ())
    assert found.residual == pytest.approx([1000 / 1010 - 1, 2000 / 1990 - 1])
    assert found.sentence == SENTENCES["counter_trusted"]


def test_a_small_difference_is_noted() -> None:
    found = choose_path(energies(1050), energies(1000), name="NVIDIA H200")
    assert (found.path, found.flags) == ("counter", ("counter_vs_integral",))


def test_one_interval_off_does_not_outweigh_the_others() -> None:
    found = choose_path(energies(120, 10_000), energies(100, 10_000), name="NVIDIA H200")
    assert (found.path, found.flags) == ("counter", ())
    assert found.residual == pytest.approx([0.2, 0.0])


def test_readings_that_look_all_the_time_refute_a_counter() -> None:
    found = choose_path(energies(500), energies(1000), name="NVIDIA L40S")
    assert (found.path, found.reason, found.flags) == ("integral", "refuted", ("counter_unused",))


@pytest.mark.parametrize("flag", ["part_time_sensor", "gap"])
@pytest.mark.parametrize(
    ("average_j", "path", "reason", "flags"),
    [
        (None, "counter", "contradicted", ("counter_refuted",)),
        (750.0, "counter", "contradicted", ("counter_refuted",)),
        (1010.0, "integral", "refuted", ("counter_unused",)),
        (505.0, "counter", "counter_trusted", ("counter_vs_integral",)),
        (float("nan"), "counter", "contradicted", ("counter_refuted",)),
    ],
)
def test_readings_that_may_be_wrong_themselves_need_a_witness(
    flag: str, average_j: float | None, path: str, reason: str, flags: tuple[str, ...]
) -> None:
    average = None if average_j is None else energies(average_j)
    found = choose_path(energies(500), energies(1000, flag=flag), name="NVIDIA H200", average=average)
    assert (found.path, found.reason, found.flags) == (path, reason, flags)


def test_a_load_that_repeats_may_alias_and_refutes_nothing() -> None:
    found = choose_path(energies(500), energies(1000), name="NVIDIA H200", may_alias=True)
    assert (found.path, found.flags) == ("counter", ("counter_vs_integral",))


@pytest.mark.parametrize("name", ["NVIDIA GeForce RTX 4090", "NVIDIA RTX A6000", "NVIDIA TITAN V"])
def test_a_counter_that_reading_may_spoil_is_trusted_only_once_it_was_tested(name: str) -> None:
    agree = energies(1000), energies(1000)
    untested = choose_path(*agree, name=name)
    assert (untested.path, untested.reason, untested.flags) == ("integral", "untested", ("counter_unused",))
    assert choose_path(*agree, name=name, call_rate_passed=True).path == "counter"
    failed = choose_path(*agree, name="NVIDIA H200", call_rate_passed=False)
    assert (failed.path, failed.reason) == ("integral", "call_rate")


def test_a_counter_that_stands_still_is_left() -> None:
    agree = energies(1000), energies(1000)
    found = choose_path(*agree, name="NVIDIA H200", counter_updates=20, power_updates=600)
    assert (found.path, found.reason, found.flags) == ("integral", "stale", ("counter_unused",))
    assert choose_path(*agree, name="NVIDIA H200", counter_updates=500, power_updates=600).path == "counter"


def test_with_one_path_alone_there_is_no_choice() -> None:
    nan = float("nan")
    assert choose_path(energies(nan), energies(1000), name="NVIDIA A10").reason == "no_counter"
    found = choose_path(energies(1000), energies(nan), name="NVIDIA H200")
    assert (found.path, found.reason, found.flags) == ("counter", "no_power", ())
    for name, passed in [("NVIDIA GeForce RTX 4090", None), ("NVIDIA H200", False)]:
        found = choose_path(energies(1000), energies(nan), name=name, call_rate_passed=passed)
        assert (found.path, found.flags) == ("counter", ("counter_callrate",))


def test_below_ten_seconds_nothing_is_compared() -> None:
    assert np.isnan(residuals(energies(500, seconds=9.9), energies(1000, seconds=9.9)))
    found = choose_path(energies(500, seconds=9.9), energies(1000, seconds=9.9), name="NVIDIA H200")
    assert (found.path, found.flags) == ("counter", ())
    assert np.isnan(residuals(energies(500), energies(0)))


def test_different_intervals_cannot_be_compared() -> None:
    with pytest.raises(TraceError, match="different intervals"):
        residuals(energies(1, seconds=10), energies(1, seconds=11))


def test_the_self_test_fails_where_the_rate_of_reading_shows() -> None:
    # The factors seen of an RTX 4090 at 0.5 ms, 10 ms, 100 ms and 1 s.
    assert call_rate(power_w=29.5 * np.array([0.046, 0.244, 0.867, 0.984]), reference_w=29.5) == ("counter_callrate",)
    assert call_rate(power_w=29.5 * np.array([20.5]), reference_w=29.5) == ("counter_callrate",)
    assert call_rate(power_w=29.5 * np.array([0.996, 1.004]), reference_w=29.5) == ()


def test_every_flag_of_a_choice_is_one() -> None:
    assert {"counter_unused", "counter_refuted", "counter_vs_integral", "counter_callrate"} <= set(FLAGS)
    assert FLAGS["counter_unused"].severity == "I"
