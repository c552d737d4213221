"""What the requests of a run tell of it: counts, energies per token and request, latencies."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from telemetry.analysis import Latency, latency, summary
from telemetry.join.metrics import shared
from telemetry.join.requests import Served
from telemetry.model import Estimate
from telemetry.storage.reader import StoredRequest

COUNTS = ("requests_ok", "requests_failed", "requests_uncounted", "input_tokens", "output_tokens")
LATENCIES = ("ttft", "tpot", "itl", "e2e")
PERCENTILES = ("p50", "p90", "p95", "p99")
SPREAD = ("mean", *PERCENTILES)


def answers(work: Served, energy: Estimate, running: float | None) -> dict[str, Estimate]:
    """Return counts of requests and tokens, energies per each, and the latencies of answered requests.

    Pieces of text are no tokens: where nobody counted, no energy is told per token. running: how many at a time.
    """
    requests = work.requests
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
    each = [_latency(q, work.times_ns.get(q.number, []), in_chunks=q.number in work.in_chunks) for q in good]
    measured = {
        "ttft": [e.ttft_s for e in each if e.ttft_s is not None],
        "tpot": [e.tpot_s for e in each if e.tpot_s is not None],
        "itl": np.concatenate([e.itl_s for e in each]).tolist() if each else [],
        "e2e": [e.e2e_s for e in each],
    }
    spreads = [_spread(name, values) for name, values in measured.items()]
    told = {name: plain(count, "count") for name, count in zip(COUNTS, counts, strict=True)}
    if running is not None:
        told["mean_running_requests"] = plain(running, "mean over time")
    return told | ratios | {k: v for s in spreads for k, v in s.items()}


def plain(value: float, method: str) -> Estimate:
    """Return a number that carries no bounds."""
    return Estimate(value=value, lo=None, hi=None, method=method, grade="n/a")


def _latency(request: StoredRequest, times_ns: Sequence[int], *, in_chunks: bool) -> Latency:
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
    return {f"{name}_n": plain(found.n, "count")} | {
        k: plain(v, "type 7" if "_p" in k else "mean") for k, v in kept.items() if v is not None
    }


def _per(energy: Estimate, count: int) -> Estimate:
    """Return an energy's share: same method, grade and flags; None by nothing."""
    each = shared(energy, count)
    return replace(energy, value=each["value"], lo=each["lo"], hi=each["hi"])
