"""What the user may set, and where each value came from: flag, environment, file or default."""

import os
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import platformdirs

from telemetry.errors import UsageError

FILE = "telemetry.toml"


def _default_store() -> str:
    return str(Path(platformdirs.user_data_dir("telemetry")) / "telemetry.db")


def _default_profile() -> str:
    return str(Path(platformdirs.user_config_dir("telemetry")) / "device_profile.json")


def _default_calibration() -> str:
    return str(Path(platformdirs.user_config_dir("telemetry")) / "calibration.json")


def _default_runtime_dir() -> str:
    shared = Path("/run/lock")  # one place for all users of a host, emptied at boot
    return str((shared if os.access(shared, os.W_OK) else Path(tempfile.gettempdir())) / "telemetry")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings in effect. Units: seconds."""

    store: str
    source: str = "auto"
    gpus: str = "all"
    interval: float = 0.02
    runtime_dir: str
    profile: str
    calibration: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """A setting's value and where it came from."""

    name: str
    value: Any
    origin: str


def load_settings(
    flags: Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    folder: Path | None = None,
) -> Settings:
    """Return the settings in effect; a flag that is None was not given.

    Raises UsageError for a value that cannot be used, naming where it came from.
    """
    values = {o.name: o.value for o in origins(flags, environ=environ, folder=folder)}
    return Settings(**values)


def origins(
    flags: Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    folder: Path | None = None,
) -> list[Origin]:
    """Return every setting with its origin, in the order of the fields of `Settings`."""
    path = (folder or Path.cwd()) / FILE
    from_file = _read_file(path)
    defaults = {
        "store": _default_store,
        "runtime_dir": _default_runtime_dir,
        "profile": _default_profile,
        "calibration": _default_calibration,
    }
    found = []
    for item in fields(Settings):
        key = f"TELEMETRY_{item.name.upper()}"
        if (flags or {}).get(item.name) is not None:
            value, origin = (flags or {})[item.name], f"flag --{item.name.replace('_', '-')}"
        elif environ.get(key):
            value, origin = environ[key], f"environment {key}"
        elif item.name in from_file:
            value, origin = from_file[item.name], f"file {path}"
        else:
            value = defaults[item.name]() if item.name in defaults else item.default
            origin = "default"
        found.append(Origin(name=item.name, value=_checked(item.name, value, origin), origin=origin))
    return found


def _read_file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not a TOML file: {error}. Mend or remove it.") from error
    unknown = sorted(set(content) - {f.name for f in fields(Settings)})
    if unknown:
        known = ", ".join(f.name for f in fields(Settings))
        raise UsageError(f"{path} sets {', '.join(unknown)}, which is no setting. Known are: {known}.")
    return content


def _checked(name: str, value: Any, origin: str) -> Any:
    if name != "interval":
        return str(value)
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = -1.0
    if not 0.001 <= seconds <= 60:
        raise UsageError(
            f"interval is {value!r} ({origin}), which is no time between 0.001 and 60 seconds. "
            "0.02 is the default; below it nothing is gained."
        )
    return seconds
