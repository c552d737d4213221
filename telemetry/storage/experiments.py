"""Which runs of an experiment there are: what it still has to do is the rest of its plan."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from telemetry.storage.store import Store

LATELY_NS = 10_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRun:
    """A run of an experiment as the store has it; `position` is its place in the order, None for a warm-up."""

    uid: str
    position: int | None
    status: str
    settings: Mapping[str, Any]
    environment: str | None


async def last_planned_so(store: Store, plan_hash: str) -> str | None:
    """Return the uid of the last experiment with this plan; None where there is none."""
    found = await store.fetch(
        "SELECT uid FROM experiment WHERE plan_hash = ? ORDER BY created_ns DESC LIMIT 1", (plan_hash,)
    )
    return str(found[0][0]) if found else None


async def runs_of(store: Store, experiment: str) -> list[PlannedRun]:
    """Return an experiment's runs in the order in which they began; baselines are none."""
    found = await store.fetch(
        "SELECT uid, position, status, settings, environment FROM run "
        "WHERE experiment = ? AND runner <> 'baseline' ORDER BY start_ns",
        (experiment,),
    )
    return [
        PlannedRun(uid=uid, position=position, status=status, settings=orjson.loads(settings), environment=environment)
        for uid, position, status, settings, environment in found
    ]


async def device_facts(store: Store, uids: Sequence[str]) -> list[dict[str, Any]]:
    """Return what the store knows of devices, by UID, that may change what they measure or how fast they are.

    The power limit is the one in force: it may have been set since the collector began.
    """
    columns = ("uid", "name", "kind", "boundary", "simulated", "driver", "vbios", "memory_bytes")
    found = await store.fetch(
        f"SELECT {', '.join(columns)}, coalesce((SELECT v.power_limit_mw FROM vitals v "
        "WHERE v.device = device.id AND v.t_ns > ? ORDER BY v.t_ns DESC LIMIT 1), power_limit_mw) "
        f"FROM device WHERE uid IN ({', '.join('?' * len(uids))}) ORDER BY uid",
        (store.clock.now_ns() - LATELY_NS, *uids),
    )
    return [dict(zip((*columns, "power_limit_mw"), row, strict=True)) for row in found]


async def environments(store: Store) -> dict[str, Mapping[str, Any]]:
    """Return what every environment that a run names was, by its hash."""
    return {name: orjson.loads(what) for name, what in await store.fetch("SELECT hash, snapshot FROM environment")}
