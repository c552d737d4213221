"""The percentiles that llmperf published of its own requests: ours are the same, and the report prints some of them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from telemetry.analysis.statistics import percentile
from telemetry.join import Boards, report
from telemetry.model import RequestRow, Run, TokenChunk
from telemetry.storage.store import open_store

DATA = Path(__file__).parent / "data"
MODELS = ("anyscale_7b", "fireworks_70b")
S = 1_000_000_000


def requests_of(model: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((DATA / f"llmperf_{model}_requests.json").read_text(encoding="utf-8"))
    assert len(found) == 150
    return found


def published(model: str) -> dict[tuple[str, int], float]:
    """Return the published percentiles by quantity and per cent."""
    summary = json.loads((DATA / f"llmperf_{model}_summary.json").read_text(encoding="utf-8"))
    named = {re.fullmatch(r"results_(\w+)_quantiles_p(\d+)", key): value for key, value in summary.items()}
    return {(key[1], int(key[2])): value for key, value in named.items() if key}


@pytest.mark.parametrize("model", MODELS)
def test_all_published_percentiles_come_out_again(model: str) -> None:
    requests, expected = requests_of(model), published(model)
    assert len(expected) == 6 * 6  # of six quantities p25, p50, p75, p90, p95, p99
    for (quantity, q), value in expected.items():
        assert percentile([r[quantity] for r in requests], q) == pytest.approx(value, rel=1e-9, abs=0.0), quantity


@pytest.mark.parametrize("model", MODELS)
async def test_the_report_prints_those_that_150_requests_allow(tmp_path: Path, model: str) -> None:
    expected = published(model)
    async with await open_store(tmp_path / "t.db") as store:
        start_ns = store.clock.now_ns()
        await store.start_run(Run(uid="run", model="m", runner="import", start_ns=start_ns))
        rows, chunks = [], []
        for number, r in enumerate(requests_of(model)):
            first_ns, end_ns = (start_ns + round(r[key] * S) for key in ("ttft_s", "end_to_end_latency_s"))
            rows.append(
                RequestRow(
                    run="run", number=number, status="ok", finish_reason="length", count_source="server",
                    submitted_ns=start_ns, started_ns=start_ns, ended_ns=end_ns,
                    first_token_ns=first_ns, last_token_ns=first_ns, cached_tokens=0,
                    input_tokens=r["number_input_tokens"], output_tokens=r["number_output_tokens"],
                )
            )  # fmt: skip
            chunks.append(
                TokenChunk(run="run", request=number, first_index=0, kind="token", start_ns=first_ns, gaps_us=())
            )
        await store.write_events(rows, chunks, ("run", start_ns + 10 * S, "ok", None))
        (run,) = (await report(store, boards=Boards()))["runs"]
    for name, quantity in (("ttft_s", "ttft_s"), ("e2e_s", "end_to_end_latency_s")):
        assert run[name]["n"] == 150
        for q in (50, 90, 95):
            assert run[name][f"p{q}"] == pytest.approx(expected[quantity, q], abs=1e-9)
        assert run[name]["p99"] is None  # it would take 299
