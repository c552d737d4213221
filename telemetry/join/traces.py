"""What the store holds of one device around an interval, as arrays."""

from telemetry.analysis import Breaks, Rows, checks
from telemetry.join.boards import Board, Boards, watts
from telemetry.join.energy import LONG_NS, VITALS_NS, DeviceEnergy, Trace, measure, stood_still
from telemetry.model import Gap
from telemetry.storage import reader
from telemetry.storage.reader import EDGE_NS, StoredDevice, WallClock
from telemetry.storage.store import Store

# Up to this long all readings of an interval are read where estimators that walk along the power need them.
WHOLE_NS = 600_000_000_000
AT_ONCE_NS = 600_000_000_000  # of readings in memory as rows


async def board_of(store: Store, device: StoredDevice, boards: Boards) -> Board:
    """Return what is known of a device's board, all its readings considered."""
    least_mw, most_mw = await reader.power_range_mw(store, device.id)
    return boards.board(
        name=device.name,
        vbios=device.vbios,
        driver=device.driver,
        limit_w=watts(device.power_limit_mw),
        min_w=watts(least_mw),
        max_w=watts(most_mw),
    )


async def device_energy(
    store: Store,
    device: StoredDevice,
    board: Board,
    t0_ns: int,
    t1_ns: int,
    *,
    clock: WallClock,
    own_pids: frozenset[int] | None = None,
    method: str = "auto",
    course: bool = False,
) -> DeviceEnergy:
    """Return the energy of one stored device over [t0, t1].

    A counter and a stored integral need the rows around the edges and the breaks alone; where there is no
    counter, or another method is asked for, all rows of the interval are read if it is not too long. course: the
    energy inside matters too, so all rows are read, however long it is.
    """
    holes = await reader.gaps(store, device.id, t0_ns - EDGE_NS, t1_ns + EDGE_NS)
    starts = await reader.session_starts(store, device.id, t0_ns - EDGE_NS, t1_ns + EDGE_NS)
    places = [(t0_ns - EDGE_NS, t0_ns + EDGE_NS), (t1_ns - EDGE_NS, t1_ns + EDGE_NS)]
    places += [(gap.from_ns - _around(gap), gap.to_ns + _around(gap)) for gap in holes]
    places += [(start, start) for start in starts]
    if t1_ns - t0_ns >= LONG_NS:
        places.append((t1_ns - checks.STEADY_NS, t1_ns))
    short = t1_ns - t0_ns <= WHOLE_NS
    if course or (short and (device.energy_path != "counter" or method != "auto")):
        places.append((t0_ns, t1_ns))
    vitals = await reader.vitals(store, device.id, t0_ns - VITALS_NS, t1_ns + VITALS_NS)
    places += [(v.t_ns - VITALS_NS, v.t_ns) for v in vitals if stood_still(v)]
    trace = Trace(
        name=device.name,
        boundary=device.boundary,
        integral_of=device.integral_of,
        limit_w=watts(device.power_limit_mw),
        rows=Rows.concat([part for place in _merged(places) for part in await _rows(store, device, *place)]),
        breaks=Breaks.of(holes, starts),
        vitals=vitals,
        own_pids=own_pids,
        offsets_ns=clock.offsets_ns(t0_ns, t1_ns),
    )
    return measure(trace, board, t0_ns, t1_ns, method)


async def _rows(store: Store, device: StoredDevice, from_ns: int, to_ns: int) -> list[Rows]:
    """Return the readings of a stretch and the nearest ones around it, in pieces that overlap by a row or two.

    After a piece it goes on at the next reading: a hole of years is one step, as one of seconds is.
    """
    pieces = []
    while from_ns <= to_ns:
        until_ns = min(from_ns + AT_ONCE_NS, to_ns)
        rows = await reader.rows_between(store, device.id, from_ns, until_ns)
        if not rows:
            break
        pieces.append(Rows.of(rows))
        if rows[-1].t_ns <= until_ns:  # there is none after it
            break
        from_ns = rows[-1].t_ns
    return pieces


def _around(gap: Gap) -> int:
    """Return how far around a gap rows are wanted: where a counter restarted it ends and begins like at an edge."""
    return EDGE_NS if gap.reason == "counter_reset" else 0


def _merged(places: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for begin, end in sorted(places):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return merged
