"""What a program may say on the event socket: one JSON object a line, checked as a whole before anything is done."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

import orjson

from telemetry.errors import UserError
from telemetry.model import FinishReason

LINE_BYTES = 1 << 20
TOKENS = 10_000  # that may arrive together
DEPTH = 100  # of settings; what is nested far deeper can be read as JSON and not be written again
REASONS = tuple(reason for reason in get_args(FinishReason) if reason != "error")  # an error is told by its words


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """What a field of an event may be: in words, and as a check."""

    words: str
    holds: Callable[[Any], bool]
    required: bool = False


def _whole(low: int, high: int, words: str, *, required: bool = False) -> Field:
    return Field(words=words, holds=lambda v: type(v) is int and low <= v <= high, required=required)


def _text(*, required: bool = False) -> Field:
    return Field(words="a text that is not empty", holds=lambda v: type(v) is str and v != "", required=required)


def _is_shallow(value: Any, levels: int = DEPTH) -> bool:
    inner = value.values() if type(value) is dict else value if type(value) is list else ()
    return levels > 0 and all(_is_shallow(one, levels - 1) for one in inner)


_COUNT = _whole(0, 10**12, "a whole number, 0 or more")
_WIDTH = _whole(1, 10**6, "a whole number, 1 or more")
_STAMPS = {name: _whole(1, 2**63 - 1, "a whole number of nanoseconds") for name in ("t_mono_ns", "t_wall_ns")}
_RUN = {"run": _text(required=True)}
_REQUEST = {
    "request": Field(
        words="a text that is not empty or a whole number",
        holds=lambda v: type(v) is int or (type(v) is str and v != ""),
        required=True,
    )
}
_ABOUT = {
    **{name: _text() for name in ("name", "model", "runner", "quantisation", "experiment")},
    "batch_size": _WIDTH,
    "concurrency": _WIDTH,
    "warmup": Field(words="true or false", holds=lambda v: type(v) is bool),
    "repeat": _COUNT,
    "settings": Field(words=f"an object of at most {DEPTH} levels", holds=lambda v: type(v) is dict and _is_shallow(v)),
}
_PROMPT = {"input_tokens": _COUNT, "cached_tokens": _COUNT}

EVENTS: Mapping[str, Mapping[str, Field]] = {
    "run_start": {**_RUN, **_ABOUT, **_STAMPS},
    "request_start": {**_RUN, **_REQUEST, **_PROMPT, **_STAMPS},
    "token": {
        **_RUN,
        **_REQUEST,
        "n": Field(
            words=f"a whole number from 1 to {TOKENS}, or null",
            holds=lambda v: v is None or (type(v) is int and 1 <= v <= TOKENS),
        ),
        **_STAMPS,
    },
    "request_end": {
        **_RUN,
        **_REQUEST,
        **_PROMPT,
        "output_tokens": _COUNT,
        "finish_reason": Field(words=f"one of {', '.join(REASONS)}", holds=lambda v: v in REASONS),
        "error": _text(),
        **_STAMPS,
    },
    "run_stop": {**_RUN, "error": _text(), **_STAMPS},
    "status": {},
}


def parse(line: bytes) -> dict[str, Any]:
    """Return the event of a line. Raises UserError, which says what is wrong with it."""
    try:
        event = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise UserError(f"The line is no JSON: {error}.") from error
    fields = EVENTS.get(event.get("event", "")) if type(event) is dict and type(event.get("event")) is str else None
    if fields is None:
        raise UserError(f'The line is no object whose "event" is one of {", ".join(EVENTS)}.')
    kind = event["event"]
    for name, value in event.items():
        field = fields.get(name)
        if field is None and name != "event":
            raise UserError(f"{kind} has no field {name!r}. It has {', '.join(fields) or 'none'}.")
        if field is not None and not field.holds(value):
            raise UserError(f"{name!r} of {kind} is {_short(value)}, which is not {field.words}.")
    for name, field in fields.items():
        if field.required and name not in event:
            raise UserError(f"{kind} has no {name!r}, which it must have.")
    if event.get("cached_tokens", 0) > event.get("input_tokens", 0):
        raise UserError("cached_tokens are a part of input_tokens. Give both, and not more of the former.")
    return event  # type: ignore[no-any-return]  # a dict, whose keys are checked


def stamp(event: Mapping[str, Any]) -> int:
    """Return when an event was, on CLOCK_MONOTONIC, ns: as it says, else now.

    Raises UserError for a time that has not come or is before the host's start, and for two times.
    """
    now_ns = time.monotonic_ns()
    told_ns: int = event.get("t_mono_ns", now_ns)
    if "t_wall_ns" in event:
        if "t_mono_ns" in event:
            raise UserError("The event has two times. Give t_mono_ns or t_wall_ns.")
        told_ns = now_ns - (time.time_ns() - event["t_wall_ns"])
    if told_ns > now_ns:
        late_s = (told_ns - now_ns) / 1e9
        raise UserError(f"The event's time lies {late_s:.6f} s in the future. Check the clock that it is of.")
    if told_ns <= 0:
        raise UserError("The event's time lies before this host was started. Check its unit: nanoseconds are meant.")
    return told_ns


def _short(value: Any) -> str:
    text = "[…]" if type(value) is list else "{…}" if type(value) is dict else orjson.dumps(value).decode()
    return text if len(text) <= 60 else f"{text[:60]}…"
