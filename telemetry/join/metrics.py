"""Figures of merit that follow from others."""

from collections.abc import Sequence

from telemetry.model import Estimate

# J an output token, below which a run is of the class; the classes of the project's first sketch.
CLASSES = (("efficient", 0.1), ("moderate", 0.3))


def efficiency_class(j_per_output_token: float | None) -> str | None:
    """Return `efficient` below 0.1 J an output token, `moderate` up to 0.3, `inefficient` above."""
    if j_per_output_token is None:
        return None
    if j_per_output_token < CLASSES[0][1]:
        return CLASSES[0][0]
    return CLASSES[1][0] if j_per_output_token <= CLASSES[1][1] else "inefficient"


def pct_of_limit(power_w: float | None, limits_mw: Sequence[int | None]) -> float | None:
    """Return a power as percents of the devices' power limits together; None where one has no known limit."""
    known = [limit for limit in limits_mw if limit]
    return None if power_w is None or not known or len(known) < len(limits_mw) else 1e5 * power_w / sum(known)


def shared(energy: Estimate, count: int) -> dict[str, float | None]:
    """Return an energy and its bounds, J, for each of so many; None for each of none."""
    bounds = {"value": energy.value, "lo": energy.lo, "hi": energy.hi}
    return {name: joules / count if joules is not None and count else None for name, joules in bounds.items()}


def product(a: float | None, b: float | None) -> float | None:
    """Return a times b; None without either."""
    return None if a is None or b is None else a * b
