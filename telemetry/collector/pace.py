"""When a device is polled, and how well that went: deadlines that do not drift, and the last ten seconds."""

import math
from collections import deque
from dataclasses import dataclass
from random import Random

WINDOW_NS = 10_000_000_000
_WINDOW_POLLS = 10_000  # ten seconds at the shortest period that may be set
DITHER = 0.3


class Deadlines:
    """start + k · period, each dithered by ±30 % of it, so as not to fall in step with the device."""

    def __init__(self, start_ns: int, period_ns: int, chance: Random) -> None:
        """The first deadline is `start_ns` itself."""
        self.due_ns = start_ns
        self.period_ns = period_ns
        self._base_ns = start_ns
        self._slot = 0
        self._chance = chance

    def advance(self, now_ns: int) -> int:
        """Move `due_ns` to the next slot; return how many slots before it have passed unused."""
        ahead = (now_ns - self._base_ns) // self.period_ns + 1
        following = self._slot + 1
        self._slot = max(following, ahead)
        shift_ns = round(self._chance.uniform(-DITHER, DITHER) * self.period_ns)
        self.due_ns = self._base_ns + self._slot * self.period_ns + shift_ns
        return self._slot - following

    def slow_down(self, factor: int) -> None:
        """Make the period longer from the current slot on."""
        self._base_ns += self._slot * self.period_ns
        self._slot = 0
        self.period_ns *= factor


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Call times and lateness of the polls of the last ten seconds, ns; None while there were none."""

    latency_p50_ns: int | None
    latency_p99_ns: int | None
    latency_max_ns: int | None
    lateness_p99_ns: int | None


class RecentPolls:
    """The polls of the last ten seconds: how long each took and how late it began."""

    def __init__(self) -> None:
        """Start empty."""
        self._polls: deque[tuple[int, int, int]] = deque(maxlen=_WINDOW_POLLS)

    def add(self, t_ns: int, latency_ns: int, lateness_ns: int) -> None:
        """Take a poll, and forget those of more than ten seconds before it."""
        self._polls.append((t_ns, latency_ns, lateness_ns))
        self._forget(t_ns)

    def clear(self) -> None:
        """Forget all polls."""
        self._polls.clear()

    def spread(self, now_ns: int) -> Spread:
        """Return the quantiles (nearest rank) of the ten seconds until now."""
        self._forget(now_ns)
        _, latencies, lateness = map(sorted, zip(*self._polls, strict=True)) if self._polls else ([], [], [])
        return Spread(
            latency_p50_ns=_quantile(latencies, 0.5),
            latency_p99_ns=_quantile(latencies, 0.99),
            latency_max_ns=_quantile(latencies, 1.0),
            lateness_p99_ns=_quantile(lateness, 0.99),
        )

    def _forget(self, now_ns: int) -> None:
        while self._polls and self._polls[0][0] < now_ns - WINDOW_NS:
            self._polls.popleft()


def _quantile(ordered: list[int], share: float) -> int | None:
    return ordered[math.ceil(share * len(ordered)) - 1] if ordered else None
