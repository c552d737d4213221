"""A limit to how long a driver is waited for: a call that hangs cannot be ended, only left behind."""

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


def within(limit_s: float, call: Callable[[], T]) -> T:
    """Return what a call returns. Raises what it raises, and TimeoutError when it has not ended by then."""
    outcome: Future[T] = Future()

    def make() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:  # noqa: BLE001  raised again where it is waited for
            outcome.set_exception(error)

    # A daemon, because a call that never returns must not keep the process from ending.
    Thread(target=make, name="driver call", daemon=True).start()
    return outcome.result(limit_s)
