"""What a running collector costs the work on the GPU: matrix products a second with and without it, in turn.

    python tools/gpu/overhead.py OUT.json [--rounds 6] [--seconds 8]

Needs torch with CUDA, or CuPy. The bar is 0.5 %. Prints and writes each round and the median ratio.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from telemetry.probe.busy import make_product

LEAD_S = 2.0  # a collector has then started


def rate_hz(product: Callable[[], None], seconds: float) -> float:
    """Return how many products a second are made."""
    count, begin, end = 0, time.perf_counter(), time.perf_counter() + seconds
    while time.perf_counter() < end:
        product()
        count += 1
    return count / (time.perf_counter() - begin)


def rate_beside_a_collector_hz(product: Callable[[], None], seconds: float, store: Path) -> float:
    """Return the same while a collector reads every GPU every 20 ms."""
    whole_s = f"{seconds + 2 * LEAD_S:g}"
    command = [sys.executable, "-m", "telemetry.cli", "collect", "--store", str(store), "--duration", whole_s]
    with subprocess.Popen(command) as collector:
        time.sleep(LEAD_S)
        rate = rate_hz(product, seconds)
        if collector.poll() is not None:
            raise SystemExit("The collector ended before the round did: see its words above.")
        collector.wait()
    return rate


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=8.0)
    given = parser.parse_args()
    product = make_product()
    if product is None:
        raise SystemExit("Neither torch nor CuPy is installed, so there is no work to slow down.")
    rate_hz(product, 2 * given.seconds)  # clocks and temperature settle
    rounds = []
    with TemporaryDirectory() as folder:
        for number in range(given.rounds):
            alone, beside = 0.0, 0.0
            for with_collector in (number % 2 == 0, number % 2 == 1):  # the order alternates
                if with_collector:
                    beside = rate_beside_a_collector_hz(product, given.seconds, Path(folder) / "t.db")
                else:
                    alone = rate_hz(product, given.seconds)
            rounds.append({"alone_hz": alone, "beside_hz": beside, "loss": 1 - beside / alone})
    losses = [each["loss"] for each in rounds]
    told = {"median_loss": statistics.median(losses), "least": min(losses), "most": max(losses), "rounds": rounds}
    given.out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
