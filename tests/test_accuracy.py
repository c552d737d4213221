"""The page on accuracy says what its script works out: a part of each table is worked out again."""

import re
from pathlib import Path
from types import ModuleType

import pytest
from benchmark_scripts import load_script, needs_benchmarks

ROOT = Path(__file__).parents[1]
MAX_BYTES = 150_000
# Those of the tried powers that make the bounds widest, and a length and a case that are worked out fast.
WIDEST_W, QUICK_S, QUICK_CASE = 650.0, 0.25, "600 W for 0.25 s"

pytestmark = needs_benchmarks


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("accuracy")


@pytest.fixture(scope="module")
def page() -> str:
    return (ROOT / "docs" / "accuracy.md").read_text(encoding="utf-8")


def tables(page: str) -> list[list[str]]:
    """Return the lines of each table."""
    return [found.splitlines() for found in re.findall(r"(?:^\|.*\n)+", page, flags=re.MULTILINE)]


def table(page: str, top: list[str], nth: int = 0) -> list[str]:
    """Return the lines below the nth of the tables with this head."""
    found = [lines for lines in tables(page) if lines[:2] == top]
    assert len(found) > nth, f"no table begins with {top[0]}"
    return found[nth][2:]


def first_cells(lines: list[str]) -> list[str]:
    return [line.split("|")[1].strip() for line in lines]


def test_the_page_shows_every_figure_and_each_is_small_and_undated(script: ModuleType, page: str) -> None:
    assert re.findall(r"!\[.*?\]\(figures/(.*?)\)", page, flags=re.DOTALL) == list(script.FIGURES)
    for name in script.FIGURES:
        drawn = (script.FOLDER / name).read_text(encoding="utf-8")
        assert len(drawn.encode()) < MAX_BYTES
        assert "<dc:date>" not in drawn


def test_the_tables_have_the_rows_that_the_script_prints(script: ModuleType, page: str) -> None:
    lengths = [f"{seconds:g} s" for seconds in script.SHOWN_S]
    for nth in range(len(script.SWEPT)):
        assert first_cells(table(page, script.ERROR_HEAD, nth)) == lengths
    assert first_cells(table(page, script.COVERAGE_HEAD)) == list(script.CASES)
    assert first_cells(table(page, script.DURATION_HEAD)) == [f"{power_w:g} W" for power_w in script.POWERS_W]


def test_the_errors_in_the_page_are_those_of_the_script(script: ModuleType, page: str) -> None:
    errors = script.errors_pct("step", QUICK_S)
    assert script.error_line(QUICK_S, errors) in table(page, script.ERROR_HEAD)


def test_the_coverage_in_the_page_is_that_of_the_script(script: ModuleType, page: str) -> None:
    full, part = (script.Coverage.of(QUICK_CASE, part_time=part_time) for part_time in (False, True))
    assert script.coverage_line(QUICK_CASE, full, part) in table(page, script.COVERAGE_HEAD)


def test_the_lengths_in_the_page_are_those_of_the_widest_bounds_of_the_script(script: ModuleType, page: str) -> None:
    assert WIDEST_W in script.EDGE_POWERS_W
    widest_j = float(script.half_widths_j(WIDEST_W, script.EDGE_RUN_S, WIDEST_W).max())
    assert f"{widest_j:.3g} J" in page
    for power_w, line in zip(script.POWERS_W, table(page, script.DURATION_HEAD), strict=True):
        shown = re.findall(r"([\d.]+) s \(", line)
        assert shown == [f"{widest_j / power_w / pct * 100.0:.2g}" for pct in script.GRADES.values()]
