"""From the text of --source to open sources."""

import subprocess
import sys
from pathlib import Path

import pynvml
import pytest

from telemetry.clock import SteadyClock, take_anchor
from telemetry.collector.sources import rapl
from telemetry.collector.sources.select import open_sources
from telemetry.errors import SourceUnavailable, UsageError

CLOCK = SteadyClock(take_anchor())


@pytest.fixture
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without the driver's library, whatever machine this is."""

    def refuse(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(pynvml, "CDLL", refuse)
    monkeypatch.setattr(pynvml, "nvmlLib", None)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})


@pytest.fixture
def powercap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the CPU's counters, still empty, whatever machine this is."""
    folder = tmp_path / "powercap"
    folder.mkdir()
    monkeypatch.setattr(rapl, "ROOT", folder)
    return folder


@pytest.mark.usefixtures("no_driver")
def test_nvml_without_a_driver_says_what_is_missing_and_what_to_do(runtime_dir: Path) -> None:
    with pytest.raises(SourceUnavailable, match=r"libnvidia-ml\.so\.1.*Install.*telemetry doctor"):
        open_sources("nvml", "all", CLOCK, runtime_dir)


@pytest.mark.usefixtures("no_driver", "powercap")
def test_auto_gives_every_reason_and_never_simulates_by_itself(runtime_dir: Path) -> None:
    with pytest.raises(SourceUnavailable, match=r"nvml: .*libnvidia-ml.*rapl: .*no CPU package.*--source simulated"):
        open_sources("auto", "all", CLOCK, runtime_dir)


@pytest.mark.usefixtures("no_driver")
def test_auto_takes_the_cpu_where_there_is_no_gpu_unless_a_gpu_was_named(powercap: Path, runtime_dir: Path) -> None:
    zone = powercap / "intel-rapl:0"
    zone.mkdir()
    for name, content in (("name", "package-0"), ("energy_uj", "1"), ("max_energy_range_uj", "262143328850")):
        (zone / name).write_text(f"{content}\n")
    for spec in ("auto", "rapl"):
        (source,) = open_sources(spec, "all", CLOCK, runtime_dir)
        assert source.device.boundary == "cpu-package"
    with pytest.raises(SourceUnavailable, match=r"nvml: .*--source simulated") as refused:
        open_sources("auto", "0", CLOCK, runtime_dir)
    assert "rapl" not in str(refused.value)


@pytest.mark.usefixtures("no_driver")
def test_simulated_gpus_are_read_on_the_clock_of_the_host(runtime_dir: Path) -> None:
    sources = open_sources("simulated:h100,gpus=4,seed=2", "3,GPU-51d00000-0001", CLOCK, runtime_dir)
    assert [source.device.index for source in sources] == [3, 1]
    assert all(source.device.simulated for source in sources)
    before_ns = CLOCK.now_ns()
    reading = sources[0].read()
    assert before_ns <= reading.t_ns <= CLOCK.now_ns()
    for source in sources:
        source.close()
    assert pynvml.nvmlLib is None


@pytest.mark.usefixtures("no_driver")
def test_cuda_has_no_say_in_which_gpus_are_simulated(runtime_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    sources = open_sources("simulated,gpus=2", "all", CLOCK, runtime_dir)
    assert [source.device.index for source in sources] == [0, 1]
    for source in sources:
        source.close()


def test_a_recording_is_replayed(runtime_dir: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere\.csv"):
        open_sources("replay:nowhere.csv", "all", CLOCK, runtime_dir)


@pytest.mark.parametrize("spec", ["", "nvidia", "auto:1", "nvml,x=1", "rapl,nvml", "simulate", "replays:x"])
def test_an_unknown_source_is_refused_with_those_that_there_are(spec: str, runtime_dir: Path) -> None:
    with pytest.raises(UsageError, match="auto, nvml, rapl"):
        open_sources(spec, "all", CLOCK, runtime_dir)


def test_choosing_a_source_imports_none_before_it_is_asked_for() -> None:
    code = "import sys, telemetry.collector.sources.select; sys.exit('pynvml' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
