"""What a run ran in, as far as it may change the result: kept under a hash, and never pooled with another."""

import functools
import hashlib
import os
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from telemetry.experiment.plan import Setting
from telemetry.runners import RunnerInfo

LIBRARIES = ("llama-cpp-python", "torch", "transformers", "accelerate", "httpx", "nvidia-ml-py")


def snapshot(
    setting: Setting, about: RunnerInfo, model_sha256: str | None, prompts: Mapping[str, Any], devices: Sequence[Any]
) -> dict[str, Any]:
    """Return the environment of a setting's runs as plain values.

    devices: what the store knows of each. Nothing that changes from run to run is in it: no time, no temperature.
    """
    return {
        "telemetry": metadata.version("telemetry"),
        "host": platform.node(),
        "kernel": platform.release(),
        "cpu": _cpu(),
        "python": platform.python_version(),
        "libraries": {name: version for name in LIBRARIES if (version := _version(name))},
        "devices": list(devices),
        "engine": about.runner,
        "engine_version": about.engine_version,
        "model": about.model,
        "model_file": about.model_file and about.model_file.name,
        "model_sha256": model_sha256,
        "quantisation": about.quantisation,
        "prompts": dict(prompts),
        "asked": {
            "engine": setting.engine,
            "batch_size": setting.batch_size,
            "concurrency": setting.concurrency,
            **setting.options,
        },
        "in_effect": dict(about.settings),
    }


def sha256_of(model: Path | None) -> str | None:
    """Return the SHA-256 of a model's file, or of all files in its folder with their names; None without one.

    Reads all of it, some seconds for each 10 GB; again only where a file's size or time has changed.
    """
    if model is None:
        return None
    if not model.is_dir():
        return _sha256(model, *_seen(model))
    found = hashlib.sha256()
    for path in sorted(path for path in model.rglob("*") if path.is_file()):
        found.update(f"{path.relative_to(model)}\0{_sha256(path, *_seen(path))}\0".encode())
    return found.hexdigest()


def _seen(path: Path) -> tuple[int, int]:
    about = path.stat()
    return about.st_size, about.st_mtime_ns


@functools.cache  # an order by turns opens the same files once a repeat
def _sha256(path: Path, _size: int, _mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("model name"):
            return f"{line.partition(':')[2].strip()} × {os.cpu_count()}"
    return f"{platform.machine()} × {os.cpu_count()}"
