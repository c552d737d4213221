"""A run's requests and its energy: shares that add up, runs side by side, boundaries, phases, windows, verdicts."""

import asyncio
import gc
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from served import serve
from stored import rows

from telemetry import reports
from telemetry.analysis import POLICIES, CumulativeEnergy, Policy
from telemetry.analysis.rows import Floats, Ints
from telemetry.cli import reading
from telemetry.errors import UsageError
from telemetry.join import Boards, How, report, work_out
from telemetry.join.groups import groups
from telemetry.join.requests import Served, charge
from telemetry.storage.reader import StoredRequest
from telemetry.storage.store import open_store

EXACT = "simulated:h200,gain=1,offset=0,noise=0,jitter=0,latency=0.06"
STEADY = f"{EXACT},wave=constant:400"
S = 1_000_000_000
TO_NS = 20 * S

OVERLAPPING = [(1.0 + k / 2, 1.5 + k / 2, 4.0 + k, 50 * (k + 1), 40 * (k + 1)) for k in range(6)]


# ---- arithmetic of what is stored


def a_request(number: int, start: float, first: float, end: float, given_tokens: int, made: int) -> StoredRequest:
    return StoredRequest(
        number=number, submitted_ns=round(start * S), started_ns=round(start * S), first_token_ns=round(first * S),
        ended_ns=round(end * S), input_tokens=given_tokens, cached_tokens=0, output_tokens=made, count_source="ids",
        status="ok",
    )  # fmt: skip


@st.composite
def many(draw: st.DrawFn) -> list[StoredRequest]:
    """Draw up to eight requests within 20 s; of some a stamp or a count is not known."""
    drawn = []
    for number in range(draw(st.integers(1, 8))):
        start, first, end = sorted(draw(st.floats(0.0, 20.0)) for _ in range(3))
        request = a_request(number, start, first, end, draw(st.integers(0, 2_000)), draw(st.integers(0, 300)))
        gone: dict[str, Any] = dict.fromkeys(
            draw(st.sets(st.sampled_from(["started_ns", "first_token_ns", "ended_ns", "output_tokens"])))
        )
        drawn.append(replace(request, **gone))
    return drawn


def power(base_w: float, more_w: float) -> CumulativeEnergy:
    """Return a device whose power rises from `base_w` by `more_w` within the 20 s."""

    def at(t_ns: Ints) -> Floats:
        s = t_ns * 1e-9
        energy: Floats = base_w * s + more_w * s**2 / 40.0
        return energy

    return at


def share(run: Served, energy: dict[int, CumulativeEnergy], policy: Policy) -> Any:
    return charge(run, energy, 0, TO_NS, policy)


@given(many(), many(), st.sampled_from(POLICIES))
def test_all_that_was_measured_is_charged_to_somebody_or_nobody_on_every_device(
    own: list[StoredRequest], others: list[StoredRequest], policy: Policy
) -> None:
    energy = {3: power(80, 500), 5: power(300, 0)}
    found = share(Served(requests=own, times_ns={}, others={5: others}), energy, policy)
    paid = found.shares.energy_j.sum(axis=1) + found.shares.unattributed_j + found.others_j
    assert paid == pytest.approx([80 * 20 + 500 * 10, 6000], rel=1e-9)
    assert found.others_j[0] == 0.0, "the others were on the other device"
    assert (found.shares.energy_j >= 0).all()


@given(many(), st.sampled_from(POLICIES))
def test_equal_requests_are_charged_alike_and_one_alone_pays_for_all_of_its_time(
    own: list[StoredRequest], policy: Policy
) -> None:
    twins = [replace(q, number=k) for k, q in enumerate([*own, own[0]])]
    paid = share(Served(requests=twins, times_ns={}), {1: power(100, 50)}, policy).shares.energy_j[0]
    assert paid[0] == pytest.approx(paid[-1], rel=1e-9, abs=1e-9)
    alone = share(Served(requests=[a_request(0, 2, 3, 12, 9, 9)], times_ns={}), {1: power(100, 0)}, policy)
    assert alone.shares.energy_j[0] == pytest.approx([1000.0])
    assert alone.shares.unattributed_j == pytest.approx([1000.0])


@given(many(), st.floats(0.05, 0.95), st.sampled_from(POLICIES))
def test_a_device_cut_in_two_changes_no_sum(own: list[StoredRequest], part: float, policy: Policy) -> None:
    run = Served(requests=own, times_ns={})
    whole = share(run, {1: power(100, 400)}, policy).shares
    halves = share(run, {1: power(100 * part, 400 * part), 2: power(100 * (1 - part), 400 * (1 - part))}, policy).shares
    assert halves.energy_j.sum(axis=0) == pytest.approx(whole.energy_j[0], rel=1e-9, abs=1e-9)
    assert halves.unattributed_j.sum() == pytest.approx(whole.unattributed_j.sum(), rel=1e-9, abs=1e-9)


# ---- of stored runs


async def reported(path: Path, **options: Any) -> list[dict[str, Any]]:
    async with await open_store(path) as store:
        found: list[dict[str, Any]] = (await report(store, boards=Boards(), **options))["runs"]
    return found


def charged(run: dict[str, Any]) -> float:
    return float(sum(q["energy_j"] for q in run["per_request"]))


async def test_requests_and_idle_add_up_to_the_published_energy_in_json_and_in_sql(
    tmp_path: Path, runtime_dir: Path
) -> None:
    path = tmp_path / "t.db"
    await serve(path, runtime_dir, f"{STEADY},gpus=2", [("run", 0.0, 12.0, OVERLAPPING)])
    (run,) = await reported(path, with_requests=True)
    value_j = run["energy"]["value_j"]
    assert value_j == pytest.approx(9600, rel=2e-3)
    assert charged(run) + run["unattributed_j"] + run["others_j"] == pytest.approx(value_j, rel=1e-9)
    assert run["unattributed_j"] == pytest.approx(800 * (1.0 + 3.0), rel=0.02), "before 1 s, and after 9 s"
    assert [q["output_tokens"] for q in run["per_request"]] == [40 * (k + 1) for k in range(6)]
    ((joules, method),) = rows(path, "SELECT sum(energy_j), max(energy_method) FROM v_request")
    assert joules == pytest.approx(charged(run), rel=1e-12)
    assert (method, run["j_per_request"]["of"]) == ("allocated(M4)", "allocated(M4)")
    assert rows(path, "SELECT unattributed_j FROM v_run_best") == [(run["unattributed_j"],)]
    assert all(0 < q["marginal_j"] < q["energy_j"] for q in run["per_request"]), "steps are shared"
    assert rows(path, "SELECT energy_j, marginal_j FROM v_request ORDER BY number") == [
        (q["energy_j"], q["marginal_j"]) for q in run["per_request"]
    ]
    each = sorted(q["energy_j"] for q in run["per_request"])
    assert run["j_per_request"]["p50"] == pytest.approx((each[2] + each[3]) / 2)
    assert run["j_per_request"]["p90"] is None, "six say nothing of a p90"
    (again,) = await reported(path, with_requests=True)
    assert again == run, "what is kept says the same"


async def test_another_policy_is_worked_out_afresh_and_not_kept(tmp_path: Path, runtime_dir: Path) -> None:
    path = tmp_path / "t.db"
    await serve(path, runtime_dir, STEADY, [("run", 0.0, 12.0, OVERLAPPING)])
    (kept,) = await reported(path, with_requests=True)
    before = rows(path, "SELECT * FROM result ORDER BY id")
    (equal,) = await reported(path, with_requests=True, how=How(policy="time-share"))
    assert equal["j_per_request"]["of"] == "allocated(M1)"
    assert equal["per_request"][0]["marginal_j"] is None, "it knows no cost of tokens"
    assert charged(equal) == pytest.approx(charged(kept), rel=1e-9)
    assert equal["per_request"][0]["energy_j"] != pytest.approx(kept["per_request"][0]["energy_j"], rel=0.01)
    assert rows(path, "SELECT * FROM result ORDER BY id") == before


async def test_working_out_twice_keeps_the_same_once(tmp_path: Path, runtime_dir: Path) -> None:
    path = tmp_path / "t.db"
    await serve(path, runtime_dir, STEADY, [("one", 0.0, 6.0, OVERLAPPING[:3]), ("two", 6.5, 12.0, OVERLAPPING[3:])])
    kept = "SELECT run, device, request, quantity, value, lo, hi, method, grade, flags, analysis_version FROM result "
    found = []
    told: list[tuple[int, int]] = []
    for _ in range(2):
        async with await open_store(path) as store:
            count, version = await work_out(store, boards=Boards(), progress=lambda *at: told.append(at))
        assert count == 2
        found.append(rows(path, kept + "ORDER BY run, device, request, quantity"))
        assert {row[-1] for row in found[-1]} == {version}
    assert found[0] == found[1]
    assert told == [(0, 2), (0, 2)]
    assert {request for _, _, request, *_ in found[0]} == {-1, 0, 1, 2}
    async with await open_store(path) as store:
        assert (await work_out(store, ("tw",), boards=Boards()))[0] == 1
    assert rows(path, kept + "ORDER BY run, device, request, quantity") == found[0], "the other run's are still there"


async def test_what_is_kept_is_used_until_its_rows_are_deleted(tmp_path: Path, runtime_dir: Path) -> None:
    path = tmp_path / "t.db"
    await serve(path, runtime_dir, STEADY, [("run", 0.0, 6.0, OVERLAPPING[:3])])
    (fresh,) = await reported(path)
    with sqlite3.connect(path) as c:
        c.execute("UPDATE analysis SET document = json_set(document, '$.energy.value_j', 1.5)")
    assert (await reported(path))[0]["energy"]["value_j"] == 1.5
    with sqlite3.connect(path) as c:
        c.execute("DELETE FROM result")
    assert await reported(path) == [fresh]
    assert rows(path, "SELECT value FROM result WHERE device = 0 AND request = -1 AND quantity = 'energy_j'") == [
        (fresh["energy"]["value_j"],)
    ]


async def test_runs_on_one_device_at_one_time_do_not_both_pay_for_all_of_it(tmp_path: Path, runtime_dir: Path) -> None:
    path = tmp_path / "t.db"
    both = [("one", 0.0, 10.0, OVERLAPPING[:3]), ("two", 0.0, 10.0, OVERLAPPING[:3]), ("around", 0.0, 12.0, [])]
    await serve(path, runtime_dir, STEADY, both)
    found = {run["run"]: run for run in await reported(path, with_requests=True)}
    one, two, around = found["one"], found["two"], found["around"]
    for run in (one, two):
        assert "shared_device" in run["flags"]
        assert "shared_device" in run["verdict"]["reasons"]
        whole = charged(run) + run["unattributed_j"] + run["others_j"]
        assert whole == pytest.approx(run["energy"]["value_j"], rel=1e-9)
        assert run["j_per_token"]["of"] is None
        assert run["phases"]["reasons"] == ["shared_device"]
    assert charged(one) == pytest.approx(one["others_j"], rel=1e-9)
    assert charged(one) + charged(two) < one["energy"]["value_j"]
    assert "shared_device" not in around["flags"], "it asked for nothing itself"
    assert around["unattributed_j"] is None, "without requests there is nothing to share out"


async def test_a_run_s_figure_is_of_its_gpus_and_other_devices_stand_beside_it(
    tmp_path: Path, runtime_dir: Path
) -> None:
    path = tmp_path / "t.db"
    await serve(path, runtime_dir, f"{STEADY},gpus=3", [("run", 0.0, 12.0, OVERLAPPING)])
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE device SET boundary = 'cpu-package' WHERE id = 2")
        connection.execute("UPDATE device SET boundary = 'wall' WHERE id = 3")
    (run,) = await reported(path, with_requests=True)
    assert run["boundary"] == "gpu-board"
    assert [d["boundary"] for d in run["devices"]] == ["gpu-board", "cpu-package", "wall"]
    assert run["energy"]["value_j"] == run["devices"][0]["energy"]["value_j"] == pytest.approx(4800, rel=2e-3)
    assert charged(run) + run["unattributed_j"] == pytest.approx(run["energy"]["value_j"], rel=1e-9)
    ((linear_j,),) = rows(path, "SELECT energy_j FROM v_run_efficiency")
    assert linear_j == pytest.approx(run["energy"]["value_j"], rel=0.01)
    assert rows(path, "SELECT boundary, headline FROM v_run_energy ORDER BY headline DESC, boundary") == [
        ("gpu-board", 1), ("cpu-package", 0), ("wall", 0)
    ]  # fmt: skip
    (summed,) = await reported(path, how=How(all_boundaries=True))
    assert summed["boundary"] == "cpu-package+gpu-board", "a meter at the wall sees the others too"
    assert summed["energy"]["value_j"] == pytest.approx(9600, rel=2e-3)
    assert await reported(path, with_requests=True) == [run]


async def test_the_metrics_of_a_known_load_are_what_they_should_be(tmp_path: Path, runtime_dir: Path) -> None:
    path = tmp_path / "t.db"
    prompts = [(k * 2.0, k * 2.0 + 0.5, k * 2.0 + 4.0, 100, 71) for k in range(4)]
    about = {"experiment": "e", "environment": "abc", "settings": {"scale": "quick"}, "flags": ("not_idle",)}
    await serve(path, runtime_dir, STEADY, [("run", 0.0, 10.0, prompts)], **about)
    (run,) = await reported(path)
    made, energy_j = 4 * 71, run["energy"]["value_j"]
    assert run["j_per_input_token"]["value"] == pytest.approx(energy_j / 400)
    assert run["j_per_input_token"]["lo"] < energy_j / 400 < run["j_per_input_token"]["hi"]
    assert run["mean_running_requests"] == pytest.approx(1.6)
    assert run["tokens_per_s_per_w"] == pytest.approx(made / 10 / 400, rel=2e-3)
    assert run["edp_js"] == pytest.approx(energy_j / made * 3.5 / 70, rel=1e-4)
    assert run["efficiency_class"] == "inefficient"
    assert run["pct_of_power_limit"] == pytest.approx(100 * 400 / 700, rel=2e-3)
    assert (run["experiment"], run["environment"]) == ("e", "abc")
    assert run["flags"][-1] == "not_idle"
    assert {"quick", "not_idle", "simulated", "too_few_runs"} <= set(run["verdict"]["reasons"])
    assert [(b["from_tokens"], b["below_tokens"], b["n"]) for b in run["requests_by_input"]] == [(0, 128, 4)]
    assert run["requests_by_input"][0]["j_per_request"]["mean"] == pytest.approx((energy_j - 0) / 4, rel=2e-3)


async def test_j_per_token_has_percentiles_over_windows_and_none_over_tokens(tmp_path: Path, runtime_dir: Path) -> None:
    path = tmp_path / "t.db"
    await serve(path, runtime_dir, STEADY, [("run", 0.0, 20.0, [(0.0, 0.001, 20.0, 8, 2001)])])
    (run,) = await reported(path)
    found = run["j_per_token"]
    assert (found["of"], found["n"]) == ("windowed(0.5 s)", 40)
    assert found["p50"] == pytest.approx(4.0, rel=0.03)
    assert found["p90"] == pytest.approx(4.0, rel=0.03)
    assert found["p95"] is None, "forty say nothing of a p95"
    assert found["each_token"] is None
    assert "sensor publishes every 100 ms" in found["each_token_reason"]


async def test_prefill_and_decode_side_by_side_are_fitted_and_say_how_well(tmp_path: Path, runtime_dir: Path) -> None:
    """Power is 100 W, 20 mJ a prompt token and 300 mJ an output token, of up to four requests at a time."""
    rng, path, wave = np.random.default_rng(3), tmp_path / "t.db", tmp_path / "wave.csv"
    seconds, prompts = 130.0, []
    for lane in range(4):
        at = 1.0 + lane
        while at < seconds - 12.0:
            prefill_s, decode_s = rng.uniform(0.2, 1.0), rng.uniform(1.0, 6.0)
            made, given_tokens = int(decode_s * 60), int(prefill_s * 8_000 * rng.uniform(0.5, 1.0))
            prompts.append((at, at + prefill_s, at + prefill_s + decode_s, given_tokens, made))
            at += prefill_s + decode_s + rng.uniform(0.0, 4.0)
    step_s = 0.01
    power_w = np.full(round(seconds / step_s), 100.0)
    for start, first, end, given_tokens, made in prompts:
        power_w[round(start / step_s) : round(first / step_s)] += 0.02 * given_tokens / (first - start)
        power_w[round(first / step_s) : round(end / step_s)] += 0.3 * made / (end - first)
    wave.write_text("time_s,power_w\n" + "".join(f"{k * step_s:.2f},{w:.3f}\n" for k, w in enumerate(power_w)))
    await serve(path, runtime_dir, f"{EXACT},wave=csv:{wave}", [("run", 0.0, 125.0, sorted(prompts))])
    (run,) = await reported(path)
    phases = run["phases"]
    assert (phases["label"], phases["reasons"]) == ("modelled", [])
    assert phases["condition"] < 30
    assert phases["r2"] > 0.95
    planted = {"prefill_j": 0.02 * sum(p[3] for p in prompts), "decode_j": 0.3 * sum(p[4] for p in prompts)}
    for name, joules in (planted | {"base_j": 100 * 125}).items():
        assert phases[name]["value"] == pytest.approx(joules, rel=0.08), name
        assert phases[name]["lo"] < phases[name]["value"] < phases[name]["hi"]
    (again,) = await reported(path)
    assert again["phases"] == phases


@pytest.mark.parametrize(("rises_s", "flags"), [(20.0, set()), (65.0, {"unsteady"})])
async def test_a_run_that_settles_in_its_second_half_is_not_steady(
    tmp_path: Path, runtime_dir: Path, rises_s: float, flags: set[str]
) -> None:
    wave = tmp_path / "wave.csv"
    points = [(0.0, 300), (rises_s, 300), (rises_s + 0.01, 400), (200.0, 400)]
    wave.write_text("time_s,power_w\n" + "".join(f"{s},{w}\n" for s, w in points))
    prompts = [(0.0, 0.01, 100.0, 8, 3000)]
    await serve(tmp_path / "t.db", runtime_dir, f"{EXACT},wave=csv:{wave}", [("run", 0.0, 100.0, prompts)])
    (run,) = await reported(tmp_path / "t.db")
    assert set(run["flags"]) & {"unsteady"} == flags
    assert set(run["verdict"]["reasons"]) & {"unsteady"} == flags


async def test_tokens_that_come_faster_late_are_not_steady(tmp_path: Path, runtime_dir: Path) -> None:
    prompts = [(0.0, 0.01, 65.0, 8, 1300), (65.0, 65.01, 100.0, 8, 3500)]
    await serve(tmp_path / "t.db", runtime_dir, STEADY, [("run", 0.0, 100.0, prompts)])
    (run,) = await reported(tmp_path / "t.db")
    assert "unsteady" in run["flags"]


async def test_runs_of_unlike_environments_are_never_taken_together(tmp_path: Path, runtime_dir: Path) -> None:
    path = tmp_path / "t.db"
    spans = [(f"run{k}", k * 2.0, k * 2.0 + 1.8, [(k * 2.0, k * 2.0 + 0.1, k * 2.0 + 1.5, 9, 90)]) for k in range(6)]
    await serve(path, runtime_dir, STEADY, spans, environment="old")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE run SET environment = 'new' WHERE uid = 'run0'")
    async with await open_store(path) as store:
        found = await report(store, boards=Boards())
    assert {g["by"]["environment"]: g["n_runs"] for g in found["groups"]} == {"old": 5, "new": 1}
    assert {g["by"]["environment"]: "too_few_runs" in g["verdict"]["reasons"] for g in found["groups"]} == {
        "old": False, "new": True
    }  # fmt: skip
    assert ["too_few_runs" in run["verdict"]["reasons"] for run in found["runs"]] == [True, *[False] * 5]
    assert dict(rows(path, "SELECT environment, runs FROM v_ranking")) == {"old": 5, "new": 1}
    for group in found["groups"]:
        (ranking,) = rows(
            path, f"SELECT j_per_output_token FROM v_ranking WHERE environment = '{group['by']['environment']}'"
        )
        assert ranking[0] == pytest.approx(group["j_per_output_token"]["mean"])
    (old,) = [group for group in found["groups"] if group["by"]["environment"] == "old"]
    assert old["metrics"]["avg_power_w"]["ci_lo"] < 400.5
    assert old["metrics"]["avg_power_w"]["ci_hi"] > 399.5
    assert old["metrics"]["j_per_request"]["mean"] == pytest.approx(720, rel=0.02)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE run SET concurrency = 4 WHERE uid = 'run1'")
        connection.execute("UPDATE run SET runner = 'other' WHERE uid = 'run2'")
    async with await open_store(path) as store:
        found = await report(store, boards=Boards())
    assert sorted(rows(path, "SELECT runs FROM v_ranking")) == sorted((g["n_runs"],) for g in found["groups"])
    assert len(found["groups"]) == 4


def test_a_group_is_published_only_if_each_of_its_runs_may_be(tmp_path: Path) -> None:
    names = ("environment", "tokens_per_s", "tokens_per_s_per_w", "avg_power_w", "edp_js", "mean_running_requests",
             "pct_of_power_limit", "ttft_s", "tpot_s", "itl_s", "e2e_s", "model", "runner", "setting",
             "boundary")  # fmt: skip
    run = dict.fromkeys(names) | {
        **{"status": "ok", "warmup": False, "batch_size": 1, "concurrency": 1, "energy": {"value_j": 9.0}},
        **{"input_tokens": 1, "output_tokens": 3, "uncounted_requests": 0, "requests": {"ok": 1, "failed": 0}},
        **{"simulated": False, "devices": [], "verdict": {"publishable": True, "reasons": []}},
    }
    spoilt = run | {"verdict": {"publishable": False, "reasons": ["baseline_drift"]}}
    assert groups([run] * 5)[0]["verdict"] == {"publishable": True, "reasons": []}
    assert groups([*[run] * 5, spoilt])[0]["verdict"] == {"publishable": False, "reasons": ["baseline_drift"]}
    assert groups([run] * 4)[0]["verdict"]["reasons"] == ["too_few_runs"]


# ---- documents and commands


def fields_of(document: Any) -> set[str]:
    """Return the name of every field, save the free ones."""
    if isinstance(document, list):
        return set().union(*(fields_of(item) for item in document))
    if not isinstance(document, dict):
        return set()
    free = document.keys() - {"by", "metrics", "throttled_by"}
    return set(document).union(*(fields_of(document[name]) for name in free))


def schema_of(schema: Any) -> set[str]:
    if isinstance(schema, list):
        return set().union(*(schema_of(item) for item in schema))
    if not isinstance(schema, dict):
        return set()
    return set(schema.get("properties", {})).union(*(schema_of(item) for item in schema.values()))


async def test_every_field_of_a_report_is_in_its_schema_and_in_the_docs(tmp_path: Path, runtime_dir: Path) -> None:
    path = tmp_path / "t.db"
    await serve(path, runtime_dir, STEADY, [("run", 0.0, 12.0, OVERLAPPING)])
    async with await open_store(path) as store:
        document = json.loads(reports.to_json(await report(store, boards=Boards(), with_requests=True)))
    schema = reports.schema("report-1")
    assert [error.message for error in Draft202012Validator(schema).iter_errors(document)] == []
    assert fields_of(document) - schema_of(schema) == set()
    page = (Path(__file__).parent.parent / "docs" / "json.md").read_text(encoding="utf-8")
    assert {name for name in fields_of(document) if f"`{name}`" not in page} == set()


@pytest.fixture
def collected() -> Iterator[None]:
    """Let garbage be collected again after a command of this process."""
    yield
    gc.enable()


@pytest.mark.usefixtures("collected")
def test_the_commands_show_what_requests_are_charged_and_work_runs_out(
    tmp_path: Path, runtime_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "t.db"
    asyncio.run(serve(path, runtime_dir, STEADY, [("run", 0.0, 12.0, OVERLAPPING)]))
    reading.analyse(None, store=str(path))
    assert capsys.readouterr().out.startswith("1 run worked out, by version ")
    reading.show("run", str(path), requests=True)
    shown = capsys.readouterr().out
    assert shown.count("allocated(M4)") == 6
    assert "SIMULATED" in shown
    reading.report(["run"], str(path), policy="M1")
    assert "allocated(M1)" in capsys.readouterr().out
    with pytest.raises(UsageError, match=r"no policy M7\. Known are: M0, M1, M2, M3, M4"):
        reading.report(["run"], str(path), policy="M7")
    kept = rows(path, "SELECT quantity, count(*) FROM result WHERE request >= 0 GROUP BY 1 ORDER BY 1")
    assert kept == [("energy_j", 6), ("marginal_j", 6)]
