"""The guaranteed enclosure of cumulative energy, from a counter's updates and the limits of power alone."""

from dataclasses import dataclass

import numpy as np

from telemetry.analysis.rows import Bools, Floats

QUANTUM_J = 1e-3  # the counter shows whole millijoules, rounded down


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerLimits:
    """Between which powers the device is sure to be, W, on the scale of its own sensor.

    The gain of the sensor (±5 % a board) cannot be seen from within: the limits must hold for what the
    *counter integrates*, not for what a wall meter would say.
    """

    floor_w: float
    cap_w: float


def enclose(
    *, low_s: Floats, high_s: Floats, value_j: Floats, bracketed: Bools, use: Bools, limits: PowerLimits
) -> tuple[Floats, Floats]:
    """Return E⁻ and E⁺ at the time 0 of each row, (m,), from its nearby updates, all (m, w).

    Update j was published in (ℓ_j, h_j], so E is at least C_j + P_floor·(t − h_j) after h_j, at least C_j −
    P_cap·(h_j − t) before; at most C_j + q + P_cap·(t − ℓ_j) after ℓ_j, at most C_j + q − P_floor·(ℓ_j − t)
    before. The true energy is inside whenever the counter covers all time and the power stays within the
    limits; no model of the publisher enters. NaN where no update in use gives a bound.
    """
    floor_w, cap_w = limits.floor_w, limits.cap_w
    below = value_j - high_s * np.where(high_s <= 0, floor_w, cap_w)
    above = value_j + QUANTUM_J - low_s * np.where(low_s < 0, cap_w, floor_w)
    lo = np.max(below, axis=1, where=use, initial=-np.inf)
    hi = np.min(above, axis=1, where=use & bracketed, initial=np.inf)
    return np.where(np.isfinite(lo), lo, np.nan), np.where(np.isfinite(hi), hi, np.nan)
