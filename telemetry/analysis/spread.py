"""How energy is spread: percentiles over runs, over requests and over windows, never over tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from telemetry.analysis.attribution import Attribution
from telemetry.analysis.estimates import EnergyEstimates
from telemetry.analysis.per_token import check_windows
from telemetry.analysis.rows import Floats, Ints
from telemetry.analysis.statistics import MIN_N, Interval, Summary, percentile_interval, summary
from telemetry.errors import TraceError

BUCKETS = (0, 128, 512, 2_048, 8_192, 32_768)  # tokens, from … up to the next


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A summary of energies over what `over` says, and the intervals of the percentiles that n allows, by name.

    over: `runs`, `requests (allocated, POLICY)` or `windows (windowed, 0.5 s)`: percentiles of one kind say nothing
    of another.
    """

    over: str
    values: Summary
    intervals: dict[str, Interval]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """The spread of those whose length is from `least` up to, but not, `below` (None: and more), tokens."""

    least: int
    below: int | None
    spread: Spread


def over_runs(values: ArrayLike) -> Spread:
    """Return the spread of one value a run, such as its J/token."""
    return _spread("runs", values)


def over_requests(attribution: Attribution, *, per_token: Ints | None = None) -> Spread:
    """Return the spread of the requests' energies on all devices, J; with their token counts, (n,), of J/token.

    Requests without tokens are left out of J/token. In a mixed batch these are what the policy charges, not what was
    measured, and the percentiles' intervals take requests for independent, which those of one batch are not.
    """
    energy_j = attribution.energy_j.sum(axis=0)
    if per_token is not None:
        energy_j = energy_j[per_token > 0] / per_token[per_token > 0]
    return _spread(f"requests ({attribution.label}, {attribution.policy})", energy_j)


def over_windows(windows: EnergyEstimates, tokens: ArrayLike, *, period_ns: int) -> Spread:
    """Return the spread of J/token over windows, of m energies and token counts (m,).

    Windows without tokens or without energy are left out. An average over a window hides how single tokens differ:
    these percentiles are nearer to each other than those of tokens would be.
    Raises TraceError for a window under 0.5 s or five publish periods, or for windows of different lengths.
    """
    check_windows(windows.t0_ns, windows.t1_ns, period_ns=period_ns)
    lengths_ns = np.unique(windows.t1_ns - windows.t0_ns)
    if len(lengths_ns) > 1:
        raise TraceError("Windows of different lengths hide different shares of the spread. Take one length.")
    made = np.asarray(tokens, dtype=np.float64)
    k = (made > 0) & np.isfinite(windows.value_j)
    length = f", {lengths_ns[0] * 1e-9:g} s" if len(lengths_ns) else ""
    return _spread(f"windows (windowed{length})", windows.value_j[k] / made[k])


def by_length(
    attribution: Attribution,
    length_tokens: Ints,
    *,
    edges: Sequence[int] = BUCKETS,
    per_token: Ints | None = None,
) -> list[Bucket]:
    """Return the requests' spread in each bucket of lengths, (n,): of prompts, or of outputs; empty ones left out."""
    energy_j = attribution.energy_j.sum(axis=0)
    if per_token is not None:
        energy_j = np.divide(energy_j, per_token, out=np.full(len(energy_j), np.nan), where=per_token > 0)
    place = np.searchsorted(np.asarray(edges), length_tokens, side="right") - 1
    over = f"requests ({attribution.label}, {attribution.policy})"
    return [
        Bucket(
            least=least,
            below=edges[i + 1] if i + 1 < len(edges) else None,
            spread=_spread(over, inside[np.isfinite(inside)]),
        )
        for i, least in enumerate(edges)
        if len(inside := energy_j[place == i])
    ]


def _spread(over: str, values: ArrayLike) -> Spread:
    array: Floats = np.asarray(values, dtype=np.float64)
    found = {f"p{q}": percentile_interval(array, q) for q, least in MIN_N.items() if len(array) >= least}
    return Spread(
        over=over,
        values=summary(array),
        intervals={name: interval for name, interval in found.items() if interval is not None},
    )
