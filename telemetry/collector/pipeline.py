"""From polls to rows: which readings are kept, the running integral, and the queue to the writer."""

from collections import deque
from dataclasses import dataclass
from threading import Lock

from telemetry.model import Device, Gap, Item, Reading, ReadingRow, power_column

ALIVE_NS = 1_000_000_000  # no two rows lie further apart, changed or not
_HALF_PICOJOULES_PER_UJ = 2_000_000  # (mW + mW) · ns, the trapezoid before it is halved


@dataclass(frozen=True, slots=True, kw_only=True)
class Reduced:
    """What one poll adds to the store."""

    row: ReadingRow | None
    gap: Gap | None = None  # a counter_reset, when the device's counter fell


def start_of(reading: Reading) -> int:
    """Return when the call of a reading began, ns."""
    return reading.t_ns - reading.latency_ns // 2


def end_of(reading: Reading) -> int:
    """Return when the call of a reading had ended, ns."""
    return reading.t_ns + reading.latency_ns - reading.latency_ns // 2


class Reducer:
    """Turns the successful polls of one device, in the order of time, into rows.

    A row is kept when a value changed (to or from None counts), when the poll before is more than three
    periods back, once a second, and after whatever breaks the integral.
    """

    def __init__(self, device: Device, period_ns: int, *, keep_all: bool = False) -> None:
        """Start a session: the integral is 0 and the first poll is kept, with `keep_all` every poll."""
        self._keep_all = keep_all
        self.period_ns = period_ns
        self._column = power_column(device.integral_of) if device.integral_of is not None else None
        self._previous: Reading | None = None
        self._row: ReadingRow | None = None
        self._counted: Reading | None = None  # the last poll that had a counter value
        self._half_pj = 0
        self._broken = False

    def gap(self) -> None:
        """Let the integral stand still until the next poll; `since_ns` goes on from the poll before."""
        self._broken = True

    def push(self, reading: Reading) -> Reduced:
        """Take one poll. `gap` tells of a counter that fell since a poll before."""
        reset = self._reset(reading)
        if reset is not None:
            self._broken = True
        if not self._broken:
            self._advance(reading)
        # Rounded up, and since_ns taken from the rounded end, so that the bracket which a reader computes
        # from the row, (h - since_ns, h], begins where the previous call did and ends no earlier than this.
        latency_us = -(-reading.latency_ns // 1_000)
        end_ns = reading.t_ns + latency_us * 500
        since_ns = 0 if self._previous is None else end_ns - start_of(self._previous)
        row = None
        if self._broken or self._is_due(reading, since_ns):
            row = self._row = ReadingRow(
                t_ns=reading.t_ns,
                power_instant_mw=reading.power_instant_mw,
                power_average_mw=reading.power_average_mw,
                energy_mj=reading.energy_mj,
                integral_uj=None if self._column is None else self._half_pj // _HALF_PICOJOULES_PER_UJ,
                since_ns=since_ns,
                latency_us=latency_us,
            )
        self._previous = reading
        self._broken = False
        if reading.energy_mj is not None:
            self._counted = reading
        return Reduced(row=row, gap=reset)

    def _reset(self, reading: Reading) -> Gap | None:
        before = self._counted
        if before is None or before.energy_mj is None or reading.energy_mj is None:
            return None
        if reading.energy_mj >= before.energy_mj:
            return None
        return Gap(from_ns=start_of(before), to_ns=end_of(reading), reason="counter_reset")

    def _advance(self, reading: Reading) -> None:
        before_mw, now_mw = self._power_mw(self._previous), self._power_mw(reading)
        if self._previous is not None and before_mw is not None and now_mw is not None:
            self._half_pj += (before_mw + now_mw) * (reading.t_ns - self._previous.t_ns)

    def _power_mw(self, reading: Reading | None) -> int | None:
        if reading is None or self._column is None:
            return None
        return reading.power_instant_mw if self._column == "power_instant_mw" else reading.power_average_mw

    def _is_due(self, reading: Reading, since_ns: int) -> bool:
        last = self._row
        return (
            last is None
            or self._keep_all
            or since_ns > 3 * self.period_ns
            or reading.t_ns - last.t_ns > ALIVE_NS - 2 * self.period_ns
            or reading.power_instant_mw != last.power_instant_mw
            or reading.power_average_mw != last.power_average_mw
            or reading.energy_mj != last.energy_mj
        )


class Channel:
    """The bounded queue between the samplers, which never wait, and the one writer."""

    def __init__(self, capacity: int) -> None:
        """Hold at most `capacity` items."""
        self._capacity = capacity
        self._items: deque[Item] = deque()
        self._lock = Lock()
        self._dropped = 0
        self._lost: dict[str, Gap] = {}
        self._peak = 0

    def put(self, item: Item) -> bool:
        """Append an item; return False, and count it as dropped, when there is no room."""
        with self._lock:
            if len(self._items) >= self._capacity:
                self._drop(item)
                return False
            self._items.append(item)
            self._peak = max(self._peak, len(self._items))
            return True

    def drain(self, limit: int) -> list[Item]:
        """Take out up to `limit` items, the oldest first."""
        with self._lock:
            return [self._items.popleft() for _ in range(min(limit, len(self._items)))]

    def __len__(self) -> int:
        return len(self._items)

    def lost(self) -> list[Item]:
        """Take out a gap for each device whose items found no room, from the first to the last of them."""
        with self._lock:
            lost, self._lost = self._lost, {}
        return list(lost.items())

    def _drop(self, item: Item) -> None:
        uid, what = item
        from_ns, to_ns = (what.from_ns, what.to_ns) if isinstance(what, Gap) else (what.t_ns, what.t_ns)
        before = self._lost.get(uid)
        self._lost[uid] = Gap(from_ns=before.from_ns if before else from_ns, to_ns=to_ns, reason="dropped")
        self._dropped += 1

    @property
    def dropped(self) -> int:
        """How many items found no room."""
        return self._dropped

    @property
    def peak(self) -> int:
        """The most items that were ever held at once."""
        return self._peak
