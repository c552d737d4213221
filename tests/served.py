"""Runs with requests in a store of simulated GPUs, in virtual time."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from recorded import S, record
from virtual_gpus import BOOTED_S, EPOCH_NS

from telemetry.model import RequestRow, Run, TokenChunk
from telemetry.storage.store import open_store

START_NS = EPOCH_NS + round(BOOTED_S * S)
Prompt = tuple[float, float, float, int, int]  # taken up, first token, end, s; tokens in and out


def at_ns(seconds: float) -> int:
    """Return the steady time of a second of the wave."""
    return START_NS + round(seconds * S)


def row(run: str, number: int, prompt: Prompt, **changes: Any) -> RequestRow:
    """Return an answered request as a recorder writes it."""
    start, first, end, given, made = prompt
    known: dict[str, Any] = {
        **{"run": run, "number": number, "submitted_ns": at_ns(start), "started_ns": at_ns(start)},
        **{"first_token_ns": at_ns(first), "last_token_ns": at_ns(end), "ended_ns": at_ns(end)},
        **{"input_tokens": given, "cached_tokens": 0, "output_tokens": made, "finish_reason": "stop"},
        **{"count_source": "ids", "status": "ok", "error": None},
    }
    return RequestRow(**known | changes)


def tokens(run: str, number: int, prompt: Prompt) -> TokenChunk:
    """Return the times of a request's tokens, evenly from its first to its end."""
    _, first, end, _, made = prompt
    gap_us = int((end - first) * 1e6 / max(made - 1, 1))
    return TokenChunk(
        run=run, request=number, first_index=0, kind="token", start_ns=at_ns(first), gaps_us=(gap_us,) * (made - 1)
    )


async def serve(
    path: Path,
    runtime_dir: Path,
    spec: str,
    runs: Sequence[tuple[str, float, float, Sequence[Prompt]]],
    **about: Any,
) -> None:
    """Record GPUs, and runs on all of them: (uid, from, to, s of the wave, its requests). `about`: of `Run`."""
    await record(path, runtime_dir, spec, [("around", 0.0, max(to_s for _, _, to_s, _ in runs))])
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript("DELETE FROM run_device; DELETE FROM run;")
    async with await open_store(path) as store:
        devices = tuple(uid for (uid,) in await store.fetch("SELECT uid FROM device ORDER BY id"))
        for uid, from_s, to_s, prompts in runs:
            told: dict[str, Any] = {"model": "m", "runner": "r", "devices": devices} | about
            await store.start_run(Run(uid=uid, start_ns=at_ns(from_s), **told))
            await store.write_events(
                [row(uid, k, prompt) for k, prompt in enumerate(prompts)],
                [tokens(uid, k, prompt) for k, prompt in enumerate(prompts) if prompt[4]],
                (uid, at_ns(to_s), "ok", None),
            )
