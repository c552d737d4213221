"""One run of the report's JSON, version 1: what it tells itself, and what its surroundings add."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from telemetry.analysis import Calibration, calibrated, verdict
from telemetry.analysis.calibration import together
from telemetry.join import boundaries
from telemetry.join.baselines import Baselines, above_idle
from telemetry.join.documents import energy_json, energy_of, iso
from telemetry.storage.reader import Sessions, StoredDevice, StoredRequest, StoredRun, StoredSession, WallClock
from telemetry.storage.results import OfRequests


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What is the same for all runs of a report."""

    devices: Mapping[int, StoredDevice]
    calibrations: Mapping[str, Calibration]
    sessions: Sessions
    clock: WallClock
    alike: Mapping[tuple[Any, ...], int]  # measured runs that ended well, by their settings
    all_boundaries: bool


def stop_of(run: StoredRun) -> int:
    """Return when a run that has ended did."""
    assert run.stop_ns is not None
    return run.stop_ns


def run_json(
    run: StoredRun, devices: Sequence[StoredDevice], told: Mapping[str, Any], context: Context, baselines: Baselines
) -> dict[str, Any]:
    """Return a run from what it told (`tell`); `docs/json.md` says what its fields mean."""
    stop_ns = stop_of(run)
    energy = energy_of(told["energy"])
    each = {d.id: energy_of(part["energy"]) for d, part in zip(devices, told["devices"], strict=True)}
    headline = boundaries.headline(devices, all_boundaries=context.all_boundaries)
    parts = [(d.id, each[d.id]) for d in headline]
    net = above_idle(baselines, "B1", parts, run.start_ns, stop_ns)
    active = above_idle(baselines, "B0", parts, run.start_ns, stop_ns)
    flags = dict.fromkeys((*energy.flags, *(net.flags if net else ()), *(active.flags if active else ())))
    simulated = any(d.simulated for d in devices)
    sessions = [s for d in devices if (s := context.sessions.at(d.id, stop_ns))]
    judged = verdict(
        replace(energy, flags=tuple(flags)) if net or active else energy,
        measured_runs=context.alike.get(run.settings, 0),
        simulated=simulated,
        replayed=any(s.source.startswith("replay") for s in sessions),
        failed_requests=told["requests"]["failed"],
        uncounted_requests=told["uncounted_requests"],
        failed=run.status == "failed",
        quick=run.quick,
        noted=run.flags,
    )
    true = {d.id: calibrated(each[d.id], told["duration_s"], context.calibrations.get(d.uid)) for d in devices}
    return {
        "run": run.uid,
        "name": run.name,
        "experiment": run.experiment,
        "setting": run.setting,
        "environment": run.environment,
        "model": run.model,
        "runner": run.runner,
        "batch_size": run.batch_size,
        "concurrency": run.concurrency,
        "warmup": run.warmup,
        "simulated": simulated,
        "status": run.status,
        "error": run.error,
        "start": iso(context.clock.wall_ns(run.start_ns)),
        **told,
        "energy": energy_json(told["energy"], together([true[d.id] for d in headline]), net, active),
        "devices": [
            {**part, "energy": energy_json(part["energy"], true[d.id])}
            for d, part in zip(devices, told["devices"], strict=True)
        ],
        "per_request": None,
        "flags": [*flags, *run.flags],
        "verdict": {"publishable": judged.publishable, "reasons": list(judged.reasons)},
        "collector": _collector(sessions[0] if sessions else None),
    }


def per_request(requests: Sequence[StoredRequest], shares: Sequence[OfRequests]) -> list[dict[str, Any]]:
    """Return each request of a run with what it is charged."""
    charged = {share.quantity: dict(zip(share.numbers, share.values, strict=True)) for share in shares}
    return [
        {
            "number": q.number,
            "status": q.status,
            "input_tokens": q.input_tokens,
            "cached_tokens": q.cached_tokens,
            "output_tokens": q.output_tokens,
            "ttft_s": _between_s(q.submitted_ns, q.first_token_ns),
            "e2e_s": _between_s(q.submitted_ns, q.ended_ns),
            **{name: charged.get(name, {}).get(q.number) for name in ("energy_j", "marginal_j")},
        }
        for q in requests
    ]


def _collector(health: StoredSession | None) -> dict[str, Any]:
    return {
        "polls": health and health.polls,
        "missed": health and health.missed,
        "latency_p99_s": health and _seconds(health.latency_p99_ns),
        "cpu_s": health and _seconds(health.cpu_ns),
        "dropped_rows": health and health.dropped_rows,
    }


def _between_s(begin_ns: int, end_ns: int | None) -> float | None:
    return None if end_ns is None else (end_ns - begin_ns) / 1e9


def _seconds(ns: int | None) -> float | None:
    return None if ns is None else ns / 1e9
