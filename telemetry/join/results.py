"""What is worked out of one run and kept in `result`: its energies, their shares, its latencies, its counts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from telemetry.analysis import CumulativeEnergy, Policy, estimate_of, sum_devices
from telemetry.analysis.phases import published
from telemetry.analysis.quality import bits
from telemetry.analysis.rows import Ints
from telemetry.analysis.steady import settled as steady
from telemetry.errors import TraceError
from telemetry.join import boundaries, spreads
from telemetry.join.answers import answers, plain
from telemetry.join.baselines import BASELINE, idle_power, name_of
from telemetry.join.boards import Board
from telemetry.join.energy import LONG_NS, DeviceEnergy, S
from telemetry.join.phases import MODELLED, Phases, phases, untold
from telemetry.join.requests import DEFAULT, Charged, Served, as_work, charge, followed, label, running, served
from telemetry.join.told import tell
from telemetry.join.traces import device_energy
from telemetry.model import ALL_DEVICES, Estimate, Result
from telemetry.storage.reader import StoredDevice, StoredRun, WallClock
from telemetry.storage.results import OfRequests
from telemetry.storage.store import Store

ANALYSIS_VERSION = "8"

# Runners whose work another process does: nobody can say which processes on the GPU are strangers.
NOT_THE_RECORDER = ("command", "openai", "proxy")
# What later readings may still settle is worked out anew each time.
_UNSETTLED = {"not_covered", "edge_extrapolated"}


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """How runs are worked out; only what is worked out as by default is kept."""

    method: str = "auto"
    policy: Policy = DEFAULT
    all_boundaries: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysed:
    """What was worked out of a run."""

    results: Sequence[Result]
    of_requests: Sequence[OfRequests]
    told: Mapping[str, Any]


def settled(told: Mapping[str, Any]) -> bool:
    """Tell whether what is kept of a run is final."""
    return not _UNSETTLED & set(told["energy"]["flags"])


async def analyse(
    store: Store,
    run: StoredRun,
    stop_ns: int,
    devices: Sequence[tuple[StoredDevice, Board]],
    clock: WallClock,
    how: How,
    others: Sequence[int] = (),
) -> Analysed:
    """Work out one run from the readings of its devices, its requests and tokens.

    others: runs that overlap with it.
    """
    every = [device for device, _ in devices]
    summed_up = boundaries.headline(every, all_boundaries=how.all_boundaries)
    work = await served(store, run, stop_ns, [d.id for d in summed_up], others)
    pids = None if run.pid is None or run.runner in NOT_THE_RECORDER else frozenset([run.pid])
    parts = {
        device.id: await device_energy(
            store,
            device,
            board,
            run.start_ns,
            stop_ns,
            clock=clock,
            own_pids=pids,
            method=how.method,
            course=bool(work.requests),
        )
        for device, board in devices
    }
    if run.runner == BASELINE:
        for device, board in devices:
            idle = await idle_power(store, device, board, run.start_ns, stop_ns, name=name_of(run))
            parts[device.id] = replace(parts[device.id], idle_power_w=idle)
    headline = {d.id: parts[d.id] for d in summed_up}
    energy = _energy(list(headline.values()), _raised(work, run.start_ns, stop_ns))
    charged, shares = _shares(work, headline, run.start_ns, stop_ns, how.policy)
    whole = (
        {"energy_j": energy}
        | _phases(work, headline, run.start_ns, stop_ns)
        | shares
        | answers(work, energy, running(work.requests, run.start_ns, stop_ns))
    )
    found = {ALL_DEVICES: whole} | {number: _device(part) for number, part in parts.items()}
    return Analysed(
        results=[
            Result(run=run.id, device=device, quantity=quantity, estimate=estimate)
            for device, quantities in found.items()
            for quantity, estimate in quantities.items()
        ],
        of_requests=[] if charged is None else _each(run.id, work, charged, how.policy),
        told=tell((stop_ns - run.start_ns) / 1e9, every, summed_up, found, label(how.policy)),
    )


def _energy(parts: Sequence[DeviceEnergy], flags: Sequence[str]) -> Estimate:
    """Return the energy of a run, of its devices together."""
    if not parts:
        nan = float("nan")
        return estimate_of(nan, nan, nan, method="none", flags=("not_covered", *flags))
    together = sum_devices([part.estimates for part in parts])
    return replace(together, flags=together.flags | np.uint64(bits(*flags))).at(0)


def _raised(work: Served, start_ns: int, stop_ns: int) -> tuple[str, ...]:
    """Return the flags that requests and tokens raise."""
    flags = ("shared_device",) if work.others else ()
    if stop_ns - start_ns < LONG_NS or not work.times_ns:
        return flags
    made = np.histogram(_token_ns(work), bins=np.arange(start_ns, stop_ns + 1, S))[0]
    return flags if steady(made.astype(np.float64)) else (*flags, "unsteady")


def _token_ns(work: Served) -> Ints:
    return np.concatenate([np.array(times, dtype=np.int64) for times in work.times_ns.values()])


def _shares(
    work: Served, parts: Mapping[int, DeviceEnergy], start_ns: int, stop_ns: int, policy: Policy
) -> tuple[Charged | None, dict[str, Estimate]]:
    """Return how a run's energy is shared out and spread; nothing without requests, or where it cannot be followed."""
    known = all(np.isfinite(part.estimates.value_j[0]) for part in parts.values())
    if not (work.requests and parts and known and stop_ns > start_ns):
        return None, {}
    energy = followed(parts, start_ns, stop_ns)
    try:
        charged = charge(work, energy, start_ns, stop_ns, policy)
        windowed = _windowed(work, parts, energy, start_ns, stop_ns)
    except TraceError:  # the energy inside is not known: the counter restarted there, as a flag says
        return None, {}
    told = {"unattributed_j": float(charged.shares.unattributed_j.sum())}
    told |= {"others_j": float(charged.others_j.sum())} if work.others else {}
    told |= spreads.of_requests(charged, work.requests)
    return charged, {
        **{name: plain(value, label(policy)) for name, value in told.items()},
        **{name: plain(value, "windowed") for name, value in windowed.items()},
    }


def _windowed(
    work: Served,
    parts: Mapping[int, DeviceEnergy],
    energy: Mapping[int, CumulativeEnergy],
    start_ns: int,
    stop_ns: int,
) -> dict[str, float]:
    """Return J/token over windows; nothing where nobody counted tokens, or those of others are in the energy."""
    if work.others or not work.times_ns or work.in_chunks:
        return {}
    period_ns = max(published(part.curve)[1] for part in parts.values())
    return spreads.of_windows(energy, _token_ns(work), start_ns, stop_ns, period_ns)


def _each(run: int, work: Served, charged: Charged, policy: Policy) -> list[OfRequests]:
    """Return what each request is charged, and where the policy tells it, the part that its own tokens cost."""
    shares = {"energy_j": charged.shares.energy_j, "marginal_j": charged.shares.marginal_j}
    numbers = [q.number for q in work.requests]
    return [
        OfRequests(
            run=run, quantity=quantity, method=label(policy), numbers=numbers, values=joules.sum(axis=0).tolist()
        )
        for quantity, joules in shares.items()
        if np.isfinite(joules).all()
    ]


def _phases(work: Served, parts: Mapping[int, DeviceEnergy], start_ns: int, stop_ns: int) -> dict[str, Estimate]:
    """Return the energies of phases, where all requests have them, and how well they were fitted."""
    if not parts or any(None in (q.started_ns, q.first_token_ns, q.ended_ns) for q in work.requests):
        return {}
    if work.others:
        found = Phases(energies=untold(("shared_device",)))
    else:
        curves = [part.curve for part in parts.values()]
        found = phases(curves, as_work(work.requests, stop_ns, work.times_ns), start_ns, stop_ns)
    quality = {"phase_condition": found.condition, "phase_r2": found.r2}
    return {**found.energies} | {name: plain(v, MODELLED) for name, v in quality.items() if v is not None}


def _device(part: DeviceEnergy) -> dict[str, Estimate]:
    highest = {
        "peak_power_w": part.peak_power_w,
        "max_temperature_c": part.max_temperature_c,
        "max_memory_used_bytes": part.max_memory_used_bytes,
    }
    found = {"energy_j": part.energy} | {k: plain(v, "highest reading") for k, v in highest.items() if v is not None}
    if part.residual is not None:
        found["counter_residual"] = plain(part.residual, "counter / power - 1")
    if part.automatic is not None:
        found["automatic_j"] = part.automatic
    if part.idle_power_w is not None:
        found["idle_power_w"] = part.idle_power_w
    return found | {f"throttled_{k}_s": plain(v, "driver's counter") for k, v in part.throttled_s.items()}
