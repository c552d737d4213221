"""Runs as the report's JSON, version 1, from their results: those kept, and the others worked out now."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from typing import Any

import numpy as np

from telemetry.analysis import Arm, arm_interval, calibrated, ranked, summary, verdict
from telemetry.analysis.calibration import together
from telemetry.analysis.vitals import THROTTLES
from telemetry.errors import TraceError
from telemetry.join.baselines import BASELINE, Baselines, Idle, above_idle, as_baseline
from telemetry.join.boards import Board, Boards
from telemetry.join.documents import average_w, bounds_json, device_json, energy_json, iso, whole
from telemetry.join.results import ANALYSIS_VERSION, COUNTS, LATENCIES, SPREAD, analyse, settled
from telemetry.join.traces import board_of
from telemetry.model import ALL_DEVICES
from telemetry.storage import reader
from telemetry.storage.reader import Results, Sessions, StoredDevice, StoredRun, WallClock
from telemetry.storage.store import Store

SEED = 0  # of resampling: the same report each time
BATCH = 250  # runs whose results are in memory together
_LATENCY_KEYS = [
    (f"{name}_s", {what: (ALL_DEVICES, f"{name}_{what}_s") for what in SPREAD}, (ALL_DEVICES, f"{name}_n"))
    for name in LATENCIES
]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    """What is the same for all runs of a report, read once."""

    devices: Mapping[int, StoredDevice]
    boards: Boards
    sessions: Sessions
    clock: WallClock
    alike: Mapping[tuple[Any, ...], int]  # measured runs that ended well, by their settings
    method: str
    version: str  # of results that may be used
    known: dict[int, Board] = field(default_factory=dict)  # by device, as far as one was needed


async def report(
    store: Store,
    uids: tuple[str, ...] = (),
    *,
    boards: Boards,
    method: str = "auto",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Return runs, all or those whose uid begins with one of these, as the report's JSON.

    Results that are not kept yet are worked out and, where the store may be written, kept; with a `method` all
    are worked out and none is kept. Baselines are reported when named. `progress` is told (runs done, runs in
    all). Raises TraceError for a uid that no run has, UsageError for a method that does not exist.
    """
    every = [run for run in await reader.runs(store) if run.stop_ns is not None]
    for uid in uids:
        if not any(run.uid.startswith(uid) for run in every):
            raise TraceError(f"No run of {store.path} that has ended begins with {uid}. `telemetry list` names them.")
    asked = [r for r in every if (r.uid.startswith(uids) if uids else r.runner != BASELINE)]
    facts = _Facts(
        devices={d.id: d for d in await reader.devices(store)},
        boards=boards,
        sessions=await reader.sessions(store),
        clock=await reader.wall_clock(store),
        alike=await reader.runs_alike(store),
        method=method,
        version=f"{ANALYSIS_VERSION}-{boards.version()}",
    )
    baselines = await _baselines(store, [run for run in every if run.runner == BASELINE], facts)
    documents: list[dict[str, Any]] = []
    for k in range(0, len(asked), BATCH):
        part = asked[k : k + BATCH]
        progress(k, len(asked))
        used, kept = await _results(store, part, facts)
        documents += [_run(r, [facts.devices[n] for n in used[r.id]], kept[r.id], facts, baselines) for r in part]
    return {
        "schema": "telemetry.report/1",
        "store": store.path,
        "generated": iso(store.clock.now_ns() + store.clock.offset_ns()),
        "version": metadata.version("telemetry"),
        "runs": documents,
        "groups": _groups(documents),
    }


async def _results(
    store: Store, runs: Sequence[StoredRun], facts: _Facts
) -> tuple[Mapping[int, list[int]], Mapping[int, Results]]:
    """Return the devices and the results of some runs, by run; what is not kept yet is worked out and kept."""
    span = min(run.id for run in runs), max(run.id for run in runs)
    used = defaultdict(list, await reader.run_devices(store, *span))
    kept = {} if facts.method != "auto" else await reader.results(store, *span, facts.version)
    fresh = []
    for run in runs:
        if settled(kept.get(run.id, Results())):
            continue
        devices = [(facts.devices[number], await _board(store, facts, number)) for number in used[run.id]]
        rows = await analyse(store, run, _stop(run), devices, facts.clock, facts.method)
        kept[run.id] = Results.of(rows)
        fresh += rows
    if fresh and facts.method == "auto" and not store.read_only:
        await store.write_results(facts.version, fresh)
    return used, kept


async def _board(store: Store, facts: _Facts, device: int) -> Board:
    if device not in facts.known:
        facts.known[device] = await board_of(store, facts.devices[device], facts.boards)
    return facts.known[device]


async def _baselines(store: Store, runs: Sequence[StoredRun], facts: _Facts) -> Baselines:
    if not runs:
        return Baselines([])
    used, kept = await _results(store, runs, replace(facts, method="auto"))
    return Baselines(
        Idle(device=device, start_ns=run.start_ns, stop_ns=_stop(run), baseline=as_baseline(idle))
        for run in runs
        for device in used[run.id]
        if (idle := kept[run.id].estimates.get((device, "idle_power_w")))
    )


def _stop(run: StoredRun) -> int:
    assert run.stop_ns is not None
    return run.stop_ns


def _run(
    run: StoredRun, devices: Sequence[StoredDevice], results: Results, facts: _Facts, baselines: Baselines
) -> dict[str, Any]:
    numbers, estimates = results.numbers, results.estimates
    ok, failed, uncounted, input_tokens, output_tokens = (
        whole(numbers.get((ALL_DEVICES, name))) or 0 for name in COUNTS
    )
    stop_ns = _stop(run)
    duration_s = (stop_ns - run.start_ns) / 1e9
    energy = estimates[ALL_DEVICES, "energy_j"]
    each = [(d.id, estimates[d.id, "energy_j"]) for d in devices]
    net = above_idle(baselines, "B1", each, run.start_ns, stop_ns)
    active = above_idle(baselines, "B0", each, run.start_ns, stop_ns)
    flags = dict.fromkeys((*energy.flags, *(net.flags if net else ()), *(active.flags if active else ())))
    simulated = any(d.simulated for d in devices)
    sessions = [s for d in devices if (s := facts.sessions.at(d.id, stop_ns))]
    judged = verdict(
        replace(energy, flags=tuple(flags)),
        measured_runs=facts.alike.get(run.settings, 0),
        simulated=simulated,
        replayed=any(s.source.startswith("replay") for s in sessions),
        failed_requests=failed,
        uncounted_requests=uncounted,
    )
    true = [
        calibrated(e, duration_s, facts.boards.calibrations.get(d.uid)) for d, (_, e) in zip(devices, each, strict=True)
    ]
    peaks = [p for d in devices if (p := numbers.get((d.id, "peak_power_w"))) is not None]
    health = sessions[0] if sessions else None
    return {
        "run": run.uid,
        "name": run.name,
        "model": run.model,
        "runner": run.runner,
        "batch_size": run.batch_size,
        "concurrency": run.concurrency,
        "warmup": run.warmup,
        "simulated": simulated,
        "status": run.status,
        "error": run.error,
        "start": iso(facts.clock.wall_ns(run.start_ns)),
        "duration_s": duration_s,
        "boundary": "+".join(sorted({d.boundary for d in devices})) or None,
        "energy": energy_json(energy, together(true), net, active),
        "devices": [
            device_json(
                d,
                energy_json(estimates[d.id, "energy_j"], of_device),
                duration_s,
                peak_power_w=numbers.get((d.id, "peak_power_w")),
                max_temperature_c=numbers.get((d.id, "max_temperature_c")),
                max_memory_used_bytes=numbers.get((d.id, "max_memory_used_bytes")),
                residual=numbers.get((d.id, "counter_residual")),
                throttled={t: held for t in THROTTLES if (held := numbers.get((d.id, f"throttled_{t}_s"))) is not None},
                automatic=estimates.get((d.id, "automatic_j")),
                idle_power_w=estimates.get((d.id, "idle_power_w")),
            )
            for d, of_device in zip(devices, true, strict=True)
        ],
        "avg_power_w": average_w(energy.value, duration_s),
        "peak_power_w": max(peaks) if len(peaks) == 1 else None,  # peaks of several devices need not meet
        "requests": {"ok": ok, "failed": failed},
        "uncounted_requests": uncounted,
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "j_per_output_token": bounds_json(estimates[ALL_DEVICES, "j_per_output_token"]),
        "j_per_total_token": bounds_json(estimates[ALL_DEVICES, "j_per_total_token"]),
        "j_per_request": bounds_json(estimates[ALL_DEVICES, "j_per_request"])
        | {"p50": None, "p90": None, "p95": None, "p99": None, "n": ok + failed},
        "tokens_per_s": output_tokens / duration_s if duration_s and not uncounted else None,
        **{
            name: {what: numbers.get(key) for what, key in spread.items()} | {"n": whole(numbers.get(count))}
            for name, spread, count in _LATENCY_KEYS
        },
        "phases": {
            name: bounds_json(phase) if (phase := estimates.get((ALL_DEVICES, name))) else None
            for name in ("prefill_j", "decode_j")
        },
        "flags": list(flags),
        "verdict": {"publishable": judged.publishable, "reasons": list(judged.reasons)},
        "collector": {
            "polls": health and health.polls,
            "missed": health and health.missed,
            "latency_p99_s": health and _seconds(health.latency_p99_ns),
            "cpu_s": health and _seconds(health.cpu_ns),
            "dropped_rows": health and health.dropped_rows,
        },
    }


def _seconds(ns: int | None) -> float | None:
    return None if ns is None else ns / 1e9


def _groups(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return measured runs of equal settings together, ranked by J/output token; a group of unknowns has no rank."""
    members: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for run in runs:
        if run["status"] == "ok" and not run["warmup"]:
            members[tuple(run[name] for name in reader.SETTINGS)].append(run)
    arms = {settings: arm for settings, some in members.items() if (arm := _arm(some))}
    places = dict(zip(arms, ranked(list(arms.values())), strict=True))
    telling = [
        name
        for k, name in enumerate(reader.SETTINGS)
        if name == "model" or len({settings[k] for settings in members}) > 1
    ]
    names = {
        settings: {n: v for n, v in zip(reader.SETTINGS, settings, strict=True) if n in telling} for settings in members
    }
    return [
        {
            "by": names[settings],
            "n_runs": len(some),
            "j_per_output_token": _of_arm(arms.get(settings)),
            "rank": places[settings].rank if settings in places else None,
            "tied_with": [names[list(arms)[k]] for k in places[settings].tied_with] if settings in places else [],
        }
        for settings, some in members.items()
    ]


def _arm(runs: list[dict[str, Any]]) -> Arm | None:
    """Return runs as one arm of a comparison; None where one has no energy or no token."""
    energy = [run["energy"]["value_j"] for run in runs]
    tokens = [0 if run["uncounted_requests"] else run["output_tokens"] for run in runs]
    if any(not joules or joules < 0 for joules in energy) or not all(tokens):
        return None
    return Arm(energy_j=np.array(energy, dtype=np.float64), tokens=np.array(tokens, dtype=np.float64))


def _of_arm(arm: Arm | None) -> dict[str, Any]:
    likely = arm_interval(arm, seed=SEED) if arm else None
    each = arm.energy_j / arm.tokens if arm else np.empty(0)
    return {
        "mean": arm.value if arm else None,
        "ci_lo": likely and likely.lo,
        "ci_hi": likely and likely.hi,
        "method": "sum of joules / sum of output tokens" + (f"; 95 % interval: {likely.method}" if likely else ""),
        "p50": summary(each).p50,
        "n": len(each),
    }


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
