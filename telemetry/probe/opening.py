"""From what the user names to a bench: a real GPU on the host's clock, a simulated one on a clock that jumps."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from telemetry.collector.sources.nvml import NvmlSource, open_nvml
from telemetry.collector.sources.nvml.details import NvmlDetails
from telemetry.collector.sources.simulated import EventLog, SimulatedLibrary, parse_spec
from telemetry.errors import UsageError
from telemetry.probe.bench import Bench, S
from telemetry.probe.clock import HostClock, VirtualClock
from telemetry.probe.load import Load, ProcessLoad, SimulatedLoad, built_in_load

_STARTED_NS = 100_000 * S  # always the same, so that equal descriptions give equal profiles


@contextmanager
def open_bench(source: str, gpu: int, load: str | None) -> Iterator[Bench]:
    """Open one GPU for a probe.

    source: `auto`, `nvml` or `simulated…`; a recording cannot be probed.  gpu: its NVML index.  load: a command
    (`load.ProcessLoad`), `none`, or None for the built-in one; a simulated GPU has its own.
    Raises UsageError for what does not exist, SourceUnavailable when there is no GPU to read.
    """
    kind = source.partition(":")[0].partition(",")[0]
    with ExitStack() as stack:
        if kind == "simulated":
            yield _simulated(stack, source, gpu, load)
        elif source in ("auto", "nvml"):
            yield _real(stack, gpu, load)
        else:
            raise UsageError(f"{source!r} cannot be probed: give --source nvml, or simulated[:PRESET][,key=value...].")


def _real(stack: ExitStack, gpu: int, command: str | None) -> Bench:
    clock = HostClock()
    (opened,) = open_nvml(str(gpu), clock, spare_counter=False)
    stack.callback(opened.close)
    load: Load | None = None
    if command != "none":
        load = built_in_load(opened.device.uid) if command is None else ProcessLoad(command, opened.device.uid)
        stack.callback(load.close)
    return _bench(opened, clock, load)


def _simulated(stack: ExitStack, text: str, gpu: int, command: str | None) -> Bench:
    spec = parse_spec(text)
    if not spec.follows_events or command not in (None, "none"):
        raise UsageError("The probe drives a simulated GPU by itself: leave wave= and --load out (or --load none).")
    folder = Path(stack.enter_context(TemporaryDirectory()))  # the log must be ours: this clock runs ahead
    clock = VirtualClock(_STARTED_NS)
    library = SimulatedLibrary(spec, folder, clock.now_ns, clock.sleep)
    (opened,) = open_nvml(str(gpu), clock, {}, library=library, spare_counter=False)
    stack.callback(opened.close)
    load: Load | None = None
    if command is None:
        load = SimulatedLoad(EventLog(spec.event_log_path(folder), mono_ns=clock.now_ns), clock)
        stack.callback(load.close)
    return _bench(opened, clock, load)


def _bench(source: NvmlSource, clock: HostClock | VirtualClock, load: Load | None) -> Bench:
    return Bench(source, NvmlDetails(source.device.uid), clock, load)
