"""The NVML source, on a driver whose every answer the test has written."""

from collections.abc import Callable, Iterator

import pynvml
import pytest
from fake_driver import ULONG_LONG, Answer, FakeDriver, FakeGpu
from virtual_gpus import VirtualClock

from telemetry.collector.sources.nvml import NvmlSource, install, open_nvml
from telemetry.errors import SourceBusy, SourceLost, SourceUnavailable, UsageError

UUIDS = ("GPU-aaaa1111-0000-0000-0000-000000000000", "GPU-aaaa2222-0000-0000-0000-000000000000")
INSTANT, AVERAGE, ENERGY, MEMORY_TEMP = (186, 0), (185, 0), (83, 0), (82, 0)
LOST_CODES = (1, 6, 9, 15, 16, 18)

Open = Callable[..., list[NvmlSource]]


def gpu(uuid: str = UUIDS[0]) -> FakeGpu:
    """Return a GPU that answers all four fields of the fast tier."""
    return FakeGpu(
        uuid=uuid,
        fields={
            INSTANT: Answer(300_000),
            AVERAGE: Answer(290_000),
            ENERGY: Answer(5_000_000, ULONG_LONG),
            MEMORY_TEMP: Answer(61),
        },
    )


@pytest.fixture
def open_gpus() -> Iterator[Open]:
    opened: list[NvmlSource] = []

    def open_(*gpus: FakeGpu, driver: FakeDriver | None = None, named: str = "all", **environ: str) -> object:
        clock = VirtualClock()
        sources = open_nvml(named, clock, environ, library=driver or FakeDriver(*gpus))
        opened.extend(sources)
        return sources

    yield open_  # type: ignore[misc]
    for source in opened:
        source.close()


def test_one_call_reads_the_whole_fast_tier(open_gpus: Open) -> None:
    driver = FakeDriver(gpu())
    (source,) = open_gpus(driver=driver)
    driver.asked.clear()
    reading = source.read()
    assert driver.asked == [[INSTANT, AVERAGE, ENERGY, MEMORY_TEMP]]
    assert (reading.power_instant_mw, reading.power_average_mw) == (300_000, 290_000)
    assert (reading.energy_mj, reading.memory_temp_c) == (5_000_000, 61)
    assert reading.missing == ()
    assert source.device.integral_of == "instant"
    assert source.device.energy_path == "counter"
    assert source.device.boundary == "gpu-board"


def test_a_reading_is_stamped_with_the_middle_of_its_call() -> None:
    clock = VirtualClock()
    driver = FakeDriver(gpu())
    (source,) = open_nvml("all", clock, {}, library=driver)
    driver.on_call = lambda: clock.advance(0.004)
    start_ns = clock.now_ns()
    reading = source.read()
    source.close()
    assert reading.t_ns == start_ns + 2_000_000
    assert reading.latency_ns == 4_000_000


def test_a_counter_beyond_32_bits_does_not_wrap(open_gpus: Open) -> None:
    card = gpu()
    card.fields[ENERGY] = Answer(4_294_970_000, ULONG_LONG)
    (source,) = open_gpus(card)
    assert source.read().energy_mj == 4_294_970_000


@pytest.mark.parametrize(
    ("kind", "number"), [(0, 300_000.4), (1, 300_000), (2, 300_000), (3, 300_000), (4, 300_000), (5, 300_000)]
)
def test_a_value_is_read_as_the_type_that_the_driver_names(open_gpus: Open, kind: int, number: float) -> None:
    card = gpu()
    card.fields[INSTANT] = Answer(number, kind)
    (source,) = open_gpus(card)
    assert source.read().power_instant_mw == 300_000


@pytest.mark.parametrize(
    ("field", "answer", "code"),
    [
        (INSTANT, Answer(0), "power_instant:zero"),
        (INSTANT, Answer(code=3), "power_instant:not_supported"),
        (AVERAGE, Answer(code=10), "power_average:timeout"),
        (ENERGY, Answer(code=999), "energy:unknown"),
        (ENERGY, Answer(code=777), "energy:nvml_777"),
        (ENERGY, Answer(2**63, ULONG_LONG), "energy:range"),
        (ENERGY, Answer(float("nan"), 0), "energy:range"),
        (INSTANT, Answer(-5, 5), "power_instant:range"),
        (INSTANT, Answer(2**32 - 1), "power_instant:range"),
        (INSTANT, Answer(5, 42), "power_instant:range"),
    ],
)
def test_what_cannot_be_true_is_missing_with_a_reason_and_the_rest_is_kept(
    open_gpus: Open, field: tuple[int, int], answer: Answer, code: str
) -> None:
    card = gpu()
    (source,) = open_gpus(card)
    whole = source.read()
    card.fields[field] = answer
    reading = source.read()
    assert reading.missing == (code,)
    column = {INSTANT: "power_instant_mw", AVERAGE: "power_average_mw", ENERGY: "energy_mj"}
    for name in column.values():
        expected = None if name == column[field] else getattr(whole, name)
        assert getattr(reading, name) == expected


def test_a_limit_and_a_temperature_that_cannot_be_true_are_missing(open_gpus: Open) -> None:
    card = gpu()
    card.plain = {"nvmlDeviceGetEnforcedPowerLimit": 2**32 - 1, "nvmlDeviceGetTemperature": 2**32 - 1}
    (source,) = open_gpus(card)
    sensors = source.read_sensors(processes=False)
    assert (source.device.power_limit_mw, sensors.power_limit_mw, sensors.temperature_c) == (None, None, None)
    assert {"power_limit:range", "temperature:range"} <= set(sensors.missing)


@pytest.mark.parametrize(
    ("said", "name"), [(b"NV\xc9DIA H\x1b[31m\n200", "NV\ufffdDIA H\ufffd[31m\ufffd200"), ("H²".encode(), "H²")]
)
def test_a_name_is_text_whatever_bytes_the_driver_says(open_gpus: Open, said: bytes, name: str) -> None:
    card = gpu()
    card.name = said
    (source,) = open_gpus(card)
    assert source.device.name == name


def test_a_counter_at_zero_is_a_value(open_gpus: Open) -> None:
    card = gpu()
    card.fields[ENERGY] = Answer(0, ULONG_LONG)
    (source,) = open_gpus(card)
    assert source.read().energy_mj == 0


def test_fields_that_the_gpu_never_supports_are_not_asked_for(open_gpus: Open) -> None:
    card = gpu()
    del card.fields[AVERAGE], card.fields[MEMORY_TEMP]
    driver = FakeDriver(card)
    (source,) = open_gpus(driver=driver)
    driver.asked.clear()
    reading = source.read()
    assert driver.asked == [[INSTANT, ENERGY]]
    assert reading.missing == ()


def test_a_field_that_fails_only_now_and_then_is_kept(open_gpus: Open) -> None:
    card = gpu()
    driver = FakeDriver(card)
    flaky = iter([3, 3, 0])

    def some_calls_refuse() -> None:
        if driver.calls["nvmlDeviceGetFieldValues"] in (1, 2, 3):
            card.fields[INSTANT].code = next(flaky, 0)

    driver.on_call = some_calls_refuse
    (source,) = open_gpus(driver=driver)
    assert source.read().power_instant_mw == 300_000


def test_without_instant_the_average_is_integrated(open_gpus: Open) -> None:
    card = gpu()
    del card.fields[INSTANT]
    (source,) = open_gpus(card)
    assert source.device.integral_of == "average"


def test_without_fields_the_old_calls_serve(open_gpus: Open) -> None:
    card = FakeGpu(
        uuid=UUIDS[0],
        plain={"nvmlDeviceGetPowerUsage": 77_000, "nvmlDeviceGetTotalEnergyConsumption": 4_294_970_000},
    )
    (source,) = open_gpus(card)
    reading = source.read()
    assert source.device.integral_of == "legacy"
    assert source.device.has_counter
    assert reading.power_average_mw == 77_000
    assert reading.power_instant_mw is None
    assert reading.energy_mj == 4_294_970_000
    card.errors["nvmlDeviceGetPowerUsage"] = 999
    card.plain["nvmlDeviceGetTotalEnergyConsumption"] = 4_294_971_000
    reading = source.read()
    assert reading.energy_mj == 4_294_971_000
    assert reading.missing == ("power_average:unknown",)


def test_power_of_the_module_is_taken_only_when_there_is_no_other_and_is_said(open_gpus: Open) -> None:
    card = gpu()
    card.fields[(186, 1)] = Answer(900_000)
    (both,) = open_gpus(card)
    assert both.device.boundary == "gpu-board"
    assert both.read().power_instant_mw == 300_000
    both.close()
    del card.fields[INSTANT], card.fields[AVERAGE]
    (module,) = open_gpus(card)
    assert module.device.boundary == "module"
    assert module.read().power_instant_mw == 900_000


def test_a_gpu_that_tells_neither_power_nor_energy_is_refused_by_name(open_gpus: Open) -> None:
    with pytest.raises(SourceUnavailable, match=f"Fake .{UUIDS[0]}. tells neither power nor energy"):
        open_gpus(FakeGpu(uuid=UUIDS[0]))


def test_a_gpu_that_keeps_power_and_energy_from_this_user_is_refused(open_gpus: Open) -> None:
    card = FakeGpu(uuid=UUIDS[0], fields={INSTANT: Answer(code=4), ENERGY: Answer(code=4)})
    card.errors = {"nvmlDeviceGetPowerUsage": 4, "nvmlDeviceGetTotalEnergyConsumption": 4}
    with pytest.raises(SourceUnavailable, match="tells neither power nor energy"):
        open_gpus(card)


@pytest.mark.parametrize("code", [*LOST_CODES, 10, 999, 17])
def test_an_error_of_the_call_says_whether_to_open_again_or_to_try_again(open_gpus: Open, code: int) -> None:
    card = gpu()
    (source,) = open_gpus(card)
    card.errors["nvmlDeviceGetFieldValues"] = code
    with pytest.raises(SourceLost if code in LOST_CODES else SourceBusy, match=UUIDS[0]):
        source.read()
    card.errors.clear()
    assert source.read().power_instant_mw == 300_000


@pytest.mark.parametrize("code", LOST_CODES)
def test_a_field_that_says_the_gpu_is_lost_speaks_for_the_gpu(open_gpus: Open, code: int) -> None:
    card = gpu()
    (source,) = open_gpus(card)
    card.fields[ENERGY].code = code
    with pytest.raises(SourceLost):
        source.read()


def test_a_lost_gpu_is_found_again_by_its_uuid(open_gpus: Open) -> None:
    card = gpu()
    (source,) = open_gpus(card)
    card.errors[""] = 15
    for _ in range(2):
        with pytest.raises(SourceLost, match="not back yet"):
            source.reopen()
    card.errors.clear()
    source.reopen()
    assert source.read().power_instant_mw == 300_000


def test_after_a_driver_reload_every_source_finds_its_gpu_again(open_gpus: Open) -> None:
    driver = FakeDriver(gpu(UUIDS[0]), gpu(UUIDS[1]))
    first, second = open_gpus(driver=driver)
    driver.alive = 0
    for source in (first, second):
        with pytest.raises(SourceLost):
            source.read()
    driver.init_code = 9
    with pytest.raises(SourceLost):
        first.reopen()
    driver.init_code = 0
    first.reopen()
    assert first.read().energy_mj == 5_000_000
    assert second.read().energy_mj == 5_000_000  # its handle is of the driver before
    second.reopen()
    assert second.read().energy_mj == 5_000_000


def test_two_sources_that_miss_the_driver_together_start_it_once(open_gpus: Open) -> None:
    driver = FakeDriver(gpu(UUIDS[0]), gpu(UUIDS[1]))
    first, second = open_gpus(driver=driver)
    driver.alive = 0

    def the_other_comes_first() -> None:
        driver.on_call = lambda: None
        second.reopen()
        driver.alive, alive = 0, driver.alive  # the call under way still finds no driver
        driver.on_call = lambda: setattr(driver, "alive", alive)

    driver.on_call = the_other_comes_first
    first.reopen()
    assert driver.inits == 2
    assert first.read().energy_mj == second.read().energy_mj == 5_000_000


def test_the_driver_is_started_once_and_shut_down_after_the_last_source(open_gpus: Open) -> None:
    driver = FakeDriver(gpu(UUIDS[0]), gpu(UUIDS[1]))
    first, second = open_gpus(driver=driver)
    assert driver.inits == 1
    first.close()
    first.close()
    assert driver.alive == 1
    assert second.read().energy_mj == 5_000_000
    second.close()
    assert driver.alive == 0


def test_the_slow_tier_uses_the_older_call_where_the_newer_is_not_there(open_gpus: Open) -> None:
    card = gpu()
    card.plain = {
        "nvmlDeviceGetTemperature": 55,
        "nvmlDeviceGetCurrentClocksThrottleReasons": 4,
        "nvmlDeviceGetEnforcedPowerLimit": 700_000,
    }
    driver = FakeDriver(card)
    (source,) = open_gpus(driver=driver)
    sensors = source.read_sensors(processes=True)
    assert sensors.temperature_c == 55
    assert sensors.throttle_reasons == 4
    assert sensors.power_limit_mw == 700_000
    assert sensors.clock_sm_mhz is None
    assert sensors.processes is None
    assert "clock_sm:function_not_found" in sensors.missing
    assert "processes:function_not_found" in sensors.missing


def test_a_slow_call_that_is_not_supported_is_made_once_and_one_that_fails_is_made_again(
    open_gpus: Open,
) -> None:
    card = gpu()
    card.errors = {"nvmlDeviceGetClockInfo": 3, "nvmlDeviceGetEnforcedPowerLimit": 999}
    driver = FakeDriver(card)
    (source,) = open_gpus(driver=driver)
    driver.calls.clear()
    sensors = source.read_sensors(processes=False)
    assert "power_limit:unknown" in sensors.missing
    assert "clock_sm:not_supported" in sensors.missing
    again = source.read_sensors(processes=False)
    assert "power_limit:unknown" in again.missing
    assert "clock_sm:not_supported" not in again.missing
    assert driver.calls["nvmlDeviceGetEnforcedPowerLimit"] == 2
    assert driver.calls["nvmlDeviceGetClockInfo"] == 2  # SM and memory, once each


def test_throttle_times_are_read_in_one_call_and_fail_singly(open_gpus: Open) -> None:
    card = gpu()
    for field in (74, 76, 270, 271):
        card.fields[(field, 0)] = Answer(field * 10**10, ULONG_LONG)
    card.fields[(270, 0)].code = 999
    driver = FakeDriver(card)
    (source,) = open_gpus(driver=driver)
    driver.asked.clear()
    sensors = source.read_sensors(processes=False)
    assert sensors.throttle_power_cap_ns == 74 * 10**10
    assert sensors.throttle_power_brake_ns == 271 * 10**10
    assert sensors.throttle_hw_thermal_ns is None
    assert sensors.throttle_sw_thermal_ns is None
    assert "throttle_hw_thermal_ns:unknown" in sensors.missing
    assert "throttle_sw_thermal_ns:not_supported" in sensors.missing
    source.read_sensors(processes=False)
    assert [[field for field, _ in asked] for asked in driver.asked] == [
        [74, 76, 269, 270, 271],
        [74, 76, 270, 271],
    ]


def test_a_lost_gpu_is_lost_for_the_slow_tier_too(open_gpus: Open) -> None:
    card = gpu()
    (source,) = open_gpus(card)
    card.errors[""] = 15
    with pytest.raises(SourceLost):
        source.read_sensors(processes=False)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (9, "kernel module is not loaded"),
        (4, "refuses this user"),
        (18, "different versions"),
        (999, "Unknown"),
    ],
)
def test_a_driver_that_does_not_start_is_explained(open_gpus: Open, code: int, words: str) -> None:
    driver = FakeDriver(gpu())
    driver.init_code = code
    with pytest.raises(SourceUnavailable, match=f"(?s){words}.*telemetry doctor"):
        open_gpus(driver=driver)


def test_a_driver_without_gpus_is_explained(open_gpus: Open) -> None:
    with pytest.raises(SourceUnavailable, match=r"finds no GPU.*telemetry doctor"):
        open_gpus(driver=FakeDriver())


def test_a_gpu_that_cannot_be_opened_leaves_nothing_open(open_gpus: Open) -> None:
    broken = gpu(UUIDS[1])
    broken.errors[""] = 15
    driver = FakeDriver(gpu(UUIDS[0]), broken)
    with pytest.raises(SourceUnavailable, match="GPU 1 answers: GPU is lost"):
        open_gpus(driver=driver)
    assert driver.alive == 0
    (source,) = open_gpus(driver=driver, named="0")
    assert source.device.uid == UUIDS[0]


@pytest.mark.parametrize(
    ("named", "environ", "indices"),
    [
        ("all", {}, [0, 1]),
        ("1", {}, [1]),
        ("1,0,1", {}, [1, 0]),
        ("GPU-aaaa2", {}, [1]),
        ("gpu-AAAA1111, 1", {}, [0, 1]),
        ("all", {"CUDA_VISIBLE_DEVICES": "1"}, [1]),
        ("all", {"CUDA_VISIBLE_DEVICES": "1,7,0"}, [1]),
        ("all", {"CUDA_VISIBLE_DEVICES": "GPU-aaaa2222,0"}, [1, 0]),
        ("all", {"CUDA_VISIBLE_DEVICES": "1,-1,0"}, [1]),
        ("0", {"CUDA_VISIBLE_DEVICES": "1"}, [0]),
    ],
)
def test_gpus_are_chosen_as_cuda_would(
    open_gpus: Open, named: str, environ: dict[str, str], indices: list[int]
) -> None:
    sources = open_gpus(gpu(UUIDS[0]), gpu(UUIDS[1]), named=named, **environ)
    assert [source.device.index for source in sources] == indices


@pytest.mark.parametrize("named", ["2", "GPU-aaaa", "GPU-bbbb", "", "0,,1", "first", "-1"])
def test_a_gpu_that_does_not_exist_is_refused_with_those_that_do(open_gpus: Open, named: str) -> None:
    with pytest.raises(UsageError, match=f"0 .{UUIDS[0]}., 1 .{UUIDS[1]}."):
        open_gpus(gpu(UUIDS[0]), gpu(UUIDS[1]), named=named)


@pytest.mark.parametrize("visible", ["", "-1", "GPU-bbbb", "5,0", "GPU-aaaa"])
def test_when_cuda_sees_no_gpu_that_is_the_reason_given(open_gpus: Open, visible: str) -> None:
    with pytest.raises(SourceUnavailable, match=r"CUDA_VISIBLE_DEVICES.*--gpus"):
        open_gpus(gpu(UUIDS[0]), gpu(UUIDS[1]), CUDA_VISIBLE_DEVICES=visible)


def test_a_slice_of_a_gpu_is_refused_because_it_has_no_power_of_its_own(open_gpus: Open) -> None:
    for named, environ in (("MIG-1234", {}), ("all", {"CUDA_VISIBLE_DEVICES": "MIG-1234"})):
        with pytest.raises(UsageError, match="whole GPU only"):
            open_gpus(gpu(), named=named, **environ)


def test_installing_a_library_restores_what_pynvml_had_and_its_functions() -> None:
    first, second = FakeDriver(gpu(UUIDS[0])), FakeDriver(gpu(UUIDS[1]))
    for driver in (first, second):
        with install(driver):
            pynvml.nvmlInit()
            handle = pynvml.nvmlDeviceGetHandleByIndex(0)
            assert pynvml.nvmlDeviceGetUUID(handle) == driver.gpus[0].uuid
            pynvml.nvmlShutdown()
        assert pynvml.nvmlLib is None
        assert pynvml._nvmlGetFunctionPointer_cache == {}


def test_a_stand_in_is_refused_beside_another_library(monkeypatch: pytest.MonkeyPatch) -> None:
    with install(FakeDriver(gpu())), pytest.raises(SourceUnavailable, match="another simulation"):
        install(FakeDriver(gpu()))
    monkeypatch.setattr(pynvml, "nvmlLib", object())
    with pytest.raises(SourceUnavailable, match="real driver"):
        install(FakeDriver(gpu()))


def test_only_an_installed_stand_in_makes_a_device_simulated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pynvml, "nvmlLib", FakeDriver(gpu()))
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    (source,) = open_nvml("all", VirtualClock(), {})
    assert not source.device.simulated
    source.close()
