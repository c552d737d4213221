"""Percentiles of a run: of what its requests are charged, and of J/token over windows."""

from collections.abc import Mapping, Sequence

import numpy as np

from telemetry.analysis import CumulativeEnergy, EnergyEstimates, Spread, by_length, over_requests, over_windows
from telemetry.analysis.per_token import shortest_window_ns
from telemetry.analysis.rows import Ints
from telemetry.join.answers import PERCENTILES
from telemetry.join.requests import Charged
from telemetry.storage.reader import StoredRequest

LENGTHS = {"input": "input_tokens", "output": "output_tokens"}
ROUND_NS = 100_000_000  # lengths of windows


def of_requests(charged: Charged, requests: Sequence[StoredRequest]) -> dict[str, float]:
    """Return the percentiles of the requests' energies, and those by length of prompt and of output, that n allows."""
    found = _told("j_per_request", over_requests(charged.shares))
    for kind, name in LENGTHS.items():
        lengths = np.array([getattr(q, name) or 0 for q in requests], dtype=np.int64)
        for bucket in by_length(charged.shares, lengths):
            of = f"j_per_request_{kind}_{bucket.least}"
            values = bucket.spread.values
            found |= _told(of, bucket.spread) | {f"{of}_n": float(values.n)}
            found |= {} if values.mean is None else {f"{of}_mean": values.mean}
    return found


def of_windows(
    energy: Mapping[int, CumulativeEnergy], token_ns: Ints, start_ns: int, stop_ns: int, period_ns: int
) -> dict[str, float]:
    """Return the percentiles of J/token over windows of a run, how many they are, and how long, s.

    token_ns: (n,), of all tokens.  period_ns: of the devices' updates, the longest. Windows are of 0.5 s, or of five
    periods where that is longer. Raises TraceError where a device's energy cannot be followed.
    """
    length_ns = -(-shortest_window_ns(period_ns) // ROUND_NS) * ROUND_NS
    edges_ns = np.arange(start_ns, stop_ns + 1, length_ns)
    if len(edges_ns) < 2 or not energy:
        return {}
    m = len(edges_ns) - 1
    windows = EnergyEstimates(
        t0_ns=edges_ns[:-1],
        t1_ns=edges_ns[1:],
        value_j=np.sum([np.diff(each(edges_ns)) for each in energy.values()], axis=0),
        lo_j=np.full(m, np.nan),
        hi_j=np.full(m, np.nan),
        method=np.full(m, "windowed"),
        flags=np.zeros(m, dtype=np.uint64),
    )
    tokens = np.histogram(token_ns, bins=edges_ns)[0]
    spread = over_windows(windows, tokens, period_ns=period_ns)
    return _told("j_per_token", spread) | {"j_per_token_n": float(spread.values.n), "j_per_token_s": length_ns * 1e-9}


def _told(name: str, spread: Spread) -> dict[str, float]:
    known = {what: getattr(spread.values, what) for what in PERCENTILES}
    return {f"{name}_{what}": value for what, value in known.items() if value is not None}
