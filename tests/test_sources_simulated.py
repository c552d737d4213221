"""Simulated GPUs as a driver library, under pynvml and as sources."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pynvml
import pytest
from source_contract import Advance, SourceContract
from virtual_gpus import BOOTED_S, S, VirtualClock, library_of, opened

from telemetry.collector.sources.base import Source
from telemetry.collector.sources.nvml import install, open_nvml
from telemetry.collector.sources.simulated import (
    FAULT_KINDS,
    PRESETS,
    SimulatedLibrary,
    parse_spec,
    simulated_library,
)
from telemetry.errors import SourceBusy, SourceLost, SourceUnavailable, UsageError
from telemetry.model import Reading

SQUARE = "wave=square:100:600:0.1:0.5"


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.mark.parametrize("preset", PRESETS)
class TestEveryPresetIsASource(SourceContract):
    """Each with the loads that it is likely to meet."""

    @pytest.fixture
    def source(self, preset: str, clock: VirtualClock, runtime_dir: Path) -> Iterator[Source]:
        with opened(f"simulated:{preset},{SQUARE}", clock, runtime_dir) as (source,):
            yield source

    @pytest.fixture
    def advance(self, clock: VirtualClock) -> Advance:
        return clock.advance

    def test_it_is_marked_as_simulated_and_carries_its_identity(self, source: Source) -> None:
        assert source.device.simulated
        assert source.device.name.endswith("(simulated)")
        prefix, _, rest = source.device.uid.partition("-")
        assert prefix == "GPU"
        assert str(uuid.UUID(rest)) == rest
        assert rest.startswith("51d00000-")

    def test_every_sensor_that_nvml_has_is_answered(self, source: Source) -> None:
        sensors = source.read_sensors(processes=True)
        assert sensors.missing == ()
        assert sensors.processes == ()
        assert sensors.memory_used_bytes
        assert sensors.memory_reserved_bytes
        assert sensors.power_limit_mw == source.device.power_limit_mw


def test_parts_differ_in_what_they_support(clock: VirtualClock, runtime_dir: Path) -> None:
    found = {}
    for preset in ("v100", "a100", "ga10x", "h200", "gh200"):
        with opened(f"simulated:{preset},{SQUARE}", clock, runtime_dir) as (source,):
            reading = source.read()
            found[preset] = (
                reading.power_average_mw is not None,
                reading.memory_temp_c is not None,
                source.device.boundary,
            )
    assert found == {
        "v100": (False, True, "gpu-board"),
        "a100": (False, True, "gpu-board"),
        "ga10x": (True, False, "gpu-board"),
        "h200": (True, True, "gpu-board"),
        "gh200": (True, True, "module"),
    }


def watched(library: SimulatedLibrary, clock: VirtualClock) -> list[Reading]:
    clock.t_ns = round(BOOTED_S * S)
    sources = open_nvml("all", clock, {}, library=library)
    readings = []
    for _ in range(100):
        clock.advance(0.033)
        readings += [source.read() for source in sources]
    for source in sources:
        source.close()
    return readings


@pytest.mark.parametrize("wave", ["square:100:600:0.1:0.5", "burst:100:600:0.2:0.03", "ramp:100:600:0:2"])
@pytest.mark.parametrize("counter", ["full", "part"])
def test_equal_descriptions_are_the_same_gpus_and_other_seeds_are_others(
    wave: str, counter: str, clock: VirtualClock, runtime_dir: Path
) -> None:
    def series(seed: int) -> list[Reading]:
        spec = f"simulated:h200,gpus=2,seed={seed},wave={wave},counter={counter}"
        return watched(library_of(spec, clock, runtime_dir), clock)

    assert series(7) == series(7)
    assert series(7) != series(8)


def test_a_description_is_the_same_gpu_in_whatever_order_it_is_asked(clock: VirtualClock, runtime_dir: Path) -> None:
    spec = f"simulated:b200,seed=3,{SQUARE}"
    forwards: dict[int, Reading] = {}
    backwards: dict[int, Reading] = {}
    times = [round(BOOTED_S * S) + k * 37_000_000 for k in range(60)]
    for order, answers in ((times, forwards), (times[::-1], backwards)):
        with opened(spec, clock, runtime_dir) as (source,):
            for t_ns in order:
                clock.t_ns = t_ns
                answers[t_ns] = source.read()
    assert forwards == backwards


def test_the_counter_starts_at_a_large_number_that_a_store_can_hold(clock: VirtualClock, runtime_dir: Path) -> None:
    starts = []
    for seed in range(8):
        with opened(f"simulated:h200,seed={seed},{SQUARE}", clock, runtime_dir) as (source,):
            starts.append(source.read().energy_mj or 0)
    assert len(set(starts)) == 8
    assert max(starts) > 2**60
    assert max(starts) < 2**63


def test_a_wave_hours_after_boot_is_as_exact_as_at_first(clock: VirtualClock, runtime_dir: Path) -> None:
    spec = f"simulated:h200,{SQUARE},gain=1,offset=0,noise=0,jitter=0"
    gained = []
    for hours in (0, 400):
        clock.t_ns = round(BOOTED_S * S) + hours * 3600 * S
        with opened(spec, clock, runtime_dir) as (source,):
            before = source.read()
            clock.advance(10)
            after = source.read()
        gained.append((after.energy_mj or 0) - (before.energy_mj or 0))
    assert gained == [3_500_000, 3_500_000]


def test_sensors_follow_the_load(clock: VirtualClock, runtime_dir: Path) -> None:
    with opened("simulated:h200,wave=step:75:750:100:200", clock, runtime_dir) as (source,):
        cold = source.read_sensors(processes=False)
        clock.advance(190)
        hot = source.read_sensors(processes=False)
        clock.advance(200)
        cooled = source.read_sensors(processes=False)
    assert (cold.temperature_c, hot.temperature_c, cooled.temperature_c) == (33, 81, 33)
    assert (cold.clock_sm_mhz, hot.clock_sm_mhz) == (345, 1839)
    assert (cold.util_gpu_pct, hot.util_gpu_pct) == (0, 100)
    assert (cold.throttle_reasons, hot.throttle_reasons) == (1, 4)
    assert (cold.throttle_power_cap_ns, hot.throttle_power_cap_ns) == (0, 90 * S)
    assert cooled.throttle_power_cap_ns == 100 * S


# ---- through pynvml ----


def test_every_function_of_the_library_answers_through_pynvml(clock: VirtualClock, runtime_dir: Path) -> None:
    library = library_of("simulated:h200,gpus=2,wave=constant:400,gain=1,offset=0,noise=0", clock, runtime_dir)
    called: set[str] = set()

    class Watching:
        identity = "watching"

        def close(self) -> None:
            library.close()

        def __getattr__(self, name: str) -> Callable[..., Any]:
            function: Callable[..., Any] = getattr(library, name)
            called.add(name)
            return function

    n = pynvml
    with install(Watching()):
        n.nvmlInit()
        assert n.nvmlDeviceGetCount() == 2
        gpu = n.nvmlDeviceGetHandleByIndex(1)
        same = n.nvmlDeviceGetHandleByUUID(n.nvmlDeviceGetUUID(gpu))
        assert n.nvmlDeviceGetIndex(same) == 1
        assert n.nvmlDeviceGetName(gpu) == "NVIDIA H200 (simulated)"
        assert n.nvmlSystemGetDriverVersion() == "580.65.06"
        assert n.nvmlSystemGetNVMLVersion() == "13.580.65.06"
        assert n.nvmlSystemGetCudaDriverVersion_v2() == 13000
        assert n.nvmlDeviceGetVbiosVersion(gpu) == "51.D0.00.00.01"
        assert n.nvmlDeviceGetArchitecture(gpu) == n.NVML_DEVICE_ARCH_HOPPER
        assert n.nvmlDeviceGetBrand(gpu) == n.NVML_BRAND_NVIDIA
        assert n.nvmlDeviceGetPersistenceMode(gpu) == 1
        assert n.nvmlDeviceGetMigMode(gpu) == [0, 0]
        one, two = n.nvmlDeviceGetMemoryInfo(gpu), n.nvmlDeviceGetMemoryInfo(gpu, n.nvmlMemory_v2)
        assert one.total == two.total == 140 << 30
        assert one.used == two.used + two.reserved
        assert two.free + two.used + two.reserved == two.total
        assert n.nvmlDeviceGetPowerUsage(gpu) == 400_000
        energy_mj = n.nvmlDeviceGetTotalEnergyConsumption(gpu)
        values = n.nvmlDeviceGetFieldValues(gpu, [186, (185, 0), (186, 1), 83, 191, 82, 74, 76, 1])
        assert [v.nvmlReturn for v in values] == [0, 0, 3, 0, 0, 0, 0, 0, 3]
        assert (values[0].value.uiVal, values[1].value.uiVal) == (400_000, 400_000)
        assert values[3].value.ullVal == values[4].value.ullVal == energy_mj
        kind, samples = n.nvmlDeviceGetSamples(gpu, n.NVML_TOTAL_POWER_SAMPLES, 0)
        assert kind == n.NVML_VALUE_TYPE_UNSIGNED_INT
        assert len(samples) == 120
        assert {sample.sampleValue.uiVal for sample in samples} == {400_000}
        assert samples[-1].timeStamp - samples[0].timeStamp == 119 * 100_000
        _, newer = n.nvmlDeviceGetSamples(gpu, n.NVML_TOTAL_POWER_SAMPLES, samples[-4].timeStamp)
        assert [sample.timeStamp for sample in newer] == [sample.timeStamp for sample in samples[-3:]]
        with pytest.raises(n.NVMLError_NotSupported):
            n.nvmlDeviceGetSamples(gpu, n.NVML_MODULE_POWER_SAMPLES, 0)
        assert n.nvmlDeviceGetUtilizationRates(gpu).gpu == 100
        kelvin_free = n.nvmlDeviceGetTemperature(gpu, n.NVML_TEMPERATURE_GPU)
        assert kelvin_free == n.nvmlDeviceGetTemperatureV(gpu, n.NVML_TEMPERATURE_GPU) == 57
        assert n.nvmlDeviceGetClockInfo(gpu, n.NVML_CLOCK_SM) == 1980
        assert n.nvmlDeviceGetClockInfo(gpu, n.NVML_CLOCK_MEM) == 3201
        assert n.nvmlDeviceGetMaxClockInfo(gpu, n.NVML_CLOCK_SM) == 1980
        assert n.nvmlDeviceGetEnforcedPowerLimit(gpu) == 700_000
        assert n.nvmlDeviceGetPowerManagementLimit(gpu) == 700_000
        assert n.nvmlDeviceGetPowerManagementDefaultLimit(gpu) == 700_000
        assert n.nvmlDeviceGetPowerManagementLimitConstraints(gpu) == [233_333, 700_000]
        assert n.nvmlDeviceGetCurrentClocksEventReasons(gpu) == 0
        assert n.nvmlDeviceGetCurrentClocksThrottleReasons(gpu) == 0
        assert n.nvmlDeviceGetComputeRunningProcesses(gpu) == []
        assert n.nvmlErrorString(15) == "GPU is lost"
        with pytest.raises(n.NVMLError_InvalidArgument):
            n.nvmlDeviceGetHandleByIndex(2)
        with pytest.raises(n.NVMLError_NotFound):
            n.nvmlDeviceGetHandleByUUID("GPU-nobody")
        with pytest.raises(n.NVMLError_FunctionNotFound):
            n.nvmlDeviceGetFanSpeed(gpu)
        n.nvmlShutdown()
        with pytest.raises(n.NVMLError_Uninitialized):
            n.nvmlDeviceGetPowerUsage(gpu)
    assert called == set(library.function_names)


def test_two_users_of_one_description_share_its_library_until_both_have_closed(
    clock: VirtualClock, runtime_dir: Path
) -> None:
    spec = f"simulated:h200,{SQUARE}"
    with opened(spec, clock, runtime_dir) as (first,):
        with opened(spec, clock, runtime_dir) as (second,):
            assert first.read() == second.read()
        assert first.read().energy_mj is not None
        with (
            pytest.raises(SourceUnavailable, match="another simulation"),
            opened(f"simulated:h100,{SQUARE}", clock, runtime_dir),
        ):
            pass
    assert pynvml.nvmlLib is None


# ---- faults ----


def faulty(fault: str, clock: VirtualClock, runtime_dir: Path) -> Any:
    return opened(f"simulated:h200,gpus=2,wave=constant:300,gain=1,offset=0,noise=0,{fault}", clock, runtime_dir)


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("lost", SourceLost),
        ("busy", SourceBusy),
        ("unknown", SourceBusy),
        ("no_driver", SourceLost),
        ("mismatch", SourceLost),
        ("no_permission", SourceBusy),
    ],
)
def test_a_call_under_a_fault_raises_what_the_caller_is_to_do_and_recovers(
    kind: str, error: type[Exception], clock: VirtualClock, runtime_dir: Path
) -> None:
    with faulty(f"fault={kind}@5:3", clock, runtime_dir) as (source, _):
        clock.advance(4.9)
        before = source.read()
        clock.advance(0.2)
        with pytest.raises(error):
            source.read()
        if error is SourceLost:
            with pytest.raises(SourceLost):
                source.reopen()
        clock.advance(3)
        source.reopen()
        after = source.read()
        assert (after.energy_mj or 0) - (before.energy_mj or 0) == pytest.approx(3.2 * 300_000, abs=32_000)


@pytest.mark.parametrize(
    ("kind", "words"),
    [("no_driver", "not loaded"), ("no_permission", "refuses this user"), ("mismatch", "different versions")],
)
def test_a_driver_that_does_not_start_makes_the_source_unavailable(
    kind: str, words: str, clock: VirtualClock, runtime_dir: Path
) -> None:
    with pytest.raises(SourceUnavailable, match=words), faulty(f"fault={kind}@0", clock, runtime_dir):
        pass
    assert pynvml.nvmlLib is None


def test_no_gpus_make_the_source_unavailable(clock: VirtualClock, runtime_dir: Path) -> None:
    with pytest.raises(SourceUnavailable, match="no GPU"), opened("simulated,gpus=0", clock, runtime_dir):
        pass


def test_zero_power_is_missing_and_the_counter_goes_on(clock: VirtualClock, runtime_dir: Path) -> None:
    with faulty("fault=zero@5:3", clock, runtime_dir) as (source, _):
        clock.advance(6)
        reading = source.read()
        assert reading.missing == ("power_instant:zero", "power_average:zero")
        assert (reading.power_instant_mw, reading.power_average_mw) == (None, None)
        assert reading.energy_mj is not None
        clock.advance(3)
        assert source.read().power_instant_mw == 300_000


def test_unsupported_power_and_energy_are_missing_with_the_rest_kept(clock: VirtualClock, runtime_dir: Path) -> None:
    with faulty("fault=not_supported@5:3", clock, runtime_dir) as (source, _):
        clock.advance(6)
        reading = source.read()
        assert reading.missing == (
            "power_instant:not_supported",
            "power_average:not_supported",
            "energy:not_supported",
        )
        assert reading.memory_temp_c is not None


def test_a_reset_starts_the_counter_at_zero(clock: VirtualClock, runtime_dir: Path) -> None:
    with faulty("fault=reset@5", clock, runtime_dir) as (source, _):
        clock.advance(4.9)
        before_mj = source.read().energy_mj or 0
        clock.advance(0.2)
        reset_mj = source.read().energy_mj
        clock.advance(10)
        after_mj = source.read().energy_mj
    assert before_mj > 10**15
    assert reset_mj is not None
    assert 0 <= reset_mj <= 30_000
    assert after_mj == pytest.approx(10.1 * 300_000, abs=31_000)


def test_stale_values_stand_still_and_then_catch_up(clock: VirtualClock, runtime_dir: Path) -> None:
    with faulty("fault=stale@5:3", clock, runtime_dir) as (source, _):
        clock.advance(5.1)
        first = source.read()
        clock.advance(2.8)
        assert source.read().energy_mj == first.energy_mj
        clock.advance(1)
        assert (source.read().energy_mj or 0) - (first.energy_mj or 0) > 3 * 300_000


def test_a_hanging_call_returns_when_the_fault_is_over_and_other_gpus_answer(
    clock: VirtualClock, runtime_dir: Path
) -> None:
    with faulty("fault=hang@5:3:1", clock, runtime_dir) as (healthy, hanging):
        clock.advance(6)
        healthy.read()
        assert clock.slept_s == []
        reading = hanging.read()
        assert clock.slept_s == [pytest.approx(2.0)]
        assert reading.latency_ns == pytest.approx(2 * S)
        assert reading.energy_mj is not None


def test_a_slow_driver_takes_its_time_for_every_call(clock: VirtualClock, runtime_dir: Path) -> None:
    with faulty("fault=slow@5:3", clock, runtime_dir) as (source, _):
        clock.advance(6)
        assert source.read().latency_ns == 8_000_000
        clock.advance(3)
        assert source.read().latency_ns == 0


def test_calls_take_the_time_that_was_asked_for(clock: VirtualClock, runtime_dir: Path) -> None:
    with opened(f"simulated:h200,{SQUARE},latency=0.2", clock, runtime_dir) as (source,):
        latencies_ms = sorted(source.read().latency_ns / 1e6 for _ in range(400))
    assert latencies_ms[200] == pytest.approx(0.2, rel=0.15)
    assert 0.4 < latencies_ms[396] < 1.5


def test_a_fault_may_concern_one_gpu_and_several_may_be_given(clock: VirtualClock, runtime_dir: Path) -> None:
    with faulty("fault=lost@5:3:0,fault=busy@6:1:1", clock, runtime_dir) as (first, second):
        clock.advance(5.5)
        assert second.read().missing == ()
        with pytest.raises(SourceLost):
            first.read()
        clock.advance(1)
        with pytest.raises(SourceBusy):
            second.read()


# ---- descriptions ----


def test_a_description_without_more_is_an_h200_that_follows_events(runtime_dir: Path) -> None:
    spec = parse_spec("simulated")
    assert (spec.preset_name, spec.gpus, spec.seed, spec.wave) == ("h200", 1, 0, "events")
    path = spec.event_log_path(runtime_dir)
    assert path.parent == runtime_dir
    assert path.name.startswith("simulated-h200-0-")
    assert parse_spec("simulated:a100,events=/tmp/x").event_log_path(runtime_dir) == Path("/tmp/x")


def test_the_levels_of_an_events_wave_fit_the_part_or_are_given() -> None:
    h200 = parse_spec("simulated").levels()
    assert (h200.idle_mw, h200.prefill_mw, h200.decode_mw) == (75_000, 651_000, 385_000)
    given = parse_spec("simulated:turing,wave=events:10:60:40").levels()
    assert (given.idle_mw, given.prefill_mw, given.decode_mw) == (10_000, 60_000, 40_000)


def test_waves_are_drawn_as_described(tmp_path: Path) -> None:
    csv = tmp_path / "wave.csv"
    csv.write_text("time_s,power_w\n0,100\n1,100\n1,300\n3,500\n")

    def powers_w(wave: str, *times_s: float) -> list[float]:
        truth = parse_spec(f"simulated,wave={wave},origin={10 * S}").waveform()
        return [truth.power_mw(10 * S + round(t * S)) / 1000 for t in times_s]

    assert powers_w("constant:123.5", -5, 0, 5) == [123.5] * 3
    assert powers_w("step:80:500:1:2", 0.9, 1, 1.9, 2) == [80, 500, 500, 80]
    assert powers_w("square:100:600:0.1", 0, 0.049, 0.05, 0.099, 0.1, -0.01) == [600, 600, 100, 100, 600, 100]
    assert powers_w("square:100:600:0.1:0.2", 0.019, 0.021) == [600, 100]
    assert powers_w("ramp:100:200:1:3", 0, 2, 4) == [100, 150, 200]
    assert powers_w(f"csv:{csv}", -1, 0.5, 1, 2, 9) == [100, 100, 300, 400, 500]


def test_bursts_have_the_gaps_and_lengths_that_were_asked_for() -> None:
    truth = parse_spec("simulated,wave=burst:100:700:0.2:0.03,seed=5").waveform()
    bursts = [p for p in truth.pieces(0, 200 * S) if p.start_mw == 700_000]
    assert {p.end_ns - p.start_ns for p in bursts[:-1]} == {30_000_000}
    assert len(bursts) == pytest.approx(200 / 0.23, rel=0.1)
    other = parse_spec("simulated,wave=burst:100:700:0.2:0.03,seed=6").waveform()
    assert next(other.pieces(0, S)) != next(truth.pieces(0, S))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("simulated:h300", "h200"),
        ("simulation", "simulated:PRESET"),
        ("simulated,", "Known are: gpus"),
        ("simulated,volts=5", "Known are: gpus"),
        ("simulated,gpus", "Known are: gpus"),
        ("simulated,gpus=two", "whole number from 0 to 64"),
        ("simulated,gpus=65", "whole number from 0 to 64"),
        ("simulated,seed=-1", "seed=-1"),
        ("simulated,seed=1,seed=2", "given twice"),
        ("simulated,origin=now", "origin=now"),
        ("simulated,counter=half", "counter=half is unknown. It is full or part"),
        ("simulated,average=some", "It is full or part"),
        ("simulated,timestamp=now", "It is call or sensor"),
        ("simulated:a100,average=part", "a100 has no AVERAGE"),
        ("simulated,lag=5,average=part", "not modelled"),
        ("simulated,wave=triangle:1:2", "square:LOW:HIGH:PERIOD_S"),
        ("simulated,wave=constant", "constant:W"),
        ("simulated,wave=constant:-5", "'-5' is not a number of 0 or more"),
        ("simulated,wave=constant:1:2", "has 2 numbers"),
        ("simulated,wave=events:1:2", "has 2 numbers"),
        ("simulated,wave=square:1:2:0", "10 us"),
        ("simulated,wave=square:1:2:1:1.5", "duty"),
        ("simulated,wave=step:1:2:5:5", "times must rise"),
        ("simulated,wave=burst:1:2:0.1:0", "10 us"),
        ("simulated,wave=csv", "csv:PATH"),
        ("simulated,wave=constant:1,events=/tmp/x", "exclude each other"),
        ("simulated,fault=fire@5", "KIND@FROM_S"),
        ("simulated,fault=lost", "KIND@FROM_S"),
        ("simulated,fault=lost@soon", "'soon' is not a number"),
        ("simulated,fault=lost@1:2:3:4", "KIND@FROM_S"),
        ("simulated,fault=lost@1:2:1", "there are 1"),
        ("simulated,jitter=50", "half a period"),
        ("simulated,lag=5,counter=part", "not modelled"),
        ("simulated,gain=nan", "'nan' is not a number"),
    ],
)
def test_a_wrong_description_is_refused_with_what_is_allowed(spec: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_spec(spec)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "cannot be read"),
        ("t,p\n1,2\n", "does not begin with"),
        ("time_s,power_w\n", "has no points"),
        ("time_s,power_w\n0,1\n2,1\n1,1\n", "line 4"),
        ("time_s,power_w\n0,-1\n", "line 2"),
        ("time_s,power_w\n0,1,2\n", "line 2"),
        ("time_s,power_w\n0,warm\n", "line 2"),
    ],
)
def test_a_file_that_is_no_wave_is_refused_with_its_line(
    text: str | None, words: str, tmp_path: Path, runtime_dir: Path
) -> None:
    path = tmp_path / "wave.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=words):
        simulated_library(f"simulated,wave=csv:{path}", runtime_dir)


def test_the_documentation_names_every_preset_key_wave_and_fault() -> None:
    page = (Path(__file__).parent.parent / "docs" / "simulator.md").read_text()
    keys = ("gpus", "seed", "wave", "counter", "average", "timestamp", "origin", "fault", "events", "gain", "offset")
    waves = ("constant:", "step:", "square:", "ramp:", "burst:", "csv:", "events")
    for word in (*PRESETS, *FAULT_KINDS, *keys, "noise", "delay", "jitter", "lag", "latency", "rate_limit", *waves):
        assert f"`{word}" in page, word
