"""Which runs of an experiment there are: what it still has to do is the rest of its plan."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from telemetry.storage.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRun:
    """A run of an experiment as the store has it; `position` is its place in the order, None for a warm-up."""

    uid: str
    position: int | None
    status: str
    settings: Mapping[str, Any]


async def last_planned_so(store: Store, plan_hash: str) -> str | None:
    """Return the uid of the last experiment with this plan; None where there is none."""
    found = await store.fetch(
        "SELECT uid FROM experiment WHERE plan_hash = ? ORDER BY created_ns DESC LIMIT 1", (plan_hash,)
    )
    return str(found[0][0]) if found else None


async def runs_of(store: Store, experiment: str) -> list[PlannedRun]:
    """Return an experiment's runs in the order in which they began; baselines are none."""
    found = await store.fetch(
        "SELECT uid, position, status, settings FROM run "
        "WHERE experiment = ? AND runner <> 'baseline' ORDER BY start_ns",
        (experiment,),
    )
    return [
        PlannedRun(uid=uid, position=position, status=status, settings=orjson.loads(settings))
        for uid, position, status, settings in found
    ]
