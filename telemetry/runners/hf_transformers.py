"""Models of Hugging Face transformers in this process, prompts computed in batches.

Counts and times come from a stopping criterion of our own: `generate` calls it once a step with the ids of
all rows, the one that ends a text too. A streamer gets the same ids later: after the criteria, and on Apple's
GPUs a whole step after. A chunk of text is not a token.
"""

import functools
import math
import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from telemetry.errors import RunnerError, UsageError
from telemetry.runners.base import Prompt, RequestSink, RunnerInfo, answer_in_batches
from telemetry.runners.hf_transformers_batch import Row, StepCriteria
from telemetry.runners.hf_transformers_engine import find_device, find_dtype, import_engine, load


@dataclass(frozen=True, slots=True, kw_only=True)
class Padding:
    """Places that were computed and belong to no prompt and no answer; they are in no count of tokens."""

    prompt_tokens: int  # left of the shorter prompts of a batch
    decode_tokens: int  # of rows that had ended, until the longest answer had


def open_transformers(
    model: str | Path,
    *,
    device: str | None = None,
    dtype: str | None = None,
    batch_size: int = 1,
    threads: int | None = None,
    sync: bool = False,
    seed: int = 0,
) -> "TransformersRunner":
    """Load a model and its tokenizer from a folder, or by a name that transformers finds or fetches.

    device: as torch names it; None takes cuda where there is one, else cpu.
    dtype: of the weights, as torch names it; None takes what they were saved in.
    threads: of the CPU, for all of torch in this process; None takes half of the cores, which leaves some
    to the collector.
    sync: wait at each token for the whole CUDA device, one wait more, and not only for the stream that brings the
    token. Needed where a model computes on several streams; both edges of the prefill are waited for anyway.
    Raises UsageError for a path, device or dtype that does not exist, or a batch size below 1; RunnerError
    when transformers or torch is not installed or cannot load the model, or sees no such GPU.
    """
    torch, transformers = import_engine()
    target = find_device(torch, device)
    weights = find_dtype(torch, dtype)
    torch.set_num_threads(threads or max(1, (os.cpu_count() or 1) // 2))
    torch.manual_seed(seed)
    loaded, tokenizer = load(transformers, model, weights)
    try:
        loaded.to(target)
    except RuntimeError as error:
        raise RunnerError(
            f"{model} cannot be moved to {target}: {error}. Take a smaller model or dtype if memory is short."
        ) from error
    return TransformersRunner(loaded, tokenizer, batch_size=batch_size, sync=sync, seed=seed)


class TransformersRunner:
    """A model with its tokenizer that answers greedily, `batch_size` prompts at a time.

    A batch is done when its longest answer is: rows that have ended are computed on, see `padding`.
    """

    def __init__(
        self, model: Any, tokenizer: Any, *, batch_size: int = 1, sync: bool = False, seed: int | None = None
    ) -> None:
        if batch_size < 1:
            raise UsageError(f"batch_size is {batch_size}, and a batch has at least 1 prompt. Give 1 or more.")
        self._torch, self._transformers = import_engine()
        self._model = model
        self._tokenizer = tokenizer
        self._batch_size = batch_size
        self._sync = sync
        self._seed = seed
        self._context: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        eos = model.generation_config.eos_token_id
        eos = tokenizer.eos_token_id if eos is None else eos
        self._eos_ids = frozenset([] if eos is None else [eos] if isinstance(eos, int) else eos)
        pads = (model.generation_config.pad_token_id, tokenizer.pad_token_id, *sorted(self._eos_ids), 0)
        self._pad_id = next(pad for pad in pads if pad is not None)
        self.reset()

    @classmethod
    def wrap(cls, model: Any, tokenizer: Any, *, batch_size: int = 1) -> "TransformersRunner":
        """Run on a model that someone else loaded, on its device; neither it nor the tokenizer is changed."""
        return cls(model, tokenizer, batch_size=batch_size)

    def describe(self) -> RunnerInfo:
        """Return the model by the name or folder it was loaded from; quantisation is the dtype where there is none."""
        model, config = self._model, self._model.config
        name = config._name_or_path
        folder = Path(name).resolve() if name and Path(name).is_dir() else None
        dtype = str(model.dtype).removeprefix("torch.")
        return RunnerInfo(
            runner="transformers",
            model=(folder.name if folder else name) or type(model).__name__,
            engine_version=f"transformers {self._transformers.__version__}, torch {self._torch.__version__}",
            quantisation=_quantisation(config) or dtype,
            model_file=folder,
            max_batch_size=self._batch_size,
            settings={
                "revision": getattr(config, "_commit_hash", None),  # of what was fetched by name
                "device": str(model.device),
                "dtype": dtype,
                "attention": config._attn_implementation,
                "threads": self._torch.get_num_threads(),
                "batch_size": self._batch_size,
                "context": self._context,
                "sync": self._sync,
                "temperature": 0.0,
                "seed": self._seed,
            },
        )

    def count_tokens(self, text: str) -> int:
        """Return how many input tokens a prompt of this text has."""
        return len(self._ids(text))

    def generate(self, prompts: Sequence[Prompt], sinks: Sequence[RequestSink], cancel: threading.Event) -> None:
        """Answer the prompts greedily, neighbours together: see `Runner.generate`.

        A cancel is noticed at the next token, and not within a prefill. Prompts are computed apart where the
        longest of them and the longest answer would not fit the context together.
        """
        answer_in_batches(prompts, sinks, cancel, self._batch_size, functools.partial(self._answer, cancel))

    def padding(self) -> Padding:
        """Return what was computed for nothing since the last `reset`; its energy is in that of the answers."""
        return Padding(prompt_tokens=self._prompt_padding, decode_tokens=self._decode_padding)

    def reset(self) -> None:
        """Set `padding` to zero; no cache outlives a batch."""
        self._prompt_padding = self._decode_padding = 0

    def close(self) -> None:
        """Let go of the model; its memory is free where nobody else holds it."""
        self._model = None

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, verbose=False).input_ids
        return ids

    def _row(self, prompt: Prompt, sink: RequestSink) -> Row:
        ids = self._ids(prompt.text)
        context = self._context or math.inf
        if not ids:
            raise RunnerError("The prompt has no tokens, and there is nothing to answer. Give it some text.")
        if len(ids) > context:
            raise RunnerError(
                f"The prompt has {len(ids)} tokens and the context holds {context}. "
                "Shorten the prompt or take a model with a larger context."
            )
        # The last token is sampled and never fed back, so it needs no place in the context.
        return Row(prompt, sink, ids, int(min(prompt.max_tokens, context - len(ids) + 1)), self._decode)

    def _decode(self, ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def _answer(self, cancel: threading.Event, asked: Sequence[tuple[Prompt, RequestSink]]) -> None:
        rows = []
        for prompt, sink in asked:
            try:
                rows.append(self._row(prompt, sink))
            except RunnerError as error:
                sink.fail(time.monotonic_ns(), error)
        for batch in self._fitting(rows):
            if cancel.is_set():
                for row in batch:
                    row.end("cancelled")
            else:
                self._compute(batch, cancel)

    def _fitting(self, rows: Sequence[Row]) -> Iterator[list[Row]]:
        # A row that has ended is computed on, at positions which a model may not have beyond its context.
        batch: list[Row] = []
        for row in rows:
            width = max(len(one.input_ids) for one in (*batch, row))
            places = width + max(one.limit for one in (*batch, row)) - 1
            if batch and places > (self._context or math.inf):
                yield batch
                batch = []
            batch.append(row)
        if batch:
            yield batch

    def _compute(self, rows: Sequence[Row], cancel: threading.Event) -> None:
        torch, device = self._torch, self._model.device
        width = max(len(row.input_ids) for row in rows)
        missing = [width - len(row.input_ids) for row in rows]  # on the left: the answer follows on the right
        ids = [[self._pad_id] * n + row.input_ids for n, row in zip(missing, rows, strict=True)]
        mask = [[0] * n + [1] * len(row.input_ids) for n, row in zip(missing, rows, strict=True)]
        inputs = {"input_ids": torch.tensor(ids, device=device), "attention_mask": torch.tensor(mask, device=device)}
        steps = StepCriteria(
            torch, rows, self._eos_ids, cancel, synchronize=self._synchronize, every_step=self._sync
        )  # fmt: skip
        failure: Exception = RunnerError("generate() returned before the answer had ended")
        self._synchronize()
        started_ns = time.monotonic_ns()
        for row in rows:
            row.sink.start(started_ns)
        try:
            self._model.generate(
                **inputs,
                generation_config=self._greedy(max(row.limit for row in rows)),
                stopping_criteria=self._transformers.StoppingCriteriaList([steps]),
            )
        except (RuntimeError, ValueError, IndexError) as error:
            failure = error
        for row in rows:
            if not row.ended:
                row.sink.fail(time.monotonic_ns(), _gave_up(failure))
        self._prompt_padding += sum(missing)
        self._decode_padding += sum(steps.steps - len(row.output) for row in rows)

    def _greedy(self, max_tokens: int) -> Any:
        # Spelt out where a model's own generation_config.json often asks for something else.
        return self._transformers.GenerationConfig(
            do_sample=False,
            temperature=1.0,
            top_k=50,
            top_p=1.0,
            num_beams=1,
            repetition_penalty=1.0,
            max_new_tokens=max_tokens,
            eos_token_id=sorted(self._eos_ids) or None,
            pad_token_id=self._pad_id,
        )

    def _synchronize(self) -> None:
        if self._model.device.type == "cuda":
            self._torch.cuda.synchronize(self._model.device)


def _gave_up(cause: Exception) -> RunnerError:
    reason = next(iter(str(cause).splitlines()), type(cause).__name__)
    error = RunnerError(f"The engine gave up on the batch: {reason}. Try a smaller batch or a shorter prompt.")
    error.__cause__ = cause
    return error


def _quantisation(config: Any) -> str | None:
    """Return method and bits of a quantised model, as its config names them."""
    asked = getattr(config, "quantization_config", None)
    if asked is None:
        return None
    about = asked if isinstance(asked, dict) else asked.to_dict()
    method = str(getattr(about.get("quant_method"), "value", about.get("quant_method", "quantised")))
    bits = about.get("bits") or (4 if about.get("load_in_4bit") else 8 if about.get("load_in_8bit") else None)
    return f"{method} {bits}-bit" if bits else method
