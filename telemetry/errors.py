"""Every error this package raises on purpose, by what the caller does next.

TelemetryError
├── SourceBusy           try the same read again: a call failed, nothing is known to be broken
├── SourceLost           re-open the device: it fell off the bus, the driver went away, a reset is due
├── SourceEnded          stop quietly: a recording has been played to its end
├── StoreBusy            try the same write again: locked, disk full
└── UserError            tell the user; the message is a sentence with the cause and the next step
    ├── UsageError       the command line or a setting names something that does not exist (exit 2)
    ├── SourceUnavailable  nothing here can be measured, with every reason
    ├── CollectorRunning   another collector holds the device
    ├── StoreError       the store cannot be opened, is foreign, old or new
    ├── ImportRefused    a file is refused whole, with the line
    ├── TraceError       arrays or intervals that no energy can be computed from
    └── RunnerError      an engine or a model file that cannot be used
"""


class TelemetryError(Exception):
    """The base of every error raised on purpose."""


class SourceBusy(TelemetryError):
    """One read failed; the next may succeed."""


class SourceLost(TelemetryError):
    """The device must be opened again before it can be read."""


class SourceEnded(TelemetryError):
    """A recording has been played to its end."""


class StoreBusy(TelemetryError):
    """A write could not be made now: the store is locked or its disk is full."""


class UserError(TelemetryError):
    """Something a person has to change; the message says what, why and how."""


class UsageError(UserError):
    """The command line or a setting names something that does not exist."""


class SourceUnavailable(UserError):
    """No source serves on this machine."""


class CollectorRunning(UserError):
    """Another collector already reads this device."""


class StoreError(UserError):
    """The store cannot be used as it is."""


class ImportRefused(UserError):
    """A file cannot be imported; nothing of it was."""


class TraceError(UserError):
    """No energy can be computed from what was given."""


class RunnerError(UserError):
    """An inference engine or its model cannot be used."""
