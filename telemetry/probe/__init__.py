"""A device's power sensor characterised by experiment: docs/probe.md."""

from telemetry.probe.bench import Bench, Details
from telemetry.probe.opening import open_bench
from telemetry.probe.run import run_probe

__all__ = ["Bench", "Details", "open_bench", "run_probe"]
