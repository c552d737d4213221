"""When requests arrive at a server."""

import random
from itertools import accumulate
from typing import Literal

from telemetry.errors import UsageError

Arrival = Literal["poisson", "constant", "burst"]


def arrivals_s(count: int, *, arrival: Arrival, rate: float | None, seed: int) -> list[float]:
    """Return when each of `count` requests is due, s after the first, which is due at 0.

    poisson: gaps drawn from an exponential distribution of mean 1/rate. constant: gaps of 1/rate.
    burst: all are due at once; rate is not used. Same seed, same times.
    Raises UsageError for a rate that is missing where it is needed, or not above 0.
    """
    if arrival == "burst":
        return [0.0] * count
    if rate is None or not rate > 0:
        raise UsageError(
            f"Arrivals of kind {arrival} need a request rate above 0, and it is {rate}. "
            "Give --request-rate in requests a second."
        )
    draw = random.Random(seed)
    gaps = (draw.expovariate(rate) if arrival == "poisson" else 1 / rate for _ in range(count - 1))
    return list(accumulate(gaps, initial=0.0))[:count]
