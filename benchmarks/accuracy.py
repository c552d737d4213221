"""Plays known loads to an exactly known sensor: how far each estimator is off, and how wide the bounds are.

Run it as `python benchmarks/accuracy.py`; it takes one to two minutes and needs no GPU, but matplotlib (the extra
`report`). It rewrites the figures of docs/accuracy.md and prints its tables. All seeds are fixed.
"""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

# The sensor is that of the golden tests: it shares no code with the package.
sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

from sensor import EPOCH_NS, MS, S, Sensor, load, poll_times, record, square

from telemetry.analysis import EnergyCurve, Rows, SensorProfile, power_limits
from telemetry.analysis.curve import Method

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
Pieces = Sequence[tuple[float, ...]]  # (seconds, W) or (seconds, W, W)

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "figures"
FIGURES = ("accuracy-signals.svg", "accuracy-error.svg", "accuracy-bounds.svg")  # as in the page
PHASES = range(100)  # between load and sensor, ms: all of a publish period
JITTER_NS = 2 * MS  # of each publish, either way
LIMITS = power_limits(limit_w=700.0, min_instant_w=None, max_instant_w=None, name="NVIDIA H200")
LENGTHS_S = (0.04, 0.063, 0.1, 0.16, 0.25, 0.4, 0.63, 1.0, 1.6, 2.5, 4.0, 10.0, 25.0, 60.0)
WIDTH_LENGTHS_S = (0.04, 0.1, 0.25, 0.4, 0.63, 1.0, 1.6, 4.0, 10.0, 60.0)
MARKED_S = (0.04, 0.1, 0.25, 1.0, 4.0, 10.0, 25.0, 60.0)  # on the axes
SHOWN_S = (0.04, 0.25, 1.0, 4.0, 10.0, 60.0)  # in the tables
POWERS_W = (137.0, 300.0, 500.0, 700.0)
EDGE_POWERS_W = tuple(float(power_w) for power_w in range(400, 801, 50))  # one of them has the widest bounds
EDGE_RUN_S = 2.0
MIN_VALUES = 0.8  # of the phases at which an estimator must have a value to be shown at all
GRADES = {"A": 1.0, "B": 5.0, "C": 20.0}  # half-width, % of the energy


# Loads


def bursts(seconds: float, seed: int) -> Pieces:
    """Return 30 ms at 700 W after gaps at 120 W, of 0.17 s in the mean and random length, cut off at the end."""
    rng = np.random.default_rng(seed)
    pieces: list[tuple[float, float]] = []
    left_s = seconds
    while left_s > 1e-9:
        for length_s, power_w in ((float(rng.exponential(0.17)), 120.0), (0.03, 700.0)):
            pieces.append((min(length_s, left_s), power_w))
            left_s = max(left_s - length_s, 0.0)
    return [piece for piece in pieces if piece[0] > 1e-6]


def step(seconds: float, _seed: int, power_w: float = 500.0) -> Pieces:
    """Return one stretch of constant power."""
    return [(seconds, power_w)]


SWEPT: dict[str, Callable[[float, int], Pieces]] = {"step": step, "bursts": bursts}
CASES: dict[str, Callable[[int], Pieces]] = {
    "500 W for 10 s": lambda _: [(10.0, 500.0)],
    "500 W for 1 s": lambda _: [(1.0, 500.0)],
    "600 W for 0.25 s": lambda _: [(0.25, 600.0)],
    "650 W for 0.04 s": lambda _: [(0.04, 650.0)],
    "ramp from 100 to 700 W in 5 s": lambda _: [(5.0, 100.0, 700.0)],
    "0.3 s at 650 W and 1.2 s at 280 W, 8 times": lambda _: [(0.3, 650.0), (1.2, 280.0)] * 8,
    "18 ms at 420 W and 7 ms at 250 W, for 30 s": lambda _: [(0.018, 420.0), (0.007, 250.0)] * 1200,
    "bursts of 30 ms at 700 W over 120 W, for 20 s": partial(bursts, 20.0),
    "100 and 600 W, 10 ms each, for 20 s": lambda _: square(600.0, 100.0, period_s=0.02, seconds=20.0),
    "100 and 600 W, 50 ms each, for 20 s": lambda _: square(600.0, 100.0, period_s=0.1, seconds=20.0),
}


# One run, seen by the sensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A load between idle, from 0 to end_ns, and the sensor that saw it."""

    sensor: Sensor
    end_ns: int
    phase: int

    @classmethod
    def of(cls, pieces: Pieces, phase: int, *, idle_w: float = 80.0, part_time: bool = False) -> "Trial":
        """Return the trial at a phase, ms. A part-time counter adds up INSTANT, so it is published with it."""
        wave = load(pieces, idle_w=idle_w)
        counter_ms = phase if part_time else (phase + 37) % 100
        sensor = Sensor(
            truth=wave,
            phase_ns=phase * MS,
            counter_phase_ns=counter_ms * MS,
            jitter_ns=JITTER_NS,
            part_time=part_time,
            seed=phase,
        )
        return cls(sensor=sensor, end_ns=int(wave.at_ns[-2]), phase=phase)

    @property
    def true_j(self) -> float:
        """The energy that the sensor integrates, J, in closed form."""
        return self.sensor.truth.between_j(0, self.end_ns)

    def rows(self) -> Rows:
        """Return what a collector stores that polls every 20 ms ± 30 %."""
        times = poll_times(-3 * S, self.end_ns + 4 * S, seed=self.phase)
        return Rows.of(record(self.sensor, times, seed=self.phase).rows)

    def rows_at_edges(self) -> Rows:
        """Return the rows within 2.5 s of either edge: all that the counter's estimators look at."""
        times = poll_times(-3 * S, self.end_ns + 3 * S, seed=self.phase)
        times = times[(times < 3 * S) | (times > self.end_ns - 3 * S)]
        near = record(self.sensor, times, seed=self.phase).near(0, self.end_ns)
        return Rows.concat([Rows.of(rows) for rows in near])

    def ask(self, curve: EnergyCurve, method: Method) -> tuple[float, float, float]:
        """Return value, lo and hi, J; NaN for what there is not."""
        found = curve.energy(np.array([EPOCH_NS]), np.array([EPOCH_NS + self.end_ns]), method)
        return float(found.value_j[0]), float(found.lo_j[0]), float(found.hi_j[0])


def curve_of(rows: Rows, sensor: SensorProfile | None = None) -> EnergyCurve:
    """Return the curve of a device with a counter."""
    return EnergyCurve.of(rows, path="counter", limits=LIMITS, sensor=sensor)


# Estimators


def polled(trial: Trial, every_ns: int) -> NDArray[np.int64]:
    """Return the times of polls from the start of the run on, and its end."""
    return np.unique(np.append(np.arange(0, trial.end_ns, every_ns), trial.end_ns))


def average_each_second(trial: Trial) -> float:
    """Return AVERAGE read once a second times the second it was read in, summed, J."""
    t_ns = polled(trial, S)
    return float(np.sum(trial.sensor.average_mw(t_ns)[:-1] * np.diff(t_ns))) * 1e-12


def average_trapezoid(trial: Trial) -> float:
    """Return the trapezoid over AVERAGE read ten times a second, J."""
    t_ns = polled(trial, S // 10)
    return float(np.trapezoid(trial.sensor.average_mw(t_ns), t_ns)) * 1e-12


def instant_trapezoid(trial: Trial) -> float:
    """Return the trapezoid over INSTANT read ten times a second, J."""
    t_ns = polled(trial, S // 10)
    return float(np.trapezoid(trial.sensor.instant_mw(t_ns), t_ns)) * 1e-12


def counter_difference(trial: Trial) -> float:
    """Return the counter read at the end less the counter read at the start, J."""
    return float(np.diff(trial.sensor.counter_mj(np.array([0, trial.end_ns])))[0]) * 1e-3


NAIVE: dict[str, Callable[[Trial], float]] = {
    "AVERAGE each 1 s, summed": average_each_second,
    "AVERAGE each 0.1 s, trapezoid": average_trapezoid,
    "INSTANT each 0.1 s, trapezoid": instant_trapezoid,
    "counter, two reads": counter_difference,
}
OURS: dict[str, Method] = {
    "AVERAGE extended": "average-extended",
    "INSTANT trapezoid": "instant-trapezoid",
    "LINEAR": "linear",
    "PLATEAU": "plateau",
    "PAD": "pad",
}


# Sweeps over the phases


def errors_pct(name: str, seconds: float) -> dict[str, Floats]:
    """Return each estimator's |error| at every phase, (phases,), % of the energy; NaN where it has no value."""
    found: dict[str, list[float]] = {each: [] for each in (*NAIVE, *OURS)}
    for phase in PHASES:
        trial = Trial.of(SWEPT[name](seconds, phase), phase)
        curve = curve_of(trial.rows())
        values = {each: naive(trial) for each, naive in NAIVE.items()}
        values |= {each: trial.ask(curve, method)[0] for each, method in OURS.items()}
        for each, value_j in values.items():
            found[each].append(100.0 * abs(value_j / trial.true_j - 1.0))
    return {each: np.array(errors) for each, errors in found.items()}


def half_widths_j(power_w: float, seconds: float, idle_w: float = 80.0) -> Floats:
    """Return half of the enclosure's width at every phase, (phases,), J, of constant power between idle."""
    halves = []
    for phase in PHASES:
        trial = Trial.of(step(seconds, phase, power_w), phase, idle_w=idle_w)
        _, lo_j, hi_j = trial.ask(curve_of(trial.rows_at_edges()), "auto")
        halves.append((hi_j - lo_j) / 2.0)
    return np.array(halves)


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """Of one load and counter: PLATEAU's |errors|, (phases,), %, and in which share of phases bounds hold, %."""

    errors_pct: Floats
    held_pct: float
    widened_held_pct: float  # by bounds that know of the part-time counter

    @classmethod
    def of(cls, case: str, *, part_time: bool) -> "Coverage":
        """Sweep the phases."""
        profiles = (SensorProfile(), SensorProfile(counter_window_ns=25 * MS))
        errors: list[float] = []
        held: list[list[bool]] = []
        for phase in PHASES:
            trial = Trial.of(CASES[case](phase), phase, part_time=part_time)
            # Widening looks at the counter's steps all through the run.
            rows = trial.rows() if part_time else trial.rows_at_edges()
            found = [trial.ask(curve_of(rows, profile), "plateau") for profile in profiles]
            errors.append(100.0 * abs(found[0][0] / trial.true_j - 1.0))
            held.append([lo_j <= trial.true_j <= hi_j for _, lo_j, hi_j in found])
        as_if_full, widened = 100.0 * np.mean(held, axis=0)
        return cls(errors_pct=np.array(errors), held_pct=float(as_if_full), widened_held_pct=float(widened))


# Tables


def percent(value: float) -> str:
    """Return a number with two digits, as far as they mean something."""
    if not np.isfinite(value):
        return "–"
    if value < 0.001:
        return "< 0.001"
    return f"{value:.0f}" if value >= 99.5 else f"{value:.2g}"


def line(*cells: str) -> str:
    """Return a line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def head(*cells: str) -> list[str]:
    """Return the head of a Markdown table."""
    return [line(*cells), "|" + "---|" * len(cells)]


ERROR_HEAD = head("run", *NAIVE, *OURS)
COVERAGE_HEAD = head(
    "load",
    "full: bounds hold",
    "full: PLATEAU",
    "part: bounds hold",
    "part: widened bounds hold",
    "part: PLATEAU",
)
DURATION_HEAD = head("mean power", *(f"±{pct:g} % (grade {grade})" for grade, pct in GRADES.items()))


def middle_and_worst(errors: Floats) -> str:
    """Return median and worst, and at how many phases there is a value where that is not at all of them."""
    known = errors[np.isfinite(errors)]
    if len(known) < MIN_VALUES * len(errors):
        return "–"
    count = "" if len(known) == len(errors) else f" ({len(known)})"
    return f"{percent(float(np.median(known)))} / {percent(float(np.max(known)))}{count}"


def error_line(seconds: float, errors: dict[str, Floats]) -> str:
    """Return a line of the table of errors."""
    return line(f"{seconds:g} s", *(middle_and_worst(each) for each in errors.values()))


def coverage_line(case: str, full: Coverage, part: Coverage) -> str:
    """Return a line of the table of coverage."""
    return line(
        case,
        f"{full.held_pct:.0f} %",
        middle_and_worst(full.errors_pct),
        f"{part.held_pct:.0f} %",
        f"{part.widened_held_pct:.0f} %",
        middle_and_worst(part.errors_pct),
    )


def duration_line(power_w: float, widths_j: dict[float, Floats], widest_j: float) -> str:
    """Return a line of the table of how long to run: with edges at their worst, and between idle.

    widths_j: by length of the run, s, rising.  widest_j: the widest that edges alone can make it.
    """
    cells = []
    for pct in GRADES.values():
        at_worst_s = widest_j / power_w / (pct / 100.0)
        cells.append(f"{at_worst_s:.2g} s ({reached_s(power_w, widths_j, pct):.2g} s)")
    return line(f"{power_w:g} W", *cells)


def reached_s(power_w: float, widths_j: dict[float, Floats], pct: float) -> float:
    """Return the length at which the worst phase comes down to a percentage, between the lengths tried."""
    log_pct = [np.log(100.0 * np.max(each) / power_w / t) for t, each in widths_j.items()]
    return float(np.exp(np.interp(-np.log(pct), -np.array(log_pct), np.log(list(widths_j)))))


# Figures

INK, GREY, FAINT = "#1a1a1a", "#595959", "#d9d9d9"
BLUE, ORANGE, GREEN, RED, PURPLE = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#b0558f"  # Okabe and Ito
LOOKS = {  # colour and marker
    "AVERAGE each 1 s, summed": (RED, "s"),
    "AVERAGE each 0.1 s, trapezoid": (ORANGE, "D"),
    "INSTANT each 0.1 s, trapezoid": (PURPLE, "^"),
    "counter, two reads": (BLUE, "o"),
    "AVERAGE extended": (ORANGE, "D"),
    "INSTANT trapezoid": (PURPLE, "^"),
    "LINEAR": (BLUE, "o"),
    "PLATEAU": (INK, "v"),
    "PAD": (GREEN, "P"),
}
POWER_LOOKS = {137.0: (RED, "s"), 300.0: (ORANGE, "D"), 500.0: (GREEN, "^"), 700.0: (BLUE, "o")}
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "accuracy",  # else the names inside an SVG differ each time
    "font.family": "DejaVu Sans",  # comes with matplotlib; letters are drawn as paths and look alike anywhere
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.5,
    "lines.markersize": 4.0,
    "legend.frameon": False,
    "figure.facecolor": "white",  # a white card reads on a dark page too
}


def draw_errors(errors: dict[str, dict[float, dict[str, Floats]]]) -> "Figure":
    """Draw |error| against run length: naive estimators above, ours below; a column for each load."""
    figure, axes = _panels(2, 2, height=6.6, sharey=True)
    titles = {"step": "500 W from start to end", "bursts": "bursts of 30 ms at 700 W over 120 W"}
    for column, name in enumerate(errors):
        axes[0, column].set_title(titles[name], loc="left", color=INK)
        axes[1, column].set_xlabel("length of the run, s")
        for row, group in enumerate((list(NAIVE), list(OURS))):
            for each in group:
                _sweep(axes[row, column], {t: by[each] for t, by in errors[name].items()}, *LOOKS[each], label=each)
    for row, title in enumerate(("as simple monitors do", "telemetry")):
        axes[row, 0].set_ylabel("|error|, % of the energy")
        for axis in axes[row]:
            _percent_axis(axis, (5e-4, 300.0))
            axis.grid(visible=True, axis="y")
        handles, labels = axes[row, 0].get_legend_handles_labels()
        box = {"title": title, "alignment": "left", "title_fontproperties": {"weight": "bold"}}
        axes[row, 1].legend(handles, labels, loc="upper left", bbox_to_anchor=(1.02, 1.02), **box)
    _key(axes[1, 1])
    return figure


def draw_bounds(widths_j: dict[float, dict[float, Floats]]) -> "Figure":
    """Draw half of the enclosure's width against run length, a line for each power."""
    figure, axes = _panels(1, 1, height=4.2)
    axis = axes[0, 0]
    for power_w, by_length in widths_j.items():
        shares_pct = {t: 100.0 * each / power_w / t for t, each in by_length.items()}
        _sweep(axis, shares_pct, *POWER_LOOKS[power_w], label=f"{power_w:g} W")
    for grade, pct in GRADES.items():
        axis.axhline(pct, color=GREY, linewidth=0.9, linestyle=(0, (6, 3)), zorder=1)
        axis.text(0.034, pct * 0.93, f"{pct:g} %: grade {grade}", color=GREY, va="top", ha="left")
    axis.set_xlabel("length of the run, s")
    axis.set_ylabel("half-width of the bounds, % of the energy")
    _percent_axis(axis, (0.05, 300.0))
    axis.legend(title="mean power", loc="upper left", bbox_to_anchor=(1.02, 1.02), alignment="left")
    _key(axis)
    return figure


def draw_signals() -> "Figure":
    """Draw a square wave and what each signal makes of it, on one time axis."""
    figure, axes = _panels(4, 1, height=6.4, sharey=True)
    wave = load(square(600.0, 100.0, period_s=0.11, seconds=2.2), idle_w=100.0)
    sensor = Sensor(truth=wave)
    power, counter = (_within(sensor.publishes(phase)) for phase in (sensor.phase_ns, sensor.counter_phase_ns))
    drawn_w = np.diff(sensor.counter_mj(counter)) * 1e6 / np.diff(counter)
    shown = (
        ("truth", "the power itself", wave.at_ns, np.append(wave.begin_w, wave.end_w[-1]), GREY),
        ("INSTANT", "mean of the last 25 ms, every 100 ms", power, sensor.instant_mw(power) * 1e-3, PURPLE),
        ("AVERAGE", "mean of the last 1 s, every 100 ms", power, sensor.average_mw(power) * 1e-3, RED),
        ("counter", "energy between two updates ÷ time between them", counter[1:], drawn_w, BLUE),
    )
    for axis, (name, what, t_ns, power_w, colour) in zip(axes[:, 0], shown, strict=True):
        axis.step(wave.at_ns * 1e-9, np.append(wave.begin_w, wave.end_w[-1]), where="post", color=FAINT, linewidth=1.0)
        where = "pre" if name == "counter" else "post"  # it tells of the time before its update
        axis.step(t_ns * 1e-9, power_w, where=where, color=colour)
        axis.set_title(f"{name}: {what}", loc="left", color=INK)
        axis.set_ylabel("power, W")
        axis.set(xlim=(-0.3, 3.4), ylim=(0.0, 680.0), yticks=(0, 200, 400, 600))
        axis.grid(visible=True, axis="y")
    for axis in axes[1:, 0]:
        axis.plot([0.0, 2.2], [350.0, 350.0], color=INK, linewidth=0.9, linestyle=(0, (2, 2)))
    axes[1, 0].text(2.24, 350.0, "mean of the load: 350 W", color=INK, va="center")
    axes[-1, 0].set_xlabel("time since the start of the load, s")
    return figure


def _within(t_ns: NDArray[np.int64]) -> NDArray[np.int64]:
    return t_ns[(t_ns > -S // 2) & (t_ns < 35 * S // 10)]


def _panels(rows: int, columns: int, *, height: float, sharey: bool = False) -> tuple["Figure", NDArray[Any]]:
    from matplotlib import pyplot as plt

    size = (8.6, height)
    figure, axes = plt.subplots(
        rows, columns, figsize=size, sharex=True, sharey=sharey, squeeze=False, layout="constrained"
    )
    return figure, axes


def _sweep(axis: "Axes", by_length: dict[float, Floats], colour: str, marker: str, *, label: str) -> None:
    """Draw worst and median against length, where nearly every phase has a value."""
    lengths = [t for t, each in by_length.items() if np.mean(np.isfinite(each)) >= MIN_VALUES]
    worst, middle = ([of(by_length[t]) for t in lengths] for of in (np.nanmax, np.nanmedian))
    axis.plot(lengths, worst, color=colour, marker=marker, label=label)
    axis.plot(lengths, middle, color=colour, linestyle=(0, (1, 1.2)), linewidth=1.1)


def _percent_axis(axis: "Axes", limits: tuple[float, float]) -> None:
    axis.set(xscale="log", yscale="log", xlim=(0.032, 75.0), ylim=limits)
    axis.set_xticks(MARKED_S)
    for each in (axis.xaxis, axis.yaxis):
        each.set_major_formatter(lambda value, _: f"{value:g}")
    axis.tick_params(which="minor", bottom=False, left=False)


def _key(axis: "Axes") -> None:
    """Add what solid and dotted lines are below the legend that the axis has."""
    from matplotlib.lines import Line2D

    first = axis.get_legend()
    assert first is not None
    axis.add_artist(first)  # a second legend would otherwise take its place
    lines = [
        Line2D([], [], color=GREY, marker="o", label=f"worst of {len(PHASES)} phases"),
        Line2D([], [], color=GREY, linestyle=(0, (1, 1.2)), linewidth=1.1, label="median"),
    ]
    axis.legend(handles=lines, loc="lower left", bbox_to_anchor=(1.02, -0.02))


# All of it


def main() -> None:
    """Work out everything, rewrite the figures and print the tables."""
    from matplotlib import pyplot as plt

    began = time.monotonic()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        errors = {name: {t: pool.submit(errors_pct, name, t) for t in LENGTHS_S} for name in SWEPT}
        widths = {power_w: {t: pool.submit(half_widths_j, power_w, t) for t in WIDTH_LENGTHS_S} for power_w in POWERS_W}
        edges = [pool.submit(half_widths_j, power_w, EDGE_RUN_S, power_w) for power_w in EDGE_POWERS_W]
        covered = {
            case: [pool.submit(Coverage.of, case, part_time=part_time) for part_time in (False, True)] for case in CASES
        }
        _wait([*_leaves(errors), *_leaves(widths), *edges, *_leaves(covered)])
    error_sweep = {name: {t: each.result() for t, each in errors[name].items()} for name in SWEPT}
    width_sweep = {power_w: {t: each.result() for t, each in widths[power_w].items()} for power_w in POWERS_W}
    widest_j = max(float(np.max(each.result())) for each in edges)
    FOLDER.mkdir(exist_ok=True)
    with plt.rc_context(STYLE):
        drawn = (draw_signals(), draw_errors(error_sweep), draw_bounds(width_sweep))
        for file, figure in zip(FIGURES, drawn, strict=True):
            figure.savefig(FOLDER / file, metadata={"Date": None})
    for name, by_length in error_sweep.items():
        _print(f"Error, % of the energy, median / worst of {len(PHASES)} phases: {name}", ERROR_HEAD,
               [error_line(t, by_length[t]) for t in SHOWN_S])  # fmt: skip
    _print(
        "Coverage", COVERAGE_HEAD, [coverage_line(case, *(f.result() for f in both)) for case, both in covered.items()]
    )
    _print(f"How long to run: edges at their worst, {widest_j:.3g} J (steady load between idle)", DURATION_HEAD,
           [duration_line(power_w, width_sweep[power_w], widest_j) for power_w in POWERS_W])  # fmt: skip
    print(f"Done in {time.monotonic() - began:.0f} s.", file=sys.stderr)


def _leaves(tree: Any) -> Iterator[Future[Any]]:
    if isinstance(tree, Future):
        yield tree
    else:
        for branch in tree.values() if isinstance(tree, dict) else tree:
            yield from _leaves(branch)


def _wait(futures: Sequence[Future[Any]]) -> None:
    for done, _ in enumerate(as_completed(futures), start=1):
        print(f"\r{done} of {len(futures)} sweeps", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)


def _print(title: str, top: Sequence[str], lines: Iterable[str]) -> None:
    print(f"\n{title}\n")
    print("\n".join([*top, *lines]))


if __name__ == "__main__":
    main()
