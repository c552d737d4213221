"""Time as the probe needs it: told in ns, waited for, and, before a simulated GPU, passing at once."""

import time
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Protocol


class WaitingClock(Protocol):
    """A clock that can be waited on."""

    def now_ns(self) -> int:
        """Return the time now, ns."""
        ...

    def sleep_until(self, t_ns: int) -> None:
        """Return at `t_ns`, or at once when that is past."""
        ...


class HostClock:
    """CLOCK_MONOTONIC."""

    def now_ns(self) -> int:
        """Return the time now, ns."""
        return time.monotonic_ns()

    def sleep_until(self, t_ns: int) -> None:
        """Return at `t_ns`, or at once when that is past."""
        left_ns = t_ns - time.monotonic_ns()
        if left_ns > 0:
            time.sleep(left_ns / 1e9)


class VirtualClock:
    """A clock that jumps to whatever is waited for, doing on the way what was put on its agenda."""

    def __init__(self, start_ns: int) -> None:
        self._now_ns = start_ns
        self._agenda: list[tuple[int, int, Callable[[], object]]] = []
        self._entries = 0

    def now_ns(self) -> int:
        """Return the time now, ns."""
        return self._now_ns

    def at(self, t_ns: int, act: Callable[[], object]) -> None:
        """Have something done at that time; what was said first is done first."""
        heappush(self._agenda, (t_ns, self._entries, act))
        self._entries += 1

    def sleep_until(self, t_ns: int) -> None:
        """Jump to `t_ns`, stopping for what is due before."""
        while self._agenda and self._agenda[0][0] <= t_ns:
            due_ns, _, act = heappop(self._agenda)
            self._now_ns = max(self._now_ns, due_ns)
            act()
        self._now_ns = max(self._now_ns, t_ns)

    def sleep(self, seconds: float) -> None:
        """Jump ahead by so much: how a simulated call takes time."""
        self.sleep_until(self._now_ns + round(seconds * 1e9))
