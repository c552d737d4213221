"""The notebook of the benchmark runs unattended, and what is kept of it in git is a run of itself."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "06_energy_efficiency_benchmark.ipynb"
Cells = list[dict[str, Any]]


def _code_cells(path: Path) -> Cells:
    cells: Cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def _said(cell: dict[str, Any]) -> str:
    """Return the words that a cell showed."""
    words = [output.get("text") or output.get("data", {}).get("text/markdown", "") for output in cell["outputs"]]
    return "".join("".join(each) for each in words)


def _kinds(cell: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """Return what kinds of output a cell showed, in order."""
    return [(output["output_type"], sorted(output.get("data", {}))) for output in cell["outputs"]]


def _assert_that_it_is_a_run(cells: Cells) -> None:
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert [output for cell in cells for output in cell["outputs"] if output["output_type"] == "error"] == []
    assert "The GPU is SIMULATED" in _said(cells[0])
    said = "\n".join(_said(cell) for cell in cells)
    assert "| rank | setting | runs | J/token, 95 % interval |" in said
    for setting in ("Q4_1, batch 1", "Q4_1, batch 4", "Q8_0, batch 1", "Q8_0, batch 4"):
        assert f"SmolLM2-135M-Instruct.{setting} | 3 | no | too_few_runs, simulated, quick" in said
    drawn = [output for cell in cells for output in cell["outputs"] if "image/png" in output.get("data", {})]
    assert len(drawn) == 4


def test_the_committed_notebook_holds_the_outputs_of_a_run() -> None:
    _assert_that_it_is_a_run(_code_cells(NOTEBOOK))
    assert NOTEBOOK.stat().st_size < 1_000_000


@pytest.mark.engine
@pytest.mark.timeout(600)  # two models at two batch sizes, each opened several times
def test_the_notebook_runs_from_first_to_last_cell_without_anyone(tmp_path: Path) -> None:
    bare = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    for cell in bare["cells"]:
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
    (tmp_path / "bare.ipynb").write_text(json.dumps(bare), encoding="utf-8")
    command = [sys.executable, "-m", "jupyter", "execute", "bare.ipynb", "--output=run.ipynb"]
    environ = {**os.environ, "TELEMETRY_SCALE": "quick", "TELEMETRY_SOURCE": "simulated:h200"}

    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    cells = _code_cells(tmp_path / "run.ipynb")
    _assert_that_it_is_a_run(cells)
    # Else the source was changed since the run that is in git.
    assert [_kinds(cell) for cell in cells] == [_kinds(cell) for cell in _code_cells(NOTEBOOK)]
