"""Random numbers that are a function of what they are for, so that every process draws the same."""

from statistics import NormalDist

_MASK = (1 << 64) - 1
_NORMAL = NormalDist()


def bits(*keys: int) -> int:
    """Return 64 well-mixed bits of the keys (splitmix64, chained)."""
    state = 0
    for key in keys:
        state = (state + (key & _MASK) + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state


def uniform(low: float, high: float, *keys: int) -> float:
    """Return a number in the open interval (low, high)."""
    return low + (high - low) * ((bits(*keys) >> 11) + 0.5) / (1 << 53)


def normal(*keys: int) -> float:
    """Return a number of the standard normal distribution."""
    return _NORMAL.inv_cdf(uniform(0.0, 1.0, *keys))
