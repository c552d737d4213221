"""Point estimators: how much energy lies between an edge and the publishes of the counter around it.

A stencil holds the six publishes nearest to an edge, times in seconds from the edge: three at or before it
(columns 0 to 2), three after (3 to 5). NaN stands where there is none.
"""

from dataclasses import dataclass

import numpy as np

from telemetry.analysis.rows import Bools, Floats

IDLE_CHANGE_MAX = 0.10  # a pad whose power moves by more is not idle


@dataclass(frozen=True, slots=True, kw_only=True)
class Stencil:
    """u_s and value_j, both (m, 6): publish times relative to m edges, s, and the energies published, J."""

    u_s: Floats
    value_j: Floats

    def power_w(self, column: int) -> Floats:
        """Return the mean power between `column` and the next, (m,), W; NaN where either is missing."""
        span = self.u_s[:, column + 1] - self.u_s[:, column]
        rise = self.value_j[:, column + 1] - self.value_j[:, column]
        return np.divide(rise, span, out=np.full_like(rise, np.nan), where=span > 0)


def linear(s: Stencil) -> Floats:
    """Return the counter at each edge, (m,), J, with constant power between two publishes.

    Beyond the last publish, or before the first, the power of the nearest interval goes on. A step of ΔP at a
    fraction x of an interval L is misread by ΔP·L·x(1−x). NaN where only one publish is known.
    """
    inside = s.value_j[:, 2] - s.power_w(2) * s.u_s[:, 2]
    ahead = s.value_j[:, 2] - s.power_w(1) * s.u_s[:, 2]
    behind = s.value_j[:, 3] - s.power_w(3) * s.u_s[:, 3]
    return np.where(np.isfinite(inside), inside, np.where(np.isfinite(ahead), ahead, behind))


def plateau(s: Stencil) -> Floats:
    """Return the counter at each edge, (m,), J, for a power that changes its level at the edge.

    The interval's energy is shared as the neighbouring intervals' powers would fill it, each on its side:
    exact for a step at the edge and for constant power. Linear where a neighbour is missing.
    """
    before = s.power_w(1) * -s.u_s[:, 2]
    after = s.power_w(3) * s.u_s[:, 3]
    filled = before + after
    share = np.divide(before, filled, out=np.full_like(filled, np.nan), where=filled > 0)
    at_edge = s.value_j[:, 2] + (s.value_j[:, 3] - s.value_j[:, 2]) * share
    return np.where(np.isfinite(at_edge), at_edge, linear(s))


def pad(start: Stencil, end: Stencil) -> Floats:
    """Return the energy between edges, (m,), J, of short intervals with idle on both sides.

    All energy from the last publish before to the first after, less the idle power in the two pads, each
    measured in the full interval beside it. NaN (refused) where a pad's power is more than 10 % from that of
    the interval next to it, or, where the data end there, from the other pad's.
    """
    p_start, p_end = start.power_w(1), end.power_w(3)
    idle = _alike(p_start, start.power_w(0), p_end) & _alike(p_end, end.power_w(4), p_start)
    pads = p_start * -start.u_s[:, 2] + p_end * end.u_s[:, 3]
    return np.where(idle, end.value_j[:, 3] - start.value_j[:, 2] - pads, np.nan)


def _alike(power_w: Floats, beside_w: Floats, other_w: Floats) -> Bools:
    reference = np.where(np.isfinite(beside_w), beside_w, other_w)
    alike: Bools = np.abs(power_w - reference) <= IDLE_CHANGE_MAX * reference
    return alike
