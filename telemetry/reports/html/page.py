"""The page: a report, its figures and what stands behind them, in one file without a single request."""

import base64
import hashlib
import importlib.resources
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from telemetry.analysis.rows import Floats
from telemetry.errors import UsageError
from telemetry.reports.figures import Figure
from telemetry.reports.figures_runs import group_name, ranked_settings
from telemetry.reports.html.answers import answers, headline
from telemetry.reports.render import run_cells
from telemetry.reports.wording import format_number, interval, per_output_token, printable, report_notes, simulated_line
from telemetry.storage.provenance import Provenance

Document = Mapping[str, Any]

MOST_RUNS = 500  # in the table of the page; CSV and JSON hold all
SCRIPTS = ("echarts/echarts.min.js", "page.js")


def to_html(report: Document, figures: Sequence[Figure], notes: Sequence[str], behind: Provenance) -> str:
    """Return the page. notes: what no figure shows, and why. Raises UsageError where Jinja2 is not installed."""
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError as error:
        raise UsageError("Jinja2 is not installed. Get it with pip install 'telemetry[report]'.") from error
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    scripts = [_text(name) for name in SCRIPTS]
    runs = report["runs"][-MOST_RUNS:]
    head, rows = run_cells(runs)
    return environment.from_string(_text("page.html.jinja")).render(
        report=report,
        headline=headline(report),
        answers=answers(report),
        simulated=simulated_line(report),
        figures=figures,
        notes=notes,
        # Inside a script element only `<` could end it.
        data=orjson.dumps(figures, default=_shortened).decode().replace("<", "\\u003c"),
        style=_text("page.css"),
        scripts=scripts,
        policy="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src "
        + " ".join(f"'sha256-{_digest(script)}'" for script in scripts),
        groups=[_group(group) for group, _ in ranked_settings(report)],
        ranked_by=per_output_token(report["groups"]),
        head=[*head, ("verdict",)],
        rows=[[*cells, _verdict(run)] for cells, run in zip(rows, runs, strict=True)],
        warmups=[run["warmup"] for run in runs],
        left_out=len(report["runs"]) - len(runs),
        remarks=report_notes(report),
        behind=behind,
        pretty=_pretty,
        number=format_number,
        printable=printable,
    )


def _group(group: Document) -> tuple[str, ...]:
    per = group["j_per_output_token"]
    return (
        str(group["rank"]),
        group_name(group["by"]),
        str(group["n_runs"]),
        interval(per["mean"], per["ci_lo"], per["ci_hi"]),
        "; ".join(group_name(by) for by in group["tied_with"]),
    )


def _verdict(run: Document) -> tuple[str, ...]:
    ended = () if run["status"] == "ok" else (f"{run['status']}: {printable(run['error'])}",)
    judged = ("publishable",) if run["verdict"]["publishable"] else ("not publishable", *run["verdict"]["reasons"])
    return ended + judged


def _shortened(values: Floats) -> list[Any]:
    """Return an array as nested lists of six significant digits, more than a figure shows; NaN becomes null."""
    return [_shortened(v) for v in values] if values.ndim > 1 else [float(f"{v:.6g}") for v in values]


def _pretty(value: object) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _text(name: str) -> str:
    return importlib.resources.files("telemetry.reports.html").joinpath(name).read_text(encoding="utf-8")
