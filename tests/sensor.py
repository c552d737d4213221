"""A power sensor whose every number can be worked out by hand, and a poller that stores what it reads.

It shares no code with the package: truth is a power that is linear in pieces; a publisher shows its integral
and its averages at known times; a poller reads them and writes rows by the rule of docs/store.md.
Times are int64 ns from the start of the load; `EPOCH_NS` is added when rows are written.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from telemetry.model import Gap, ReadingRow

EPOCH_NS = 1_800_000_000_000_000_000
MS = 1_000_000
S = 1_000_000_000

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Waveform:
    """Power, W: pieces from at_ns[i] to at_ns[i + 1], linear from begin_w[i] to end_w[i]."""

    at_ns: Ints
    begin_w: Floats
    end_w: Floats

    def energy_j(self, t_ns: Ints) -> Floats:
        """Return the energy since the start of the first piece, J."""
        length = np.diff(self.at_ns) * 1e-9
        total = np.append(0.0, np.cumsum((self.begin_w + self.end_w) / 2 * length))
        i = np.clip(np.searchsorted(self.at_ns, t_ns, side="right") - 1, 0, len(length) - 1)
        dt = (t_ns - self.at_ns[i]) * 1e-9
        slope = (self.end_w[i] - self.begin_w[i]) / length[i]
        energy: Floats = total[i] + self.begin_w[i] * dt + slope * dt * dt / 2
        return energy

    def between_j(self, t0_ns: int, t1_ns: int) -> float:
        """Return the energy of an interval, J."""
        a, b = self.energy_j(np.array([t0_ns, t1_ns]))
        return float(b - a)


def load(
    pieces: Sequence[tuple[float, ...]],
    *,
    idle_w: float = 80.0,
    idle_s: float = 6.0,
) -> Waveform:
    """Return pieces, (seconds, W) or (seconds, W, W), the first from 0 on, with idle on both sides."""
    whole = [(idle_s, idle_w), *pieces, (idle_s, idle_w)]
    ends_s = np.cumsum([piece[0] for piece in whole]) - idle_s
    return Waveform(
        at_ns=np.rint(np.append(-idle_s, ends_s) * S).astype(np.int64),
        begin_w=np.array([piece[1] for piece in whole], dtype=np.float64),
        end_w=np.array([piece[-1] for piece in whole], dtype=np.float64),
    )


def square(high_w: float, low_w: float, *, period_s: float, seconds: float) -> list[tuple[float, float]]:
    """Return pieces that alternate, high first, half a period each, cut off at `seconds`."""
    pieces: list[tuple[float, float]] = []
    n = 0
    while n * period_s / 2 < seconds - 1e-9:
        pieces.append((min(period_s / 2, seconds - n * period_s / 2), high_w if n % 2 == 0 else low_w))
        n += 1
    return pieces


def lagging(truth: Waveform, lag_s: float) -> Waveform:
    """Return what a first-order lag lets through: exact every millisecond, straight between."""
    at_ns = np.arange(truth.at_ns[0], truth.at_ns[-1] + MS, MS)
    mean_w = np.diff(truth.energy_j(at_ns)) / 1e-3
    kept = np.exp(-1e-3 / lag_s)
    shown = [float(truth.begin_w[0])]
    for power_w in mean_w:
        shown.append(power_w + (shown[-1] - power_w) * kept)
    return Waveform(at_ns=at_ns, begin_w=np.array(shown[:-1]), end_w=np.array(shown[1:]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensor:
    """S_H: every 100 ms it shows INSTANT over 25 ms, AVERAGE over 1 s, and a counter that misses nothing.

    A `part_time` counter adds up INSTANT · T instead; one that is spoilt by being read counts the share `counted`.
    """

    truth: Waveform
    period_ns: int = 100 * MS
    phase_ns: int = 13 * MS
    counter_phase_ns: int = 50 * MS
    window_ns: int = 25 * MS
    average_ns: int = 1000 * MS
    counter_start_mj: int = 0
    jitter_ns: int = 0
    seed: int = 0
    gain: float = 1.0
    offset_w: float = 0.0
    reset_ns: int | None = None
    part_time: bool = False
    counted: float = 1.0

    def _seen_j(self, t_ns: Ints) -> Floats:
        return self.gain * self.truth.energy_j(t_ns) + self.offset_w * t_ns * 1e-9

    def publishes(self, phase_ns: int) -> Ints:
        """Return all publish times inside the truth."""
        first, last = int(self.truth.at_ns[0]) + S, int(self.truth.at_ns[-1])
        k = np.arange((first - phase_ns) // self.period_ns, (last - phase_ns) // self.period_ns + 1)
        jitter = np.random.default_rng(self.seed).integers(-self.jitter_ns, self.jitter_ns + 1, len(k))
        return np.asarray(phase_ns + k * self.period_ns + jitter, dtype=np.int64)

    def _published(self, t_ns: Ints, phase_ns: int) -> Ints:
        times = self.publishes(phase_ns)
        return times[np.maximum(np.searchsorted(times, t_ns, side="right") - 1, 0)]

    def _boxcar_mw(self, t_ns: Ints, width_ns: int) -> Ints:
        at = self._published(t_ns, self.phase_ns)
        power_w = (self._seen_j(at) - self._seen_j(at - width_ns)) / (width_ns * 1e-9)
        return np.floor(power_w * 1e3 + 1e-6).astype(np.int64)

    def instant_mw(self, t_ns: Ints) -> Ints:
        """Return what INSTANT shows at these times."""
        return self._boxcar_mw(t_ns, self.window_ns)

    def average_mw(self, t_ns: Ints) -> Ints:
        """Return what AVERAGE shows at these times."""
        return self._boxcar_mw(t_ns, self.average_ns)

    def counter_mj(self, t_ns: Ints) -> Ints:
        """Return what the energy counter shows at these times."""
        at = self._published(t_ns, self.counter_phase_ns)
        if self.part_time:
            publishes = self.publishes(self.counter_phase_ns)
            instant_w = (self._seen_j(publishes) - self._seen_j(publishes - self.window_ns)) / (self.window_ns * 1e-9)
            summed_mj = np.floor(np.cumsum(instant_w) * self.period_ns * 1e-6 + 1e-6).astype(np.int64)
            return summed_mj[np.searchsorted(publishes, at)] + self.counter_start_mj
        energy_mj = np.floor(self.counted * self._seen_j(at) * 1e3 + 1e-6).astype(np.int64) + self.counter_start_mj
        if self.reset_ns is None:
            return energy_mj
        restart_j = float(self._seen_j(np.array([self.reset_ns]))[0])
        fresh_mj = np.floor((self._seen_j(at) - restart_j) * 1e3 + 1e-6).astype(np.int64)
        return np.where(at > self.reset_ns, fresh_mj, energy_mj)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """What a collector would have stored."""

    rows: list[ReadingRow]
    gaps: list[Gap] = field(default_factory=list)

    def near(self, *times_ns: int, reach_ns: int = 5 * S // 2) -> list[list[ReadingRow]]:
        """Return the rows around each of these times, as a caller that reads only what it needs would."""
        return [[r for r in self.rows if abs(r.t_ns - EPOCH_NS - t) <= reach_ns] for t in times_ns]


def poll_times(begin_ns: int, end_ns: int, *, period_ns: int = 20 * MS, dither: float = 0.3, seed: int = 0) -> Ints:
    """Return poll times whose distances are period × (1 ± dither), evenly spread."""
    n = int((end_ns - begin_ns) / period_ns / (1 - dither)) + 2
    steps = np.random.default_rng(seed).uniform(1 - dither, 1 + dither, n) * period_ns
    times = begin_ns + np.cumsum(steps).astype(np.int64)
    return times[times < end_ns]


def record(
    sensor: Sensor,
    times_ns: Ints,
    *,
    latency_us: tuple[float, float] = (60.0, 400.0),
    lost_ns: Sequence[tuple[int, int]] = (),
    null_ns: Sequence[tuple[int, int]] = (),
    seed: int = 0,
    integral_of: str = "instant",
) -> Recording:
    """Poll at these times and write a row when a value changed, after three periods, and once a second.

    Polls inside `lost_ns` do not happen (a gap); inside `null_ns` the driver gives no value. The integral is
    the trapezoid over polls at their midpoints; it does not move across either.
    """
    rng = np.random.default_rng(seed)
    latency = (rng.uniform(*latency_us, len(times_ns)) * 1e3).astype(np.int64)
    before, after = times_ns, times_ns + latency
    read = before + (rng.uniform(0, 1, len(times_ns)) * latency).astype(np.int64)
    columns = np.column_stack([sensor.instant_mw(read), sensor.average_mw(read), sensor.counter_mj(read)])
    power = columns[:, 0] if integral_of == "instant" else columns[:, 1]
    usual = int(np.median(np.diff(times_ns)))

    rows: list[ReadingRow] = []
    gaps: list[Gap] = []
    total_nj = 0.0
    last_power: int | None = None
    last_values: tuple[int | None, ...] = ()
    last_poll: int | None = None
    for i in range(len(times_ns)):
        if any(a <= before[i] < b for a, b in lost_ns):
            continue
        null = any(a <= before[i] < b for a, b in null_ns)
        values = [None if null else int(v) for v in columns[i]]
        mid = int(before[i] + after[i]) // 2
        if last_poll is not None:
            last_mid = int(before[last_poll] + after[last_poll]) // 2
            if i - last_poll > 1:
                gaps.append(Gap(from_ns=EPOCH_NS + last_mid, to_ns=EPOCH_NS + mid, reason="missed"))
            elif last_power is not None and not null:
                total_nj += (last_power + int(power[i])) / 2 * (mid - last_mid) * 1e-3
        since = int(after[i] - before[last_poll]) if last_poll is not None else 0
        late = since > 3 * usual
        old = not rows or EPOCH_NS + mid - rows[-1].t_ns >= S
        if tuple(values) != last_values or late or old:
            rows.append(
                ReadingRow(
                    t_ns=EPOCH_NS + mid,
                    power_instant_mw=values[0],
                    power_average_mw=values[1],
                    energy_mj=values[2],
                    integral_uj=None if null else int(total_nj / 1e3),
                    since_ns=since,
                    latency_us=int(latency[i]) // 1000,
                )
            )
        last_power = None if null else int(power[i])
        last_values, last_poll = tuple(values), i
    return Recording(rows=rows, gaps=gaps)


def published_rows(sensor: Sensor, begin_ns: int, end_ns: int) -> list[ReadingRow]:
    """Return a row for each publish of the counter, bracketed to the nanosecond: ℓ = h − 1 ns."""
    times = sensor.publishes(sensor.counter_phase_ns)
    times = times[(times >= begin_ns) & (times <= end_ns)]
    return [
        ReadingRow(
            t_ns=EPOCH_NS + int(t),
            power_instant_mw=int(i),
            power_average_mw=int(a),
            energy_mj=int(c),
            integral_uj=None,
            since_ns=1,
            latency_us=0,
        )
        for t, i, a, c in zip(
            times, sensor.instant_mw(times), sensor.average_mw(times), sensor.counter_mj(times), strict=True
        )
    ]
