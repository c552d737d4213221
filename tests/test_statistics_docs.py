"""The pages on attribution and statistics say what their script works out: a part of each table is worked out again."""

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from benchmark_scripts import load_script, needs_benchmarks

ROOT = Path(__file__).parents[1]
QUICK_MOST, QUICK_N = 4, 10

pytestmark = needs_benchmarks


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("simulated_truth")


def table(page: str, top: list[str]) -> dict[str, str]:
    """Return the lines below a head in a page of the docs, by what their first cell begins with."""
    lines = iter((ROOT / "docs" / page).read_text(encoding="utf-8").splitlines())
    assert any(line == top[0] for line in lines), f"no table in {page} begins with {top[0]}"
    assert next(lines) == top[1]
    found = {}
    for line in lines:
        if not line.startswith("|"):
            break
        found[line.split("|")[1].strip()] = line
    return found


def test_the_truth_of_the_simulated_engine_is_all_that_its_board_spent(script: ModuleType) -> None:
    for whole in (True, False):
        run = script.serve(3, seconds=20.0, most=8, whole=whole, varied=True)
        power_w, length_s = run.truth.begin_w, np.diff(run.truth.at_ns) * 1e-9
        busy = power_w > script.IDLE_W
        assert run.true_j.sum() == pytest.approx(float(np.sum((power_w * length_s)[busy])), rel=1e-9)
        assert 0 < length_s[~busy].sum() < length_s.sum()
        assert run.requests.end_ns.max() == run.end_ns


def test_the_errors_of_the_policies_in_the_page_are_those_of_the_script(script: ModuleType) -> None:
    found = [script.shares(seed, most=QUICK_MOST) for seed in range(script.SHARED)]
    lines = table("attribution.md", script.SHARES_HEAD)
    assert [cell.split()[0] for cell in lines] == [str(most) for most in script.SHARED_MOST]
    assert script.shares_line(QUICK_MOST, found) in lines.values()


def test_the_fitted_costs_in_the_page_are_those_of_the_simulated_engines(script: ModuleType) -> None:
    lines = table("attribution.md", script.FIT_HEAD)
    assert list(lines) == list(script.ENGINES)
    for whole in script.ENGINES.values():
        found = script.fit(0, whole=whole)
        assert np.abs(found.off).max() < 0.02
        assert abs(found.off[0]) < 1e-3
        assert found.held.shape == (4,)


def test_the_coverage_in_the_page_is_that_of_the_script(script: ModuleType) -> None:
    lines = table("statistics.md", script.HELD_HEAD)
    assert list(lines) == [str(n) for n in script.RUNS]
    one, _, median = script.INTERVALS
    shown = script.held_line(QUICK_N, [script.held(one, QUICK_N), np.nan, script.held(median, QUICK_N)]).split("|")
    in_page = lines[str(QUICK_N)].split("|")
    assert [in_page[1:3], in_page[4:]] == [shown[1:3], shown[4:]]


def test_the_times_in_the_page_are_of_the_sizes_of_the_script(script: ModuleType) -> None:
    assert list(table("benchmarks.md", script.TIMES_HEAD)) == [f"{n:,}" for n in script.SIZES]
    took_s = script.attributed_s(script.seen(script.load([(120.0, 300.0)]), seed=0), 1_000)
    assert took_s > 0.0  # the energies added up
