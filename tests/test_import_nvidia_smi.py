"""Reading `nvidia-smi --query-gpu` files: what must come out, and what must be refused."""

import gzip
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.errors import ImportRefused, UsageError
from telemetry.importers import ReadOptions, Recording, Trace, read_nvidia_smi
from telemetry.importers.columns import ALIASES, REASON_BITS
from telemetry.importers.gpus import rows_per_loop

DATA = Path(__file__).parent / "data"
DOCS = Path(__file__).parent.parent / "docs" / "import.md"
NOTHING_GIVEN = ReadOptions(
    tz=None, columns=None, gpus=None, interval_s=None, start=None, power_col=None, power_unit=None
)
UTC_GIVEN = replace(NOTHING_GIVEN, tz="UTC")
HEADER = "timestamp, index, power.draw [W]"


def epoch_ns(text: str) -> int:
    """Return ns since the epoch of an ISO time that is UTC, by way of the standard library alone."""
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000) * 1_000_000


def read(folder: Path, content: str | bytes, options: ReadOptions = UTC_GIVEN) -> Recording:
    """Write a file and read it."""
    path = folder / "gpu.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_nvidia_smi(path, options)


def rows(*lines: str, header: str = HEADER) -> str:
    """Return a whole file."""
    return "".join(f"{line}\n" for line in (header, *lines))


def stamp(second: float) -> str:
    """Return a stamp of nvidia-smi's, some seconds into a minute."""
    return f"2025/03/01 12:00:{second:06.3f}"


def watts(trace: Trace) -> list[float | None]:
    """Return the averaged power of a trace, W."""
    return [None if r.power_average_mw is None else r.power_average_mw / 1000 for r in trace.readings]


def energy_j(trace: Trace, field: str, from_ns: int, to_ns: int) -> float:
    """Trapezoid over the polled rows, edges interpolated: the reference that needs no other code."""
    points = [(r.t_ns, getattr(r, field)) for r in trace.readings]
    total = 0.0
    for (t0, p0), (t1, p1) in pairwise(points):
        a, b = max(t0, from_ns), min(t1, to_ns)
        if a < b:
            slope = (p1 - p0) / (t1 - t0)
            total += (2 * p0 + slope * (a - t0 + b - t0)) / 2 * (b - a)
    return total / 1e12  # mW · ns


def edges_ns(name: str) -> list[int]:
    """Return the published edges of a load, ns."""
    lines = (DATA / name).read_text().split()[1:]
    return [int(line) * 1000 for line in lines[::2]]


# Real files.


def test_the_rtx4090_recording_holds_its_published_energies() -> None:
    recording = read_nvidia_smi(DATA / "oxford_rtx4090_transient.csv", ReadOptions(tz="+01:00"))
    (trace,) = recording.traces
    first, middle, last = edges_ns("oxford_rtx4090_transient_edges.csv")
    assert len(trace.readings) == 2311
    assert trace.device.integral_of == "power.draw"
    assert energy_j(trace, "power_average_mw", first, last) == pytest.approx(2622.30, rel=1e-3)
    assert energy_j(trace, "power_average_mw", first, middle) == pytest.approx(2254.00, rel=1e-3)
    assert energy_j(trace, "power_average_mw", middle, last) == pytest.approx(368.30, rel=1e-3)


def test_the_a100_recording_holds_its_published_energies_in_both_columns() -> None:
    recording = read_nvidia_smi(DATA / "oxford_a100_50ms_square.csv", ReadOptions(tz="Europe/London"))
    (trace,) = recording.traces
    edges = edges_ns("oxford_a100_50ms_square_edges.csv")
    assert trace.device.integral_of == "power.draw.instant"
    assert energy_j(trace, "power_average_mw", edges[0], edges[-1]) == pytest.approx(1024.87, rel=1e-5)
    assert energy_j(trace, "power_instant_mw", edges[0], edges[-1]) == pytest.approx(1024.96, rel=1e-5)


def test_the_gzipped_v100_recording_is_read_whole() -> None:
    recording = read_nvidia_smi(DATA / "oxford_v100.csv.gz", ReadOptions())
    (trace,) = recording.traces
    first, last = trace.readings[0].t_ns, trace.readings[-1].t_ns
    assert len(trace.readings) == 20_542
    assert (last - first) / 1e9 == pytest.approx(202.092, abs=1e-9)
    assert energy_j(trace, "power_average_mw", first, last) == pytest.approx(31_720.18, rel=1e-6)
    assert energy_j(trace, "power_instant_mw", first, last) == pytest.approx(31_703.75, rel=1e-6)


def test_gpus_are_told_apart_by_the_column_whose_values_go_round_whatever_it_is_called() -> None:
    recording = read_nvidia_smi(DATA / "multi_gpu_iso8601_loop.csv", ReadOptions())
    assert [trace.device.index for trace in recording.traces] == list(range(8))
    assert [len(trace.readings) for trace in recording.traces] == [6, 6, 6, 5, 5, 5, 5, 5]
    assert watts(recording.traces[7])[:2] == [73.43, 73.43]
    assert recording.traces[0].readings[0].t_ns == epoch_ns("2025-09-08T09:26:50")
    assert recording.traces[0].device.memory_bytes == 81_559 * 2**20
    assert recording.tz_given
    assert any("column gpu" in note and "not by index" in note for note in recording.notes)
    assert any("3 of 8 GPUs" in note for note in recording.notes)


def test_watts_without_time_are_refused_and_the_refusal_says_what_to_give() -> None:
    path = DATA / "watts_only_no_timestamps.csv"
    with pytest.raises(ImportRefused, match=r"257 numbers, no header, no time: give --columns power\.draw --interval"):
        read_nvidia_smi(path, ReadOptions())
    given_ = ReadOptions(columns="power.draw", interval_s=0.1, start="1700000000.5")
    (trace,) = read_nvidia_smi(path, given_).traces
    assert len(trace.readings) == 257
    assert trace.readings[0].t_ns == 1_700_000_000_500_000_000
    assert trace.readings[256].t_ns - trace.readings[0].t_ns == 25_600_000_000
    assert sum(w or 0 for w in watts(trace)) / 257 == pytest.approx(42.7709, abs=1e-4)


# Spellings.


@pytest.mark.parametrize(
    ("header", "cell"),
    [
        ("power.draw [W]", "46.19"),
        ("power.draw [W]", "46.19 W"),
        ("power.draw", "46.19 W"),
        ("power.draw", "46.19"),
        ("Power.Draw[mW]", "46190"),
        ("power.draw", "46190 mW"),
        ("power.draw [W]", '"46.19"'),
        ("power.draw.average [W]", "46.19 W"),
    ],
)
def test_a_unit_may_stand_in_the_header_in_the_cell_or_nowhere(tmp_path: Path, header: str, cell: str) -> None:
    text = rows(f"{stamp(0)}, {cell}", f"{stamp(1)},{cell}", header=f"timestamp, {header}")
    (trace,) = read(tmp_path, text).traces
    assert watts(trace) == [46.19, 46.19]


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: text.encode("utf-8-sig"),
        lambda text: text.replace("\n", "\r\n").encode("utf-16"),
        lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: text.replace(", ", ",").encode(),
        lambda text: gzip.compress(text.encode()),
        lambda text: text.rstrip("\n").encode(),
        lambda text: text.replace("\n", "\r\n").encode()[:-1],
        lambda text: f"\n{text}\n\n".encode(),
        lambda text: (text + text.splitlines()[0] + "\n").encode(),
    ],
    ids=["bom", "utf16", "utf16be", "crlf", "tight", "gzip", "no-end", "no-lf", "blanks", "header-again"],
)
def test_the_same_rows_come_out_of_every_encoding(tmp_path: Path, encode: Callable[[str], bytes]) -> None:
    text = rows(f"{stamp(0)}, 0, 46.19", f"{stamp(0.1)}, 0, 47.20", f"{stamp(0.2)}, 0, 48.21")
    (trace,) = read(tmp_path, encode(text)).traces
    assert watts(trace) == [46.19, 47.2, 48.21]
    assert trace.readings[2].t_ns == epoch_ns("2025-03-01T12:00:00.200")


@pytest.mark.parametrize(
    "cell",
    [
        *("[N/A]", "N/A", "[Not Supported]", "[Unknown Error]", "[GPU is lost]", "-", "", "nan"),
        *("9223372036854775792", "2147483632", "140737488355328"),
    ],
)
def test_what_was_not_measured_is_none_and_never_zero(tmp_path: Path, cell: str) -> None:
    header = "timestamp, power.draw [W], temperature.gpu, power.draw.instant [W]"
    text = rows(f"{stamp(0)}, {cell}, {cell}, 50.00", f"{stamp(1)}, 40.00, 30, 50.00", header=header)
    recording = read(tmp_path, text)
    (trace,) = recording.traces
    assert watts(trace) == [None, 40.0]
    assert trace.readings[0].missing == ("power_average:absent",)
    assert trace.readings[1].missing == ()
    assert [sensors.temperature_c for _, sensors in trace.sensors] == [None, 30]


def test_a_board_that_draws_no_power_at_all_did_not_answer(tmp_path: Path) -> None:
    text = rows(f"{stamp(0)}, 0, 0.00 W", f"{stamp(1)}, 0, 40.00 W")
    recording = read(tmp_path, text)
    assert watts(recording.traces[0]) == [None, 40.0]
    assert recording.traces[0].readings[0].missing == ("power_average:zero",)
    assert any("1 of 2 values of power.draw are missing" in note for note in recording.notes)


def test_a_counter_that_stands_at_nothing_did_not_answer(tmp_path: Path) -> None:
    header = "timestamp, power.draw [W], total_energy_consumption [mJ]"
    (trace,) = read(tmp_path, rows(f"{stamp(0)}, 50, 0", f"{stamp(1)}, 50, 700", header=header)).traces
    assert [r.energy_mj for r in trace.readings] == [None, 700]
    assert trace.device.has_counter
    for nothing in ("0", "[N/A]"):
        (trace,) = read(tmp_path, rows(f"{stamp(0)}, 50, {nothing}", header=header)).traces
        assert not trace.device.has_counter


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        *(("power.draw [W]", cell) for cell in ("1e9 W", "4294967.29 W", "2147483.63", "99999 W", "1e300")),
        *(("power.draw", cell) for cell in ("99999 W", "4294967.29", "1e17")),
        *(("temperature.gpu", "1e10"), ("utilization.gpu [%]", "1e12 %"), ("clocks.sm [MHz]", "1e30 MHz")),
        *(("memory.used [MiB]", "1e18"), ("memory.total [MiB]", "1e300"), ("power.limit [W]", "4294967.29 W")),
        *(("total_energy_consumption [mJ]", "18446744073709551615"), ("clocks_event_reasons.active", "-0x1")),
        ("clocks_event_reasons.active", "0xFFFFFFFFFFFFFFFF"),
    ],
)
def test_more_than_any_device_reports_is_refused_with_its_line(tmp_path: Path, column: str, cell: str) -> None:
    text = rows(f"{stamp(0)}, 50.00, {cell}", header=f"timestamp, power.draw.instant [W], {column}")
    with pytest.raises(ImportRefused, match=r"line 2: .*(more than any device|no device) reports"):
        read(tmp_path, text)


def test_a_total_memory_that_is_no_number_is_refused_with_its_line(tmp_path: Path) -> None:
    header = "timestamp, power.draw [W], memory.total [MiB]"
    with pytest.raises(ImportRefused, match=r"line 2: memory\.total is 'x', which is no number"):
        read(tmp_path, rows(f"{stamp(0)}, 50.00, x", header=header))


def test_instant_power_is_integrated_before_average_before_plain(tmp_path: Path) -> None:
    header = "timestamp, power.draw, power.draw.average, power.draw.instant"
    text = rows(f"{stamp(0)}, 1, 2, 3", f"{stamp(1)}, 1, 2, 3", header=header)
    (trace,) = read(tmp_path, text).traces
    assert trace.device.integral_of == "power.draw.instant"
    assert (trace.readings[0].power_average_mw, trace.readings[0].power_instant_mw) == (2000, 3000)
    (trace,) = read(tmp_path, text, replace(UTC_GIVEN, power_col="power.draw")).traces
    assert trace.device.integral_of == "power.draw"
    assert (trace.readings[0].power_average_mw, trace.readings[0].power_instant_mw) == (1000, 3000)
    (trace,) = read(tmp_path, text.replace(", 3", ", [N/A]")).traces
    assert trace.device.integral_of == "power.draw.average"


def test_another_column_is_power_when_the_user_says_so(tmp_path: Path) -> None:
    text = rows(f"{stamp(0)}, 45", f"{stamp(1)}, 55", header="timestamp, board")
    with pytest.raises(ImportRefused, match=r"no power column among: timestamp, board.*--power-col"):
        read(tmp_path, text)
    (trace,) = read(tmp_path, text, replace(UTC_GIVEN, power_col="Board")).traces
    assert (trace.device.integral_of, watts(trace)) == ("board", [45, 55])
    with pytest.raises(UsageError, match="'gpu0', which is no column"):
        read(tmp_path, text, replace(UTC_GIVEN, power_col="gpu0"))


@pytest.mark.parametrize(("unit", "cell"), [("mJ", "2500000"), ("J", "2500"), ("MJ", "0.0025")])
def test_a_counter_is_read_in_the_unit_that_its_header_names(tmp_path: Path, unit: str, cell: str) -> None:
    header = f"timestamp, power.draw [W], total_energy_consumption [{unit}]"
    (trace,) = read(tmp_path, rows(f"{stamp(0)}, 50, {cell}", f"{stamp(1)}, 50, {cell}", header=header)).traces
    assert trace.device.has_counter
    assert trace.readings[0].energy_mj == 2_500_000
    with pytest.raises(ImportRefused, match=r"names no unit.*\[mJ\]"):
        read(tmp_path, rows(f"{stamp(0)}, 50, {cell}", header=header.replace(f" [{unit}]", "")))


def test_slow_values_are_kept_when_they_change_and_once_a_second(tmp_path: Path) -> None:
    header = (
        "timestamp, power.draw [W], temperature.gpu, memory.used [MiB], utilization.gpu [%], "
        "utilization.memory [%], clocks.current.sm [MHz], clocks.mem [MHz], enforced.power.limit [W], "
        "clocks_throttle_reasons.active"
    )
    steady = "50.00 W, 40, 4 MiB, 7 %, 3 %, 1410 MHz, 1215 MHz, 400.00 W, 0x0000000000000004"
    lines = [f"{stamp(tenth / 10)}, {steady}" for tenth in range(17)]
    lines[5] = lines[5].replace(", 40,", ", 41,")
    (trace,) = read(tmp_path, rows(*lines, header=header)).traces
    begin = trace.readings[0].t_ns
    assert [(t - begin) // 100_000_000 for t, _ in trace.sensors] == [0, 5, 6, 16]
    assert len(trace.readings) == 17
    values = trace.sensors[0][1]
    assert (values.temperature_c, values.memory_used_bytes, values.util_gpu_pct) == (40, 4 * 2**20, 7)
    assert (values.util_memory_pct, values.clock_sm_mhz, values.clock_memory_mhz) == (3, 1410, 1215)
    assert (values.power_limit_mw, values.throttle_reasons) == (400_000, 4)
    assert trace.device.power_limit_mw == 400_000
    assert trace.sensors[1][1].temperature_c == 41


@pytest.mark.parametrize("family", ["clocks_throttle_reasons", "clocks_event_reasons"])
def test_single_throttle_reasons_make_the_bit_mask_under_their_old_and_new_names(tmp_path: Path, family: str) -> None:
    header = f"timestamp, power.draw [W], {family}.hw_slowdown, {family}.sw_power_cap"
    text = rows(
        f"{stamp(0)}, 50, Active, Not Active",
        f"{stamp(1)}, 50, Active, Active",
        f"{stamp(2)}, 50, [N/A], [N/A]",
        header=header,
    )
    (trace,) = read(tmp_path, text).traces
    assert [sensors.throttle_reasons for _, sensors in trace.sensors] == [0x8, 0xC, None]


# Time.


@pytest.mark.parametrize(
    ("text", "tz", "utc"),
    [
        ("2023/07/08 19:28:27.236", "+01:00", "2023-07-08T18:28:27.236"),
        ("2023/07/08 19:28:27.236", "-0730", "2023-07-09T02:58:27.236"),
        ("2023/07/08 19:28:27.236", "Europe/Berlin", "2023-07-08T17:28:27.236"),
        ("2023/01/08 19:28:27.236", "Europe/Berlin", "2023-01-08T18:28:27.236"),
        ("2023-07-08T19:28:27+02:00", "-05:00", "2023-07-08T17:28:27"),
        ("2023-07-08T19:28:27Z", None, "2023-07-08T19:28:27"),
        ("2023-07-08 19:28:27.5", "UTC", "2023-07-08T19:28:27.5"),
    ],
)
def test_a_stamp_is_read_in_its_own_zone_else_in_the_one_given(
    tmp_path: Path, text: str, tz: str | None, utc: str
) -> None:
    recording = read(tmp_path, rows(f"{text}, 0, 50.00"), replace(NOTHING_GIVEN, tz=tz))
    assert recording.traces[0].readings[0].t_ns == epoch_ns(utc)
    assert recording.tz_given


def test_stamps_without_any_zone_are_read_as_utc_and_the_recording_says_so(tmp_path: Path) -> None:
    recording = read(tmp_path, rows(f"{stamp(0)}, 0, 50.00"), NOTHING_GIVEN)
    assert recording.traces[0].readings[0].t_ns == epoch_ns("2025-03-01T12:00:00")
    assert not recording.tz_given
    assert any("read as UTC" in note for note in recording.notes)


@pytest.mark.parametrize(
    ("local", "word", "offset"),
    [
        ("2025/10/26 02:30:00.000", "twice", r"--tz \+01:00 or --tz \+02:00"),
        ("2025/03/30 02:30:00.000", "never", r"--tz \+02:00 or --tz \+01:00"),
    ],
)
def test_a_local_time_that_was_twice_or_never_is_refused(tmp_path: Path, local: str, word: str, offset: str) -> None:
    text = rows(f"{local}, 0, 50.00")
    with pytest.raises(ImportRefused, match=f"line 2: .* was {word} in Europe/Berlin.*{offset}"):
        read(tmp_path, text, ReadOptions(tz="Europe/Berlin"))
    assert read(tmp_path, text, ReadOptions(tz="+01:00")).traces


@pytest.mark.parametrize("text", ["", "1900/01/01 00:00:00", "9999/12/31 23:59:59.999", "0001/01/01 00:00:00"])
def test_a_time_that_cannot_be_is_refused_also_in_the_first_row(tmp_path: Path, text: str) -> None:
    with pytest.raises(ImportRefused, match="line 2: its time is"):
        read(tmp_path, rows(f"{text}, 0, 50.00", f"{stamp(1)}, 0, 50.00"))


@pytest.mark.parametrize("given", [{"start": "99999999999999"}, {"start": "9" * 5000}, {"interval_s": 1e300}])
def test_times_given_that_cannot_be_are_refused(tmp_path: Path, given: dict[str, Any]) -> None:
    found: dict[str, Any] = {"columns": "power.draw", "interval_s": 1.0} | given
    options = replace(NOTHING_GIVEN, **found)
    with pytest.raises((ImportRefused, UsageError), match=r"its time is|time is '9"):
        read(tmp_path, "50.0\n51.0\n", options)


@pytest.mark.parametrize("tz", ["Mars/Olympus", "+1", "+99:00", ""])
def test_a_zone_that_does_not_exist_is_an_error_of_usage(tmp_path: Path, tz: str) -> None:
    with pytest.raises(UsageError, match="time zone"):
        read(tmp_path, rows(f"{stamp(0)}, 0, 50.00"), ReadOptions(tz=tz))


def test_of_rows_with_one_time_the_last_stays(tmp_path: Path) -> None:
    text = rows(f"{stamp(0)}, 0, 1.00", f"{stamp(0)}, 0, 2.00", f"{stamp(1)}, 0, 3.00")
    recording = read(tmp_path, text)
    assert watts(recording.traces[0]) == [2.0, 3.0]
    assert any(note.startswith("1 rows were replaced") for note in recording.notes)


def test_time_that_runs_backwards_is_refused_with_its_line(tmp_path: Path) -> None:
    text = rows(f"{stamp(5)}, 0, 50.00", f"{stamp(5)}, 1, 50.00", f"{stamp(3)}, 0, 50.00")
    with pytest.raises(ImportRefused, match="line 4: its time is 2 s before the row above"):
        read(tmp_path, text)
    apart = rows(f"{stamp(5)}, 0, 50.00", f"{stamp(3)}, 1, 50.00")
    assert len(read(tmp_path, apart).traces) == 2


def test_a_file_with_times_of_its_own_takes_no_others(tmp_path: Path) -> None:
    with pytest.raises(ImportRefused, match="leave --interval and --start out"):
        read(tmp_path, rows(f"{stamp(0)}, 0, 50.00"), replace(UTC_GIVEN, interval_s=1.0))


@pytest.mark.parametrize("nonsense", [{"gpus": 0}, {"interval_s": 0.0}, {"interval_s": float("nan")}])
def test_numbers_that_make_no_sense_are_errors_of_usage(tmp_path: Path, nonsense: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=r"--gpus is 0|--interval is"):
        read(tmp_path, "50.0\n", ReadOptions(columns="power.draw", **nonsense))  # type: ignore[arg-type]


def test_a_zone_that_no_stamp_needed_is_noted(tmp_path: Path) -> None:
    recording = read(tmp_path, rows("2023-07-08T19:28:27Z, 0, 50.00"), ReadOptions(tz="+01:00"))
    assert recording.notes == ("The times carry their own offsets, so --tz +01:00 was not used.",)


# Whose row is it?


def test_a_uuid_names_the_device_and_the_index_only_numbers_it(tmp_path: Path) -> None:
    header = "timestamp, index, uuid, name, driver_version, power.draw [W]"
    text = rows(
        f"{stamp(0)}, 1, GPU-b, NVIDIA H200, 570.1, 20.00 W",
        f"{stamp(0)}, 0, GPU-a, NVIDIA H200, 570.1, 10.00 W",
        header=header,
    )
    first, second = (trace.device for trace in read(tmp_path, text).traces)
    assert (first.uid, first.index, first.name, first.driver) == ("GPU-a", 0, "NVIDIA H200", "570.1")
    assert (second.uid, second.index) == ("GPU-b", 1)


def test_a_uuid_names_the_device_where_its_index_is_missing(tmp_path: Path) -> None:
    lines = [f"{stamp(second)}, {index}, GPU-b, 20.00" for second, index in enumerate(("[N/A]", "0", "0"))]
    (trace,) = read(tmp_path, rows(*lines, header="timestamp, index, uuid, power.draw [W]")).traces
    assert (trace.device.uid, trace.device.index, len(trace.readings)) == ("GPU-b", 0, 3)


@pytest.mark.parametrize("name", ["pci.bus_id", "gpu_bus_id"])
def test_a_bus_id_tells_gpus_apart_where_nothing_better_does(tmp_path: Path, name: str) -> None:
    buses = ("00000000:1B:00.0", "00000000:43:00.0")
    lines = [
        f"{stamp(loop / 10 + 0.04 * gpu)}, {buses[gpu]}, {100 + 100 * gpu}.00" for loop in range(9) for gpu in (0, 1)
    ]
    first, second = read(tmp_path, rows(*lines, header=f"timestamp, {name}, power.draw [W]")).traces
    assert (set(watts(first)), set(watts(second))) == ({100}, {200})
    assert (first.device.index, second.device.index) == (0, 1)


def test_a_number_that_is_written_as_no_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImportRefused, match="line 4: index is '00', which is no GPU's number"):
        read(tmp_path, rows(f"{stamp(0)}, 0, 50.00", f"{stamp(1)}, 0, 50.00", f"{stamp(2)}, 00, 50.00"))


def test_without_a_uuid_the_device_is_named_by_the_files_hash(tmp_path: Path) -> None:
    recording = read(tmp_path, rows(f"{stamp(0)}, 3, 50.00"))
    assert recording.traces[0].device.uid == f"import:{recording.sha256[:12]}:3"
    assert recording.traces[0].device.name == "GPU 3 (imported)"


@pytest.mark.parametrize("spread_s", [0.0, 0.003])
def test_rows_in_bunches_without_an_index_need_the_number_of_gpus(tmp_path: Path, spread_s: float) -> None:
    lines = [f"{stamp(loop + gpu * spread_s)}, {10 * (gpu + 1)}.00 W" for loop in range(6) for gpu in range(4)]
    text = rows(*lines[:-2], header="timestamp, power.draw [W]")
    with pytest.raises(ImportRefused, match=r"Give --gpus 4 if these are 4 GPUs.*--gpus 1"):
        read(tmp_path, text)
    recording = read(tmp_path, text, replace(UTC_GIVEN, gpus=4))
    assert [watts(trace)[0] for trace in recording.traces] == [10, 20, 30, 40]
    assert [len(trace.readings) for trace in recording.traces] == [6, 6, 5, 5]
    assert any("2 of 4 GPUs" in note for note in recording.notes)
    assert len(read(tmp_path, text, replace(UTC_GIVEN, gpus=1)).traces) == 1


@given(
    count=st.integers(2, 16),
    loops=st.integers(3, 40),
    spread_ms=st.integers(0, 5),
    pauses_ms=st.lists(st.integers(100, 190), min_size=40, max_size=40),
)
def test_bunches_are_counted_however_uneven_the_pauses(
    count: int, loops: int, spread_ms: int, pauses_ms: list[int]
) -> None:
    begins = [sum(pauses_ms[:loop]) for loop in range(loops)]
    stamps = [begin + gpu * spread_ms for begin in begins for gpu in range(count)]
    assert rows_per_loop([round(t * 1e6) for t in stamps]) == count


def test_two_loops_with_equal_times_are_enough_to_count() -> None:
    assert rows_per_loop([0] * 8 + [1_000_000_000] * 8) == 8


@given(st.lists(st.integers(7, 13), min_size=2, max_size=60))
def test_one_gpu_polled_unevenly_is_one_gpu(gaps_ms: list[int]) -> None:
    assert rows_per_loop([sum(gaps_ms[:n]) for n in range(len(gaps_ms))]) == 1


def test_the_number_of_gpus_given_must_be_that_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(ImportRefused, match="rows of 1 GPUs, and --gpus says 2"):
        read(tmp_path, rows(f"{stamp(0)}, 0, 50.00"), replace(UTC_GIVEN, gpus=2))


# Without a header.


def test_a_file_without_a_header_needs_its_columns_named(tmp_path: Path) -> None:
    text = f"{stamp(0)}, 0, 50.00 W\n{stamp(1)}, 0, 60.00 W\n"
    with pytest.raises(ImportRefused, match=r"line 1 holds values.*name its 3 columns.*--columns"):
        read(tmp_path, text)
    named = replace(UTC_GIVEN, columns="timestamp,index,power.draw")
    assert watts(read(tmp_path, text, named).traces[0]) == [50, 60]
    assert watts(read(tmp_path, HEADER + "\n" + text, named).traces[0]) == [50, 60]
    with pytest.raises(ImportRefused, match="line 1: it has 3 cells where --columns names 2"):
        read(tmp_path, text, replace(UTC_GIVEN, columns="timestamp,power.draw"))
    with pytest.raises(ImportRefused, match="line 1: it has 3 cells where --columns names 4"):
        read(tmp_path, text, replace(UTC_GIVEN, columns="timestamp,index,power.draw,pstate"))


def test_a_blank_line_of_a_bare_column_takes_its_interval(tmp_path: Path) -> None:
    bare = ReadOptions(columns="power.draw", interval_s=0.5)
    recording = read(tmp_path, "10.5\n\n12.5\n\n", bare)
    assert watts(recording.traces[0]) == [10.5, None, 12.5]
    assert [r.t_ns for r in recording.traces[0].readings] == [0, 500_000_000, 1_000_000_000]
    assert not recording.tz_given
    assert any("1970" in note for note in recording.notes)


def test_time_is_asked_for_where_the_file_has_none(tmp_path: Path) -> None:
    with pytest.raises(ImportRefused, match=r"no time column.*--interval"):
        read(tmp_path, rows("0, 50", header="index, power.draw [W]"))


# Refusals.


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (f"{stamp(1)}, 0, 5o.00 W", "power.draw is '5o.00 W', which is no number"),
        (f"{stamp(1)}, 0, 50.00 V", "in the unit 'V'"),
        (f"{stamp(1)}, 0, -50.00 W", "which no device reports"),
        (f"{stamp(1)}, 0, inf", "which no device reports"),
        (f"{stamp(1)}, 0", "it has 2 cells where the header has 3"),
        (f"{stamp(1)}, 0, 50.00, 7", "it has 4 cells where the header has 3"),
        (f"{stamp(1)}, zero, 50.00 W", "index is 'zero', which is no GPU's number"),
        (f"{stamp(1)}, , 50.00 W", "nothing says which GPU"),
        ("2025/03/01 12:00, 0, 50.00 W", "its time is '2025/03/01 12:00'"),
        ("yesterday noon exactly, 0, 50.00 W", "its time is 'yesterday noon exactly'"),
        (f'{stamp(1)}, 0, "50.00 W', "quotes do not match"),
    ],
)
def test_a_bad_line_refuses_the_file_with_its_number_the_reason_and_the_remedy(
    tmp_path: Path, bad: str, why: str
) -> None:
    text = rows(f"{stamp(0)}, 0, 50.00 W", bad, f"{stamp(2)}, 0, 50.00 W")
    with pytest.raises(ImportRefused) as refusal:
        read(tmp_path, text)
    assert "gpu.csv: line 3: " in str(refusal.value)
    assert why in str(refusal.value)
    assert "Mend or remove line 3. Nothing was imported." in str(refusal.value)


def test_a_bad_slow_value_refuses_the_file_too(tmp_path: Path) -> None:
    header = "timestamp, power.draw [W], temperature.gpu"
    with pytest.raises(ImportRefused, match=r"line 3: temperature\.gpu is 'warm', which is no number"):
        read(tmp_path, rows(f"{stamp(0)}, 50, 40", f"{stamp(1)}, 50, warm", header=header))


def test_every_cut_within_the_last_line_is_refused_with_its_number(tmp_path: Path) -> None:
    """Only two cuts lose nothing: before the last line's first character, and after its last."""
    whole = (DATA / "oxford_rtx4090_transient.csv").read_bytes().splitlines(keepends=True)
    assert_cuts_are_refused(tmp_path, b"".join(whole[:41]))


@pytest.mark.parametrize(
    "last_column",
    [
        ["1410", "1410", "1410"],
        ["210", "1410", "1410"],
        ["50.00 W", "150.00 W", "50.00 W"],
        ["50 W", "150 W", "50 W"],
        ["46.19", "147.20", "48.21"],
        ["P0", "P12", "P12"],
    ],
)
def test_a_cut_is_refused_whatever_the_last_column_is(tmp_path: Path, last_column: list[str]) -> None:
    lines = [f"{stamp(n)}, 50.00, {cell}" for n, cell in enumerate(last_column)]
    name = "pstate" if last_column[0].startswith("P") else "clocks.sm"
    name = "power.draw.instant" if last_column[0].endswith(("W", "19")) else name
    assert_cuts_are_refused(tmp_path, rows(*lines, header=f"timestamp, power.draw [W], {name}").encode())


def assert_cuts_are_refused(folder: Path, whole: bytes) -> None:
    """Cut a file at every byte of its last line, and see it refused."""
    lines = whole.splitlines(keepends=True)
    last = len(lines[-1])
    for cut in range(2, last):
        with pytest.raises(ImportRefused, match=f"line {len(lines)}, the last, is cut.*Remove line"):
            read(folder, whole[:-cut])
    expected = len(read(folder, whole).traces[0].readings)
    assert len(read(folder, whole[:-1]).traces[0].readings) == expected
    assert len(read(folder, whole[:-last]).traces[0].readings) == expected - 1


def test_a_last_number_that_may_be_whole_or_cut_is_not_believed(tmp_path: Path) -> None:
    lines = [f"{stamp(n)}, 50.00, {util}" for n, util in enumerate([9, 100, 87, 9])]
    text = rows(*lines, header="timestamp, power.draw [W], utilization.gpu")
    with pytest.raises(ImportRefused, match=r"line 5.*'9' is shorter.*or end it with a line break"):
        read(tmp_path, text.rstrip())
    assert len(read(tmp_path, text.rstrip() + "\n  ").traces[0].readings) == 4
    assert len(read(tmp_path, text.replace("\n", "\r\n")[:-1]).traces[0].readings) == 4
    assert len(read(tmp_path, text).traces[0].readings) == 4


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (HEADER.encode() + b"\n", "a header and no rows"),
        (b"timestamp, utilization.gpu [%]\n2025/03/01 12:00:00.000, 7\n", "no power column among"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "is no text: byte 0x89 in line 1"),
        (rows(f"{stamp(0)}, 0, 50.00").encode() + b"\0" * 40, "NUL bytes, first in line 3"),
        (gzip.compress(rows(f"{stamp(0)}, 0, 50.00").encode() * 50, mtime=0)[:-20], "gzip file that is cut"),
        (rows(f"{stamp(0)}, 0, 50.00").encode("utf-16")[:-1], "UTF-16 text cut"),
        (rows(f"{stamp(0)}, 0, [N/A]", f"{stamp(1)}, 0, 0").encode(), "every value of power.draw is missing"),
        (rows(f"{stamp(0)}, 0, 50", header="timestamp, index, power.draw [V]").encode(), r"is in \[V\]"),
        (rows(f"{stamp(0)}, 0, 50.00", "timestamp, power.draw [W]").encode(), "line 3 is another header"),
    ],
)
def test_a_file_without_power_in_it_is_refused_with_a_sentence(tmp_path: Path, content: bytes, why: str) -> None:
    with pytest.raises(ImportRefused, match=why) as refusal:
        read(tmp_path, content)
    assert str(tmp_path / "gpu.csv") in str(refusal.value)
    assert str(refusal.value).endswith(".")


def test_a_file_that_is_not_there_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ImportRefused, match=r"none\.csv cannot be read: No such file"):
        read_nvidia_smi(tmp_path / "none.csv", NOTHING_GIVEN)


def test_watts_too_many_for_a_gpu_are_milliwatts_that_somebody_must_confirm(tmp_path: Path) -> None:
    text = rows(f"{stamp(0)}, 0, 158570", f"{stamp(1)}, 0, 158571", header="timestamp, index, power.draw")
    with pytest.raises(ImportRefused, match=r"probably mW. Say which with --power-unit mW"):
        read(tmp_path, text)
    assert watts(read(tmp_path, text, replace(UTC_GIVEN, power_unit="mW")).traces[0]) == [158.57, 158.571]
    assert watts(read(tmp_path, text, replace(UTC_GIVEN, power_unit="W")).traces[0]) == [158570, 158571]
    with pytest.raises(ImportRefused, match=r"in \[W\], and --power-unit says mW"):
        read(tmp_path, text.replace("power.draw", "power.draw [W]"), replace(UTC_GIVEN, power_unit="mW"))
    with pytest.raises(UsageError, match="the power unit 'kW' is not known"):
        read(tmp_path, text, replace(UTC_GIVEN, power_unit="kW"))


def test_a_sensor_that_never_moves_is_named(tmp_path: Path) -> None:
    text = rows(*(f"{stamp(n)}, 0, 46.19" for n in range(8)))
    assert any("the sensor may be stuck" in note for note in read(tmp_path, text).notes)
    moved = rows(*(f"{stamp(n)}, 0, 46.1{n}" for n in range(8)))
    assert not read(tmp_path, moved).notes


def test_every_column_that_is_read_is_in_the_guide() -> None:
    guide = DOCS.read_text(encoding="utf-8")
    names = [alias for aliases in ALIASES.values() for alias in aliases]
    assert [name for name in [*names, *REASON_BITS] if f"`{name}`" not in guide] == []
