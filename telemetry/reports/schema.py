"""The JSON Schemas (draft 2020-12) of what `--format json` prints."""

import importlib.resources
from typing import Any

import orjson

from telemetry.errors import UsageError

NAMES = ("report-1", "window-1", "list-1", "compare-1")


def schema(name: str) -> dict[str, Any]:
    """Return the JSON Schema of that name, one of NAMES. Raises UsageError for another name."""
    if name not in NAMES:
        raise UsageError(f"There is no schema named {name!r}. Ask for one of: {', '.join(NAMES)}.")
    file = importlib.resources.files("telemetry.reports").joinpath("schemas", f"{name}.schema.json")
    content: dict[str, Any] = orjson.loads(file.read_bytes())
    return content
