"""GGUF models in this process, through llama-cpp-python.

`Llama.generate()` yields every token's id right after it was sampled, the one that ends the text too, so
counts and times are exact: a chunk of text is not a token. Sampling reads the logits and therefore waits
for the device, so the stamps hold on a GPU as well.
"""

import ctypes
import functools
import os
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from telemetry.errors import RunnerError
from telemetry.model import FinishReason
from telemetry.runners.base import Prompt, RequestSink, RunnerInfo, answer_in_turn
from telemetry.runners.llama_engine import check_gguf, engine_errors, import_engine

ALL_LAYERS = -1
_IN_FILE_NAME = re.compile(r"(?<![A-Z0-9])((?:I?Q|TQ)\d(?:_[0-9A-Z]+)*|BF16|F16|F32)(?![A-Z0-9])")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCounters:
    """llama.cpp's own account since the last `reset`, to check ours against.

    The library never says 0 for a count but 1, and takes a prompt of one token for a decode pass.
    Otherwise decode_passes = output tokens − answers, for the first token of each comes from the prefill.
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
) -> "LlamaRunner":
    """Load a GGUF file.

    threads: of the CPU; None takes half of the cores, which leaves some to the collector.
    gpu_layers: on the GPU; ALL_LAYERS takes all where the engine was built for one, else none.
    context: tokens that prompt and answer may have together; 0 takes what the model was trained for.
    While it loads, the engine diverts the process's stdout and stderr: print nothing meanwhile.
    Raises UsageError when there is no such file; RunnerError when it is no GGUF file or damaged, when the
    engine is not installed, or when layers are asked onto a GPU that the engine was not built for.
    """
    check_gguf(path)
    engine = import_engine()
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
                n_ctx=context,
                verbose=False,
            )
        except ValueError as error:
            cause = said[0] if said else error  # what follows the first line only passes it on
            raise RunnerError(
                f"{path} cannot be loaded: {cause}. Fetch the file again if it is damaged, "
                "or take a smaller context if memory is short."
            ) from error
    llama.set_seed(seed)  # not through the constructor, which takes 0 for "any"
    return LlamaRunner(llama, owned=True)


class LlamaRunner:
    """A loaded GGUF model that answers greedily, prompt by prompt, never from a former prompt's cache."""

    def __init__(self, llama: Any, *, owned: bool) -> None:
        self._llama = llama
        self._owned = owned
        self._engine = import_engine()
        self._vocab = self._engine.llama_model_get_vocab(llama.model)
        # llama.cpp rounds its context up, but Llama's own buffer has the size that was asked for.
        self._context = min(llama.n_ctx(), len(llama.input_ids))

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
            settings={
                "threads": llama.n_threads,
                "gpu_layers": ALL_LAYERS if layers == 2**31 - 1 else layers,
                "context": self._context,
                "batch_tokens": llama.n_batch,
                "temperature": 0.0,
                "seed": llama._seed,
            },
        )

    def generate(self, prompts: Sequence[Prompt], sinks: Sequence[RequestSink], cancel: threading.Event) -> None:
        """Answer the prompts greedily, one after another: see `Runner.generate`.

        A cancel is noticed at the next token, or between two pieces of `batch_tokens` of a long prompt.
        """
        answer_in_turn(prompts, sinks, cancel, functools.partial(self._answer, cancel=cancel))

    def reset(self) -> None:
        """Drop the prompt cache and set the engine's counters to zero."""
        self._llama.reset()
        self._engine.llama_perf_context_reset(self._llama.ctx)

    def counters(self) -> EngineCounters:
        """Return the engine's own counts and times since the last `reset`."""
        perf = self._engine.llama_perf_context(self._llama.ctx)
        return EngineCounters(
            prompt_tokens=perf.n_p_eval,
            prompt_s=perf.t_p_eval_ms / 1e3,
            decode_passes=perf.n_eval,
            decode_s=perf.t_eval_ms / 1e3,
        )

    def close(self) -> None:
        """Free the model, unless it was wrapped."""
        if self._owned:
            self._llama.close()

    def _answer(self, prompt: Prompt, sink: RequestSink, *, cancel: threading.Event) -> None:
        ids = self._tokenize(prompt.text)
        # The last token is sampled and never fed back, so it needs no place in the context.
        limit = min(prompt.max_tokens, self._context - len(ids) + 1)
        output: list[int] = []
        reason: FinishReason = "length"
        self._llama.reset()  # else a prefix shared with the last prompt costs nothing, and phases lie
        watch = _Eval(self._engine, self._llama, len(ids), sink, cancel)
        with _watched_eval(self._llama, watch), closing(self._llama.generate(ids, temp=0.0)) as stream:
            try:
                for token in stream:
                    sink.token(time.monotonic_ns())
                    output.append(token)
                    if self._engine.llama_vocab_is_eog(self._vocab, token):
                        reason = "stop"
                        break
                    if len(output) == limit:
                        break
                    if cancel.is_set():
                        reason = "cancelled"
                        break
            except _CancelledError:
                reason = "cancelled"
            ended_ns = time.monotonic_ns()
        sink.end(
            ended_ns,
            finish_reason=reason,
            output_tokens=len(output),
            count_source="ids",
            text=self._text(output),
        )

    def _tokenize(self, prompt: str) -> list[int]:
        # As the engine's own completions do it: special tokens spelt out in a prompt are taken as such.
        ids: list[int] = self._llama.tokenize(prompt.encode(), add_bos=True, special=True)
        if not ids:
            raise RunnerError("The prompt has no tokens, and there is nothing to answer. Give it some text.")
        if len(ids) > self._context:
            raise RunnerError(
                f"The prompt has {len(ids)} tokens and the context holds {self._context}. "
                "Shorten the prompt or open the model with a larger context."
            )
        return ids

    def _text(self, ids: Sequence[int]) -> str:
        # All bytes first, then the text: a character may be spread over several tokens. Not by the
        # engine's own detokenize, which loses every token of more than 32 bytes.
        return b"".join(self._piece(token) for token in ids).decode(errors="replace")

    def _piece(self, token: int) -> bytes:
        size = 32
        while True:
            buffer = ctypes.create_string_buffer(size)
            length = self._engine.llama_token_to_piece(self._vocab, token, buffer, size, 0, False)
            if length >= 0:
                return buffer.raw[:length]
            size = -length

    def _quantisation(self, path: Path) -> str | None:
        names = {
            str(value): name.removeprefix("LLAMA_FTYPE_").removeprefix("MOSTLY_").removeprefix("ALL_")
            for name, value in vars(self._engine).items()
            if name.startswith("LLAMA_FTYPE_")
        }
        in_file_name = _IN_FILE_NAME.search(path.stem.upper())
        file_type = self._llama.metadata.get("general.file_type", "")
        return names.get(file_type, in_file_name and in_file_name[1])


class _CancelledError(Exception):
    """A prefill was given up between two pieces."""


class _Eval:
    """Stands in for one Llama's `eval` while it answers one prompt: the first call is the prefill."""

    def __init__(self, engine: Any, llama: Any, input_tokens: int, sink: RequestSink, cancel: threading.Event) -> None:
        self._engine = engine
        self._llama = llama
        self._eval = llama.eval
        self._input_tokens = input_tokens
        self._sink = sink
        self._cancel = cancel
        self._prefilled = False

    def __call__(self, tokens: Sequence[int]) -> None:
        if self._prefilled:
            self._run(tokens)
            return
        self._sink.start(time.monotonic_ns())
        # The same pieces that the engine would make of it, with a look at `cancel` between them.
        for first in range(0, len(tokens), self._llama.n_batch):
            if self._cancel.is_set():
                raise _CancelledError
            self._run(tokens[first : first + self._llama.n_batch])
        # On a GPU the last piece may still be running; the prompt is read when it is done.
        self._engine.llama_synchronize(self._llama.ctx)
        self._sink.prompt(input_tokens=self._input_tokens, cached_tokens=self._input_tokens - len(tokens))
        self._prefilled = True

    def _run(self, tokens: Sequence[int]) -> None:
        try:
            self._eval(tokens)
        except (RuntimeError, ValueError) as error:
            raise RunnerError(
                f"The engine gave up on the prompt: {error}. Try a smaller context or fewer layers on the GPU."
            ) from error


@contextmanager
def _watched_eval(llama: Any, stand_in: _Eval) -> Iterator[None]:
    # On the object and not by a subclass, so that a Llama which someone else made can be watched too.
    attributes = vars(llama)
    before = {"eval": attributes["eval"]} if "eval" in attributes else {}
    attributes["eval"] = stand_in
    try:
        yield
    finally:
        del attributes["eval"]
        attributes.update(before)
