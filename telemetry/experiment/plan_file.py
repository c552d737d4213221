"""A plan as a TOML file: models × quantisations × batch sizes × concurrencies × prompt sets."""

import itertools
import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from telemetry.errors import UsageError
from telemetry.experiment.engines import OPTIONS, usual_concurrency
from telemetry.experiment.plan import ENGINES, ORDERS, Gate, Plan, Setting
from telemetry.runners.prompts import PromptSet, prompt_set

# What a publication needs (docs/experiments.md says from where); a plan may ask for less.
DEFAULTS: Mapping[str, Any] = {
    "repeat": 5, "warmup": 3, "warmup_s": 30.0, "run_s": 60.0, "baseline_s": 30.0, "cool_down_s": 5.0,
    "order": "abba", "seed": 0,
}  # fmt: skip
_COMMON: Mapping[str, type] = {
    "engine": str, "model": str, "quantisation": str, "batch_size": int, "concurrency": int, "prompts": str,
}  # fmt: skip


def read_plan(path: Path) -> Plan:
    """Return the plan in a TOML file; paths in it start from its folder.

    Raises UsageError for a file that cannot be read, is no TOML, or says what no plan says, naming table and key.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"The plan {path} cannot be read: {error.strerror}. Give a TOML file.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not a TOML file: {error}. Mend it.") from error
    try:
        return _plan(content, path)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def _plan(content: dict[str, Any], path: Path) -> Plan:
    name, gate = content.pop("name", path.stem), content.pop("gate", {})
    sets, tables = content.pop("prompts", None), content.pop("setting", None)
    if not isinstance(sets, dict) or not sets or not all(isinstance(some, dict) for some in sets.values()):
        raise UsageError("it has no prompts. Give at least one table [prompts.NAME].")
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise UsageError("it has no setting. Give at least one table [[setting]].")
    values = {**DEFAULTS, **_checked("", content, {key: type(value) for key, value in DEFAULTS.items()})}
    if values["order"] not in ORDERS:
        raise UsageError(f"order is {values['order']!r}. Give one of {', '.join(ORDERS)}.")
    prompts: dict[str, PromptSet] = {}
    for key, some in sets.items():
        try:
            prompts[key] = prompt_set(some, folder=path.parent)
        except UsageError as error:
            raise UsageError(f"[prompts.{key}]: {error}") from error
    settings = [s for k, table in enumerate(tables, start=1) for s in _settings(f"[[setting]] {k}: ", table, prompts)]
    return Plan(
        name=str(name),
        settings=_named(_from_folder(setting, path.parent) for setting in settings),
        prompts=prompts,
        gate=None if gate is False else Gate(**_checked("[gate]: ", gate, dict.fromkeys(asdict(Gate()), float))),
        **values,
    )


def _settings(where: str, table: Mapping[str, Any], prompts: Mapping[str, PromptSet]) -> list[Setting]:
    """Return the settings of one table: every key that holds a list is crossed with the others."""
    engine = table.get("engine")
    if engine not in ENGINES:
        raise UsageError(f"{where}engine is {engine!r}. Give one of {', '.join(ENGINES)}.")
    if "model" not in table and engine != "stand-in":
        raise UsageError(f"{where}it has no model. Give one, or a list.")
    axes = {"prompts": list(prompts), "model": ["none"]} | {
        key: value if isinstance(value, list) else [value] for key, value in table.items()
    }
    if empty := [key for key, values in axes.items() if not values]:
        raise UsageError(f"{where}{empty[0]} is an empty list, which leaves nothing to measure. Fill it.")
    found = []
    for choice in itertools.product(*axes.values()):
        one = _checked(where, dict(zip(axes, choice, strict=True)), {**_COMMON, **OPTIONS[engine]})
        if one["prompts"] not in prompts:
            raise UsageError(f"{where}there is no table [prompts.{one['prompts']}]. Known are {', '.join(prompts)}.")
        if "quantisation" in one and "{quantisation}" not in one["model"]:
            raise UsageError(f"{where}quantisation has no place: write {{quantisation}} in model where it stands.")
        one["model"] = one["model"].replace("{quantisation}", one.pop("quantisation", ""))
        options = {key: one.pop(key) for key in OPTIONS[engine] if key in one}
        one.setdefault("concurrency", usual_concurrency(engine, options, prompts[one["prompts"]]))
        found.append(Setting(name="", options=options, **one))
    return found


def _checked(where: str, content: Any, kinds: Mapping[str, type]) -> dict[str, Any]:
    """Return a table's values, each of its kind; an integer serves as a float."""
    if not isinstance(content, dict):
        raise UsageError(f"{where}it is no table. Mend it.")
    for key, value in content.items():
        if key not in kinds:
            raise UsageError(f"{where}{key} is no key here. Known are {', '.join(kinds)}.")
        kind = kinds[key]
        fits = type(value) is kind or (kind is float and type(value) is int)
        if not fits or (kind in (int, float) and not 0 <= value < math.inf and key != "gpu_layers"):
            raise UsageError(f"{where}{key} is {value!r}, which is no {kind.__name__} of 0 or more. Mend it.")
        if key in ("repeat", "batch_size", "concurrency") and value < 1:
            raise UsageError(f"{where}{key} is {value}. Give 1 or more.")
    return {key: float(value) if kinds[key] is float else value for key, value in content.items()}


def _from_folder(setting: Setting, folder: Path) -> Setting:
    """Return a setting with its file's whole path, so that a plan of the same words elsewhere is another plan."""
    local = folder.resolve() / setting.model
    is_file = setting.engine == "llama" or (setting.engine == "transformers" and local.exists())
    return replace(setting, model=str(local)) if is_file else setting


def _named(settings: Iterable[Setting]) -> tuple[Setting, ...]:
    """Return settings named by what tells them apart. Raises UsageError where two are alike."""
    some = list(settings)
    files = {setting.model for setting in some if setting.engine == "llama"}
    short = {model: Path(model).stem for model in files}
    if len(set(short.values())) < len(files):  # of one name in several folders
        short = {}
    each = [_parts(setting, short.get(setting.model, setting.model)) for setting in some]
    telling = [key for key in dict.fromkeys(k for parts in each for k in parts) if len({p.get(key) for p in each}) > 1]
    names = [" ".join(parts[key] for key in telling if key in parts) or parts["model"] for parts in each]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"two settings are alike ({twice}). Leave one away.")
    return tuple(replace(setting, name=name) for setting, name in zip(some, names, strict=True))


def _parts(setting: Setting, model: str) -> dict[str, str]:
    """Return what a setting is, piece by piece, as its name has it."""
    return {
        "engine": setting.engine,
        "model": model,
        "prompts": setting.prompts,
        "batch_size": f"batch {setting.batch_size}",
        "concurrency": f"concurrency {setting.concurrency}",
        **{key: f"{key} {value}" for key, value in setting.options.items()},
    }
