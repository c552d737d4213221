"""From stored readings to reported energies: faults become flags, idle becomes net, boards become what is known."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from recorded import record, unchanged
from virtual_gpus import BOOTED_S, EPOCH_NS, VirtualClock, library_of

from telemetry.errors import UsageError
from telemetry.join import Boards, How, load_boards, report
from telemetry.join.groups import groups
from telemetry.model import Item, ReadingRow, Vitals
from telemetry.probe import open_bench, run_probe
from telemetry.profile import save_profile
from telemetry.recorder import Recorder
from telemetry.storage.store import open_store

EXACT = "simulated:h200,gain=1,offset=0,noise=0,jitter=0,latency=0.06"
STEADY = f"{EXACT},wave=constant:400"


async def reported(path: Path, boards: Boards | None = None, **options: Any) -> list[dict[str, Any]]:
    async with await open_store(path) as store:
        runs: list[dict[str, Any]] = (await report(store, boards=boards or Boards(), **options))["runs"]
    return runs


# What goes wrong in the driver within a run of 10 s, and the flags that it raises, all of them.
FAULTS = {
    "nothing": ("", set()),
    "reset": ("fault=reset@5:1", {"counter_reset"}),
    "lost": ("fault=lost@5:1", {"gap"}),
    "hang": ("fault=hang@5:1", {"gap"}),
    "busy": ("fault=busy@5:1", {"gap"}),
    "unknown": ("fault=unknown@5:1", {"gap"}),
    "zero": ("fault=zero@5:1", {"zero_power"}),
    "not_supported": ("fault=not_supported@5:1", {"zero_power"}),
    # Power that stands still while the load goes on is wrong as well, and the counter, which catches up, shows it.
    "stale": ("fault=stale@5:3", {"stale", "counter_vs_integral"}),
    "slow": ("fault=slow@5:0.5", set()),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
async def test_a_driver_fault_raises_its_flag_and_no_other(tmp_path: Path, runtime_dir: Path, name: str) -> None:
    fault, flags = FAULTS[name]
    spec = f"simulated:h200,gain=1,offset=0,wave=square:300:600:2.3:0.5,{fault}".rstrip(",")
    await record(tmp_path / "t.db", runtime_dir, spec, [("run", 0.0, 12.0)])
    (run,) = await reported(tmp_path / "t.db")
    assert set(run["flags"]) - {"unprobed"} == flags
    energy = run["energy"]
    library = library_of(spec, VirtualClock(), runtime_dir)
    start_ns = round(BOOTED_S * 1e9)
    truth_j = library.gpus[0].sensor_energy_j(start_ns, start_ns + 12_000_000_000)
    assert energy["lo_j"] <= truth_j <= energy["hi_j"]
    assert energy["value_j"] == pytest.approx(truth_j, rel=0.02)


def leaping(item: Item) -> Item:
    """Let the counter gain 5 kJ at once, in the middle of the run."""
    uid, what = item
    if not isinstance(what, ReadingRow) or what.energy_mj is None or what.t_ns < RUN_NS + 6 * 10**9:
        return item
    return uid, replace(what, energy_mj=what.energy_mj + 5_000_000)


def lazy() -> Callable[[Item], Item]:
    """Return what lets the counter gain a hundredth of the energy in the last 4 s of the run."""
    since: list[int] = []

    def edit(item: Item) -> Item:
        uid, what = item
        if not isinstance(what, ReadingRow) or what.energy_mj is None or what.t_ns < RUN_NS + 8 * 10**9:
            return item
        since.append(what.energy_mj)
        return uid, replace(what, energy_mj=since[0] + (what.energy_mj - since[0]) // 100)

    return edit


def lossy(item: Item) -> Item:
    """Let the counter count 95 % of the energy."""
    uid, what = item
    if not isinstance(what, ReadingRow) or what.energy_mj is None:
        return item
    return uid, replace(what, energy_mj=10**15 + (what.energy_mj - 10**15) * 95 // 100)


RUN_NS = EPOCH_NS + round(BOOTED_S * 1e9)


@pytest.mark.parametrize(
    ("spec", "edit", "flags"),
    [
        (STEADY, leaping, {"over_cap", "counter_refuted"}),
        (STEADY, lazy(), {"under_floor", "bound_violation", "counter_refuted"}),
        (STEADY, lossy, {"counter_vs_integral"}),
        ("simulated:gh200,wave=constant:400,noise=0", unchanged, {"scope_module"}),
        (
            "simulated:ada_geforce,wave=constant:200,noise=0",
            unchanged,
            {"counter_unused", "timing_model", "part_time_sensor"},
        ),
    ],
)
async def test_what_counter_and_board_do_raises_its_flag_and_no_other(
    tmp_path: Path, runtime_dir: Path, spec: str, edit: Any, flags: set[str]
) -> None:
    await record(tmp_path / "t.db", runtime_dir, spec, [("run", 0.0, 12.0)], edit=edit)
    (run,) = await reported(tmp_path / "t.db")
    assert set(run["flags"]) - {"unprobed"} == flags
    withheld = flags & {"over_cap", "under_floor", "counter_refuted"}
    assert (run["energy"]["grade"] == "U") == bool(withheld)
    assert withheld <= set(run["verdict"]["reasons"])


async def test_a_clock_that_was_set_within_a_run_is_flagged(tmp_path: Path, runtime_dir: Path) -> None:
    await record(tmp_path / "t.db", runtime_dir, STEADY, [("run", 0.0, 12.0)])
    async with await open_store(tmp_path / "t.db") as store:
        await store.write_clock_step(RUN_NS + 6 * 10**9, -2_000_000_000, "step")
    (run,) = await reported(tmp_path / "t.db")
    assert set(run["flags"]) - {"unprobed"} == {"clock_jump"}
    assert run["energy"]["value_j"] == pytest.approx(4800, rel=2e-3), "T21: no energy is lost"


async def test_idle_that_drifts_is_flagged(tmp_path: Path, runtime_dir: Path) -> None:
    path = tmp_path / "t.db"
    wave = tmp_path / "wave.csv"
    points = [(0, 80), (40, 80), (40, 300), (60, 300), (60, 95), (120, 95)]
    wave.write_text("time_s,power_w\n" + "".join(f"{s},{w}\n" for s, w in points))
    runs = [("B1", 2.0, 33.0), ("run", 42.0, 58.0), ("B1", 65.0, 96.0)]
    await record(path, runtime_dir, f"{EXACT},wave=csv:{wave}", runs, runners={"B1": "baseline"})
    (run,) = await reported(path)
    assert set(run["flags"]) - {"unprobed"} == {"baseline_drift"}
    assert run["energy"]["net_u_idle_j"] > 16 * 3, "the idle power between the two is not known better"


@pytest.mark.parametrize(("wave", "flags"), [("ramp:300:400:0:90", {"unsteady"}), ("ramp:300:400:0:20", set())])
async def test_a_long_run_is_asked_whether_it_was_steady_in_the_end(
    tmp_path: Path, runtime_dir: Path, wave: str, flags: set[str]
) -> None:
    await record(tmp_path / "t.db", runtime_dir, f"{EXACT},wave={wave}", [("run", 0.0, 90.0)])
    (run,) = await reported(tmp_path / "t.db")
    assert set(run["flags"]) & {"unsteady"} == flags


def throttled(item: Item) -> Item:
    """Let the driver count half of each second as held down by heat."""
    uid, what = item
    if not isinstance(what, Vitals):
        return item
    sensors = replace(what.sensors, throttle_hw_thermal_ns=what.t_ns // 2 % 10**15)
    return uid, replace(what, sensors=sensors)


def limited(item: Item) -> Item:
    uid, what = item
    if not isinstance(what, Vitals):
        return item
    limit_mw = 700_000 if what.t_ns % 10**10 < 5 * 10**9 else 500_000
    return uid, replace(what, sensors=replace(what.sensors, power_limit_mw=limit_mw))


def visited(item: Item) -> Item:
    uid, what = item
    if not isinstance(what, Vitals) or what.sensors.processes is None:
        return item
    return uid, replace(what, sensors=replace(what.sensors, processes=((7, 10**9), (8, 10**9))))


def drifting(item: Item) -> Item:
    uid, what = item
    if not isinstance(what, Vitals):
        return item
    return uid, replace(what, sensors=replace(what.sensors, clock_sm_mhz=1900 if what.t_ns // 10**9 % 2 else 1500))


@pytest.mark.parametrize(
    ("edit", "flags"),
    [
        (throttled, {"throttle_hw_thermal"}),
        (limited, {"limit_changed"}),
        (visited, {"foreign_process"}),
        (drifting, {"clock_drift"}),
    ],
)
async def test_what_vitals_say_raises_its_flag_and_no_other(
    tmp_path: Path, runtime_dir: Path, edit: Any, flags: set[str]
) -> None:
    await record(tmp_path / "t.db", runtime_dir, STEADY, [("run", 0.0, 12.0)], pid=7, edit=edit)
    (run,) = await reported(tmp_path / "t.db")
    assert set(run["flags"]) - {"unprobed"} == flags
    if edit is throttled:
        assert run["devices"][0]["throttled_by"]["hw_thermal"] == pytest.approx(6.0, abs=0.6)
        assert run["devices"][0]["throttled_s"] == pytest.approx(6.0, abs=0.6)


async def test_a_baseline_is_the_idle_power_of_its_stretch_and_no_result(tmp_path: Path, runtime_dir: Path) -> None:
    path = tmp_path / "t.db"
    wave = f"{EXACT},wave=step:80:300:40:50"
    await record(path, runtime_dir, wave, [("B1", 2.0, 33.0)], runner="baseline")
    (baseline,) = await reported_baselines(path, "B1")
    idle = baseline["devices"][0]["idle_power_w"]
    assert idle["lo"] <= 80.0 <= idle["hi"]
    assert idle["value"] == pytest.approx(80.0, abs=0.02)
    assert await reported(path) == [], "a baseline is no result"


async def reported_baselines(path: Path, uid: str) -> list[dict[str, Any]]:
    async with await open_store(path) as store:
        found = await report(store, (uid,), boards=Boards())
    assert found["groups"] == [], "nor is it ranked"
    runs: list[dict[str, Any]] = found["runs"]
    return runs


async def test_net_and_active_energy_are_of_their_own_baselines(tmp_path: Path, runtime_dir: Path) -> None:
    path = tmp_path / "t.db"
    await record(path, runtime_dir, f"{EXACT},wave=csv:{idle_then_busy(tmp_path)}", [
        ("B0", 1.0, 32.0), ("B1", 41.0, 72.0), ("run", 80.0, 140.0), ("B1", 151.0, 182.0),
    ], runners={"B0": "baseline", "B1": "baseline"})  # fmt: skip
    (run,) = await reported(path)
    energy = run["energy"]
    # T27 of the golden table, with another 2 W of drift between the two B1.
    assert energy["value_j"] == pytest.approx(18_000, rel=2e-4)
    assert energy["net_j"] == pytest.approx(18_000 - 60 * 121, rel=1e-3)
    assert energy["baseline"] == "B1 121 W"
    assert energy["active_j"] == pytest.approx(18_000 - 60 * 80, rel=1e-3)
    assert energy["active_baseline"] == "B0 80 W"
    assert energy["net_lo_j"] < energy["net_j"] < energy["net_hi_j"]
    assert "baseline_drift" not in run["flags"]


def idle_then_busy(folder: Path) -> Path:
    """Return a wave: 80 W, 120 W, 300 W for a minute from 80 s on, then 122 W."""
    path = folder / "wave.csv"
    points = [(0, 80), (36, 80), (36, 120), (80, 120), (80, 300), (140, 300), (140, 122), (200, 122)]
    path.write_text("time_s,power_w\n" + "".join(f"{s},{w}\n" for s, w in points))
    return path


async def test_a_board_s_calibration_moves_what_is_calibrated_and_nothing_else(
    tmp_path: Path, runtime_dir: Path
) -> None:
    path, file = tmp_path / "t.db", tmp_path / "calibration.json"
    await record(path, runtime_dir, "simulated:h200,gain=1.05,offset=2,noise=0,wave=constant:400", [("run", 0.0, 10.0)])
    (plain,) = await reported(path)
    uid = plain["devices"][0]["uid"]
    assert plain["energy"]["calibrated"]["lo_j"] <= 4000 <= plain["energy"]["calibrated"]["hi_j"]
    assert plain["energy"]["calibrated"]["provenance"] == "not calibrated"
    board = {"gain": 1.05, "offset_w": 2.0, "gain_off": 0.002, "offset_off_w": 0.1, "provenance": "a meter"}
    file.write_text(json.dumps({"schema": "telemetry.calibration/1", "boards": {uid: board}}))
    (known,) = await reported(path, load_boards(str(tmp_path / "none.json"), str(file)))
    true = known["energy"]["calibrated"]
    assert true["value_j"] == pytest.approx(4000, rel=2e-3)
    assert true["lo_j"] <= 4000 <= true["hi_j"]
    assert true["u_j"] < plain["energy"]["calibrated"]["u_j"] / 5
    assert true["provenance"] == "a meter"
    assert known["energy"] | {"calibrated": None} == plain["energy"] | {"calibrated": None}


@pytest.mark.parametrize("text", ["{", '{"schema": "x"}', '{"schema": "telemetry.calibration/1", "boards": {"G": {}}}'])
def test_a_file_that_is_no_calibration_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "calibration.json"
    file.write_text(text)
    with pytest.raises(UsageError, match=r"calibration\.json holds no calibrations \(.*configuration\.md shows one"):
        load_boards(str(tmp_path / "none.json"), str(file))


async def test_a_probed_board_may_be_graded_a(tmp_path: Path, runtime_dir: Path) -> None:
    path = tmp_path / "t.db"
    await record(path, runtime_dir, STEADY, [("run", 0.0, 20.0)])
    (plain,) = await reported(path)
    assert (plain["energy"]["grade"], plain["flags"]) == ("B", ["unprobed"])
    with open_bench(EXACT, 0, None) as bench:
        profile = run_probe(bench, lambda words, share: None)
    save_profile(tmp_path / "profile.json", replace(profile, best_grade="A"))
    (probed,) = await reported(path, load_boards(str(tmp_path / "profile.json"), str(tmp_path / "none.json")))
    assert (probed["energy"]["grade"], probed["flags"]) == ("A", [])


async def test_a_method_asked_for_is_shown_beside_the_one_chosen_and_not_kept(
    tmp_path: Path, runtime_dir: Path
) -> None:
    path = tmp_path / "t.db"
    await record(path, runtime_dir, STEADY, [("run", 0.0, 10.0)])
    (chosen,) = await reported(path)
    (asked,) = await reported(path, how=How(method="linear"))
    assert asked["energy"]["method"] == "counter-linear"
    assert asked["devices"][0]["automatic"]["value"] == chosen["energy"]["value_j"]
    assert asked["devices"][0]["automatic"]["method"] == "counter-plateau"
    assert await reported(path) == [chosen]
    with pytest.raises(UsageError, match=r"no method guess\. Known are: .*plateau"):
        await reported(path, how=How(method="guess"))


def a_run(model: str, joules: float | None, *, batch_size: int = 1, tokens: int = 100) -> dict[str, Any]:
    unknown = dict.fromkeys(
        (*("environment", "tokens_per_s", "tokens_per_s_per_w", "avg_power_w", "edp_js", "mean_running_requests"),
         *("pct_of_power_limit", "ttft_s", "tpot_s", "itl_s", "e2e_s", "setting"))
    )  # fmt: skip
    return unknown | {
        **{"status": "ok", "warmup": False, "model": model, "runner": "r", "batch_size": batch_size, "concurrency": 1},
        **{"energy": {"value_j": joules}, "input_tokens": 10, "output_tokens": tokens, "uncounted_requests": 0},
        **{"boundary": "gpu-board", "simulated": False, "requests": {"ok": 2, "failed": 0}, "devices": []},
        "verdict": {"publishable": True, "reasons": []},
    }


def test_runs_of_equal_settings_are_a_group_and_what_cannot_be_told_apart_shares_a_rank() -> None:
    runs = [a_run("dear", joules) for joules in (900.0, 905.0, 910.0)]
    runs += [a_run("cheap", joules) for joules in (99.0, 100.0, 101.0)]
    runs += [a_run("cheap", joules, batch_size=2) for joules in (98.5, 100.5, 101.5)]
    runs += [a_run("silent", 50.0, tokens=0), a_run("unread", None), a_run("dear", 1.0) | {"warmup": True}]
    found = {(group["by"]["model"], group["by"]["batch_size"]): group for group in groups(runs)}
    assert {key: group["rank"] for key, group in found.items()} == {
        ("dear", 1): 3,
        ("cheap", 1): 1,
        ("cheap", 2): 1,
        ("silent", 1): None,
        ("unread", 1): None,
    }
    assert found["cheap", 1]["tied_with"] == [{"model": "cheap", "batch_size": 2}]
    assert found["dear", 1]["tied_with"] == []
    told = found["dear", 1]["j_per_output_token"]
    assert told["mean"] == pytest.approx(2715 / 300)
    assert told["ci_lo"] < told["mean"] < told["ci_hi"]
    assert told["n"] == 3
    assert "t-log" in told["method"]
    assert found["silent", 1]["j_per_output_token"]["mean"] is None


def test_a_group_is_named_by_what_people_know_and_by_a_hash_only_where_that_is_all() -> None:
    one, two = a_run("m", 9.0), a_run("m", 9.0, batch_size=2)
    batches = [one | {"environment": "e"}, two | {"environment": "f"}]
    assert [g["by"] for g in groups(batches)] == [{"model": "m", "batch_size": 1}, {"model": "m", "batch_size": 2}]
    settings = [one | {"environment": "e", "setting": "short"}, one | {"environment": "f", "setting": "long"}]
    assert [g["by"] for g in groups(settings)] == [{"model": "m", "setting": s} for s in ("short", "long")]
    unnamed = [*settings, one | {"environment": "g"}]
    assert [g["by"] for g in groups(unnamed)] == [{"model": "m", "environment": e} for e in "efg"]


def test_groups_by_a_coarser_name_are_listed_but_unlike_runs_are_never_pooled() -> None:
    one, two = a_run("m", 9.0), a_run("m", 9.0, batch_size=2)
    (group,) = groups([one, two], ("model",))
    assert (group["by"], group["n_runs"], group["rank"]) == ({"model": "m"}, 2, None)
    assert (group["j_per_output_token"]["mean"], group["metrics"]["j_per_request"]["mean"]) == (None, None)
    assert "unlike_environments" in group["verdict"]["reasons"]
    (alike,) = groups([one, one], ("model", "batch_size"))
    assert (alike["by"], alike["rank"]) == ({"model": "m", "batch_size": 1}, 1)
    with pytest.raises(UsageError, match="Runs have no colour"):
        groups([one], ("colour",))


def test_groups_can_be_ranked_by_what_is_above_idle() -> None:
    def run(model: str, gross_j: float, net_j: float | None) -> dict[str, Any]:
        return a_run(model, gross_j) | {"energy": {"value_j": gross_j, "net_j": net_j}}

    runs = [run("low idle", 900.0 + k, 800.0) for k in range(3)] + [
        run("high idle", 990.0 + k, 300.0) for k in range(3)
    ]
    ranks = {net: {g["by"]["model"]: g["rank"] for g in groups(runs, net=net)} for net in (False, True)}
    assert ranks == {False: {"low idle": 1, "high idle": 2}, True: {"low idle": 2, "high idle": 1}}
    assert groups([run("no baseline", 900.0, None)], net=True)[0]["j_per_output_token"]["mean"] is None
    assert "above idle" in groups(runs, net=True)[0]["j_per_output_token"]["method"]


async def answered(recorder: Recorder, prefill_s: float, decode_s: float) -> None:
    """Record two requests, one after the other, of which a simulated GPU hears."""
    async with recorder.run(model="m") as run:
        for _ in range(2):
            async with run.request() as request:
                await asyncio.sleep(prefill_s)
                request.token()
                await asyncio.sleep(decode_s)
                request.token()
            await asyncio.sleep(0.3)


async def test_prefill_and_decode_are_measured_where_requests_do_not_overlap(tmp_path: Path) -> None:
    following = f"{EXACT},wave=events:80:600:200"
    async with Recorder(tmp_path / "t.db", source=following) as recorder:
        await answered(recorder, 0.6, 1.0)
    (run,) = await reported(tmp_path / "t.db")
    prefill, decode = run["phases"]["prefill_j"], run["phases"]["decode_j"]
    assert prefill["lo"] <= 2 * 0.6 * 600 <= prefill["hi"]
    assert prefill["value"] == pytest.approx(2 * 0.6 * 600, rel=0.05)
    assert decode["value"] == pytest.approx(2 * 1.0 * 200, rel=0.08)
    assert prefill["value"] + decode["value"] < run["energy"]["value_j"]


async def test_phases_of_requests_that_overlap_are_not_told_apart(tmp_path: Path) -> None:
    async with (
        Recorder(tmp_path / "t.db", source=STEADY) as recorder,
        recorder.run(model="m") as run,
        run.request() as first,
        run.request() as second,
    ):
        first.token()
        second.token()
        await asyncio.sleep(0.3)
    (found,) = await reported(tmp_path / "t.db")
    phases = found["phases"]
    assert (phases["prefill_j"], phases["decode_j"], phases["label"]) == (None, None, "modelled")
    assert "few_blocks" in phases["reasons"]
