"""What a token costs in joules: GPU energy beside LLM inference, with bounds."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from telemetry.inference import EnergyEfficientInference
    from telemetry.monitor import EnergyMonitor
    from telemetry.recorder import Recorder
    from telemetry.storage.store import open_store

__all__ = ["EnergyEfficientInference", "EnergyMonitor", "Recorder", "open_store"]

_HOMES = {
    "EnergyEfficientInference": "telemetry.inference",
    "EnergyMonitor": "telemetry.monitor",
    "Recorder": "telemetry.recorder",
    "open_store": "telemetry.storage.store",
}


def __getattr__(name: str) -> Any:
    # Loaded on first use: the command line must answer --help without NumPy or SQLAlchemy.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
