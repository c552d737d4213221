"""The host's steady clock: CLOCK_MONOTONIC, dated once a boot.

CLOCK_MONOTONIC is shared by all processes of a host and never steps, so one pair of stamps taken
together dates it for the whole boot. All `t_ns` in this project are on that scale: integer
nanoseconds since the Unix epoch as they would be had the wall clock not been touched since the
anchor was taken.
"""

import platform
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class Clock(Protocol):
    """Something that tells the time on the `t_ns` scale."""

    def now_ns(self) -> int:
        """Return the time now, ns."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BootKey:
    """Which monotonic clock this process sees: two processes with equal keys share it."""

    machine: str
    boot: str
    time_namespace: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """The wall time of one instant of the monotonic clock."""

    mono_ns: int
    wall_ns: int


@dataclass(frozen=True, slots=True)
class SteadyClock:
    """The monotonic clock, dated by an anchor."""

    anchor: Anchor

    def now_ns(self) -> int:
        """Return the time now, ns."""
        return self.anchor.wall_ns + (time.monotonic_ns() - self.anchor.mono_ns)

    def at(self, mono_ns: int) -> int:
        """Return the `t_ns` of a CLOCK_MONOTONIC stamp."""
        return self.anchor.wall_ns + (mono_ns - self.anchor.mono_ns)

    def mono(self, t_ns: int) -> int:
        """Return the CLOCK_MONOTONIC stamp of a `t_ns`."""
        return self.anchor.mono_ns + (t_ns - self.anchor.wall_ns)

    def offset_ns(self) -> int:
        """Return how far the wall clock has moved from this one since the anchor, ns."""
        here = take_anchor()
        return here.wall_ns - self.at(here.mono_ns)


def take_anchor() -> Anchor:
    """Read both clocks together; of a few tries, the one with the least time between."""
    tries = []
    for _ in range(5):
        before = time.monotonic_ns()
        wall = time.time_ns()
        after = time.monotonic_ns()
        tries.append((after - before, Anchor(mono_ns=(before + after) // 2, wall_ns=wall)))
    return min(tries, key=lambda pair: pair[0])[1]


def suspended_ns() -> int:
    """Return how long this host has slept since boot, ns; 0 where the kernel does not say."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return 0
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()


_PROCESS_BOOT = uuid.uuid4().hex  # for systems that name no boot: the clock is then this process's own


def boot_key() -> BootKey:
    """Return the key of the monotonic clock that this process sees."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    machine = Path("/etc/machine-id")
    namespace = Path("/proc/self/ns/time")
    return BootKey(
        machine=(machine.read_text().strip() if machine.is_file() else "") or platform.node(),
        boot=boot.read_text().strip() if boot.is_file() else _PROCESS_BOOT,
        time_namespace=namespace.stat().st_ino if namespace.exists() else 0,
    )
