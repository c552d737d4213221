"""Putting a recording into the store, whole or not at all."""

from collections import deque
from collections.abc import Sequence
from importlib.metadata import version

import orjson

from telemetry.collector.pipeline import Reducer
from telemetry.errors import ImportRefused, StoreError
from telemetry.importers.base import Recording, Trace
from telemetry.model import Gap, Item, Sensors, Vitals
from telemetry.storage import reader
from telemetry.storage.store import Store, open_store

GAP_FACTOR = 20  # a hole of that many usual spacings is a gap: power was not watched there
LEAST_GAP_NS = 2_500_000_000


async def store_recordings(path: str, recordings: Sequence[Recording]) -> list[str]:
    """Store recordings and return what to tell the user, a line each device.

    Raises ImportRefused where stamps without a zone meet none of the store's runs, or where there are readings of the
    same device at the same time already, StoreError for a file that was imported before. Nothing is stored then.
    """
    lines = []
    async with await open_store(path) as store:
        for recording in recordings:
            await _refuse_strangers(store, recording)
        await _refuse_known(store, recordings)
        for recording in recordings:
            items, told = [], []
            for trace in recording.traces:
                rows = stored_items(trace)
                items += rows
                told.append(_line(trace, len(rows)))
            first = min(t.readings[0].t_ns for t in recording.traces)
            last = max(t.readings[-1].t_ns for t in recording.traces)
            await store.write_import(
                (
                    recording.sha256, str(recording.path), recording.format, recording.tz_given,
                    orjson.dumps(recording.notes).decode(),
                ),
                [t.device for t in recording.traces],
                items,
                version("telemetry"),
                (first, last),
                recording.runs,
            )  # fmt: skip
            lines += told
            if recording.runs:
                lines.append(f"{len(recording.runs)} phases stored as runs: see `telemetry list`")
    return lines


async def _refuse_strangers(store: Store, recording: Recording) -> None:
    """Refuse stamps of unknown zone that miss every run of the store: joined, they would say nothing."""
    runs = [r for r in await reader.runs(store) if r.stop_ns]
    if recording.tz_given or not runs:
        return
    first = min(t.readings[0].t_ns for t in recording.traces)
    last = max(t.readings[-1].t_ns for t in recording.traces)
    if any(r.start_ns < last and (r.stop_ns or 0) > first for r in runs):
        return
    off_s = min(max(r.start_ns - last, first - (r.stop_ns or 0)) for r in runs) / 1e9
    raise ImportRefused(
        f"{recording.path} and the runs of {store.path} miss each other by {off_s / 3600:.2f} hours. The file's "
        "stamps name no zone and were read as UTC: give the zone of the machine that wrote it with --tz."
    )


async def _refuse_known(store: Store, recordings: Sequence[Recording]) -> None:
    """Refuse what is there already: the same file, or other readings of the same device at the same time.

    Two series of one device cannot be told apart once they are mixed, and the integral of either would be wrong.
    """
    files = await reader.imported(store)
    taken: dict[str, list[tuple[int, int]]] = {}
    for recording in recordings:
        if recording.sha256 in files:
            raise StoreError(f"{recording.path} was imported into {store.path} before. Nothing was added.")
        files.add(recording.sha256)
        for trace in recording.traces:
            uid, first, last = trace.device.uid, trace.readings[0].t_ns, trace.readings[-1].t_ns
            stored = await reader.session_within(store, uid, first, last)
            spans = taken.setdefault(uid, [])
            if stored or any(begin <= last and end >= first for begin, end in spans):
                raise ImportRefused(
                    f"{recording.path}: readings of {uid} at the same time are in {store.path}, or in another of these "
                    "files, already. Import it into a store of its own. Nothing was added."
                )
            spans.append((first, last))


def stored_items(trace: Trace) -> list[Item]:
    """Return the rows of a trace as a collector would have stored them."""
    spacings = sorted(b.t_ns - a.t_ns for a, b in zip(trace.readings, trace.readings[1:], strict=False))
    usual_ns = spacings[len(spacings) // 2] if spacings else 1_000_000_000
    hole_ns = max(LEAST_GAP_NS, GAP_FACTOR * usual_ns)
    uid, reducer, items, before = trace.device.uid, Reducer(trace.device, usual_ns), [], None
    for reading in trace.readings:
        if before is not None and reading.t_ns - before > hole_ns:
            items.append((uid, Gap(from_ns=before, to_ns=reading.t_ns, reason="file")))
            reducer.gap()
        reduced = reducer.push(reading)
        items += [(uid, item) for item in (reduced.row, reduced.gap) if item is not None]
        before = reading.t_ns
    return items + [(uid, v) for v in _vitals(trace)]


def _vitals(trace: Trace) -> list[Vitals]:
    """Return a row a second with the extremes of power, beside the slow values that the file has."""
    slow = deque(trace.sensors)
    rows: list[Vitals] = []
    powers: list[int] = []
    memory_temp_c: int | None = None
    polls, due, state = 0, trace.readings[0].t_ns + 1_000_000_000, Sensors()
    for reading in trace.readings:
        polls += 1
        power = reading.power_instant_mw or reading.power_average_mw
        powers += [] if power is None else [power]
        memory_temp_c = memory_temp_c if reading.memory_temp_c is None else reading.memory_temp_c
        while slow and slow[0][0] <= reading.t_ns:
            state = slow.popleft()[1]
        if reading.t_ns >= due or reading is trace.readings[-1]:
            rows.append(
                Vitals(
                    t_ns=reading.t_ns, sensors=state, memory_temp_c=memory_temp_c,
                    power_max_mw=max(powers, default=None), power_min_mw=min(powers, default=None),
                    polls=polls, misses=0,
                )
            )  # fmt: skip
            polls, powers, memory_temp_c, due = 0, [], None, reading.t_ns + 1_000_000_000
    return rows


def _line(trace: Trace, rows: int) -> str:
    seconds = (trace.readings[-1].t_ns - trace.readings[0].t_ns) / 1e9
    signal = "the energy counter" if trace.device.has_counter else trace.device.integral_of
    return (
        f"{trace.device.name}: {len(trace.readings)} readings over {seconds:.3f} s, "
        f"energy from {signal}, {rows} rows stored"
    )
