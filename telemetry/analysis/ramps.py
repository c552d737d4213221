"""A cumulative energy made of stretches of linear power, with a lower and an upper companion."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from telemetry.analysis.rows import Floats, Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class Ramps:
    """k segments of linear power, one after the other.

    from_ns: (k + 1,), where segments begin, and the last one's end.  begin_w, end_w: (3, k), the power at
    both ends of each; axis 0 is the curve itself, then its lower and upper companions, which differ where
    nothing was measured. total_j: (3, k + 1), J.
    """

    from_ns: Ints
    begin_w: Floats
    end_w: Floats
    total_j: Floats

    @classmethod
    def of(cls, from_ns: Ints, begin_w: Floats, end_w: Floats) -> Self:
        """Add the segments up; the energy at the first one's begin is 0."""
        steps_j = (begin_w + end_w) / 2.0 * (np.diff(from_ns) * 1e-9)
        total_j = np.concatenate([np.zeros((len(begin_w), 1)), np.cumsum(steps_j, axis=1)], axis=1)
        return cls(from_ns=from_ns, begin_w=begin_w, end_w=end_w, total_j=total_j)

    def energy_j(self, t_ns: Ints) -> Floats:
        """Return the curve and its companions at times (m,): (3, m), J. Constant beyond either end."""
        i, dt, part = self._place(t_ns)
        mean_w = self.begin_w[:, i] + (self.end_w - self.begin_w)[:, i] * part / 2.0
        energy: Floats = self.total_j[:, i] + mean_w * dt
        return energy

    def power_w(self, t_ns: Ints) -> Floats:
        """Return the power of the curve itself at times (m,), W."""
        i, _, part = self._place(t_ns)
        power: Floats = self.begin_w[0, i] + (self.end_w - self.begin_w)[0, i] * part
        return power

    def _place(self, t_ns: Ints) -> tuple[Ints, Floats, Floats]:
        """Return each time's segment, the seconds since its begin, and the part of it that these are."""
        i = np.clip(np.searchsorted(self.from_ns, t_ns, side="right") - 1, 0, len(self.from_ns) - 2)
        length = (self.from_ns[i + 1] - self.from_ns[i]) * 1e-9
        dt = np.clip((t_ns - self.from_ns[i]) * 1e-9, 0.0, length)
        return i, dt, np.divide(dt, length, out=np.zeros_like(dt), where=length > 0)
