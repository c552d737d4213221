"""Flags that vitals, rows and clocks raise: each by data that raises exactly it, and not by its neighbours."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sensor import EPOCH_NS, S, Sensor, load, poll_times, record

from telemetry.analysis import FLAGS, Breaks, Rows, VitalsRows, checks, throttled_s
from telemetry.errors import TraceError
from telemetry.model import Sensors, Vitals

QUIET = Sensors(
    temperature_c=60,
    clock_sm_mhz=1980,
    util_gpu_pct=100,
    power_limit_mw=700_000,
    throttle_reasons=0,
    throttle_power_cap_ns=5 * 10**15,
    throttle_sync_boost_ns=0,
    throttle_sw_thermal_ns=7,
    throttle_hw_thermal_ns=0,
    throttle_power_brake_ns=0,
    processes=((4242, 30 * 1024**3),),
)
OWN = (4242,)
Change = Callable[[int, Sensors], Sensors]
SECONDS = 60
T0, T1 = EPOCH_NS, EPOCH_NS + SECONDS * S


def vitals(change: Change = lambda _, s: s, **row: int) -> VitalsRows:
    """Return a row a second from a second before to a second after, each as `change` makes it."""
    return VitalsRows.of(
        [
            Vitals(
                t_ns=EPOCH_NS + n * S,
                sensors=change(n, QUIET),
                memory_temp_c=None,
                power_max_mw=None,
                power_min_mw=None,
                polls=row.get("polls", 50),
                misses=row.get("misses", 0),
            )
            for n in range(-1, SECONDS + 2)
        ]
    )


def everything(v: VitalsRows) -> tuple[str, ...]:
    """Return what all checks of vitals say."""
    seconds = np.arange(SECONDS) * S + EPOCH_NS
    return (
        checks.throttling(v, T0, T1)
        + checks.clock_drift(v, T0, T1)
        + checks.foreign_process(v, T0, T1, own_pids=OWN)
        + checks.limit_changed(v, T0, T1)
        + checks.lost_polls(v, T0, T1)
        + checks.unsteady(t_ns=seconds, power_w=np.full(SECONDS, 500.0), v=v, t1_ns=T1)
    )


def ramp(column: str, per_second_ns: int) -> Change:
    def change(n: int, s: Sensors) -> Sensors:
        return replace(s, **{column: (getattr(s, column) or 0) + max(n - 10, 0) * per_second_ns})  # type: ignore[arg-type]

    return change


def processes(*more: tuple[int, int | None], at: int) -> Change:
    return lambda n, s: replace(s, processes=(*(s.processes or ()), *more) if n == at else s.processes)


CAUSES: dict[str, tuple[Change, str]] = {
    "power cap": (ramp("throttle_power_cap_ns", 13_000_000), "throttle_power_cap"),
    "sync boost": (ramp("throttle_sync_boost_ns", 13_000_000), "throttle_sync_boost"),
    "heat, by the driver": (ramp("throttle_sw_thermal_ns", 1000), "throttle_sw_thermal"),
    "heat, by the hardware": (ramp("throttle_hw_thermal_ns", 1000), "throttle_hw_thermal"),
    "power brake": (ramp("throttle_power_brake_ns", 1000), "throttle_power_brake"),
    "a clock that dips": (lambda n, s: replace(s, clock_sm_mhz=1980 - 70 * (n % 10 == 0)), "clock_drift"),
    "a large process in the middle": (processes((7, 60 * 1024**2), at=30), "foreign_process"),
    "a process of unknown size at the end": (processes((7, None), at=60), "foreign_process"),
    "a lower limit": (lambda n, s: replace(s, power_limit_mw=650_000 if n > 30 else 700_000), "limit_changed"),
    "warming up": (lambda n, s: replace(s, temperature_c=60 + max(n - 30, 0) // 10), "unsteady"),
}
NO_CAUSES: dict[str, Change] = {
    "all quiet": lambda _, s: s,
    "nothing was read": lambda _, __: Sensors(),
    "under one percent": ramp("throttle_power_cap_ns", 9_000_000),
    "a clock that flickers": lambda n, s: replace(s, clock_sm_mhz=1980 - 50 * (n % 2)),
    "a clock that dips once": lambda n, s: replace(s, clock_sm_mhz=1980 - 900 * (n == 7)),
    "a small process": processes((7, 4 * 1024**2), at=30),
    "a process before": processes((7, None), at=-1),
    "a process after": processes((7, None), at=61),
    "a limit that is rounded": lambda n, s: replace(s, power_limit_mw=700_000 + n % 2 * 400),
    "a temperature that flickers": lambda n, s: replace(s, temperature_c=60 + n % 2),
}


@pytest.mark.parametrize("cause", CAUSES)
def test_each_flag_of_vitals_is_raised_by_its_own_cause_and_alone(cause: str) -> None:
    change, flag = CAUSES[cause]
    assert everything(vitals(change)) == (flag,)
    assert flag in FLAGS


@pytest.mark.parametrize("cause", NO_CAUSES)
def test_what_is_as_it_should_be_raises_nothing(cause: str) -> None:
    assert everything(vitals(NO_CAUSES[cause])) == ()


def test_throttled_time_is_counted_between_the_rows_too() -> None:
    v = vitals(ramp("throttle_power_cap_ns", 500_000_000))
    assert throttled_s(v, T0, T1)["power_cap"] == pytest.approx(25.0)
    assert throttled_s(v, EPOCH_NS + 20 * S + S // 2, EPOCH_NS + 21 * S)["power_cap"] == pytest.approx(0.25)
    assert throttled_s(v, T0, EPOCH_NS + 10 * S)["power_cap"] == 0.0


def test_without_the_counters_the_bits_of_the_rows_speak_for_their_share_of_the_time() -> None:
    def change(n: int, s: Sensors) -> Sensors:
        return Sensors(throttle_reasons=0x20 if n < 15 else 0x4)

    found = throttled_s(vitals(change), T0, T1)
    assert found["sw_thermal"] == pytest.approx(15.0, abs=0.5)
    assert found["power_cap"] == pytest.approx(45.0, abs=0.5)
    assert found["hw_thermal"] == 0.0
    assert all(np.isnan(s) for s in throttled_s(vitals(lambda _, __: Sensors()), T0, T1).values())


def test_a_throttle_counter_that_restarted_is_not_differenced() -> None:
    v = vitals(lambda n, s: replace(s, throttle_power_cap_ns=10**18 if n < 30 else 5, throttle_reasons=0x4))
    assert throttled_s(v, T0, T1)["power_cap"] == pytest.approx(60.0)
    assert throttled_s(v, T0, EPOCH_NS + 20 * S)["power_cap"] == 0.0  # the restart is not inside


def test_settings_that_differ_between_start_and_end_are_a_change_and_those_not_read_are_none() -> None:
    v = vitals()
    assert checks.limit_changed(v, T0, T1, before={"ecc": "on"}, after={"ecc": "off"}) == ("limit_changed",)
    assert checks.limit_changed(v, T0, T1, before={"ecc": "on"}, after={"mig": "off"}) == ()
    assert checks.limit_changed(v, T0, T1, before={"ecc": "on"}, after={"ecc": "on"}) == ()


def test_a_power_that_still_moves_is_unsteady() -> None:
    seconds = np.arange(SECONDS) * S + EPOCH_NS

    def ask(power_w: np.ndarray) -> tuple[str, ...]:
        return checks.unsteady(t_ns=seconds, power_w=power_w, v=vitals(), t1_ns=T1)

    assert ask(500.0 + np.arange(SECONDS) * 0.2) == ("unsteady",)
    assert ask(500.0 + np.arange(SECONDS) * 0.1) == ()
    assert ask(np.where(np.arange(SECONDS) < 25, 100.0, 500.0)) == ()  # long ago
    assert ask(500.0 + 40.0 * (np.arange(SECONDS) % 7 == 0)) == ()  # outliers have no slope
    assert ask(500.0 + 300.0 * (np.arange(SECONDS) > 56)) == ()
    assert checks.unsteady(t_ns=seconds[:3], power_w=np.array([1.0, 2.0, 3.0]), v=vitals(), t1_ns=T1) == ()


def test_over_one_percent_of_lost_polls_is_too_many() -> None:
    assert checks.lost_polls(vitals(polls=98, misses=1), T0, T1) == ("zero_power",)
    assert checks.lost_polls(vitals(polls=99, misses=1), T0, T1) == ()


def test_power_that_the_driver_did_not_say_is_counted_by_its_time() -> None:
    def ask(null_ns: int, breaks: Breaks | None = None) -> tuple[str, ...]:
        made = record(Sensor(truth=load([(10, 500)])), poll_times(-S, 11 * S), null_ns=[(2 * S, 2 * S + null_ns)])
        rows = Rows.of(made.rows)
        return checks.zero_power(rows, rows.power_instant_mw, breaks or Breaks(), T0, EPOCH_NS + 10 * S)

    assert ask(S // 5) == ("zero_power",)
    assert ask(S // 20) == ()
    assert ask(0) == ()
    gap = Breaks(gaps_ns=np.array([[EPOCH_NS + S, EPOCH_NS + 3 * S]]))
    assert ask(S // 5, gap) == ()  # a gap is a gap


def test_stretches_whose_rows_were_not_handed_do_not_count_as_missing_power() -> None:
    made = record(Sensor(truth=load([(10, 500)])), poll_times(-S, 11 * S), null_ns=[(2 * S, 2 * S + S // 20)]).rows
    null = next(i for i, r in enumerate(made) if r.power_instant_mw is None)
    rows = Rows.concat([Rows.of(made[: null + 1]), Rows.of(made[null + 40 :])])
    assert checks.zero_power(rows, rows.power_instant_mw, Breaks(), T0, EPOCH_NS + 10 * S) == ()


def test_stale_can_be_asked_of_rows_and_vitals() -> None:
    rows = record(Sensor(truth=load([(10, 200, 600)])), poll_times(-S, 11 * S)).rows
    stuck = [replace(r, power_instant_mw=1, power_average_mw=1, energy_mj=1) for r in rows]
    v = vitals(lambda n, s: replace(s, util_gpu_pct=n % 3))
    assert len(v.changes_ns()) == SECONDS + 2
    assert len(vitals().changes_ns()) == 0
    for each, flags in ((rows, ()), (stuck, ("stale",))):
        found = checks.stale(
            update_ns=checks.update_ns(Rows.of(each)),
            change_ns=v.changes_ns(),
            t0_ns=T0,
            t1_ns=EPOCH_NS + 10 * S,
            period_ns=S // 10,
        )
        assert found == flags


def test_a_clock_may_creep_but_not_jump() -> None:
    assert checks.clock_jump(offset_ns=np.arange(100) * 4_000_000) == ()
    assert checks.clock_jump(offset_ns=np.array([0, 0, 6_000_000])) == ("clock_jump",)
    assert checks.clock_jump(offset_ns=np.array([0, -6_000_000])) == ("clock_jump",)
    assert checks.clock_jump(offset_ns=np.array([], dtype=np.int64)) == ()


def test_runs_at_different_temperatures_are_told_apart() -> None:
    warm, hot = vitals(), vitals(lambda n, s: replace(s, temperature_c=64))
    first, other = (v.median_temperature_c(T0, T1) for v in (warm, hot))
    assert checks.temp_shift(first, other) == ("temp_shift",)
    assert checks.temp_shift(first, first + 3.0) == ()
    assert np.isnan(warm.median_temperature_c(0, 1))
    assert checks.temp_shift(first, float("nan")) == ()


def test_a_modules_readings_say_that_they_are() -> None:
    assert checks.scope_module("module") == ("scope_module",)
    assert checks.scope_module("gpu-board") == ()


def test_vitals_come_in_the_order_of_time() -> None:
    row = Vitals(t_ns=1, sensors=QUIET, memory_temp_c=None, power_max_mw=None, power_min_mw=None, polls=1, misses=0)
    with pytest.raises(TraceError, match="not sorted"):
        VitalsRows.of([row, row])
    assert len(VitalsRows.of([])) == 0
    assert everything(VitalsRows.of([])) == ()
