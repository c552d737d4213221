"""EnergyEfficientInference: what one answer of a model cost."""

import threading
from collections.abc import Mapping, Sequence
from typing import Any, Self

from telemetry.errors import RunnerError, UserError
from telemetry.model import CountSource, FinishReason
from telemetry.monitor import EnergyMonitor
from telemetry.runners import Prompt, Runner
from telemetry.runners.llama_cpp import LlamaRunner


class _Answer:
    """Keeps what a runner tells of one prompt."""

    def __init__(self) -> None:
        self.text = ""
        self.tokens = self.input_tokens = 0
        self.first_ns: int | None = None
        self.error: RunnerError | None = None

    def submit(self, mono_ns: int) -> None:
        pass

    def start(self, mono_ns: int) -> None:
        self.started_ns = mono_ns

    def prompt(self, *, input_tokens: int, cached_tokens: int | None) -> None:
        self.input_tokens = input_tokens

    def token(self, mono_ns: int) -> None:
        self.first_ns = self.first_ns or mono_ns

    def chunk(self, mono_ns: int, tokens: int | None) -> None:
        self.token(mono_ns)

    def end(
        self,
        mono_ns: int,
        *,
        finish_reason: FinishReason,
        output_tokens: int,
        count_source: CountSource,
        text: str,
    ) -> None:
        self.text, self.tokens = text, output_tokens

    def fail(self, mono_ns: int, error: RunnerError) -> None:
        self.error = error


class EnergyEfficientInference:
    """Generates with a `llama_cpp.Llama` and measures the GPU's energy meanwhile.

    `tokenizer` is for transformers models, which the runners of a later version bring; a Llama has its own.
    Use it as a context manager, or `close` it. Raises UserError for a model of another kind, and what
    EnergyMonitor raises.
    """

    def __init__(self, model: Any, tokenizer: Any = None, gpu_id: int | str = 0, *, source: str | None = None) -> None:
        if type(model).__module__.split(".")[0] != "llama_cpp":
            raise UserError(
                f"A model of type {type(model).__name__} cannot be measured yet: give a llama_cpp.Llama. "
                "For any other engine, wrap its call in EnergyMonitor."
            )
        self._runner: Runner = LlamaRunner.wrap(model)
        self._monitor = EnergyMonitor(gpu_id, source=source)

    def generate_with_energy_tracking(self, prompt: str | Sequence[str], max_tokens: int = 128) -> Mapping[str, Any]:
        """Answer one prompt or several, greedily, and return output and energy.

        Keys: output (str, or a list for a list of prompts), tokens_generated, input_tokens, energy_joules,
        joules_per_token (joules over output tokens; None where either is unknown), and those of
        `EnergyMonitor.stop`. Raises RunnerError when a prompt cannot be answered, UserError without prompts
        and after `close`.
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        if not prompts:
            raise UserError("There is no prompt to answer. Give one, or a list with at least one.")
        answers = [_Answer() for _ in prompts]
        self._runner.reset()
        self._monitor.start()
        self._runner.generate([Prompt(text=p, max_tokens=max_tokens) for p in prompts], answers, threading.Event())
        measured = self._monitor.stop()
        for answer in answers:
            if answer.error is not None:
                raise answer.error
        tokens = sum(a.tokens for a in answers)
        joules = measured["energy_joules"]
        return {
            "output": answers[0].text if isinstance(prompt, str) else [a.text for a in answers],
            "tokens_generated": tokens,
            "input_tokens": sum(a.input_tokens for a in answers),
            "joules_per_token": None if joules is None or not tokens else joules / tokens,
            **measured,
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the polling; the model stays the caller's."""
        self._monitor.close()
