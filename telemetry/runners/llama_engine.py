"""llama-cpp-python as it is found on this machine, and what can be wrong with it or with a file for it."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from telemetry.errors import RunnerError, UsageError

GGUF_MAGIC = b"GGUF"
_LOG_ERROR = 4  # GGML_LOG_LEVEL_ERROR


def check_gguf(path: Path) -> None:
    """Raise UsageError when there is no such file, RunnerError when it cannot be a GGUF file."""
    try:
        with path.open("rb") as file:
            magic = file.read(len(GGUF_MAGIC))
    except FileNotFoundError as error:
        raise UsageError(f"There is no model file {path}. Give the path of a GGUF file.") from error
    except OSError as error:
        raise RunnerError(f"{path} cannot be read: {error.strerror}. Give the path of one GGUF file.") from error
    if magic != GGUF_MAGIC:
        raise RunnerError(
            f"{path} is no GGUF file: it begins with {magic!r} instead of {GGUF_MAGIC!r}. "
            "Give a model in llama.cpp's format, or convert it with llama.cpp's convert_hf_to_gguf.py."
        )


def import_engine() -> Any:
    """Return the module `llama_cpp`. Raises RunnerError where it is missing or does not load.

    Untyped, so that types are checked alike with and without the engine.
    """
    try:
        import llama_cpp
    except ModuleNotFoundError as error:
        raise RunnerError(
            "llama-cpp-python is not installed. Get it with pip install 'llama-cpp-python>=0.3.30,<0.4', which builds "
            "it from source for some minutes and needs a C++ compiler."
        ) from error
    except (ImportError, OSError, RuntimeError) as error:
        raise RunnerError(
            f"llama-cpp-python is installed and cannot be loaded: {error}. Reinstall it with "
            "pip install --force-reinstall --no-cache-dir llama-cpp-python."
        ) from error
    return llama_cpp


def engine_gave_up(cause: object) -> RunnerError:
    """Return the error of a prompt that was refused within the engine."""
    return RunnerError(
        f"The engine gave up on the prompt: {cause}. Try a smaller context, a smaller batch or fewer layers on the GPU."
    )


@contextmanager
def engine_errors(engine: Any) -> Iterator[list[str]]:
    """Collect what llama.cpp logs as an error: its exceptions in Python do not give the reason."""
    said: list[str] = []

    def collect(level: int, text: bytes, _: object) -> None:
        if level == _LOG_ERROR:
            said.append(text.decode(errors="replace").strip())

    callback = engine.llama_log_callback(collect)  # a name of its own: C does not keep it alive
    before, data = engine.llama_log_callback(), ctypes.c_void_p()
    engine.llama_log_get(ctypes.byref(before), ctypes.byref(data))
    engine.llama_log_set(callback, None)
    try:
        yield said
    finally:
        engine.llama_log_set(before, data)
