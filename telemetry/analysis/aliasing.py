"""What a sensor that looks only part of the time may miss."""

import numpy as np

from telemetry.analysis.rows import Floats, Ints

NOTICED = 0.05  # below this share the publish period is merely not known any better


def unseen_share(window_ns: int, period_ns: int) -> float:
    """Return the share of time that readings of this window, published this often, say nothing of."""
    unseen = 1.0 - window_ns / period_ns
    return unseen if unseen > NOTICED else 0.0


def aliasing_j(t0_ns: Ints, t1_ns: Ints, *, at_ns: Ints, power_w: Floats, unseen: float, period_ns: int) -> Floats:
    """Return by how much to widen bounds: unseen share × quartile range × √(period · duration), (m,), J.

    at_ns, power_w: (n,), the readings; the quartile range is of those inside each interval. Right for loads that
    vary by chance. A load in step with the sensor always shows the same reading: nothing here sees it.
    """
    spread = np.zeros(len(t0_ns))
    if unseen > 0.0:
        first, last = (np.searchsorted(at_ns, t) for t in (t0_ns, t1_ns))
        for n in np.flatnonzero(last > first):
            # As np.quantile, which takes twenty times as long for so few.
            inside = np.sort(power_w[first[n] : last[n]])
            low, high = np.interp((0.25 * (len(inside) - 1), 0.75 * (len(inside) - 1)), np.arange(len(inside)), inside)
            spread[n] = high - low
    alias: Floats = unseen * spread * np.sqrt(period_ns * 1e-9 * np.maximum(t1_ns - t0_ns, 0) * 1e-9)
    return alias
