"""collect, status, stop: a collector in the foreground or the background."""

import asyncio
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections import Counter
from contextlib import AbstractContextManager, AsyncExitStack, nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from telemetry.cli.common import GpusOption, IntervalOption, SourceOption, StoreOption, say
from telemetry.errors import CollectorRunning, TelemetryError, UsageError
from telemetry.settings import Settings, load_settings

START_S = 60.0  # a driver may take some seconds a GPU to wake
OBEY_S = 1.0  # how long a command may take to end when it is told to


def collect(
    command: Annotated[list[str] | None, typer.Argument(help="A command to collect around, after --.")] = None,
    source: SourceOption = None,
    gpus: GpusOption = None,
    interval: IntervalOption = None,
    store: StoreOption = None,
    duration: Annotated[float | None, typer.Option("--duration", min=0.0, help="Stop after so many seconds.")] = None,
    listen: Annotated[
        str | None,
        typer.Option("--listen", metavar="[PATH]", help="Take events on a Unix socket (events.sock, runtime folder)."),
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Go on in the background.")] = False,
) -> None:
    """Collect readings until stopped, or while a command runs."""
    settings = load_settings({"source": source, "gpus": gpus, "interval": interval, "store": store})
    socket = None if listen is None else _socket(listen, Path(settings.runtime_dir))
    if detach:
        if command:
            raise UsageError("--detach and a command do not go together. Leave one out.")
        _detach(settings, duration, socket)
        return
    from telemetry.collector.sources.select import check_sources

    # Before any signal is caught: a driver that hangs in its start must not keep a SIGTERM waiting.
    check_sources(settings.source, settings.gpus, Path(settings.runtime_dir))
    raise typer.Exit(asyncio.run(_collect(settings, duration, command, socket)))


class CollectCommand(TyperCommand):
    """A command whose `--listen` may stand without a path, which Typer does not know."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Give a bare `--listen` the empty path."""
        end = args.index("--") if "--" in args else len(args)
        for at in range(end):
            if args[at] == "--listen" and (at + 1 == end or args[at + 1].startswith("-")):
                return super().parse_args(ctx, [*args[: at + 1], "", *args[at + 1 :]])
        return super().parse_args(ctx, args)


def _socket(listen: str, runtime_dir: Path) -> str:
    """Return where to listen: at the path given, or at the usual place where it is empty."""
    from telemetry.collector.lock import make_runtime_dir
    from telemetry.events.place import FILE

    if listen:
        return str(Path(listen).expanduser().absolute())
    make_runtime_dir(runtime_dir)
    return str((runtime_dir / FILE).absolute())


def _bound(socket: str | None) -> AbstractContextManager[Any]:
    """Listen at a path, or nowhere."""
    if socket is None:
        return nullcontext()
    from telemetry.events import bound

    return bound(Path(socket))


async def _collect(settings: Settings, duration: float | None, command: list[str] | None, socket: str | None) -> int:
    from telemetry.collector.service import Collector
    from telemetry.collector.sources.select import open_sources
    from telemetry.storage.store import open_store

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # nohup
        pass
    elif stat.S_ISREG(os.fstat(2).st_mode):  # words go to a log
        loop.add_signal_handler(signal.SIGHUP, _open_log_again, Path("/proc/self/fd/2").readlink())
    else:  # the terminal is gone
        loop.add_signal_handler(signal.SIGHUP, stop.set)
    runtime_dir = Path(settings.runtime_dir)
    if command and shutil.which(command[0]) is None:
        raise UsageError(f"There is no program {command[0]}. Check its name and PATH.")
    async with await open_store(settings.store) as store:
        sources = open_sources(settings.source, settings.gpus, store.clock, runtime_dir)
        if command:
            for one in sources:
                one.close()
            return await _around(settings, command, stop, duration, socket)
        collector = Collector(
            store,
            sources,
            spec=settings.source,
            period_s=settings.interval,
            runtime_dir=runtime_dir,
            listen=socket,
        )
        async with AsyncExitStack() as stack:
            listening = stack.enter_context(_bound(socket))
            await stack.enter_async_context(collector)
            if socket is not None:
                from telemetry.events import Listener, SharedRecording

                recording = SharedRecording(store, sources, settings.source, runtime_dir)
                await stack.enter_async_context(recording)
                await stack.enter_async_context(Listener(recording, listening, collector.failures, stop))
                say(f"Taking events at {socket}.")
            names = ", ".join(one.device.name for one in sources)
            say(f"Collecting from {names} into {store.path}; Ctrl-C stops.")
            live = sys.stderr.isatty()
            await collector.wait(stop, duration, _line if live else None)
        status = collector.status()
    if live:
        say("")
    say(f"Stopped: {status.rows} rows of {status.health.polls} polls, {status.health.missed} missed.")
    return 0


def _open_log_again(log: Path) -> None:
    """Write words into the file of that name from now on: the one they went to has been rotated."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 2)
    os.close(descriptor)


async def _around(
    settings: Settings, command: list[str], stop: asyncio.Event, duration: float | None, socket: str | None
) -> int:
    """Record a command as a run; return its own exit code."""
    from telemetry.recorder import Recorder

    recorder = Recorder(settings.store, source=settings.source, gpus=settings.gpus, interval=settings.interval)
    recorder.listen = socket
    async with AsyncExitStack() as stack:
        listening = stack.enter_context(_bound(socket))
        await stack.enter_async_context(recorder)
        if socket is not None:
            from telemetry.events import Listener

            failures = recorder.collector.failures if recorder.collector else Counter[str]()
            await stack.enter_async_context(Listener(recorder, listening, failures, stop))
        try:
            async with recorder.run(name=" ".join(command), runner="command"):
                code = await _run_command(command, stop, duration)
                recorder.hurry = stop.is_set()
                if code:
                    raise _CommandFailed(f"the command ended with {code}")
        except _CommandFailed:
            return code if code > 0 else 128 - code
        except OSError as error:
            raise UsageError(f"The command {command[0]} cannot be run: {error.strerror}.") from error
    return 0


async def _run_command(command: list[str], stop: asyncio.Event, duration: float | None) -> int:
    """Run a command to its end, to `stop` or for a time; return its exit code. One that does not obey is killed."""
    child = await asyncio.create_subprocess_exec(*command)
    stopped = asyncio.create_task(stop.wait())
    ended = asyncio.create_task(child.wait())
    try:
        await asyncio.wait({ended, stopped}, timeout=duration, return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            child.terminate()
            await asyncio.wait({ended}, timeout=OBEY_S)
        if not ended.done():
            child.kill()
        return await ended
    finally:
        stopped.cancel()


class _CommandFailed(Exception):
    pass


def _line(status: Any) -> None:
    parts = []
    for name, health in status.devices:
        reading, sensors = health.reading, health.sensors
        power = None if reading is None else reading.power_instant_mw or reading.power_average_mw
        shown = "– W" if power is None else f"{power / 1000:.0f} W"
        if sensors is not None and sensors.temperature_c is not None:
            shown += f" {sensors.temperature_c} °C"
        if sensors is not None and sensors.memory_used_bytes is not None:
            shown += f" {sensors.memory_used_bytes / 2**30:.1f} GiB"
        parts.append(f"{name} {shown}")
    text = f"{' | '.join(parts)} | {status.rows} rows | {status.health.missed} missed"
    if status.trouble:
        text += f" | {status.trouble}"
    sys.stderr.write(f"\r\x1b[K{text[:200]}")
    sys.stderr.flush()


def _detach(settings: Settings, duration: float | None, socket: str | None) -> None:
    line = [sys.executable, "-m", "telemetry.cli", "collect", "--source", settings.source]
    line += ["--gpus", settings.gpus, "--interval", str(settings.interval), "--store", settings.store]
    line += [] if duration is None else ["--duration", str(duration)]
    line += [] if socket is None else ["--listen", socket]
    from telemetry.collector.lock import make_runtime_dir

    runtime_dir = Path(settings.runtime_dir)
    known = {h.pid for h in _holders(runtime_dir)}
    log = runtime_dir / f"collector-{os.getpid()}.log"
    make_runtime_dir(runtime_dir)
    with log.open("wb") as words:
        child = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=words, stderr=words, start_new_session=True)
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        if any(h.pid == child.pid for h in _holders(runtime_dir)):
            say(f"Collecting in the background (pid {child.pid}) into {settings.store}; `telemetry stop` ends it.")
            if socket is not None:
                say(f"Taking events at {socket}.")
            return
        if child.poll() is not None:
            lines = log.read_text(encoding="utf-8").strip().splitlines()
            why = lines[-1].removeprefix("telemetry: ") if lines else f"it ended with {child.returncode}"
            raise (CollectorRunning if known else TelemetryError)(why)
        time.sleep(0.05)
    child.kill()  # it may hang in the driver, where it hears no other signal
    raise TelemetryError(f"The collector did not start within {START_S:.0f} s. Its words are in {log}.")


def _holders(runtime_dir: Path) -> list[Any]:
    from telemetry.collector.lock import holders

    return holders(runtime_dir)


def status(store: StoreOption = None) -> None:
    """Say which collectors run on this host."""
    settings = load_settings({"store": store})
    found = {h.pid: h for h in _holders(Path(settings.runtime_dir)) if _writes(h, store)}
    for holder in found.values():
        since_s = max(0.0, time.time() - holder.since_ns / 1e9)
        doing = "collecting" if holder.kind == "collector" else "recording its own runs"
        typer.echo(f"{doing}: pid {holder.pid}, for {since_s:.0f} s, into {holder.store}")
        if holder.listen:
            typer.echo(f"  taking events at {holder.listen}: {_heard(holder.listen)}")
    if not found:
        typer.echo("no collector is running")


def _heard(path: str) -> str:
    """Say what the collector that takes events at a path says of them."""
    from telemetry.events.place import ask

    try:
        found = ask(path)
    except OSError as error:
        return f"it does not answer ({error.strerror or error})"
    counts = ((found.get("connections"), "program"), (found.get("events"), "event"), (found.get("errors"), "error"))
    return ", ".join(f"{n} {what}{'' if n == 1 else 's'}" for n, what in counts)


def stop(store: StoreOption = None) -> None:
    """Stop the collectors of this host that write into the store, or all when none is named."""
    runtime_dir = Path(load_settings({"store": store}).runtime_dir)
    found = {h.pid: h for h in _holders(runtime_dir) if _writes(h, store)}
    for pid, holder in found.items():
        if holder.kind != "collector":
            say(f"Process {pid} records its own runs into {holder.store}; end it yourself.")
    wanted = {pid for pid, holder in found.items() if holder.kind == "collector"}
    for pid in wanted:
        try:
            os.kill(pid, signal.SIGTERM)
        except PermissionError as error:
            raise TelemetryError(f"Process {pid} is another user's: it cannot be stopped from here.") from error
        except ProcessLookupError:
            pass  # it has just ended
    until = time.monotonic() + 10
    while wanted & {h.pid for h in _holders(runtime_dir)}:
        if time.monotonic() > until:
            raise TelemetryError(f"Process {min(wanted)} did not stop within 10 s. Look at it with ps.")
        time.sleep(0.05)
    say(f"stopped {len(wanted)} collector{'s' if len(wanted) != 1 else ''}" if wanted else "nothing to stop")


def _writes(holder: Any, store: str | None) -> bool:
    return store is None or Path(holder.store) == Path(store).resolve()
