"""The join of the two streams: what a run, or any interval, cost in joules and per token."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Literal, cast

import numpy as np

from telemetry.analysis import (
    Breaks,
    EnergyCurve,
    EnergyEstimates,
    Rows,
    Summary,
    estimate_of,
    latency,
    power_limits,
    sum_devices,
    summary,
    verdict,
)
from telemetry.errors import TraceError
from telemetry.model import Estimate, power_column
from telemetry.storage import reader
from telemetry.storage.reader import EDGE_NS, StoredDevice, StoredRun
from telemetry.storage.store import Store

ANALYSIS_VERSION = "1"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceEnergy:
    """One device over one interval."""

    device: StoredDevice
    estimates: EnergyEstimates  # of the one interval
    peak_power_w: float | None
    max_temperature_c: int | None
    max_memory_used_bytes: int | None
    polls: int
    misses: int
    source: str

    @property
    def energy(self) -> Estimate:
        """The device's energy, J."""
        return self.estimates.at(0)


async def device_energy(store: Store, device: StoredDevice, t0_ns: int, t1_ns: int) -> DeviceEnergy:
    """Return the energy of one device over [t0, t1], from the rows around its edges and its breaks."""
    holes = await reader.gaps(store, device.id, t0_ns - EDGE_NS, t1_ns + EDGE_NS)
    starts = await reader.session_starts(store, device.id, t0_ns - EDGE_NS, t1_ns + EDGE_NS)
    places = [(t0_ns - EDGE_NS, t0_ns + EDGE_NS), (t1_ns - EDGE_NS, t1_ns + EDGE_NS)]
    places += [(gap.from_ns, gap.to_ns) for gap in holes] + [(start, start) for start in starts]
    pieces = [await reader.rows_between(store, device.id, *place) for place in _merged(places)]
    rows = Rows.concat([Rows.of(piece) for piece in pieces if piece])
    ever = await reader.extremes(store, device.id, 0, 2**62)
    inside = await reader.extremes(store, device.id, t0_ns + 1_050_000_000, t1_ns)
    curve = EnergyCurve.of(
        rows,
        path=cast(Literal["counter", "integral"], device.energy_path or "integral"),
        limits=power_limits(
            limit_w=_kilo(device.power_limit_mw),
            min_instant_w=_kilo(ever.min_power_mw),
            max_instant_w=_kilo(ever.max_power_mw),
            name=device.name,
        ),
        breaks=Breaks.of(holes, starts),
        integral_of=device.integral_of or "instant",
    )
    t0, t1 = np.array([t0_ns]), np.array([t1_ns])
    edges = [p for p in (*curve.peak_power_w(t0, t1).tolist(), _kilo(inside.max_power_mw)) if p is not None]
    known = [p for p in edges if np.isfinite(p)]
    around = await reader.extremes(store, device.id, t0_ns, t1_ns + 1_000_000_000)
    health = await reader.session_health(store, device.id, t1_ns)
    return DeviceEnergy(
        device=device,
        estimates=curve.energy(t0, t1),
        peak_power_w=max(known, default=None),
        max_temperature_c=around.max_temperature_c,
        max_memory_used_bytes=around.max_memory_used_bytes,
        polls=around.polls,
        misses=around.misses,
        source=str(health.get("source", "unknown")),
    )


def _kilo(milli: int | None) -> float | None:
    return None if milli is None else milli / 1000


def _merged(places: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for begin, end in sorted(places):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return merged


async def run_report(store: Store, run: StoredRun, measured_runs: int) -> dict[str, Any]:
    """Return one run as the report's JSON has it; `measured_runs` counts those of the same settings."""
    stop_ns = run.stop_ns or store.clock.now_ns()
    parts = [
        await device_energy(store, device, run.start_ns, stop_ns) for device in await reader.devices(store, run.id)
    ]
    requests = await reader.requests(store, run.id)
    times = await reader.token_times(store, run.id)
    output = sum(q.output_tokens or 0 for q in requests)
    given = sum(q.input_tokens or 0 for q in requests)
    failed = sum(q.status == "failed" for q in requests)
    good = [q for q in requests if q.status == "ok" and q.ended_ns is not None]
    energy = _total(parts)
    duration_s = (stop_ns - run.start_ns) / 1e9
    latencies = [
        latency(
            submitted_ns=q.submitted_ns,
            ended_ns=q.ended_ns or q.submitted_ns,
            token_ns=np.array(times.get(q.number, []), dtype=np.int64),
        )
        for q in good
    ]
    gaps_s = np.concatenate([each.itl_s for each in latencies]) if latencies else np.empty(0)
    simulated = any(p.device.simulated for p in parts)
    judged = verdict(
        energy,
        measured_runs=measured_runs,
        simulated=simulated,
        replayed=any(p.source.startswith("replay") for p in parts),
        failed_requests=failed,
    )
    health = await reader.session_health(store, parts[0].device.id, stop_ns) if parts else {}
    per_request = _ratio(energy, len(requests))
    peaks = [p.peak_power_w for p in parts if p.peak_power_w is not None]
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
        "start": iso(run.start_ns + await reader.offset_ns(store, run.start_ns)),
        "duration_s": duration_s,
        "boundary": "+".join(sorted({p.device.boundary for p in parts})) or None,
        "energy": energy_json(energy),
        "devices": [device_json(p, duration_s) for p in parts],
        "avg_power_w": None if energy.value is None or not duration_s else energy.value / duration_s,
        "peak_power_w": max(peaks) if len(peaks) == 1 else None,  # peaks of several devices need not meet
        "requests": {"ok": len(good), "failed": failed},
        "input_tokens": given,
        "output_tokens": output,
        "j_per_output_token": _ratio(energy, output),
        "j_per_total_token": _ratio(energy, output + given),
        "j_per_request": per_request | {"p50": None, "p90": None, "p95": None, "p99": None, "n": len(requests)},
        "tokens_per_s": output / duration_s if duration_s else None,
        "ttft_s": spread([e.ttft_s for e in latencies if e.ttft_s is not None]),
        "tpot_s": spread([e.tpot_s for e in latencies if e.tpot_s is not None]),
        "itl_s": spread(gaps_s.tolist()),
        "e2e_s": spread([e.e2e_s for e in latencies]),
        "phases": {"prefill_j": None, "decode_j": None},
        "flags": list(energy.flags),
        "verdict": {"publishable": judged.publishable, "reasons": list(judged.reasons)},
        "collector": {
            "polls": health.get("polls"),
            "missed": health.get("missed"),
            "latency_p99_s": None if health.get("latency_p99_ns") is None else health["latency_p99_ns"] / 1e9,
            "cpu_s": None if health.get("cpu_ns") is None else health["cpu_ns"] / 1e9,
            "dropped_rows": health.get("dropped_rows"),
        },
    }


def _total(parts: list[DeviceEnergy]) -> Estimate:
    if parts:
        return sum_devices([p.estimates for p in parts]).at(0)
    nan = float("nan")
    return estimate_of(nan, nan, nan, method="none", flags=("not_covered",))


def _ratio(energy: Estimate, count: int) -> dict[str, float | None]:
    scaled = [None if v is None or not count else v / count for v in (energy.value, energy.lo, energy.hi)]
    return dict(zip(("value", "lo", "hi"), scaled, strict=True))


async def report(store: Store, uids: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return runs as the report's JSON, version 1, and keep their estimates in `result`."""
    found = await reader.runs(store, uids)
    if uids and not found:
        raise TraceError(f"No run of {store.path} begins with {' or '.join(uids)}. `telemetry list` names them.")
    settled = [r for r in found if r.stop_ns is not None]
    alike: dict[tuple[Any, ...], int] = {}
    for r in await reader.runs(store):
        if r.status == "ok" and not r.warmup:
            alike[_settings(r)] = alike.get(_settings(r), 0) + 1
    runs = [await run_report(store, r, alike.get(_settings(r), 0)) for r in settled]
    if not store.read_only and runs:
        await store.write_results(ANALYSIS_VERSION, [row for r in runs for row in _result_rows(r)])
    return {
        "schema": "telemetry.report/1",
        "store": store.path,
        "generated": iso(store.clock.now_ns() + store.clock.offset_ns()),
        "version": version("telemetry"),
        "runs": runs,
        "groups": _groups(runs),
    }


def _settings(run: StoredRun) -> tuple[Any, ...]:
    return (run.model, run.runner, run.batch_size, run.concurrency)


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


def _result_rows(run: dict[str, Any]) -> list[tuple[str, str | None, str, Estimate]]:
    e = run["energy"]
    whole = Estimate(
        value=e["value_j"], lo=e["lo_j"], hi=e["hi_j"], method=e["method"], grade=e["grade"],
        flags=tuple(run["flags"]),
    )  # fmt: skip
    rows: list[tuple[str, str | None, str, Estimate]] = [(run["run"], None, "energy_j", whole)]
    for quantity in ("j_per_output_token", "j_per_total_token"):
        ratio = run[quantity]
        rows.append((run["run"], None, quantity, replace(whole, value=ratio["value"], lo=ratio["lo"], hi=ratio["hi"])))
    for device in run["devices"]:
        d = device["energy"]
        each = replace(whole, value=d["value_j"], lo=d["lo_j"], hi=d["hi_j"], method=d["method"], grade=d["grade"])
        rows.append((run["run"], device["uid"], "energy_j", each))
    return rows


def energy_json(energy: Estimate) -> dict[str, Any]:
    """Return an energy as the report's JSON has it."""
    return {
        "value_j": energy.value, "lo_j": energy.lo, "hi_j": energy.hi, "method": energy.method,
        "grade": energy.grade, "net_j": None, "baseline": None,
    }  # fmt: skip


def device_json(part: DeviceEnergy, duration_s: float) -> dict[str, Any]:
    """Return one device's part as the report's JSON has it."""
    energy = part.energy
    return {
        "uid": part.device.uid,
        "name": part.device.name,
        "energy": energy_json(energy),
        "avg_power_w": None if energy.value is None or not duration_s else energy.value / duration_s,
        "peak_power_w": part.peak_power_w,
        "max_temperature_c": part.max_temperature_c,
        "max_memory_used_bytes": part.max_memory_used_bytes,
        "throttled_s": None,
    }


def spread(values: list[float]) -> dict[str, float | int | None]:
    """Return mean, percentiles and n as the report's JSON has them."""
    s: Summary = summary(values)
    return {"mean": s.mean, "p50": s.p50, "p90": s.p90, "p95": s.p95, "p99": s.p99, "n": s.n}


async def window(store: Store, t0_ns: int, t1_ns: int, uids: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the energy of any interval as the window's JSON, version 1.

    Raises TraceError where the interval and the readings do not meet, saying by how much they miss.
    """
    if t1_ns <= t0_ns:
        raise TraceError("The window ends before it begins. Swap --from and --to.")
    every = [d for d in await reader.devices(store) if not uids or d.uid in uids or d.name in uids]
    spans = {d.id: span for d in every if (span := await reader.span_ns(store, d.id))}
    meets = [d for d in every if d.id in spans and spans[d.id][0] < t1_ns and spans[d.id][1] > t0_ns]
    if not meets:
        raise TraceError(await _missed(store, t0_ns, t1_ns, list(spans.values())))
    parts = [await device_energy(store, d, t0_ns, t1_ns) for d in meets]
    total, duration_s = _total(parts), (t1_ns - t0_ns) / 1e9
    return {
        "schema": "telemetry.window/1",
        "store": store.path,
        "from": iso(t0_ns),
        "to": iso(t1_ns),
        "duration_s": duration_s,
        "simulated": any(d.simulated for d in meets),
        "energy": energy_json(total),
        "devices": [device_json(p, duration_s) for p in parts],
        "source": await _source(store, meets[0], t0_ns, t1_ns),
        "flags": list(total.flags),
    }


async def _source(store: Store, device: StoredDevice, t0_ns: int, t1_ns: int) -> dict[str, Any]:
    rows = [r for r in await reader.rows_between(store, device.id, t0_ns, t1_ns) if t0_ns <= r.t_ns <= t1_ns]
    polled = np.array([r.since_ns for r in rows if r.since_ns > 0])
    column = power_column(device.integral_of or "instant") if device.energy_path == "integral" else None
    shown = [getattr(r, column) if column else r.energy_mj for r in rows]
    changed = np.array([rows[i].t_ns for i in range(1, len(rows)) if shown[i] != shown[i - 1]])
    refresh = np.diff(changed)
    return {
        "column": device.integral_of if device.energy_path == "integral" else "energy counter",
        "poll_hz": float(1e9 / np.median(polled)) if len(polled) else None,
        "refresh_hz": float(1e9 / np.median(refresh)) if len(refresh) else None,
        "largest_gap_s": float(polled.max() / 1e9) if len(polled) else None,
        "samples": len(rows),
    }


async def _missed(store: Store, t0_ns: int, t1_ns: int, spans: list[tuple[int, int]]) -> str:
    if not spans:
        return f"{store.path} holds no readings. Collect or import some first."
    begin, end = min(spans, key=lambda s: max(s[0] - t1_ns, t0_ns - s[1]))
    off_s = (begin - t1_ns if begin >= t1_ns else end - t0_ns) / 1e9
    text = (
        f"The window and the readings do not meet: they miss each other by {abs(off_s) / 3600:.2f} hours "
        f"(the readings run from {iso(begin)} to {iso(end)})."
    )
    if await reader.tz_assumed(store):
        hours = round(((begin + end) / 2 - (t0_ns + t1_ns) / 2) / 3.6e12)
        text += (
            " The imported file's stamps name no zone and were read as UTC; if its clock was "
            f"{hours:+03d}:00 of UTC, import it into a new store with --tz {hours:+03d}:00."
        )
    return text


def iso(t_ns: int) -> str:
    """Return a UTC time with milliseconds."""
    return datetime.fromtimestamp(t_ns / 1e9, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def listing(store: Store) -> dict[str, Any]:
    """Return the runs of a store as the list's JSON, version 1."""
    runs = []
    for run in await reader.runs(store):
        used = await reader.devices(store, run.id)
        runs.append(
            {
                "run": run.uid,
                "name": run.name,
                "model": run.model,
                "start": iso(run.start_ns + await reader.offset_ns(store, run.start_ns)),
                "duration_s": None if run.stop_ns is None else (run.stop_ns - run.start_ns) / 1e9,
                "status": run.status,
                "simulated": any(d.simulated for d in used),
            }
        )
    return {"schema": "telemetry.list/1", "runs": runs}
