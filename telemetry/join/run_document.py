"""One run of the report's JSON, version 1, from its results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from telemetry.analysis import Calibrated, Calibration, calibrated, verdict
from telemetry.analysis.calibration import together
from telemetry.analysis.per_token import REFUSED
from telemetry.analysis.spread import BUCKETS
from telemetry.analysis.vitals import THROTTLES
from telemetry.join import boundaries, metrics
from telemetry.join.answers import COUNTS, LATENCIES, PERCENTILES, SPREAD
from telemetry.join.baselines import Baselines, above_idle
from telemetry.join.documents import average_w, bounds_json, device_json, energy_json, iso, whole
from telemetry.join.phases import MODELLED
from telemetry.join.spreads import LENGTHS
from telemetry.model import ALL_DEVICES, Estimate
from telemetry.storage.reader import Sessions, StoredDevice, StoredRequest, StoredRun, StoredSession, WallClock
from telemetry.storage.results import Results

_LATENCY_KEYS = [(f"{name}_s", {what: f"{name}_{what}_s" for what in SPREAD}, f"{name}_n") for name in LATENCIES]
_OF_REQUESTS = {what: f"j_per_request_{what}" for what in PERCENTILES}
_OF_WINDOWS = {what: f"j_per_token_{what}" for what in PERCENTILES}
_THROTTLED = {reason: f"throttled_{reason}_s" for reason in THROTTLES}
_BUCKET_KEYS = {
    kind: [
        (
            {"from_tokens": least, "below_tokens": below},
            f"j_per_request_{kind}_{least}_n",
            {what: f"j_per_request_{kind}_{least}_{what}" for what in SPREAD},
        )
        for least, below in zip(BUCKETS, (*BUCKETS[1:], None), strict=True)
    ]
    for kind in LENGTHS
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What is the same for all runs of a report."""

    devices: Mapping[int, StoredDevice]
    calibrations: Mapping[str, Calibration]
    sessions: Sessions
    clock: WallClock
    alike: Mapping[tuple[Any, ...], int]  # measured runs that ended well, by their settings
    label: str  # of what is allocated
    all_boundaries: bool


def stop_of(run: StoredRun) -> int:
    """Return when a run that has ended did."""
    assert run.stop_ns is not None
    return run.stop_ns


def run_json(
    run: StoredRun, devices: Sequence[StoredDevice], results: Results, context: Context, baselines: Baselines
) -> dict[str, Any]:
    """Return a run; `docs/json.md` says what its fields mean."""
    numbers, estimates = results.numbers[ALL_DEVICES], results.estimates[ALL_DEVICES]
    ok, failed, uncounted, input_tokens, output_tokens = (int(numbers.get(name, 0)) for name in COUNTS)
    stop_ns = stop_of(run)
    duration_s = (stop_ns - run.start_ns) / 1e9
    energy = estimates["energy_j"]
    headline = boundaries.headline(devices, all_boundaries=context.all_boundaries)
    energies = {d.id: results.estimates[d.id]["energy_j"] for d in devices}
    each = [(d.id, energies[d.id]) for d in headline]
    net = above_idle(baselines, "B1", each, run.start_ns, stop_ns)
    active = above_idle(baselines, "B0", each, run.start_ns, stop_ns)
    flags = dict.fromkeys((*energy.flags, *(net.flags if net else ()), *(active.flags if active else ())))
    simulated = any(d.simulated for d in devices)
    sessions = [s for d in devices if (s := context.sessions.at(d.id, stop_ns))]
    judged = verdict(
        replace(energy, flags=tuple(flags)) if net or active else energy,
        measured_runs=context.alike.get(run.settings, 0),
        simulated=simulated,
        replayed=any(s.source.startswith("replay") for s in sessions),
        failed_requests=failed,
        uncounted_requests=uncounted,
        failed=run.status == "failed",
        quick=run.quick,
        noted=run.flags,
    )
    true = {d.id: calibrated(energies[d.id], duration_s, context.calibrations.get(d.uid)) for d in devices}
    peaks = [p for d in headline if (p := results.numbers[d.id].get("peak_power_w")) is not None]
    avg_power_w = average_w(energy.value, duration_s)
    per_token = bounds_json(estimates["j_per_output_token"])
    latencies = {
        name: {what: numbers.get(key) for what, key in spread.items()} | {"n": whole(numbers.get(count))}
        for name, spread, count in _LATENCY_KEYS
    }
    tokens_per_s = output_tokens / duration_s if duration_s and not uncounted else None
    unattributed_j = numbers.get("unattributed_j")
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
        "duration_s": duration_s,
        "boundary": boundaries.named(headline),
        "energy": energy_json(energy, together([true[d.id] for d in headline]), net, active),
        "unattributed_j": unattributed_j,
        "others_j": None if unattributed_j is None else numbers.get("others_j", 0.0),
        "devices": [_device(d, results, true[d.id], duration_s) for d in devices],
        "avg_power_w": avg_power_w,
        "peak_power_w": max(peaks) if len(peaks) == 1 else None,  # peaks of several devices need not meet
        "pct_of_power_limit": metrics.pct_of_limit(avg_power_w, [d.power_limit_mw for d in headline]),
        "requests": {"ok": ok, "failed": failed},
        "uncounted_requests": uncounted,
        "mean_running_requests": numbers.get("mean_running_requests"),
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "j_per_output_token": per_token,
        "j_per_total_token": bounds_json(estimates["j_per_total_token"]),
        "j_per_input_token": metrics.shared(energy, input_tokens),
        "j_per_request": bounds_json(estimates["j_per_request"])
        | {what: numbers.get(key) for what, key in _OF_REQUESTS.items()}
        | {"n": ok + failed, "of": None if unattributed_j is None else context.label},
        **{f"requests_by_{kind}": _buckets(kind, numbers) for kind in LENGTHS},
        "j_per_token": _windowed(numbers),
        "efficiency_class": metrics.efficiency_class(per_token["value"]),
        "tokens_per_s": tokens_per_s,
        "tokens_per_s_per_w": tokens_per_s / avg_power_w if tokens_per_s is not None and avg_power_w else None,
        "edp_js": metrics.product(per_token["value"], latencies["tpot_s"]["mean"]),
        **latencies,
        "phases": _phases(estimates, numbers),
        "per_request": None,
        "flags": [*flags, *run.flags],
        "verdict": {"publishable": judged.publishable, "reasons": list(judged.reasons)},
        "collector": _collector(sessions[0] if sessions else None),
    }


def per_request(requests: Sequence[StoredRequest], energy_j: Mapping[int, float]) -> list[dict[str, Any]]:
    """Return each request of a run with what it is charged."""
    return [
        {
            "number": q.number,
            "status": q.status,
            "input_tokens": q.input_tokens,
            "cached_tokens": q.cached_tokens,
            "output_tokens": q.output_tokens,
            "ttft_s": _between_s(q.submitted_ns, q.first_token_ns),
            "e2e_s": _between_s(q.submitted_ns, q.ended_ns),
            "energy_j": energy_j.get(q.number),
        }
        for q in requests
    ]


def _device(device: StoredDevice, results: Results, true: Calibrated, duration_s: float) -> dict[str, Any]:
    numbers, estimates = results.numbers[device.id], results.estimates[device.id]
    return device_json(
        device,
        energy_json(estimates["energy_j"], true),
        duration_s,
        peak_power_w=numbers.get("peak_power_w"),
        max_temperature_c=numbers.get("max_temperature_c"),
        max_memory_used_bytes=numbers.get("max_memory_used_bytes"),
        residual=numbers.get("counter_residual"),
        throttled={reason: held for reason, key in _THROTTLED.items() if (held := numbers.get(key)) is not None},
        automatic=estimates.get("automatic_j"),
        idle_power_w=estimates.get("idle_power_w"),
    )


def _buckets(kind: str, numbers: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return the requests' energies by length of prompt or output, of those lengths that there are."""
    return [
        {**tokens, "n": int(n), "j_per_request": {what: numbers.get(key) for what, key in spread.items()}}
        for tokens, count, spread in _BUCKET_KEYS[kind]
        if (n := numbers.get(count))
    ]


def _windowed(numbers: Mapping[str, float]) -> dict[str, Any]:
    length_s = numbers.get("j_per_token_s")
    return {
        "of": None if length_s is None else f"windowed({length_s:g} s)",
        **{what: numbers.get(key) for what, key in _OF_WINDOWS.items()},
        "n": whole(numbers.get("j_per_token_n")) or 0,
        "each_token": None,
        "each_token_reason": REFUSED,
    }


def _phases(estimates: Mapping[str, Estimate], numbers: Mapping[str, float]) -> dict[str, Any]:
    found = {name: estimates.get(name) for name in ("prefill_j", "decode_j", "base_j")}
    prefill = found["prefill_j"]
    fitted = prefill is not None and prefill.method == MODELLED
    untold = fitted and prefill is not None and prefill.lo is None
    return {
        **{name: None if phase is None or untold else bounds_json(phase) for name, phase in found.items()},
        "label": None if prefill is None else "modelled" if fitted else "measured",
        "condition": numbers.get("phase_condition"),
        "r2": numbers.get("phase_r2"),
        "reasons": list(prefill.flags) if untold and prefill is not None else [],
    }


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
