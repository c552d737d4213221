"""Experiments: settings, warm-up, baselines, repeats and their order, recorded as runs."""

from telemetry.experiment.alone import alone_on
from telemetry.experiment.conduct import GATE_TIMEOUT, conduct, record_idle
from telemetry.experiment.engines import check_setting, usual_concurrency
from telemetry.experiment.plan import Gate, Plan, Setting, digest
from telemetry.experiment.plan_file import read_plan
from telemetry.experiment.sinks import RecordedSink

__all__ = [
    "GATE_TIMEOUT",
    "Gate",
    "Plan",
    "RecordedSink",
    "Setting",
    "alone_on",
    "check_setting",
    "conduct",
    "digest",
    "read_plan",
    "record_idle",
    "usual_concurrency",
]
