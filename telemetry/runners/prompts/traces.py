"""Recorded request traces, for their lengths and arrival times: Azure's CSV and Mooncake's JSON lines."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from telemetry.errors import UsageError
from telemetry.runners.prompts.drafts import lines_of

_AZURE = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
_MOONCAKE = ("timestamp", "input_length", "output_length")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A recorded request: when it came, on the trace's own clock, and its tokens."""

    at_s: float
    input_tokens: int
    output_tokens: int


def read_trace(path: Path, content: bytes) -> list[Arrival]:
    """Return a trace's requests in the file's order; which format it has shows in its first line.

    Raises UsageError, with the line, for what is neither, and for a request without input or output tokens, which
    no runner can be asked; nothing of such a file is used.
    """
    lines = list(lines_of(path, content))
    rows = _mooncake(path, lines) if lines and lines[0][1].lstrip().startswith("{") else _azure(path, lines)
    found = [_arrival(f"{path}, line {number},", *values) for number, values in rows]
    if not found:
        raise UsageError(f"{path} holds no request. Give an Azure LLM trace (CSV) or a Mooncake trace (JSON lines).")
    return found


def _azure(path: Path, lines: list[tuple[int, str]]) -> Iterator[tuple[int, tuple[Any, Any, Any]]]:
    if lines and tuple(lines[0][1].split(",")) != _AZURE:
        raise UsageError(
            f"{path}, line {lines[0][0]}, begins no trace that is known. An Azure LLM trace begins with "
            f"{','.join(_AZURE)}; a Mooncake trace has objects with {', '.join(_MOONCAKE)}."
        )
    for number, line in lines[1:]:
        cells = line.split(",")
        try:
            stamp, context, generated = cells
            at = datetime.fromisoformat(stamp)
            yield number, ((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp(), int(context), int(generated))
        except ValueError as error:
            raise UsageError(f"{path}, line {number}, is no request: {error}. Take the line out.") from error


def _mooncake(path: Path, lines: list[tuple[int, str]]) -> Iterator[tuple[int, tuple[Any, Any, Any]]]:
    for number, line in lines:
        try:
            row = orjson.loads(line)
            at_ms, context, generated = (row[name] for name in _MOONCAKE)
            yield number, (at_ms / 1e3, context, generated)
        except (ValueError, TypeError, KeyError) as error:
            raise UsageError(
                f"{path}, line {number}, is no object with {', '.join(_MOONCAKE)} ({error}). Take the line out."
            ) from error


def _arrival(where: str, at_s: float, context: Any, generated: Any) -> Arrival:
    for count, words in ((context, "input"), (generated, "output")):
        if type(count) is not int or count < 1:
            raise UsageError(f"{where} has {count!r} {words} tokens, and a request needs 1 or more. Take the line out.")
    return Arrival(at_s=at_s, input_tokens=context, output_tokens=generated)
