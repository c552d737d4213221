"""Which polls become rows, what the integral adds up to, and a queue with a bound."""

import threading
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from telemetry.collector.pipeline import Channel, Reducer
from telemetry.model import Device, Gap, Reading, ReadingRow

MS = 1_000_000
S = 1_000_000_000
DEVICE = Device(uid="GPU-0", name="Test", index=0, integral_of="instant", has_counter=True)
ROW = ReadingRow(
    t_ns=0,
    power_instant_mw=1,
    power_average_mw=None,
    energy_mj=None,
    integral_uj=0,
    since_ns=0,
    latency_us=0,
)


def reading(
    t_ns: int,
    instant: int | None = 100_000,
    energy: int | None = 5_000,
    *,
    average: int | None = None,
    latency_ns: int = 2 * MS,
) -> Reading:
    return Reading(
        t_ns=t_ns,
        latency_ns=latency_ns,
        power_instant_mw=instant,
        power_average_mw=average,
        energy_mj=energy,
    )


def reducer() -> Reducer:
    return Reducer(DEVICE, 20 * MS)


def integral_of(reduced_row: ReadingRow | None) -> int | None:
    assert reduced_row is not None
    return reduced_row.integral_uj


def test_the_first_poll_of_a_session_is_written_and_starts_everything_at_zero() -> None:
    row = reducer().push(reading(S)).row
    assert row is not None
    assert (row.t_ns, row.since_ns, row.integral_uj, row.latency_us) == (S, 0, 0, 2_000)


def test_a_poll_that_changes_nothing_is_not_written() -> None:
    r = reducer()
    r.push(reading(S))
    assert r.push(reading(S + 20 * MS)).row is None


def test_a_change_is_bracketed_by_the_start_of_the_poll_before_and_the_end_of_this_one() -> None:
    r = reducer()
    r.push(reading(S))
    r.push(reading(S + 20 * MS))
    row = r.push(reading(S + 40 * MS, 200_000, latency_ns=4 * MS)).row
    assert row is not None
    assert row.since_ns == 20 * MS + 1 * MS + 2 * MS


def test_the_bracket_read_from_a_row_is_never_narrower_than_the_calls() -> None:
    r = reducer()
    r.push(reading(S, latency_ns=1_234_567))
    row = r.push(reading(S + 20 * MS, 1, latency_ns=1_234_567)).row
    assert row is not None
    end_ns = row.t_ns + row.latency_us * 500
    assert end_ns >= S + 20 * MS + 617_284
    assert end_ns - row.since_ns == S - 617_283


def test_each_value_that_changes_to_or_from_none_makes_a_row() -> None:
    for before, after in [
        (reading(S), reading(S + 20 * MS, None)),
        (reading(S, None), reading(S + 20 * MS)),
        (reading(S), reading(S + 20 * MS, energy=None)),
        (reading(S), reading(S + 20 * MS, energy=5_001)),
        (reading(S), reading(S + 20 * MS, average=7)),
    ]:
        r = reducer()
        r.push(before)
        assert r.push(after).row is not None


def test_a_row_is_written_when_the_poll_before_is_more_than_three_periods_back() -> None:
    r = reducer()
    r.push(reading(S, latency_ns=0))
    assert r.push(reading(S + 60 * MS, latency_ns=0)).row is None
    assert r.push(reading(S + 120 * MS + 1, latency_ns=0)).row is not None


def test_a_row_is_written_once_a_second_though_nothing_changes() -> None:
    r = reducer()
    rows = [r.push(reading(S + k * 20 * MS)).row for k in range(151)]
    # 980 ms apart: one poll later, dithered, might lie beyond the second that readers count on.
    assert [row.t_ns for row in rows if row] == [S + k * 980 * MS for k in range(4)]


def test_the_integral_counts_every_poll_and_not_only_the_rows() -> None:
    r = reducer()
    for k in range(50):
        r.push(reading(S + k * 20 * MS))
    assert integral_of(r.push(reading(S + 50 * 20 * MS, 300_000)).row) == 98_000_000 + 4_000_000


@given(st.lists(st.tuples(st.integers(1, 10**9), st.integers(0, 10**6)), min_size=1, max_size=30))
def test_no_remainder_of_the_integral_is_lost(steps: list[tuple[int, int]]) -> None:
    r, t_ns, before, half_pj = reducer(), S, 0, 0
    r.push(reading(t_ns, 0))
    for dt_ns, power_mw in steps:
        t_ns += dt_ns
        half_pj += (before + power_mw) * dt_ns
        before = power_mw
        row = r.push(reading(t_ns, power_mw)).row
        assert row is None or row.integral_uj == half_pj // 2_000_000
    assert integral_of(r.push(reading(t_ns + 1, None)).row) == half_pj // 2_000_000


def test_the_integral_stands_still_across_a_none() -> None:
    r = reducer()
    r.push(reading(S))
    assert integral_of(r.push(reading(S + 20 * MS, None)).row) == 0
    assert integral_of(r.push(reading(S + 40 * MS)).row) == 0
    assert integral_of(r.push(reading(S + 60 * MS, 100_001)).row) == 2_000_010


def test_the_integral_stands_still_across_a_gap_while_the_bracket_spans_it() -> None:
    r = reducer()
    r.push(reading(S))
    r.gap()
    row = r.push(reading(S + 30 * MS)).row
    assert row is not None
    assert (row.integral_uj, row.since_ns) == (0, 32 * MS)
    assert integral_of(r.push(reading(S + 50 * MS, 100_001)).row) == 2_000_010


def test_the_integral_follows_the_named_column_and_is_none_without_one() -> None:
    average = Reducer(replace(DEVICE, integral_of="legacy"), 20 * MS)
    average.push(reading(S, 1, average=50_000))
    assert integral_of(average.push(reading(S + 20 * MS, 2, average=50_000)).row) == 1_000_000
    assert integral_of(Reducer(replace(DEVICE, integral_of=None), 20 * MS).push(reading(S)).row) is None


def test_a_counter_that_falls_is_a_reset_and_a_gap_of_the_integral() -> None:
    r = reducer()
    assert r.push(reading(S)).gap is None
    reduced = r.push(reading(S + 20 * MS, energy=4_999))
    assert reduced.gap == Gap(from_ns=S - MS, to_ns=S + 21 * MS, reason="counter_reset")
    assert integral_of(reduced.row) == 0
    assert r.push(reading(S + 40 * MS, energy=5_001)).gap is None


def test_a_counter_that_fell_behind_a_none_is_a_reset_since_it_was_last_seen() -> None:
    r = reducer()
    r.push(reading(S))
    r.push(reading(S + 20 * MS, energy=None))
    gap = r.push(reading(S + 40 * MS, energy=1)).gap
    assert gap == Gap(from_ns=S - MS, to_ns=S + 41 * MS, reason="counter_reset")


def test_a_full_channel_refuses_and_counts_and_keeps_what_it_has_in_order() -> None:
    channel = Channel(2)
    items = [(str(k), ROW) for k in range(3)]
    assert [channel.put(item) for item in items] == [True, True, False]
    assert (channel.dropped, channel.peak) == (1, 2)
    assert channel.drain(1) == items[:1]
    assert channel.put(items[2])
    assert channel.drain(10) == items[1:]
    assert channel.drain(10) == []
    assert channel.peak == 2


def test_a_channel_loses_nothing_between_threads() -> None:
    channel = Channel(10_000)

    def fill(name: str) -> None:
        for _ in range(1_000):
            channel.put((name, ROW))

    threads = [threading.Thread(target=fill, args=(str(k),)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(channel.drain(10_000)), channel.peak, channel.dropped) == (4_000, 4_000, 0)
