"""What is worked out of one run and kept in `result`: its energies, its latencies, its counts."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from telemetry.analysis import PowerLimits, estimate_of, latency, sum_devices, summary
from telemetry.join.energy import DeviceEnergy, device_energy
from telemetry.model import ALL_DEVICES, Estimate, Result
from telemetry.storage import reader
from telemetry.storage.reader import Results, StoredDevice, StoredRun
from telemetry.storage.store import Store

ANALYSIS_VERSION = "2"
COUNTS = ("requests_ok", "requests_failed", "input_tokens", "output_tokens")
LATENCIES = ("ttft", "tpot", "itl", "e2e")
SPREAD = ("mean", "p50", "p90", "p95", "p99")

# What later readings may still settle is worked out anew each time.
_UNSETTLED = {"not_covered", "edge_extrapolated"}


def settled(results: Results) -> bool:
    """Tell whether kept results are whole and final."""
    energy = results.estimates.get((ALL_DEVICES, "energy_j"))
    return energy is not None and not _UNSETTLED & set(energy.flags)


async def analyse(
    store: Store, run: StoredRun, stop_ns: int, devices: Sequence[StoredDevice], limits: Mapping[int, PowerLimits]
) -> list[Result]:
    """Work out one run from the rows around its edges, its vitals, requests and tokens.

    devices: the run's; limits: by device id.
    """
    parts = [await device_energy(store, d, limits[d.id], run.start_ns, stop_ns) for d in devices]
    found = {ALL_DEVICES: _run_energy(parts)} | {p.device.id: _device(p) for p in parts}
    found[ALL_DEVICES] |= await _answers(store, run, found[ALL_DEVICES]["energy_j"])
    return [
        Result(run=run.id, device=device, quantity=quantity, estimate=estimate)
        for device, quantities in found.items()
        for quantity, estimate in quantities.items()
    ]


def _run_energy(parts: Sequence[DeviceEnergy]) -> dict[str, Estimate]:
    if parts:
        return {"energy_j": sum_devices([p.estimates for p in parts]).at(0)}
    nan = float("nan")
    return {"energy_j": estimate_of(nan, nan, nan, method="none", flags=("not_covered",))}


def _device(part: DeviceEnergy) -> dict[str, Estimate]:
    seen = {
        "peak_power_w": part.peak_power_w,
        "max_temperature_c": part.max_temperature_c,
        "max_memory_used_bytes": part.max_memory_used_bytes,
    }
    return {"energy_j": part.energy} | {k: _plain(v, "highest reading") for k, v in seen.items() if v is not None}


async def _answers(store: Store, run: StoredRun, energy: Estimate) -> dict[str, Estimate]:
    """Return counts of requests and tokens, energies per each, and the latencies of answered requests."""
    requests = await reader.requests(store, run.id)
    output = sum(q.output_tokens or 0 for q in requests)
    given = sum(q.input_tokens or 0 for q in requests)
    good = [q for q in requests if q.status == "ok" and q.ended_ns is not None]
    counts = dict(zip(COUNTS, (len(good), sum(q.status == "failed" for q in requests), given, output), strict=True))
    ratios = {
        "j_per_output_token": _per(energy, output),
        "j_per_total_token": _per(energy, output + given),
        "j_per_request": _per(energy, len(requests)),
    }
    times = await reader.token_times(store, run.id)
    each = [
        latency(
            submitted_ns=q.submitted_ns,
            ended_ns=q.ended_ns or q.submitted_ns,
            token_ns=np.array(times.get(q.number, []), dtype=np.int64),
        )
        for q in good
    ]
    measured = {
        "ttft": [e.ttft_s for e in each if e.ttft_s is not None],
        "tpot": [e.tpot_s for e in each if e.tpot_s is not None],
        "itl": np.concatenate([e.itl_s for e in each]).tolist() if each else [],
        "e2e": [e.e2e_s for e in each],
    }
    spreads = [_spread(name, values) for name, values in measured.items()]
    return {k: _plain(v, "count") for k, v in counts.items()} | ratios | {k: v for s in spreads for k, v in s.items()}


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
