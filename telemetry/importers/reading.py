"""Which importer a path is for."""

from pathlib import Path

from telemetry.errors import UsageError
from telemetry.importers.base import ReadOptions, Recording
from telemetry.importers.nvidia_smi import read_nvidia_smi
from telemetry.importers.record import is_record, read_record


def read_recording(path: Path, options: ReadOptions) -> Recording:
    """Read a recording of any known form into memory; nothing is written.

    path: a folder of `tools/gpu/record.py`, one of its files, or a log of nvidia-smi.
    Raises UsageError where nothing lies there, else what the form's own importer does.
    """
    if not path.exists():
        raise UsageError(f"There is no file {path}. Check the path.")
    return read_record(path, options) if is_record(path) else read_nvidia_smi(path, options)
