"""The proxy as a whole: it listens, minds silent links and idle runs, and stops without losing a record."""

import asyncio
import resource
import socket
import ssl
import time
from collections.abc import Callable

from telemetry.errors import UserError
from telemetry.proxy.framing import Upstream
from telemetry.proxy.link import House, Link
from telemetry.proxy.runs import Runs
from telemetry.recorder import Recorder

GRACE_S = 5.0  # for the streams under way at a stop
TICK_S = 1.0
PLACES = 4096  # clients at once
_SPARE_FILES = 64  # beside two sockets a link: the store, the devices, the log


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens. Raises UserError where that cannot be."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise UserError(
            f"The proxy cannot listen on {host} port {port}: {error.strerror}. Give another --host or --port."
        ) from error


async def serve(
    recorder: Recorder,
    upstream: Upstream,
    listening: socket.socket,
    *,
    name: str,
    timeout_s: float,
    stop: asyncio.Event,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Pass requests on to the server and record them, until `stop` is set and what is under way has ended or is cut.

    name: of the runs whose requests name none.  timeout_s: how long no byte may go either way.
    """
    settings = {"upstream": upstream.url, "timeout_s": timeout_s}
    async with asyncio.TaskGroup() as group:
        house = House(
            upstream=upstream,
            tls=ssl.create_default_context() if upstream.tls else None,
            runs=Runs(recorder, group, name=name, settings=settings),
            group=group,
            places=_places(),
        )
        server = await asyncio.get_running_loop().create_server(lambda: Link(house), sock=listening)
        minding = group.create_task(_mind(house, timeout_s))
        ready()
        try:
            await stop.wait()
        finally:
            server.close()
            await _end_links(house)
            minding.cancel()
            house.runs.stopping()
    house.runs.close()


async def _mind(house: House, timeout_s: float) -> None:
    while True:
        await asyncio.sleep(TICK_S)
        house.runs.close_idle()
        for link in list(house.links):
            if time.monotonic() - link.moved_s > timeout_s:
                link.silent(timeout_s)


async def _end_links(house: House) -> None:
    """Let the answers under way end, for a while; then end them."""
    until = time.monotonic() + GRACE_S
    while house.links and time.monotonic() < until:
        for link in list(house.links):
            if link.is_idle:
                link.stop("")
        await asyncio.sleep(0.02)
    for link in list(house.links):
        link.stop("The proxy was stopped before the answer was finished.")
    await asyncio.sleep(0)  # in which they hear that their connections are gone


def _places() -> int:
    """Return how many links there may be, after raising this process's limit of open files to what they need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * PLACES + _SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return PLACES if soft == resource.RLIM_INFINITY else min(PLACES, (soft - _SPARE_FILES) // 2)
