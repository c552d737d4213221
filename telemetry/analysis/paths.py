"""Which of a device's two energies to trust: its own counter's, or its power readings'."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from telemetry.analysis.checks import DIFFERENCE_MAX, DIFFERENCE_SHORTEST_NS, Flags
from telemetry.analysis.estimates import EnergyEstimates
from telemetry.analysis.quality import bits
from telemetry.analysis.rows import Floats
from telemetry.errors import TraceError
from telemetry.model import counter_is_suspect

CALL_RATE_MAX = 0.005  # by which the mean power from a counter may depend on how often it is read
COVERAGE_MAX = 0.03  # by which it may depend on when a square load starts

Reason = Literal[
    "counter_trusted", "no_counter", "no_power", "call_rate", "untested", "stale", "refuted", "contradicted"
]
SENTENCES: dict[Reason, str] = {
    "counter_trusted": "The device's energy counter passed every check that could be made.",
    "no_counter": "The device has no energy counter.",
    "no_power": "There are no power readings to check the counter against.",
    "call_rate": "The counter's self-test found that reading it changes it.",
    "untested": "On boards of this kind reading the counter may change it, and this one was not tested.",
    "stale": "The counter stood still while the power readings went on.",
    "refuted": "Counter and power readings differ by more than 8 %, and nothing speaks against the readings.",
    "contradicted": "Counter and power readings differ by more than 8 %, and either may be wrong.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PathChoice:
    """The path to trust and why. residual: (m,), counter / power − 1 of each interval, NaN under 10 s.

    flags: what the choice adds to the results of the chosen path.
    """

    path: Literal["counter", "integral"]
    reason: Reason
    residual: Floats
    flags: Flags

    @property
    def sentence(self) -> str:
        """The reason for people."""
        return SENTENCES[self.reason]


def residuals(counter: EnergyEstimates, power: EnergyEstimates) -> Floats:
    """Return counter / power − 1 of the same intervals, (m,); NaN under 10 s and where either is missing.

    Below 10 s their timing differs too much to tell. Raises TraceError for different intervals.
    """
    if not (np.array_equal(counter.t0_ns, power.t0_ns) and np.array_equal(counter.t1_ns, power.t1_ns)):
        raise TraceError("Counter and power readings were asked for different intervals. Ask both for the same.")
    ratio = np.full(len(counter), np.nan)
    long = (counter.t1_ns - counter.t0_ns >= DIFFERENCE_SHORTEST_NS) & (power.value_j > 0.0)
    np.divide(counter.value_j, power.value_j, out=ratio, where=long)
    return ratio - 1.0


def choose_path(
    counter: EnergyEstimates,
    power: EnergyEstimates,
    *,
    name: str,
    call_rate_passed: bool | None = None,
    average: EnergyEstimates | None = None,
    counter_updates: int | None = None,
    power_updates: int | None = None,
    may_alias: bool = False,
) -> PathChoice:
    """Return which energies of one device to trust, those of its counter or of its power readings.

    counter, power: both over the same m intervals.  name: as the driver gives it.  call_rate_passed: what
    `call_rate` found, None where nobody tested.  average: over the same intervals from AVERAGE readings, a third
    witness where `power` is from INSTANT.  counter_updates, power_updates: how often each was seen to change
    over all of it.  may_alias: the load repeats, so that a sensor that looks part of the time can be off.

    The counter, unless a check speaks against it: there is none, it is known or suspected to change by being
    read, it stood still, or over all intervals of 10 s and more it is over 8 % off the readings. Readings that
    look part of the time, or have gaps, refute it only if AVERAGE is with them (within 3 %); is AVERAGE with
    neither, or not there, the counter's result is withheld.
    """
    residual = residuals(counter, power)
    usable = np.isfinite(residual)
    counted_j, read_j = counter.value_j[usable].sum(), power.value_j[usable].sum()
    off = abs(counted_j / read_j - 1.0) if usable.any() else 0.0

    def choice(path: Literal["counter", "integral"], reason: Reason, *flags: str) -> PathChoice:
        return PathChoice(path=path, reason=reason, residual=residual, flags=flags)

    if not np.any(np.isfinite(counter.hi_j)):  # an interval too short for a value has bounds yet
        return choice("integral", "no_counter")
    if not np.any(np.isfinite(power.value_j)):
        suspect = call_rate_passed is False or (call_rate_passed is None and counter_is_suspect(name))
        return choice("counter", "no_power", *(("counter_callrate",) if suspect else ()))
    if call_rate_passed is False:
        return choice("integral", "call_rate", "counter_unused")
    if call_rate_passed is None and counter_is_suspect(name):
        return choice("integral", "untested", "counter_unused")
    if counter_updates is not None and power_updates is not None and 3 * counter_updates < power_updates:
        return choice("integral", "stale", "counter_unused")
    slight, great = DIFFERENCE_MAX
    if off > great and not may_alias:
        partial = np.any(power.flags[usable] & np.uint64(bits("part_time_sensor", "gap")))
        witness_j = float("nan") if average is None else average.value_j[usable].sum()
        if not partial or abs(witness_j / read_j - 1.0) <= slight:
            return choice("integral", "refuted", "counter_unused")
        if not abs(witness_j / counted_j - 1.0) <= slight:
            return choice("counter", "contradicted", "counter_refuted")
    return choice("counter", "counter_trusted", *(("counter_vs_integral",) if off > slight else ()))


def call_rate(*, power_w: Floats, reference_w: float) -> Flags:
    """Return `counter_callrate` where the mean power from the counter depends on how often it is read.

    power_w: (n,), W, each over a window of one constant load, read at another period; reference_w: the same from
    two reads only. All must agree within 0.5 %.
    """
    return ("counter_callrate",) if np.any(np.abs(power_w / reference_w - 1.0) > CALL_RATE_MAX) else ()


def covers_all_time(power_w: Floats) -> bool:
    """Return whether a counter misses no time: mean powers, (n,), W, of a square load in step with its publishes.

    The load starts at n places spread over the period. A counter that adds up what INSTANT looks at shows
    anything between the two levels, one that misses nothing the same mean within 3 %.
    """
    return bool(np.ptp(power_w) <= COVERAGE_MAX * np.mean(power_w))
