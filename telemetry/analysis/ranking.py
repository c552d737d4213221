"""An order with ties: groups that the data cannot tell apart share a rank."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from telemetry.analysis.bootstrap import Arm
from telemetry.analysis.comparison import LogRatio, holm


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A group's rank, 1 the best, and the indices of the groups it cannot be told apart from."""

    rank: int
    tied_with: tuple[int, ...]


def ranked(
    arms: Sequence[Arm], *, level: float = 0.95, floor: float = 0.0, lower_is_better: bool = True
) -> list[Place]:
    """Return each group's place, in the order given.

    Two groups are told apart where Welch's t on the logarithm of their ratio does so at `level`, Holm-adjusted for
    all pairs, and the ratio is further from 1 than `floor`. A rank is 1 + the number of groups that are surely
    better. Groups of a single run are told apart from none. Not by permutation, whose least p for five runs is
    0.008: no table of ten groups could show anything.
    """
    n = len(arms)
    pairs = [(i, j) for i, j in combinations(range(n), 2) if min(len(arms[i]), len(arms[j])) >= 2]
    ratios = [LogRatio.of(arms[i], arms[j]) for i, j in pairs]
    adjusted = holm([min(2.0 * min(r.p_above(), 1.0 - r.p_above()), 1.0) for r in ratios])
    better = np.zeros((n, n), dtype=np.bool_)  # [i, j]: i is surely better than j
    for (i, j), ratio, p in zip(pairs, ratios, adjusted, strict=True):
        if p < 1.0 - level and abs(np.expm1(ratio.value)) > floor:
            first_wins = (ratio.value > 0.0) == lower_is_better
            better[(i, j) if first_wins else (j, i)] = True
    apart = better | better.T
    return [
        Place(
            rank=1 + int(better[:, i].sum()),
            tied_with=tuple(j for j in range(n) if j != i and not apart[i, j]),
        )
        for i in range(n)
    ]
