"""What can be said of the energy of tokens, and what cannot."""

from typing import NoReturn

import numpy as np

from telemetry.analysis.rows import Ints
from telemetry.errors import TraceError

SHORTEST_NS = 500_000_000
PERIODS = 5


def token_energy_percentile(q: float) -> NoReturn:
    """Refuse. Raises TraceError, always, with the reason and what there is instead.

    Tokens of 6 and 12 J taking turns every 25 ms come out as 6, 9 or 12 J each, at every percentile, by the
    phase of the sensor alone.
    """
    raise TraceError(
        f"A p{q:g} of the energy of single tokens cannot be measured: the sensor publishes every 100 ms, a token "
        "takes 5 to 30. Ask for the mean J/token of a run, for percentiles over runs or requests, or for "
        "percentiles over windows of 0.5 s and more."
    )


def check_windows(t0_ns: Ints, t1_ns: Ints, *, period_ns: int) -> None:
    """Refuse windows too short for their J/token to mean anything.

    t0_ns, t1_ns: (m,).  Raises TraceError where one is shorter than 0.5 s or five publish periods.
    """
    least_ns = max(SHORTEST_NS, PERIODS * period_ns)
    lengths = np.asarray(t1_ns) - np.asarray(t0_ns)
    if np.any(lengths < least_ns):
        raise TraceError(
            f"A window of {lengths.min() * 1e-9:.3f} s is too short for J/token: the sensor's phase decides it. "
            f"Take {least_ns * 1e-9:g} s or more."
        )
