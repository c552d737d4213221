"""A recording played back as a source: what it answers, when, and when it stops."""

from pathlib import Path

import pytest
from source_contract import Advance, SourceContract

from telemetry.collector.sources.base import Source
from telemetry.collector.sources.replay import open_replay
from telemetry.errors import ImportRefused, SourceBusy, SourceEnded, UsageError
from telemetry.importers import ReadOptions, read_nvidia_smi

DATA = Path(__file__).parent / "data"
OPENED_NS = 1_800_000_000_000_000_000
HEADER = "timestamp, index, temperature.gpu, power.draw.instant [W], total_energy_consumption [mJ]\n"


class VirtualClock:
    """A clock that stands where it is put."""

    def __init__(self, t_ns: int) -> None:
        self.t_ns = t_ns

    def now_ns(self) -> int:
        """Return the time now, ns."""
        return self.t_ns

    def go_to(self, seconds: float) -> None:
        """Stand this long after opening, s."""
        self.t_ns = OPENED_NS + round(seconds * 1e9)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(OPENED_NS)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Two GPUs; the second begins 0.25 s late and ends 0.5 s early."""
    path = tmp_path / "two.csv"
    path.write_text(
        HEADER
        + "2025/03/01 12:00:00.000, 0, 40, 100.00, 1000\n"
        + "2025/03/01 12:00:00.250, 1, 50, 200.00, 5000\n"
        + "2025/03/01 12:00:00.500, 0, 41, 110.00, 1055\n"
        + "2025/03/01 12:00:00.500, 1, 51, [N/A], 5050\n"
        + "2025/03/01 12:00:01.000, 0, 42, 0.00, 1111\n"
    )
    return path


class TestReplayKeepsTheContract(SourceContract):
    """The A100 recording, 13 s long."""

    @pytest.fixture
    def source(self, clock: VirtualClock) -> Source:
        return open_replay(str(DATA / "oxford_a100_50ms_square.csv"), clock)[0]

    @pytest.fixture
    def advance(self, clock: VirtualClock) -> Advance:
        def advance(seconds: float) -> None:
            clock.t_ns += round(seconds * 1e9)

        return advance


class TestReplayOfACounterKeepsTheContract(TestReplayKeepsTheContract):
    """A recording with the device's own counter."""

    @pytest.fixture
    def source(self, clock: VirtualClock, recording: Path) -> Source:
        return open_replay(str(recording), clock)[0]


def test_a_reading_is_the_last_recorded_row_stamped_with_the_time_now(recording: Path, clock: VirtualClock) -> None:
    first, second = open_replay(str(recording), clock)
    seen = []
    for seconds in (0.0, 0.499, 0.5, 0.75, 1.0):
        clock.go_to(seconds)
        reading = first.read()
        assert reading.t_ns == clock.t_ns
        assert reading.latency_ns == 0
        seen.append((reading.power_instant_mw, reading.energy_mj))
    assert seen == [(100_000, 1000), (100_000, 1000), (110_000, 1055), (110_000, 1055), (None, 1111)]
    clock.go_to(0.3)
    assert second.read().power_instant_mw == 200_000


def test_devices_keep_their_places_in_the_recording(recording: Path, clock: VirtualClock) -> None:
    _, second = open_replay(str(recording), clock)
    clock.go_to(0.249)
    with pytest.raises(SourceBusy, match="nothing of it yet"):
        second.read()
    clock.go_to(0.25)
    assert second.read().power_instant_mw == 200_000


def test_what_was_missing_in_the_recording_is_missing_in_the_replay(recording: Path, clock: VirtualClock) -> None:
    first, second = open_replay(str(recording), clock)
    clock.go_to(0.5)
    assert second.read().missing == ("power_instant:absent",)
    clock.go_to(1.0)
    assert first.read().missing == ("power_instant:zero",)


def test_a_replay_ends_after_its_last_row_each_device_for_itself(recording: Path, clock: VirtualClock) -> None:
    first, second = open_replay(str(recording), clock)
    clock.go_to(0.5)
    second.read()
    clock.t_ns += 1
    first.read()
    with pytest.raises(SourceEnded, match="played to its end"):
        second.read()
    with pytest.raises(SourceEnded):
        second.read_sensors(processes=False)
    clock.go_to(60.0)
    with pytest.raises(SourceEnded):
        first.read()


def test_slow_values_are_replayed_too(recording: Path, clock: VirtualClock) -> None:
    first, second = open_replay(str(recording), clock)
    assert second.read_sensors(processes=True).temperature_c is None
    seen = []
    for seconds in (0.0, 0.4, 0.6, 1.0):
        clock.go_to(seconds)
        sensors = first.read_sensors(processes=True)
        assert sensors.processes is None
        seen.append(sensors.temperature_c)
    assert seen == [40, 40, 41, 42]


def test_a_replayed_device_says_that_it_is_one(recording: Path, clock: VirtualClock) -> None:
    recorded = [trace.device for trace in read_nvidia_smi(recording, ReadOptions(tz="UTC")).traces]
    replayed = [source.device for source in open_replay(f"{recording},tz=UTC", clock)]
    assert [d.uid for d in replayed] == [f"replay:{d.uid}" for d in recorded]
    assert [d.name for d in replayed] == ["GPU 0 (imported) (replayed)", "GPU 1 (imported) (replayed)"]
    assert [(d.index, d.has_counter, d.integral_of) for d in replayed] == [
        (d.index, d.has_counter, d.integral_of) for d in recorded
    ]


def test_the_zone_reaches_the_reading_of_the_file(tmp_path: Path, clock: VirtualClock) -> None:
    """Across the change of the clocks 00:59:59 to 02:00:00 was one second, not an hour and one."""
    path = tmp_path / "spring.csv"
    path.write_text("timestamp, power.draw [W]\n2025/03/30 00:59:59.000, 100.00\n2025/03/30 02:00:00.000, 200.00\n")
    (source,) = open_replay(f"{path},tz=Europe/London", clock)
    clock.go_to(1.0)
    assert source.read().power_average_mw == 200_000


def test_polling_a_real_recording_at_its_own_times_gives_it_back(clock: VirtualClock) -> None:
    path = DATA / "oxford_a100_50ms_square.csv"
    (trace,) = read_nvidia_smi(path, ReadOptions()).traces
    (source,) = open_replay(str(path), clock)
    for recorded in trace.readings:
        clock.t_ns = OPENED_NS + recorded.t_ns - trace.readings[0].t_ns
        assert source.read().power_instant_mw == recorded.power_instant_mw


def test_closing_twice_and_reopening_do_no_harm(recording: Path, clock: VirtualClock) -> None:
    sources: list[Source] = open_replay(str(recording), clock)
    for source in sources:
        source.reopen()
        source.close()
        source.close()
    assert sources[0].read().power_instant_mw == 100_000


@pytest.mark.parametrize("argument", ["", "nowhere.csv", "nowhere.csv,speed=2"])
def test_a_replay_of_no_file_says_what_is_expected(argument: str, clock: VirtualClock) -> None:
    with pytest.raises(UsageError, match=r"is no file.*replay:PATH\[,tz=\+01:00\]"):
        open_replay(argument, clock)


def test_a_file_that_cannot_be_imported_cannot_be_replayed(tmp_path: Path, clock: VirtualClock) -> None:
    path = tmp_path / "cut.csv"
    path.write_text("timestamp, power.draw [W]\n2025/03/01 12:00:00.000, 100.00\n2025/03/01 12:0")
    with pytest.raises(ImportRefused, match="line 3"):
        open_replay(str(path), clock)
