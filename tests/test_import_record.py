"""Folders of tools/gpu/record.py: the recorder itself, run against the simulated driver, read back."""

import importlib.util
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from virtual_gpus import VirtualClock

from telemetry.collector.sources.nvml import install
from telemetry.collector.sources.simulated import SimulatedGpu, SimulatedLibrary, parse_spec
from telemetry.errors import ImportRefused, StoreError, UsageError
from telemetry.importers import ReadOptions, Recording, read_recording
from telemetry.importers.storing import store_recordings
from telemetry.join import Boards, report
from telemetry.storage.store import open_store

RECORDER = Path(__file__).parents[1] / "tools" / "gpu" / "record.py"
POWERS_W = {"small": 620, "big": 650, "decode": 300}
SCALE = 0.1


@dataclass
class Changing:
    """A value that processes share, told by the virtual clock: what it was set to last before now."""

    clock: VirtualClock
    changes: list[tuple[int, float]]

    @property
    def value(self) -> float:
        return [value for t_ns, value in self.changes if t_ns <= self.clock.t_ns][-1]

    @value.setter
    def value(self, value: float) -> None:
        self.changes.append((self.clock.t_ns, value))


def recorder(clock: VirtualClock) -> Any:
    """Return the recorder's module on a virtual clock."""
    spec = importlib.util.spec_from_file_location("record", RECORDER)
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    on_clock: Any = SimpleNamespace(
        monotonic_ns=clock.mono_ns,
        perf_counter_ns=clock.mono_ns,
        monotonic=lambda: clock.t_ns / 1e9,
        sleep=lambda seconds: clock.advance(max(seconds, 1e-6)),
    )
    module.time = on_clock  # type: ignore[attr-defined]
    return module


def write_wave(path: Path, busy: list[tuple[int, int, str]]) -> None:
    """Write the power that such work draws, as a wave for the simulator."""
    lines = ["time_s,power_w"]
    for begin_ns, end_ns, kind in busy:
        corners = [(begin_ns, 75), (begin_ns, POWERS_W[kind]), (end_ns, POWERS_W[kind]), (end_ns, 75)]
        lines += [f"{t_ns / 1e9:.9f},{power_w}" for t_ns, power_w in corners]
    path.write_text("\n".join(lines) + "\n")


@dataclass
class Recorded:
    folder: Path
    gpu: SimulatedGpu
    offset_ns: int  # from the recording's clock to the time since 1970


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    """Run the recorder's own code: first its phases, to learn what is busy when, then its poller over that."""
    folder, clock, busy = tmp_path_factory.mktemp("h200"), VirtualClock(), []
    record = recorder(clock)

    class Load(record.Load):  # type: ignore[misc, name-defined]
        def open(self) -> None:
            """Nothing to make."""

        def until(self, end_ns: int, kind: str = "small") -> None:
            busy.append((clock.t_ns, max(end_ns, clock.t_ns + 1000), kind))
            clock.t_ns = busy[-1][1]

    load, start_ns = Load(0, wanted=False), clock.t_ns
    load.torch = object()
    clock.advance(1.5)
    period_s = Changing(clock, [(0, 0.002)])
    phases = record.Phases(folder / "phases.json", load)
    record.run_phases(load, phases, period_s, SCALE)
    end_ns = clock.t_ns

    wave = folder.parent / "wave.csv"
    write_wave(wave, busy)
    spec = parse_spec(f"simulated:h200,seed=5,latency=0.2,wave=csv:{wave}")
    library = SimulatedLibrary(spec, folder, clock.mono_ns, clock.sleep)
    clock.t_ns = start_ns
    with install(library):
        (folder / "device.json").write_text(json.dumps(record.describe(0), default=str))
        record.poll(0, period_s, Changing(clock, [(0, 0), (end_ns, 1)]), folder / "readings.npz")
        told = record.summarise(folder / "readings.npz", phases.done)
        (folder / "summary.json").write_text(json.dumps(told))
        yield Recorded(folder, library.gpus[0], library._wall_offset_ns)


@pytest.fixture
def folder(recorded: Recorded, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(recorded.folder, tmp_path / "h200-2026-01-01"))


def read(path: Path, start: str | None = None) -> Recording:
    return read_recording(path, ReadOptions(start=start))


def rewrite(folder: Path, **columns: Callable[[Any], Any]) -> None:
    """Write the readings again, some columns changed."""
    with np.load(folder / "readings.npz") as archive:
        table = {name: archive[name] for name in archive.files}
    for name, change in columns.items():
        table[name] = change(table[name].copy())
    np.savez_compressed(folder / "readings.npz", **table)


def put(row: int, value: int) -> Callable[[Any], Any]:
    def change(column: Any) -> Any:
        column[row] = value
        return column

    return change


def test_every_poll_is_kept_with_its_time_latency_and_values(recorded: Recorded) -> None:
    (trace,) = read(recorded.folder).traces
    with np.load(recorded.folder / "readings.npz") as table:
        middle_ns = (table["before_ns"] + table["after_ns"]) // 2
        shift_ns = np.array([r.t_ns for r in trace.readings]) - middle_ns
        assert np.ptp(shift_ns) == 0
        assert shift_ns[0] == pytest.approx(recorded.offset_ns, abs=2_000)  # stamps are whole µs
        assert [r.latency_ns for r in trace.readings] == (table["after_ns"] - table["before_ns"]).tolist()
        assert [r.power_instant_mw for r in trace.readings] == table["instant_mw"].tolist()
        assert [r.power_average_mw for r in trace.readings] == table["average_mw"].tolist()
        assert [r.energy_mj for r in trace.readings] == table["energy_mj"].tolist()
        assert [r.memory_temp_c for r in trace.readings] == table["memory_temp_c"].tolist()


def test_the_device_is_the_one_that_was_recorded(recorded: Recorded) -> None:
    (trace,) = read(recorded.folder).traces
    device = trace.device
    assert (device.uid, device.name) == (recorded.gpu.uuid, "NVIDIA H200 (simulated)")
    assert device.simulated
    assert (device.power_limit_mw, device.vbios, device.driver) == (700_000, "51.D0.00.00.01", "580.65.06")
    assert (device.energy_path, device.integral_of) == ("counter", "instant")


def test_a_folder_and_each_of_its_files_are_the_same_recording(recorded: Recorded) -> None:
    whole = read(recorded.folder)
    assert all(read(recorded.folder / name) == whole for name in ("device.json", "phases.json", "readings.npz"))


async def test_each_phase_is_a_run_whose_bounds_hold_the_truth(recorded: Recorded, tmp_path: Path) -> None:
    told = await store_recordings(str(tmp_path / "t.db"), [read(recorded.folder)])
    assert "energy from the energy counter" in told[0]
    async with await open_store(tmp_path / "t.db") as store:
        runs = (await report(store, boards=Boards()))["runs"]
        memory = await store.fetch("SELECT count(*) FROM vitals WHERE memory_temp_c IS NOT NULL")
    phases = json.loads((recorded.folder / "phases.json").read_text())["phases"]
    assert {run["name"] for run in runs} == {phase["name"] for phase in phases}
    assert len(runs) == len(phases)
    assert memory[0][0] > 10
    by_name = {phase["name"]: phase for phase in phases}
    for run in runs:
        phase = by_name[run["name"]]
        true_j = recorded.gpu.sensor_energy_j(phase["t0_ns"], phase["t1_ns"])
        assert run["energy"]["lo_j"] <= true_j <= run["energy"]["hi_j"], run["name"]
        assert run["simulated"]
    steady = next(run for run in runs if run["name"] == "steady matrix product")
    phase = by_name["steady matrix product"]
    true_j = recorded.gpu.sensor_energy_j(phase["t0_ns"], phase["t1_ns"])
    assert steady["energy"]["value_j"] == pytest.approx(true_j, rel=0.005)


async def test_a_recording_goes_into_a_store_once(recorded: Recorded, tmp_path: Path) -> None:
    path = str(tmp_path / "t.db")
    await store_recordings(path, [read(recorded.folder)])
    with pytest.raises(StoreError, match=r"imported into .* before"):
        await store_recordings(path, [read(recorded.folder)])


async def test_readings_and_runs_go_in_together_or_not_at_all(recorded: Recorded, tmp_path: Path) -> None:
    recording = read(recorded.folder)
    twice = replace(recording, runs=(*recording.runs, recording.runs[0]))  # a run's UID is unique
    with pytest.raises(Exception, match="UNIQUE"):
        await store_recordings(str(tmp_path / "t.db"), [twice])
    async with await open_store(tmp_path / "t.db") as store:
        for table in ("reading", "vitals", "run", "session", "import_file"):
            assert (await store.fetch(f"SELECT count(*) FROM {table}"))[0][0] == 0


def test_what_the_driver_did_not_say_is_missing_and_never_zero(folder: Path) -> None:
    rewrite(folder, instant_mw=put(5, 0), average_mw=put(6, -1), average_mw_code=put(6, 3), energy_mj=put(7, -1))
    recording = read(folder)
    (trace,) = recording.traces
    assert (trace.readings[5].power_instant_mw, trace.readings[5].missing) == (None, ("power_instant:zero",))
    assert (trace.readings[6].power_average_mw, trace.readings[6].missing) == (None, ("power_average:nvml_3",))
    assert (trace.readings[7].energy_mj, trace.readings[7].missing) == (None, ("energy:range",))
    assert sum("missing" in note for note in recording.notes) == 3


def test_a_recording_without_stamps_is_dated_by_the_user(folder: Path) -> None:
    rewrite(folder, **{f"{s}_stamp_us": np.zeros_like for s in ("instant_mw", "average_mw", "energy_mj")})
    rewrite(folder, memory_temp_c_stamp_us=np.zeros_like)
    with pytest.raises(ImportRefused, match=r"the driver stamped no reading\. Give --start TIME"):
        read(folder)
    (trace,) = read(folder, start="1700000000").traces
    assert trace.readings[0].t_ns - trace.readings[0].latency_ns // 2 == 1_700_000_000_000_000_000


def test_a_recording_with_stamps_needs_no_start(recorded: Recorded) -> None:
    with pytest.raises(ImportRefused, match="leave --start out"):
        read(recorded.folder, start="1700000000")


def cut(name: str, size: int) -> Callable[[Path], None]:
    """Leave only the beginning of a file."""

    def spoil(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:size])

    return spoil


def bare_array(folder: Path) -> None:
    """Put one array where an archive of them is due."""
    np.save(folder / "a.npy", np.arange(5))
    (folder / "a.npy").replace(folder / "readings.npz")


def retell(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """Change what a JSON file says."""

    def spoil(folder: Path) -> None:
        told = json.loads((folder / name).read_text())
        change(told)
        (folder / name).write_text(json.dumps(told, indent=1))

    return spoil


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: (f / "summary.json").unlink(), r"summary.json cannot be read: .*broken off: record again"),
        (lambda f: (f / "readings.npz").unlink(), r"readings.npz cannot be read"),
        (cut("device.json", 40), r"device.json: line 1: it is no JSON"),
        (cut("phases.json", 400), r"phases.json: line \d+: it is no JSON"),
        (lambda f: (f / "device.json").write_text("[]"), r"device.json: line 1: a JSON object is expected"),
        (lambda f: (f / "device.json").write_text("[" * 100_000), r"device.json holds what no recorder writes"),
        (lambda f: (f / "summary.json").write_text('{"polls": ' + "9" * 5000 + "}"), r"holds what no recorder writes"),
        (retell("device.json", lambda t: t.update(name="\ud800")), r"device.json holds what cannot be stored"),
        (retell("device.json", lambda t: t.update(limit_mw=10**30)), r"holds what cannot be stored"),
        (retell("phases.json", lambda t: t["phases"][0].update(t1_ns=10**30)), r"phases.json holds what cannot be st"),
        (retell("phases.json", lambda t: t["phases"][0].update(t1_ns=float("inf"))), r"phase 0, .* has not a name"),
        (bare_array, r"is no NumPy archive"),
        (lambda f: rewrite(f, instant_mw=put(4, 2**32 - 1)), r"row 4, .* instant_mw is more than any device draws"),
        (lambda f: rewrite(f, energy_mj_stamp_us=put(4, 2**62)), r"row 4, .* energy_mj is stamped after the year"),
        (cut("readings.npz", 5000), r"readings.npz is no NumPy archive, or cut or damaged"),
        (lambda f: (f / "readings.npz").write_text("before,after"), r"readings.npz is no NumPy archive"),
        (lambda f: np.savez(f / "readings.npz", t=np.arange(3)), r"has no column before_ns, after_ns"),
        (lambda f: rewrite(f, energy_mj=lambda c: c[:-1]), r"column energy_mj has type int64 and shape"),
        (lambda f: rewrite(f, energy_mj=lambda c: c.astype(float)), r"column energy_mj has type float64"),
        (lambda f: rewrite(f, after_ns=put(7, 1)), r"readings.npz: row 7, .* its call ends before it begins"),
        (lambda f: rewrite(f, before_ns=put(9, 1)), r"row 9, .* time ran backwards"),
        (lambda f: rewrite(f, instant_mw=put(4, -7)), r"row 4, .* instant_mw is negative"),
        (retell("summary.json", lambda t: t.update(polls=3)), r"summary.json speaks of 3 polls and readings.npz has"),
        (retell("phases.json", lambda t: t.update(phases=None)), r"phases.json has no list of phases"),
        (retell("phases.json", lambda t: t["phases"][2].pop("t1_ns")), r"phase 2, .* has not a name, a t0_ns and"),
        (retell("phases.json", lambda t: t["phases"][2].update(t1_ns=1)), r"phase 2 \(context idle\) ends before"),
    ],
)
def test_a_damaged_recording_is_refused_with_its_file_and_place(
    folder: Path, spoil: Callable[[Path], None], words: str
) -> None:
    spoil(folder)
    with pytest.raises(ImportRefused, match=words):
        read(folder)


def test_signals_that_are_all_missing_leave_nothing_to_import(folder: Path) -> None:
    signals = ("instant_mw", "average_mw", "energy_mj")
    rewrite(folder, **{name: lambda c: np.full_like(c, -1) for name in signals})
    with pytest.raises(ImportRefused, match="neither a power nor an energy"):
        read(folder)


def test_a_recording_without_a_load_says_so(folder: Path) -> None:
    retell("phases.json", lambda told: told.update(loaded=False))(folder)
    assert any("No load was run" in note for note in read(folder).notes)


def test_a_path_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no file"):
        read(tmp_path / "nothing")
