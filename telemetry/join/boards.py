"""What is known of a board beside its readings: its probe's profile, its calibration, its limits of power."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from telemetry.analysis import Calibration, PowerLimits, SensorProfile, power_limits, sensor_profile
from telemetry.errors import TraceError, UsageError
from telemetry.profile import DeviceProfile, load_profile

CALIBRATION_SCHEMA = "telemetry.calibration/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """One device: between which powers it stays, how its sensor averages, and what was tested of it."""

    limits: PowerLimits
    sensor: SensorProfile
    profile: DeviceProfile | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Boards:
    """The files of profiles and calibrations in effect."""

    profiles: Path | None = None
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)

    def version(self) -> str:
        """Return a word that changes with the profiles: what was worked out with others is worked out anew."""
        if self.profiles is None or not self.profiles.exists():
            return "unprobed"
        return hashlib.sha256(self.profiles.read_bytes()).hexdigest()[:8]

    def board(
        self,
        *,
        name: str,
        vbios: str | None,
        driver: str | None,
        limit_w: float | None,
        min_w: float | None,
        max_w: float | None,
    ) -> Board:
        """Return a device's board. `min_w` and `max_w` are the least and the most that was ever read of it.

        A profile's floor and cap hold, except where a reading has gone beyond them.
        """
        profile = load_profile(self.profiles, name, vbios, driver) if self.profiles else None
        limits = power_limits(limit_w=limit_w, min_instant_w=min_w, max_instant_w=max_w, name=name)
        sensor = sensor_profile(name)
        if profile is not None:
            floor_w = profile.floor_w if min_w is None else min(profile.floor_w, 0.8 * min_w)
            cap_w = profile.cap_w if max_w is None else max(profile.cap_w, 1.1 * max_w)
            limits = PowerLimits(floor_w=floor_w, cap_w=cap_w)
            sensor = SensorProfile(
                instant_window_ns=profile.instant_window_ns or sensor.instant_window_ns,
                average_window_ns=profile.average_window_ns or sensor.average_window_ns,
                legacy_window_ns=sensor.legacy_window_ns,
                counter_window_ns=profile.counter_window_ns,
                lag_ns=profile.lag_ns or 0,
                average_covers_all=bool(profile.average_covers_all),
            )
        return Board(limits=limits, sensor=sensor, profile=profile)


def load_boards(profiles: str, calibrations: str) -> Boards:
    """Return the boards of two files; either may be missing. Raises UsageError for a file that cannot be used."""
    path = Path(calibrations)
    try:
        told = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
        if told is not None and told["schema"] != CALIBRATION_SCHEMA:
            raise ValueError(f"its schema is {told['schema']}, not {CALIBRATION_SCHEMA}")
        boards = {uid: Calibration.of(board) for uid, board in told["boards"].items()} if told else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, TraceError) as error:
        raise UsageError(f"{path} holds no calibrations ({error}). docs/configuration.md shows one.") from error
    return Boards(profiles=Path(profiles), calibrations=boards)


def watts(milliwatts: int | None) -> float | None:
    """Return W of what the driver gives in mW; None stays None."""
    return None if milliwatts is None else milliwatts / 1000
