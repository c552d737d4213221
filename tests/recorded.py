"""A store of what a collector would have written of simulated GPUs, made in virtual time."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from virtual_gpus import EPOCH_NS, VirtualClock, opened

from telemetry.collector.pipeline import Channel
from telemetry.collector.poller import Poller
from telemetry.model import Item, Run
from telemetry.storage.store import open_store

S = 1_000_000_000
LEAD_S = 5.0  # readings before time 0


def unchanged(item: Item) -> Item:
    return item


async def record(
    path: Path,
    runtime_dir: Path,
    spec: str,
    runs: Sequence[tuple[str, float, float]],
    *,
    runner: str = "test",
    runners: Mapping[str, str] | None = None,
    pid: int | None = None,
    edit: Callable[[Item], Item] = unchanged,
) -> None:
    """Poll the GPUs of a description at 20 ms until 5 s after the last run, and store readings and runs.

    runs: (name, from, to), seconds of wave time; faults count from there too. `runners` by name, where not all
    are by `runner`. `edit` may change what is stored.
    """
    clock = VirtualClock()
    start_ns = clock.now_ns()
    clock.advance(-LEAD_S)
    channel = Channel(10**7)
    with opened(spec, clock, runtime_dir) as sources:
        devices = [source.device for source in sources]
        pollers = [
            Poller(source, channel, clock, period_ns=S // 50, seed=k, start_ns=clock.now_ns() + k)
            for k, source in enumerate(sources)
        ]
        end_ns = start_ns + round((max(to_s for _, _, to_s in runs) + LEAD_S) * S)
        while clock.now_ns() < end_ns:
            poller = min(pollers, key=lambda each: each.due_ns)
            clock.t_ns = max(clock.t_ns, poller.due_ns - EPOCH_NS)
            poller.step()
            clock.advance(50e-6)
        for poller in pollers:
            poller.close(stuck=False)
    async with await open_store(path) as store:
        await store.start_session(source=spec, settings={}, version="0", devices=devices)
        await store.write_items([(uid, edit((uid, item))[1]) for uid, item in channel.drain(10**7)])
        for name, from_s, to_s in runs:
            at_ns = start_ns + round(from_s * S), start_ns + round(to_s * S)
            uids = tuple(device.uid for device in devices)
            run = Run(
                uid=f"{name}-{from_s}",
                name=name,
                runner=(runners or {}).get(name, runner),
                start_ns=at_ns[0],
                devices=uids,
                pid=pid,
            )
            await store.start_run(run)
            await store.write_events([], [], (run.uid, at_ns[1], "ok", None))
