"""Files of prompts: plain text, one prompt a line."""

import codecs
from pathlib import Path

from telemetry.errors import UsageError


def read_prompts(path: Path) -> list[str]:
    """Return the prompts of a UTF-8 text file, one a line as it stands; blank lines are skipped.

    Raises UsageError when the file cannot be read, is not UTF-8 (naming the line) or holds no prompt.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"The prompts in {path} cannot be read: {error.strerror}. Give a text file with one prompt a line."
        ) from error
    prompts = []
    for number, line in enumerate(content.removeprefix(codecs.BOM_UTF8).splitlines(), start=1):
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise UsageError(
                f"{path}, line {number}, is not UTF-8: {error.reason} at byte {error.start + 1}. "
                "Save the file as UTF-8."
            ) from error
        if text.strip():
            prompts.append(text)
    if not prompts:
        raise UsageError(f"{path} holds no prompt: every line is blank. Write one prompt a line.")
    return prompts
