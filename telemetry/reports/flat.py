"""Report, window and list as CSV: flat names with their units, one row a run or device.

What is null is an empty cell, never a 0; flags and reasons are joined by `;`.
"""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Document = Mapping[str, Any]

_ENERGY = ("value_j", "lo_j", "hi_j", "method", "grade", "net_j", "baseline")
_LATENCY = ("mean", "p50", "p90", "p95", "p99", "n")
_LIST_CSV = ("run", "name", "model", "start", "duration_s", "status", "simulated")
_RUN_CSV: Mapping[str, tuple[str, ...]] = (
    {
        name: (name,)
        for name in (
            *("run", "name", "model", "runner", "batch_size", "concurrency", "warmup", "simulated"),
            *("status", "start", "duration_s", "boundary", "avg_power_w", "peak_power_w"),
            *("input_tokens", "output_tokens", "tokens_per_s"),
        )
    }
    | {f"energy_{key}": ("energy", key) for key in _ENERGY}
    | {f"requests_{key}": ("requests", key) for key in ("ok", "failed")}
    | {
        f"{name}_{key}": (name, key)
        for name in ("j_per_output_token", "j_per_total_token", "j_per_request")
        for key in ("value", "lo", "hi")
    }
    | {f"j_per_request_{key}": ("j_per_request", key) for key in ("p50", "p90", "p95", "p99", "of")}
    | {f"j_per_input_token_{key}": ("j_per_input_token", key) for key in ("value", "lo", "hi")}
    | {f"j_per_token_windowed_{key}": ("j_per_token", key) for key in ("p50", "p90", "p95", "p99", "n")}
    | {
        name: (name,)
        for name in (
            *(
                "experiment",
                "setting",
                "environment",
                "unattributed_j",
                "mean_running_requests",
                "tokens_per_s_per_w",
                "edp_js",
            ),
            *("efficiency_class", "pct_of_power_limit"),
        )
    }
    | {
        (f"{name}_{key}_s" if key != "n" else f"{name}_n"): (f"{name}_s", key)
        for name in ("ttft", "tpot", "itl", "e2e")
        for key in _LATENCY
    }
    | {
        f"{phase}_{key}_j": ("phases", f"{phase}_j", key)
        for phase in ("prefill", "decode")
        for key in ("value", "lo", "hi")
    }
    | {"phases_label": ("phases", "label")}
    | {"flags": ("flags",), "publishable": ("verdict", "publishable"), "reasons": ("verdict", "reasons")}
)


def to_csv(report: Document) -> str:
    """Return a header and one row a run; flags and reasons are joined by `;`, null is an empty cell."""
    return rows_csv(list(_RUN_CSV), ([_at(run, path) for path in _RUN_CSV.values()] for run in report["runs"]))


def window_csv(window: Document) -> str:
    """Return a header and one row a device, and a last row with device `total` for the whole window."""
    header = ["from", "to", "duration_s", "device", "name"]
    header += [f"energy_{key}" for key in _ENERGY] + ["avg_power_w", "peak_power_w", "flags", "simulated"]
    total = {"uid": "total", "name": None, "energy": window["energy"]}
    rows = (
        [
            *(window[key] for key in ("from", "to", "duration_s")),
            *(device["uid"], device["name"]),
            *(device["energy"][key] for key in _ENERGY),
            *(device.get(key) for key in ("avg_power_w", "peak_power_w")),
            *(window["flags"], window.get("simulated")),
        ]
        for device in (*window["devices"], total)
    )
    return rows_csv(header, rows)


def list_csv(listing: Document) -> str:
    """Return a header and one row a run."""
    return rows_csv(_LIST_CSV, ([run[key] for key in _LIST_CSV] for run in listing["runs"]))


def _at(entry: Document, path: Sequence[str]) -> object:
    value: Any = entry
    for key in path:
        value = None if value is None else value.get(key)
    return value


def rows_csv(header: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """Return a header and rows; null is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_csv_cell(value) for value in row] for row in rows)
    return text.getvalue()


def _csv_cell(value: object) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return ";".join(value) if isinstance(value, list | tuple) else value
