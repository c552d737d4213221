"""A board's gain and offset: what the sensor says is gain × power + offset. Apart from the bounds of timing."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from telemetry.errors import TraceError
from telemetry.model import Estimate

GAIN_OFF = 0.05  # of boards that nobody calibrated (SC24, arXiv 2312.02741)
OFFSET_OFF_W = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How a board's sensor reads, and how far that may be off.

    gain_off, offset_off_w: the furthest that gain and offset are taken to be from the truth, either way.
    provenance: who found it, with what, when. The default is a board that nobody calibrated.
    """

    gain: float = 1.0
    offset_w: float = 0.0
    gain_off: float = GAIN_OFF
    offset_off_w: float = OFFSET_OFF_W
    provenance: str = "not calibrated"

    def __post_init__(self) -> None:
        numbers = (self.gain, self.offset_w, self.gain_off, self.offset_off_w)
        if not all(map(math.isfinite, numbers)) or self.gain_off < 0 or self.offset_off_w < 0:
            raise TraceError(f"The calibration {self} holds numbers that mean nothing. Correct its file.")
        if self.gain - self.gain_off <= 0:
            raise TraceError(f"A gain of {self.gain} ± {self.gain_off} may be 0. Correct the calibration's file.")

    @classmethod
    def of(cls, board: Mapping[str, object]) -> Self:
        """Return the calibration that a board's file holds: numbers `gain`, `offset_w`, `gain_off`, `offset_off_w`.

        And a text `provenance`; all of them are needed. Raises TraceError where one is missing, of another
        kind, or not known here.
        """
        names = ("gain", "offset_w", "gain_off", "offset_off_w")
        if set(board) != {*names, "provenance"}:
            odd = ", ".join(sorted(set(board) ^ {*names, "provenance"}))
            raise TraceError(f"A calibration needs {', '.join(names)} and provenance, no others. Look at: {odd}.")
        numbers = {name: _number(name, board[name]) for name in names}
        if not isinstance(board["provenance"], str) or not board["provenance"].strip():
            raise TraceError("A calibration without provenance is a guess. Say who found it, with what, when.")
        return cls(**numbers, provenance=board["provenance"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """An energy on the true scale, J; None where the estimate has none.

    u_j: the standard uncertainty of the calibration alone, for a gain and an offset that are anywhere within
    their limits alike (type B).  lo_j, hi_j: timing and calibration, both at their worst: limits, no
    confidence interval.
    """

    value_j: float | None
    u_j: float | None
    lo_j: float | None
    hi_j: float | None
    provenance: str


def calibrated(energy: Estimate, duration_s: float, calibration: Calibration | None = None) -> Calibrated:
    """Return an energy with its board's gain and offset taken out; by default those of a board nobody calibrated.

    The bounds of `energy` are of timing alone and stay as they are; here they are moved by what the
    calibration can be off. Two runs on one board share that: compare them by `energy` itself.
    """
    c = calibration or Calibration()

    def true_j(read_j: float | None, way: int) -> float | None:
        """Return the true energy where the calibration is off to make it least (−1) or most (1)."""
        if read_j is None:
            return None
        left_j = read_j - (c.offset_w - way * c.offset_off_w) * duration_s
        return left_j / (c.gain - way * math.copysign(c.gain_off, left_j))

    value = u = None
    if energy.value is not None:
        value = (energy.value - c.offset_w * duration_s) / c.gain
        u = math.hypot(value * c.gain_off, c.offset_off_w * duration_s) / c.gain / math.sqrt(3.0)
    return Calibrated(
        value_j=value, u_j=u, lo_j=true_j(energy.lo, -1), hi_j=true_j(energy.hi, 1), provenance=c.provenance
    )


def together(devices: Sequence[Calibrated]) -> Calibrated:
    """Return the energy of several boards together: limits add up, the standard uncertainties as independent ones."""
    if len(devices) == 1:
        return devices[0]

    def total(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return sum(known) if known and len(known) == len(values) else None

    squares = total([None if d.u_j is None else d.u_j**2 for d in devices])
    return Calibrated(
        value_j=total([d.value_j for d in devices]),
        u_j=None if squares is None else math.sqrt(squares),
        lo_j=total([d.lo_j for d in devices]),
        hi_j=total([d.hi_j for d in devices]),
        provenance="; ".join(dict.fromkeys(d.provenance for d in devices)) or "not calibrated",
    )


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TraceError(f"The calibration's {name} is {value!r}. Give a number.")
    return float(value)
