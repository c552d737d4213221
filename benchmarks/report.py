"""Measures what a report of many runs costs, cold (every run worked out) and warm (results kept), as CPU and memory.

Run it as `python benchmarks/report.py [RUNS [READINGS]]`; 10,000 runs over 10,000,000 readings take some minutes and
about 700 MB of disk in the temporary folder. The readings are made up, of one device at a constant 400 W.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from telemetry.storage import schema

S, MS = 1_000_000_000, 1_000_000
REQUESTS, TOKENS = 4, 32
EPOCH_NS = 1_700_000_000 * S


def main() -> None:
    """Fill a store, report it cold once and warm three times, and print a table."""
    runs, readings = (int(n) for n in (sys.argv[1:] + ["10000", "10000000"][len(sys.argv) - 1 :]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "many.db"
        _fill(path, runs, readings)
        print(f"{runs} runs, {readings} readings, {path.stat().st_size / 2**20:.0f} MiB\n")
        print("| report | wall | CPU | peak memory | runs reported |\n|---|---|---|---|---|")
        for name in ("cold", "warm", "warm", "warm", "warm, table"):
            form = "table" if name.endswith("table") else "json"
            wall_s, cpu_s, peak_mib = _report(path, Path(folder) / f"report.{form}", form)
            count = len(json.loads((Path(folder) / "report.json").read_bytes())["runs"])
            print(f"| {name} | {wall_s:.2f} s | {cpu_s:.2f} s | {peak_mib:.0f} MiB | {count} |", flush=True)


def _fill(path: Path, runs: int, readings: int) -> None:
    import sqlite3

    schema.create(path)
    span_ns = readings // runs * 100 * MS  # one update of the counter a reading
    end_ns = EPOCH_NS + runs * span_ns
    with sqlite3.connect(path) as c:
        c.execute("PRAGMA synchronous=OFF")
        c.execute("INSERT INTO host (id, machine, name) VALUES (1, 'm', 'h')")
        c.execute(
            "INSERT INTO device (id, uid, host, name, idx, kind, boundary, simulated, energy_path, integral_of, "
            "power_limit_mw) VALUES (1, 'GPU-1', 1, 'NVIDIA H200', 0, 'gpu', 'gpu-board', 1, 'counter', 'instant', "
            "700000)"
        )
        c.execute(
            "INSERT INTO session (id, uid, host, source, settings, version, pid, start_ns, heartbeat_ns, state) "
            "VALUES (1, 's', 1, 'simulated', '{}', '0', 1, ?, ?, 'clean')",
            (EPOCH_NS - S, end_ns),
        )
        c.execute("INSERT INTO session_device VALUES (1, 1)")
        c.executemany("INSERT INTO reading VALUES (1, ?, 400000, 400000, ?, ?, 20000000, 80)", _readings(readings))
        c.executemany(
            "INSERT INTO vitals (device, t_ns, temperature_c, power_max_mw, power_min_mw, polls, misses) "
            "VALUES (1, ?, 60, 400000, 90000, 50, 0)",
            ((t_ns,) for t_ns in range(EPOCH_NS, end_ns, S)),
        )
        for number in range(runs):
            start_ns = EPOCH_NS + number * span_ns + 3 * S
            stop_ns = start_ns + span_ns - 6 * S
            c.execute(
                "INSERT INTO run (id, uid, model, runner, batch_size, concurrency, warmup, settings, host, start_ns, "
                "stop_ns, status) VALUES (?, ?, 'm', 'r', 1, 1, 0, '{}', 1, ?, ?, 'ok')",
                (number + 1, f"{number:032x}", start_ns, stop_ns),
            )
            c.execute("INSERT INTO run_device VALUES (?, 1)", (number + 1,))
            each_ns = (stop_ns - start_ns) // REQUESTS
            for request in range(REQUESTS):
                begin_ns = start_ns + request * each_ns
                gaps = [10_000] * (TOKENS - 1)
                last_ns = begin_ns + 100 * MS + sum(gaps) * 1000
                c.execute(
                    "INSERT INTO request (run, number, submitted_ns, started_ns, first_token_ns, last_token_ns, "
                    "ended_ns, input_tokens, cached_tokens, output_tokens, finish_reason, count_source, status) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?, 64, 0, ?, 'length', 'ids', 'ok')",
                    (number + 1, request, begin_ns, begin_ns, begin_ns + 100 * MS, last_ns, last_ns, TOKENS),
                )
                c.execute(
                    "INSERT INTO token_chunk (run, request, first_index, kind, start_ns, gaps_us) "
                    "VALUES (?, ?, 0, 'token', ?, ?)",
                    (number + 1, request, begin_ns + 100 * MS, json.dumps(gaps)),
                )


def _readings(count: int) -> Iterator[tuple[int, int, int]]:
    for k in range(count):
        yield EPOCH_NS + k * 100 * MS, 10**12 + 40_000 * k, 40_000_000 * k


def _report(path: Path, output: Path, form: str) -> tuple[float, float, float]:
    program = (
        "import resource, sys; from telemetry.cli import main\n"
        f"sys.argv = ['telemetry', 'report', '--store', {str(path)!r}, '--format', {form!r}, '-o', {str(output)!r}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "peak = next(int(l.split()[1]) for l in open('/proc/self/status') if l.startswith('VmHWM:'))\n"
        "print(used.ru_utime + used.ru_stime, peak / 1024)"
    )
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    cpu_s, peak_mib = done.stdout.split()[-2:]
    return time.perf_counter() - began, float(cpu_s), float(peak_mib)


if __name__ == "__main__":
    main()
