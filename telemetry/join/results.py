"""What is worked out of one run and kept in `result`: its energies, its latencies, its counts."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from telemetry.analysis import Latency, estimate_of, latency, sum_devices, summary
from telemetry.join.baselines import BASELINE, idle_power, summed
from telemetry.join.boards import Board
from telemetry.join.energy import DeviceEnergy, Phases
from telemetry.join.traces import device_energy
from telemetry.model import ALL_DEVICES, Estimate, Result
from telemetry.storage import reader
from telemetry.storage.reader import Results, StoredDevice, StoredRequest, StoredRun, WallClock
from telemetry.storage.store import Store

ANALYSIS_VERSION = "5"
COUNTS = ("requests_ok", "requests_failed", "requests_uncounted", "input_tokens", "output_tokens")
LATENCIES = ("ttft", "tpot", "itl", "e2e")
SPREAD = ("mean", "p50", "p90", "p95", "p99")

# Runners whose work another process does: nobody can say which processes on the GPU are strangers.
NOT_THE_RECORDER = ("command", "openai")
# What later readings may still settle is worked out anew each time.
_UNSETTLED = {"not_covered", "edge_extrapolated"}


def settled(results: Results) -> bool:
    """Tell whether kept results are whole and final."""
    energy = results.estimates.get((ALL_DEVICES, "energy_j"))
    return energy is not None and not _UNSETTLED & set(energy.flags)


async def analyse(
    store: Store,
    run: StoredRun,
    stop_ns: int,
    devices: Sequence[tuple[StoredDevice, Board]],
    clock: WallClock,
    method: str = "auto",
) -> list[Result]:
    """Work out one run from the rows around its edges, its vitals, requests and tokens."""
    requests = await reader.requests(store, run.id)
    pids = None if run.pid is None or run.runner in NOT_THE_RECORDER else frozenset([run.pid])
    parts = {
        device.id: await device_energy(
            store,
            device,
            board,
            run.start_ns,
            stop_ns,
            clock=clock,
            own_pids=pids,
            method=method,
            phases=_phases(requests),
        )
        for device, board in devices
    }
    if run.runner == BASELINE:
        for device, board in devices:
            idle = await idle_power(store, device, board, run.start_ns, stop_ns, name=run.name or "B1")
            parts[device.id] = replace(parts[device.id], idle_power_w=idle)
    found = {ALL_DEVICES: _run_energy(list(parts.values()))} | {k: _device(part) for k, part in parts.items()}
    found[ALL_DEVICES] |= await _answers(store, run, requests, found[ALL_DEVICES]["energy_j"])
    return [
        Result(run=run.id, device=device, quantity=quantity, estimate=estimate)
        for device, quantities in found.items()
        for quantity, estimate in quantities.items()
    ]


def _phases(requests: Sequence[StoredRequest]) -> Phases | None:
    """Return when prefills and decodes were, of requests that ran one after the other; None where they overlap."""
    spans = [(q.started_ns, q.first_token_ns, q.ended_ns) for q in requests]
    known = [(a, b, c) for a, b, c in spans if a is not None and b is not None and c is not None]
    if not known or len(known) < len(spans):
        return None
    began, first, ended = np.array(sorted(known), dtype=np.int64).T
    if np.any(ended[:-1] > began[1:]):
        return None
    return {"prefill_j": (began, first), "decode_j": (first, ended)}


def _run_energy(parts: Sequence[DeviceEnergy]) -> dict[str, Estimate]:
    if parts:
        names = set.intersection(*(set(p.phases) for p in parts))
        phases = {name: summed([p.phases[name] for p in parts]) for name in sorted(names)}
        return {"energy_j": sum_devices([p.estimates for p in parts]).at(0)} | phases
    nan = float("nan")
    return {"energy_j": estimate_of(nan, nan, nan, method="none", flags=("not_covered",))}


def _device(part: DeviceEnergy) -> dict[str, Estimate]:
    highest = {
        "peak_power_w": part.peak_power_w,
        "max_temperature_c": part.max_temperature_c,
        "max_memory_used_bytes": part.max_memory_used_bytes,
    }
    found = {"energy_j": part.energy} | {k: _plain(v, "highest reading") for k, v in highest.items() if v is not None}
    if part.residual is not None:
        found["counter_residual"] = _plain(part.residual, "counter / power - 1")
    if part.automatic is not None:
        found["automatic_j"] = part.automatic
    if part.idle_power_w is not None:
        found["idle_power_w"] = part.idle_power_w
    return found | {f"throttled_{k}_s": _plain(v, "driver's counter") for k, v in part.throttled_s.items()}


async def _answers(
    store: Store, run: StoredRun, requests: Sequence[StoredRequest], energy: Estimate
) -> dict[str, Estimate]:
    """Return counts of requests and tokens, energies per each, and the latencies of answered requests.

    Pieces of text are no tokens: where nobody counted, no energy is told per token.
    """
    good = [q for q in requests if q.status == "ok" and q.ended_ns is not None]
    output = sum(q.output_tokens or 0 for q in requests)
    given = sum(q.input_tokens or 0 for q in requests)
    uncounted = sum(q.count_source == "chunks" for q in requests)
    counts = (len(good), sum(q.status == "failed" for q in requests), uncounted, given, output)
    ratios = {
        "j_per_output_token": _per(energy, 0 if uncounted else output),
        "j_per_total_token": _per(energy, 0 if uncounted else output + given),
        "j_per_request": _per(energy, len(requests)),
    }
    times = await reader.token_times(store, run.id)
    in_chunks = await reader.requests_in_chunks(store, run.id)
    each = [_latency(q, times.get(q.number, []), in_chunks=q.number in in_chunks) for q in good]
    measured = {
        "ttft": [e.ttft_s for e in each if e.ttft_s is not None],
        "tpot": [e.tpot_s for e in each if e.tpot_s is not None],
        "itl": np.concatenate([e.itl_s for e in each]).tolist() if each else [],
        "e2e": [e.e2e_s for e in each],
    }
    spreads = [_spread(name, values) for name, values in measured.items()]
    told = {name: _plain(count, "count") for name, count in zip(COUNTS, counts, strict=True)}
    return told | ratios | {k: v for s in spreads for k, v in s.items()}


def _latency(request: StoredRequest, times_ns: list[int], *, in_chunks: bool) -> Latency:
    """Return a request's latencies. Between pieces of text there is no time per token; the server's count divides."""
    found = latency(
        submitted_ns=request.submitted_ns,
        ended_ns=request.ended_ns or request.submitted_ns,
        token_ns=np.array(times_ns, dtype=np.int64),
    )
    if not in_chunks:
        return found
    tokens = request.output_tokens or 0 if request.count_source == "server" else 0
    span_s = (times_ns[-1] - times_ns[0]) / 1e9
    return replace(found, itl_s=np.empty(0), tpot_s=span_s / (tokens - 1) if tokens > 1 else None)


def _spread(name: str, values: Sequence[float]) -> dict[str, Estimate]:
    """Return n, and mean and percentiles where n allows them."""
    found = summary(values)
    kept = {f"{name}_{what}_s": getattr(found, what) for what in SPREAD}
    return {f"{name}_n": _plain(found.n, "count")} | {
        k: _plain(v, "type 7" if "_p" in k else "mean") for k, v in kept.items() if v is not None
    }


def _per(energy: Estimate, count: int) -> Estimate:
    """Return an energy's share: same method, grade and flags; None by nothing."""
    value, lo, hi = (None if v is None or not count else v / count for v in (energy.value, energy.lo, energy.hi))
    return replace(energy, value=value, lo=lo, hi=hi)


def _plain(value: float, method: str) -> Estimate:
    return Estimate(value=value, lo=None, hi=None, method=method, grade="n/a")
