"""A prompt before the model is known that counts its tokens, and the lines that prompts are read from."""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from telemetry.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What a prompt is to be.

    input: its text; or a number of tokens, which a text is to be made of.
    output: the answer's tokens at most; or a text, whose tokens are to be counted for it.
    """

    input: str | int
    output: str | int
    stop: tuple[str, ...] = ()
    due_s: float | None = None


def content_of(path: Path) -> bytes:
    """Return what is in a file of prompts. Raises UsageError when it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"The prompts in {path} cannot be read: {error.strerror}. Check the path that was given for them."
        ) from error


def lines_of(path: Path, content: bytes) -> Iterator[tuple[int, str]]:
    """Yield each line that is not blank, with its number. Raises UsageError, with the line, for other than UTF-8."""
    for number, line in enumerate(content.removeprefix(codecs.BOM_UTF8).splitlines(), start=1):
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise UsageError(
                f"{path}, line {number}, is not UTF-8: {error.reason} at byte {error.start + 1}. "
                "Save the file as UTF-8."
            ) from error
        if text.strip():
            yield number, text
