"""The records of the project: frozen, typed, with the unit in every name.

`t_ns` is always the host's steady clock (see `clock`). A value that was not measured is None.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Boundary = Literal["gpu-board", "module", "cpu-package", "dram", "wall"]
TokenKind = Literal["token", "coalesced", "chunk"]
FinishReason = Literal["stop", "length", "cancelled", "error"]
CountSource = Literal["ids", "server", "chunks", "caller"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A thing whose power can be read: a GPU, a CPU package, an external meter.

    `integral_of` names the power signal that the stored integral follows: `instant`, `average`,
    `legacy` (nvmlDeviceGetPowerUsage), or the column of an imported file.
    """

    uid: str
    name: str
    index: int
    boundary: Boundary = "gpu-board"
    simulated: bool = False
    integral_of: str | None = None
    has_counter: bool = False
    counter_suspect: bool = False  # reading the counter may change it: energy comes from power where there is any
    driver: str | None = None
    vbios: str | None = None
    memory_bytes: int | None = None
    power_limit_mw: int | None = None
    kind: str = "gpu"

    @property
    def energy_path(self) -> Literal["counter", "integral"] | None:
        """Which stored series energy comes from; None where neither exists."""
        if self.has_counter and not (self.counter_suspect and self.integral_of):
            return "counter"
        return "integral" if self.integral_of else None


def counter_is_suspect(name: str) -> bool:
    """Return whether reading the energy counter of a board of that name may change what it counts.

    It does on RTX 4090 and 5060 Ti (Dauner, HotCarbon 2026); nothing is known of their kin.
    """
    return any(part in name for part in ("GeForce", "RTX", "TITAN"))


def power_column(integral_of: str) -> Literal["power_instant_mw", "power_average_mw"]:
    """Return the `reading` column that holds the power signal of that name.

    There are two columns: one for the instantaneous signal, one for everything the driver averages.
    """
    return "power_instant_mw" if integral_of.endswith("instant") else "power_average_mw"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One poll of one device, as the driver gave it."""

    t_ns: int  # midpoint of the call
    latency_ns: int
    power_instant_mw: int | None = None  # None: the driver did not say; never 0 for that
    power_average_mw: int | None = None
    energy_mj: int | None = None  # the device's own cumulative counter, where it has one
    memory_temp_c: int | None = None
    missing: tuple[str, ...] = ()  # why a value is None, one code each: "power_instant:zero"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingRow:
    """A stored reading: one that differs from the row before it, or keeps the series alive.

    Whatever changed in this row changed in (h − since_ns', h], h = t_ns + latency/2, where since_ns'
    is that of the first row with the new value: see docs/store.md.
    """

    t_ns: int
    power_instant_mw: int | None
    power_average_mw: int | None
    energy_mj: int | None
    integral_uj: int | None  # running trapezoid over every poll of this session; None without power
    since_ns: int  # end of this call minus the start of the previous successful poll
    latency_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensors:
    """The slow tier as the driver gave it: state that changes over seconds."""

    temperature_c: int | None = None
    memory_used_bytes: int | None = None
    memory_reserved_bytes: int | None = None
    util_gpu_pct: int | None = None
    util_memory_pct: int | None = None
    clock_sm_mhz: int | None = None
    clock_memory_mhz: int | None = None
    power_limit_mw: int | None = None
    throttle_reasons: int | None = None  # NVML's bit mask of clocks-event reasons
    throttle_power_cap_ns: int | None = None  # cumulative, fields 74, 76, 269, 270, 271
    throttle_sync_boost_ns: int | None = None
    throttle_sw_thermal_ns: int | None = None
    throttle_hw_thermal_ns: int | None = None
    throttle_power_brake_ns: int | None = None
    processes: tuple[tuple[int, int | None], ...] | None = None  # (pid, bytes); None: not asked this time
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """One row a second: the slow tier, and what the fast tier saw since the row before.

    misses: polls that failed, or gave no power where the device tells power.
    """

    t_ns: int
    sensors: Sensors
    memory_temp_c: int | None
    power_max_mw: int | None
    power_min_mw: int | None
    polls: int
    misses: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """An interval in which a device was not measured, and why.

    Reasons: `missed` (the poller was late), `error` (calls failed), `hang`, `stuck`, `lost`,
    `counter_reset`, `suspend`, `dropped` (the store did not take the rows), `file` (a hole in a
    recording).
    """

    from_ns: int
    to_ns: int
    reason: str


Item = tuple[str, ReadingRow | Vitals | Gap]  # what a collector writes, with the UID of the device it speaks of


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a run is about, as it is written when it starts."""

    uid: str
    start_ns: int
    name: str | None = None
    experiment: str | None = None
    model: str | None = None
    runner: str | None = None
    quantisation: str | None = None
    batch_size: int = 1
    concurrency: int = 1
    warmup: bool = False
    repeat: int | None = None
    position: int | None = None  # the run's place in the experiment's order
    settings: Mapping[str, Any] = field(default_factory=dict)
    devices: tuple[str, ...] = ()  # UIDs of the devices whose energy belongs to the run
    environment: str | None = None  # hash of the environment
    pid: int | None = None
    flags: tuple[str, ...] = ()  # what speaks against the run before it has begun


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """Runs that were planned together: what was to be done, as it was asked for."""

    uid: str
    name: str
    plan: Mapping[str, Any]
    plan_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRow:
    """One prompt, as it stands when it has ended."""

    run: str
    number: int
    submitted_ns: int
    started_ns: int | None
    first_token_ns: int | None
    last_token_ns: int | None
    ended_ns: int | None
    input_tokens: int | None
    cached_tokens: int | None
    output_tokens: int | None
    finish_reason: str | None
    count_source: str | None
    status: Literal["open", "ok", "failed"]
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenChunk:
    """The times of up to 64 tokens: the first's, then the gaps to each next one, µs."""

    run: str
    request: int
    first_index: int
    kind: TokenKind
    start_ns: int
    gaps_us: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number that says where it comes from and how far it can be wrong.

    `value` is None where the data resolve no point value; `lo` and `hi` still bound it then.
    """

    value: float | None
    lo: float | None
    hi: float | None
    method: str
    grade: Literal["A", "B", "C", "U", "n/a"]  # n/a: a count or a time, which carries no bounds
    flags: tuple[str, ...] = ()


ALL_DEVICES = 0  # in the place of a device's number: the devices of a run together


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """An estimate that the store keeps, of a run or of one device in it, by the store's own numbers."""

    run: int
    device: int
    quantity: str
    estimate: Estimate
