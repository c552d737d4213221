"""The simulator's truth: what closed forms say is what adding up small pieces says."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.collector.sources.simulated import Energy, TimeAbove, Truth, Waveform, WindowedEnergy
from telemetry.errors import UsageError

MS = 1_000_000
S = 1_000_000_000
HOURS_NS = 40 * 3600 * S

times = st.integers(-5 * S, 5 * S)


@st.composite
def corners(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Ramps and steps over two seconds at the most."""
    powers = st.integers(0, 700_000)
    points = [(0, draw(powers))]
    for corner_ms in sorted(draw(st.sets(st.integers(1, 2000), min_size=1, max_size=6))):
        points += [(corner_ms * MS, draw(powers)) for _ in range(draw(st.integers(1, 2)))]
    return points


waveforms = st.builds(
    Waveform, corners(), origin_ns=st.integers(-3, 3).map(lambda k: k * 100 * MS), repeat=st.booleans()
)


def added_up_pj(truth: Truth, from_ns: int, to_ns: int) -> float:
    """The energy of each piece by the trapezoid rule."""
    return sum((p.start_mw + p.end_mw) / 2 * (p.end_ns - p.start_ns) for p in truth.pieces(from_ns, to_ns))


@given(waveforms, times, times)
def test_energy_is_the_sum_of_the_trapezoids(truth: Waveform, a: int, b: int) -> None:
    a, b = min(a, b), max(a, b)
    energy_pj = truth.total(Energy(), b) - truth.total(Energy(), a)
    # Cutting a ramp rounds its power to a mW, so up to a mW over the piece.
    assert energy_pj == pytest.approx(added_up_pj(truth, a, b), abs=(b - a) + 1000)


@given(waveforms, times, st.integers(1, 40), st.integers(5, 300), st.data())
def test_windowed_energy_is_the_energy_of_each_window(
    truth: Waveform, phase: int, windows: int, period_ms: int, data: st.DataObject
) -> None:
    window = data.draw(st.integers(1, period_ms)) * MS
    period = period_ms * MS
    measure = WindowedEnergy(phase_ns=phase, period_ns=period, window_ns=window)
    ends = [phase + k * period for k in range(1, windows + 1)]
    each = [truth.total(Energy(), end) - truth.total(Energy(), end - window) for end in ends]
    seen = truth.total(measure, ends[-1]) - truth.total(measure, phase)
    # Each floor division may lose a pJ: at the joints of pieces and at the edges of windows.
    assert seen == pytest.approx(sum(each), abs=10_000)


@given(corners(), st.booleans(), st.integers(0, 700_000))
def test_time_above_counts_what_lies_above(points: list[tuple[int, int]], repeat: bool, threshold: int) -> None:
    above_ns = 0.0
    for (a_ns, a_mw), (b_ns, b_mw) in pairwise(points):
        low, high = sorted((a_mw, b_mw))
        share = (high - threshold) / (high - low) if high > low else float(high > threshold)
        above_ns += min(1.0, max(0.0, share)) * (b_ns - a_ns)
    truth = Waveform(points, repeat=repeat)
    counted_ns = truth.total(TimeAbove(threshold_mw=threshold), points[-1][0])
    assert counted_ns == pytest.approx(above_ns, abs=len(points))


@given(waveforms, times, times)
def test_pieces_follow_each_other_without_a_hole(truth: Waveform, a: int, b: int) -> None:
    a, b = min(a, b), max(a, b) + 1
    t_ns = a
    for piece in truth.pieces(a, b):
        assert piece.start_ns == t_ns
        assert piece.start_mw == truth.power_mw(t_ns)
        t_ns = piece.end_ns
    assert t_ns == b


def test_a_repeated_wave_is_as_exact_hours_later_as_at_first() -> None:
    points = [(0, 100_000), (30 * MS, 600_000), (30 * MS, 250_000), (101 * MS, 100_000)]
    truth = Waveform(points, repeat=True)
    cycles = HOURS_NS // (101 * MS)
    one_pj = truth.total(Energy(), 101 * MS)
    assert truth.total(Energy(), cycles * 101 * MS) == cycles * one_pj
    start = cycles * 101 * MS
    assert truth.total(Energy(), start + 42 * MS) - truth.total(Energy(), start) == truth.total(Energy(), 42 * MS)


def test_a_wave_that_hardly_ever_meets_the_grid_of_a_part_time_sensor_is_refused() -> None:
    truth = Waveform([(0, 1), (100_000_007, 1)], repeat=True)
    grid = WindowedEnergy(phase_ns=0, period_ns=100 * MS, window_ns=25 * MS)
    with pytest.raises(UsageError, match="whole number of milliseconds"):
        truth.total(grid, S)
