"""Figures as PNG and SVG files, drawn by matplotlib (extra `report`)."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from telemetry.errors import UsageError
from telemetry.reports.figures import Bars, Figure, Line, Mark, Panel, Points, Spans

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, SOFT, FAINT, LOUD = "#16202c", "#55616f", "#d5dae0", "#b3261e"
CYCLE = ("#1f5fbf", "#7a3fb0", "#0f7c8a", "#a8326e", "#7a6200", "#1b7f4b", "#c2510a", "#4b5563")
# What is the same thing in all figures has one colour in all of them.
# The page has its own in page.css, for dark screens too.
COLOURS = {
    "prefill": "#c2510a",
    "decode": "#1b7f4b",
    "waiting": "#8a94a0",
    "idle": "#1f5fbf",
    "unattributed": "#4b5563",
    "other runs": "#a8326e",
    "not told apart": "#7a6200",
    "idle baseline": "#16202c",
    "sensor readings": "#8a94a0",
    "single runs": "#8a94a0",
    "Pareto front": "#55616f",
}
PX = 1 / 100  # inches
LINE = 40  # letters of a row's name, beyond which it takes a second line and the figure keeps its width
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # letters stay letters, to be found and copied
    "svg.hashsalt": "telemetry",  # else the names inside an SVG differ each time
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 9.0,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "text.parse_math": False,  # names may hold dollars
    "figure.facecolor": "white",
}


def save_figures(figures: Sequence[Figure], folder: Path) -> list[Path]:
    """Write each figure as PNG and SVG into a folder, which is made; return the files.

    Raises UsageError where matplotlib is not installed or the folder cannot be written.
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise UsageError("matplotlib is not installed. Get it with pip install 'telemetry[report]'.") from error
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with mpl.rc_context(STYLE):
            for figure in figures:
                drawn = _draw(figure)
                for ending in ("png", "svg"):
                    written.append(folder / f"{figure.key}.{ending}")
                    drawn.savefig(written[-1], dpi=150, metadata={"Date": None} if ending == "svg" else None)
    except OSError as error:
        raise UsageError(
            f"{folder} cannot be written: {error.strerror}. Give another folder with --figures."
        ) from error
    return written


def _draw(figure: Figure) -> Any:
    from matplotlib.figure import Figure as Canvas

    heights = [panel.height for panel in figure.panels]
    canvas = Canvas(figsize=(9.6, (sum(heights) + 50 * len(heights) + 90) * PX), layout="constrained")
    axes = canvas.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    colours = _palette(figure)
    for axis, panel in zip(axes, figure.panels, strict=True):
        for mark in panel.marks:
            _mark(axis, panel, mark, colours[mark.name])
        _lay_out(axis, panel)
    for shade in figure.shades:
        for axis, panel in zip(axes, figure.panels, strict=True):
            for k, (begin, end) in enumerate(shade.x.tolist() if not panel.rows else ()):
                label = f"_{shade.name}" if k else shade.name
                axis.axvspan(begin, end, color=LOUD if shade.loud else SOFT, alpha=0.18, linewidth=0, label=label)
    if figure.x.log:
        axes[-1].set_xscale("log")
    if figure.end_s is not None:
        axes[-1].set_xlim(0.0, figure.end_s)
    axes[-1].set_xlabel(figure.x.label)
    found = {name: handle for axis in axes for handle, name in zip(*axis.get_legend_handles_labels(), strict=True)}
    axes[0].set_title(figure.title, loc="left", color=INK, weight="bold", fontsize=11)
    canvas.legend(found.values(), found.keys(), loc="outside lower left", ncols=5, fontsize=8)
    canvas.align_ylabels()
    if figure.simulated:
        axes[0].set_title("SIMULATED", loc="right", color=LOUD, weight="bold", fontsize=11)
    return canvas


def _palette(figure: Figure) -> dict[str, str]:
    names = dict.fromkeys(mark.name for panel in figure.panels for mark in panel.marks)
    free = [name for name in names if name not in COLOURS]
    return {name: CYCLE[k % len(CYCLE)] for k, name in enumerate(free)} | COLOURS


def _lay_out(axis: "Axes", panel: Panel) -> None:
    axis.grid(visible=True)
    if panel.rows:
        axis.set_yticks(range(len(panel.rows)), [textwrap.fill(name, LINE) for name in panel.rows])
        axis.set_ylim(len(panel.rows) - 0.4, -0.6)
        axis.tick_params(axis="y", length=0)
        if len(panel.rows) > 12 and not any(isinstance(mark, Points | Bars) for mark in panel.marks):
            axis.set_yticks([])
    elif panel.y.log:
        axis.set_yscale("log")
    elif panel.y.zero:
        axis.set_ylim(bottom=0.0)
    axis.set_ylabel(panel.y.label)


def _mark(axis: "Axes", panel: Panel, mark: Mark, colour: str) -> None:
    match mark:
        case Line():
            if mark.lo is not None and mark.hi is not None:
                axis.fill_between(mark.x, mark.lo, mark.hi, color=colour, alpha=0.22, linewidth=0)
            width, style, order = (0.8, "-", 2) if mark.faint else (1.6, "--" if mark.dashed else "-", 3)
            axis.plot(mark.x, mark.y, color=colour, linewidth=width, linestyle=style, zorder=order, label=mark.name)
        case Bars():
            before = [each.x for each in panel.marks if isinstance(each, Bars)]
            before = before[: next(k for k, each in enumerate(before) if each is mark.x)]
            left = np.nansum([np.zeros(len(mark.x)), *before], axis=0)
            axis.barh(
                np.arange(len(mark.x)), np.nan_to_num(mark.x), left=left, height=0.6, color=colour, label=mark.name
            )
        case Spans():
            axis.barh(mark.row, mark.x1 - mark.x0, left=mark.x0, height=0.7, color=colour, label=mark.name)
        case Points():
            _points(axis, panel, mark, colour)


def _points(axis: "Axes", panel: Panel, mark: Points, colour: str) -> None:
    def around(middle: Any, lo: Any, hi: Any) -> Any:
        return None if lo is None else np.nan_to_num(np.array([middle - lo, hi - middle])).clip(0)

    axis.errorbar(
        mark.x,
        mark.y,
        xerr=around(mark.x, mark.x_lo, mark.x_hi),
        yerr=around(mark.y, mark.y_lo, mark.y_hi),
        linestyle="none",
        marker="o",
        markersize=4 if mark.faint else 6,
        alpha=0.7 if mark.faint else 1.0,
        capsize=3,
        color=colour,
        label=mark.name,
        zorder=4,
    )
    if panel.rows or mark.faint or len(mark.x) > 12:
        return
    for x, y, label in zip(mark.x, mark.y, mark.labels, strict=True):
        right = 2 * x > np.nanmin(mark.x) + np.nanmax(mark.x)
        axis.annotate(label, (x, y), xytext=(-6 if right else 6, 7), textcoords="offset points", va="center",
                      ha="right" if right else "left", fontsize=8, color=INK)  # fmt: skip
