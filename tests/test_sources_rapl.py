"""The CPU's own energy counters, in a powercap tree made of plain files."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sensor import EPOCH_NS, Sensor, load, poll_times, record
from source_contract import Advance, SourceContract
from virtual_gpus import MS, S, VirtualClock

from telemetry.analysis import EnergyCurve, Rows, power_limits
from telemetry.clock import SteadyClock, take_anchor
from telemetry.collector.pipeline import Channel
from telemetry.collector.poller import BACK_OFF_NS, Poller
from telemetry.collector.sources import rapl
from telemetry.collector.sources.base import Source
from telemetry.collector.sources.nvml import install
from telemetry.collector.sources.nvml.driver import driver
from telemetry.collector.sources.rapl import MOST_W, RaplSource, open_rapl, rise_uj
from telemetry.collector.sources.select import open_sources
from telemetry.collector.sources.simulated import SimulatedLibrary, parse_spec
from telemetry.errors import SourceLost, SourceUnavailable
from telemetry.model import Gap

RANGE_UJ = 262_143_328_850  # of most packages: 2^32 units of 61 µJ
J = 1_000_000


class Tree:
    """A powercap folder as sysfs shows it: zones in zones, and links to all of them at the top."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "class"
        self.root.mkdir(parents=True)
        self._zones = folder / "devices"

    def add(self, number: str, name: str, energy_uj: int = 7 * J) -> Path:
        """Make zone `0`, or `0:2` in it."""
        parts = number.split(":")
        place = self._zones / "/".join(f"intel-rapl:{':'.join(parts[: i + 1])}" for i in range(len(parts)))
        place.mkdir(parents=True)
        (place / "name").write_text(f"{name}\n")
        (place / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
        (place / "energy_uj").write_text(f"{energy_uj}\n")
        (self.root / place.name).symlink_to(place)
        return place


def put(zone: Path, energy_uj: int) -> None:
    """Let a zone's counter show that, whole at any moment, as the kernel does."""
    draft = zone / "draft"
    draft.write_text(f"{energy_uj}\n")
    draft.replace(zone / "energy_uj")


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "powercap")


@pytest.fixture
def package(tree: Tree) -> Path:
    return tree.add("0", "package-0")


@pytest.fixture
def source(tree: Tree, package: Path, clock: VirtualClock) -> RaplSource:
    (found,) = open_rapl(str(tree.root), clock)
    return found


class TestRaplKeepsTheContract(SourceContract):
    """A package that draws 80 W and is about to wrap."""

    @pytest.fixture
    def source(self, tree: Tree, clock: VirtualClock, advance: Advance) -> Source:
        tree.add("0", "package-0", RANGE_UJ - 8 * J)
        (found,) = open_rapl(str(tree.root), clock)
        found.read()  # from here on it counts
        advance(0.05)
        return found

    @pytest.fixture
    def advance(self, tree: Tree, clock: VirtualClock) -> Advance:
        def advance(seconds: float) -> None:
            clock.t_ns += round(seconds * S)
            zone = tree.root / "intel-rapl:0"
            put(zone, (int((zone / "energy_uj").read_text()) + round(80 * seconds * J)) % RANGE_UJ)

        return advance


def test_packages_and_their_memory_are_devices_and_nothing_is_counted_twice(tree: Tree, clock: VirtualClock) -> None:
    for number, name in enumerate(["package-1", "package-0", "psys"]):
        tree.add(f"{number}", name)
        for part, inside in enumerate(["core", "uncore", "dram"] if number < 2 else []):
            tree.add(f"{number}:{part}", inside)
    (tree.root / "intel-rapl-mmio:0").symlink_to(tree.root / "intel-rapl:0")
    devices = [source.device for source in open_rapl(str(tree.root), clock)]
    seen = [(d.uid.split("-", maxsplit=2)[2], d.kind, d.boundary, d.index) for d in devices]
    assert seen == [
        ("package-1", "cpu", "cpu-package", 0),
        ("package-1-dram", "dram", "dram", 1),
        ("package-0", "cpu", "cpu-package", 2),
        ("package-0-dram", "dram", "dram", 3),
    ]
    assert len({d.uid for d in devices}) == 4
    assert [d.uid for d in devices] == [s.device.uid for s in open_rapl(str(tree.root), clock)]


def test_the_folder_of_zones_alone_serves_as_well_as_the_class(tree: Tree, package: Path, clock: VirtualClock) -> None:
    tree.add("0:0", "dram")
    uids = [{s.device.uid[-6:] for s in open_rapl(str(root), clock)} for root in (tree.root, package.parent)]
    assert uids[0] == uids[1] == {"kage-0", "0-dram"}


def test_files_that_no_kernel_made_are_simulated_and_those_in_sys_are_not(source: RaplSource) -> None:
    assert source.device.simulated
    assert not rapl._is_sysfs(Path("/"))
    if Path("/sys/class").is_dir():
        assert rapl._is_sysfs(Path("/sys/class"))


def test_energy_counts_from_the_first_reading_on_in_whole_millijoules(
    source: RaplSource, package: Path, clock: VirtualClock
) -> None:
    put(package, 9 * J)
    seen = []
    for rise in (0, 999, 1_000, 2_500):
        clock.t_ns += 20 * MS
        put(package, 9 * J + rise)
        seen.append(source.read().energy_mj)
    assert seen == [0, 0, 1, 2]


def test_a_wrap_is_no_restart(source: RaplSource, package: Path, clock: VirtualClock) -> None:
    total_uj = 0
    source.read()
    for _ in range(3 * 263):  # three times around at 1 kJ a poll
        clock.t_ns += 2 * S
        total_uj += 1_000 * J
        put(package, (7 * J + total_uj) % RANGE_UJ)
        assert source.read().energy_mj == total_uj // 1_000


@given(st.integers(0, RANGE_UJ - 1), st.integers(0, 200_000 * J), st.integers(0, 10**13))
def test_a_rise_is_told_exactly_or_not_at_all(before_uj: int, rose_uj: int, elapsed_ns: int) -> None:
    found = rise_uj(before_uj, (before_uj + rose_uj) % RANGE_UJ, range_uj=RANGE_UJ, elapsed_ns=elapsed_ns)
    possible = rose_uj <= MOST_W * elapsed_ns // 1_000
    surely_once = elapsed_ns < 200 * S
    assert found == rose_uj if possible and surely_once else found in (rose_uj, None)


def polled(source: Source, clock: VirtualClock, count: int, channel: Channel, poller: Poller) -> list[Gap]:
    """Poll so many times; return the gaps."""
    for _ in range(count):
        clock.t_ns += max(poller.due_ns - clock.now_ns(), 0)
        poller.step()
    return [item for _, item in channel.drain(1_000) if isinstance(item, Gap)]


@pytest.mark.parametrize(("wait_s", "energy_uj"), [(0.02, 0), (0.02, 9_000 * J), (3_600.0, 9_000 * J)])
def test_what_cannot_be_a_rise_is_a_restart_and_never_energy(
    source: RaplSource, package: Path, clock: VirtualClock, wait_s: float, energy_uj: int
) -> None:
    """A fall to 0, a leap, and an hour in which the counter may have gone around once or more."""
    channel = Channel(1_000)
    poller = Poller(source, channel, clock, period_ns=20 * MS, seed=0, start_ns=clock.now_ns())
    assert polled(source, clock, 1, channel, poller) == []
    put(package, 7 * J + J // 100)
    assert polled(source, clock, 1, channel, poller) == []
    clock.t_ns += round(wait_s * S)
    put(package, energy_uj)
    assert "counter_reset" in [gap.reason for gap in polled(source, clock, 1, channel, poller)]
    put(package, energy_uj + J // 2)
    clock.t_ns += 20 * MS
    assert source.read().energy_mj == 500


def test_a_zone_that_goes_away_is_lost_and_is_found_again_where_it_comes_back(
    tree: Tree, source: RaplSource, package: Path, clock: VirtualClock
) -> None:
    channel = Channel(1_000)
    poller = Poller(source, channel, clock, period_ns=20 * MS, seed=0, start_ns=clock.now_ns())
    assert polled(source, clock, 3, channel, poller) == []
    shutil.rmtree(package)
    assert polled(source, clock, 2, channel, poller) == []
    with pytest.raises(SourceLost, match=r"package-0 is not back yet"):
        source.reopen()
    tree.add("1", "package-0", 9 * J)
    (gap,) = polled(source, clock, 2, channel, poller)
    assert gap.reason == "lost"
    assert gap.to_ns - gap.from_ns >= BACK_OFF_NS[0]
    assert source.read().energy_mj == 2_000, "the counter went on meanwhile"


def test_no_tree_says_where_there_can_be_one(tmp_path: Path, tree: Tree, clock: VirtualClock) -> None:
    (tree.root / "intel-rapl:0").symlink_to(tmp_path / "masked")  # as container runtimes leave it
    for root in (tmp_path / "none", tree.root):
        with pytest.raises(SourceUnavailable, match=rf"^{root} shows no CPU package.*containers hide.*modprobe"):
            open_rapl(str(root), clock)


def test_a_counter_that_is_no_number_is_refused(tree: Tree, package: Path, clock: VirtualClock) -> None:
    put(package, -1)
    (package / "energy_uj").write_text("none\n")
    with pytest.raises(SourceUnavailable, match=r"cannot be read: invalid literal"):
        open_rapl(str(tree.root), clock)


def test_a_counter_without_a_range_is_refused(tree: Tree, package: Path, clock: VirtualClock) -> None:
    (package / "max_energy_range_uj").write_text("0\n")
    with pytest.raises(SourceUnavailable, match=r"intel-rapl:0 has no range"):
        open_rapl(str(tree.root), clock)


AS_NOBODY = """
import os, sys
from telemetry.clock import SteadyClock, take_anchor
from telemetry.collector.sources.rapl import open_rapl
from telemetry.errors import SourceUnavailable

if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    open_rapl(sys.argv[1], SteadyClock(take_anchor()))
except SourceUnavailable as error:
    print(error)
"""


def test_counters_that_are_roots_say_how_they_can_be_opened(clock: VirtualClock) -> None:
    """In a process of its own, as another user where this one is root, to whom nothing is closed."""
    with TemporaryDirectory() as place:  # pytest's own folders are closed to others
        Path(place).chmod(0o755)
        tree = Tree(Path(place))
        (tree.add("0", "package-0") / "energy_uj").chmod(0o400 if os.geteuid() == 0 else 0)
        command = [sys.executable, "-c", AS_NOBODY, str(tree.root)]
        words = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert words.startswith(f"{tree.root}/intel-rapl:0/energy_uj is closed to this user")
    assert f"chmod o+r {tree.root}/intel-rapl:*/energy_uj {tree.root}/intel-rapl:*/intel-rapl:*/energy_uj" in words


# From the counter to a run's joules.


@pytest.mark.parametrize(("seconds", "half_width", "off"), [(1, 0.035, 0.02), (10, 0.0035, 0.002)])
def test_polls_alone_enclose_a_counter_of_each_millisecond_though_no_limit_of_power_is_known(
    seconds: int, half_width: float, off: float
) -> None:
    """200 W from mark to mark, 40 W around; shares of the energy."""
    truth = load([(seconds, 200)], idle_w=40)
    limits = power_limits(limit_w=None, min_instant_w=None, max_instant_w=None, name="AMD EPYC package-0")
    t0, t1 = np.array([EPOCH_NS]), np.array([EPOCH_NS + seconds * S])
    for seed in range(30):
        times_ns = poll_times(-3 * S, (seconds + 3) * S, seed=seed)
        rows = record(Sensor(truth=truth, period_ns=MS, counter_phase_ns=0), times_ns, seed=seed).rows
        energy = EnergyCurve.of(Rows.of(rows), path="counter", limits=limits).energy(t0, t1).at(0)
        assert energy.value is not None
        assert energy.lo is not None
        assert energy.hi is not None
        assert energy.lo <= 200 * seconds <= energy.hi
        assert energy.hi - energy.lo <= 2 * half_width * 200 * seconds
        assert energy.value == pytest.approx(200 * seconds, rel=off)


class Load:
    """A package that idles at 1 W, and on `go` spends 50 J more, in a thread."""

    BURST_J = 50.0

    def __init__(self, zone: Path, folder: Path) -> None:
        self._zone = zone
        self.go, self.done = folder / "go", folder / "done"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._spend)

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _spend(self) -> None:
        began, burst_j = time.monotonic(), 0.0
        while not self._stop.wait(0.002):
            if self.go.exists() and burst_j < self.BURST_J:
                burst_j += 0.5
            if burst_j == self.BURST_J:
                self.done.touch()
            spent_uj = round((time.monotonic() - began + burst_j) * J)
            put(self._zone, (RANGE_UJ - 25 * J + spent_uj) % RANGE_UJ)  # it wraps in the burst


def test_a_run_on_the_cpu_has_its_joules_within_its_bounds(tree: Tree, package: Path, tmp_path: Path) -> None:
    with Load(package, tmp_path) as burst:
        work = f"sleep 0.5; touch {burst.go}; while [ ! -e {burst.done} ]; do sleep 0.05; done; sleep 0.5"
        command = [sys.executable, "-m", "telemetry.cli", "collect", "--source", f"rapl:{tree.root}", "--interval"]
        subprocess.run([*command, "0.005", "--", "sh", "-c", work], check=True, timeout=60)
    shown = subprocess.run(
        [sys.executable, "-m", "telemetry.cli", "report", "--format", "json"],
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip
    (run,) = json.loads(shown)["runs"]
    truth_j = burst.BURST_J + run["duration_s"]
    assert run["boundary"] == "cpu-package"
    assert run["simulated"]
    assert run["energy"]["lo_j"] <= truth_j <= run["energy"]["hi_j"]
    assert run["energy"]["value_j"] == pytest.approx(truth_j, abs=1.0)
    assert run["energy"]["method"] == "counter-plateau"
    with closing(sqlite3.connect(os.environ["TELEMETRY_STORE"])) as connection:
        ((value_j,),) = connection.execute("SELECT energy_j FROM v_run_energy")
    assert value_j == pytest.approx(truth_j, abs=1.0)


def test_gpu_and_cpu_stand_side_by_side_each_with_its_own_boundary(tree: Tree, package: Path, tmp_path: Path) -> None:
    clock = SteadyClock(take_anchor())
    with install(SimulatedLibrary(parse_spec("simulated:h200"), tmp_path, time.monotonic_ns, time.sleep)):
        sources = open_sources(f"nvml,rapl:{tree.root}", "all", clock, tmp_path)
        seen = [(source.device.kind, source.device.boundary) for source in sources]
        assert seen == [("gpu", "gpu-board"), ("cpu", "cpu-package")]
        for source in sources:
            source.close()
        with pytest.raises(SourceUnavailable, match="shows no CPU package"):
            open_sources(f"nvml,rapl:{tmp_path}/none", "all", clock, tmp_path)
    assert driver._users == 0, "the GPUs were let go of"


def test_doctor_tells_of_the_cpu_whether_it_is_the_source_or_not(tree: Tree, package: Path) -> None:
    seen = []
    for source in (f"rapl:{tree.root}", "simulated"):
        command = [sys.executable, "-m", "telemetry.cli", "doctor", "--source", source, "--format", "json"]
        shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
        seen.append({check["what"]: check for check in json.loads(shown)["checks"]})
    ((name, there),) = [(what, check) for what, check in seen[0].items() if what.endswith("package-0")]
    assert there["state"] == "yes"
    assert "cpu-package, energy from the counter, power signal none" in there["detail"], name
    assert "CPU energy (RAPL)" in seen[1].keys() - seen[0].keys()
