"""One simulated GPU: a truth, the sensor in front of it, and everything else that a driver tells."""

from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise
from math import exp, log
from zlib import crc32

from telemetry.collector.sources.simulated.chance import bits
from telemetry.collector.sources.simulated.presets import Preset
from telemetry.collector.sources.simulated.sensor import Sensor, SensorParameters
from telemetry.collector.sources.simulated.waveform import PJ_PER_J, Energy, TimeAbove, Truth

_SECOND = 1_000_000_000
_ENERGY = Energy()
_AMBIENT_C, _LOADED_C = 28.0, 78.0  # at no power and, after minutes, at the limit
_THERMAL_LAG_NS = 20 * _SECOND
_THERMAL_EDGES = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0)  # in lags into the past
_GPU_IDLE, _SW_POWER_CAP = 0x1, 0x4  # of NVML's clocks-event reasons


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """The GPU's memory, bytes; `used` does not hold `reserved`."""

    total_bytes: int
    reserved_bytes: int
    used_bytes: int


class SimulatedGpu:
    """What one GPU answers at a time of CLOCK_MONOTONIC, a pure function of that time.

    The exceptions are the counter of the parts that count wrongly when read often, and a limit to the rate of
    calls: they depend on the reads of this process.
    """

    def __init__(self, *, preset: Preset, truth: Truth, parameters: SensorParameters, index: int, seed: int) -> None:
        self.preset = preset
        self.index = index
        self.uuid = _uuid(preset, seed, index)
        self.sensor = Sensor(truth, parameters)
        self._truth = truth
        self._above_limit = TimeAbove(threshold_mw=self.limit_mw)
        self._temperature: tuple[int, float] | None = None
        self._last_read: tuple[int, int] | None = None  # when, and where the honest counter then stood
        self._asked_ns: tuple[int, bool] | None = None  # when power was last asked for, and whether too soon
        self._miscounted_mj = 0.0

    @property
    def limit_mw(self) -> int:
        """The enforced power limit, mW."""
        return round(self.preset.limit_w * 1e3)

    @property
    def memory(self) -> Memory:
        """The memory: a loaded model takes a third of it."""
        total_bytes = self.preset.memory_gib << 30
        return Memory(total_bytes=total_bytes, reserved_bytes=total_bytes // 200, used_bytes=total_bytes // 3)

    def true_energy_j(self, t0_mono_ns: int, t1_mono_ns: int) -> float:
        """Return the energy really drawn between two times, J: before the sensor."""
        return (self._truth.total(_ENERGY, t1_mono_ns) - self._truth.total(_ENERGY, t0_mono_ns)) / PJ_PER_J

    def sensor_energy_j(self, t0_mono_ns: int, t1_mono_ns: int) -> float:
        """Return the energy between two times after lag, gain and offset, J: what a full counter counts."""
        return (self.sensor.sensed_pj(t1_mono_ns) - self.sensor.sensed_pj(t0_mono_ns)) / PJ_PER_J

    def counter_mj(self, now_ns: int, *, restarted_ns: int | None) -> int:
        """Return the energy counter, mJ; it stood at 0 at `restarted_ns` (None: it never restarted)."""
        latched_ns = self.sensor.counter_latched_ns(now_ns)
        if restarted_ns is None:
            counted_mj = self.sensor.counter_mj(since_ns=0, latched_ns=latched_ns)
            return self._misread(now_ns, self.sensor.parameters.counter_start_mj + counted_mj)
        return max(0, self.sensor.counter_mj(since_ns=restarted_ns, latched_ns=latched_ns))

    def hurried(self, now_ns: int) -> bool:
        """Whether power is asked for too soon after the time before; asked again at one time it is no later."""
        limit_hz = self.preset.rate_limit_hz
        if not limit_hz:
            return False
        if self._asked_ns is None or self._asked_ns[0] != now_ns:
            too_soon = self._asked_ns is not None and now_ns - self._asked_ns[0] < _SECOND / limit_hz
            self._asked_ns = (now_ns, too_soon)
        return self._asked_ns[1]

    def temperature_c(self, now_ns: int) -> float:
        """Return the GPU's temperature, °C: a first-order thermal model, renewed twice a second."""
        step = now_ns // (_SECOND // 2)
        if self._temperature is None or self._temperature[0] != step:
            self._temperature = (step, self._thermal_model_c(step * (_SECOND // 2)))
        return self._temperature[1]

    def utilisation_pct(self, now_ns: int) -> int:
        """Return how busy the GPU looked over the last second, %."""
        floor_mw = self.preset.floor_w * 1.3e3
        busy = (self._mean_mw(now_ns - _SECOND, now_ns) - floor_mw) / (0.4 * self.limit_mw)
        return round(100 * min(1.0, max(0.0, busy)))

    def clock_sm_mhz(self, now_ns: int) -> int:
        """Return the SM clock, MHz: low at rest, and reduced above the power limit."""
        power_mw = self._truth.power_mw(now_ns)
        if power_mw < self.preset.floor_w * 1.3e3:
            return 345
        over = max(0.0, power_mw / self.limit_mw - 1.0)
        return round(self.preset.clock_sm_mhz * (1.0 - min(0.5, over)))

    def throttle_reasons(self, now_ns: int) -> int:
        """Return NVML's bit mask of clocks-event reasons."""
        if self._truth.power_mw(now_ns) > self.limit_mw:
            return _SW_POWER_CAP
        return _GPU_IDLE if self.utilisation_pct(now_ns) == 0 else 0

    def power_capped_ns(self, now_ns: int) -> int:
        """Return how long the power has been above the limit since boot, ns."""
        return self._truth.total(self._above_limit, now_ns) - self._truth.total(self._above_limit, 0)

    def _mean_mw(self, from_ns: int, to_ns: int) -> float:
        energy_pj = self._truth.total(_ENERGY, to_ns) - self._truth.total(_ENERGY, from_ns)
        return energy_pj / (to_ns - from_ns)

    def _thermal_model_c(self, now_ns: int) -> float:
        weighted_mw = left = 0.0
        for newer, older in pairwise(_THERMAL_EDGES):
            from_ns, to_ns = (now_ns - round(edge * _THERMAL_LAG_NS) for edge in (older, newer))
            weight = exp(-newer) - exp(-older)
            weighted_mw += weight * self._mean_mw(from_ns, to_ns)
            left += weight
        return _AMBIENT_C + (_LOADED_C - _AMBIENT_C) * weighted_mw / left / self.limit_mw

    def _misread(self, now_ns: int, honest_mj: int) -> int:
        """Return the counter with what reading it has done to it."""
        if not self.preset.call_rate:
            return honest_mj
        if self._last_read is not None:
            last_ns, last_mj = self._last_read
            factor = _call_rate_factor(self.preset.call_rate, (now_ns - last_ns) / _SECOND)
            self._miscounted_mj += (factor - 1.0) * (honest_mj - last_mj)
        self._last_read = (now_ns, honest_mj)
        return honest_mj + round(self._miscounted_mj)


def _call_rate_factor(points: tuple[tuple[float, float], ...], period_s: float) -> float:
    """Interpolate between the logarithms of both, holding the ends."""
    periods_s = [period for period, _ in points]
    if period_s <= periods_s[0]:
        return points[0][1]
    if period_s >= periods_s[-1]:
        return points[-1][1]
    i = bisect_left(periods_s, period_s)
    (a_s, a), (b_s, b) = points[i - 1], points[i]
    return float(a * (b / a) ** (log(period_s / a_s) / log(b_s / a_s)))


def _uuid(preset: Preset, seed: int, index: int) -> str:
    mixed = bits(crc32(preset.product.encode()), seed, index)
    return f"GPU-51d00000-{index:04x}-4{mixed >> 52:03x}-8{mixed >> 40 & 0xFFF:03x}-{mixed & (1 << 40) - 1:012x}"
