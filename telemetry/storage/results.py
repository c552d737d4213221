"""What is kept of runs: in `result` by rows for SQL, in `analysis` in one piece for reports."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

import orjson

from telemetry.model import ALL_DEVICES, Result
from telemetry.storage.store import Store

WHOLE_RUN = -1  # in the place of a request's number
_INSERT = (
    "INSERT INTO result (run, device, request, quantity, value, lo, hi, method, grade, flags, analysis_version) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OfRequests:
    """One quantity of a run's requests on all devices together, (n,) each."""

    run: int
    quantity: str
    method: str
    numbers: Sequence[int]
    values: Sequence[float]


async def write_results(
    store: Store,
    version: str,
    results: Sequence[Result],
    of_requests: Sequence[OfRequests],
    documents: Mapping[int, Mapping[str, Any]],
) -> None:
    """Keep what was worked out of some runs, in place of all that was kept of them.

    documents: the same by run, as reports tell it.
    """
    rows = [
        (r.run, r.device, WHOLE_RUN, r.quantity, r.estimate.value, r.estimate.lo, r.estimate.hi, r.estimate.method,
         r.estimate.grade, orjson.dumps(r.estimate.flags).decode(), version)
        for r in results
    ]  # fmt: skip
    rows += [
        (each.run, ALL_DEVICES, number, each.quantity, value, None, None, each.method, "n/a", "[]", version)
        for each in of_requests
        for number, value in zip(each.numbers, each.values, strict=True)
    ]
    told = {run: orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY) for run, document in documents.items()}
    async with store._transaction() as c:
        runs = {r.run for r in results} | {each.run for each in of_requests}
        await c.exec_driver_sql("DELETE FROM result WHERE run = ?", [(run,) for run in runs])
        await c.exec_driver_sql(_INSERT, rows)
        if told:
            await c.exec_driver_sql(
                "INSERT OR REPLACE INTO analysis VALUES (?, ?, ?)",
                [(run, version, document.decode()) for run, document in told.items()],
            )


async def documents(store: Store, from_id: int, to_id: int, version: str) -> dict[int, dict[str, Any]]:
    """Return what this version of the analysis keeps of each run whose id lies between two, as reports tell it."""
    found = await store.fetch(
        "SELECT run, document FROM analysis a WHERE run BETWEEN ? AND ? AND version = ? "
        "AND EXISTS (SELECT 1 FROM result r WHERE r.run = a.run)",
        (from_id, to_id, version),
    )
    return {run: orjson.loads(text) for run, text in found}


async def of_requests(store: Store, run: int) -> list[OfRequests]:
    """Return what is kept of a run's requests."""
    found = await store.fetch(
        "SELECT quantity, method, request, value FROM result WHERE run = ? AND device = ? AND request != ? "
        "ORDER BY quantity, method",
        (run, ALL_DEVICES, WHOLE_RUN),
    )
    return [
        OfRequests(run=run, quantity=quantity, method=method, numbers=numbers, values=values)
        for (quantity, method), rows in groupby(found, itemgetter(0, 1))
        for numbers, values in [zip(*(row[2:] for row in rows), strict=True)]
    ]
