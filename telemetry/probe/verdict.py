"""Which energy path to trust, after what was found out."""

from dataclasses import dataclass
from typing import Literal

AGREE = 0.03  # the counter's power against INSTANT's, under a steady load


Signal = Literal["instant", "average"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The fields of a `DeviceProfile` of the same names."""

    path: Literal["counter", "integral"]
    estimator: str
    best_grade: Literal["A", "B"]
    reasons: tuple[str, ...]


def decide(
    *,
    has_counter: bool,
    invariant: bool | None,
    counter_covers_all: bool | None,
    best_signal: Signal,
    counter_over_instant: float | None,
) -> Verdict:
    """Return the path to trust. None: not found out, so that the counter is used but not praised.

    best_signal: the power signal that takes in most. A counter that misses time is still better than INSTANT that
    misses the same: it is free of the timing of reads. It is worse than an AVERAGE that misses none.
    """
    reasons = []
    if not has_counter:
        reasons.append("The device has no energy counter.")
    elif invariant is False:
        reasons.append("Reading the counter changes what it counts.")
    elif counter_over_instant is not None and abs(counter_over_instant - 1) > AGREE:
        reasons.append(f"Under a steady load the counter tells {counter_over_instant:.3f} of what INSTANT does.")
    refused = bool(reasons)
    if has_counter and counter_covers_all is False:
        reasons.append("The counter adds up INSTANT's windows and misses what lies between them.")
    if refused or (counter_covers_all is False and best_signal == "average"):
        return Verdict(path="integral", estimator=f"integral-{best_signal}", best_grade="B", reasons=tuple(reasons))
    if invariant is None or counter_covers_all is None or counter_over_instant is None:
        reasons.append("The counter was not tested under a load.")
    grade: Literal["A", "B"] = "B" if reasons else "A"
    return Verdict(path="counter", estimator="counter-plateau", best_grade=grade, reasons=tuple(reasons))
