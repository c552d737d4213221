"""The scripts of `benchmarks/`, whose tables the docs hold, as modules."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
needs_benchmarks = pytest.mark.skipif(not FOLDER.exists(), reason="an sdist has no benchmarks")


def load_script(name: str) -> ModuleType:
    """Return a script as a module; what it imports inside its functions is not loaded."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up
    spec.loader.exec_module(module)
    return module
