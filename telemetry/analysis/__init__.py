"""Arithmetic on stored readings and token times: energy curves, their quality, and statistics. No I/O."""

from telemetry.analysis.attribution import (
    H100_ROOFLINE,
    POLICIES,
    Attribution,
    CumulativeEnergy,
    Policy,
    StepCosts,
    attribute,
    cumulative_energy,
)
from telemetry.analysis.baselines import (
    Baseline,
    baseline_between,
    energy_above,
    idle_baseline,
    uncertainty_above_j,
)
from telemetry.analysis.bootstrap import Arm, arm_interval, nested_interval
from telemetry.analysis.calibration import Calibrated, Calibration, calibrated
from telemetry.analysis.columns import phase_columns, steps_guessed
from telemetry.analysis.comparison import BOARDS_APART, Comparison, compare, detectable_effect, holm, noise_floor
from telemetry.analysis.curve import METHODS, EnergyCurve, Method
from telemetry.analysis.enclosure import PowerLimits
from telemetry.analysis.estimates import EnergyEstimates, sum_devices
from telemetry.analysis.paths import PathChoice, call_rate, choose_path, covers_all_time, residuals
from telemetry.analysis.per_token import check_windows, token_energy_percentile
from telemetry.analysis.phases import (
    TERMS,
    PhaseEnergy,
    PhaseModel,
    fit_phases,
    phase_energy,
    sequential,
    update_intervals,
)
from telemetry.analysis.profiles import SensorProfile, sensor_profile
from telemetry.analysis.quality import FLAGS, Verdict, estimate_of, grade_of, power_limits, verdict
from telemetry.analysis.ranking import Place, ranked
from telemetry.analysis.rows import Breaks, Rows
from telemetry.analysis.spread import Bucket, Spread, by_length, over_requests, over_runs, over_windows
from telemetry.analysis.statistics import Interval, Latency, Summary, latency, percentile, summary
from telemetry.analysis.vitals import VitalsRows, throttled_s
from telemetry.analysis.work import Requests

__all__ = [
    "BOARDS_APART",
    "FLAGS",
    "H100_ROOFLINE",
    "METHODS",
    "POLICIES",
    "TERMS",
    "Arm",
    "Attribution",
    "Baseline",
    "Breaks",
    "Bucket",
    "Calibrated",
    "Calibration",
    "Comparison",
    "CumulativeEnergy",
    "EnergyCurve",
    "EnergyEstimates",
    "Interval",
    "Latency",
    "Method",
    "PathChoice",
    "PhaseEnergy",
    "PhaseModel",
    "Place",
    "Policy",
    "PowerLimits",
    "Requests",
    "Rows",
    "SensorProfile",
    "Spread",
    "StepCosts",
    "Summary",
    "Verdict",
    "VitalsRows",
    "arm_interval",
    "attribute",
    "baseline_between",
    "by_length",
    "calibrated",
    "call_rate",
    "check_windows",
    "choose_path",
    "compare",
    "covers_all_time",
    "cumulative_energy",
    "detectable_effect",
    "energy_above",
    "estimate_of",
    "fit_phases",
    "grade_of",
    "holm",
    "idle_baseline",
    "latency",
    "nested_interval",
    "noise_floor",
    "over_requests",
    "over_runs",
    "over_windows",
    "percentile",
    "phase_columns",
    "phase_energy",
    "power_limits",
    "ranked",
    "residuals",
    "sensor_profile",
    "sequential",
    "steps_guessed",
    "sum_devices",
    "summary",
    "throttled_s",
    "token_energy_percentile",
    "uncertainty_above_j",
    "update_intervals",
    "verdict",
]
