"""A recorded file played back as if its devices were here: `replay:PATH[,tz=+01:00]`."""

from bisect import bisect_right
from dataclasses import replace
from operator import attrgetter, itemgetter
from pathlib import Path

from telemetry.clock import Clock
from telemetry.collector.sources.base import Source
from telemetry.errors import SourceBusy, SourceEnded, UsageError
from telemetry.importers import ReadOptions, Trace, read_nvidia_smi
from telemetry.model import Device, Reading, Sensors


def open_replay(argument: str, clock: Clock) -> list[Source]:
    """Return a source for each device of a recording, all starting now.

    argument: `PATH[,tz=ZONE]`; the zone matters where the recording crosses a change of the clocks.
    Raises UsageError when there is no such file, and ImportRefused when it cannot be read.
    """
    name, _, tz = argument.partition(",tz=")
    path = Path(name)
    if not path.is_file():
        raise UsageError(f"{name!r} is no file. A recording is replayed with replay:PATH[,tz=+01:00].")
    recording = read_nvidia_smi(path, ReadOptions(tz=tz or None))
    start_ns = min(trace.readings[0].t_ns for trace in recording.traces)
    # One shift for all devices: what was simultaneous in the recording stays so.
    shift_ns = clock.now_ns() - start_ns
    return [ReplaySource(trace, clock, shift_ns) for trace in recording.traces]


class ReplaySource:
    """One device of a recording. It answers with what was current in the recording at this time.

    Values hold until the next recorded row, as they do for a poller that is faster than the recording was;
    so a hole in a recording plays as a value that stands still.
    """

    def __init__(self, trace: Trace, clock: Clock, shift_ns: int) -> None:
        """Play `trace` on `clock`, `shift_ns` after the times that it was recorded at."""
        recorded = trace.device
        self._device = replace(recorded, uid=f"replay:{recorded.uid}", name=f"{recorded.name} (replayed)")
        self._readings = trace.readings
        self._sensors = trace.sensors
        self._clock = clock
        self._shift_ns = shift_ns

    @property
    def device(self) -> Device:
        """The recorded device, marked as replayed."""
        return self._device

    def read(self) -> Reading:
        """Return the recorded values of now, stamped now.

        Raises SourceBusy before this device's first row, and SourceEnded after its last.
        """
        now_ns = self._clock.now_ns()
        recorded_ns = self._recorded_ns(now_ns)
        row = bisect_right(self._readings, recorded_ns, key=attrgetter("t_ns"))
        if row == 0:
            raise SourceBusy(f"{self._device.name}: the recording has nothing of it yet")
        return replace(self._readings[row - 1], t_ns=now_ns)

    def read_sensors(self, *, processes: bool) -> Sensors:
        """Return the recorded slow values of now; nothing before the first. Recordings hold no processes."""
        recorded_ns = self._recorded_ns(self._clock.now_ns())
        row = bisect_right(self._sensors, recorded_ns, key=itemgetter(0))
        return self._sensors[row - 1][1] if row else Sensors()

    def reopen(self) -> None:
        """Do nothing: a recording is never lost."""

    def close(self) -> None:
        """Do nothing: the file was closed when it had been read."""

    def _recorded_ns(self, now_ns: int) -> int:
        recorded_ns = now_ns - self._shift_ns
        if recorded_ns > self._readings[-1].t_ns:
            raise SourceEnded(f"{self._device.name}: the recording has been played to its end")
        return recorded_ns
