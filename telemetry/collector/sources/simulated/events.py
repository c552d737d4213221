"""The event stream that a simulated GPU follows, shared by processes through an append-only file.

One line an event, "<CLOCK_MONOTONIC ns> <kind> <key>", is also the log of what was applied. The time is
stamped under an exclusive lock, and a reader stamps its own under a shared one: so an event never lies
before the time of an answer that was given without it, and what was published stays true.
"""

import fcntl
import os
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from telemetry.collector.lock import make_runtime_dir
from telemetry.collector.sources.simulated.waveform import Measure, Piece
from telemetry.errors import UsageError

EventKind = Literal["start", "first_token", "end", "clear"]
_KINDS = get_args(EventKind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """What the GPU draws, mW: at rest, while any request is in prefill, and else while any decodes."""

    idle_mw: int
    prefill_mw: int
    decode_mw: int


class EventLog:
    """The file of events. Opening creates it, with its folder; `close` lets go of it."""

    def __init__(self, path: Path, *, mono_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self.path = path
        self._mono_ns = mono_ns
        self._threads = threading.Lock()  # flock does not part threads that share a descriptor
        make_runtime_dir(path.parent)
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)

    def append(self, kind: EventKind, key: str) -> int:
        """Write one event and return the time at which it applies, ns.

        key: names the request, by convention "pid:anything", without white space. For `clear`: "*" ends all
        open requests, any other key those whose key begins with it.
        Raises UsageError for an unknown kind or a key with white space, OSError when the disk refuses it.
        """
        if kind not in _KINDS or not key or key != "".join(key.split()):
            raise UsageError(f"{kind!r} {key!r} is no event. The kinds are {', '.join(_KINDS)}; a key has no spaces.")
        with self._locked(fcntl.LOCK_EX):
            t_ns = self._mono_ns()
            line = f"{t_ns} {kind} {key}\n".encode()
            size = os.fstat(self._file).st_size
            if os.write(self._file, line) != len(line):
                os.ftruncate(self._file, size)  # half a line would spoil the log for every reader
                raise OSError(f"{self.path} took only a part of an event; is the disk full?")
        return t_ns

    def read(self, offset: int) -> tuple[int, bytes]:
        """Return the time, ns, and every whole line from `offset` on that lies before it."""
        with self._locked(fcntl.LOCK_SH):
            now_ns = self._mono_ns()
            size = os.fstat(self._file).st_size
            new = os.pread(self._file, size - offset, offset) if size > offset else b""
            return now_ns, new[: new.rfind(b"\n") + 1]

    def close(self) -> None:
        """Let go of the file. Safe to call twice."""
        with self._threads:
            if self._file >= 0:
                os.close(self._file)
                self._file = -1

    @contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        with self._threads:
            fcntl.flock(self._file, how)
            try:
                yield
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)


class EventTruth:
    """A truth that follows an event log; it is known up to the last `now_ns`."""

    def __init__(self, log: EventLog, levels: Levels) -> None:
        self._log = log
        self._levels = levels
        self._lock = threading.Lock()
        self._offset = 0
        self._lines = 0
        self._last_ns = 0
        self._open: dict[str, bool] = {}  # key: decoding
        self._times_ns = [0]
        self._powers_mw = [levels.idle_mw]
        self._tables: dict[Measure, list[int]] = {}

    def now_ns(self) -> int:
        """Take in what is new in the log and return the time up to which the truth is now known, ns.

        Raises UsageError when a line is no event.
        """
        with self._lock:
            now_ns, new = self._log.read(self._offset)
            self._offset += len(new)
            for line in new.splitlines():
                self._apply(line.decode(errors="replace"), now_ns)
            return now_ns

    def pids(self) -> tuple[int, ...]:
        """Return the processes that have open requests."""
        with self._lock:
            owners = {key.partition(":")[0] for key in self._open}
        return tuple(sorted(int(owner) for owner in owners if owner.isdecimal()))

    def power_mw(self, t_ns: int) -> int:
        """Return the power at `t_ns`, mW."""
        return self._powers_mw[self._find(t_ns)]

    def total(self, measure: Measure, t_ns: int) -> int:
        """Return what has added up since boot; see `Truth.total`."""
        i = self._find(t_ns)
        table = self._tables.get(measure, [0])
        if len(table) <= i:
            table = self._grown(measure, i)
        start_ns = self._times_ns[i]
        return table[i] + measure.over(self._piece(i, start_ns, t_ns), start_ns, t_ns)

    def pieces(self, from_ns: int, to_ns: int) -> Iterator[Piece]:
        """Yield the pieces between two times, cut at both."""
        i = self._find(from_ns)
        while from_ns < to_ns:
            end_ns = min(self._times_ns[i + 1], to_ns) if i + 1 < len(self._times_ns) else to_ns
            yield self._piece(i, from_ns, end_ns)
            from_ns, i = end_ns, i + 1

    def close(self) -> None:
        """Let go of the log."""
        self._log.close()

    def _find(self, t_ns: int) -> int:
        return max(0, bisect_right(self._times_ns, t_ns) - 1)

    def _piece(self, i: int, start_ns: int, end_ns: int) -> Piece:
        power_mw = self._powers_mw[i]
        return Piece(start_ns=start_ns, end_ns=end_ns, start_mw=power_mw, end_mw=power_mw)

    def _grown(self, measure: Measure, upto: int) -> list[int]:
        with self._lock:
            table = self._tables.setdefault(measure, [0])
            for i in range(len(table) - 1, upto):
                start_ns, end_ns = self._times_ns[i], self._times_ns[i + 1]
                table.append(table[i] + measure.over(self._piece(i, start_ns, end_ns), start_ns, end_ns))
            return table

    def _apply(self, line: str, now_ns: int) -> None:
        self._lines += 1
        stamp, _, rest = line.partition(" ")
        kind, _, key = rest.partition(" ")
        in_order = stamp.isdecimal() and self._last_ns <= int(stamp) <= now_ns
        if not in_order or kind not in _KINDS or not key:
            raise UsageError(
                f"Line {self._lines} of {self._log.path} is {line!r}, which is no event or out of order. "
                "Is it the log of another boot, or another file? Remove it or name another with events=PATH."
            )
        self._last_ns = int(stamp)
        if kind == "start":
            self._open[key] = False
        elif kind == "first_token":
            self._open[key] = True
        elif kind == "end":
            self._open.pop(key, None)
        else:
            self._open = {k: v for k, v in self._open.items() if key != "*" and not k.startswith(key)}
        power_mw = self._levels.idle_mw
        if self._open:
            decoding = all(self._open.values())
            power_mw = self._levels.decode_mw if decoding else self._levels.prefill_mw
        if power_mw != self._powers_mw[-1]:
            # The power first: a thread that finds the new time must find the power that goes with it.
            self._powers_mw.append(power_mw)
            self._times_ns.append(self._last_ns)
