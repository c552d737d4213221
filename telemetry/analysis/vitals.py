"""Stored vitals of one device as arrays, and what of them concerns an interval."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from telemetry.analysis.rows import Bools, Floats, Ints
from telemetry.errors import TraceError
from telemetry.model import Vitals

# The driver's cumulative counters of throttled time, in the order of their columns, and NVML's bits of the same.
THROTTLES = ("power_cap", "sync_boost", "sw_thermal", "hw_thermal", "power_brake")
REASON_BITS = (0x04, 0x10, 0x20, 0x40, 0x80)


@dataclass(frozen=True, slots=True, kw_only=True)
class VitalsRows:
    """Rows of `vitals` of one device, sorted by time; n rows, p processes seen in them.

    Numbers (n,), NaN where NULL. throttle_ns: (n, 5), cumulative, in the order of THROTTLES. reasons: (n,), bit
    masks, 0 where not `reasons_known`. process_row, process_pid, process_bytes: (p,), bytes NaN where not said.
    """

    t_ns: Ints
    temperature_c: Floats
    clock_sm_mhz: Floats
    util_gpu_pct: Floats
    power_limit_w: Floats
    throttle_ns: Floats
    reasons: Ints
    reasons_known: Bools
    process_row: NDArray[np.intp]
    process_pid: Ints
    process_bytes: Floats
    polls: Ints
    misses: Ints

    @classmethod
    def of(cls, rows: Sequence[Vitals]) -> Self:
        """Return vitals of one device, in the order of time, as arrays.

        Raises TraceError when time stands still or runs backwards.
        """
        t_ns = np.array([r.t_ns for r in rows], dtype=np.int64)
        if np.any(np.diff(t_ns) <= 0):
            raise TraceError("The vitals are not sorted by time, or one comes twice. Hand those of one device once.")
        of = [r.sensors for r in rows]
        seen = [(n, *process) for n, s in enumerate(of) for process in s.processes or ()]
        return cls(
            t_ns=t_ns,
            temperature_c=_floats([s.temperature_c for s in of]),
            clock_sm_mhz=_floats([s.clock_sm_mhz for s in of]),
            util_gpu_pct=_floats([s.util_gpu_pct for s in of]),
            power_limit_w=_floats([s.power_limit_mw for s in of]) * 1e-3,
            throttle_ns=np.column_stack(
                [_floats([getattr(s, f"throttle_{name}_ns") for s in of]) for name in THROTTLES]
            ),
            reasons=np.array([s.throttle_reasons or 0 for s in of], dtype=np.int64),
            reasons_known=np.array([s.throttle_reasons is not None for s in of], dtype=np.bool_),
            process_row=np.array([n for n, _, _ in seen], dtype=np.intp),
            process_pid=np.array([pid for _, pid, _ in seen], dtype=np.int64),
            process_bytes=_floats([size for _, _, size in seen]),
            polls=np.array([r.polls for r in rows], dtype=np.int64),
            misses=np.array([r.misses for r in rows], dtype=np.int64),
        )

    def __len__(self) -> int:
        return len(self.t_ns)

    def inside(self, t0_ns: int, t1_ns: int) -> Bools:
        """Return which rows lie in [t0, t1], (n,)."""
        inside: Bools = (self.t_ns >= t0_ns) & (self.t_ns <= t1_ns)
        return inside

    def changes_ns(self) -> Ints:
        """Return when SM clock or utilisation was first seen at another value, (c,): what `stale` asks for."""
        changed = np.zeros(len(self), dtype=np.bool_)
        for column in (self.clock_sm_mhz, self.util_gpu_pct):
            changed[1:] |= np.abs(np.diff(column)) > 0  # from or to NaN is no change
        return self.t_ns[changed]

    def median_temperature_c(self, t0_ns: int, t1_ns: int) -> float:
        """Return the median GPU temperature in [t0, t1], °C; NaN where none was read."""
        values = self.temperature_c[self.inside(t0_ns, t1_ns)]
        known = values[np.isfinite(values)]
        return float(np.median(known)) if len(known) else float("nan")


def throttled_s(v: VitalsRows, t0_ns: int, t1_ns: int) -> dict[str, float]:
    """Return for each of THROTTLES how long it held the clocks down in [t0, t1], s; NaN where nobody knows.

    From the driver's cumulative counters, straight lines between their rows: they miss nothing between the rows,
    as the bit mask of reasons does. Where a counter is missing or restarted, the rows whose bit is set are taken
    to speak for their share of the interval.
    """
    found = {}
    seconds = max(t1_ns - t0_ns, 0) * 1e-9
    for n, (name, bit) in enumerate(zip(THROTTLES, REASON_BITS, strict=True)):
        known = np.isfinite(v.throttle_ns[:, n])
        t_ns, counted_ns = v.t_ns[known], v.throttle_ns[known, n]
        first, last = np.searchsorted(t_ns, t0_ns, side="right") - 1, np.searchsorted(t_ns, t1_ns, side="left") + 1
        around = slice(max(int(first), 0), int(last))
        if len(t_ns[around]) > 1 and np.all(np.diff(counted_ns[around]) >= 0):
            at = np.interp([float(t0_ns - t_ns[0]), float(t1_ns - t_ns[0])], t_ns - t_ns[0], counted_ns - counted_ns[0])
            found[name] = float(at[1] - at[0]) * 1e-9
        else:
            told = v.inside(t0_ns, t1_ns) & v.reasons_known
            set_ = (v.reasons[told] & bit) != 0
            found[name] = float(np.mean(set_)) * seconds if len(set_) else float("nan")
    return found


def _floats(values: Sequence[float | None]) -> Floats:
    array: ArrayLike = [np.nan if value is None else value for value in values]
    return np.array(array, dtype=np.float64)
