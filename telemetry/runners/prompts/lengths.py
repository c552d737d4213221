"""Numbers of tokens: one for all, or drawn from a distribution."""

import math
import random
import re
from dataclasses import dataclass

from telemetry.errors import UsageError

LONGEST = 10_000_000  # tokens; what is longer is a slip of the pen
_UNIFORM = re.compile(r"uniform\((\d+),(\d+)\)")
_LOGNORMAL = re.compile(r"lognormal\((\d+(?:\.\d+)?),(\d+(?:\.\d+)?)(?:,(\d+),(\d+))?\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """How many tokens each of some prompts or answers has, between `least` and `most`.

    median, sigma: of a log-normal distribution, sigma being that of the logarithm; what falls outside of the ends
    takes the nearer one. None: each whole number from end to end is as likely as another.
    """

    words: str  # as it was asked for, without blanks
    least: int
    most: int
    lognormal: tuple[float, float] | None = None

    def draw(self, n: int, *, seed: str) -> list[int]:
        """Return n lengths; same seed, same lengths."""
        source = random.Random(seed)
        if self.lognormal is None:
            return [source.randint(self.least, self.most) for _ in range(n)]
        median, sigma = self.lognormal
        drawn = (source.lognormvariate(math.log(median), sigma) for _ in range(n))
        return [round(min(max(length, self.least), self.most)) for length in drawn]


def lengths(told: object) -> Lengths:
    """Return the lengths that were asked for as a number or in words. Raises UsageError for what are none."""
    words = str(told).replace(" ", "")
    least = most = 0
    lognormal = None
    if type(told) is int:
        least = most = told
    elif match := _UNIFORM.fullmatch(words):
        least, most = int(match[1]), int(match[2])
    elif match := _LOGNORMAL.fullmatch(words):
        lognormal = float(match[1]), float(match[2])
        least, most = int(match[3] or 1), int(match[4] or LONGEST)
    spread = lognormal is None or (1 <= lognormal[0] <= LONGEST and lognormal[1] <= 10)
    if not (1 <= least <= most <= LONGEST and spread):
        raise UsageError(
            f"{told!r} is no number of tokens. Give a whole number from 1 on, uniform(LEAST,MOST), "
            "lognormal(MEDIAN,SIGMA) or lognormal(MEDIAN,SIGMA,LEAST,MOST)."
        )
    return Lengths(words=words, least=least, most=most, lognormal=lognormal)
