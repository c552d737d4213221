"""proxy: record what passes through to an OpenAI-compatible server."""

import asyncio
import signal
from typing import Annotated

import typer

from telemetry.cli.common import GpusOption, SourceOption, StoreOption, say
from telemetry.errors import UserError
from telemetry.settings import Settings, load_settings


def proxy(
    upstream: Annotated[str, typer.Option("--upstream", help="The server, such as http://127.0.0.1:8000.")],
    host: Annotated[str, typer.Option("--host", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="The port to listen on; 0: any.")] = 8900,
    run: Annotated[str, typer.Option("--run", help="Name of the runs whose requests name none.")] = "proxy",
    timeout: Annotated[float, typer.Option("--timeout", min=1.0, help="Seconds in which no byte comes.")] = 600.0,
    source: SourceOption = None,
    gpus: GpusOption = None,
    store: StoreOption = None,
) -> None:
    """Stand before an OpenAI-compatible server and record each request, until stopped."""
    asyncio.run(
        _serve(load_settings({"source": source, "gpus": gpus, "store": store}), upstream, host, port, run, timeout)
    )


async def _serve(settings: Settings, url: str, host: str, port: int, name: str, timeout_s: float) -> None:
    try:
        from telemetry.proxy import Upstream, listen, serve
    except ModuleNotFoundError as error:
        raise UserError("h11 is not installed. Get it with pip install 'telemetry[http]'.") from error
    from telemetry.recorder import Recorder

    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    upstream = Upstream.of(url)
    with listen(host, port) as listening:
        address, bound = listening.getsockname()[:2]
        address = f"[{address}]" if ":" in address else address

        def ready() -> None:
            say(f"Recording into {recorder.store.path} what passes to {upstream.url}.")
            say(f"Clients' base URL: http://{address}:{bound}/v1; Ctrl-C stops.")

        async with Recorder(settings.store, source=settings.source, gpus=settings.gpus) as recorder:
            await serve(recorder, upstream, listening, name=name, timeout_s=timeout_s, stop=stop, ready=ready)
    say("Stopped.")
