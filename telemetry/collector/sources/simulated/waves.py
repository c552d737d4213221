"""The waves that a description can name, as corners of a `Waveform`."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path

from telemetry.collector.sources.simulated.chance import uniform
from telemetry.collector.sources.simulated.numbers import parse_numbers, to_milli, to_ns
from telemetry.collector.sources.simulated.waveform import Waveform
from telemetry.errors import UsageError

_WAVES = {
    "constant": "constant:W",
    "step": "step:LOW:HIGH:T_ON:T_OFF",
    "square": "square:LOW:HIGH:PERIOD_S[:DUTY]",
    "ramp": "ramp:LOW:HIGH:T0:T1",
    "burst": "burst:LOW:HIGH:MEAN_GAP:ON",
    "csv": "csv:PATH",
    "events": "events[:IDLE:PREFILL:DECODE]",
}
_BURSTS = 1024  # drawn once, then repeated: the energy of any window stays a closed form


def check_wave(value: str) -> str:
    """Return the wave if it is one. Raises UsageError with what is allowed."""
    kind, _, argument = value.partition(":")
    counts = {"constant": (1,), "step": (4,), "square": (3, 4), "ramp": (4,), "burst": (4,), "events": (3,)}
    if kind not in _WAVES or (kind == "csv" and not argument) or (not argument and kind != "events"):
        raise UsageError(f"wave={value} is unknown. Known are: {', '.join(_WAVES.values())}.")
    if kind == "csv" or not argument:
        return value
    numbers = parse_numbers(f"wave={value}", argument.split(":"))
    if len(numbers) not in counts[kind]:
        raise UsageError(f"wave={value} has {len(numbers)} numbers. It is written {_WAVES[kind]}.")
    wrong = {
        "step": lambda: numbers[2] >= numbers[3],
        "ramp": lambda: numbers[2] >= numbers[3],
        "square": lambda: numbers[2] < 1e-5 or not 0 < (numbers[3:] or [0.5])[0] < 1,
        "burst": lambda: numbers[2] < 1e-5 or numbers[3] < 1e-5,
    }
    if kind in wrong and wrong[kind]():
        raise UsageError(
            f"wave={value} cannot be ({_WAVES[kind]}; W and s): times must rise, periods be 10 us at least, "
            "and a duty lie between 0 and 1."
        )
    return value


def make_waveform(wave: str, *, seed: int, origin_ns: int) -> Waveform:
    """Return the truth of a wave that follows no events. Raises UsageError for a file that is no wave."""
    kind, _, argument = wave.partition(":")
    if kind == "csv":
        return Waveform(_read_csv(Path(argument)), origin_ns=origin_ns)
    points = _corners(kind, parse_numbers(wave, argument.split(":")), seed)
    return Waveform(points, origin_ns=origin_ns, repeat=kind in ("square", "burst"))


def _corners(kind: str, numbers: Sequence[float], seed: int) -> list[tuple[int, int]]:
    """Return the corners of a wave of that kind as (ns, mW)."""
    if kind == "constant":
        return [(0, to_milli(numbers[0]))]
    low_mw, high_mw = to_milli(numbers[0]), to_milli(numbers[1])
    if kind == "step":
        on_ns, off_ns = to_ns(numbers[2]), to_ns(numbers[3])
        return [(on_ns, low_mw), (on_ns, high_mw), (off_ns, high_mw), (off_ns, low_mw)]
    if kind == "ramp":
        return [(to_ns(numbers[2]), low_mw), (to_ns(numbers[3]), high_mw)]
    if kind == "square":
        # Whole microseconds, so that the wave falls in step with a sensor's grid soon enough to be added up.
        period_ns = round(numbers[2] * 1e6) * 1000
        on_ns = round(period_ns * (numbers[3] if len(numbers) > 3 else 0.5))
        return [(0, high_mw), (on_ns, high_mw), (on_ns, low_mw), (period_ns, low_mw)]
    t_ns = 0
    points = []
    for i in range(_BURSTS):
        gap_ns = round(-math.log(uniform(0.0, 1.0, seed, 0xB0057, i)) * numbers[2] * 1e9)
        on_ns, off_ns = t_ns + gap_ns, t_ns + gap_ns + to_ns(numbers[3])
        points += [(t_ns, low_mw), (on_ns, low_mw), (on_ns, high_mw), (off_ns, high_mw)]
        t_ns = off_ns
    whole_s_ns = -(-t_ns // 1_000_000_000) * 1_000_000_000
    return [*points, (t_ns, low_mw), (whole_s_ns, low_mw)]


def _read_csv(path: Path) -> list[tuple[int, int]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The wave {path} cannot be read: {error}.") from error
    if not rows or [name.strip() for name in rows[0]] != ["time_s", "power_w"]:
        raise UsageError(f"The wave {path} does not begin with the line time_s,power_w.")
    points: list[tuple[int, int]] = []
    for number, row in enumerate(rows[1:], start=2):
        where = f"line {number} of {path}"
        time_s, power_w = parse_numbers(where, row, negative=True) if len(row) == 2 else (math.nan, math.nan)
        if not power_w >= 0 or (points and to_ns(time_s) < points[-1][0]):
            raise UsageError(f"{where} is no time, not before the one above, and power of 0 W or more: {row}.")
        points.append((to_ns(time_s), to_milli(power_w)))
    if not points:
        raise UsageError(f"The wave {path} has no points; give one line time_s,power_w for each.")
    return points
