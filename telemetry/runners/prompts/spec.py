"""What prompts a run is to have, as a plan or a command line says it, and the prompts made of that."""

import hashlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from telemetry.errors import UsageError
from telemetry.runners.base import Prompt
from telemetry.runners.prompts.drafts import Draft, content_of
from telemetry.runners.prompts.files import read_drafts, stop_strings
from telemetry.runners.prompts.lengths import lengths
from telemetry.runners.prompts.synthetic import TextMaker
from telemetry.runners.prompts.traces import read_trace

# By the key that says where the prompts come from: the keys that may be beside it.
_KEYS: Mapping[str, tuple[str, ...]] = {
    "file": ("n", "max_tokens", "answers", "stop"),
    "trace": ("n", "replay", "speed", "seed", "stop"),
    "input": ("output", "n", "seed", "stop"),
}
_PREFIXES = {"file:": "file", "trace:": "trace", "synthetic:": ""}
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptSet:
    """Prompts as far as they are known without a model.

    about: what they were made from, as plain values: equal for equal prompts, with the hash of the file where there is
    one. seed: of the words of texts that are to be made.
    """

    drafts: tuple[Draft, ...]
    about: Mapping[str, Any]
    seed: int = 0

    def __len__(self) -> int:
        return len(self.drafts)

    @property
    def replayed(self) -> bool:
        """Whether the prompts come at times of their own."""
        return any(draft.due_s is not None for draft in self.drafts)

    def to_settings(self) -> dict[str, Any]:
        """Return what the prompts were made from, to be kept with a run or hashed."""
        return dict(self.about)

    def make(self, count_tokens: Callable[[str], int]) -> list[Prompt]:
        """Return the prompts; `count_tokens` is the runner's, and is called only where a length depends on it.

        Raises RunnerError for a length that no text has, and what `count_tokens` raises.
        """
        maker = TextMaker(count_tokens, seed=self.seed)
        around = count_tokens("a") - 1 if any(isinstance(draft.output, str) for draft in self.drafts) else 0
        return [
            Prompt(
                text=draft.input if isinstance(draft.input, str) else maker.make(number, draft.input),
                max_tokens=(
                    draft.output if isinstance(draft.output, int) else max(1, count_tokens(draft.output) - around)
                ),
                stop=draft.stop,
                due_s=draft.due_s,
            )
            for number, draft in enumerate(self.drafts)
        ]


def parse_prompts(text: str, *, max_tokens: int = 128) -> PromptSet:
    """Return the prompts that a command line asks for.

    FILE, file:FILE,KEY=VALUE…, trace:FILE,KEY=VALUE… or synthetic:KEY=VALUE…, with the keys of `prompt_set`.
    Raises UsageError as `prompt_set` does.
    """
    prefix = next((prefix for prefix in _PREFIXES if text.startswith(prefix)), None)
    if prefix is None:
        return prompt_set({"file": text}, max_tokens=max_tokens)
    parts = re.split(r",(?![^(]*\))", text.removeprefix(prefix))  # not at a comma within parentheses
    asked: dict[str, Any] = {_PREFIXES[prefix]: parts.pop(0)} if _PREFIXES[prefix] else {}
    for part in parts:
        key, is_there, value = part.partition("=")
        if not is_there or key in asked:
            raise UsageError(f"--prompts {text} has {part!r} where one KEY=VALUE for each key belongs. Correct it.")
        asked[key] = value if key == "stop" else _value(value)
    return prompt_set(asked, max_tokens=max_tokens)


def prompt_set(asked: Mapping[str, Any], *, max_tokens: int = 128, folder: Path = Path()) -> PromptSet:
    """Return the prompts that a mapping asks for: docs/prompts.md has its keys.

    max_tokens: of prompts that nothing else limits. folder: what the path of a file is relative to.
    Reads the file, if there is one. Raises UsageError for keys and values that cannot be, and for a file that is not
    as it should be.
    """
    kinds = [kind for kind in _KEYS if kind in asked]
    if len(kinds) != 1:
        raise UsageError(
            f"Prompts come from one of `file`, `trace` or `input` (a length to make texts of), not from "
            f"{' and '.join(kinds) or 'none'}. Give one of them."
        )
    (kind,) = kinds
    if unknown := sorted(set(asked) - {kind, *_KEYS[kind]}):
        raise UsageError(f"Prompts with `{kind}` have no `{unknown[0]}`. There are {', '.join(_KEYS[kind])}.")
    stop = stop_strings("Prompts have", asked.get("stop", []))
    if kind == "input":
        return _of_lengths(asked, max_tokens, stop)
    path = folder / _text(asked, kind)
    content = content_of(path)
    about = {kind: path.name, "sha256": hashlib.sha256(content).hexdigest(), "stop": list(stop)}
    if kind == "trace":
        return _of_trace(asked, path, content, stop, about)
    max_tokens, answers = _whole(asked, "max_tokens", max_tokens), _flag(asked, "answers")
    drafts = read_drafts(path, content, max_tokens=max_tokens, stop=stop, answers=answers)
    drafts = _first(drafts, asked, path)
    return PromptSet(
        drafts=tuple(drafts), about=about | {"n": len(drafts), "max_tokens": max_tokens, "answers": answers}
    )


def _of_trace(
    asked: Mapping[str, Any], path: Path, content: bytes, stop: tuple[str, ...], about: dict[str, Any]
) -> PromptSet:
    replay, seed, speed = _flag(asked, "replay"), _whole(asked, "seed", 0, least=None), asked.get("speed", 1.0)
    if type(speed) not in (int, float) or not 0 < speed < math.inf or ("speed" in asked and not replay):
        raise UsageError(f"Prompts have speed {speed!r}. Give a number above 0, and only with `replay`.")
    rows = _first(read_trace(path, content), asked, path)
    begin_s = min(row.at_s for row in rows)
    drafts = tuple(
        Draft(
            input=row.input_tokens,
            output=row.output_tokens,
            stop=stop,
            due_s=round((row.at_s - begin_s) / speed, 6) if replay else None,
        )
        for row in rows
    )
    about = about | {"n": len(rows), "replay": replay, "speed": float(speed), "seed": seed}
    return PromptSet(drafts=drafts, about=about, seed=seed)


def _of_lengths(asked: Mapping[str, Any], max_tokens: int, stop: tuple[str, ...]) -> PromptSet:
    inputs, outputs = lengths(asked["input"]), lengths(asked.get("output", max_tokens))
    n, seed = _whole(asked, "n", 1), _whole(asked, "seed", 0, least=None)
    drawn = zip(inputs.draw(n, seed=f"input {seed}"), outputs.draw(n, seed=f"output {seed}"), strict=True)
    return PromptSet(
        drafts=tuple(Draft(input=tokens, output=limit, stop=stop) for tokens, limit in drawn),
        about={"input": inputs.words, "output": outputs.words, "n": n, "seed": seed, "stop": list(stop)},
        seed=seed,
    )


def _first(found: list[_T], asked: Mapping[str, Any], path: Path) -> list[_T]:
    n = _whole(asked, "n", len(found))
    if n > len(found):
        raise UsageError(f"{path} holds {len(found)} prompts, and {n} were asked for. Lower `n`.")
    return found[:n]


def _whole(asked: Mapping[str, Any], key: str, usual: int, *, least: int | None = 1) -> int:
    value = asked.get(key, usual)
    if type(value) is not int or (least is not None and value < least):
        raise UsageError(
            f"Prompts have {key} {value!r}. Give a whole number{'' if least is None else ' of 1 or more'}."
        )
    return value


def _flag(asked: Mapping[str, Any], key: str) -> bool:
    value = asked.get(key, False)
    if type(value) is not bool:
        raise UsageError(f"Prompts have {key} {value!r}. Give true or false.")
    return value


def _text(asked: Mapping[str, Any], key: str) -> str:
    value = asked[key]
    if not isinstance(value, str) or not value:
        raise UsageError(f"Prompts have {key} {value!r}. Give the path of a file.")
    return value


def _value(words: str) -> Any:
    """Return what a command line's words would be in a plan."""
    if words in ("true", "false"):
        return words == "true"
    if re.fullmatch(r"-?\d+", words):
        return int(words)
    return float(words) if re.fullmatch(r"\d*\.\d+|\d+\.", words) else words
