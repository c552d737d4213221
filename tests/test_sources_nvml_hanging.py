"""GPUs and drivers that do not answer: what is said of them, and that nothing waits for them."""

import asyncio
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pynvml
import pytest
from fake_driver import Answer, FakeDriver, FakeGpu
from virtual_gpus import VirtualClock

from telemetry.cli.common import Format
from telemetry.cli.doctor import doctor
from telemetry.collector.sources.nvml import driver as tie
from telemetry.collector.sources.nvml import open_nvml, opening
from telemetry.errors import SourceUnavailable

UUIDS = tuple(f"GPU-{k}aaa1111-0000-0000-0000-000000000000" for k in range(3))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDriver]:
    """Three GPUs on a driver in the place of the real one, and no patience."""
    driver = FakeDriver(*(FakeGpu(uuid=uuid, fields={(186, 0): Answer(300_000)}) for uuid in UUIDS))
    monkeypatch.setattr(pynvml, "nvmlLib", driver)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    monkeypatch.setattr(tie, "driver", tie.Driver())
    monkeypatch.setattr("telemetry.collector.sources.nvml.source.driver", tie.driver)
    monkeypatch.setattr(opening, "driver", tie.driver)
    monkeypatch.setattr(opening, "START_S", 0.5)
    monkeypatch.setattr(opening, "ANSWER_S", 0.5)
    yield driver
    driver.awake.set()
    for thread in threading.enumerate():
        if thread.name == "driver call":  # what it still does belongs to this driver, not to the next test's
            thread.join()


@pytest.mark.parametrize("function", ["", "nvmlDeviceGetFieldValues"])
def test_a_gpu_that_hangs_is_refused_by_its_number_and_the_others_can_be_read(fake: FakeDriver, function: str) -> None:
    fake.gpus[1].hangs = {function}
    with pytest.raises(SourceUnavailable, match=r"GPU 1 does not answer: .* leave it out with --gpus"):
        open_nvml("all", VirtualClock(), {})
    sources = open_nvml("0,2", VirtualClock(), {})
    assert [source.read().power_instant_mw for source in sources] == [300_000, 300_000]


def test_a_driver_that_hangs_in_its_start_is_said_and_not_waited_for(fake: FakeDriver) -> None:
    fake.init_hangs = True
    with pytest.raises(SourceUnavailable, match="The NVIDIA driver does not answer"):
        open_nvml("all", VirtualClock(), {})


async def test_a_source_closes_while_the_driver_hangs_in_another_start(fake: FakeDriver) -> None:
    (source,) = open_nvml("0", VirtualClock(), {})
    fake.init_hangs = True
    starting = asyncio.create_task(asyncio.to_thread(tie.driver.restart, tie.driver.generation))
    while fake.calls["nvmlInitWithFlags"] < 2:
        await asyncio.sleep(0.001)
    closing = asyncio.create_task(asyncio.to_thread(source.close))
    done, _ = await asyncio.wait({closing}, timeout=20)
    fake.awake.set()
    await starting
    assert done


@pytest.mark.parametrize("fault", ["hangs", "lost"])
def test_the_doctor_speaks_of_every_gpu_though_one_is_broken(
    fake: FakeDriver, fault: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    if fault == "hangs":
        fake.gpus[1].hangs = {"nvmlDeviceGetFieldValues"}
    else:
        fake.gpus[1].errors = {"": 15}
    doctor(source="nvml", form=Format.json)
    checks: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["checks"]
    assert [(one["what"], one["state"]) for one in checks[:3]] == [("devices", "no"), ("Fake", "yes"), ("Fake", "yes")]
    assert checks[0]["detail"].startswith("GPU 1 ")
    assert [checks[k]["detail"].split(",")[0] for k in (1, 2)] == [UUIDS[0], UUIDS[2]]


def test_a_collector_whose_driver_hangs_in_its_start_ends_at_once_on_sigterm(tmp_path: Path) -> None:
    program = """
import pynvml
from fake_driver import FakeDriver
from telemetry.cli import main
pynvml.nvmlLib = driver = FakeDriver()
driver.init_hangs = True
driver.on_call = lambda: print("asked", flush=True)
main()
"""
    command = [sys.executable, "-c", program, "collect", "--source", "nvml", "--store", str(tmp_path / "x.db")]
    with subprocess.Popen(command, cwd=Path(__file__).parent, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "asked\n"
            child.send_signal(signal.SIGTERM)
            assert child.wait(60) == -signal.SIGTERM
        finally:
            child.kill()
