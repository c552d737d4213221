"""What an experiment is to do: settings, repeats, and the order of the runs."""

import hashlib
import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, get_args

import orjson

from telemetry.errors import UsageError
from telemetry.runners import Prompt
from telemetry.runners.prompts import PromptSet

Engine = Literal["llama", "transformers", "openai", "stand-in"]
Order = Literal["abba", "shuffled"]
ENGINES: tuple[str, ...] = get_args(Engine)
ORDERS: tuple[str, ...] = get_args(Order)
QUICK_PROMPTS, QUICK_TOKENS = 4, 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """When runs may start: power within `within_w` for `for_s` on every device, and none above `below_c`.

    Waited for up to `wait_s`; runs that start without it say so.
    """

    within_w: float = 3.0
    for_s: float = 30.0
    below_c: float = 65.0
    wait_s: float = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One of the things compared: a model in an engine, asked in one way.

    prompts: which set, by its name in the plan. options: of the engine, as docs/experiments.md has them.
    """

    name: str
    engine: Engine
    model: str
    prompts: str
    batch_size: int = 1
    concurrency: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)

    def opened_as(self) -> str:
        """Return what an open engine depends on: settings that share it can share the engine."""
        return digest({**asdict(self), "name": None, "prompts": None})


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A measured run that is due: its place in the order, its setting and which repeat of it."""

    position: int
    setting: Setting
    repeat: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """An experiment: every setting measured `repeat` times.

    warmup, warmup_s: passes through the prompts before the runs of a setting, at least so many and so long, recorded
    and left out. run_s: a run goes through its prompts as often as takes about that long, each repeat alike; 0: once.
    baseline_s: of idle with the model loaded, before and after its runs; 0: none. cool_down_s: of rest before a run.
    order: `abba`, the settings forwards and backwards by turns, or `shuffled` anew for each repeat by the seed.
    """

    name: str
    settings: tuple[Setting, ...]
    prompts: Mapping[str, PromptSet]
    repeat: int = 5
    warmup: int = 1
    warmup_s: float = 0.0
    run_s: float = 0.0
    baseline_s: float = 0.0
    cool_down_s: float = 0.0
    gate: Gate | None = None
    order: Order = "abba"
    seed: int = 0
    scale: Literal["full", "quick"] = "full"

    def __post_init__(self) -> None:
        if self.run_s and not self.warmup:
            raise UsageError(
                f"Runs of {self.run_s:g} s need a warm-up, which tells how often the prompts go into them. "
                "Give 1 warm-up or more."
            )

    @cached_property
    def slots(self) -> Sequence[Slot]:
        """Return the measured runs in their order, which depends on the plan alone."""
        draw = random.Random(self.seed)
        blocks = []
        for repeat in range(1, self.repeat + 1):
            block = list(self.settings)
            if self.order == "shuffled":
                draw.shuffle(block)
            elif repeat % 2 == 0:
                block.reverse()
            blocks.append([(setting, repeat) for setting in block])
        return [
            Slot(position=k, setting=setting, repeat=repeat)
            for k, (setting, repeat) in enumerate(itertools.chain.from_iterable(blocks))
        ]

    def quick(self) -> "Plan":
        """Return a first look: two settings, 2 s runs of short answers, 1 s baselines, no gate. Not to be published."""
        return replace(
            self, settings=self.settings[:2], repeat=min(self.repeat, 3), warmup=1, warmup_s=0.0, run_s=2.0,
            baseline_s=1.0, cool_down_s=0.0, gate=None, scale="quick",
        )  # fmt: skip

    def scaled(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """Return the prompts that a run of this scale answers."""
        if self.scale == "full":
            return list(prompts)
        return [replace(p, max_tokens=min(p.max_tokens, QUICK_TOKENS)) for p in prompts[:QUICK_PROMPTS]]

    def as_json(self) -> dict[str, Any]:
        """Return the whole plan as plain values."""
        return {
            **{name: value for name, value in vars(self).items() if isinstance(value, str | int | float)},
            "gate": self.gate and asdict(self.gate),
            "settings": [asdict(setting) for setting in self.settings],
            "prompts": {name: some.to_settings() for name, some in self.prompts.items()},
        }


def digest(content: Mapping[str, Any]) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of plain values, whatever the order of their names."""
    return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]
