"""Arithmetic on stored readings and token times: energy curves, their quality, and statistics. No I/O."""

from telemetry.analysis.baselines import (
    Baseline,
    baseline_between,
    energy_above,
    idle_baseline,
    uncertainty_above_j,
)
from telemetry.analysis.calibration import Calibrated, Calibration, calibrated
from telemetry.analysis.curve import METHODS, EnergyCurve, Method
from telemetry.analysis.enclosure import PowerLimits
from telemetry.analysis.estimates import EnergyEstimates, sum_devices
from telemetry.analysis.paths import PathChoice, call_rate, choose_path, covers_all_time, residuals
from telemetry.analysis.per_token import check_windows, token_energy_percentile
from telemetry.analysis.profiles import SensorProfile, sensor_profile
from telemetry.analysis.quality import FLAGS, Verdict, estimate_of, grade_of, power_limits, verdict
from telemetry.analysis.rows import Breaks, Rows
from telemetry.analysis.statistics import Latency, Summary, latency, percentile, summary
from telemetry.analysis.vitals import VitalsRows, throttled_s

__all__ = [
    "FLAGS",
    "METHODS",
    "Baseline",
    "Breaks",
    "Calibrated",
    "Calibration",
    "EnergyCurve",
    "EnergyEstimates",
    "Latency",
    "Method",
    "PathChoice",
    "PowerLimits",
    "Rows",
    "SensorProfile",
    "Summary",
    "Verdict",
    "VitalsRows",
    "baseline_between",
    "calibrated",
    "call_rate",
    "check_windows",
    "choose_path",
    "covers_all_time",
    "energy_above",
    "estimate_of",
    "grade_of",
    "idle_baseline",
    "latency",
    "percentile",
    "power_limits",
    "residuals",
    "sensor_profile",
    "sum_devices",
    "summary",
    "throttled_s",
    "token_energy_percentile",
    "uncertainty_above_j",
    "verdict",
]
