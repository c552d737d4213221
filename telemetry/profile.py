"""What `telemetry probe` found out about a kind of GPU, kept in a file: docs/probe.md has the schema."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from telemetry.errors import UsageError

SCHEMA = "telemetry.device_profile/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishGrid:
    """When a signal is renewed: every `period_ns`, give or take `jitter_ns`."""

    period_ns: int
    jitter_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceProfile:
    """A probed device: key, verdict, and what it rests on. None: not found out, or the device has no such thing.

    A `…_covers_all` is whether a signal takes in all energy, and not only what INSTANT's windows see.
    `call_rate` holds (seconds between reads, power by the counter over that by two reads alone); the worse of
    idle and busy. `counter_over_instant` and `average_over_instant` are ratios under a steady load.
    """

    name: str
    vbios: str | None
    driver: str | None
    simulated: bool
    probed: str  # ISO-8601, UTC
    version: str  # of telemetry
    path: Literal["counter", "integral"]
    estimator: str  # a method of docs/measurement.md
    best_grade: Literal["A", "B"]
    reasons: tuple[str, ...]  # why it is not the counter, or no better grade
    floor_w: float
    cap_w: float
    instant: PublishGrid | None
    average: PublishGrid | None
    counter: PublishGrid | None
    instant_window_ns: int | None
    average_window_ns: int | None
    average_covers_all: bool | None
    counter_window_ns: int | None  # of a counter that does not take in all energy
    counter_covers_all: bool | None
    counter_call_rate_invariant: bool | None
    call_rate: tuple[tuple[float, float], ...]
    lag_ns: int | None  # time constant of a first-order lag before the windows
    delay_ns: int | None  # from the end of a window to its publication
    counter_over_instant: float | None
    average_over_instant: float | None
    latency_p50_ns: int
    latency_p99_ns: int
    ring_samples: int | None
    ring_spacing_ns: int | None
    stamps: Literal["call", "sample"] | None  # what the driver's field time stamps date
    idle_bare_w: float | None
    idle_context_w: float | None
    idle_after_load_w: float | None
    decay_s: float | None

    @property
    def key(self) -> tuple[str, str | None, str | None]:
        """What must be equal for the profile to hold: the name, VBIOS and driver."""
        return self.name, self.vbios, self.driver


def load_profile(path: Path, name: str, vbios: str | None, driver: str | None) -> DeviceProfile | None:
    """Return the profile of a device from a file; None, where there is no file or it does not know the device.

    With None go on as for a device that nobody tested: both energy paths, grade B at best.
    Raises UsageError for a file that holds no profiles.
    """
    return next((profile for profile in _read(path) if profile.key == (name, vbios, driver)), None)


def save_profile(path: Path, profile: DeviceProfile) -> None:
    """Write a profile into a file, in place of the one with the same key; others in it stay.

    Raises UsageError for a file that holds something else, or that cannot be written.
    """
    _write(path, [*(other for other in _read(path) if other.key != profile.key), profile])


def check_profiles(path: Path) -> None:
    """Raise what `save_profile` would, before minutes are spent on a profile."""
    _write(path, _read(path))


def _write(path: Path, profiles: list[DeviceProfile]) -> None:
    document = {"schema": SCHEMA, "profiles": [asdict(each) for each in profiles]}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}. Name another file with -o.") from error


def _read(path: Path) -> list[DeviceProfile]:
    if not path.exists():
        return []
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        if told["schema"] != SCHEMA:
            raise ValueError(f"its schema is {told['schema']}, not {SCHEMA}")
        return [_profile(each) for each in told["profiles"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path} holds no device profiles ({error}). Write one with `telemetry probe -o {path}`."
        ) from error


def _profile(told: Mapping[str, Any]) -> DeviceProfile:
    values = {
        field.name: told[field.name] for field in fields(DeviceProfile)
    }  # what a later version adds is passed over
    for signal in ("instant", "average", "counter"):
        if values[signal] is not None:
            values[signal] = PublishGrid(**values[signal])
    values["reasons"] = tuple(values["reasons"])
    values["call_rate"] = tuple((period_s, ratio) for period_s, ratio in values["call_rate"])
    return DeviceProfile(**values)
