"""One experiment at a time on a device."""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from telemetry.collector.lock import make_runtime_dir
from telemetry.errors import CollectorRunning, UsageError


@contextmanager
def alone_on(devices: Sequence[str], runtime_dir: Path) -> Iterator[None]:
    """Hold the devices, by UID, against other experiments of this host; the kernel lets go when the process ends.

    Raises CollectorRunning where another experiment is under way, naming its process.
    """
    held: list[int] = []
    try:
        make_runtime_dir(runtime_dir)
        for uid in sorted(devices):
            path = runtime_dir / f"{quote(uid, safe='')}.experiment"
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
            held.append(fd)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pid = os.pread(fd, 32, 0).decode() or "that does not say which it is"
                raise CollectorRunning(
                    f"Another experiment is under way on the device {uid}, by process {pid}: two at once would each "
                    "measure both. Wait for it, or stop it."
                ) from None
            os.ftruncate(fd, 0)
            os.pwrite(fd, str(os.getpid()).encode(), 0)
        yield
    except OSError as error:
        raise UsageError(
            f"The lock {error.filename} cannot be opened: {error.strerror}. "
            "Set TELEMETRY_RUNTIME_DIR to a folder in which every user of this host may write."
        ) from error
    finally:
        for fd in held:
            os.close(fd)
