"""One thread for an engine's whole life, and a cancel that waits for it."""

import asyncio
import threading

import pytest

from telemetry.errors import RunnerError
from telemetry.runners import RunnerThread


async def test_all_calls_run_in_one_thread_also_those_made_at_once_and_not_in_the_loops() -> None:
    both_are_made = threading.Event()

    def first() -> int:
        both_are_made.wait()
        return threading.get_ident()

    async with RunnerThread() as thread:
        calls = [asyncio.create_task(thread.call(function)) for function in (first, threading.get_ident)]
        await asyncio.sleep(0)  # lets both reach the thread
        both_are_made.set()
        threads = {await call for call in calls}
    assert len(threads) == 1
    assert threads != {threading.get_ident()}


async def test_arguments_result_and_error_pass_through() -> None:
    def refuse() -> None:
        raise RunnerError("No.")

    async with RunnerThread() as thread:
        assert await thread.call(sorted, [1, 3, 2], reverse=True) == [3, 2, 1]
        with pytest.raises(RunnerError, match=r"No\."):
            await thread.call(refuse)


async def test_a_cancelled_call_tells_the_function_and_waits_for_it() -> None:
    begun, done = threading.Event(), threading.Event()

    def work(cancel: threading.Event) -> None:
        begun.set()
        cancel.wait()
        done.set()

    async with RunnerThread() as thread:
        task = asyncio.create_task(thread.call(work, thread.cancel))
        await asyncio.to_thread(begun.wait)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        assert done.is_set()


async def test_an_error_after_the_cancel_is_kept_as_its_cause() -> None:
    begun = threading.Event()

    def work(cancel: threading.Event) -> None:
        begun.set()
        cancel.wait()
        raise RunnerError("The engine died.")

    async with RunnerThread() as thread:
        task = asyncio.create_task(thread.call(work, thread.cancel))
        await asyncio.to_thread(begun.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
    assert str(caught.value.__cause__) == "The engine died."


async def test_leaving_ends_what_is_under_way_and_the_thread() -> None:
    idents: list[int | None] = []

    def work(cancel: threading.Event) -> None:
        idents.append(threading.current_thread().native_id)
        cancel.wait()

    async with RunnerThread() as thread:
        forgotten = asyncio.create_task(thread.call(work, thread.cancel))
        await asyncio.sleep(0)  # lets it reach the thread
    await forgotten
    assert idents
    assert idents[0] not in {other.native_id for other in threading.enumerate()}
