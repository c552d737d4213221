"""What a run ran in, as far as it may change the result: kept under a hash, and never pooled with another."""

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
PIECE = 1 << 20


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

    Reads all of it: some seconds for each 10 GB.
    """
    if model is None:
        return None
    found = hashlib.sha256()
    for path in sorted(model.rglob("*")) if model.is_dir() else [model]:
        if path.is_file():
            if model.is_dir():
                found.update(str(path.relative_to(model)).encode())
            with path.open("rb") as file:
                while piece := file.read(PIECE):
                    found.update(piece)
    return found.hexdigest()


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
