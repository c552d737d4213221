"""The engines that a setting can name, and what each takes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from telemetry.errors import UsageError
from telemetry.experiment.plan import Setting
from telemetry.runners import Load, Runner, StandInRunner, open_llama, open_openai, open_transformers
from telemetry.runners.llama_engine import check_gguf
from telemetry.runners.prompts import PromptSet

OPTIONS: Mapping[str, Mapping[str, type]] = {
    "llama": {"threads": int, "gpu_layers": int, "context": int, "seed": int},
    "transformers": {"device": str, "dtype": str, "threads": int, "sync": bool, "seed": int},
    "openai": {
        "base_url": str, "api": str, "request_rate": float, "arrival": str, "timeout": float, "retries": int,
        "seed": int,
    },
    "stand-in": {"prefill_s_per_token": float, "token_interval_s": float},
}  # fmt: skip


def usual_concurrency(engine: str, options: Mapping[str, Any], prompts: PromptSet) -> int:
    """Return how many requests may be under way where nobody says: all where each comes when it is due, else 1."""
    return len(prompts) if engine == "openai" and (prompts.replayed or "request_rate" in options) else 1


def check_setting(setting: Setting, prompts: PromptSet) -> None:
    """See, before anything is recorded, that a setting's engine can be asked for what it says, with its prompts.

    Raises UsageError or RunnerError, as `open_engine` would.
    """
    if setting.engine == "openai" and setting.batch_size > 1:
        raise UsageError(f"{setting.name}: a server makes its own batches. Give it a concurrency, not a batch_size.")
    if setting.engine != "openai" and setting.concurrency > 1:
        raise UsageError(f"{setting.name}: {setting.engine} has no concurrency in this process. Give a batch_size.")
    if setting.engine == "stand-in" and setting.batch_size > 1:
        raise UsageError(f"{setting.name}: the stand-in computes no batches. Leave batch_size away.")
    if prompts.replayed and (setting.engine != "openai" or "request_rate" in setting.options):
        raise UsageError(
            f"{setting.name}: prompts that come at times of their own need a server, and no request_rate. "
            "Leave `replay` away, or measure through openai."
        )
    if setting.engine == "llama":
        check_gguf(Path(setting.model))
    if setting.engine == "openai":
        open_engine(setting).close()


def open_engine(setting: Setting) -> Runner:
    """Open a setting's engine with its model, in the thread that will use it. Raises what the engine's opener does."""
    options = dict(setting.options)
    match setting.engine:
        case "llama":
            return open_llama(Path(setting.model), batch_size=setting.batch_size, **options)
        case "transformers":
            return open_transformers(setting.model, batch_size=setting.batch_size, **options)
        case "openai":
            return _open_server(setting, options)
        case "stand-in":
            return StandInRunner(**options)


def _open_server(setting: Setting, options: dict[str, Any]) -> Runner:
    if "base_url" not in options:
        raise UsageError(f"{setting.name}: openai needs a base_url, such as http://127.0.0.1:8000/v1. Give it.")
    url, api, rate = options["base_url"], options.get("api", "completions"), options.get("request_rate")
    if api not in ("completions", "chat"):
        raise UsageError(f"{setting.name}: api is {api!r}. Give completions or chat.")
    arrival = options.get("arrival", "poisson" if rate else "burst")
    if arrival not in ("poisson", "constant", "burst") or (arrival == "burst") != (rate is None):
        raise UsageError(
            f"{setting.name}: arrival {arrival} and request_rate {rate} do not go together. Give poisson or constant "
            "arrivals a rate, and a burst none."
        )
    load = Load(
        concurrency=setting.concurrency,
        arrival=arrival,
        rate=rate,
        seed=options.get("seed", 0),
        timeout_s=options.get("timeout", 120.0),
        retries=options.get("retries", 0),
    )
    return open_openai(url, setting.model, api=api, load=load)
