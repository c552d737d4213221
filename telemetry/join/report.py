"""Runs as the report's JSON, version 1, from their results: those kept, and the others worked out now."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from telemetry.analysis import PowerLimits, summary, verdict
from telemetry.errors import TraceError
from telemetry.join.documents import average_w, device_json, energy_json, iso, whole
from telemetry.join.energy import limits_of
from telemetry.join.results import ANALYSIS_VERSION, COUNTS, LATENCIES, SPREAD, analyse, settled
from telemetry.model import ALL_DEVICES, Estimate
from telemetry.storage import reader
from telemetry.storage.reader import Results, Sessions, StoredDevice, StoredRun, WallClock
from telemetry.storage.store import Store

BATCH = 500  # runs whose results are in memory together
_LATENCY_KEYS = [
    (f"{name}_s", {what: (ALL_DEVICES, f"{name}_{what}_s") for what in SPREAD}, (ALL_DEVICES, f"{name}_n"))
    for name in LATENCIES
]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    """What is the same for all runs of a report, read once."""

    devices: Mapping[int, StoredDevice]
    sessions: Sessions
    clock: WallClock
    alike: Mapping[tuple[Any, ...], int]  # measured runs that ended well, by their settings


async def report(
    store: Store, uids: tuple[str, ...] = (), *, progress: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, Any]:
    """Return runs, all or those whose uid begins with one of these, as the report's JSON.

    Results that are not kept yet are worked out and, where the store may be written, kept. `progress` is told
    (runs done, runs in all). Raises TraceError for a uid that no run has.
    """
    found = await reader.runs(store, uids)
    for uid in uids:
        if not any(run.uid.startswith(uid) for run in found):
            raise TraceError(f"No run of {store.path} begins with {uid}. `telemetry list` names them.")
    facts = _Facts(
        devices={d.id: d for d in await reader.devices(store)},
        sessions=await reader.sessions(store),
        clock=await reader.wall_clock(store),
        alike=await reader.runs_alike(store),
    )
    stopped = [run for run in found if run.stop_ns is not None]
    limits: dict[int, PowerLimits] = {}
    documents: list[dict[str, Any]] = []
    for k in range(0, len(stopped), BATCH):
        progress(k, len(stopped))
        documents += await _batch(store, stopped[k : k + BATCH], facts, limits)
    return {
        "schema": "telemetry.report/1",
        "store": store.path,
        "generated": iso(store.clock.now_ns() + store.clock.offset_ns()),
        "version": version("telemetry"),
        "runs": documents,
        "groups": _groups(documents),
    }


async def _batch(
    store: Store, runs: Sequence[StoredRun], facts: _Facts, limits: dict[int, PowerLimits]
) -> list[dict[str, Any]]:
    span = min(run.id for run in runs), max(run.id for run in runs)
    used = await reader.run_devices(store, *span)
    kept = await reader.results(store, *span, ANALYSIS_VERSION)
    fresh = []
    for run in runs:
        if settled(kept.get(run.id, Results())):
            continue
        devices = [facts.devices[number] for number in used.get(run.id, ())]
        for device in devices:
            if device.id not in limits:
                limits[device.id] = await limits_of(store, device)
        rows = await analyse(store, run, _stop(run), devices, limits)
        kept[run.id] = Results.of(rows)
        fresh += rows
    if fresh and not store.read_only:
        await store.write_results(ANALYSIS_VERSION, fresh)
    return [_run(run, [facts.devices[n] for n in used.get(run.id, ())], kept[run.id], facts) for run in runs]


def _stop(run: StoredRun) -> int:
    assert run.stop_ns is not None
    return run.stop_ns


def _run(run: StoredRun, devices: Sequence[StoredDevice], results: Results, facts: _Facts) -> dict[str, Any]:
    numbers = results.numbers
    ok, failed, input_tokens, output_tokens = (whole(numbers.get((ALL_DEVICES, name))) or 0 for name in COUNTS)
    duration_s = (_stop(run) - run.start_ns) / 1e9
    energy = results.estimates[ALL_DEVICES, "energy_j"]
    simulated = any(d.simulated for d in devices)
    sessions = [s for d in devices if (s := facts.sessions.at(d.id, _stop(run)))]
    judged = verdict(
        energy,
        measured_runs=facts.alike.get(run.settings, 0),
        simulated=simulated,
        replayed=any(s.source.startswith("replay") for s in sessions),
        failed_requests=failed,
    )
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
        "energy": energy_json(energy),
        "devices": [
            device_json(
                d,
                results.estimates[d.id, "energy_j"],
                duration_s,
                peak_power_w=numbers.get((d.id, "peak_power_w")),
                max_temperature_c=numbers.get((d.id, "max_temperature_c")),
                max_memory_used_bytes=numbers.get((d.id, "max_memory_used_bytes")),
            )
            for d in devices
        ],
        "avg_power_w": average_w(energy, duration_s),
        "peak_power_w": max(peaks) if len(peaks) == 1 else None,  # peaks of several devices need not meet
        "requests": {"ok": ok, "failed": failed},
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "j_per_output_token": _bounds(results.estimates[ALL_DEVICES, "j_per_output_token"]),
        "j_per_total_token": _bounds(results.estimates[ALL_DEVICES, "j_per_total_token"]),
        "j_per_request": _bounds(results.estimates[ALL_DEVICES, "j_per_request"])
        | {"p50": None, "p90": None, "p95": None, "p99": None, "n": ok + failed},
        "tokens_per_s": output_tokens / duration_s if duration_s else None,
        **{
            name: {what: numbers.get(key) for what, key in spread.items()} | {"n": whole(numbers.get(count))}
            for name, spread, count in _LATENCY_KEYS
        },
        "phases": {"prefill_j": None, "decode_j": None},
        "flags": list(energy.flags),
        "verdict": {"publishable": judged.publishable, "reasons": list(judged.reasons)},
        "collector": {
            "polls": health and health.polls,
            "missed": health and health.missed,
            "latency_p99_s": health and _seconds(health.latency_p99_ns),
            "cpu_s": health and _seconds(health.cpu_ns),
            "dropped_rows": health and health.dropped_rows,
        },
    }


def _bounds(ratio: Estimate) -> dict[str, float | None]:
    return {"value": ratio.value, "lo": ratio.lo, "hi": ratio.hi}


def _seconds(ns: int | None) -> float | None:
    return None if ns is None else ns / 1e9


def _groups(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    groups: dict[str | None, list[dict[str, Any]]] = {}
    for run in runs:
        if run["status"] == "ok" and not run["warmup"]:
            groups.setdefault(run["model"], []).append(run)
    listed: list[dict[str, Any]] = []
    for model, members in groups.items():
        values = [m["j_per_output_token"]["value"] for m in members]
        known = [v for v in values if v is not None]
        energy = [m["energy"]["value_j"] for m in members]
        tokens = sum(m["output_tokens"] for m in members)
        pooled = sum(energy) / tokens if tokens and None not in energy else None
        listed.append(
            {
                "by": {"model": model},
                "n_runs": len(members),
                "j_per_output_token": {
                    "mean": pooled, "ci_lo": None, "ci_hi": None,
                    "method": "sum of joules / sum of output tokens",
                    "p50": summary(known).p50, "n": len(known),
                },
                "rank": None,
                "tied_with": [],
            }
        )  # fmt: skip
    order = sorted(
        [g for g in listed if g["j_per_output_token"]["mean"] is not None],
        key=lambda g: g["j_per_output_token"]["mean"],
    )
    for place, group in enumerate(order, 1):
        group["rank"] = place
    return listed


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
