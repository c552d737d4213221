"""Recordings in the store: what may not be mixed, what a hole costs, and what the window says of its source."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from telemetry.errors import ImportRefused, StoreError
from telemetry.importers import ReadOptions, read_nvidia_smi
from telemetry.importers.storing import store_recordings
from telemetry.join.boards import Boards
from telemetry.join.window import window
from telemetry.storage import reader
from telemetry.storage.store import open_store

DATA = Path(__file__).parent / "data"
NOON = datetime(2025, 3, 1, 12, tzinfo=UTC)
HEADER = "timestamp, uuid, power.draw [W]"


def log(path: Path, *starts: datetime, watts: float = 100.0, header: str = HEADER, more: str = "") -> Path:
    """Write ten seconds at 10 Hz from each of these times on."""
    times = [start + timedelta(seconds=tenth / 10) for start in starts for tenth in range(100)]
    lines = [f"{t:%Y/%m/%d %H:%M:%S.%f}, GPU-a, {watts:.2f}{more}" for t in times]
    path.write_text("".join(f"{line}\n" for line in (header, *lines)))
    return path


async def stored(store: Path, *files: Path) -> list[str]:
    return await store_recordings(str(store), [read_nvidia_smi(file, ReadOptions(tz="UTC")) for file in files])


async def energy(path: Path, t0: datetime, t1: datetime) -> dict[str, Any]:
    async with await open_store(path, create=False) as store:
        return await window(store, round(t0.timestamp() * 1e9), round(t1.timestamp() * 1e9), boards=Boards())


async def counted(path: Path) -> int:
    async with await open_store(path) as store:
        return int((await store.fetch("SELECT count(*) FROM reading"))[0][0])


@pytest.mark.parametrize("apart_s", [0.0, 5.0, 4.95])
async def test_readings_of_one_device_at_one_time_are_not_mixed(tmp_path: Path, apart_s: float) -> None:
    store, first = tmp_path / "t.db", log(tmp_path / "a.csv", NOON)
    second = log(tmp_path / "b.csv", NOON + timedelta(seconds=apart_s), watts=200.0)
    await stored(store, first)
    before = await counted(store)
    with pytest.raises(ImportRefused, match=r"b\.csv: readings of GPU-a at the same time are in .*a store of its own"):
        await stored(store, second)
    assert await counted(store) == before


async def test_a_time_between_the_parts_of_a_log_is_taken_too(tmp_path: Path) -> None:
    await stored(tmp_path / "t.db", log(tmp_path / "a.csv", NOON, NOON + timedelta(hours=2)))
    with pytest.raises(ImportRefused, match="at the same time"):
        await stored(tmp_path / "t.db", log(tmp_path / "b.csv", NOON + timedelta(hours=1)))
    await stored(tmp_path / "t.db", log(tmp_path / "c.csv", NOON + timedelta(hours=3)))


async def test_of_several_files_all_are_stored_or_none(tmp_path: Path) -> None:
    first = log(tmp_path / "a.csv", NOON)
    again, overlapping = tmp_path / "copy.csv", log(tmp_path / "b.csv", NOON, watts=200.0)
    again.write_bytes(first.read_bytes())
    for bad in (again, overlapping):
        with pytest.raises((ImportRefused, StoreError), match="Nothing was added"):
            await stored(tmp_path / "t.db", first, bad)
    assert await counted(tmp_path / "t.db") == 0


async def test_a_hole_of_fifty_years_costs_no_more_than_one_of_an_hour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    async def counting(*arguments: Any) -> Any:
        asked[-1] += 1
        return await rows_between(*arguments)

    rows_between = reader.rows_between
    monkeypatch.setattr(reader, "rows_between", counting)
    for name, hole in (("hour", timedelta(hours=1)), ("years", timedelta(days=50 * 365))):
        await stored(tmp_path / name, log(tmp_path / f"{name}.csv", NOON - hole, NOON))
        asked.append(0)
        after = await energy(tmp_path / name, NOON + timedelta(seconds=2), NOON + timedelta(seconds=8))
        across = await energy(tmp_path / name, NOON - hole + timedelta(seconds=2), NOON + timedelta(seconds=8))
        assert after["energy"]["value_j"] == pytest.approx(600.0, rel=1e-6)
        assert "gap" in across["energy"]["flags"]
    assert asked[0] == asked[1]


async def test_polls_are_counted_and_not_only_those_that_read_something_new(tmp_path: Path) -> None:
    recording = read_nvidia_smi(DATA / "oxford_v100.csv.gz", ReadOptions(tz="+01:00"))
    await store_recordings(str(tmp_path / "t.db"), [recording])
    first, last = (datetime.fromtimestamp(recording.traces[0].readings[i].t_ns / 1e9, UTC) for i in (0, -1))
    source = (await energy(tmp_path / "t.db", first, last))["source"]
    assert source["poll_hz"] == pytest.approx(20_541 / 202.092, rel=0.02)
    assert source["refresh_hz"] == pytest.approx(50.0)


@pytest.mark.parametrize("counter", ["[N/A]", "0", "5000000"])
async def test_a_counter_that_says_nothing_is_not_what_the_energy_comes_from(tmp_path: Path, counter: str) -> None:
    file = log(tmp_path / "a.csv", NOON, header=f"{HEADER}, total_energy_consumption [mJ]", more=f", {counter}")
    (told,) = await stored(tmp_path / "t.db", file)
    assert ("energy from power.draw" in told) == (counter != "5000000")
    found = await energy(tmp_path / "t.db", NOON + timedelta(seconds=2), NOON + timedelta(seconds=8))
    assert found["energy"]["value_j"] == pytest.approx(600.0)
    assert found["source"]["column"] == "power.draw"
