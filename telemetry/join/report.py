"""Runs as the report's JSON, version 1, from their results: those kept, and the others worked out now."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from typing import Any

from telemetry.errors import TraceError
from telemetry.join.baselines import BASELINE, Baselines, Idle, as_baseline, name_of
from telemetry.join.boards import Board, Boards
from telemetry.join.documents import iso
from telemetry.join.groups import groups
from telemetry.join.requests import overlapping
from telemetry.join.results import ANALYSIS_VERSION, Analysed, How, analyse, settled
from telemetry.join.run_document import Context, per_request, run_json, stop_of
from telemetry.join.traces import board_of
from telemetry.storage import reader, results
from telemetry.storage.reader import StoredRun
from telemetry.storage.store import Store

BATCH = 1000  # runs whose results are in memory together
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Analyst:
    """What is the same for all runs of a report, read once."""

    context: Context
    how: How
    version: str  # of results that may be used
    overlaps: Mapping[int, Sequence[int]]  # runs that ran at the same time
    boards: Boards
    afresh: bool = False  # use nothing that is kept
    known: dict[int, Board] = field(default_factory=dict)  # by device, as far as one was needed


def _silent(done: int, total: int) -> None:
    """Tell nobody."""


async def report(
    store: Store,
    uids: tuple[str, ...] = (),
    *,
    boards: Boards,
    how: How | None = None,
    group_by: Sequence[str] = (),
    net: bool = False,
    with_requests: bool = False,
    progress: Progress = _silent,
) -> dict[str, Any]:
    """Return runs, all or those whose uid begins with one of these, as the report's JSON.

    Results that are not kept yet are worked out and, where the store may be written, kept; worked out in another way
    than by default, all are, and none is kept. Baselines are reported when named. with_requests: list each run's
    requests too. group_by, net: see `groups`. `progress` is told (runs done, runs in all). Raises TraceError for a
    uid that no run has, UsageError for a method or a name that does not exist.
    """
    every, asked = await _asked(store, uids)
    analyst = await _analyst(store, every, boards, how or How())
    baselines = await _baselines(store, [run for run in every if run.runner == BASELINE], analyst)
    documents: list[dict[str, Any]] = []
    for k, part in _batches(asked):
        progress(k, len(asked))
        used, told, fresh = await _told(store, part, analyst)
        for run in part:
            devices = [analyst.context.devices[number] for number in used[run.id]]
            document = run_json(run, devices, told[run.id], analyst.context, baselines)
            if with_requests:
                shares = fresh[run.id].of_requests if run.id in fresh else await results.of_requests(store, run.id)
                document["per_request"] = per_request(await reader.requests(store, run.id), shares)
            documents.append(document)
    return {
        "schema": "telemetry.report/1",
        "store": store.path,
        "generated": iso(store.clock.now_ns() + store.clock.offset_ns()),
        "version": metadata.version("telemetry"),
        "runs": documents,
        "groups": groups(documents, group_by, net=net),
    }


async def work_out(
    store: Store, uids: tuple[str, ...] = (), *, boards: Boards, progress: Progress = _silent
) -> tuple[int, str]:
    """Work out runs, all or those whose uid begins with one of these, and keep that in place of what was kept.

    Returns how many runs these were, and the version of the analysis. Raises TraceError for a uid that no run has.
    """
    every, asked = await _asked(store, uids, baselines=True)
    analyst = replace(await _analyst(store, every, boards, How()), afresh=True)
    for k, part in _batches(asked):
        progress(k, len(asked))
        await _told(store, part, analyst)
    return len(asked), analyst.version


async def _asked(
    store: Store, uids: tuple[str, ...], *, baselines: bool = False
) -> tuple[list[StoredRun], list[StoredRun]]:
    """Return all runs, and those that are asked for and have ended."""
    every = await reader.runs(store)
    ended = [run for run in every if run.stop_ns is not None]
    for uid in uids:
        if not any(run.uid.startswith(uid) for run in ended):
            raise TraceError(f"No run of {store.path} that has ended begins with {uid}. `telemetry list` names them.")
    if uids:
        return every, [run for run in ended if run.uid.startswith(uids)]
    return every, [run for run in ended if baselines or run.runner != BASELINE]


def _batches(runs: Sequence[StoredRun]) -> Iterator[tuple[int, Sequence[StoredRun]]]:
    return ((k, runs[k : k + BATCH]) for k in range(0, len(runs), BATCH))


async def _analyst(store: Store, every: Sequence[StoredRun], boards: Boards, how: How) -> _Analyst:
    return _Analyst(
        context=Context(
            devices={d.id: d for d in await reader.devices(store)},
            calibrations=boards.calibrations,
            sessions=await reader.sessions(store),
            clock=await reader.wall_clock(store),
            alike=await reader.runs_alike(store),
            all_boundaries=how.all_boundaries,
        ),
        how=how,
        version=f"{ANALYSIS_VERSION}-{boards.version()}",
        overlaps=overlapping(every),
        boards=boards,
    )


async def _told(
    store: Store, runs: Sequence[StoredRun], analyst: _Analyst
) -> tuple[Mapping[int, list[int]], Mapping[int, Mapping[str, Any]], Mapping[int, Analysed]]:
    """Return of some runs, by run, the devices, what is told, and what was worked out now, which is kept."""
    span = min(run.id for run in runs), max(run.id for run in runs)
    used = defaultdict(list, await reader.run_devices(store, *span))
    by_default = analyst.how == How()
    usable = by_default and not analyst.afresh
    kept = await results.documents(store, *span, analyst.version) if usable else {}
    fresh: dict[int, Analysed] = {}
    for run in runs:
        if run.id in kept and settled(kept[run.id]):
            continue
        devices = [(analyst.context.devices[n], await _board(store, analyst, n)) for n in used[run.id]]
        others = analyst.overlaps.get(run.id, ())
        fresh[run.id] = await analyse(store, run, stop_of(run), devices, analyst.context.clock, analyst.how, others)
    told = kept | {run: found.told for run, found in fresh.items()}
    if fresh and by_default and not store.read_only:
        rows = [row for found in fresh.values() for row in found.results]
        shares = [each for found in fresh.values() for each in found.of_requests]
        await results.write_results(store, analyst.version, rows, shares, {run: told[run] for run in fresh})
    return used, told, fresh


async def _board(store: Store, analyst: _Analyst, device: int) -> Board:
    if device not in analyst.known:
        analyst.known[device] = await board_of(store, analyst.context.devices[device], analyst.boards)
    return analyst.known[device]


async def _baselines(store: Store, runs: Sequence[StoredRun], analyst: _Analyst) -> Baselines:
    ended = [run for run in runs if run.stop_ns is not None]
    if not ended:
        return Baselines([])
    used, told, _ = await _told(store, ended, replace(analyst, how=How()))
    return Baselines(
        Idle(
            device=device,
            start_ns=run.start_ns,
            stop_ns=stop_of(run),
            baseline=as_baseline(name_of(run), part["idle_power_w"]),
        )
        for run in ended
        for device, part in zip(used[run.id], told[run.id]["devices"], strict=True)
        if part["idle_power_w"]
    )


async def listing(store: Store) -> dict[str, Any]:
    """Return the runs of a store as the list's JSON, version 1."""
    runs = await reader.runs(store)
    devices = {d.id: d for d in await reader.devices(store)}
    clock = await reader.wall_clock(store)
    used = await reader.run_devices(store, 0, max((run.id for run in runs), default=0))
    return {
        "schema": "telemetry.list/1",
        "runs": [
            {
                "run": run.uid,
                "name": run.name,
                "model": run.model,
                "start": iso(clock.wall_ns(run.start_ns)),
                "duration_s": None if run.stop_ns is None else (run.stop_ns - run.start_ns) / 1e9,
                "status": run.status,
                "simulated": any(devices[number].simulated for number in used.get(run.id, ())),
            }
            for run in runs
        ],
    }
