"""GGUF models in this process, through llama-cpp-python: one prompt at a time, or several together."""

import functools
import os
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from telemetry.errors import RunnerError, UsageError
from telemetry.runners.base import Prompt, RequestSink, RunnerInfo, answer_in_batches, answer_in_turn, refuse_due
from telemetry.runners.llama_answer import Answer, Vocabulary
from telemetry.runners.llama_batch import LlamaBatch
from telemetry.runners.llama_engine import check_gguf, engine_errors, import_engine
from telemetry.runners.llama_turn import answer_one

ALL_LAYERS = -1
_IN_FILE_NAME = re.compile(r"(?<![A-Z0-9])((?:I?Q|TQ)\d(?:_[0-9A-Z]+)*|BF16|F16|F32)(?![A-Z0-9])")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCounters:
    """llama.cpp's own account since the last `reset`, to check ours against.

    The library never says 0 for a count but 1, and takes a prompt of one token for a decode pass.
    Otherwise decode_passes = output tokens − answers, for the first token of each comes from the prefill.
    With batches it takes the tokens of a pass over several sequences for a prompt's: there only the sum holds,
    prompt_tokens + decode_passes = input tokens + output tokens − answers.
    """

    prompt_tokens: int
    prompt_s: float
    decode_passes: int
    decode_s: float


def open_llama(
    path: Path,
    *,
    threads: int | None = None,
    gpu_layers: int = ALL_LAYERS,
    context: int = 2048,
    seed: int = 0,
    batch_size: int = 1,
) -> "LlamaRunner":
    """Load a GGUF file.

    threads: of the CPU; None takes half of the cores, which leaves some to the collector.
    gpu_layers: on the GPU; ALL_LAYERS takes all where the engine was built for one, else none.
    context: tokens that one prompt and its answer may have together; 0 takes what the model was trained for.
    batch_size: prompts computed together, each with a context of its own, so memory grows with it.
    While it loads, the engine diverts the process's stdout and stderr: print nothing meanwhile.
    Raises UsageError when there is no such file, or for a batch size that the engine cannot have; RunnerError
    when it is no GGUF file or damaged, when the engine is not installed, or when layers are asked onto a GPU
    that the engine was not built for.
    """
    check_gguf(path)
    engine = import_engine()
    most = engine.llama_max_parallel_sequences()
    if not 1 <= batch_size <= most:
        raise UsageError(f"The batch size is {batch_size}, and llama.cpp computes 1 to {most} prompts together.")
    offload = bool(engine.llama_supports_gpu_offload())
    if gpu_layers > 0 and not offload:
        raise RunnerError(
            f"{gpu_layers} layers were asked onto the GPU, but the installed llama-cpp-python was built "
            "for the CPU alone. Build it with CMAKE_ARGS=-DGGML_CUDA=on, or leave the layers on the CPU."
        )
    threads = threads or max(1, (os.cpu_count() or 1) // 2)
    with engine_errors(engine) as said:
        try:
            llama = engine.Llama(
                str(path),
                n_threads=threads,
                n_threads_batch=threads,
                n_gpu_layers=gpu_layers if offload else 0,
                n_ctx=context if batch_size == 1 else 1,  # a batch has a context of its own
                verbose=False,
            )
        except ValueError as error:
            cause = said[0] if said else error  # what follows the first line only passes it on
            raise RunnerError(
                f"{path} cannot be loaded: {cause}. Fetch the file again if it is damaged, "
                "or take a smaller context if memory is short."
            ) from error
        llama.set_seed(seed)  # not through the constructor, which takes 0 for "any"
        if batch_size == 1:
            return LlamaRunner(llama, owned=True)
        context = context or engine.llama_model_n_ctx_train(llama.model)
        try:
            return LlamaRunner(llama, owned=True, batch=LlamaBatch(engine, llama, size=batch_size, context=context))
        except RunnerError:
            llama.close()
            raise


class LlamaRunner:
    """A loaded GGUF model that answers greedily, never from a former prompt's cache."""

    def __init__(self, llama: Any, *, owned: bool, batch: LlamaBatch | None = None) -> None:
        self._llama = llama
        self._owned = owned
        self._batch = batch
        self._engine = import_engine()
        self._vocabulary = Vocabulary(self._engine, llama)
        # llama.cpp rounds its context up, but Llama's own buffer has the size that was asked for.
        self._context = batch.context if batch else min(llama.n_ctx(), len(llama.input_ids))

    @classmethod
    def wrap(cls, llama: Any) -> "LlamaRunner":
        """Run on a `llama_cpp.Llama` that someone else opened and will close.

        Its prompt cache is emptied before each prompt; otherwise it is left as it was.
        """
        return cls(llama, owned=False)

    def describe(self) -> RunnerInfo:
        """Return model and quantisation as the GGUF file names them, else as the file is named."""
        llama = self._llama
        path = Path(llama.model_path)
        layers = int(llama.model_params.n_gpu_layers) if self._engine.llama_supports_gpu_offload() else 0
        return RunnerInfo(
            runner="llama_cpp",
            model=llama.metadata.get("general.name") or path.stem,
            engine_version=f"llama-cpp-python {self._engine.__version__}",
            quantisation=self._quantisation(path),
            model_file=path,
            max_batch_size=self._batch.size if self._batch else 1,
            settings={
                "threads": llama.n_threads,
                "gpu_layers": ALL_LAYERS if layers == 2**31 - 1 else layers,
                "context": self._context,
                "batch_size": self._batch.size if self._batch else 1,
                "batch_tokens": self._batch.piece_tokens if self._batch else llama.n_batch,
                "temperature": 0.0,
                "seed": llama._seed,
            },
        )

    def generate(self, prompts: Sequence[Prompt], sinks: Sequence[RequestSink], cancel: threading.Event) -> None:
        """Answer the prompts greedily, `batch_size` at a time: see `Runner.generate`.

        A cancel is noticed at the next token, or between two pieces of `batch_tokens` of a long prompt.
        """
        refuse_due(prompts)
        if self._batch:
            answer = functools.partial(self._answer_together, self._batch, cancel)
            answer_in_batches(prompts, sinks, cancel, self._batch.size, answer)
        else:
            answer_in_turn(prompts, sinks, cancel, functools.partial(self._answer, cancel=cancel))

    def count_tokens(self, text: str) -> int:
        """Return the `input_tokens` that the text has as a prompt."""
        return len(self._vocabulary.ids(text))

    def reset(self) -> None:
        """Drop the prompt cache and set the engine's counters to zero."""
        if self._batch:
            self._batch.clear()
        self._llama.reset()
        self._engine.llama_perf_context_reset(self._ctx)

    def counters(self) -> EngineCounters:
        """Return the engine's own counts and times since the last `reset`."""
        perf = self._engine.llama_perf_context(self._ctx)
        return EngineCounters(
            prompt_tokens=perf.n_p_eval,
            prompt_s=perf.t_p_eval_ms / 1e3,
            decode_passes=perf.n_eval,
            decode_s=perf.t_eval_ms / 1e3,
        )

    def close(self) -> None:
        """Free the model, unless it was wrapped."""
        if self._batch:
            self._batch.close()
        if self._owned:
            self._llama.close()

    @property
    def _ctx(self) -> Any:
        return self._batch.ctx if self._batch else self._llama.ctx

    def _begin(self, prompt: Prompt, sink: RequestSink) -> Answer:
        return Answer(prompt, sink, vocabulary=self._vocabulary, context=self._context)

    def _answer(self, prompt: Prompt, sink: RequestSink, *, cancel: threading.Event) -> None:
        answer_one(self._engine, self._llama, self._begin(prompt, sink), cancel)

    def _answer_together(
        self, batch: LlamaBatch, cancel: threading.Event, asked: Sequence[tuple[Prompt, RequestSink]]
    ) -> None:
        answers = []
        for prompt, sink in asked:
            try:
                answers.append(self._begin(prompt, sink))
            except RunnerError as error:
                sink.fail(time.monotonic_ns(), error)
        batch.answer(answers, cancel)

    def _quantisation(self, path: Path) -> str | None:
        names = {
            str(value): name.removeprefix("LLAMA_FTYPE_").removeprefix("MOSTLY_").removeprefix("ALL_")
            for name, value in vars(self._engine).items()
            if name.startswith("LLAMA_FTYPE_")
        }
        in_file_name = _IN_FILE_NAME.search(path.stem.upper())
        file_type = self._llama.metadata.get("general.file_type", "")
        return names.get(file_type, in_file_name and in_file_name[1])
