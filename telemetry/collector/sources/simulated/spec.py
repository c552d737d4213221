"""What `--source simulated...` may say: `simulated[:PRESET][,key=value...]`."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from telemetry.clock import boot_key
from telemetry.collector.sources.simulated.events import Levels
from telemetry.collector.sources.simulated.faults import FAULT_KINDS, Fault
from telemetry.collector.sources.simulated.numbers import parse_integer, parse_numbers, to_milli, to_ns
from telemetry.collector.sources.simulated.presets import PRESETS, Preset
from telemetry.collector.sources.simulated.sensor import PART_TIME_BEHIND_LAG
from telemetry.collector.sources.simulated.waveform import Waveform
from telemetry.collector.sources.simulated.waves import check_wave, make_waveform
from telemetry.errors import UsageError

_SENSOR_KEYS = {
    "gain": "gain",
    "offset": "offset_w",
    "noise": "noise_w",
    "delay": "delay_ms",
    "jitter": "jitter_ms",
    "lag": "lag_ms",
    "latency": "latency_ms",
    "rate_limit": "rate_limit_hz",
}
_CHOICES = {  # key: the field that it sets, the word for no, the word for yes
    "counter": ("part_time", "full", "part"),
    "average": ("average_part_time", "full", "part"),
    "timestamp": ("sensor_stamps", "call", "sensor"),
}
_KEYS = ("gpus", "seed", "wave", "origin", "fault", "events", *_CHOICES, *_SENSOR_KEYS)
_MAX_GPUS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedSpec:
    """A parsed `simulated...` source; equal specs on one host are the same GPUs."""

    preset_name: str
    preset: Preset
    gpus: int = 1
    seed: int = 0
    wave: str = "events"
    origin_ns: int = 0  # CLOCK_MONOTONIC at wave time 0
    faults: tuple[Fault, ...] = ()
    events: str | None = None

    @property
    def follows_events(self) -> bool:
        """Whether the power follows the event log and no waveform."""
        return self.wave.partition(":")[0] == "events"

    def event_log_path(self, runtime_dir: Path) -> Path:
        """Return the file through which events reach these GPUs."""
        if self.events is not None:
            return Path(self.events)
        boot = boot_key().boot[:8]
        return runtime_dir / f"simulated-{self.preset_name}-{self.seed}-{boot}.events"

    def levels(self) -> Levels:
        """Return the powers of an `events` wave."""
        parts = self.wave.split(":")[1:]
        preset = self.preset
        watts = (
            parse_numbers(self.wave, parts)
            if parts
            else [1.25 * preset.floor_w, 0.93 * preset.limit_w, 0.55 * preset.limit_w]
        )
        idle_mw, prefill_mw, decode_mw = (to_milli(value) for value in watts)
        return Levels(idle_mw=idle_mw, prefill_mw=prefill_mw, decode_mw=decode_mw)

    def waveform(self) -> Waveform:
        """Return the truth of a wave that follows no events. Raises UsageError for a file that is no wave."""
        return make_waveform(self.wave, seed=self.seed, origin_ns=self.origin_ns)


def parse_spec(text: str) -> SimulatedSpec:
    """Read `simulated[:PRESET][,key=value...]`.

    Raises UsageError, with what is allowed, for anything else.
    """
    head, *options = text.split(",")
    source, _, preset_name = head.partition(":")
    preset_name = preset_name or "h200"
    if source != "simulated" or preset_name not in PRESETS:
        raise UsageError(f"{head!r} is no simulated GPU. Write simulated:PRESET with one of {', '.join(PRESETS)}.")
    spec = SimulatedSpec(preset_name=preset_name, preset=PRESETS[preset_name])
    seen: set[str] = set()
    for option in options:
        key, equals, value = option.partition("=")
        if key not in _KEYS or not equals:
            raise UsageError(f"{option!r} is no setting of a simulated GPU. Known are: {', '.join(_KEYS)}.")
        if key in seen and key != "fault":
            raise UsageError(f"{key} is given twice in {text!r}; only fault= may be repeated.")
        seen.add(key)
        spec = _with(spec, key, value)
    if (spec.preset.part_time or spec.preset.average_part_time) and spec.preset.lag_ms:
        raise UsageError(PART_TIME_BEHIND_LAG)
    if spec.preset.average_part_time and spec.preset.average_ms is None:
        raise UsageError(f"average=part: {preset_name} has no AVERAGE. Leave it out or choose another part.")
    if spec.events is not None and not spec.follows_events:
        raise UsageError(f"events={spec.events} and wave={spec.wave} exclude each other; leave one out.")
    if any(fault.gpu is not None and fault.gpu >= spec.gpus for fault in spec.faults):
        raise UsageError(f"A fault names a GPU that does not exist; there are {spec.gpus}, counted from 0.")
    return spec


def _with(spec: SimulatedSpec, key: str, value: str) -> SimulatedSpec:
    if key in _SENSOR_KEYS:
        (number,) = parse_numbers(f"{key}={value}", [value], negative=key == "offset")
        changed: dict[str, Any] = {_SENSOR_KEYS[key]: number}
        preset = replace(spec.preset, **changed)
        if key == "jitter":  # one word for every grid: 0 makes them all exact
            preset = replace(preset, counter_jitter_ms=number)
        if preset.counter_jitter_ms >= preset.counter_period_ms / 2:
            raise UsageError(f"jitter={value} ms is half a period of the counter or more; choose less.")
        return replace(spec, preset=preset)
    if key == "gpus":
        return replace(spec, gpus=parse_integer(key, value, 0, _MAX_GPUS))
    if key == "seed":
        return replace(spec, seed=parse_integer(key, value, 0, 2**63 - 1))
    if key == "origin":
        return replace(spec, origin_ns=parse_integer(key, value, 0, 2**63 - 1))
    if key == "wave":
        return replace(spec, wave=check_wave(value))
    if key in _CHOICES:
        field, no, yes = _CHOICES[key]
        if value not in (no, yes):
            raise UsageError(f"{key}={value} is unknown. It is {no} or {yes}.")
        chosen: dict[str, Any] = {field: value == yes}
        return replace(spec, preset=replace(spec.preset, **chosen))
    if key == "events":
        return replace(spec, events=value)
    return replace(spec, faults=(*spec.faults, _fault(value)))


def _fault(value: str) -> Fault:
    kind, at, when = value.partition("@")
    parts = when.split(":")
    if kind not in FAULT_KINDS or not at or not 1 <= len(parts) <= 3:
        raise UsageError(
            f"fault={value} is unknown. It is written KIND@FROM_S[:DURATION_S[:GPU]], KIND one of "
            f"{', '.join(FAULT_KINDS)}."
        )
    times_s = parse_numbers(f"fault={value}", parts[:2])
    return Fault(
        kind=kind,
        from_ns=to_ns(times_s[0]),
        duration_ns=to_ns(times_s[1]) if len(times_s) > 1 else None,
        gpu=parse_integer("the GPU of a fault", parts[2], 0, _MAX_GPUS - 1) if len(parts) > 2 else None,
    )
