"""The process's tie to the driver's library, and the stand-ins that can be put in its place."""

import contextlib
import threading
from types import TracebackType
from typing import Any, Protocol

import pynvml

from telemetry.collector.sources.within import within
from telemetry.errors import SourceUnavailable

CLOSE_S = 0.5


class DriverLibrary(Protocol):
    """A stand-in for the driver's library: it answers attribute look-ups with C functions."""

    @property
    def identity(self) -> object:
        """What equals that of another library with the same GPUs behind it."""
        ...

    def close(self) -> None:
        """Let go of what the library holds. Safe to call twice."""
        ...


class Installation:
    """A stand-in in the place of the driver's library until `restore`; also a context manager."""

    def __init__(self, library: DriverLibrary) -> None:
        self.library = library
        self._lock = threading.Lock()
        self._users = 1
        self._before = (pynvml.nvmlLib, dict(pynvml._nvmlGetFunctionPointer_cache))
        _put_library(library, {})

    def join(self) -> "Installation":
        """Count one more user, who is to call `restore` once."""
        with self._lock:
            self._users += 1
        return self

    def restore(self) -> None:
        """End one use; the last puts back what was there."""
        with self._lock:
            self._users -= 1
            last = self._users == 0
        if last:
            _put_library(*self._before)
            self.library.close()
            driver.forget(self)

    def __enter__(self) -> "Installation":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.restore()


def _put_library(library: object, functions: dict[str, Any]) -> None:
    # pynvml keeps every function that it has looked up; those of the other library must not survive.
    pynvml.nvmlLib = library
    pynvml._nvmlGetFunctionPointer_cache.clear()
    pynvml._nvmlGetFunctionPointer_cache.update(functions)


class Driver:
    """The process's one tie to the driver: initialised for the first user, shut down after the last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._hangs = False
        self.generation = 0  # handles of an earlier one may dangle
        self.installation: Installation | None = None

    def acquire(self) -> None:
        """Initialise the driver, for the first user. Raises NVMLError."""
        with self._lock:
            if self._users == 0:
                pynvml.nvmlInit()
                self.generation += 1
            self._users += 1

    def release(self) -> None:
        """Shut the driver down, after the last user. One that hangs is left to the end of the process."""
        if self._hangs or not self._lock.acquire(timeout=CLOSE_S):
            self._hangs = True  # in a start that somebody makes: the others need not wait for it too
            return
        try:
            self._users -= 1
            if self._users == 0:
                _shut_down()
        finally:
            self._lock.release()

    def restart(self, seen_generation: int) -> None:
        """Initialise again, unless somebody has since that generation."""
        with self._lock:
            if self.generation == seen_generation:
                _shut_down()
                pynvml.nvmlInit()
                self.generation += 1

    def install(self, library: DriverLibrary) -> Installation:
        """See `install` below."""
        with self._lock:
            current = self.installation
            if current is not None and current.library.identity == library.identity:
                library.close()
                return current.join()
            if current is not None or pynvml.nvmlLib is not None:
                what = "another simulation runs" if current is not None else "the real driver is loaded"
                raise SourceUnavailable(
                    f"GPUs cannot be simulated because {what} in this process, and the two must not be "
                    "mixed. Start a process of its own for each source."
                )
            self.installation = Installation(library)
            return self.installation

    def forget(self, installation: Installation) -> None:
        """Take note that a stand-in is no longer in place."""
        if self.installation is installation:
            self.installation = None


driver = Driver()


def _shut_down() -> None:
    with contextlib.suppress(pynvml.NVMLError, TimeoutError):  # a driver that has gone away need not be shut down
        within(CLOSE_S, pynvml.nvmlShutdown)


def install(library: DriverLibrary) -> Installation:
    """Put a stand-in in the place of the driver's library, until `restore`.

    While a library with the same identity is installed, that one serves both.
    Raises SourceUnavailable when another library has been loaded in this process.
    """
    return driver.install(library)
