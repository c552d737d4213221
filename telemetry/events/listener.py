"""Takes events from programs that connect to a Unix socket, into the recording that serves them all."""

import asyncio
import logging
import os
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from telemetry.collector.sources.base import Source
from telemetry.errors import StoreBusy, StoreError, UserError
from telemetry.events.messages import LINE_BYTES, parse
from telemetry.events.program import Program
from telemetry.recorder import FLUSH_S, Recording, followers
from telemetry.storage.store import Store

REFUSED = "events:refused"  # in the session's failures
PROGRAMS = 100  # connected at once
AHEAD = 20_000  # events and tokens in memory before nothing more is read until the store has taken them
READ_BYTES = 16_384  # from one program, before others have their turn
STOP_S = 1.0  # for what has arrived when the collector stops
log = logging.getLogger("telemetry")


class SharedRecording(Recording):
    """The recording of a collector's own process, into its store and on its devices."""

    def __init__(self, store: Store, sources: Sequence[Source], spec: str, runtime_dir: Path) -> None:
        super().__init__(patience_s=STOP_S)
        self.store = store
        self.devices = tuple(source.device.uid for source in sources)
        self._followers = followers(spec, sources, runtime_dir)

    async def __aenter__(self) -> Self:
        self.begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.finish()
        finally:
            for follower in self._followers:
                follower.close()


class Listener:
    """Listens from enter to exit on a socket of `place.bound`. What had arrived by then is taken.

    failures: where lines that were refused are counted.  stop: set when listening ends, whatever the reason.
    """

    def __init__(self, recording: Recording, bound: socket.socket, failures: Counter[str], stop: asyncio.Event) -> None:
        self._recording = recording
        self._bound = bound
        self._failures = failures
        self._stop = stop
        self._stopping = asyncio.Event()
        self._talks: dict[asyncio.Task[None], socket.socket] = {}
        self._events = self._errors = self._ahead = 0

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._serve())
        self._task.add_done_callback(lambda _: self._stop.set())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        await self._task

    async def _serve(self) -> None:
        async with asyncio.TaskGroup() as group:
            accepting = group.create_task(self._accept(group))
            await self._stopping.wait()
            accepting.cancel()
            for program in self._talks.values():
                with suppress(OSError):  # gone already
                    program.shutdown(socket.SHUT_RD)  # what the kernel holds can still be read, then comes the end
            if self._talks:
                _, late = await asyncio.wait(self._talks, timeout=STOP_S)
                if late:
                    log.warning(
                        "%d programs were not heard to their end within %g s; what came last is lost.",
                        len(late),
                        STOP_S,
                    )
                for talk in late:
                    talk.cancel()

    async def _accept(self, group: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        while True:
            program, _ = await loop.sock_accept(self._bound)
            program.setblocking(False)
            if len(self._talks) >= PROGRAMS:
                with program:
                    await _send(program, {"error": f"{PROGRAMS} programs are connected. Try again when one has left."})
                continue
            talk = group.create_task(self._talk(program))
            self._talks[talk] = program
            talk.add_done_callback(self._talks.pop)

    async def _talk(self, connection: socket.socket) -> None:
        """Take the lines of one program until it hangs up."""
        program = Program(self._recording, _pid(connection))
        number, answerable = 0, True
        with connection:
            try:
                async for line in _lines(connection):
                    number += 1
                    if isinstance(line, bytes) and not line.strip():
                        continue
                    answer = await self._answer(program, line)
                    if answer is not None and answerable:
                        answerable = await _send(connection, answer | {"line": number})
                    if self._ahead >= AHEAD:
                        await self._catch_up()
            finally:
                program.hang_up("the collector stopped" if self._stopping.is_set() else "the client hung up")

    async def _answer(self, program: Program, line: bytes | UserError) -> dict[str, Any] | None:
        try:
            if isinstance(line, UserError):
                raise line
            event = parse(line)
            if event["event"] == "status":
                return self._status()
            answer = await program.take(event)
        except (UserError, StoreBusy) as error:
            self._errors += 1
            self._failures[REFUSED] += 1
            return {"error": str(error)}
        self._events += 1
        self._ahead += event.get("n") or 1
        return answer

    def _status(self) -> dict[str, Any]:
        others = len(self._talks) - 1
        return {"ok": True, "connections": others, "events": self._events, "errors": self._errors}

    async def _catch_up(self) -> None:
        """Wait until the store has taken what is in memory; the recording tells why it does not."""
        while self._ahead >= AHEAD and not self._stopping.is_set():
            try:
                await self._recording.flush()
            except (StoreBusy, StoreError):
                await asyncio.sleep(FLUSH_S)
            else:
                self._ahead = 0


async def _lines(connection: socket.socket) -> AsyncIterator[bytes | UserError]:
    """Yield the lines of a connection, and an error in the place of one that cannot be had."""
    loop = asyncio.get_running_loop()
    long = UserError(f"The line is longer than {LINE_BYTES} bytes. What follows its newline is read.")
    rest, skipping = b"", False
    while chunk := await _receive(loop, connection):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if not skipping:
                yield line if len(line) <= LINE_BYTES else long
            skipping = False
        if len(rest) > LINE_BYTES:
            if not skipping:
                yield long
            rest, skipping = b"", True
        await asyncio.sleep(0)  # reading does not pause by itself while there is something to read
    if rest and not skipping:
        yield UserError("The connection ended within a line. End each with a newline.")


async def _receive(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> bytes:
    try:
        return await loop.sock_recv(connection, READ_BYTES)
    except ConnectionError:  # it left without reading an answer; all that it sent was read before this
        return b""


async def _send(connection: socket.socket, answer: dict[str, Any]) -> bool:
    """Send an answer; return whether there is somebody who reads."""
    try:
        await asyncio.get_running_loop().sock_sendall(connection, orjson.dumps(answer) + b"\n")
    except ConnectionError:
        return False
    return True


def _pid(connection: socket.socket) -> int:
    """Return the process that connected; this one where it is of a namespace that cannot be seen from here."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid: int = struct.unpack("3i", credentials)[0]
    return pid or os.getpid()
