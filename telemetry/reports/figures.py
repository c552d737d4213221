"""Figures as data: what they show, with units and intervals, apart from how they are drawn.

A figure is one or more panels, one below the other on a common horizontal axis; a panel holds marks. All arrays
of a mark have one length, and NaN is a place without a value: no line crosses it.
"""

from dataclasses import dataclass, field

import numpy as np

from telemetry.analysis.rows import Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """A quantity and its unit; `log` where values lie far apart, `zero` where the axis has to begin at 0."""

    name: str
    unit: str = ""
    log: bool = False
    zero: bool = False

    @property
    def label(self) -> str:
        """The axis' title: the quantity and its unit."""
        return f"{self.name}, {self.unit}" if self.unit else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """Points with a label each, and intervals in both directions where they are known."""

    name: str
    x: Floats
    y: Floats
    x_lo: Floats | None = None
    x_hi: Floats | None = None
    y_lo: Floats | None = None
    y_hi: Floats | None = None
    labels: tuple[str, ...] = ()
    faint: bool = False
    kind: str = "points"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line, and the band between `lo` and `hi`; `faint` for what stands behind another."""

    name: str
    x: Floats
    y: Floats
    lo: Floats | None = None
    hi: Floats | None = None
    dashed: bool = False
    faint: bool = False
    kind: str = "line"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """One part of horizontal bars, a value for each row of the panel; the parts of a panel are stacked."""

    name: str
    x: Floats
    kind: str = "bars"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spans:
    """Stretches of the horizontal axis, each on a row of the panel, counted from 0 at the top."""

    name: str
    row: Floats
    x0: Floats
    x1: Floats
    kind: str = "spans"


Mark = Points | Line | Bars | Spans


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One drawing. `rows`: the names along a vertical axis that has no numbers, the first at the top."""

    y: Axis
    marks: tuple[Mark, ...]
    rows: tuple[str, ...] = ()
    height: int = 200  # px on the page


@dataclass(frozen=True, slots=True, kw_only=True)
class Shade:
    """Stretches of time that are shaded behind all panels; `loud` where they speak against the rest. x: (n, 2)."""

    name: str
    x: Floats
    loud: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure with all that explains it. `key`: the name of its files.

    caption: what it shows and what its bands mean.  sql: statements that give its numbers, or what they are worked
    out from, out of the store.  simulated: no hardware was measured for it, or not for all of it.
    end_s: where an axis of time ends; None for other axes.
    """

    key: str
    title: str
    x: Axis
    panels: tuple[Panel, ...]
    caption: str
    sql: tuple[str, ...]
    simulated: bool
    end_s: float | None = None
    shades: tuple[Shade, ...] = field(default=())


def floats(values: object) -> Floats:
    """Return numbers as an array; None becomes NaN."""
    return np.array(values, dtype=np.float64)


def spread_out(values: Floats) -> bool:
    """Tell whether positive values lie so far apart that a logarithmic axis shows them better."""
    known = values[np.isfinite(values)]
    return bool(len(known) and known.min() > 0 and known.max() > 20 * known.min())
