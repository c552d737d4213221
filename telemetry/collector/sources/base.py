"""What the collector needs from anything that can be read."""

from typing import Protocol

from telemetry.model import Device, Reading, Sensors


class Source(Protocol):
    """One device that can be read. Calls block, so the caller gives each source a thread of its own."""

    @property
    def device(self) -> Device:
        """What is read, as it was found when the source was opened."""
        ...

    def read(self) -> Reading:
        """Read the fast tier once.

        Raises SourceBusy (try again), SourceLost (open again) or SourceEnded (a recording is over).
        """
        ...

    def read_sensors(self, *, processes: bool) -> Sensors:
        """Read the slow tier once; `processes` asks for the process list too, a call of milliseconds.

        Raises SourceLost. What the device does not answer is None in the result.
        """
        ...

    def reopen(self) -> None:
        """Find the device again after SourceLost. Raises SourceLost while it is not back."""
        ...

    def close(self) -> None:
        """Let go of the driver. Safe to call twice."""
        ...
