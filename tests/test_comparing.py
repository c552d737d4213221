"""Two settings side by side: what is pooled, what is told apart, and when a limit is broken."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from recorded import record

from telemetry.errors import TraceError, UsageError
from telemetry.join.comparing import Side, compare_sides
from telemetry.reports import schema
from telemetry.reports.comparing import compare_csv, compare_markdown

NOISE = (0.99, 1.01, 1.0, 0.995, 1.005, 1.002)


def run(k: int, joules: float, tokens: int = 100, **changes: Any) -> dict[str, Any]:
    """Return what of the report's run a comparison reads."""
    spread = {"mean": 0.1 * joules / 100}
    about = {
        "run": f"run{k}", "status": "ok", "warmup": False, "simulated": False, "environment": "e",
        "boundary": "gpu-board", "model": "m", "runner": "llama_cpp", "batch_size": 1, "concurrency": 1,
        "start": f"2026-01-01T00:00:{k:02}.000Z", "duration_s": 2.0,
        "energy": {"value_j": joules, "lo_j": joules - 1, "hi_j": joules + 1},
        "input_tokens": 50, "output_tokens": tokens, "uncounted_requests": 0, "requests": {"ok": 4, "failed": 0},
        "ttft_s": spread, "itl_s": {"mean": None}, "e2e_s": spread, "devices": [{"uid": "GPU-1"}],
        "verdict": {"publishable": True, "reasons": []},
    }  # fmt: skip
    return about | changes


def side(label: str, runs: Sequence[Mapping[str, Any]], **environments: Any) -> Side:
    return Side(label=label, store="t.db", runs=runs, environments=environments)


def both(factor: float, n: int = 6, **changes: Any) -> tuple[Side, Side]:
    """Return two sides measured by turns, the second `factor` times as hungry."""
    a = [run(2 * k, 100 * NOISE[k]) for k in range(n)]
    b = [run(2 * k + 1, 100 * factor * NOISE[-k - 1], **changes) for k in range(n)]
    return side("A", a), side("B", b)


@pytest.mark.parametrize(
    ("factor", "n", "conclusion"),
    [(1.1, 6, "worse"), (0.9, 6, "better"), (1.0, 6, "equivalent"), (1.018, 2, "not resolvable")],
)
def test_a_difference_is_told_where_the_runs_allow_it(factor: float, n: int, conclusion: str) -> None:
    document = compare_sides(*both(factor, n=n))
    jsonschema.validate(document, schema("compare-1"))
    found = document["quantities"]["j_per_output_token"]
    assert found["ratio"] == pytest.approx(factor, rel=5e-3)
    assert found["conclusion"] == conclusion
    assert found["p_holm"] >= found["p"]
    assert found["timing"][0] < found["ratio"] < found["timing"][1]
    assert document["verdict"] == {"publishable": True, "reasons": []}
    assert {"energy_j", "j_per_total_token", "j_per_request", "tokens_per_s", "ttft_s", "e2e_s"} < set(
        document["quantities"]
    )
    assert "itl_s" not in document["quantities"], "no run has it"


def test_more_tokens_in_a_second_are_better() -> None:
    a, b = both(1.0, tokens=120)
    assert compare_sides(a, b)["quantities"]["tokens_per_s"]["conclusion"] == "better"


def test_warm_ups_failed_runs_and_those_without_energy_count_on_no_side() -> None:
    a, b = both(1.0)
    unresolved = {"value_j": None, "lo_j": 0.0, "hi_j": 9e9}
    more = [run(50, 9e9, warmup=True), run(51, 9e9, status="failed"), run(52, 9e9, energy=unresolved)]
    assert compare_sides(side("A", [*a.runs, *more]), b)["a"]["runs"] == [one["run"] for one in a.runs]
    with pytest.raises(TraceError, match=r"^A has no measured run"):
        compare_sides(side("A", more), b)


def test_a_run_is_never_compared_with_itself() -> None:
    a, b = both(1.0)
    with pytest.raises(TraceError, match=r"^run0, run10, .* would be compared with itself"):
        compare_sides(a, a)
    with pytest.raises(TraceError, match=r"^run1 would be compared with itself"):
        compare_sides(a, b, again=side("again", b.runs[:1]))


def test_whole_runs_are_compared_by_energy_only_where_each_answered_as_much() -> None:
    a, b = both(1.0, requests={"ok": 8, "failed": 0})
    assert "energy_j" not in compare_sides(a, b)["quantities"]
    assert "j_per_request" in compare_sides(a, b)["quantities"]


def test_runs_of_unlike_settings_are_never_pooled_and_what_differs_is_named() -> None:
    a, b = both(1.0)
    with pytest.raises(TraceError, match=r"^A holds runs that differ in batch_size, .*batch_size is 1 or 4"):
        compare_sides(side("A", [*a.runs, run(40, 100.0, batch_size=4)]), b)
    with pytest.raises(TraceError, match=r"^A holds runs that differ in boundary, .*is cpu-package or gpu-board"):
        compare_sides(side("A", [*a.runs, run(40, 100.0, boundary="cpu-package")]), b)
    other = run(40, 100.0, environment="f")
    known = {"e": {"driver": "1", "gpu": {"limit": 700}}, "f": {"driver": "1", "gpu": {"limit": 500}}}
    with pytest.raises(TraceError, match=r"^A holds runs that differ in gpu\.limit, "):
        compare_sides(side("A", [*a.runs, other], **known), b)


def test_what_the_two_environments_differ_in_is_listed() -> None:
    a, b = both(1.0, environment="f", devices=[{"uid": "GPU-2"}])
    known = {"e": {"driver": "1", "devices": [{"uid": "1"}]}, "f": {"driver": "2", "devices": [{"uid": "1"}], "x": 3}}
    document = compare_sides(side("A", a.runs, **known), side("B", b.runs, **known))
    assert document["differs"] == [{"what": "driver", "a": "1", "b": "2"}, {"what": "x", "a": None, "b": 3}]
    found = document["quantities"]
    assert found["j_per_output_token"]["calibration"] == pytest.approx(0.078), "two boards nobody calibrated"
    assert found["j_per_output_token"]["conclusion"] == "not resolvable"
    assert found["tokens_per_s"]["calibration"] == 0.0


def test_one_side_measured_wholly_before_the_other_is_no_publication() -> None:
    a = [run(k, 100 * NOISE[k]) for k in range(6)]
    b = [run(k + 10, 100 * NOISE[k]) for k in range(6)]
    assert compare_sides(side("A", a), side("B", b))["verdict"]["reasons"] == ["not_interleaved"]


def test_no_effect_below_what_the_same_setting_differs_by_from_itself_is_told() -> None:
    a, b = both(1.1)
    again = side("again", [run(k + 20, 113 * NOISE[k]) for k in range(6)])
    found = compare_sides(a, b, again=again)["quantities"]["j_per_output_token"]
    assert found["floor"] > 0.13
    assert found["conclusion"] == "not resolvable"


@pytest.mark.parametrize(
    ("factor", "limit", "beyond", "broken"),
    [
        (1.1, "j_per_token>+5%", True, True),
        (1.04, "j_per_token>+5%", False, False),
        (0.9, " j_per_output_token < -5 % ", True, True),
        (1.1, "tokens_per_s<-3%", False, False),
        (1.0012, "energy_j>+0.1%", True, False),
    ],
)
def test_a_limit_is_broken_by_what_is_beyond_it_and_no_noise(
    factor: float, limit: str, beyond: bool, broken: bool
) -> None:
    document = compare_sides(*both(factor), limits=[limit])
    (checked,) = document["limits"]
    assert (checked["limit"], checked["beyond"], checked["broken"]) == (limit, beyond, broken)
    state = "broken" if broken else "beyond, but not told from noise" if beyond else "kept"
    assert f"{limit}: {state}".replace("<", "&lt;") in compare_markdown(document)


def test_single_runs_break_a_limit_by_their_values_alone() -> None:
    document = compare_sides(*both(1.2, n=1), limits=["j_per_token>+5%"])
    assert document["limits"][0]["broken"]
    assert document["quantities"]["energy_j"]["ratio_lo"] is None


@pytest.mark.parametrize("limit", ["j_per_token", "j_per_token>5", "price>+5%", "j_per_token>=+5%"])
def test_what_is_no_limit_is_refused(limit: str) -> None:
    with pytest.raises(UsageError, match="is no limit"):
        compare_sides(*both(1.0), limits=[limit])


def test_a_limit_on_what_the_runs_do_not_have_is_refused() -> None:
    with pytest.raises(TraceError, match="have no itl_s"):
        compare_sides(*both(1.0), limits=["itl_s>+5%"])


def test_a_quantity_has_one_row_with_its_unit() -> None:
    head, *lines = compare_csv(compare_sides(*both(1.1))).splitlines()
    assert head.startswith("quantity,unit,a,a_ci_lo,a_ci_hi,a_n,b,")
    assert [line.partition(",")[0] for line in lines] == list(compare_sides(*both(1.1))["quantities"])
    assert all(line.count(",") == head.count(",") for line in lines)


async def test_the_command_compares_two_stores_and_exits_4_where_a_limit_is_broken(
    tmp_path: Path, runtime_dir: Path
) -> None:
    for name, watts in (("a", 300), ("b", 360)):
        runs = [(f"{name}{k}", 8.0 * k, 8.0 * k + 6.0 + 0.01 * k) for k in range(4)]
        await record(tmp_path / f"{name}.db", runtime_dir, f"simulated:h200,wave=constant:{watts}", runs)

    def command(*more: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "telemetry.cli", "compare", "a.db", "b.db", *more]
        return subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)

    kept = command("--fail-if", "energy_j>+50%", "--format", "json")
    document = json.loads(kept.stdout)
    jsonschema.validate(document, schema("compare-1"))
    assert kept.returncode == 0, kept.stderr
    assert document["quantities"]["energy_j"]["ratio"] == pytest.approx(1.2, rel=0.02)
    assert (document["simulated"], document["verdict"]["publishable"]) == (True, False)
    broken = command("--fail-if", "energy_j>+5%", "--format", "md")
    assert (broken.returncode, broken.stderr) == (4, "B breaks energy_j>+5%.\n")
    assert "SIMULATED" in broken.stdout
    refused = command("--where", "colour=red")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "Runs have no colour" in refused.stderr
