"""Whether a run settled: how much of its beginning MSER-5 would cut away, and whether that matters."""

import numpy as np

from telemetry.analysis.rows import Floats

BATCH = 5
FEWEST_BATCHES = 10  # below it the rule's choice is chance
LEFT_MIN = 0.25  # of the batches: few at the very end may agree by chance
CUT_MAX = 0.5
MATTERS = 0.01  # of the mean
ERRORS = 3.0


def warm_up(values: Floats) -> int | None:
    """Return how many of the first values are warm-up by MSER-5; None of fewer than 50 values, too few to tell.

    values: (n,), evenly spaced, such as means over a second each. Of all cuts, in batches of five, that leave a quarter
    the one after which the squared standard error of the mean is least (White 1997). Wrong for what repeats over a
    large part of the whole.
    """
    k = len(values) // BATCH
    if k < FEWEST_BATCHES:
        return None
    batch = values[: k * BATCH].reshape(k, BATCH).mean(axis=1)
    batch = batch - batch.mean()  # squares of large numbers would hide small differences
    left = np.arange(k, 0, -1)
    total, squares = np.cumsum(batch[::-1])[::-1], np.cumsum(batch[::-1] ** 2)[::-1]
    error = np.maximum(squares - total**2 / left, 0.0) / left**2
    return BATCH * int(np.argmin(error[: int(k * (1.0 - LEFT_MIN)) + 1]))


def settled(values: Floats) -> bool:
    """Return whether the values, (n,), became steady in their first half.

    They did not where MSER-5 cuts away more, and that moves the mean of the second half by 1 % and by three standard
    errors: noise alone makes the rule cut so much of 60 values one time in ten. Of too few values, or where one is NaN,
    nothing is known, and nothing said against them.
    """
    cut = warm_up(values) if np.isfinite(values).all() else None
    if cut is None or cut <= CUT_MAX * len(values):
        return True
    late = values[int(CUT_MAX * len(values)) :].mean()
    rest = values[cut : cut + (len(values) - cut) // BATCH * BATCH].reshape(-1, BATCH).mean(axis=1)
    error = rest.std(ddof=1) / np.sqrt(len(rest))
    return bool(abs(values[cut:].mean() - late) <= max(MATTERS * abs(late), ERRORS * error))
