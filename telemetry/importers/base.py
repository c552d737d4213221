"""What every importer takes and gives: options in, a recording in memory out. Nothing here writes."""

from dataclasses import dataclass
from pathlib import Path

from telemetry.model import Device, Reading, Run, Sensors


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """What a file does not say about itself. None: not given, the file has to say it."""

    tz: str | None = None  # of stamps without a zone: "+01:00", "UTC" or an IANA name
    columns: str | None = None  # comma-separated names, for files without a header
    gpus: int | None = None  # rows of one loop, where no column tells GPUs apart
    interval_s: float | None = None  # between loops, where the file has no time
    start: str | None = None  # of the first row, where the file has no time: ISO-8601 or epoch seconds
    power_col: str | None = None  # the column to integrate
    power_unit: str | None = None  # "W" or "mW", where neither header nor cells say


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One device's part of a recording, stamps strictly increasing.

    `sensors` are (t_ns, slow values): the rows in which one changed or before which a second had passed;
    empty where the file has none.
    """

    device: Device
    readings: tuple[Reading, ...]
    sensors: tuple[tuple[int, Sensors], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """A file, or a folder of files that belong together, read whole.

    `runs` are what was done meanwhile, each with when it ended, ns, where the recording tells. `tz_given` is
    False when stamps had no zone and none was named: they were then read as UTC, and may be off by whole
    hours. `notes` are sentences for the user about what was decided or left out.
    """

    path: Path
    sha256: str  # of the bytes as they lie on disk
    format: str
    tz_given: bool
    traces: tuple[Trace, ...]
    notes: tuple[str, ...]
    runs: tuple[tuple[Run, int], ...] = ()
