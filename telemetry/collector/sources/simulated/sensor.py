"""The sensor between the truth and the driver: lag, gain, offset, window, publish grid, counter."""

from dataclasses import dataclass
from functools import lru_cache
from math import exp

from telemetry.collector.sources.simulated.chance import bits, normal, uniform
from telemetry.collector.sources.simulated.presets import Preset
from telemetry.collector.sources.simulated.waveform import PJ_PER_MJ, Energy, Truth, WindowedEnergy
from telemetry.errors import UsageError

PART_TIME_BEHIND_LAG = (
    "A part-time counter or AVERAGE behind a lagging sensor is not modelled; leave lag out, or counter=part and "
    "average=part."
)
_MS = 1_000_000
_ENERGY = Energy()
_LAG_MEMORY = 20  # in lags: what is older weighs 2e-9
_PHASE, _COUNTER_PHASE, _GAIN, _OFFSET, _START, _LATE, _COUNTER_LATE, _NOISE = range(8)


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorParameters:
    """One board's sensor. Times ns, powers mW; grids lie at phase + k x period of CLOCK_MONOTONIC."""

    period_ns: int
    phase_ns: int
    window_ns: int
    average_ns: int | None
    counter_period_ns: int
    counter_phase_ns: int
    counter_start_mj: int = 0
    part_time: bool = False  # the counter adds up INSTANT x T, on INSTANT's grid
    average_part_time: bool = False  # AVERAGE is the mean of INSTANT's windows
    gain_ppm: int = 1_000_000
    offset_mw: int = 0
    lag_ns: int = 0
    noise_mw: int = 0
    delay_ns: int = 0
    jitter_ns: int = 0
    counter_jitter_ns: int = 0
    seed: int = 0


def draw(preset: Preset, *, seed: int) -> SensorParameters:
    """Return the sensor of one board of that kind: what differs between boards is drawn from the seed."""
    period_ns = preset.period_ms * _MS
    counter_period_ns = period_ns if preset.part_time else round(preset.counter_period_ms * _MS)
    phase_ns = bits(seed, _PHASE) % period_ns
    gain = uniform(0.95, 1.05, seed, _GAIN) if preset.gain is None else preset.gain
    offset_w = uniform(-3.0, 3.0, seed, _OFFSET) if preset.offset_w is None else preset.offset_w
    return SensorParameters(
        period_ns=period_ns,
        phase_ns=phase_ns,
        window_ns=preset.window_ms * _MS,
        average_ns=None if preset.average_ms is None else preset.average_ms * _MS,
        counter_period_ns=counter_period_ns,
        counter_phase_ns=phase_ns if preset.part_time else bits(seed, _COUNTER_PHASE) % counter_period_ns,
        counter_start_mj=bits(seed, _START) >> 2,
        part_time=preset.part_time,
        average_part_time=preset.average_part_time,
        gain_ppm=round(gain * 1e6),
        offset_mw=round(offset_w * 1e3),
        lag_ns=round(preset.lag_ms * _MS),
        noise_mw=round(preset.noise_w * 1e3),
        delay_ns=round(preset.delay_ms * _MS),
        jitter_ns=round(preset.jitter_ms * _MS),
        counter_jitter_ns=round(preset.counter_jitter_ms * _MS),
        seed=seed,
    )


class Sensor:
    """What the driver would answer about a truth at any time: a pure function of that time.

    Sampling is exact on its grid and only publication is late, by the delay and the jitter, so a window never
    reaches past its own publication. A full counter is latched at the jittered instant at which it is published.
    """

    def __init__(self, truth: Truth, parameters: SensorParameters) -> None:
        p = self.parameters = parameters
        if (p.part_time or p.average_part_time) and p.lag_ns:
            raise UsageError(PART_TIME_BEHIND_LAG)
        self._truth = truth
        self._windows = WindowedEnergy(phase_ns=p.phase_ns, period_ns=p.period_ns, window_ns=p.window_ns)
        # Between two publications each poll asks for the same few times, and a lag has a long past.
        self._sensed_pj = lru_cache(maxsize=16)(self._sense_pj)

    def sensed_pj(self, t_ns: int) -> int:
        """Return the energy after lag, gain and offset up to `t_ns`, pJ; only differences mean something."""
        return self._sensed_pj(t_ns)

    def slot(self, now_ns: int) -> int:
        """Return the number of the last INSTANT and AVERAGE published by `now_ns`."""
        p = self.parameters
        k = (now_ns - p.phase_ns - p.delay_ns) // p.period_ns
        return k if self.published_ns(k) <= now_ns else k - 1

    def published_ns(self, slot: int) -> int:
        """Return when that slot's INSTANT and AVERAGE were published."""
        p = self.parameters
        return self.sampled_ns(slot) + p.delay_ns + _drawn(p.jitter_ns, p.seed, _LATE, slot)

    def sampled_ns(self, slot: int) -> int:
        """Return when the windows of that slot's INSTANT and AVERAGE ended."""
        return self.parameters.phase_ns + slot * self.parameters.period_ns

    def instant_mw(self, slot: int) -> int:
        """Return INSTANT of that slot, whole mW."""
        p = self.parameters
        power_mw = self._mean_mw(slot, p.window_ns)
        if p.noise_mw:
            power_mw += round(p.noise_mw * normal(p.seed, _NOISE, slot))
        return max(0, power_mw)

    def average_mw(self, slot: int) -> int | None:
        """Return AVERAGE of that slot, whole mW; None where the part has none."""
        p = self.parameters
        if p.average_ns is None:
            return None
        if not p.average_part_time:
            return max(0, self._mean_mw(slot, p.average_ns))
        end_ns = self.sampled_ns(slot)
        return max(0, (self._windowed_pj(end_ns) - self._windowed_pj(end_ns - p.average_ns)) // p.average_ns)

    def counter_latched_ns(self, now_ns: int) -> int:
        """Return the time up to which the counter that stands at `now_ns` has counted."""
        p = self.parameters
        k = (now_ns - p.counter_phase_ns + p.counter_jitter_ns) // p.counter_period_ns
        while (published_ns := self._counter_published_ns(k)) > now_ns:
            k -= 1
        return p.counter_phase_ns + k * p.counter_period_ns if p.part_time else published_ns

    def counter_mj(self, *, since_ns: int, latched_ns: int) -> int:
        """Return what the counter gains between two times, whole mJ."""
        return (self._counted_pj(latched_ns) - self._counted_pj(since_ns)) // PJ_PER_MJ

    def _sense_pj(self, t_ns: int) -> int:
        p = self.parameters
        energy_pj = self._truth.total(_ENERGY, t_ns)
        if p.lag_ns:  # tau Y' + Y = P, so the integral of Y is that of P less tau Y
            energy_pj -= round(p.lag_ns * self._lagged_mw(t_ns))
        return energy_pj * p.gain_ppm // 1_000_000 + p.offset_mw * t_ns

    def _counted_pj(self, t_ns: int) -> int:
        return self._windowed_pj(t_ns) if self.parameters.part_time else self.sensed_pj(t_ns)

    def _windowed_pj(self, t_ns: int) -> int:
        """Return what a sensor makes of the energy that sees INSTANT's windows alone, pJ."""
        p = self.parameters
        seen_pj = self._truth.total(self._windows, t_ns) * p.gain_ppm // 1_000_000
        return seen_pj * p.period_ns // p.window_ns + p.offset_mw * t_ns

    def _counter_published_ns(self, k: int) -> int:
        p = self.parameters
        exact_ns = p.counter_phase_ns + k * p.counter_period_ns
        if p.part_time:
            return exact_ns + _drawn(p.counter_jitter_ns, p.seed, _COUNTER_LATE, k)
        return exact_ns - p.counter_jitter_ns + _drawn(2 * p.counter_jitter_ns, p.seed, _COUNTER_LATE, k)

    def _mean_mw(self, slot: int, window_ns: int) -> int:
        end_ns = self.sampled_ns(slot)
        return (self.sensed_pj(end_ns) - self.sensed_pj(end_ns - window_ns)) // window_ns

    def _lagged_mw(self, t_ns: int) -> float:
        """Return the power behind the lag: its exponentially weighted past, exact on straight pieces."""
        lag = self.parameters.lag_ns
        start_ns = t_ns - _LAG_MEMORY * lag
        lagged_mw = self._truth.power_mw(start_ns) * exp(-_LAG_MEMORY)
        for piece in self._truth.pieces(start_ns, t_ns):
            per_lag_mw = (piece.end_mw - piece.start_mw) / (piece.end_ns - piece.start_ns) * lag
            lagged_mw += (piece.end_mw - per_lag_mw) * exp((piece.end_ns - t_ns) / lag)
            lagged_mw -= (piece.start_mw - per_lag_mw) * exp((piece.start_ns - t_ns) / lag)
        return lagged_mw


def _drawn(width_ns: int, *keys: int) -> int:
    return bits(*keys) % (width_ns + 1) if width_ns else 0
