"""What is kept of runs: in `result` by rows for SQL, in `analysis` whole for reports. Written in place of what was."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import Any, Self, TypeVar

import orjson

from telemetry.model import ALL_DEVICES, Estimate, Result
from telemetry.storage.store import Store

T = TypeVar("T")
WHOLE_RUN = -1  # in the place of a request's number
_INSERT = (
    "INSERT INTO result (run, device, request, quantity, value, lo, hi, method, grade, flags, analysis_version) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)

Kept = defaultdict[int, dict[str, T]]


def _kept() -> Kept[Any]:
    return defaultdict(dict)


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

    estimates: Kept[Estimate] = field(default_factory=_kept)
    numbers: Kept[float] = field(default_factory=_kept)  # counts and times, which have no bounds

    @classmethod
    def of(cls, rows: Iterable[Result]) -> Self:
        """Return what these rows of one run keep."""
        kept = cls()
        for row in rows:
            if row.estimate.grade != "n/a":
                kept.estimates[row.device][row.quantity] = row.estimate
            elif row.estimate.value is not None:
                kept.numbers[row.device][row.quantity] = row.estimate.value
        return kept

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return what the JSON of `analysis.results` tells."""
        told = orjson.loads(text)
        kept = cls()
        kept.numbers.update((int(device), numbers) for device, numbers in told["numbers"].items())
        for device, estimates in told["estimates"].items():
            of_device = kept.estimates[int(device)]
            for quantity, (value, lo, hi, method, grade, flags) in estimates.items():
                of_device[quantity] = Estimate(
                    value=value, lo=lo, hi=hi, method=method, grade=grade, flags=tuple(flags)
                )
        return kept

    def json(self) -> str:
        """Return the JSON for `analysis.results`."""
        estimates = {
            device: {quantity: (e.value, e.lo, e.hi, e.method, e.grade, e.flags) for quantity, e in some.items()}
            for device, some in self.estimates.items()
        }
        options = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
        return orjson.dumps({"estimates": estimates, "numbers": self.numbers}, option=options).decode()


async def write_results(
    store: Store, version: str, results: Sequence[Result], of_requests: Sequence[OfRequests] = ()
) -> None:
    """Keep what was worked out of some runs, one run after the other, in place of all that was kept of them."""
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
    wholes = [(run, version, Results.of(some).json()) for run, some in groupby(results, attrgetter("run"))]
    async with store._transaction() as c:
        runs = {r.run for r in results} | {each.run for each in of_requests}
        await c.exec_driver_sql("DELETE FROM result WHERE run = ?", [(run,) for run in runs])
        await c.exec_driver_sql(_INSERT, rows)
        if wholes:
            await c.exec_driver_sql("INSERT OR REPLACE INTO analysis VALUES (?, ?, ?)", wholes)


async def results(store: Store, from_id: int, to_id: int, version: str) -> dict[int, Results]:
    """Return what this version of the analysis keeps of each run whose id lies between two."""
    found = await store.fetch(
        "SELECT run, results FROM analysis a WHERE run BETWEEN ? AND ? AND version = ? "
        "AND EXISTS (SELECT 1 FROM result r WHERE r.run = a.run)",
        (from_id, to_id, version),
    )
    return {run: Results.parse(text) for run, text in found}


async def of_requests(store: Store, run: int, quantity: str) -> dict[int, float]:
    """Return a quantity that is kept of a run's requests, by their numbers."""
    found = await store.fetch(
        "SELECT request, value FROM result WHERE run = ? AND device = ? AND request != ? AND quantity = ?",
        (run, ALL_DEVICES, WHOLE_RUN, quantity),
    )
    return dict(found)
