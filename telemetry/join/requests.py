"""The requests of a run: the work they were, and their shares of the energy of its devices."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from telemetry.analysis import POLICIES, Attribution, CumulativeEnergy, Policy, Requests, attribute, cumulative_energy
from telemetry.analysis.rows import Floats, Ints
from telemetry.join.energy import DeviceEnergy
from telemetry.storage import reader
from telemetry.storage.reader import StoredRequest, StoredRun
from telemetry.storage.store import Store

DEFAULT: Policy = "affine-shapley"
SHORT: Mapping[str, Policy] = {f"M{k}": policy for k, policy in enumerate(POLICIES)}
MOST_TOKENS = 250_000  # whose times are looked at; beyond, a request's tokens are taken to be evenly spread


def label(policy: Policy) -> str:
    """Return how what a policy shares out is labelled: `allocated(M4)`."""
    return f"allocated(M{POLICIES.index(policy)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """The n requests of a run, and those of other runs that were on its devices meanwhile, by device.

    times_ns: of each token of each request of the run, as far as they are known.  in_chunks: those of its requests
    whose times are of pieces of text.
    """

    requests: Sequence[StoredRequest]
    times_ns: Mapping[int, list[int]]
    in_chunks: frozenset[int] = frozenset()
    others: Mapping[int, Sequence[StoredRequest]] = field(default_factory=dict)


async def served(store: Store, run: StoredRun, stop_ns: int, devices: Sequence[int], others: Sequence[int]) -> Served:
    """Return a run's requests. others: runs that overlap with it, on whatever device.

    A run without requests, such as one around a whole program, shares its devices with nobody.
    """
    own = await reader.requests(store, run.id)
    asked = devices if own and others else ()
    found = {n: await reader.requests_of_others(store, run.id, others, n) for n in asked}
    meanwhile = {n: [q for q in some if _runs_in(q, run.start_ns, stop_ns)] for n, some in found.items()}
    return Served(
        requests=own,
        times_ns=await reader.token_times(store, run.id),
        in_chunks=frozenset(await reader.requests_in_chunks(store, run.id)),
        others={n: some for n, some in meanwhile.items() if some},
    )


def as_work(
    requests: Sequence[StoredRequest], stop_ns: int, times_ns: Mapping[int, list[int]] | None = None
) -> Requests:
    """Return stored requests as work, in their order.

    One without an end is taken to have gone on until stop_ns; one that was never taken up did no work. Tokens that
    nobody counted are those pieces of text that were. Token times are used where those of all requests are known.
    """
    start = np.array([q.submitted_ns if q.started_ns is None else q.started_ns for q in requests], dtype=np.int64)
    idle = np.array([q.started_ns is None and q.first_token_ns is None for q in requests], dtype=np.bool_)
    end = np.array([stop_ns if q.ended_ns is None else q.ended_ns for q in requests], dtype=np.int64)
    end = np.where(idle, start, np.maximum(end, start))
    first = [e if q.first_token_ns is None else q.first_token_ns for q, e in zip(requests, end.tolist(), strict=True)]
    inputs = np.array([q.input_tokens or 0 for q in requests], dtype=np.int64)
    outputs = np.array([q.output_tokens or 0 for q in requests], dtype=np.int64)
    return Requests(
        start_ns=start,
        first_token_ns=np.clip(np.array(first, dtype=np.int64), start, end),
        end_ns=end,
        input_tokens=inputs,
        cached_tokens=np.minimum(np.array([q.cached_tokens or 0 for q in requests], dtype=np.int64), inputs),
        output_tokens=outputs,
        token_ns=None if times_ns is None else _times(requests, start, end, outputs, times_ns),
    )


def overlapping(runs: Sequence[StoredRun]) -> dict[int, list[int]]:
    """Return which runs ran at the same time as others, by the store's numbers. runs: in the order of their start."""
    found: dict[int, list[int]] = defaultdict(list)
    under_way: list[StoredRun] = []
    for run in runs:
        under_way = [other for other in under_way if other.stop_ns is None or other.stop_ns > run.start_ns]
        for other in under_way:
            found[run.id].append(other.id)
            found[other.id].append(run.id)
        under_way.append(run)
    return dict(found)


def running(requests: Sequence[StoredRequest], start_ns: int, stop_ns: int) -> float | None:
    """Return how many requests ran at a time, on average over an interval."""
    if stop_ns <= start_ns or not requests:
        return None
    work = as_work(requests, stop_ns)
    lasted = np.minimum(work.end_ns, stop_ns) - np.maximum(work.start_ns, start_ns)
    return float(np.maximum(lasted, 0).sum()) / (stop_ns - start_ns)


def followed(parts: Mapping[int, DeviceEnergy], start_ns: int, stop_ns: int) -> dict[int, CumulativeEnergy]:
    """Return each device's energy over time, which reaches its published energy at the stop."""
    return {
        n: cumulative_energy(part.curve, from_ns=start_ns, to_ns=stop_ns, published_j=float(part.estimates.value_j[0]))
        for n, part in parts.items()
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Charged:
    """What a run's n requests are charged of the energy of d devices.

    others_j: (d,), what requests of other runs are charged. On each device, and so in all, the energies of `shares`,
    its unattributed one and this add up to its total.
    """

    shares: Attribution
    others_j: Floats


def charge(
    run: Served, energy: Mapping[int, CumulativeEnergy], start_ns: int, stop_ns: int, policy: Policy = DEFAULT
) -> Charged:
    """Share out each device's energy among all the requests that were on it.

    Costs are those of `H100_ROOFLINE`, the same for all runs: a fit of its own would charge each run by other rules.
    Raises TraceError where a device's energy is not known throughout.
    """
    n = len(run.requests)
    crowds = [(as_work([*run.requests, *others], stop_ns), [device]) for device, others in run.others.items()]
    if alone := [device for device in energy if device not in run.others]:
        crowds.append((as_work(run.requests, stop_ns, run.times_ns), alone))
    place: dict[int, tuple[Attribution, int]] = {}
    for work, devices in crowds:
        on_them = {str(device): energy[device] for device in devices}
        shares = attribute(work, on_them, from_ns=start_ns, to_ns=stop_ns, policy=policy)
        place |= {device: (shares, k) for k, device in enumerate(devices)}
    each = [place[device] for device in energy]
    return Charged(
        shares=replace(
            each[0][0],
            devices=tuple(map(str, energy)),
            energy_j=np.array([shares.energy_j[k, :n] for shares, k in each]),
            marginal_j=np.array([shares.marginal_j[k, :n] for shares, k in each]),
            unattributed_j=np.array([shares.unattributed_j[k] for shares, k in each]),
            total_j=np.array([shares.total_j[k] for shares, k in each]),
        ),
        others_j=np.array([shares.energy_j[k, n:].sum() for shares, k in each]),
    )


def _times(
    requests: Sequence[StoredRequest], start: Ints, end: Ints, outputs: Ints, times_ns: Mapping[int, list[int]]
) -> Ints | None:
    if outputs.sum() > MOST_TOKENS:
        return None
    each = [times_ns.get(q.number, ()) for q in requests]
    if not np.array_equal([len(times) for times in each], outputs):
        return None
    known = np.array([t for times in each for t in times], dtype=np.int64)
    return np.clip(known, np.repeat(start, outputs), np.repeat(end, outputs))


def _runs_in(q: StoredRequest, start_ns: int, stop_ns: int) -> bool:
    begin = q.submitted_ns if q.started_ns is None else q.started_ns
    return begin < stop_ns and (q.ended_ns is None or q.ended_ns > start_ns)
