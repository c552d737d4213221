"""What every source keeps, as tests: a source's own test file subclasses `SourceContract`."""

from collections.abc import Callable

import pytest

from telemetry.collector.sources.base import Source
from telemetry.model import Reading, power_column

Advance = Callable[[float], None]


class SourceContract:
    """Subclasses give the fixtures `source`, open and answering, and `advance`, which passes seconds."""

    @pytest.fixture
    def source(self) -> Source:
        raise NotImplementedError

    @pytest.fixture
    def advance(self) -> Advance:
        raise NotImplementedError

    def test_a_device_has_a_name_and_an_identity_and_a_way_to_its_energy(self, source: Source) -> None:
        assert source.device.uid
        assert source.device.name
        assert source.device.energy_path in ("counter", "integral")

    def test_what_the_device_promises_is_in_its_readings(self, source: Source) -> None:
        reading = source.read()
        assert (reading.energy_mj is not None) == source.device.has_counter
        promised = source.device.integral_of
        assert promised is None or getattr(reading, power_column(promised)) is not None

    def test_readings_are_in_order_and_whole_numbers(self, source: Source, advance: Advance) -> None:
        before = source.read()
        advance(0.25)
        after = source.read()
        assert after.t_ns > before.t_ns
        for reading in (before, after):
            assert reading.latency_ns >= 0
            for number in _numbers(reading):
                assert type(number) is int
                assert number > 0

    def test_the_counter_never_falls_while_nothing_happens(self, source: Source, advance: Advance) -> None:
        counts = []
        for _ in range(5):
            counts.append(source.read().energy_mj)
            advance(0.05)
        present = [count for count in counts if count is not None]
        assert present == sorted(present)

    def test_the_process_list_is_read_only_on_request(self, source: Source) -> None:
        assert source.read_sensors(processes=False).processes is None

    def test_a_source_can_be_closed_twice(self, source: Source) -> None:
        source.close()
        source.close()


def _numbers(reading: Reading) -> list[int]:
    found = (reading.t_ns, reading.power_instant_mw, reading.power_average_mw, reading.energy_mj)
    return [number for number in found if number is not None]
