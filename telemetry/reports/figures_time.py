"""The figure of one run over time: power, requests, temperature and clocks on one axis."""

import re
from collections.abc import Mapping, Sequence
from heapq import heapify, heapreplace
from typing import Any

import numpy as np

from telemetry.analysis.rows import Floats
from telemetry.join.series import DeviceSeries, RunSeries
from telemetry.reports import figures_sql as sql
from telemetry.reports.figures import Axis, Figure, Line, Panel, Shade, Spans, floats
from telemetry.reports.wording import printable

MOST_LANES = 300  # requests drawn one by one; of more their number is shown
STRETCHES = 300
CAPTION = (
    "Thick line: mean power of a stretch by the energy curve; band: the bounds of that mean, which the time between "
    "the sensor's updates leaves open: the longer the stretch, the narrower. Thin line: the sensor's own readings, "
    "which lag. Temperature is the highest and the clock the lowest of a stretch."
)
WAITING, PREFILL, DECODE = PHASES = ("waiting", "prefill", "decode")


def timeline(run: Mapping[str, Any], series: RunSeries, number: int) -> Figure:
    """Return a run over time; `number` tells its file from those of runs whose uids begin alike."""
    names = _names(series.devices)
    uids = [device.uid for device in series.devices]
    span = series.start_ns, series.stop_ns
    panels = [_power(series.devices, names), *_requests(series)]
    panels += _slow("temperature", "°C", names, [(d.vitals_s, d.temperature_c) for d in series.devices])
    panels += _slow("SM clock", "MHz", names, [(d.vitals_s, d.clock_sm_mhz) for d in series.devices])
    few = series.requests if len(series.requests) <= MOST_LANES else series.requests[:0]
    shades = [Shade(name="prefill under way", x=_union(_of_phase(few, PREFILL)))]
    shades += [
        # What is nearer than a figure is fine is one gap in it.
        Shade(name=f"{name} not measured", x=_union(device.gaps_s, series.duration_s / STRETCHES), loud=True)
        for name, device in zip(names, series.devices, strict=True)
    ]
    who = ", ".join(printable(run[key]) for key in ("model", "name") if run[key] is not None) or printable(None)
    return Figure(
        key=f"timeline-{number}-{re.sub(r'[^A-Za-z0-9]', '-', run['run'][:8])}",  # a uid may hold anything
        title=f"Run {printable(run['run'])[:8]} over time: {who}",
        x=Axis(name="time since the run's start", unit="s"),
        panels=tuple(panels),
        caption=CAPTION,
        sql=(sql.readings(uids, *span), sql.vitals(uids, *span), sql.requests(series.run, series.start_ns)),
        simulated=run["simulated"],
        end_s=series.duration_s,
        shades=tuple(shade for shade in shades if len(shade.x)),
    )


def _names(devices: Sequence[DeviceSeries]) -> list[str]:
    """Return devices' names, with the end of the UID where there are several."""
    return [d.name if len(devices) == 1 else f"{d.name} …{d.uid[-4:]}" for d in devices]


def _power(devices: Sequence[DeviceSeries], names: Sequence[str]) -> Panel:
    readings = [
        Line(name="sensor readings", x=np.repeat(d.reading_s, 2)[1:], y=np.repeat(d.reading_w, 2)[:-1], faint=True)
        for d in devices
        if len(d.reading_s)
    ]
    means = [
        Line(
            name=name,
            x=np.repeat(d.edges_s, 2)[1:-1],
            y=np.repeat(d.power_w, 2),
            lo=np.repeat(d.lo_w, 2),
            hi=np.repeat(d.hi_w, 2),
        )
        for name, d in zip(names, devices, strict=True)
    ]
    return Panel(y=Axis(name="power", unit="W", zero=True), marks=(*readings, *means), height=240)


def _requests(series: RunSeries) -> list[Panel]:
    """Return the requests: a lane each where they are few, else how many there were in each phase."""
    times = series.requests
    if not len(times):
        return []
    if len(times) > MOST_LANES:
        edges = np.linspace(0.0, series.duration_s, STRETCHES + 1)
        counts = [Line(name=p, x=edges, y=_running(_of_phase(times, p), edges)) for p in PHASES]
        return [Panel(y=Axis(name="requests"), marks=tuple(counts), height=120)]
    lanes = _lanes(times, series.duration_s)
    marks = []
    for phase in PHASES:
        spans, at = _phase(times, phase)
        if len(at):
            marks.append(Spans(name=phase, row=lanes[at].astype(np.float64), x0=spans[:, 0], x1=spans[:, 1]))
    rows = tuple(str(k + 1) for k in range(int(lanes.max()) + 1))
    return [Panel(y=Axis(name="requests"), rows=rows, marks=tuple(marks), height=50 + 14 * min(len(rows), 20))]


def _phase(times: Floats, phase: str) -> tuple[Floats, np.ndarray[Any, np.dtype[np.intp]]]:
    """Return when requests were in a phase, (n, 2), s, and the index of each; without a start none waits."""
    submitted, started, first, ended = times.T
    began = np.where(np.isnan(started), submitted, started)
    edges = {
        WAITING: (submitted, began),
        PREFILL: (began, np.where(np.isnan(first), ended, first)),
        DECODE: (first, ended),
    }
    spans = np.column_stack(edges[phase])
    at = np.flatnonzero(spans[:, 1] > spans[:, 0])
    return spans[at], at


def _of_phase(times: Floats, phase: str) -> Floats:
    return _phase(times, phase)[0]


def _running(spans: Floats, at: Floats) -> Floats:
    """Return how many of the spans hold each time."""
    begun = np.searchsorted(np.sort(spans[:, 0]), at, side="right")
    return floats(begun - np.searchsorted(np.sort(spans[:, 1]), at, side="right"))


def _lanes(times: Floats, end_s: float) -> np.ndarray[Any, np.dtype[np.intp]]:
    """Return a lane for each request: the one that has been free for longest, where one is free."""
    lanes = np.zeros(len(times), dtype=np.intp)
    free: list[tuple[float, int]] = []
    for k in np.argsort(times[:, 0], kind="stable"):
        begin, end = times[k, 0], end_s if np.isnan(times[k, 3]) else times[k, 3]
        if free and free[0][0] <= begin:
            lanes[k] = heapreplace(free, (end, free[0][1]))[1]
        else:
            lanes[k] = len(free)
            free.append((end, len(free)))
            heapify(free)
    return lanes


def _union(spans: Floats, apart: float = 0.0) -> Floats:
    """Return spans, (n, 2), with those that meet, or are no further apart, made one."""
    merged: list[list[float]] = []
    for begin, end in sorted(spans.tolist()):
        if merged and begin <= merged[-1][1] + apart:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([begin, end])
    return floats(merged).reshape(-1, 2)


def _slow(name: str, unit: str, names: Sequence[str], each: Sequence[tuple[Floats, Floats]]) -> list[Panel]:
    lines = [Line(name=n, x=x, y=y) for n, (x, y) in zip(names, each, strict=True) if np.isfinite(y).any()]
    return [Panel(y=Axis(name=name, unit=unit), marks=tuple(lines), height=110)] if lines else []
