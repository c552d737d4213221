"""Files of other tools, read into memory."""

from telemetry.importers.base import ReadOptions, Recording, Trace
from telemetry.importers.nvidia_smi import read_nvidia_smi
from telemetry.importers.reading import read_recording
from telemetry.importers.record import read_record

__all__ = ["ReadOptions", "Recording", "Trace", "read_nvidia_smi", "read_record", "read_recording"]
