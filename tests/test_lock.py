"""Only one collector reads a device, and whoever comes second is told who."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from telemetry.collector.lock import DeviceLock, Holder, holder
from telemetry.errors import CollectorRunning, UsageError

ME = Holder(kind="collector", pid=4711, since_ns=1_800_000_000_000_000_000, store="/data/a.db")
UID = "GPU-1"


def test_the_second_is_refused_and_told_the_process_the_time_and_the_store(tmp_path: Path) -> None:
    first, second = DeviceLock(tmp_path, UID), DeviceLock(tmp_path, UID)
    first.acquire(ME)
    with pytest.raises(CollectorRunning, match=r"process 4711, since 2027-01-15T08:00:00\+00:00.*/data/a\.db"):
        second.acquire(ME)
    assert holder(tmp_path, UID) == ME
    first.release()


def test_after_release_nobody_holds_it_and_another_may(tmp_path: Path) -> None:
    first, second = DeviceLock(tmp_path, UID), DeviceLock(tmp_path, UID)
    first.acquire(ME)
    first.release()
    assert holder(tmp_path, UID) is None
    second.acquire(ME)
    second.release()


def test_devices_are_locked_apart_whatever_is_in_their_names(tmp_path: Path) -> None:
    names = ["replay:/a/b", "replay:/a/c"]
    locks = [DeviceLock(tmp_path, name) for name in names]
    for lock in locks:
        lock.acquire(ME)
    assert len(list(tmp_path.iterdir())) == 2
    for lock in locks:
        lock.release()


def test_asking_about_a_device_that_was_never_read_makes_no_file(tmp_path: Path) -> None:
    assert holder(tmp_path / "none", UID) is None
    assert list(tmp_path.iterdir()) == []


def test_every_user_may_use_the_folder_and_the_file(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        lock = DeviceLock(tmp_path / "run", UID)
        lock.acquire(ME)
    finally:
        os.umask(before)
    assert (tmp_path / "run").stat().st_mode & 0o7777 == 0o1777
    assert (tmp_path / "run" / "GPU-1.lock").stat().st_mode & 0o777 == 0o666
    lock.release()


def test_a_folder_that_cannot_be_used_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="TELEMETRY_RUNTIME_DIR"):
        DeviceLock(tmp_path / "file", UID).acquire(ME)


def test_the_kernel_lets_go_of_the_lock_of_a_killed_process(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path;"
        "from telemetry.collector.lock import DeviceLock, Holder;"
        f"DeviceLock(Path(sys.argv[1]), {UID!r}).acquire(Holder(kind='recorder', pid=1, since_ns=0, store='s'));"
        "print('held', flush=True); time.sleep(60)"
    )
    # The lock object itself is dropped at once; the descriptor, and with it the lock, stays.
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        assert holder(tmp_path, UID) is not None
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert holder(tmp_path, UID) is None  # though the file still names it
    lock = DeviceLock(tmp_path, UID)
    lock.acquire(ME)
    lock.release()
