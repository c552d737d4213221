"""The result of a curve: many energies at once, each with bounds, method and flags."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from telemetry.analysis.quality import bits, codes_of, estimate_of
from telemetry.analysis.rows import Floats, Ints
from telemetry.errors import TraceError
from telemetry.model import Estimate

Bits = NDArray[np.uint64]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyEstimates:
    """Energies of m intervals [t0, t1], all columns (m,).

    value_j: J, NaN where there is no point value.  lo_j, hi_j: J, NaN where there is no bound.
    method: the estimator's name.  flags: masks, see `quality.codes_of`.
    """

    t0_ns: Ints
    t1_ns: Ints
    value_j: Floats
    lo_j: Floats
    hi_j: Floats
    method: NDArray[np.str_]
    flags: Bits

    def __len__(self) -> int:
        return len(self.value_j)

    def at(self, index: int) -> Estimate:
        """Return one interval's energy, J, graded."""
        return estimate_of(
            float(self.value_j[index]),
            float(self.lo_j[index]),
            float(self.hi_j[index]),
            method=str(self.method[index]),
            flags=codes_of(int(self.flags[index])),
        )

    def average_power_w(self) -> Floats:
        """Return energy over duration, (m,), W; NaN without energy or duration."""
        seconds = (self.t1_ns - self.t0_ns) * 1e-9
        power_w: Floats = np.full(len(self), np.nan)
        np.divide(self.value_j, seconds, out=power_w, where=seconds > 0)
        return power_w


def sum_devices(devices: Sequence[EnergyEstimates]) -> EnergyEstimates:
    """Return the energy of several devices together over the same intervals.

    Bounds add linearly: the devices share a clock, so their timing errors do not cancel. Where one device has
    no value the sum has none. The method is the devices' own, joined by + where they differ; flags are
    united. Raises TraceError for no device, or different intervals.
    """
    if not devices:
        raise TraceError("There is no device whose energy could be summed. Name at least one.")
    first = devices[0]
    for other in devices[1:]:
        same = np.array_equal(first.t0_ns, other.t0_ns) and np.array_equal(first.t1_ns, other.t1_ns)
        if not same:
            raise TraceError("Energies of different intervals cannot be summed. Ask every device for the same.")
    names = zip(*(device.method for device in devices), strict=True)
    return EnergyEstimates(
        t0_ns=first.t0_ns,
        t1_ns=first.t1_ns,
        value_j=np.sum([device.value_j for device in devices], axis=0),
        lo_j=np.sum([device.lo_j for device in devices], axis=0),
        hi_j=np.sum([device.hi_j for device in devices], axis=0),
        method=np.array(["+".join(dict.fromkeys(map(str, each))) for each in names], dtype=np.str_),
        flags=reduce(np.bitwise_or, [device.flags for device in devices]),
    )


def nothing(t0_ns: Ints, t1_ns: Ints, method: str, code: str) -> EnergyEstimates:
    """Return that there is neither value nor bounds, and the flag that says why."""
    nan = np.full(len(t0_ns), np.nan)
    return EnergyEstimates(
        t0_ns=t0_ns,
        t1_ns=t1_ns,
        value_j=nan,
        lo_j=nan,
        hi_j=nan,
        method=np.full(len(t0_ns), method),
        flags=raised(code, np.ones(len(t0_ns), dtype=np.bool_)),
    )


def chosen(first: EnergyEstimates, other: EnergyEstimates, take: NDArray[np.bool_]) -> EnergyEstimates:
    """Return the first's estimates where told, (m,), and the other's elsewhere."""
    return EnergyEstimates(
        t0_ns=first.t0_ns,
        t1_ns=first.t1_ns,
        value_j=np.where(take, first.value_j, other.value_j),
        lo_j=np.where(take, first.lo_j, other.lo_j),
        hi_j=np.where(take, first.hi_j, other.hi_j),
        method=np.where(take, first.method, other.method),
        flags=np.where(take, first.flags, other.flags),
    )


def hull(of: EnergyEstimates, others: Sequence[EnergyEstimates]) -> EnergyEstimates:
    """Return these estimates with bounds that hold the others' too, and all their flags."""
    every = [of, *others]
    return replace(
        of,
        lo_j=np.min([each.lo_j for each in every], axis=0),
        hi_j=np.max([each.hi_j for each in every], axis=0),
        flags=reduce(np.bitwise_or, [each.flags for each in every]),
    )


def raised(code: str, where: NDArray[np.bool_]) -> Bits:
    """Return masks, (m,), with this flag set where asked."""
    return np.where(where, np.uint64(bits(code)), np.uint64(0))
