"""How good a number is: flags with their meaning, grades, the limits of power, and the verdict."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from telemetry.analysis.enclosure import PowerLimits
from telemetry.model import Estimate

Severity = Literal["R", "O", "I"]
# A run's energy as it is, what is left of it without idle, two runs beside each other, or a figure for others.
Use = Literal["gross", "net", "compare", "publish"]
Grade = Literal["A", "B", "C", "U"]
GRADES: tuple[Grade, ...] = ("A", "B", "C", "U")
HALF_WIDTH_MAX = (0.01, 0.05, 0.20)  # of the value, for A, B and C
MIN_RUNS = 5
NO_CAP_W = 1e6  # where nothing at all is known of a device's power; no board or node draws this
HOPPER_FLOOR_W = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """What a flag means. `R` withholds the result, `O` is shown beside it, `I` informs.

    withheld_in: the uses of the result in which it weighs `R`, whatever its severity.
    """

    severity: Severity
    sentence: str
    best_grade: Grade = "A"
    withheld_in: tuple[Use, ...] = ()


# The order is the bit of each flag in `EnergyEstimates.flags`: add at the end.
FLAGS: dict[str, Flag] = {
    "gap": Flag(
        severity="O",
        sentence="A stretch was not measured. The counter runs on through it; an integral of power is "
        "bridged there and its bounds widened.",
    ),
    "counter_reset": Flag(
        severity="O",
        sentence="The device's energy counter restarted; what is missing is bridged from power.",
        best_grade="C",
    ),
    "edge_extrapolated": Flag(
        severity="O",
        sentence="An edge has fewer than two updates on one side; the energy there is extended.",
        best_grade="B",
    ),
    "not_covered": Flag(
        severity="R",
        sentence="There are no readings near the start or the end, so no energy can be given.",
    ),
    "too_short": Flag(
        severity="O",
        sentence="The interval holds no update of the counter and no idle is around it: only bounds can be given.",
        best_grade="U",
        withheld_in=("publish",),
    ),
    "grid_unstable": Flag(
        severity="I",
        sentence="The device publishes at irregular times; the middles of the brackets are used.",
    ),
    "bound_violation": Flag(
        severity="R",
        sentence="No energy satisfies all counter readings near an edge: the counter or the power limits are wrong.",
    ),
    "over_cap": Flag(
        severity="R",
        sentence="The counter rose faster than the device can draw power.",
    ),
    "under_floor": Flag(
        severity="R",
        sentence="The counter rose more slowly than the device's least power.",
    ),
    "timing_model": Flag(
        severity="I",
        sentence="The bounds follow from how such a sensor averages and refreshes: a model, not a guarantee.",
        best_grade="B",
    ),
    "short_for_averaging": Flag(
        severity="O",
        sentence="The interval is shorter than 50 of the sensor's averaging times, so its edges are smeared.",
        withheld_in=("publish",),
    ),
    "part_time_sensor": Flag(
        severity="O",
        sentence="The sensor looks only part of the time; a load in step with it is misread without a trace.",
    ),
    "stale": Flag(
        severity="O",
        sentence="Readings stood still for over three publish periods while the device was seen to change.",
    ),
    "counter_vs_integral": Flag(severity="O", sentence="Counter and integrated power differ by more than 3 %."),
    "counter_refuted": Flag(
        severity="R",
        sentence="Counter and integrated power differ by more than 8 %: one of them is wrong.",
    ),
    "counter_callrate": Flag(
        severity="R",
        sentence="Reading the counter changes what it counts on this board, or nobody has tested that it does not.",
    ),
    "counter_unused": Flag(
        severity="I",
        sentence="The device's energy counter failed its check; the energy is that of the power readings.",
    ),
    "method_refused": Flag(
        severity="O",
        sentence="What the method asked for needs was not there: idle around the interval, or all of its readings.",
        best_grade="U",
    ),
    "clock_jump": Flag(
        severity="O",
        sentence="The wall clock was set inside. Energies use the steady clock; events stamped by the wall may be off.",
    ),
    "throttle_power_cap": Flag(severity="O", sentence="The power limit held the clocks down for over 1 % of the time."),
    "throttle_sync_boost": Flag(
        severity="O", sentence="Another GPU's clocks held these down (sync boost) for over 1 % of the time."
    ),
    "throttle_sw_thermal": Flag(severity="O", sentence="The driver lowered the clocks for heat."),
    "throttle_hw_thermal": Flag(severity="O", sentence="The hardware lowered the clocks for heat."),
    "throttle_power_brake": Flag(severity="O", sentence="The power supply asked the GPU to slow down."),
    "clock_drift": Flag(
        severity="O", sentence="The SM clock strayed by more than 3 % from its median; no steady state was measured."
    ),
    "foreign_process": Flag(
        severity="O",
        sentence="Another process was on the GPU: its energy is in these numbers.",
        withheld_in=("net", "compare", "publish"),
    ),
    "limit_changed": Flag(
        severity="R",
        sentence="The power limit, or another setting of the device, changed inside.",
    ),
    "scope_module": Flag(
        severity="O",
        sentence="The readings are of the whole module, CPU and memory included, not of the GPU alone.",
    ),
    "temp_shift": Flag(
        severity="O", sentence="The GPU's median temperature differs by more than 3 °C between the runs."
    ),
    "zero_power": Flag(severity="O", sentence="More than 1 % of the polls gave no power."),
    "baseline_drift": Flag(
        severity="O",
        sentence="Idle power before and after differ by more than 3 W and 2 %; see net energy for both.",
        withheld_in=("publish",),
    ),
    "unsteady": Flag(
        severity="O",
        sentence="No steady state was measured: in the last 30 s power still moved by 1 % or the temperature by 1 °C, "
        "or power or tokens a second settled in the second half at the earliest.",
        withheld_in=("publish",),
    ),
    "unprobed": Flag(
        severity="I",
        sentence="Nobody has probed this board with this VBIOS and driver (`telemetry probe`); grade B at best.",
        best_grade="B",
    ),
    "probe_doubts": Flag(
        severity="I",
        sentence="The probe of this board left doubts about its readings; grade B at best.",
        best_grade="B",
    ),
    "shared_device": Flag(
        severity="O",
        sentence="Requests of another run were on the device at the same time: their energy is in these numbers, and "
        "only what is allocated to single requests is without it.",
        withheld_in=("net", "compare", "publish"),
    ),
}
_BITS = {code: 1 << i for i, code in enumerate(FLAGS)}


def bits(*codes: str) -> int:
    """Return the mask of these flags. Raises KeyError for a code that is not in FLAGS."""
    return sum({_BITS[code] for code in codes})


def codes_of(mask: int) -> tuple[str, ...]:
    """Return the flags of a mask, in the order of FLAGS."""
    return tuple(code for code, bit in _BITS.items() if mask & bit)


def severity(code: str, use: Use = "gross") -> Severity:
    """Return how much a flag weighs. Raises KeyError for a code that is not in FLAGS."""
    flag = FLAGS[code]
    return "R" if use in flag.withheld_in else flag.severity


def grade_of(
    value: float | None, lo: float | None, hi: float | None, flags: Iterable[str] = (), use: Use = "gross"
) -> Grade:
    """Return A, B, C or U from the half-width of the bounds relative to the value, held down by flags."""
    flags = tuple(flags)
    if value is None or lo is None or hi is None or any(severity(code, use) == "R" for code in flags):
        return "U"
    half = (hi - lo) / 2.0
    steps = sum(half > share * abs(value) for share in HALF_WIDTH_MAX)
    return GRADES[max([steps, *(GRADES.index(FLAGS[code].best_grade) for code in flags)])]


def estimate_of(value: float, lo: float, hi: float, *, method: str, flags: Iterable[str]) -> Estimate:
    """Return a graded estimate; NaN and infinite numbers, which say that there is none, become None."""
    flags = tuple(flags)
    point, low, high = (number if math.isfinite(number) else None for number in (value, lo, hi))
    return Estimate(
        value=point,
        lo=low,
        hi=high,
        method=method,
        grade=grade_of(point, low, high, flags),
        flags=flags,
    )


def power_limits(
    *, limit_w: float | None, min_instant_w: float | None, max_instant_w: float | None, name: str
) -> PowerLimits:
    """Return between which powers a device is taken to stay.

    Cap: 1.35 × the enforced limit or 1.1 × the highest INSTANT reading, whichever is more (H100 boards of 700
    W have read 915 W). Floor: 0.8 × the lowest INSTANT reading, but no more than a tenth of the limit, for
    the lowest reading may come from a stretch that never was idle; 60 W for an H100 or H200 without readings,
    else 0. The sensor's gain (±5 %) is invisible from here: floor and cap speak of what the counter
    integrates.
    """
    highs = [1.35 * limit_w] if limit_w else []
    highs += [1.1 * max_instant_w] if max_instant_w else []
    floor_w = HOPPER_FLOOR_W if any(chip in name for chip in ("H100", "H200")) else 0.0
    if min_instant_w:
        floor_w = 0.8 * min_instant_w
    if limit_w:
        floor_w = min(floor_w, 0.1 * limit_w)
    return PowerLimits(floor_w=floor_w, cap_w=max(highs, default=NO_CAP_W))


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a result may be published, and if not, why not."""

    publishable: bool
    reasons: tuple[str, ...]


def verdict(
    estimate: Estimate,
    *,
    measured_runs: int,
    simulated: bool,
    replayed: bool,
    failed_requests: int,
    uncounted_requests: int = 0,
    failed: bool = False,
    quick: bool = False,
    noted: Iterable[str] = (),
) -> Verdict:
    """Return whether a run's energy may be published.

    `measured_runs` counts the runs of the same settings in the same environment, without warm-ups and failures.
    `noted`: what spoke against the run while it was recorded. Reasons are `failed_run`, `too_few_runs`, `simulated`,
    `replay`, `quick`, `failed_requests`, `uncounted_tokens`, `grade_c`, `grade_u`, what was noted, and the codes of
    flags that weigh `R` in what is published.
    """
    reasons = {
        "failed_run": failed,
        "too_few_runs": measured_runs < MIN_RUNS,
        "simulated": simulated,
        "replay": replayed,
        "quick": quick,
        "failed_requests": failed_requests > 0,
        "uncounted_tokens": uncounted_requests > 0,
        f"grade_{estimate.grade.lower()}": estimate.grade in ("C", "U"),
    } | dict.fromkeys((*noted, *(c for c in estimate.flags if severity(c, "publish") == "R")), True)
    given = tuple(code for code, holds in reasons.items() if holds)
    return Verdict(publishable=not given, reasons=given)
