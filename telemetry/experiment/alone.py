"""One experiment at a time on a device."""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import quote

from telemetry.collector.lock import open_lock
from telemetry.errors import CollectorRunning


@contextmanager
def alone_on(devices: Sequence[str], runtime_dir: Path) -> Iterator[None]:
    """Hold the devices, by UID, against other experiments of this host; the kernel lets go when the process ends.

    Raises CollectorRunning where another experiment is under way, naming its process, and UsageError when the folder
    of locks cannot be used.
    """
    with ExitStack() as held:
        for uid in sorted(devices):
            fd = open_lock(runtime_dir / f"{quote(uid, safe='')}.experiment")
            held.callback(os.close, fd)
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
