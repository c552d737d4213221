"""A text file as lines: unzipped, decoded, and with the word on whether its last line is whole."""

import codecs
import gzip
import hashlib
import zlib
from dataclasses import dataclass
from pathlib import Path

from telemetry.errors import ImportRefused

_GZIP = b"\x1f\x8b"
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFile:
    """A file's lines without their LF; line n of the file is `lines[n - 1]`, blank ones kept."""

    path: Path
    sha256: str  # of the bytes on disk
    lines: list[str]
    ended: bool  # the last line has its line end


def read_text(path: Path) -> TextFile:
    """Read a text file whole: UTF-8, or UTF-16 with its mark (PowerShell), plain or gzip.

    Raises ImportRefused when it cannot be opened, is empty, binary, or cut within its compression.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ImportRefused(f"{path} cannot be read: {error.strerror}.") from error
    text = _decode(path, _unzip(path, raw))
    if not text.strip():
        raise ImportRefused(f"{path} is empty: there is nothing to import.")
    lines = text.rstrip("\n").split("\n")
    ended = text[-1] in "\r\n"  # a file cut between CR and LF has lost nothing
    while not lines[-1].strip():
        lines.pop()
        ended = True
    return TextFile(path=path, sha256=hashlib.sha256(raw).hexdigest(), lines=lines, ended=ended)


def _unzip(path: Path, raw: bytes) -> bytes:
    if not raw.startswith(_GZIP):
        return raw
    try:
        return gzip.decompress(raw)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ImportRefused(
            f"{path} is a gzip file that is cut or damaged ({error}). Copy it again; what is left of it can "
            "be had with `gzip -dc`, and has then to end at a whole line."
        ) from error


def _decode(path: Path, data: bytes) -> str:
    encoding = "utf-16" if data.startswith(_UTF16) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding == "utf-16":
            reason = "is UTF-16 text cut within a character. Copy it again, or save it as UTF-8"
        else:
            line = data.count(b"\n", 0, error.start) + 1
            reason = f"is no text: byte {data[error.start]:#04x} in line {line} is not UTF-8"
        raise ImportRefused(f"{path} {reason}.") from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ImportRefused(
            f"{path} is no text: it has NUL bytes, first in line {line}. A log that was open when its "
            "machine went down can end in them: remove them, and the last line with them."
        )
    return text
