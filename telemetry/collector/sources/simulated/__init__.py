"""Simulated GPUs behind a simulated driver library: see docs/simulator.md."""

from telemetry.collector.sources.simulated.events import EventKind, EventLog, EventTruth, Levels
from telemetry.collector.sources.simulated.faults import FAULT_KINDS, Fault, FaultKind
from telemetry.collector.sources.simulated.gpu import SimulatedGpu
from telemetry.collector.sources.simulated.library import SimulatedLibrary, simulated_library
from telemetry.collector.sources.simulated.presets import PRESETS, Preset
from telemetry.collector.sources.simulated.sensor import Sensor, SensorParameters
from telemetry.collector.sources.simulated.spec import SimulatedSpec, parse_spec
from telemetry.collector.sources.simulated.waveform import Energy, TimeAbove, Truth, Waveform, WindowedEnergy

__all__ = [
    "FAULT_KINDS",
    "PRESETS",
    "Energy",
    "EventKind",
    "EventLog",
    "EventTruth",
    "Fault",
    "FaultKind",
    "Levels",
    "Preset",
    "Sensor",
    "SensorParameters",
    "SimulatedGpu",
    "SimulatedLibrary",
    "SimulatedSpec",
    "TimeAbove",
    "Truth",
    "Waveform",
    "WindowedEnergy",
    "parse_spec",
    "simulated_library",
]
