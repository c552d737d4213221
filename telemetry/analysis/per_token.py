"""What can be said of the energy of tokens, and what cannot."""

from typing import NoReturn

import numpy as np

from telemetry.analysis.rows import Ints
from telemetry.errors import TraceError

REFUSED = (
    "the energy of single tokens cannot be measured: the sensor publishes every 100 ms, a token takes 5 to 30. "
    "Ask for the mean J/token of a run, for percentiles over runs or requests, or for percentiles over windows of "
    "0.5 s and more."
)
SHORTEST_NS = 500_000_000
PERIODS = 5
KNOWN_TO = 0.02  # a publish period, from the updates of one run


def token_energy_percentile(q: float) -> NoReturn:
    """Refuse. Raises TraceError, always, with the reason and what there is instead.

    Tokens of 6 and 12 J taking turns every 25 ms come out as 6, 9 or 12 J each, at every percentile, by the
    phase of the sensor alone.
    """
    raise TraceError(f"There is no p{q:g}: {REFUSED}")


def shortest_window_ns(period_ns: int) -> int:
    """Return from which length on a window's J/token means anything: 0.5 s, or five publish periods.

    A period is known from the updates of a run to about 2 %, which a window of five may lack.
    """
    return max(SHORTEST_NS, round(PERIODS * period_ns * (1.0 - KNOWN_TO)))


def check_windows(t0_ns: Ints, t1_ns: Ints, *, period_ns: int) -> None:
    """Refuse windows too short for their J/token to mean anything.

    t0_ns, t1_ns: (m,).  Raises TraceError where one is shorter than 0.5 s or five publish periods.
    """
    least_ns = shortest_window_ns(period_ns)
    lengths = np.asarray(t1_ns) - np.asarray(t0_ns)
    if np.any(lengths < least_ns):
        raise TraceError(
            f"A window of {lengths.min() * 1e-9:.3f} s is too short for J/token: the sensor's phase decides it. "
            f"Take {least_ns * 1e-9:g} s or more."
        )
