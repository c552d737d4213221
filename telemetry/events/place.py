"""The socket's file: bound for its owner alone, taken over from a collector that is dead, and asked how it does."""

import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from telemetry.errors import CollectorRunning, UsageError

FILE = "events.sock"  # in the runtime folder, where no other path is given
WAITING = 100  # programs that have connected and are not yet heard
PATIENCE_S = 1.0  # with a collector that is asked


@contextmanager
def bound(path: Path) -> Iterator[socket.socket]:
    """Bind and listen at an absolute path, which only this user may connect to; leaving removes the file.

    Raises CollectorRunning where somebody listens there, and UsageError where nobody can.
    """
    with socket.socket(socket.AF_UNIX) as listening:
        listening.setblocking(False)
        try:
            _bind(listening, path)
        except OSError as error:
            raise UsageError(
                f"No program can be listened to at {path}: {error.strerror or error}. "
                "Name a file in a folder of yours with --listen PATH."
            ) from error
        inode = path.stat().st_ino
        try:
            yield listening
        finally:
            if path.exists() and path.stat().st_ino == inode:
                path.unlink()


def ask(path: str) -> dict[str, Any]:
    """Return how the collector that listens at a path does. Raises OSError where it does not answer."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE_S)
        connection.connect(path)
        connection.sendall(b'{"event":"status"}\n')
        with connection.makefile("rb") as answers:
            answer: dict[str, Any] = orjson.loads(answers.readline() or b"{}")
    return answer


def _bind(listening: socket.socket, path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # else two who find a dead socket could remove each other's new one
        _clear(path)
        os.fchmod(listening.fileno(), 0o600)  # before the file is there, which takes it over
        listening.bind(str(path))
        listening.listen(WAITING)
    finally:
        os.close(folder)


def _clear(path: Path) -> None:
    """Remove the socket of a dead collector."""
    if not os.path.lexists(path):
        return
    if not stat.S_ISSOCK(path.lstat().st_mode):
        raise UsageError(f"{path} is there and is no socket. Remove it, or name another with --listen PATH.")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except BlockingIOError:  # so many wait there already
            pass
    raise CollectorRunning(
        f"A collector already listens at {path}. Send events there, stop it with `telemetry stop`, "
        "or name another with --listen PATH."
    )
