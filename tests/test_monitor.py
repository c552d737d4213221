"""EnergyMonitor, and that it, the report and the window say the same of the same load."""

import asyncio
import time
from pathlib import Path

import pytest

from telemetry import EnergyMonitor, Recorder, open_store
from telemetry.errors import UserError
from telemetry.join import report, window
from telemetry.storage import reader

STEADY = "simulated:h200,wave=constant:400,gain=1,offset=0,noise=0,jitter=0"


def test_a_stretch_of_a_program_is_measured_with_bounds_and_marked_simulated() -> None:
    with EnergyMonitor(0, source=STEADY) as monitor:
        time.sleep(0.6)
    assert monitor.result is not None
    found = monitor.result
    truth_j = 400 * found["duration_seconds"]
    assert found["energy_low_joules"] <= truth_j <= found["energy_high_joules"]
    assert found["energy_low_joules"] <= found["energy_joules"] <= found["energy_high_joules"]
    assert found["simulated"]
    assert found["peak_power_watts"] == pytest.approx(400, abs=0.01)
    assert all(watts == pytest.approx(400, abs=0.01) for _, watts in found["samples"])


def test_stop_without_start_is_refused_with_a_sentence() -> None:
    monitor = EnergyMonitor(0, source=STEADY)
    try:
        with pytest.raises(UserError, match=r"before start\(\)"):
            monitor.stop()
        assert monitor.get_current_power() == pytest.approx(400, abs=0.01)
        assert monitor.get_temperature() is not None
    finally:
        monitor.close()


async def test_report_window_and_monitor_agree_at_a_third_of_a_second(tmp_path: Path) -> None:
    monitor = EnergyMonitor(0, source=STEADY)
    async with Recorder(tmp_path / "t.db", source=STEADY) as recorder, recorder.run(model="steady"):
        monitor.start()
        await asyncio.sleep(0.3)
        measured = await asyncio.to_thread(monitor.stop)
    monitor.close()
    async with await open_store(tmp_path / "t.db") as store:
        (run,) = await reader.runs(store)
        assert run.stop_ns is not None
        (reported,) = (await report(store))["runs"]
        windowed = await window(store, run.start_ns, run.stop_ns)
    assert reported["energy"] == windowed["energy"]
    # Two pollers see the edges from other brackets, wider on a busy machine: what must hold is that the truth and
    # the other's value lie inside the bounds of each.
    energy, duration_s = reported["energy"], reported["duration_s"]
    assert energy["lo_j"] <= 400 * duration_s <= energy["hi_j"]
    assert energy["lo_j"] <= measured["avg_power_watts"] * duration_s <= energy["hi_j"]
    seconds = measured["duration_seconds"]
    assert measured["energy_low_joules"] <= 400 * seconds <= measured["energy_high_joules"]
    assert measured["energy_low_joules"] <= reported["avg_power_w"] * seconds <= measured["energy_high_joules"]
