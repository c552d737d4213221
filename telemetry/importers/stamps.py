"""Times written as text: with an offset, or in a zone that somebody has to name."""

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from telemetry.errors import UsageError
from telemetry.importers.cells import CellError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LOCAL_EPOCH = datetime(1970, 1, 1)
_OFFSET = re.compile(r"([+-])(\d{2}):?(\d{2})?")
_MINUTE = len("2023-07-08T19:28")
_SHORTEST = len("2023-07-08T19:28:27")


def parse_zone(name: str) -> tzinfo:
    """Return the zone of a name: `UTC`, `Z`, an offset such as `+01:00`, or an IANA name.

    Raises UsageError for a name that is none of these.
    """
    if name.upper() in ("UTC", "Z"):
        return UTC
    found = _OFFSET.fullmatch(name)
    try:
        if found:
            size = timedelta(hours=int(found[2]), minutes=int(found[3] or 0))
            return timezone(-size if found[1] == "-" else size)
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise UsageError(
            f"the time zone {name!r} is not known here. Give an offset such as +01:00, UTC, or a name such "
            "as Europe/Berlin."
        ) from error


class StampReader:
    """Reads stamps, and remembers whether one of them lacked a zone."""

    def __init__(self, tz: str | None) -> None:
        """Read stamps without an offset in the zone `tz`; None: as UTC. Raises UsageError for no zone."""
        self._zone = parse_zone(tz) if tz is not None else UTC
        self._last: tuple[str | None, int] = (None, 0)  # the rows of one loop share a stamp
        self._offset = lru_cache(maxsize=1024)(self._offset_at)  # one look-up of the zone a minute
        self.saw_naive = False
        self.saw_aware = False

    def t_ns(self, text: str) -> int:
        """Return ns since the Unix epoch of `2023/07/08 19:28:27.236` or an ISO-8601 time.

        Digits past the microsecond are dropped. Raises CellError for text that is no time, and for local
        times that the zone had twice or never.
        """
        if text == self._last[0]:
            return self._last[1]
        try:
            stamp = datetime.fromisoformat(text.replace("/", "-"))
        except ValueError:
            stamp = None
        if stamp is None or len(text) < _SHORTEST:
            raise CellError(
                f"its time is {text!r}; read are 2023/07/08 19:28:27.236 and ISO-8601 such as 2023-07-08T19:28:27+01:00"
            )
        if stamp.tzinfo is None:
            self.saw_naive = True
            since = stamp - _LOCAL_EPOCH - self._offset(text[:_MINUTE])
        else:
            self.saw_aware = True
            since = stamp - _EPOCH
        t_ns = ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1_000
        in_range_ns(t_ns)
        self._last = (text, t_ns)
        return t_ns

    def _offset_at(self, minute: str) -> timedelta:
        local = datetime.fromisoformat(minute.replace("/", "-")).replace(tzinfo=self._zone)
        early = local.utcoffset()
        late = local.replace(fold=1).utcoffset()
        assert early is not None  # every zone that parse_zone returns has offsets
        assert late is not None
        if early != late:
            kind = "twice" if early > late else "never"
            raise CellError(
                f"the local time {minute} was {kind} in {self._zone}, where the clocks changed; give the "
                f"offset that the machine had, such as --tz {_spell(late)} or --tz {_spell(early)}"
            )
        return early


def _spell(offset: timedelta) -> str:
    minutes = round(offset.total_seconds() / 60)
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"


def in_range_ns(t_ns: int) -> int:
    """Return a time as the store takes it, ns since the Unix epoch. Raises CellError for one that it does not."""
    if not 0 <= t_ns < 2**63:
        raise CellError("its time is not between 1970 and 2261")
    return t_ns


def parse_start_ns(text: str, stamps: StampReader) -> int:
    """Return ns since the Unix epoch of a start given as ISO-8601 or as epoch seconds.

    Raises UsageError for text that is neither.
    """
    whole, _, fraction = text.partition(".")
    try:
        if whole.isdecimal() and len(whole) < 20 and (fraction.isdecimal() or not fraction):
            stamps.saw_aware = True  # epoch seconds have no zone to ask for
            return in_range_ns(int(whole) * 1_000_000_000 + int(fraction[:9].ljust(9, "0")))
        return stamps.t_ns(text)
    except CellError as error:
        raise UsageError(f"--start cannot be read: {error}, or epoch seconds.") from error
