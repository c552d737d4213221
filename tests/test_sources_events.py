"""The event log, and the power that follows it."""

import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest
from virtual_gpus import VirtualClock, opened

from telemetry.collector.sources.simulated import Energy, EventLog, EventTruth, Levels, TimeAbove, parse_spec
from telemetry.errors import UsageError

LEVELS = Levels(idle_mw=75_000, prefill_mw=650_000, decode_mw=385_000)
WORKER = """
import sys
from pathlib import Path
from telemetry.collector.sources.simulated import EventLog
log = EventLog(Path(sys.argv[1]))
for i in range(100):
    log.append("start", f"{sys.argv[2]}:{i}")
    log.append("first_token", f"{sys.argv[2]}:{i}")
    log.append("end", f"{sys.argv[2]}:{i}")
"""


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def log(tmp_path: Path, clock: VirtualClock) -> EventLog:
    return EventLog(tmp_path / "deep" / "gpu.events", mono_ns=clock.mono_ns)


def power_w(truth: EventTruth) -> float:
    return truth.power_mw(truth.now_ns()) / 1000


def test_power_follows_prefill_decode_and_end(log: EventLog, clock: VirtualClock) -> None:
    truth = EventTruth(log, LEVELS)
    seen = [power_w(truth)]
    for kind, key in (
        ("start", "7:a"),
        ("first_token", "7:a"),
        ("start", "7:b"),
        ("first_token", "7:b"),
        ("end", "7:a"),
        ("end", "7:b"),
    ):
        clock.advance(1)
        log.append(kind, key)  # type: ignore[arg-type]
        seen.append(power_w(truth))
    assert seen == [75, 650, 385, 650, 385, 385, 75]


def test_energy_is_the_sum_of_the_levels_up_to_now(log: EventLog, clock: VirtualClock) -> None:
    truth = EventTruth(log, LEVELS)
    start_ns = clock.t_ns
    before_pj = truth.total(Energy(), truth.now_ns())
    clock.advance(2)
    log.append("start", "7:a")
    clock.advance(0.5)
    log.append("first_token", "7:a")
    clock.advance(3)
    log.append("end", "7:a")
    clock.advance(1)
    now_ns = truth.now_ns()
    energy_j = (truth.total(Energy(), now_ns) - before_pj) / 1e12
    assert energy_j == pytest.approx(3 * 75 + 0.5 * 650 + 3 * 385)
    above = TimeAbove(threshold_mw=500_000)
    assert truth.total(above, now_ns) - truth.total(above, start_ns) == 500_000_000
    pieces = list(truth.pieces(start_ns + 1_000_000_000, now_ns))
    assert [piece.start_mw for piece in pieces] == [75_000, 650_000, 385_000, 75_000]
    assert sum(p.start_mw * (p.end_ns - p.start_ns) for p in pieces) / 1e12 == pytest.approx(energy_j - 75)


def test_the_log_is_what_was_applied_and_when(log: EventLog, clock: VirtualClock) -> None:
    stamps = [log.append("start", "7:a")]
    clock.advance(0.1)
    stamps.append(log.append("end", "7:a"))
    assert log.path.read_text() == f"{stamps[0]} start 7:a\n{stamps[1]} end 7:a\n"


def test_clear_ends_the_requests_of_one_process_or_of_all(log: EventLog, clock: VirtualClock) -> None:
    truth = EventTruth(log, LEVELS)
    for key in ("7:a", "7:b", "71:c"):
        log.append("start", key)
        log.append("first_token", key)
    truth.now_ns()
    assert truth.pids() == (7, 71)
    log.append("clear", "7:")
    assert power_w(truth) == 385
    assert truth.pids() == (71,)
    log.append("clear", "*")
    assert power_w(truth) == 75


def test_no_later_event_changes_what_was_answered(log: EventLog) -> None:
    """On the host's own clock, with a writer that does not wait for the reader."""
    own = EventLog(log.path)
    truth = EventTruth(EventLog(log.path), LEVELS)
    done = threading.Event()

    def write() -> None:
        for i in range(300):
            own.append("start", f"7:{i}")
            own.append("end", f"7:{i}")
        done.set()

    writer = threading.Thread(target=write)
    answered: list[tuple[int, int]] = []
    writer.start()
    while not done.is_set():
        now_ns = truth.now_ns()
        answered.append((now_ns, truth.total(Energy(), now_ns)))
    writer.join()
    truth.now_ns()
    assert [truth.total(Energy(), t_ns) for t_ns, _ in answered] == [energy for _, energy in answered]
    late = EventTruth(EventLog(log.path), LEVELS)
    late.now_ns()
    assert [late.total(Energy(), t_ns) for t_ns, _ in answered] == [energy for _, energy in answered]


def test_processes_share_one_log_and_their_stamps_are_in_order(tmp_path: Path) -> None:
    path = tmp_path / "shared.events"
    workers = [subprocess.Popen([sys.executable, "-c", WORKER, str(path), str(i)]) for i in (1, 2)]
    assert [worker.wait(timeout=60) for worker in workers] == [0, 0]
    stamps = [int(line.split()[0]) for line in path.read_text().splitlines()]
    assert len(stamps) == 600
    assert all(a <= b for a, b in pairwise(stamps))
    assert stamps[-1] <= time.monotonic_ns()
    assert power_w(EventTruth(EventLog(path), LEVELS)) == 75


@pytest.mark.parametrize(("kind", "key"), [("stop", "7:a"), ("start", ""), ("start", "7 a"), ("end", "a\nb")])
def test_what_is_no_event_is_not_written(log: EventLog, kind: str, key: str) -> None:
    with pytest.raises(UsageError, match="is no event"):
        log.append(kind, key)  # type: ignore[arg-type]
    assert log.path.read_text() == ""


@pytest.mark.parametrize(
    "line", ["time,power", "5 start", "5 jump 7:a", "-5 start 7:a", f"{10**15} start 7:a", "9 end x\n8 end y"]
)
def test_a_file_that_is_no_event_log_of_this_boot_is_refused(tmp_path: Path, clock: VirtualClock, line: str) -> None:
    path = tmp_path / "wrong.events"
    path.write_text(f"1 start 7:z\n{line}\n")
    with pytest.raises(UsageError, match=r"Line [23] of .*wrong\.events"):
        EventTruth(EventLog(path, mono_ns=clock.mono_ns), LEVELS).now_ns()


def test_half_a_line_is_left_until_it_is_whole(log: EventLog, clock: VirtualClock) -> None:
    truth = EventTruth(log, LEVELS)
    with log.path.open("a") as file:
        file.write(f"{clock.t_ns} start 7:a")
        file.flush()
        assert power_w(truth) == 75
        file.write("\n")
    assert power_w(truth) == 650


def test_every_gpu_of_every_library_follows_the_one_log(runtime_dir: Path, clock: VirtualClock) -> None:
    spec = "simulated:h200,gpus=2,gain=1,offset=0,noise=0"
    log = EventLog(parse_spec(spec).event_log_path(runtime_dir), mono_ns=clock.mono_ns)
    with opened(spec, clock, runtime_dir) as sources:
        clock.advance(2)
        assert [source.read().power_instant_mw for source in sources] == [75_000, 75_000]
        log.append("start", "4242:a")
        clock.advance(1)
        assert [source.read().power_instant_mw for source in sources] == [651_000, 651_000]
        log.append("first_token", "4242:a")
        clock.advance(1.2)
        reading = sources[0].read()
        assert reading.power_instant_mw == 385_000
        assert reading.power_average_mw == 385_000
        sensors = sources[0].read_sensors(processes=True)
        assert sensors.processes is not None
        assert [pid for pid, _ in sensors.processes] == [4242]
        assert sensors.util_gpu_pct == 100
