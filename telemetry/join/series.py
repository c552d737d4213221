"""A run over time: power with bounds, temperature, clocks and requests, thinned to what a figure can show.

Times are seconds since the run's start. What was not measured is NaN, and no line crosses it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from telemetry.analysis import Breaks, Rows
from telemetry.analysis.rows import Bools, Floats, Ints
from telemetry.join.boards import Board, Boards
from telemetry.join.energy import LOCAL, Path, curve_of
from telemetry.join.traces import board_of
from telemetry.model import Gap, Vitals, power_column
from telemetry.storage import reader
from telemetry.storage.reader import EDGE_NS, StoredDevice, StoredRun
from telemetry.storage.store import Store

S = 1_000_000_000
BINS = 300  # mean powers in a run at most
FINEST_NS = S  # and none of less than a second: the counter's next update may be 0.1 s away, so bounds would be wide
STROKES = 900  # of the sensor's readings at most


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSeries:
    """One device during one run.

    edges_s: (n + 1,), of the bins of mean power; power_w, lo_w, hi_w: (n,), W, and the bounds of that mean.
    reading_s, reading_w: (m,), the power sensor's lowest and highest reading of each of its own, finer bins.
    vitals_s, temperature_c, clock_sm_mhz: (k,), the highest temperature and the lowest clock of a bin.
    gaps_s: (g, 2), when nothing was measured.
    """

    uid: str
    name: str
    edges_s: Floats
    power_w: Floats
    lo_w: Floats
    hi_w: Floats
    reading_s: Floats
    reading_w: Floats
    vitals_s: Floats
    temperature_c: Floats
    clock_sm_mhz: Floats
    gaps_s: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSeries:
    """One run over time. requests: (n, 4), s: submitted, started, first token, ended; NaN where it is not known."""

    run: str
    start_ns: int
    stop_ns: int
    devices: tuple[DeviceSeries, ...]
    requests: Floats

    @property
    def duration_s(self) -> float:
        """How long the run lasted."""
        return (self.stop_ns - self.start_ns) / S


async def series(store: Store, runs: Sequence[Mapping[str, Any]], boards: Boards) -> list[RunSeries]:
    """Return these runs of a report over time, in their order; each device by the path that its energy came from."""
    stored = {run.uid: run for run in await reader.runs(store)}
    devices = {device.uid: device for device in await reader.devices(store)}
    known = {
        uid: await board_of(store, devices[uid], boards)
        for uid in {each["uid"] for document in runs for each in document["devices"]}
    }
    found = []
    for document in runs:
        run = stored[document["run"]]
        assert run.stop_ns is not None
        paths: list[tuple[StoredDevice, Path]] = [
            (devices[each["uid"]], "counter" if each["energy"]["method"].startswith("counter") else "integral")
            for each in document["devices"]
        ]
        found.append(
            RunSeries(
                run=run.uid,
                start_ns=run.start_ns,
                stop_ns=run.stop_ns,
                devices=tuple(
                    [await _device(store, device, known[device.uid], path, run, run.stop_ns) for device, path in paths]
                ),
                requests=await _requests(store, run),
            )
        )
    return found


async def _device(
    store: Store, device: StoredDevice, board: Board, path: Path, run: StoredRun, stop_ns: int
) -> DeviceSeries:
    span_ns = run.start_ns, stop_ns
    bins = int(np.clip((stop_ns - run.start_ns) // FINEST_NS, 1, BINS))
    edges_ns = np.linspace(run.start_ns, stop_ns, bins + 1).astype(np.int64)
    around = span_ns[0] - EDGE_NS, span_ns[1] + EDGE_NS
    gaps = await reader.gaps(store, device.id, *around)
    breaks = Breaks.of(gaps, await reader.session_starts(store, device.id, *around))
    # Both paths are running sums: only the rows around the edges are needed, which bounds what is read of a long run.
    far_apart = edges_ns[1] - edges_ns[0] > 2 * EDGE_NS
    places = [(edge - EDGE_NS, edge + EDGE_NS) for edge in edges_ns.tolist()] if far_apart else [around]
    pieces = [await reader.rows_between(store, device.id, *place) for place in places]
    rows = Rows.concat([Rows.of(piece) for piece in pieces if piece])
    curve = curve_of(rows, breaks, board, path, device.integral_of)
    energy = curve.energy(edges_ns[:-1], edges_ns[1:], LOCAL[path])
    seconds = np.where(_mostly_unmeasured(edges_ns, gaps), np.nan, np.diff(edges_ns) / S)
    stroke_ns = max((stop_ns - run.start_ns) // STROKES, 1)
    column = power_column(device.integral_of or "instant")
    reading_s, reading_w = _strokes(
        await reader.power_strokes_mw(store, device.id, column, *span_ns, stroke_ns), gaps, span_ns
    )
    vitals_s, temperature_c, clock_sm_mhz = _slow(await reader.vitals(store, device.id, *span_ns), gaps, *span_ns)
    return DeviceSeries(
        uid=device.uid,
        name=device.name,
        edges_s=(edges_ns - run.start_ns) / S,
        power_w=energy.value_j / seconds,
        lo_w=energy.lo_j / seconds,
        hi_w=energy.hi_j / seconds,
        reading_s=reading_s,
        reading_w=reading_w,
        vitals_s=vitals_s,
        temperature_c=temperature_c,
        clock_sm_mhz=clock_sm_mhz,
        gaps_s=(_inside(gaps, *span_ns) - run.start_ns) / S,
    )


def _inside(gaps: Sequence[Gap], from_ns: int, to_ns: int) -> Ints:
    """Return the stretches of an interval that lie in gaps, (g, 2)."""
    pairs = [(max(gap.from_ns, from_ns), min(gap.to_ns, to_ns)) for gap in gaps]
    return np.array([pair for pair in sorted(pairs) if pair[0] < pair[1]], dtype=np.int64).reshape(-1, 2)


def _mostly_unmeasured(edges_ns: Ints, gaps: Sequence[Gap]) -> Bools:
    """Tell of each bin whether gaps take up more than half of it: a mean of the rest would not be one of the bin."""
    lost_ns = [int(np.sum(np.diff(_inside(gaps, begin, end), axis=1))) for begin, end in pairwise(edges_ns.tolist())]
    return 2 * np.array(lost_ns, dtype=np.int64) > np.diff(edges_ns)


def _strokes(
    strokes: Sequence[tuple[int, int, int]], gaps: Sequence[Gap], span_ns: tuple[int, int]
) -> tuple[Floats, Floats]:
    """Return (time, lowest, highest) of bins as one line, which is broken where a gap begins."""
    points = [(t_ns, mw / 1000) for t_ns, low, high in strokes for mw in dict.fromkeys((low, high))]
    points += [(int(begin), np.nan) for begin, _ in _inside(gaps, *span_ns)]
    points.sort(key=lambda point: point[0])
    line = np.array(points, dtype=np.float64).reshape(-1, 2)
    return (line[:, 0] - span_ns[0]) / S, line[:, 1]


def _slow(vitals: Sequence[Vitals], gaps: Sequence[Gap], from_ns: int, to_ns: int) -> tuple[Floats, Floats, Floats]:
    bin_ns = max((to_ns - from_ns) // BINS, 1)
    bins: dict[int, list[Vitals]] = {}
    for each in vitals:
        bins.setdefault((each.t_ns - from_ns) // bin_ns, []).append(each)
    hottest = [_known(max, (each.sensors.temperature_c for each in some)) for some in bins.values()]
    slowest = [_known(min, (each.sensors.clock_sm_mhz for each in some)) for some in bins.values()]
    # Rows come each second: a shorter gap may leave out none.
    holes = [begin for begin, end in _inside(gaps, from_ns, to_ns).tolist() if end - begin > 2 * S]
    rows = [(some[0].t_ns, hot, slow) for some, hot, slow in zip(bins.values(), hottest, slowest, strict=True)]
    table = np.array(sorted([*rows, *((t_ns, np.nan, np.nan) for t_ns in holes)]), dtype=np.float64).reshape(-1, 3)
    return (table[:, 0] - from_ns) / S, table[:, 1], table[:, 2]


def _known(reduce: Callable[..., int], values: Iterable[int | None]) -> float:
    return reduce((value for value in values if value is not None), default=np.nan)


async def _requests(store: Store, run: StoredRun) -> Floats:
    times = [(q.submitted_ns, q.started_ns, q.first_token_ns, q.ended_ns) for q in await reader.requests(store, run.id)]
    seconds = [[np.nan if t is None else (t - run.start_ns) / S for t in each] for each in times]
    return np.array(seconds, dtype=np.float64).reshape(-1, 4)
