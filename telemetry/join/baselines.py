"""Idle power before and after a run, recorded as runs of their own, and the energy above it."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from telemetry.analysis import (
    Baseline,
    Breaks,
    Rows,
    baseline_between,
    energy_above,
    idle_baseline,
)
from telemetry.analysis.baselines import BaselineName
from telemetry.analysis.rows import Floats, Ints
from telemetry.errors import TraceError
from telemetry.join.boards import Board
from telemetry.join.energy import Path, curve_of, second_by_second
from telemetry.model import Estimate
from telemetry.storage import reader
from telemetry.storage.reader import EDGE_NS, StoredDevice, StoredRun
from telemetry.storage.store import Store

BASELINE = "baseline"  # the runner of such runs; their names are B0, B1 and B2
S = 1_000_000_000
NEAR_NS = 3600 * S  # how far from a run its baselines may lie


async def idle_power(
    store: Store, device: StoredDevice, board: Board, t0_ns: int, t1_ns: int, *, name: str
) -> Estimate | None:
    """Return the idle power of a stretch, W, from means over a second each; bounds are ± 2 standard uncertainties.

    None where the stretch is no baseline: under 30 s, or not within 3 W.
    """
    edges_ns, power_w = await power_by_second(store, device, board, t0_ns, t1_ns)
    try:
        found = idle_baseline(cast(BaselineName, name), t_ns=edges_ns, power_w=power_w)
    except TraceError:
        return None
    return Estimate(
        value=found.power_w,
        lo=found.power_w - 2 * found.u_w,
        hi=found.power_w + 2 * found.u_w,
        method=name,
        grade="A",
    )


async def power_by_second(
    store: Store, device: StoredDevice, board: Board, t0_ns: int, t1_ns: int
) -> tuple[Ints, Floats]:
    """Return the edges of the seconds of an interval, (n + 1,), ns, and a device's mean power in each, (n,), W."""
    rows = await reader.rows_between(store, device.id, t0_ns - EDGE_NS, t1_ns + EDGE_NS)
    starts = await reader.session_starts(store, device.id, t0_ns - EDGE_NS, t1_ns + EDGE_NS)
    holes = await reader.gaps(store, device.id, t0_ns - EDGE_NS, t1_ns + EDGE_NS)
    path: Path = "counter" if device.energy_path == "counter" else "integral"
    curve = curve_of(Rows.of(rows), Breaks.of(holes, starts), board, path, device.integral_of)
    return second_by_second(curve, t0_ns, t1_ns)


def as_baseline(name: str, idle_power_w: Mapping[str, float]) -> Baseline:
    """Return the baseline that a run of that name told: value and bounds of `idle_power`, W."""
    value, hi = idle_power_w["value"], idle_power_w["hi"]
    return Baseline(name=cast(BaselineName, name), power_w=value, u_w=(hi - value) / 2)


def name_of(run: StoredRun) -> str:
    """Return which baseline a run is."""
    return run.name or "B1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """One recorded baseline of one device."""

    device: int
    start_ns: int
    stop_ns: int
    baseline: Baseline


class Baselines:
    """All recorded baselines, by device and name."""

    def __init__(self, recorded: Iterable[Idle]) -> None:
        self._recorded: dict[tuple[int, str], list[Idle]] = defaultdict(list)
        for idle in sorted(recorded, key=lambda each: each.start_ns):
            self._recorded[idle.device, idle.baseline.name].append(idle)

    def __bool__(self) -> bool:
        return bool(self._recorded)

    def around(self, device: int, name: str, t0_ns: int, t1_ns: int) -> tuple[Baseline, tuple[str, ...]] | None:
        """Return the baseline of an interval, between the last before and the first after it, and its flags.

        One of them alone serves too; None where neither is within an hour.
        """
        every = self._recorded.get((device, name), [])
        before = [each for each in every if t0_ns - NEAR_NS <= each.stop_ns <= t0_ns][-1:]
        after = [each for each in every if t1_ns <= each.start_ns <= t1_ns + NEAR_NS][:1]
        match [*before, *after]:
            case [first, second]:
                return baseline_between(first.baseline, second.baseline)
            case [only]:
                return only.baseline, ()
            case _:
                return None


@dataclass(frozen=True, slots=True, kw_only=True)
class AboveIdle:
    """An energy above idle: with the idle power of all devices, W, and what its uncertainty adds, J (standard)."""

    energy: Estimate
    idle_w: float
    u_idle_j: float
    flags: tuple[str, ...]


def above_idle(
    baselines: Baselines, name: str, parts: Sequence[tuple[int, Estimate]], t0_ns: int, t1_ns: int
) -> AboveIdle | None:
    """Return the energy of devices (id, energy) above their baselines of a name; None where a device has none."""
    if not baselines:
        return None
    duration_s = (t1_ns - t0_ns) / S
    found = [baselines.around(device, name, t0_ns, t1_ns) for device, _ in parts]
    known = [each for each in found if each is not None]
    if not known or len(known) < len(parts):
        return None
    return AboveIdle(
        energy=summed([energy_above(e, base, duration_s) for (_, e), (base, _) in zip(parts, known, strict=True)]),
        idle_w=sum(base.power_w for base, _ in known),
        u_idle_j=math.hypot(*(base.u_w for base, _ in known)) * duration_s,
        flags=tuple(sorted({flag for _, flags in known for flag in flags})),
    )


def summed(parts: Sequence[Estimate]) -> Estimate:
    """Return several devices' estimates together: bounds add up, the worst grade and all flags hold."""

    def total(name: str) -> float | None:
        values = [getattr(part, name) for part in parts]
        return None if None in values else sum(values)

    worst = max((part.grade for part in parts), key="ABCU".index)
    methods = dict.fromkeys(part.method for part in parts)
    return Estimate(
        value=total("value"), lo=total("lo"), hi=total("hi"), method="+".join(methods), grade=worst,
        flags=tuple(dict.fromkeys(flag for part in parts for flag in part.flags)),
    )  # fmt: skip
