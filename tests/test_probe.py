"""The probe must find, from outside, what a simulated GPU was made of; and say so where it cannot."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from telemetry.cli.probe import print_profile
from telemetry.collector.sources.nvml import open_nvml
from telemetry.collector.sources.nvml.details import NvmlDetails
from telemetry.collector.sources.simulated import EventLog, SimulatedGpu, SimulatedLibrary, parse_spec
from telemetry.errors import SourceBusy, UsageError
from telemetry.model import Reading
from telemetry.probe import Bench, open_bench, run_probe, stages
from telemetry.probe.clock import HostClock, VirtualClock
from telemetry.probe.fits import Grid, Response, fit_grid, fit_window, settled_after_s
from telemetry.probe.load import ProcessLoad, SimulatedLoad
from telemetry.probe.run import STAGES_S
from telemetry.probe.trace import Trace, watch
from telemetry.probe.verdict import decide
from telemetry.profile import DeviceProfile, check_profiles, load_profile, save_profile

MS = 1_000_000
S = 1_000_000_000


@cache
def profile_of(spec: str, load: str | None = None) -> DeviceProfile:
    with open_bench(spec, 0, load) as bench:
        return run_probe(bench)


@contextmanager
def opened(spec: str, folder: Path) -> Iterator[tuple[Bench, SimulatedGpu]]:
    """Open a bench by hand, to look behind its sensor."""
    clock, parsed = VirtualClock(100_000 * S), parse_spec(spec)
    library = SimulatedLibrary(parsed, folder, clock.now_ns, clock.sleep)
    (source,) = open_nvml("0", clock, {}, library=library, spare_counter=False)
    load = SimulatedLoad(EventLog(parsed.event_log_path(folder), mono_ns=clock.now_ns), clock)
    yield Bench(source, NvmlDetails(source.device.uid), clock, load), library.gpus[0]
    load.close()
    source.close()


# What it finds. The numbers are those of the table of docs/simulator.md; seeds move every phase.

Path_ = Literal["counter", "integral"]


@pytest.mark.parametrize(
    ("spec", "period_ms", "jitter_ms", "counter_ms", "window_ms", "average_s", "part_ms", "path", "estimator", "grade"),
    [
        ("h200,seed=1", 100, 2, 100, 25, 1, None, "counter", "counter-plateau", "A"),
        ("h200,counter=part,seed=2", 100, 1, 100, 25, 1, 25, "integral", "integral-average", "B"),
        ("a100,seed=3", 100, 2, 100, 25, None, None, "counter", "counter-plateau", "A"),
        ("v100,seed=4", 20, 1, 20, 10, None, None, "counter", "counter-plateau", "A"),
        ("v100,counter=part,seed=5", 20, 0.5, 20, 10, None, 10, "counter", "counter-plateau", "B"),
        ("ada_geforce,seed=6", 100, 0.5, 106.5, 100, 1, "unknown", "integral", "integral-instant", "B"),
    ],
)
def test_the_parameters_of_a_preset_are_found(
    spec: str,
    period_ms: float,
    jitter_ms: float,
    counter_ms: float,
    window_ms: float,
    average_s: float | None,
    part_ms: float | str | None,
    path: Path_,
    estimator: str,
    grade: str,
) -> None:
    found = profile_of(f"simulated:{spec}")
    assert found.instant is not None
    assert found.counter is not None
    assert found.instant.period_ns == pytest.approx(period_ms * MS, rel=1e-4)
    assert found.instant.jitter_ns == pytest.approx(0, abs=0.6 * MS)
    assert found.counter.period_ns == pytest.approx(counter_ms * MS, rel=1e-4)
    assert found.counter.jitter_ns == pytest.approx(jitter_ms * MS, abs=0.6 * MS)
    assert found.instant_window_ns == pytest.approx(window_ms * MS, abs=1.5 * MS)
    assert (found.average is None) == (average_s is None)
    if average_s is not None:
        assert found.average_window_ns == pytest.approx(average_s * S, rel=0.02)
        assert found.average_covers_all
        assert found.average_over_instant == pytest.approx(1, abs=0.003)
    if part_ms == "unknown":
        assert (found.counter_covers_all, found.counter_window_ns) == (None, None)
    else:
        assert found.counter_covers_all == (part_ms is None)
        assert found.counter_window_ns == (part_ms if part_ms is None else pytest.approx(part_ms * MS, abs=1.5 * MS))
    assert found.lag_ns == pytest.approx(0, abs=2 * MS)
    assert found.delay_ns == pytest.approx(0, abs=3 * MS)
    assert found.decay_s == pytest.approx(0.1, abs=0.15)
    assert (found.path, found.estimator, found.best_grade) == (path, estimator, grade)
    assert bool(found.reasons) == (grade == "B")


def test_a_counter_that_reading_changes_is_found_with_how_much() -> None:
    found = profile_of("simulated:ada_geforce,seed=6")
    assert found.counter_call_rate_invariant is False
    ratios = dict(found.call_rate)
    # By the table of the simulator, over the 0.984 that two reads 10 s apart leave.
    assert ratios[0.1] == pytest.approx(0.867 / 0.984, rel=0.03)
    assert ratios[0.01] == pytest.approx(0.244 / 0.984, rel=0.1)
    assert ratios[0.001] < 0.1
    assert "Reading the counter changes what it counts." in found.reasons


@pytest.mark.parametrize("spec", ["h200,seed=1", "h200,counter=part,seed=2", "v100,seed=4"])
def test_a_counter_that_reading_leaves_alone_is_known_as_such(spec: str) -> None:
    found = profile_of(f"simulated:{spec}")
    assert found.counter_call_rate_invariant
    assert [ratio for _, ratio in found.call_rate] == pytest.approx([1.0] * 4, abs=0.003)
    assert found.counter_over_instant == pytest.approx(1, abs=0.003)


def test_an_average_of_instants_windows_is_told_from_one_of_a_whole_second() -> None:
    found = profile_of("simulated:h200,counter=part,average=part,seed=8")
    assert found.average_covers_all is False
    assert (found.path, found.best_grade) == ("counter", "B")


def test_lag_latency_and_stamps_are_found() -> None:
    found = profile_of("simulated:h200,lag=30,latency=0.2,timestamp=sensor,seed=5")
    assert found.lag_ns == pytest.approx(30 * MS, abs=6 * MS)
    assert found.instant_window_ns == pytest.approx(25 * MS, abs=3 * MS)
    assert found.latency_p50_ns == pytest.approx(0.2 * MS, rel=0.1)
    assert found.latency_p99_ns == pytest.approx(0.64 * MS, rel=0.3)
    assert found.stamps == "sample"
    assert profile_of("simulated:h200,seed=1").stamps == "call"


def test_a_delay_between_window_and_publication_is_no_lag() -> None:
    found = profile_of("simulated:a100,delay=20,seed=7")
    assert found.delay_ns == pytest.approx(20 * MS, abs=6 * MS)
    assert found.lag_ns == pytest.approx(0, abs=2 * MS)


@pytest.mark.parametrize(
    ("spec", "spacing_ms"), [("v100,seed=4", 20), ("h200,seed=1", 100), ("ada_geforce,seed=6", 1000)]
)
def test_the_ring_is_found_with_its_length_and_spacing(spec: str, spacing_ms: int) -> None:
    found = profile_of(f"simulated:{spec}")
    assert (found.ring_samples, found.ring_spacing_ns) == (120, spacing_ms * MS)


def test_powers_lie_between_floor_and_cap() -> None:
    found = profile_of("simulated:h200,seed=1")
    assert found.cap_w == pytest.approx(1.35 * 700)
    assert found.floor_w == pytest.approx(0.8 * 75, rel=0.1)
    assert found.idle_bare_w is not None
    assert found.floor_w < found.idle_bare_w
    assert found.idle_context_w == pytest.approx(found.idle_bare_w, rel=0.01)
    assert found.idle_after_load_w == pytest.approx(found.idle_bare_w, rel=0.01)


def test_equal_descriptions_give_equal_profiles_and_each_stage_is_told_as_it_begins() -> None:
    spec, told = "simulated:v100,seed=4", []
    with open_bench(spec, 0, None) as bench:
        again = run_probe(bench, lambda words, share: told.append((words, share)))
    assert replace(again, probed="") == replace(profile_of(spec), probed="")
    assert [words for words, _ in told] == list(STAGES_S)
    shares = [share for _, share in told]
    assert shares == sorted(shares)
    assert 0 <= shares[0] < shares[-1] < 1


def test_publish_times_are_foretold_from_the_grid(tmp_path: Path) -> None:
    with opened("simulated:h200,jitter=0,seed=3", tmp_path) as (bench, gpu):
        grid = stages.find_grids(bench).instant
        assert grid is not None
        for t_s in (1, 60, 600):
            t_ns = bench.clock.now_ns() + t_s * S
            foretold = grid.phase_at(t_ns, 0.0)
            published = gpu.sensor.published_ns(gpu.sensor.slot(foretold + 50 * MS))
            assert foretold == pytest.approx(published, abs=(1 + t_s / 20) * MS)


def test_without_a_load_the_rest_is_found_and_nothing_is_praised() -> None:
    found = profile_of("simulated:h200,seed=1", "none")
    assert found.instant is not None
    assert found.instant.period_ns == pytest.approx(100 * MS, rel=1e-4)
    assert (found.ring_samples, found.stamps, len(found.call_rate)) == (120, "call", 4)
    unknown = (
        "instant_window_ns",
        "counter_covers_all",
        "counter_call_rate_invariant",
        "counter_over_instant",
        "lag_ns",
    )
    assert {name: getattr(found, name) for name in unknown} == dict.fromkeys(unknown)
    assert (found.path, found.best_grade) == ("counter", "B")
    assert "not tested" in found.reasons[0]


def test_a_driver_that_answers_nothing_when_asked_often_is_probed_more_slowly() -> None:
    found = profile_of("simulated:h200,rate_limit=150,seed=1")
    assert found.instant is not None
    assert found.instant.period_ns == pytest.approx(100 * MS, rel=1e-3)
    assert found.instant_window_ns == pytest.approx(25 * MS, abs=3 * MS)
    assert (found.counter_covers_all, found.counter_call_rate_invariant, found.path) == (True, True, "counter")


def test_a_device_that_renews_nothing_cannot_be_probed() -> None:
    with (
        open_bench("simulated:h200,fault=stale@0", 0, None) as bench,
        pytest.raises(UsageError, match="nothing to probe"),
    ):
        run_probe(bench)


@pytest.mark.parametrize(
    ("source", "load", "words"),
    [
        ("simulated:h200,wave=constant:100", None, "leave wave="),
        ("simulated:h200", "./burn", "leave wave="),
        ("replay:trace.csv", None, "cannot be probed"),
        ("simulated:h300", None, "is no simulated GPU"),
    ],
)
def test_what_cannot_be_probed_is_refused(source: str, load: str | None, words: str) -> None:
    with pytest.raises(UsageError, match=words), open_bench(source, 0, load):
        pass


# The verdict.


@pytest.mark.parametrize(
    ("has_counter", "invariant", "covers_all", "signal", "agreement", "verdict"),
    [
        (True, True, True, "average", 1.01, ("counter", "counter-plateau", "A", 0)),
        (True, True, True, "average", 1.05, ("integral", "integral-average", "B", 1)),
        (True, True, False, "average", 1.0, ("integral", "integral-average", "B", 1)),
        (True, True, False, "instant", 1.0, ("counter", "counter-plateau", "B", 1)),
        (True, False, None, "instant", 1.0, ("integral", "integral-instant", "B", 1)),
        (True, None, None, "instant", None, ("counter", "counter-plateau", "B", 1)),
        (False, None, None, "instant", None, ("integral", "integral-instant", "B", 1)),
    ],
)
def test_the_verdict_follows_from_what_was_found(
    has_counter: bool,
    invariant: bool | None,
    covers_all: bool | None,
    signal: Literal["instant", "average"],
    agreement: float | None,
    verdict: tuple[str, str, str, int],
) -> None:
    found = decide(
        has_counter=has_counter,
        invariant=invariant,
        counter_covers_all=covers_all,
        best_signal=signal,
        counter_over_instant=agreement,
    )
    assert (found.path, found.estimator, found.best_grade, len(found.reasons)) == verdict


# The file.


def test_a_file_of_profiles_gives_back_what_was_put_in_by_its_key(tmp_path: Path) -> None:
    path, first, second = tmp_path / "p.json", profile_of("simulated:h200,seed=1"), profile_of("simulated:v100,seed=4")
    save_profile(path, first)
    save_profile(path, second)
    for one in (first, second):
        assert load_profile(path, one.name, one.vbios, one.driver) == one
    assert load_profile(path, first.name, first.vbios, "another driver") is None
    assert load_profile(path, first.name, None, first.driver) is None


def test_a_new_profile_takes_the_place_of_the_one_with_its_key(tmp_path: Path) -> None:
    path, first = tmp_path / "p.json", profile_of("simulated:h200,seed=1")
    save_profile(path, first)
    save_profile(path, replace(first, cap_w=1.0))
    check_profiles(path)
    assert len(json.loads(path.read_text())["profiles"]) == 1
    found = load_profile(path, first.name, first.vbios, first.driver)
    assert found is not None
    assert found.cap_w == 1.0


def test_no_file_knows_no_device(tmp_path: Path) -> None:
    assert load_profile(tmp_path / "p.json", "NVIDIA H200", None, None) is None


def test_what_a_later_version_adds_is_passed_over(tmp_path: Path) -> None:
    path, first = tmp_path / "p.json", profile_of("simulated:h200,seed=1")
    save_profile(path, first)
    told = json.loads(path.read_text())
    told["profiles"][0]["colour"] = "green"
    path.write_text(json.dumps(told))
    assert load_profile(path, first.name, first.vbios, first.driver) == first


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"schema": "telemetry.report/1", "profiles": []}',
        '{"schema": "telemetry.device_profile/1"}',
        '{"schema": "telemetry.device_profile/1", "profiles": [{"name": "x"}]}',
    ],
)
def test_a_file_of_something_else_is_refused_and_left_alone(text: str, tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(text)
    with pytest.raises(UsageError, match="holds no device profiles"):
        load_profile(path, "x", None, None)
    with pytest.raises(UsageError, match="holds no device profiles"):
        save_profile(path, profile_of("simulated:h200,seed=1"))
    with pytest.raises(UsageError, match="holds no device profiles"):
        check_profiles(path)
    assert path.read_text() == text


def test_a_file_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "p.json"
    with pytest.raises(UsageError, match=r"cannot be written: .* Name another file"):
        save_profile(path, profile_of("simulated:h200,seed=1"))
    with pytest.raises(UsageError, match="cannot be written"):
        check_profiles(path)


# Arithmetic.


def seen(width: float, lag: float, end: float, shift: float) -> float:
    """Return what a window sees of a lagged square, by stepping through it."""
    step = 1e-4
    t = np.arange(shift - 8, end, step) + step / 2
    on = ((t - shift) % 1 < 0.5).astype(float)
    if lag:
        level = 0.5
        for i, now in enumerate(on):
            level += (now - level) * step / lag
            on[i] = level
    return float(on[-round(width / step) :].mean())


@pytest.mark.parametrize(("width", "lag"), [(0.25, 0.0), (0.5, 0.0), (0.7, 0.0), (0.25, 0.15), (0.1, 0.4)])
@pytest.mark.parametrize("end", [2.0, 2.31])
def test_a_window_and_its_lag_are_found_from_a_sweep(width: float, lag: float, end: float) -> None:
    shifts = np.arange(11) / 11
    powers_w = 100 + 500 * np.array([seen(width, lag, end, shift) for shift in shifts])
    found = fit_window(shifts, powers_w, low_w=100, high_w=600)
    assert found.width == pytest.approx(width, abs=0.02)
    assert found.lag == pytest.approx(lag, abs=0.03)


def test_a_sensor_that_sees_everything_has_a_whole_window() -> None:
    late = np.random.default_rng(0).normal(0, 5, 11)  # edges of the load that came late
    flat = 350.0 + late
    assert np.ptp(late) > 0.03 * 350
    assert fit_window(np.arange(11) / 11, flat, low_w=100, high_w=600).width == 1.0


def trace(t_ns: Any, **columns: Any) -> Trace:
    empty = np.full(len(t_ns), np.nan)
    return Trace(
        t_ns=np.asarray(t_ns, dtype=np.int64),
        latency_ns=np.zeros(len(t_ns), dtype=np.int64),
        **({"instant_w": empty, "average_w": empty, "energy_j": empty} | columns),
    )


@given(
    period_ms=st.floats(15, 500), phase=st.floats(0, 1), jitter=st.floats(0, 0.1), seed=st.integers(0, 99)
)  # fmt: skip
def test_a_publish_grid_is_found_wherever_it_lies(period_ms: float, phase: float, jitter: float, seed: int) -> None:
    chance = np.random.default_rng(seed)
    t_ns = np.cumsum(chance.uniform(0.7, 1.3, 8000) * 1.5 * MS).astype(np.int64)
    k = np.arange(12_000 / period_ms - 1)
    assume(len(k) > 10)
    published = (k + phase + chance.uniform(-jitter, jitter, len(k))) * period_ms * MS
    shown = np.searchsorted(published, t_ns).astype(np.float64)
    grid = fit_grid(trace(t_ns, energy_j=shown), shown)
    assert grid is not None
    jitter_ms = jitter * period_ms
    assert grid.period_ns == pytest.approx(period_ms * MS, abs=(1 + 2 * jitter_ms) / len(k) * MS)
    assert grid.jitter_ns == pytest.approx(jitter_ms * MS, abs=(1 + 0.3 * jitter_ms) * MS)


def test_a_signal_without_a_grid_is_described_by_the_distances_of_its_updates() -> None:
    chance = np.random.default_rng(0)
    published = np.cumsum(chance.uniform(12, 168, 200)) * MS
    t_ns = np.arange(0, int(published[-1]), MS)
    shown = np.searchsorted(published, t_ns).astype(np.float64)
    grid = fit_grid(trace(t_ns, energy_j=shown), shown)
    assert grid is not None
    assert grid.period_ns == pytest.approx(90 * MS, rel=0.15)
    assert grid.jitter_ns == pytest.approx(78 * MS, rel=0.1)


def test_few_updates_make_no_grid() -> None:
    t_ns = np.arange(0, S, MS)
    shown = (t_ns // (200 * MS)).astype(np.float64)
    assert fit_grid(trace(t_ns, energy_j=shown), shown) is None


def test_a_time_at_a_phase_is_the_first_from_now_on() -> None:
    grid = Grid(origin_ns=10, period_ns=100.0, jitter_ns=0.0)
    assert [grid.phase_at(t, 0.5) for t in (0, 60, 61, 1000)] == [60, 60, 160, 1060]


def test_noise_and_drift_add_nothing_to_a_delay() -> None:
    after = np.arange(0, 1e9, 1e7, dtype=np.float64)
    rise = np.clip(after / 50e6, 0, 1)
    noise, drift = np.random.default_rng(0).normal(0, 0.002, 100), 0.01
    assert Response(after_ns=after, fraction=rise * (1 - drift) + noise).delay_ns() == pytest.approx(25e6, abs=1e6)


def test_power_has_settled_when_it_stays_near_in_spite_of_noise() -> None:
    t_s = np.arange(0, 10, 0.02)
    noise = np.random.default_rng(0).normal(0, 2, len(t_s))
    power_w = 100 + 300 * np.exp(-t_s / 0.8) + noise
    assert settled_after_s(t_s, power_w, to_w=100, within_w=3) == pytest.approx(3.5, abs=0.7)
    assert settled_after_s(t_s, power_w, to_w=80, within_w=3) is None
    assert settled_after_s(t_s[:0], power_w[:0], to_w=80, within_w=3) is None


def test_a_read_that_fails_tells_nothing() -> None:
    class Flaky:
        calls = 0

        def read(self) -> Reading:
            self.calls += 1
            if self.calls % 2:
                raise SourceBusy("later")
            return Reading(t_ns=self.calls, latency_ns=0, energy_mj=2**62 + self.calls)

    found = watch(Flaky(), VirtualClock(0), range(10))  # type: ignore[arg-type]
    assert found.t_ns.tolist() == [0, 2, 2, 4, 4, 6, 6, 8, 8, 10]  # the clock's time, then the reading's own
    assert found.energy_j[1::2].tolist() == [0.0, 0.002, 0.004, 0.006, 0.008]
    assert np.isnan(found.energy_j[::2]).all()
    assert np.isnan(found.instant_w).all()


def test_a_bench_keeps_the_extremes_of_what_power_it_is_told() -> None:
    class Old:
        """Has no INSTANT, and now and then nothing."""

        def __init__(self) -> None:
            self.powers_mw = iter([None, 80_000, 60_000, None, 70_000])

        def read(self) -> Reading:
            return Reading(t_ns=0, latency_ns=0, power_average_mw=next(self.powers_mw))

    bench = Bench(Old(), NvmlDetails("none"), VirtualClock(0), None)  # type: ignore[arg-type]
    bench.watch([0])
    assert (bench.least_w, bench.most_w) == (0, 0)
    bench.watch([1, 2])
    bench.watch([3, 4])
    assert (bench.least_w, bench.most_w) == (60, 80)


def test_a_signal_that_did_not_answer_is_judged_by_nothing() -> None:
    gone = np.array([100.0, np.nan, 100.0])
    assert stages.covers_all(gone) is None
    assert stages.look(gone, low_w=0, high_w=100) is None


# Clocks and loads.


def test_a_virtual_clock_stops_for_what_is_due_in_order() -> None:
    clock, seen_ns = VirtualClock(100), []
    for t_ns in (130, 110, 120, 110):
        clock.at(t_ns, lambda: seen_ns.append(clock.now_ns()))
    clock.sleep_until(125)
    assert (seen_ns, clock.now_ns()) == ([110, 110, 120], 125)
    clock.sleep(1e-8)
    assert (seen_ns[3:], clock.now_ns()) == ([130], 135)
    clock.sleep_until(0)
    assert clock.now_ns() == 135


def test_the_hosts_clock_waits() -> None:
    clock = HostClock()
    due_ns = clock.now_ns() + 20 * MS
    clock.sleep_until(due_ns)
    assert clock.now_ns() >= due_ns
    clock.sleep_until(0)


def program(folder: Path, *lines: str) -> str:
    """Write a program and return the command that runs it."""
    path = folder / "load.py"
    path.write_text("\n".join(("import os, sys", *lines)) + "\n")
    return f"{sys.executable} {path}"


def test_a_load_is_told_when_to_be_busy_and_sees_its_gpu_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = program(
        tmp_path,
        "print('ready', flush=True)",
        f"open({str(out)!r}, 'w').write(os.environ['CUDA_VISIBLE_DEVICES'] + '|' + sys.stdin.read())",
    )
    load = ProcessLoad(command, "GPU-7")
    load.open()
    load.play([(1, 2), (30, 40)])
    load.play([(500, 600)])
    load.close()
    load.close()
    assert out.read_text() == "GPU-7|1 2\n30 40\n500 600\n"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (("print('burning')",), r"said 'burning' where `ready` was due"),
        (("raise SystemExit(1)",), r"said '' where `ready` was due"),
    ],
)
def test_a_program_that_is_no_load_is_refused_with_what_one_does(
    lines: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=words):
        ProcessLoad(program(tmp_path, *lines), "GPU-7").open()


@pytest.mark.parametrize("command", ["no-such-program", "", "unfinished 'quote"])
def test_a_load_that_cannot_be_started_is_refused(command: str) -> None:
    with pytest.raises(UsageError, match="cannot be started"):
        ProcessLoad(command, "GPU-7").open()


def test_a_load_that_ends_early_is_noticed(tmp_path: Path) -> None:
    load = ProcessLoad(program(tmp_path, "print('ready', flush=True)"), "GPU-7")
    load.open()
    assert load._process is not None
    load._process.wait(10)
    with pytest.raises(UsageError, match="ended before the probe did"):
        load.play([(1, 2)])
    load.close()


def test_the_built_in_load_multiplies_between_the_times_it_is_told(tmp_path: Path) -> None:
    """With a torch of ours, which notes when it multiplies."""
    (tmp_path / "torch.py").write_text(
        "import time\n"
        "bfloat16 = None\n"
        "class Matrix:\n"
        "    def __matmul__(self, other):\n"
        f"        open({str(tmp_path / 'times')!r}, 'a').write(f'{{time.monotonic_ns()}}\\n')\n"
        "def randn(*a, **k): return Matrix()\n"
        "class cuda:\n"
        "    synchronize = staticmethod(lambda: time.sleep(0.001))\n"
    )
    begin_ns = time.monotonic_ns() + 4 * S  # an interpreter has started by then
    busy = [(begin_ns, begin_ns + 50 * MS), (begin_ns + 100 * MS, begin_ns + 150 * MS)]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
         "from telemetry.probe.busy import main; sys.exit(main())"],
        input="".join(f"{a} {b}\n" for a, b in busy), capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout == "ready\n"
    times_ns = [int(line) for line in (tmp_path / "times").read_text().split()][20:]  # 20 to warm up
    late_ns = 20 * MS  # the last of a stretch begins within it, but a busy machine may hold it back
    assert all(any(a <= t < b + late_ns for a, b in busy) for t in times_ns)
    assert all(sum(a <= t < b for t in times_ns) > 5 for a, b in busy)


# The command.


def test_the_command_prints_and_keeps_the_profile(tmp_path: Path) -> None:
    path = tmp_path / "new" / "device_profile.json"
    command = [sys.executable, "-m", "telemetry.cli", "probe", "--source", "simulated:v100,seed=4", "--load", "none"]
    done = subprocess.run([*command, "-o", str(path), "--format", "json"], capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert done.stderr == f"Written into {path}.\n"  # no progress where nobody looks
    assert json.loads(path.read_text())["profiles"] == told["profiles"]
    assert told["schema"] == "telemetry.device_profile/1"
    name, vbios, driver = (told["profiles"][0][key] for key in ("name", "vbios", "driver"))
    kept = load_profile(path, name, vbios, driver)
    assert kept is not None
    assert kept.simulated


def test_a_file_that_cannot_take_the_profile_is_refused_before_the_probe(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text("[]")
    command = [sys.executable, "-m", "telemetry.cli", "probe", "--source", "simulated:v100", "-o", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "holds no device profiles" in done.stderr


def test_the_table_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    print_profile(profile_of("simulated:ada_geforce,seed=6"))
    table = capsys.readouterr().out
    for words in ("every 106.50 ms ± 0.", "1000.", "Reading the counter changes", "at 100 ms", "607.5 W", "–"):
        assert words in table
    assert re.search(r"counter call rate invariant *│ no ", table)


def test_every_field_of_a_profile_is_documented() -> None:
    page = (Path(__file__).parents[1] / "docs" / "probe.md").read_text()
    fields = asdict(profile_of("simulated:h200,seed=1"))
    assert [name for name in fields if f"`{name}`" not in page] == []
