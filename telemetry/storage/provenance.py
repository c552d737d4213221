"""What stands behind runs: devices, collectors, settings and environments, as the store has them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from telemetry.storage.store import Store

_DEVICE = ("uid", "name", "boundary", "simulated", "driver", "vbios", "memory_bytes", "power_limit_mw", "energy_path")
_SOURCE = ("source", "version")


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Devices and sources by column.  settings: those in effect, environment's hash, runs.  environments: by hash."""

    devices: list[dict[str, Any]]
    sources: list[dict[str, Any]]
    settings: list[tuple[Any, str | None, int]]
    environments: dict[str, Any]


async def provenance(store: Store, runs: Sequence[str]) -> Provenance:
    """Return what stands behind these runs, each thing once."""
    these = f"SELECT id FROM run WHERE uid IN ({', '.join('?' * len(runs))})"
    used = f"SELECT device FROM run_device WHERE run IN ({these})"
    devices = await store.fetch(
        f"SELECT {', '.join(_DEVICE)} FROM device WHERE id IN ({used}) ORDER BY id", tuple(runs)
    )
    sources = await store.fetch(
        f"SELECT DISTINCT {', '.join(f's.{name}' for name in _SOURCE)} FROM session s "
        f"JOIN session_device sd ON sd.session = s.id WHERE sd.device IN ({used}) AND EXISTS "
        f"(SELECT 1 FROM run r WHERE r.id IN ({these}) AND s.start_ns < r.stop_ns AND s.heartbeat_ns > r.start_ns)",
        (*runs, *runs),
    )
    settings = await store.fetch(
        f"SELECT settings, environment, count(*) FROM run WHERE id IN ({these}) GROUP BY 1, 2 ORDER BY min(start_ns)",
        tuple(runs),
    )
    environments = await store.fetch(
        f"SELECT hash, snapshot FROM environment WHERE hash IN (SELECT environment FROM run WHERE id IN ({these}))",
        tuple(runs),
    )
    return Provenance(
        devices=[dict(zip(_DEVICE, row, strict=True)) for row in devices],
        sources=[dict(zip(_SOURCE, row, strict=True)) for row in sources],
        settings=[(orjson.loads(what), where, n) for what, where, n in settings],
        environments={name: orjson.loads(snapshot) for name, snapshot in environments},
    )
