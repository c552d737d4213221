"""EnergyEfficientInference: what the answers of a model cost."""

import threading
from collections.abc import Mapping, Sequence
from typing import Any, Self

from telemetry.errors import RunnerError, UserError
from telemetry.model import CountSource, FinishReason
from telemetry.monitor import EnergyMonitor
from telemetry.runners import LlamaRunner, Prompt, Runner, TransformersRunner


class _Answer:
    """Keeps what a runner tells of one prompt."""

    def __init__(self) -> None:
        self.text = ""
        self.tokens = self.input_tokens = 0
        self.error: RunnerError | None = None

    def submit(self, mono_ns: int) -> None:
        pass

    def start(self, mono_ns: int) -> None:
        pass

    def prompt(self, *, input_tokens: int, cached_tokens: int | None) -> None:
        self.input_tokens = input_tokens

    def token(self, mono_ns: int) -> None:
        pass

    def chunk(self, mono_ns: int, tokens: int | None) -> None:
        pass

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
    """Generates with a transformers model or a `llama_cpp.Llama` and measures the GPU's energy meanwhile.

    `tokenizer` is a transformers model's own; a Llama has it within. Give the `gpu_id` of the device that the
    model is on: the energy is that of one device. Use it as a context manager, or `close` it.
    Raises UserError for a model of another kind or without its tokenizer, and what EnergyMonitor raises.
    """

    def __init__(self, model: Any, tokenizer: Any = None, gpu_id: int | str = 0, *, source: str | None = None) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._runner_of(1)  # refuses what it cannot run before anything is polled
        self._monitor = EnergyMonitor(gpu_id, source=source)

    def generate_with_energy_tracking(self, prompt: str | Sequence[str], max_tokens: int = 128) -> Mapping[str, Any]:
        """Answer one prompt or several, greedily, and return output and energy.

        A transformers model computes several prompts together, a Llama one after another.
        Keys: output (str, or a list for a list of prompts); tokens_generated and input_tokens, sums over the
        prompts, with the token that ends a text and without padding; joules_per_token (joules over tokens
        generated; None where either is unknown); and those of `EnergyMonitor.stop`: energy_joules,
        energy_low_joules, energy_high_joules, duration_seconds, grade, flags and more.
        Raises RunnerError when a prompt cannot be answered, UsageError for `max_tokens` below 1, UserError
        without prompts and after `close`.
        """
        prompts = [Prompt(text=p, max_tokens=max_tokens) for p in ([prompt] if isinstance(prompt, str) else prompt)]
        if not prompts:
            raise UserError("There is no prompt to answer. Give one, or a list with at least one.")
        answers = [_Answer() for _ in prompts]
        runner = self._runner_of(len(prompts))
        self._monitor.start()
        runner.generate(prompts, answers, threading.Event())
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

    def _runner_of(self, prompts: int) -> Runner:
        libraries = {base.__module__.split(".")[0] for base in type(self._model).__mro__}
        if "llama_cpp" in libraries:
            return LlamaRunner.wrap(self._model)
        if "transformers" not in libraries:
            raise UserError(
                f"A model of type {type(self._model).__name__} cannot be measured: give one of transformers or a "
                "llama_cpp.Llama. For any other engine, wrap its call in EnergyMonitor."
            )
        if self._tokenizer is None:
            raise UserError(
                "A transformers model reads and writes ids, and its tokenizer is missing. Give it as second argument."
            )
        return TransformersRunner.wrap(self._model, self._tokenizer, batch_size=prompts)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the polling; the model stays the caller's."""
        self._monitor.close()
