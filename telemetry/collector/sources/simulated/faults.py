"""What can go wrong with a driver, on purpose and at a known time."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

FaultKind = Literal[
    "no_driver",
    "no_permission",
    "mismatch",
    "lost",
    "busy",
    "unknown",
    "not_supported",
    "zero",
    "stale",
    "reset",
    "hang",
    "slow",
    "stall",
]
FAULT_KINDS: tuple[FaultKind, ...] = get_args(FaultKind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault from `from_ns` on, wave time, for `duration_ns` (None: for ever), on one GPU (None: on all).

    no_driver, no_permission, mismatch: every call, and initialising, answers the driver's error
    lost, busy, unknown: every call on the GPU answers GPU_IS_LOST, TIMEOUT or UNKNOWN
    not_supported, zero: power and energy answer NOT_SUPPORTED; power answers 0 mW
    stale: power and energy stand still.    reset: the counter starts again at 0, once, at `from_ns`
    hang: a call returns when the fault is over.    slow: a call takes 8 ms longer
    stall: another program holds the driver for 5 ms of every 100, and calls return when it lets go
    """

    kind: FaultKind
    from_ns: int
    duration_ns: int | None = None
    gpu: int | None = None

    def active(self, wave_ns: int) -> bool:
        """Whether the fault is on at that wave time."""
        if wave_ns < self.from_ns:
            return False
        return self.duration_ns is None or wave_ns < self.from_ns + self.duration_ns


def active_faults(faults: Iterable[Fault], wave_ns: int) -> dict[FaultKind, Fault]:
    """Return the faults that are on at that wave time, by kind."""
    return {fault.kind: fault for fault in faults if fault.active(wave_ns)}
