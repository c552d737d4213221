"""One collector a device and host: a file lock that the kernel lets go of, whatever ends the process."""

import fcntl
import os
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import orjson

from telemetry.errors import CollectorRunning, UsageError

Kind = Literal["collector", "recorder"]

_TRIES = 50
_PAUSE_S = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who reads a device, as the lock file says: `telemetry collect`, or a program that records its own runs."""

    kind: Kind
    pid: int
    since_ns: int
    store: str
    listen: str | None = None  # the Unix socket on which it takes events


class DeviceLock:
    """The right to read one device, held from `acquire` to `release` or the end of the process.

    A child made by a bare fork shares the lock; one made by exec does not.
    """

    def __init__(self, runtime_dir: Path, uid: str) -> None:
        """Name the lock of a device; nothing is touched yet."""
        self._path = _path(runtime_dir, uid)
        self._uid = uid
        self._fd: int | None = None

    def acquire(self, holder: Holder) -> None:
        """Take the lock and write down who has it.

        Raises CollectorRunning when it is held, naming the holder, and UsageError when the folder of
        locks cannot be used.
        """
        fd = open_lock(self._path)
        try:
            self._lock(fd)
            os.ftruncate(fd, 0)
            os.pwrite(fd, orjson.dumps(asdict(holder)), 0)
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd

    def release(self) -> None:
        """Let go of the lock. The file stays: removing it would let two processes lock two files."""
        if self._fd is not None:
            os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = None

    def _lock(self, fd: int) -> None:
        # A refusal may come from someone who only asks who holds it, or from a holder who has not
        # written its name yet; both are over in a moment.
        for _ in range(_TRIES):
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                found = _holder_at(self._path)
                if found is not None:
                    since = datetime.fromtimestamp(found.since_ns / 1e9, UTC).isoformat(timespec="seconds")
                    raise CollectorRunning(
                        f"The device {self._uid} is already read by process {found.pid}, since {since}, "
                        f"into the store {found.store}. Stop that collector, or use its store."
                    ) from None
                time.sleep(_PAUSE_S)
            else:
                return
        raise CollectorRunning(
            f"The device {self._uid} is already read by a process that does not say who it is. "
            f"`fuser {self._path}` names it; stop it and try again."
        )


def holder(runtime_dir: Path, uid: str) -> Holder | None:
    """Return who reads a device now; None where nobody does, or somebody is only just starting."""
    return _holder_at(_path(runtime_dir, uid))


def holders(runtime_dir: Path) -> list[Holder]:
    """Return who reads the devices of this host now, one entry a device."""
    return [found for path in sorted(runtime_dir.glob("*.lock")) if (found := _holder_at(path))]


def _holder_at(path: Path) -> Holder | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        # Shared, so that two who ask do not take each other for a holder.
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _parsed(os.pread(fd, 65_536, 0))
    finally:
        os.close(fd)
    return None


def _parsed(content: bytes) -> Holder | None:
    """Return the holder of a lock file's text; None while it has not been written to its end."""
    try:
        return Holder(**orjson.loads(content))
    except (orjson.JSONDecodeError, TypeError):
        return None


def _path(runtime_dir: Path, uid: str) -> Path:
    return runtime_dir / f"{quote(uid, safe='')}.lock"


def make_runtime_dir(folder: Path) -> None:
    """Make the folder where the processes of a host meet, whoever runs them, if there is none."""
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o1777)


def open_lock(path: Path) -> int:
    """Open a lock file for all users of the host, making it and its folder where needed. Raises UsageError."""
    try:
        return _open_or_make(path)
    except OSError as error:
        raise UsageError(
            f"The lock {path} cannot be opened: {error.strerror}. "
            "Set TELEMETRY_RUNTIME_DIR to a folder in which every user of this host may write."
        ) from error


def _open_or_make(path: Path) -> int:
    make_runtime_dir(path.parent)
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        # Without O_CREAT first: in a sticky folder the kernel refuses it on another user's file.
        return os.open(path, flags)
    except FileNotFoundError:
        pass
    try:
        fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:  # somebody was faster
        return os.open(path, flags)
    os.fchmod(fd, 0o666)  # past the umask
    return fd
