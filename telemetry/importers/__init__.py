"""Files of other tools, read into memory."""

from telemetry.importers.base import ReadOptions, Recording, Trace
from telemetry.importers.nvidia_smi import read_nvidia_smi

__all__ = ["ReadOptions", "Recording", "Trace", "read_nvidia_smi"]
