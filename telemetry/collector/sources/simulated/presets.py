"""The GPUs that can be simulated: the table of docs/simulator.md."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

VOLTA, TURING, AMPERE, ADA, HOPPER, BLACKWELL = 5, 6, 7, 8, 9, 10  # NVML_DEVICE_ARCH_*

# What is counted of the energy between two reads of the counter, by the time between them, s.
UNDER_READ = ((0.0005, 0.046), (0.01, 0.244), (0.1, 0.867), (1.0, 0.984))
OVER_READ = ((0.02, 20.5), (0.4, 1.3), (0.5, 1.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """One kind of GPU. `gain` and `offset_w` are drawn for each board where they are None."""

    product: str
    architecture: int
    period_ms: int  # T: INSTANT and AVERAGE are published this often
    window_ms: int  # W: what INSTANT averages over
    average_ms: int | None  # W_a; None: the part has no AVERAGE
    counter_period_ms: float
    counter_jitter_ms: float  # plus or minus
    floor_w: float
    limit_w: float
    noise_w: float = 0.5
    part_time: bool = False  # the counter adds up INSTANT x T and not all the energy
    average_part_time: bool = False  # AVERAGE is the mean of the INSTANT windows of W_a and not of all of it
    call_rate: tuple[tuple[float, float], ...] = ()
    module_scope: bool = False
    memory_share: float = 0.0  # of AVERAGE, that AVERAGE of the memory scope shows; 0: the part has no such scope
    ring_every: int = 1  # the driver keeps each so-manieth INSTANT
    sensor_stamps: bool = False  # field values carry the time of the sample and not that of the call
    rate_limit_hz: float = 0.0  # power asked for more often than this answers 0 mW or NOT_SUPPORTED; 0: no limit
    memory_gib: int
    memory_temperature: bool = False
    clock_sm_mhz: int
    clock_memory_mhz: int
    gain: float | None = None
    offset_w: float | None = None
    delay_ms: float = 0.0  # from the end of a window to its publication
    jitter_ms: float = 0.0  # INSTANT and AVERAGE come out up to this much later
    lag_ms: float = 0.0
    latency_ms: float = 0.0  # median of a call

    @property
    def name(self) -> str:
        """The product name that the driver answers."""
        return f"{self.product} (simulated)"


_V100 = Preset(
    product="Tesla V100-SXM2-16GB",
    architecture=VOLTA,
    period_ms=20,
    window_ms=10,
    average_ms=None,
    counter_period_ms=20,
    counter_jitter_ms=1,
    floor_w=30,
    limit_w=300,
    memory_gib=16,
    memory_temperature=True,
    clock_sm_mhz=1530,
    clock_memory_mhz=877,
)
_TURING = Preset(
    product="Tesla T4",
    architecture=TURING,
    period_ms=100,
    window_ms=100,
    average_ms=None,
    counter_period_ms=100,
    counter_jitter_ms=2,
    floor_w=10,
    limit_w=70,
    memory_gib=15,
    clock_sm_mhz=1590,
    clock_memory_mhz=5001,
)
_A100 = Preset(
    product="NVIDIA A100-SXM4-80GB",
    architecture=AMPERE,
    period_ms=100,
    window_ms=25,
    average_ms=None,
    counter_period_ms=100,
    counter_jitter_ms=2,
    floor_w=45,
    limit_w=400,
    memory_gib=80,
    memory_temperature=True,
    clock_sm_mhz=1410,
    clock_memory_mhz=1593,
)
_GA10X = Preset(
    product="NVIDIA A40",
    architecture=AMPERE,
    period_ms=100,
    window_ms=100,
    average_ms=1000,
    counter_period_ms=100,
    counter_jitter_ms=2,
    floor_w=15,
    limit_w=300,
    ring_every=10,
    memory_gib=45,
    clock_sm_mhz=1740,
    clock_memory_mhz=7251,
)
_ADA_GEFORCE = Preset(
    product="NVIDIA GeForce RTX 4090",
    architecture=ADA,
    period_ms=100,
    window_ms=100,
    average_ms=1000,
    counter_period_ms=106.5,
    counter_jitter_ms=0.5,
    call_rate=UNDER_READ,
    noise_w=0.3,
    floor_w=15,
    limit_w=450,
    ring_every=10,
    memory_gib=24,
    clock_sm_mhz=2520,
    clock_memory_mhz=10501,
)
_L40S = Preset(
    product="NVIDIA L40S",
    architecture=ADA,
    period_ms=100,
    window_ms=100,
    average_ms=1000,
    counter_period_ms=100,
    counter_jitter_ms=2,
    floor_w=30,
    limit_w=350,
    memory_gib=45,
    clock_sm_mhz=2520,
    clock_memory_mhz=9001,
)
_H100 = Preset(
    product="NVIDIA H100 80GB HBM3",
    architecture=HOPPER,
    period_ms=100,
    window_ms=25,
    average_ms=1000,
    counter_period_ms=100,
    counter_jitter_ms=2,
    floor_w=60,
    limit_w=700,
    memory_share=0.15,
    memory_gib=80,
    memory_temperature=True,
    clock_sm_mhz=1980,
    clock_memory_mhz=2619,
)
_H200 = Preset(
    product="NVIDIA H200",
    architecture=HOPPER,
    period_ms=100,
    window_ms=25,
    average_ms=1000,
    counter_period_ms=100,
    counter_jitter_ms=2,
    floor_w=60,
    limit_w=700,
    memory_share=0.15,
    memory_gib=140,
    memory_temperature=True,
    clock_sm_mhz=1980,
    clock_memory_mhz=3201,
)
_GH200 = Preset(
    product="NVIDIA GH200 480GB",
    architecture=HOPPER,
    period_ms=100,
    window_ms=20,
    average_ms=1000,
    counter_period_ms=100,
    counter_jitter_ms=2,
    module_scope=True,
    noise_w=2,
    floor_w=100,
    limit_w=900,
    memory_gib=95,
    memory_temperature=True,
    clock_sm_mhz=1980,
    clock_memory_mhz=2619,
)
_B200 = Preset(
    product="NVIDIA B200",
    architecture=BLACKWELL,
    period_ms=100,
    window_ms=25,
    average_ms=1000,
    counter_period_ms=100,
    counter_jitter_ms=2,
    noise_w=1,
    floor_w=185,
    limit_w=1000,
    memory_share=0.15,
    memory_gib=179,
    memory_temperature=True,
    clock_sm_mhz=1965,
    clock_memory_mhz=3996,
)
_LAPTOP_RTX = Preset(
    product="NVIDIA GeForce RTX 5060 Laptop GPU",
    architecture=BLACKWELL,
    period_ms=495,
    window_ms=495,
    average_ms=1000,
    counter_period_ms=90,
    counter_jitter_ms=39,  # gaps from 12 ms up, as logged; independent jitter then also makes some over 108
    call_rate=OVER_READ,
    noise_w=0.3,
    floor_w=5,
    limit_w=60,
    memory_gib=8,
    clock_sm_mhz=2497,
    clock_memory_mhz=12001,
)

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "v100": _V100,
        "turing": _TURING,
        "a100": _A100,
        "ga10x": _GA10X,
        "ada_geforce": _ADA_GEFORCE,
        "l40s": _L40S,
        "h100": _H100,
        "h200": _H200,
        "gh200": _GH200,
        "b200": _B200,
        "laptop_rtx": _LAPTOP_RTX,
    }
)
