"""Arithmetic on stored readings and token times: energy curves, their quality, and statistics. No I/O."""

from telemetry.analysis.curve import EnergyCurve
from telemetry.analysis.enclosure import PowerLimits
from telemetry.analysis.estimates import EnergyEstimates, sum_devices
from telemetry.analysis.quality import FLAGS, Verdict, estimate_of, grade_of, power_limits, verdict
from telemetry.analysis.rows import Breaks, Rows
from telemetry.analysis.statistics import Latency, Summary, latency, percentile, summary

__all__ = [
    "FLAGS",
    "Breaks",
    "EnergyCurve",
    "EnergyEstimates",
    "Latency",
    "PowerLimits",
    "Rows",
    "Summary",
    "Verdict",
    "estimate_of",
    "grade_of",
    "latency",
    "percentile",
    "power_limits",
    "sum_devices",
    "summary",
    "verdict",
]
