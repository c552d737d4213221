"""Record what one NVIDIA GPU's driver really reports under known loads: about four minutes, no setting is changed.

    python tools/gpu/record.py OUT_DIR [--gpu 0] [--scale 1.0] [--no-load]

Needs nvidia-ml-py and NumPy; torch with CUDA for the load, without which the phases are only timed. Writes
OUT_DIR/{device.json, phases.json, readings.npz, summary.json}; `telemetry import OUT_DIR` reads them.

readings.npz: a row a poll, all int64: before_ns and after_ns (CLOCK_MONOTONIC around the call); for each signal
its value (mW, mJ, degrees C; -1 where the driver gave none), its return code and the driver's stamp in µs.
phases.json: name, kind, t0_ns and t1_ns on the same clock, and what was asked for.
"""

import argparse
import json
import multiprocessing as mp
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pynvml

FIELDS = {"instant_mw": 186, "average_mw": 185, "energy_mj": 83, "memory_temp_c": 82}
ASKED = (82, 83, 185, 186, 191, 74, 76, 269, 270, 271)  # whether the part has them, in which scopes
POWER, SCOPES = (185, 186), (0, 1, 2)
UNION = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal")  # by NVML_VALUE_TYPE_*


def value_of(field: Any) -> int:
    """Return a field's value, by the type that the driver declares; -1 where it answered an error."""
    if field.nvmlReturn != 0 or field.valueType >= len(UNION):
        return -1
    return int(getattr(field.value, UNION[field.valueType]))


def poll(gpu: int, period_s: Any, stop: Any, out: Path) -> None:
    """Poll the four signals every `period_s` until `stop`, then write them. A process of its own."""
    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(gpu)
    fields = list(FIELDS.values())
    rows, due = [], time.monotonic()
    while not stop.value:
        before_ns = time.monotonic_ns()
        try:
            got = pynvml.nvmlDeviceGetFieldValues(handle, fields)
            cells = [cell for f in got for cell in (value_of(f), int(f.nvmlReturn), int(f.timestamp))]
        except pynvml.NVMLError as error:
            cells = [-1, int(error.value), 0] * len(fields)
        rows.append((before_ns, time.monotonic_ns(), *cells))
        due = max(due + period_s.value, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))
    names = ["before_ns", "after_ns", *(f"{name}{part}" for name in FIELDS for part in ("", "_code", "_stamp_us"))]
    table = np.array(rows, dtype=np.int64)
    np.savez_compressed(out, **{name: table[:, i] for i, name in enumerate(names)})  # type: ignore[arg-type]


def asked(call: Callable[..., Any], *arguments: Any) -> Any:
    """Return the driver's answer, or the sentence with which it refused: both belong into the record."""
    try:
        answer = call(*arguments)
    except pynvml.NVMLError as error:
        return f"error: {error}"
    return answer.decode() if isinstance(answer, bytes) else answer


def describe(gpu: int) -> dict[str, Any]:
    """Return what the GPU is, what it answers, its ring of samples, and what each call costs."""
    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(gpu)
    calls: dict[str, tuple[Callable[..., Any], ...]] = {
        "power": (pynvml.nvmlDeviceGetPowerUsage,),
        "energy": (pynvml.nvmlDeviceGetTotalEnergyConsumption,),
        "memory": (pynvml.nvmlDeviceGetMemoryInfo,),
        "utilisation": (pynvml.nvmlDeviceGetUtilizationRates,),
        "processes": (pynvml.nvmlDeviceGetComputeRunningProcesses,),
    }
    fields = list(FIELDS.values())
    costs = {name: cost_us(call, handle) for name, (call,) in calls.items()}
    costs["clocks"] = cost_us(pynvml.nvmlDeviceGetClockInfo, handle, 0)
    costs["fields4"] = cost_us(pynvml.nvmlDeviceGetFieldValues, handle, fields)
    return {
        "name": asked(pynvml.nvmlDeviceGetName, handle),
        "uuid": asked(pynvml.nvmlDeviceGetUUID, handle),
        "driver": asked(pynvml.nvmlSystemGetDriverVersion),
        "vbios": asked(pynvml.nvmlDeviceGetVbiosVersion, handle),
        "limit_mw": asked(pynvml.nvmlDeviceGetEnforcedPowerLimit, handle),
        "default_limit_mw": asked(pynvml.nvmlDeviceGetPowerManagementDefaultLimit, handle),
        "persistence": asked(pynvml.nvmlDeviceGetPersistenceMode, handle),
        "legacy_power_mw": asked(pynvml.nvmlDeviceGetPowerUsage, handle),
        "energy_mj": asked(pynvml.nvmlDeviceGetTotalEnergyConsumption, handle),
        "temperature_c": asked(pynvml.nvmlDeviceGetTemperature, handle, 0),
        "processes": str(asked(pynvml.nvmlDeviceGetComputeRunningProcesses, handle)),
        "fields": {
            f"{field}/{scope}": answer(handle, field, scope)
            for field in ASKED
            for scope in (SCOPES if field in POWER else SCOPES[:1])
        },
        "ring_total_power": ring(handle, 0),
        "ring_module_power": ring(handle, 7),
        "call_cost": costs,
    }


def answer(handle: Any, field: int, scope: int) -> Any:
    """Return how the driver answers for one field and scope."""
    got = asked(pynvml.nvmlDeviceGetFieldValues, handle, [(field, scope)])
    if isinstance(got, str):
        return got
    return {
        "code": int(got[0].nvmlReturn),
        "value": value_of(got[0]),
        "type": int(got[0].valueType),
        "stamp_us": int(got[0].timestamp),
        "latency_us": int(got[0].latencyUsec),
    }


def ring(handle: Any, kind: int) -> Any:
    """Return how many power samples the driver keeps, and the first distances between them, µs."""
    got = asked(pynvml.nvmlDeviceGetSamples, handle, kind, 0)
    if isinstance(got, str):
        return got
    stamps_us = [int(sample.timeStamp) for sample in got[1]]
    return {"n": len(stamps_us), "spacing_us": np.diff(stamps_us)[:20].tolist()}


def cost_us(call: Callable[..., Any], *arguments: Any) -> dict[str, float]:
    """Return what a call takes, of 200, µs."""
    taken_us = []
    for _ in range(200):
        start_ns = time.perf_counter_ns()
        asked(call, *arguments)
        taken_us.append((time.perf_counter_ns() - start_ns) / 1000)
    p50, p99 = np.percentile(taken_us, [50, 99])
    return {"p50_us": float(p50), "p99_us": float(p99), "max_us": max(taken_us)}


class Load:
    """Matrix products on the GPU, or nothing when there is no torch."""

    def __init__(self, gpu: int, *, wanted: bool) -> None:
        self.torch: Any = None
        if wanted:
            try:
                import torch
            except ImportError:
                return
            if torch.cuda.is_available():
                self.torch, self.device = torch, f"cuda:{gpu}"

    def open(self) -> None:
        """Make the context and warm up."""
        if self.torch:
            self.small, self.big = self._matrix(3072, 3072), self._matrix(8192, 8192)
            self.vector = self._matrix(8192, 8)
            self.for_s(0.5)

    def for_s(self, seconds: float, kind: str = "small") -> None:
        """Keep the GPU busy so long: with small or big products, or as decoding does."""
        self.until(time.monotonic_ns() + int(seconds * 1e9), kind)

    def until(self, end_ns: int, kind: str = "small") -> None:
        """Keep the GPU busy until `end_ns`."""
        if not self.torch:
            time.sleep(max(0, end_ns - time.monotonic_ns()) / 1e9)
            return
        left = self.small if kind == "small" else self.big
        right = self.vector if kind == "decode" else left
        while time.monotonic_ns() < end_ns:
            left @ right
            self.torch.cuda.synchronize()

    def square(self, period_s: float, seconds: float, start_ns: int) -> None:
        """Keep the GPU busy for half of each period."""
        period_ns, end_ns, at_ns = int(period_s * 1e9), start_ns + int(seconds * 1e9), start_ns
        while at_ns < end_ns:
            sleep_until(at_ns)
            self.until(at_ns + period_ns // 2)
            at_ns += period_ns
        sleep_until(at_ns)

    def telegraph(self, seconds: float) -> None:
        """Keep the GPU busy on and off, for 10 to 400 ms each."""
        chance, end = random.Random(7), time.monotonic() + seconds
        while time.monotonic() < end:
            self.for_s(chance.uniform(0.01, 0.4))
            time.sleep(chance.uniform(0.01, 0.4))

    def _matrix(self, rows: int, columns: int) -> Any:
        return self.torch.randn(rows, columns, device=self.device, dtype=self.torch.bfloat16)


def sleep_until(end_ns: int) -> None:
    """Wait until `end_ns`, the last 0.3 ms awake, for a square wave's edges must be sharp."""
    while (left_ns := end_ns - time.monotonic_ns()) > 0:
        time.sleep(max(left_ns - 300_000, 0) / 1e9 if left_ns > 400_000 else 0)


class Phases:
    """The phases so far, written after each, so that a broken-off recording says how far it came."""

    def __init__(self, path: Path, load: Load) -> None:
        self.done: list[dict[str, Any]] = []
        self._path, self._load = path, load

    def run(self, name: str, kind: str, act: Callable[[], None], **asked_for: Any) -> None:
        """Run one phase and note when it was."""
        t0_ns = time.monotonic_ns()
        act()
        self.done.append({"name": name, "kind": kind, "t0_ns": t0_ns, "t1_ns": time.monotonic_ns(), **asked_for})
        loaded = self._load.torch is not None
        self._path.write_text(json.dumps({"loaded": loaded, "phases": self.done}, indent=1))


def run_phases(load: Load, phases: Phases, period_s: Any, scale: float) -> None:
    """Run every load that tells something about the sensor."""

    def rest(seconds: float) -> Callable[[], None]:
        return lambda: time.sleep(seconds * scale)

    def work(seconds: float, kind: str = "small") -> Callable[[], None]:
        return lambda: load.for_s(seconds, kind)

    phases.run("bare idle", "idle", rest(8))
    load.open()
    phases.run("context, first seconds", "idle", rest(3))
    phases.run("context idle", "idle", rest(10))
    phases.run("steady matrix product", "steady", work(20 * scale, "big"))
    phases.run("cool-down", "idle", rest(6))
    for i in range(4):
        phases.run(f"step on {i}", "on", work(scale, "big"))
        phases.run(f"step off {i}", "idle", rest(2))
    for length_s in (0.04, 0.1, 0.25):
        for i in range(3):
            phases.run(f"burst {length_s * 1000:.0f} ms {i}", "on", work(length_s))
            rest(1.3)()
    run_squares(load, phases, scale)
    rest(3)()
    phases.run("random on and off", "random", lambda: load.telegraph(20 * scale))
    rest(3)()
    for i in range(6):
        phases.run(f"prefill {i}", "prefill", work(0.3, "big"))
        phases.run(f"decode {i}", "decode", work(1.2, "decode"))
    rest(3)()
    for poll_s in (1.0, 0.1, 0.01, 0.002):  # does reading the counter change it?
        period_s.value = poll_s
        time.sleep(0.3)
        phases.run(f"steady, polled every {poll_s * 1000:g} ms", "steady", work(8 * scale, "big"), poll_s=poll_s)
    phases.run("after", "idle", rest(4))


def run_squares(load: Load, phases: Phases, scale: float) -> None:
    """Run square waves: in step with the sensor, shifted by an eighth of a period each time, and out of step."""
    base_ns = time.monotonic_ns() + 50_000_000
    for eighth in range(8):
        start_ns = base_ns + round(eighth * 40 * scale) * 100_000_000 + round(eighth * 12.5e6)
        act = _square(load, 0.1, 3.5 * scale, start_ns)
        phases.run(f"square 100 ms, shift {eighth}/8", "square", act, period_s=0.1, start_ns=start_ns)
    for period_s in (0.101, 0.0667, 0.02):
        act = _square(load, period_s, 8 * scale, time.monotonic_ns() + 1_000_000)
        phases.run(f"square {period_s * 1000:g} ms", "square", act, period_s=period_s)


def _square(load: Load, period_s: float, seconds: float, start_ns: int) -> Callable[[], None]:
    return lambda: load.square(period_s, seconds, start_ns)


def summarise(path: Path, phases: list[dict[str, Any]]) -> dict[str, Any]:
    """Return how fast was polled, how often each signal moved, and the mean powers of each phase, W."""
    table = np.load(path)
    t_ns = (table["before_ns"] + table["after_ns"]) // 2
    calls_us = np.percentile((table["after_ns"] - table["before_ns"]) / 1e3, [50, 99])
    return {
        "polls": len(t_ns),
        "poll_ms_median": float(np.median(np.diff(t_ns)) / 1e6),
        "call_us_p50_p99": calls_us.tolist(),
        "update_ms": {name: update_ms(t_ns, table[name]) for name in FIELDS},
        "phases": [mean_powers(table, t_ns, phase) for phase in phases],
    }


def update_ms(t_ns: Any, values: Any) -> dict[str, Any]:
    """Return the distances between changes of a signal, ms."""
    known = values >= 0
    moved = np.flatnonzero(np.diff(values[known])) + 1
    gaps_ms = np.diff(t_ns[known][moved]) / 1e6
    return {"n": len(gaps_ms), "p5_p50_p95": np.percentile(gaps_ms, [5, 50, 95]).tolist() if len(gaps_ms) else None}


def mean_powers(table: Any, t_ns: Any, phase: dict[str, Any]) -> dict[str, Any]:
    """Return the mean power of a phase from each signal, W: the counter's between two of its updates."""
    inside = (t_ns >= phase["t0_ns"]) & (t_ns <= phase["t1_ns"])
    row = {"name": phase["name"], "seconds": (phase["t1_ns"] - phase["t0_ns"]) / 1e9, "polls": int(inside.sum())}
    for name in ("instant_mw", "average_mw"):
        known = inside & (table[name] >= 0)
        if known.sum() > 1:
            at_ns = t_ns[known]
            mean_mw = np.trapezoid(table[name][known].astype(float), at_ns) / (at_ns[-1] - at_ns[0])
            row[f"mean_{name[:-3]}_w"] = float(mean_mw / 1e3)
    known = inside & (table["energy_mj"] >= 0)
    energy_mj, at_ns = table["energy_mj"][known], t_ns[known]
    moved = np.flatnonzero(np.diff(energy_mj)) + 1
    if len(moved) > 1:
        a, b = moved[0], moved[-1]
        row["mean_counter_w"] = float((energy_mj[b] - energy_mj[a]) / (at_ns[b] - at_ns[a]) * 1e6)
    return row


def main() -> None:
    """Record, summarise, print."""
    words = __doc__ or ""
    parser = argparse.ArgumentParser(description=words.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--gpu", type=int, default=0)
    parser.add_argument("--scale", type=float, default=1.0, help="factor of the phases' lengths")
    parser.add_argument("--no-load", action="store_true")
    given = parser.parse_args()
    out: Path = given.out
    out.mkdir(parents=True, exist_ok=True)
    (out / "device.json").write_text(json.dumps(describe(given.gpu), indent=1, default=str))
    spawned = mp.get_context("spawn")  # a fork would share the driver's state
    period_s, stop = spawned.Value("d", 0.002), spawned.Value("b", 0)
    poller = spawned.Process(target=poll, args=(given.gpu, period_s, stop, out / "readings.npz"))
    poller.start()
    time.sleep(1.5)
    load = Load(given.gpu, wanted=not given.no_load)
    phases = Phases(out / "phases.json", load)
    run_phases(load, phases, period_s, given.scale)
    stop.value = 1
    poller.join(30)
    told = summarise(out / "readings.npz", phases.done)
    (out / "summary.json").write_text(json.dumps(told, indent=1))
    for row in told.pop("phases"):
        means = "  ".join(f"{key[5:-2]} {value:8.1f}" for key, value in row.items() if key.startswith("mean_"))
        print(f"{row['name']:<32} {row['seconds']:7.2f} s  {means}")
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
