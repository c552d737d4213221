"""A comparison (docs/json.md) as table, CSV and Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from telemetry.reports.flat import rows_csv
from telemetry.reports.render import Fields, document_markdown, entries_markdown, entries_table, loud
from telemetry.reports.wording import SIMULATED, format_number, interval, printable, sentence

Document = Mapping[str, Any]

_EFFECTS: Fields = {
    "quantity": lambda one: f"{printable(one['quantity'])}, {printable(one['unit'])}",
    "A": lambda one: interval(*(one["a"][key] for key in ("value", "ci_lo", "ci_hi"))),
    "B": lambda one: interval(*(one["b"][key] for key in ("value", "ci_lo", "ci_hi"))),
    "B against A": lambda one: _percent(one["ratio"], one["ratio_lo"], one["ratio_hi"]),
    "p (Holm)": lambda one: format_number(one["p_holm"]),
    "smallest effect": lambda one: format_number(one["detectable"] and one["detectable"] * 100, "%"),
    "B is": lambda one: printable(one["conclusion"]),
}
_DIFFERS: Fields = {
    "what differs": lambda one: printable(one["what"]),
    "in A": lambda one: printable(one["a"]),
    "in B": lambda one: printable(one["b"]),
}
_STACKS = (("quantity",), ("A", "B"), ("B against A",), ("p (Holm)", "smallest effect"), ("B is",))
_CSV = (
    *("quantity", "unit", "a", "a_ci_lo", "a_ci_hi", "a_n", "b", "b_ci_lo", "b_ci_hi", "b_n"),
    *("ratio", "ratio_lo", "ratio_hi", "method", "p", "p_holm", "p_equivalent", "detectable", "calibration", "floor"),
    *("conclusion", "simulated"),
)


def compare_table(document: Document, console: Console) -> None:
    """Print what is compared, what differs, the effects and what follows."""
    loud(_simulated(document), console)
    for line in _head(document):
        console.print(Text(line))
    if document["differs"]:
        console.print(entries_table(document["differs"], _DIFFERS))
    console.print(entries_table(_effects(document), _EFFECTS, _STACKS))
    for line in _notes(document):
        console.print(Text(line))


def compare_markdown(document: Document) -> str:
    """Return a comparison as Markdown, for a pull request or a report."""
    parts = ["\n".join(f"- {line}" for line in _head(document))]
    if document["differs"]:
        parts.append(entries_markdown(document["differs"], _DIFFERS))
    parts.append(entries_markdown(_effects(document), _EFFECTS))
    return document_markdown(_simulated(document), parts, _notes(document))


def compare_csv(document: Document) -> str:
    """Return a header and one row a quantity."""
    rows = (
        [
            *(one["quantity"], one["unit"]),
            *(one[side][key] for side in ("a", "b") for key in ("value", "ci_lo", "ci_hi", "n")),
            *(one[key] for key in _CSV[10:-1]),
            document["simulated"],
        ]
        for one in _effects(document)
    )
    return rows_csv(_CSV, rows)


def _effects(document: Document) -> Sequence[Document]:
    return [{"quantity": name, **found} for name, found in document["quantities"].items()]


def _percent(ratio: float, lo: float | None, hi: float | None) -> str:
    """Return a ratio as a change: `+5.1 [+3.0..+7.2] %`."""
    point, low, high = (None if r is None else f"{(r - 1) * 100:+.3g}" for r in (ratio, lo, hi))
    return f"{point} %" if low is None else f"{point} [{low}..{high}] %"


def _head(document: Document) -> list[str]:
    return [
        f"{one['label']}: {one['model'] or 'no model'}, {len(one['runs'])} run{'s' * (len(one['runs']) != 1)}, "
        f"batch {one['batch_size']}, concurrency {one['concurrency']}, "
        f"environment {one['environment'] or 'not recorded'}"
        for one in (document["a"], document["b"])
    ]


def _notes(document: Document) -> list[str]:
    effects = document["quantities"]
    notes = ["Intervals say how well runs repeat, at 95 %."]
    if (energy := effects.get("j_per_output_token")) and energy["timing"]:
        low, high = ((limit - 1) * 100 for limit in energy["timing"])
        notes[0] += (
            f" Apart from that, the bounds of the runs' energies allow J/token from {low:+.3g} to {high:+.3g} %."
        )
    if any(found["calibration"] for found in effects.values()):
        notes.append("A and B ran on different boards: nothing below 7.8 % is told from their sensors' calibration.")
    if any(found["conclusion"] == "not resolvable" for found in effects.values()):
        notes.append("Not resolvable: these runs would have shown `smallest effect`, at 80 %; more runs show less.")
    reasons = document["verdict"]["reasons"]
    told = " ".join(sentence(reason) for reason in reasons)
    notes.append("Publishable." if not reasons else f"Not publishable. {told} ({', '.join(reasons)})")
    for limit in document["limits"]:
        state = "broken" if limit["broken"] else "beyond, but not told from noise" if limit["beyond"] else "kept"
        notes.append(f"{limit['limit']}: {state}, B is {limit['effect'] * 100:+.3g} %.")
    return notes


def _simulated(document: Document) -> str | None:
    return SIMULATED.format("this comparison") if document["simulated"] else None
