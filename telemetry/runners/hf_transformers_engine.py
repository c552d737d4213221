"""torch and transformers as they are found on this machine, and a model read by them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from telemetry.errors import RunnerError, UsageError


def import_engine() -> tuple[Any, Any]:
    """Return the modules `torch` and `transformers`. Raises RunnerError where one is missing or does not load.

    Untyped, so that types are checked alike with and without the engine.
    """
    try:
        import torch
        import transformers
    except ModuleNotFoundError as error:
        raise RunnerError(
            f"{error.name} is not installed. Get torch as it suits this machine's GPU, "
            "then pip install 'telemetry[transformers]'."
        ) from error
    except (ImportError, OSError, RuntimeError) as error:
        raise RunnerError(
            f"transformers or torch is installed and cannot be loaded: {error}. Reinstall the one that it names."
        ) from error
    return torch, transformers


def find_device(torch: Any, device: str | None) -> Any:
    """Return the torch device of that name; None: cuda where there is one, else the CPU.

    Raises UsageError for a name that torch does not know, RunnerError for a GPU that it does not see.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise UsageError(f"device is {device!r}, which torch does not know. Give cpu, cuda or cuda:1.") from error
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise RunnerError(
            f"The model was asked onto {device}, and torch {torch.__version__} sees {torch.cuda.device_count()} CUDA "
            "devices. Install a torch that was built for this machine's GPU, or give cpu."
        )
    return found


def find_dtype(torch: Any, dtype: str | None) -> Any:
    """Return the torch dtype of that name; None: "auto", which is what the model was saved in.

    Raises UsageError for a name that torch does not know.
    """
    found = "auto" if dtype is None else getattr(torch, dtype, None)
    if found != "auto" and not isinstance(found, torch.dtype):
        raise UsageError(
            f"dtype is {dtype!r}, which torch does not know. Give float32, bfloat16 or float16, or leave it out for "
            "what the model was saved in."
        )
    return found


def load(transformers: Any, model: str | Path, dtype: Any) -> tuple[Any, Any]:
    """Return model and tokenizer of a folder, or of a name that transformers finds in its cache or fetches.

    Raises UsageError for a path without a folder, RunnerError for what transformers cannot read.
    """
    if isinstance(model, Path) and not model.is_dir():
        raise UsageError(
            f"There is no folder {model}. Give a folder with config.json, weights and tokenizer, or a model's name."
        )
    try:
        with _no_progress_bars(transformers):
            return (
                transformers.AutoModelForCausalLM.from_pretrained(model, dtype=dtype),
                transformers.AutoTokenizer.from_pretrained(model),
            )
    except Exception as error:  # of some ten kinds, from three libraries
        raise RunnerError(
            f"{model} cannot be loaded: {_first_line(error)} Give a folder with config.json, weights and tokenizer of "
            "a model that writes text."
        ) from error


def _first_line(error: Exception) -> str:
    line = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    return line if line.endswith(".") else f"{line}."


@contextmanager
def _no_progress_bars(transformers: Any) -> Iterator[None]:
    logging = transformers.utils.logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
