"""What is kept of runs in `result`: written in place of what was, and read by run."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Self

import orjson

from telemetry.model import ALL_DEVICES, Estimate, Result
from telemetry.storage.reader import codes
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """What is kept of one run, by device (ALL_DEVICES: the run as a whole) and quantity."""

    estimates: dict[tuple[int, str], Estimate] = field(default_factory=dict)
    numbers: dict[tuple[int, str], float] = field(default_factory=dict)  # counts and times, which have no bounds

    @classmethod
    def of(cls, rows: Iterable[Result]) -> Self:
        """Return what these rows of one run keep."""
        kept = cls()
        for row in rows:
            if row.estimate.grade != "n/a":
                kept.estimates[row.device, row.quantity] = row.estimate
            elif row.estimate.value is not None:
                kept.numbers[row.device, row.quantity] = row.estimate.value
        return kept


async def write_results(
    store: Store, version: str, results: Sequence[Result], of_requests: Sequence[OfRequests] = ()
) -> None:
    """Keep what was worked out of some runs, in place of all that was kept of them."""
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
    async with store._transaction() as c:
        runs = {r.run for r in results} | {each.run for each in of_requests}
        await c.exec_driver_sql("DELETE FROM result WHERE run = ?", [(run,) for run in runs])
        await c.exec_driver_sql(_INSERT, rows)


async def results(store: Store, from_id: int, to_id: int, version: str) -> dict[int, Results]:
    """Return what this version of the analysis keeps of each run whose id lies between two."""
    kept: defaultdict[int, Results] = defaultdict(Results)
    where = f"WHERE run BETWEEN ? AND ? AND request = {WHOLE_RUN} AND analysis_version = ? AND grade"
    for run, device, quantity, value, lo, hi, method, grade, flags in await store.fetch(
        f"SELECT run, device, quantity, value, lo, hi, method, grade, flags FROM result {where} != 'n/a'",
        (from_id, to_id, version),
    ):
        kept[run].estimates[device, quantity] = Estimate(
            value=value, lo=lo, hi=hi, method=method, grade=grade, flags=codes(flags)
        )
    for run, device, quantity, value in await store.fetch(
        f"SELECT run, device, quantity, value FROM result {where} = 'n/a'", (from_id, to_id, version)
    ):
        kept[run].numbers[device, quantity] = value
    return kept


async def of_requests(store: Store, run: int, quantity: str) -> dict[int, float]:
    """Return a quantity that is kept of a run's requests, by their numbers."""
    found = await store.fetch(
        "SELECT request, value FROM result WHERE run = ? AND device = ? AND request != ? AND quantity = ?",
        (run, ALL_DEVICES, WHOLE_RUN, quantity),
    )
    return dict(found)
