"""What a run's own readings, requests and tokens tell, as the report's JSON has it: the same in any report, so kept."""

from collections.abc import Mapping, Sequence
from typing import Any

from telemetry.analysis.per_token import REFUSED
from telemetry.analysis.spread import BUCKETS
from telemetry.analysis.vitals import THROTTLES
from telemetry.join import boundaries, metrics
from telemetry.join.answers import COUNTS, LATENCIES, PERCENTILES, SPREAD
from telemetry.join.documents import average_w, bounds_json, device_json, told_energy, whole
from telemetry.join.phases import MODELLED
from telemetry.join.spreads import LENGTHS
from telemetry.model import ALL_DEVICES, Estimate
from telemetry.storage.reader import StoredDevice

Estimates = Mapping[str, Estimate]  # by quantity
Numbers = Mapping[str, float | None]  # their values


def tell(
    duration_s: float,
    devices: Sequence[StoredDevice],
    headline: Sequence[StoredDevice],
    found: Mapping[int, Estimates],
    label: str,
) -> dict[str, Any]:
    """Return what was found of a run on its devices (ALL_DEVICES: together); `docs/json.md` says what it means.

    headline: those whose energy makes the run's; label: of what is allocated.
    """
    estimates = found[ALL_DEVICES]
    numbers = _numbers(estimates)
    ok, failed, uncounted, input_tokens, output_tokens = (whole(numbers[name]) or 0 for name in COUNTS)
    energy = estimates["energy_j"]
    peaks = [p.value for d in headline if (p := found[d.id].get("peak_power_w"))]
    avg_power_w = average_w(energy.value, duration_s)
    per_token = bounds_json(estimates["j_per_output_token"])
    latencies = {
        f"{name}_s": _spread(numbers, f"{name}_", "_s") | {"n": whole(numbers.get(f"{name}_n"))} for name in LATENCIES
    }
    tokens_per_s = output_tokens / duration_s if duration_s and not uncounted else None
    unattributed_j = numbers.get("unattributed_j")
    return {
        "duration_s": duration_s,
        "boundary": boundaries.named(headline),
        "energy": told_energy(energy),
        "unattributed_j": unattributed_j,
        "others_j": None if unattributed_j is None else numbers.get("others_j", 0.0),
        "devices": [_device(d, found[d.id], duration_s) for d in devices],
        "avg_power_w": avg_power_w,
        "peak_power_w": peaks[0] if len(peaks) == 1 else None,  # peaks of several devices need not meet
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
        | _spread(numbers, "j_per_request_", of=PERCENTILES)
        | {"n": ok + failed, "of": None if unattributed_j is None else label},
        **{f"requests_by_{kind}": _buckets(kind, numbers) for kind in LENGTHS},
        "j_per_token": _windowed(numbers),
        "efficiency_class": metrics.efficiency_class(per_token["value"]),
        "tokens_per_s": tokens_per_s,
        "tokens_per_s_per_w": tokens_per_s / avg_power_w if tokens_per_s is not None and avg_power_w else None,
        "edp_js": metrics.product(per_token["value"], latencies["tpot_s"]["mean"]),
        **latencies,
        "phases": _phases(estimates),
    }


def _numbers(estimates: Estimates) -> Numbers:
    return {quantity: estimate.value for quantity, estimate in estimates.items()}


def _device(device: StoredDevice, estimates: Estimates, duration_s: float) -> dict[str, Any]:
    numbers = _numbers(estimates)
    return device_json(
        device,
        told_energy(estimates["energy_j"]),
        duration_s,
        peak_power_w=numbers.get("peak_power_w"),
        max_temperature_c=numbers.get("max_temperature_c"),
        max_memory_used_bytes=numbers.get("max_memory_used_bytes"),
        residual=numbers.get("counter_residual"),
        throttled={r: held for r in THROTTLES if (held := numbers.get(f"throttled_{r}_s")) is not None},
        automatic=estimates.get("automatic_j"),
        idle_power_w=estimates.get("idle_power_w"),
    )


def _spread(numbers: Numbers, before: str, after: str = "", *, of: Sequence[str] = SPREAD) -> dict[str, Any]:
    return {what: numbers.get(f"{before}{what}{after}") for what in of}


def _buckets(kind: str, numbers: Numbers) -> list[dict[str, Any]]:
    """Return the requests' energies by length of prompt or output, of those lengths that there are."""
    return [
        {"from_tokens": least, "below_tokens": below, "n": int(n), "j_per_request": _spread(numbers, f"{of}_")}
        for least, below in zip(BUCKETS, (*BUCKETS[1:], None), strict=True)
        if (n := numbers.get(f"{(of := f'j_per_request_{kind}_{least}')}_n"))
    ]


def _windowed(numbers: Numbers) -> dict[str, Any]:
    length_s = numbers.get("j_per_token_s")
    return {
        "of": None if length_s is None else f"windowed({length_s:g} s)",
        **_spread(numbers, "j_per_token_", of=PERCENTILES),
        "n": whole(numbers.get("j_per_token_n")) or 0,
        "each_token": None,
        "each_token_reason": REFUSED,
    }


def _phases(estimates: Estimates) -> dict[str, Any]:
    found = {name: estimates.get(name) for name in ("prefill_j", "decode_j", "base_j")}
    quality = {name: estimates.get(f"phase_{name}") for name in ("condition", "r2")}
    prefill = found["prefill_j"]
    fitted = prefill is not None and prefill.method == MODELLED
    untold = fitted and prefill is not None and prefill.lo is None
    return {
        **{name: None if phase is None or untold else bounds_json(phase) for name, phase in found.items()},
        "label": None if prefill is None else "modelled" if fitted else "measured",
        **{name: None if number is None else number.value for name, number in quality.items()},
        "reasons": list(prefill.flags) if untold and prefill is not None else [],
    }
