"""Files of prompts: plain text, JSON lines, and JSON as ShareGPT has it."""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson

from telemetry.errors import UsageError
from telemetry.runners.prompts.drafts import Draft, content_of, lines_of

_ASKS, _ANSWERS = ("human", "user"), ("gpt", "chatgpt", "assistant")


def read_prompts(path: Path) -> list[str]:
    """Return the prompts of a UTF-8 text file, one a line as it stands; blank lines are skipped.

    Raises UsageError when the file cannot be read, is not UTF-8 (naming the line) or holds no prompt.
    """
    return _texts(path, content_of(path))


def read_drafts(path: Path, content: bytes, *, max_tokens: int, stop: tuple[str, ...], answers: bool) -> list[Draft]:
    """Return a file's prompts: `.jsonl` holds an object a line, `.json` a list of them, any other a prompt a line.

    max_tokens, stop: of prompts that do not say their own. answers: limit each to the tokens of the recorded answer.
    Conversations that begin with no question are skipped, and with `answers` those without one too.
    Raises UsageError, with the line or the entry, for what cannot be read; nothing of such a file is used.
    """
    suffix = path.suffix.lower()
    if suffix not in (".json", ".jsonl"):
        if answers:
            raise UsageError(f"{path} is plain text and records no answers. Leave `answers` out.")
        return [Draft(input=text, output=max_tokens, stop=stop) for text in _texts(path, content)]
    rows = _list(path, content) if suffix == ".json" else _json_lines(path, content)
    usual = Draft(input="", output=max_tokens, stop=stop)
    drafts = [draft for where, row in rows if (draft := _draft(where, row, usual, answers=answers)) is not None]
    if not drafts:
        raise UsageError(f"{path} holds no prompt. Look into docs/prompts.md for what such a file has.")
    return drafts


def _texts(path: Path, content: bytes) -> list[str]:
    texts = [text for _, text in lines_of(path, content)]
    if not texts:
        raise UsageError(f"{path} holds no prompt: every line is blank. Write one prompt a line.")
    return texts


def _json_lines(path: Path, content: bytes) -> Iterator[tuple[str, Any]]:
    for number, line in lines_of(path, content):
        where = f"{path}, line {number},"
        try:
            yield where, orjson.loads(line)
        except ValueError as error:
            raise UsageError(f"{where} is no JSON: {error}. Write one object a line.") from error


def _list(path: Path, content: bytes) -> Iterator[tuple[str, Any]]:
    try:
        rows = orjson.loads(content)
    except ValueError as error:  # its words name the line
        raise UsageError(f"{path} is no JSON: {error}. Objects on a line each belong into a .jsonl file.") from error
    if not isinstance(rows, list):
        raise UsageError(f"{path} holds no list. Give a list of conversations, as ShareGPT has it, or of prompts.")
    yield from ((f"{path}, entry {number},", row) for number, row in enumerate(rows, start=1))


def _draft(where: str, row: Any, usual: Draft, *, answers: bool) -> Draft | None:
    if not isinstance(row, dict):
        raise UsageError(f'{where} is no object. Write {{"prompt": "…"}}.')
    if "conversations" in row:
        exchange = _exchange(where, row["conversations"])
        if exchange is None or (answers and not exchange[1]):
            return None
        question, answer = exchange
        limit = answer if answers else _max_tokens(where, row, usual.output)
        return Draft(input=question, output=limit, stop=_stop(where, row, usual.stop))
    text = row.get("prompt", row.get("text"))
    if not isinstance(text, str) or not text.strip():
        raise UsageError(f"{where} has no text under `prompt`, `text` or `conversations`. Give it one.")
    if answers:
        raise UsageError(f"{where} is no conversation and records no answer. Leave `answers` out.")
    return Draft(input=text, output=_max_tokens(where, row, usual.output), stop=_stop(where, row, usual.stop))


def _exchange(where: str, turns: Any) -> tuple[str, str] | None:
    """Return the first question and the answer that follows it, empty where none does; None: nobody asks."""
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise UsageError(f"{where} has `conversations` that are no list of turns. Look into docs/prompts.md.")
    for turn, after in pairwise([*turns, {}]):
        if turn.get("from") in _ASKS:
            question = turn.get("value")
            answer = after.get("value", "") if after.get("from") in _ANSWERS else ""
            if not isinstance(question, str) or not isinstance(answer, str):
                raise UsageError(f"{where} has a turn whose `value` is no text. Correct it or take the entry out.")
            return (question, answer.strip()) if question.strip() else None
    return None


def _max_tokens(where: str, row: Mapping[str, Any], usual: str | int) -> int:
    told = row.get("max_tokens", usual)
    if type(told) is not int or told < 1:
        raise UsageError(f"{where} has max_tokens {told!r}. Give a whole number of 1 or more.")
    return told


def _stop(where: str, row: Mapping[str, Any], usual: tuple[str, ...]) -> tuple[str, ...]:
    return stop_strings(f"{where} has", row["stop"]) if "stop" in row else usual


def stop_strings(where: str, told: Any) -> tuple[str, ...]:
    """Return the strings that end an answer, told as one or a list. Raises UsageError that begins with `where`."""
    texts = [told] if isinstance(told, str) else told
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) and text for text in texts):
        raise UsageError(f"{where} stop {told!r}. Give a text that is not empty, or a list of such.")
    return tuple(texts)
