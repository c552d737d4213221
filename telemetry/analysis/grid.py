"""The publish grid: where inside its bracket each update most likely was."""

from dataclasses import dataclass

import numpy as np

from telemetry.analysis.rows import Bools, Floats

JITTER_S = 0.004  # J: how far from its grid a publish may be, at first
JITTER_MAX_S = 0.015  # and at most
OUTLIERS_MAX = 0.05  # share of brackets that may be further before there is no grid
FEWEST = 4  # a line through fewer brackets says nothing that the brackets do not


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Publish times fitted around m edges, each with its w nearest updates.

    u_s: (m, w), s.  unstable: (m,), where the updates keep no grid and u_s holds the middles of the brackets.
    """

    u_s: Floats
    unstable: Bools


def fit_grid(*, low_s: Floats, high_s: Floats, middle_s: Floats, step: Floats, use: Bools) -> Grid:
    """Fit u = φ + k·T to brackets (ℓ, h] and return u clipped into them.

    All (m, w); times in s; `step` is k; `use` says which brackets belong to the edge's own piece. Least
    squares on the middles tells how far each bracket is off. J grows from 4 ms until no more than 5 % of the
    brackets are further off than J; where that takes over 15 ms there is no grid. φ and T are then the middle
    of all those that satisfy ℓ − J ≤ φ + k·T ≤ h + J for the others: the line that leaves them the most room,
    which on a jitter-free grid is two to three times closer than least squares. Wrong by at most the
    bracket's width, whatever the publisher does.
    """
    n = np.count_nonzero(use, axis=1)
    enough = n >= FEWEST
    phase, period = _least_squares(middle_s, step, use)
    fitted = phase[:, None] + step * period[:, None]
    off_s = np.where(use, np.maximum(np.maximum(low_s - fitted, fitted - high_s), 0.0), np.inf)
    # The n-th smallest but 5 %: the least J that leaves no more outliers than are allowed.
    allowed = np.maximum(n - 1 - np.floor(OUTLIERS_MAX * n).astype(np.intp), 0)
    needed = np.take_along_axis(np.sort(off_s, axis=1), allowed[:, None], axis=1)[:, 0]
    unstable = enough & (needed > JITTER_MAX_S)
    jitter_s = np.clip(needed, JITTER_S, JITTER_MAX_S)
    # A single late publish would pull the roomiest line after it, as it hardly does the least squares.
    phase, period = _roomiest(low_s, high_s, step, use & (off_s <= jitter_s[:, None]), period)
    fitted = phase[:, None] + step * period[:, None]
    on_grid = use & (enough & ~unstable)[:, None]
    u_s = np.where(on_grid, np.clip(fitted, low_s, high_s), middle_s)
    return Grid(u_s=np.maximum.accumulate(u_s, axis=1), unstable=unstable)


def _least_squares(y: Floats, k: Floats, use: Bools) -> tuple[Floats, Floats]:
    n = np.maximum(np.count_nonzero(use, axis=1), 1)
    k_mean = np.sum(k, axis=1, where=use) / n
    y_mean = np.sum(y, axis=1, where=use) / n
    dk = k - k_mean[:, None]
    spread = np.sum(dk * dk, axis=1, where=use)
    slope = np.sum(dk * (y - y_mean[:, None]), axis=1, where=use) / np.where(spread > 0, spread, 1.0)
    return y_mean - slope * k_mean, slope


def _roomiest(low: Floats, high: Floats, k: Floats, use: Bools, period: Floats) -> tuple[Floats, Floats]:
    """Return φ, T that maximise min(h − kT) − max(ℓ − kT): concave in T, so a golden section finds it."""

    def ends(t: Floats) -> tuple[Floats, Floats]:
        shift = k * t[:, None]
        return (
            np.max(low - shift, axis=1, where=use, initial=-1e9),
            np.min(high - shift, axis=1, where=use, initial=1e9),
        )

    def room(t: Floats) -> Floats:
        floor, ceiling = ends(t)
        return ceiling - floor

    golden = (np.sqrt(5.0) - 1.0) / 2.0
    left, right = period * 0.97, period * 1.03
    for _ in range(28):
        a, b = right - golden * (right - left), left + golden * (right - left)
        better = room(a) < room(b)
        left, right = np.where(better, a, left), np.where(better, right, b)
    best = (left + right) / 2.0
    floor, ceiling = ends(best)
    return (floor + ceiling) / 2.0, best
