"""What makes the GPU draw power when the probe wants it to."""

import contextlib
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from select import select
from typing import Protocol

from telemetry.collector.sources.simulated import EventLog
from telemetry.errors import UsageError
from telemetry.probe.clock import VirtualClock

READY = "ready"
_READY_S = 120.0  # a first CUDA context on a busy machine takes tens of seconds
_GONE_S = 10.0

Busy = tuple[int, int]  # from, to, ns of CLOCK_MONOTONIC


class Load(Protocol):
    """Something that can keep the GPU busy at known times."""

    def open(self) -> None:
        """Make ready, the GPU's context included. Raises UsageError when that fails."""
        ...

    def play(self, busy: Sequence[Busy]) -> None:
        """Keep the GPU busy during these stretches, which lie in the future and in order. Returns at once."""
        ...

    def close(self) -> None:
        """Let go of the GPU. Safe to call twice."""
        ...


class SimulatedLoad:
    """Requests in the event log that simulated GPUs follow."""

    def __init__(self, log: EventLog, clock: VirtualClock) -> None:
        self._log = log
        self._clock = clock

    def open(self) -> None:
        """Do nothing: a simulated GPU has no context."""

    def play(self, busy: Sequence[Busy]) -> None:
        """Put a request on the clock's agenda for each stretch."""
        for from_ns, to_ns in busy:
            self._clock.at(from_ns, lambda: self._log.append("start", "0:probe"))
            self._clock.at(to_ns, lambda: self._log.append("end", "0:probe"))

    def close(self) -> None:
        """Let go of the log."""
        self._log.close()


class ProcessLoad:
    """A program that says `ready`, then keeps the GPU busy during each `FROM_NS TO_NS` that it reads, a line each.

    It sees only the GPU of that UUID.
    """

    def __init__(self, command: str, uuid: str) -> None:
        self._command = command
        self._environ = {**os.environ, "CUDA_VISIBLE_DEVICES": uuid}
        self._process: subprocess.Popen[str] | None = None

    def open(self) -> None:
        """Start the program and wait until it is ready."""
        try:
            self._process = subprocess.Popen(
                shlex.split(self._command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=self._environ,
            )
        except (OSError, ValueError, IndexError) as error:
            raise UsageError(f"The load {self._command!r} cannot be started: {error}. Check --load.") from error
        assert self._process.stdout is not None
        answers, _, _ = select([self._process.stdout], [], [], _READY_S)
        said = self._process.stdout.readline().strip() if answers else "nothing"
        if said != READY:
            self.close()
            raise UsageError(
                f"The load {self._command!r} said {said!r} where `ready` was due within {_READY_S:g} s. A load prints "
                "that line, then keeps the GPU busy from FROM_NS to TO_NS of CLOCK_MONOTONIC for each line `FROM_NS "
                "TO_NS` that it reads, and ends with its input. The built-in one needs torch with CUDA, or CuPy."
            )

    def play(self, busy: Sequence[Busy]) -> None:
        """Send the stretches. Raises UsageError when the program has ended."""
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.writelines(f"{from_ns} {to_ns}\n" for from_ns, to_ns in busy)
            self._process.stdin.flush()
        except OSError as error:
            raise UsageError(
                f"The load {self._command!r} ended before the probe did. Run it by itself to see why."
            ) from error

    def close(self) -> None:
        """End the program: by the end of its input, else by force."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(OSError):  # it ended with lines unread
            process.stdin.close()
        try:
            process.wait(_GONE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def built_in_load(uuid: str) -> ProcessLoad:
    """Return the load of matrix products by torch or CuPy, in a process of its own."""
    return ProcessLoad(f"{shlex.quote(sys.executable)} -m telemetry.probe.busy", uuid)
