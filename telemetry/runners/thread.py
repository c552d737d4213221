"""The one thread in which an engine is opened, used and freed."""

import asyncio
import functools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class RunnerThread:
    """A worker thread for a runner, used from asyncio.

    Engines are not thread-safe, and some free their memory only in the thread that took it, so loading,
    generating and closing all go through `call` of one RunnerThread. Pass its `cancel` to
    `Runner.generate`: a task that is cancelled sets it and waits until the call under way has returned,
    so that the last events are recorded before the task ends.
    """

    def __init__(self) -> None:
        self.cancel = threading.Event()
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="runner")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel.set()
        await self.call(lambda: None)  # comes after what is still under way, so the join below is instant
        self._pool.shutdown()

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a blocking function in the thread and return what it returns.

        When this task is cancelled, sets `cancel`, waits for the function and then raises
        CancelledError, from the function's own error if it had one.
        """
        work = functools.partial(function, *args, **kwargs)
        future = asyncio.get_running_loop().run_in_executor(self._pool, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError as stop:
            self.cancel.set()
            await asyncio.wait({future})
            raise stop from future.exception()
