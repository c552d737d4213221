"""Energy shared out among requests: what every policy must hold, and the worked example."""

from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sensor import EPOCH_NS, MS, S, Sensor, load, poll_times, record

from telemetry.analysis.attribution import (
    H100_ROOFLINE,
    POLICIES,
    Attribution,
    CumulativeEnergy,
    Policy,
    StepCosts,
    attribute,
    cumulative_energy,
)
from telemetry.analysis.curve import EnergyCurve
from telemetry.analysis.enclosure import PowerLimits
from telemetry.analysis.rows import Breaks, Floats, Ints, Rows
from telemetry.analysis.work import Requests, Stretches, work_of
from telemetry.errors import TraceError

SPAN_NS = 20 * S
T24_COSTS = StepCosts(step=2.0, prefill_token=0.0, output_token=0.1, source="T24")


def requests(*rows: tuple[float, float, float, int, int, int], token_ns: Ints | None = None) -> Requests:
    """Return requests of (start s, first token s, end s, input, cached, output)."""
    table = np.array(rows, dtype=np.float64).reshape(-1, 6)
    times = np.rint(table[:, :3] * S).astype(np.int64)
    counts = table[:, 3:].astype(np.int64)
    return Requests(
        start_ns=times[:, 0],
        first_token_ns=times[:, 1],
        end_ns=times[:, 2],
        input_tokens=counts[:, 0],
        cached_tokens=counts[:, 1],
        output_tokens=counts[:, 2],
        token_ns=token_ns,
    )


def trace(*points: tuple[float, float]) -> CumulativeEnergy:
    """Return a cumulative energy straight between (s, J)."""
    t_s, energy_j = np.array(points).T
    return lambda t_ns: np.interp(t_ns, t_s * S, energy_j).astype(np.float64)


def steady(power_w: float) -> CumulativeEnergy:
    return lambda t_ns: (t_ns * (power_w * 1e-9)).astype(np.float64)


def t24() -> tuple[Requests, CumulativeEnergy]:
    """A alone for 100 steps of 10 ms, then A and B, then A, B and C."""
    engine = requests((0.0, 0.01, 3.0, 0, 0, 300), (1.0, 1.01, 3.0, 0, 0, 200), (2.0, 2.01, 3.0, 0, 0, 100))
    return engine, trace((0, 0), (1, 210), (2, 430), (3, 660))


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("affine-shapley", [1190 / 3, 560 / 3, 230 / 3]),
        ("run-average", [330.0, 220.0, 110.0]),
        ("time-share", [1190 / 3, 560 / 3, 230 / 3]),
        ("token-share", [1190 / 3, 560 / 3, 230 / 3]),
    ],
)
def test_t24_three_requests_join_one_after_another(policy: Policy, expected: list[float]) -> None:
    engine, energy = t24()
    found = attribute(engine, {"GPU-0": energy}, from_ns=0, to_ns=3 * S, policy=policy, costs=T24_COSTS)
    assert found.energy_j[0] == pytest.approx(expected, rel=1e-9)
    assert (found.total_j[0], found.unattributed_j[0]) == (pytest.approx(660.0, rel=1e-12), 0.0)
    assert found.energy_j.sum() == pytest.approx(660.0, rel=1e-9)
    assert (found.policy, found.label, found.devices) == (policy, "allocated", ("GPU-0",))
    snapshots = sum(float(energy(engine.end_ns[i]) - energy(engine.start_ns[i])) for i in range(3))
    assert snapshots == pytest.approx(1340.0)  # 2.03 times what was used


def test_t24_marginal_costs_are_of_the_tokens_alone() -> None:
    engine, energy = t24()
    found = attribute(engine, {"GPU-0": energy}, from_ns=0, to_ns=3 * S, costs=T24_COSTS)
    assert found.marginal_j[0] == pytest.approx([30.0, 20.0, 10.0], rel=1e-9)
    assert np.isnan(attribute(engine, {"": energy}, from_ns=0, to_ns=3 * S, policy="token-share").marginal_j).all()


def test_t24_token_times_and_step_times_say_the_same_as_counts() -> None:
    engine, energy = t24()
    ends = [np.arange(n * S + 10 * MS, 3 * S + 1, 10 * MS) for n in range(3)]
    timed = replace(engine, token_ns=np.concatenate(ends))
    steps = np.arange(0, 3 * S + 1, 10 * MS)
    for given_steps in (None, steps):
        found = attribute(timed, {"": energy}, from_ns=0, to_ns=3 * S, costs=T24_COSTS, step_ns=given_steps)
        assert found.energy_j[0] == pytest.approx([1190 / 3, 560 / 3, 230 / 3], rel=1e-9)


def test_the_share_of_a_step_is_its_shapley_value() -> None:
    # Three requests decode side by side at different context lengths; one is still in prefill.
    engine = requests((0, 1, 3, 100, 0, 21), (0, 1, 3, 5_000, 0, 21), (0, 3, 3, 900, 300, 0))
    costs = StepCosts(step=7.0, prefill_token=0.05, output_token=0.4, context_token=0.003, source="here")
    found = attribute(engine, {"": steady(500)}, from_ns=S, to_ns=3 * S, costs=costs)
    context = [20 * 100 + 210, 20 * 5_000 + 210]
    own = np.array([20 * 0.4 + 0.003 * context[0], 20 * 0.4 + 0.003 * context[1], 600 * 2 / 3 * 0.05])
    fixed = 20 * 7.0

    def cost(members: tuple[int, ...]) -> float:
        return fixed + float(own[list(members)].sum()) if members else 0.0

    shapley = np.zeros(3)
    for order in permutations(range(3)):
        for place, i in enumerate(order):
            shapley[i] += (cost(order[: place + 1]) - cost(order[:place])) / 6
    assert found.energy_j[0] == pytest.approx(shapley * 1000 / cost((0, 1, 2)), rel=1e-9)


def test_weights_tell_prompt_from_output_and_cached_tokens_cost_nothing() -> None:
    engine = requests((0, 1, 1, 1_000, 0, 0), (0, 1, 1, 1_000, 900, 0))
    costs = StepCosts(step=5.0, prefill_token=1.0, output_token=10.0, source="here")
    found = attribute(engine, {"": steady(110)}, from_ns=0, to_ns=S, policy="weighted-tokens", costs=costs)
    assert found.energy_j[0] == pytest.approx([100.0, 10.0])
    assert found.costs == costs
    assert attribute(engine, {"": steady(1)}, from_ns=0, to_ns=S, policy="time-share").costs is None


def test_time_without_requests_is_nobodys_under_every_policy() -> None:
    engine = requests((1, 2, 3, 100, 0, 50), (6, 6.5, 8, 10, 0, 5))
    for policy in POLICIES:
        found = attribute(engine, {"": steady(100)}, from_ns=0, to_ns=10 * S, policy=policy)
        assert found.unattributed_j[0] == pytest.approx(600.0)
        assert found.energy_j.sum() == pytest.approx(400.0)


def test_tokens_that_come_at_one_time_are_counted_with_those_before_them() -> None:
    # Pairs: 1.5 s brings two tokens, 2.0 s two more; the first token comes at the very start.
    engine = requests((1, 1, 2, 7, 0, 5), token_ns=np.array([10, 15, 15, 20, 20]) * 100 * MS)
    work = work_of(engine)
    assert work.from_ns.tolist() == [S, 3 * S // 2]
    assert work.output_tokens.tolist() == [3.0, 2.0]
    assert work.prefill_tokens.tolist() == [7.0, 0.0]
    assert work.context_tokens.sum() == 5 * 7 + 10
    assert work_of(replace(engine, token_ns=None)).context_tokens.sum() == 5 * 7 + 10


def test_a_step_is_one_token_of_each_decoding_request_whoever_is_in_prefill() -> None:
    engine = requests((0, 1, 5, 9, 0, 41), (0, 4, 5, 9_000, 0, 11))
    work = work_of(engine)
    cut = Stretches.of(work, 0, 6 * S)
    assert cut.edges_ns.tolist() == [0, S, 4 * S, 5 * S, 6 * S]
    assert cut.steps(work) == pytest.approx([(1 + 1 / 4) / 2, 30, 10, 0])
    assert cut.active().tolist() == [2, 2, 2, 0]


lengths = st.integers(0, 3_000)
moments = st.integers(-S, SPAN_NS + S)


@st.composite
def engines(draw: st.DrawFn) -> Requests:
    """Requests of any length, some beyond the interval, some without duration or tokens."""
    rows = []
    for _ in range(draw(st.integers(1, 8))):
        start, first, end = sorted(draw(st.tuples(moments, moments, moments)))
        if draw(st.booleans()):
            first = draw(st.sampled_from((start, end)))
        rows.append((start, first, end, prompt := draw(lengths), draw(st.integers(0, prompt)), draw(lengths)))
    table = np.array(rows, dtype=np.int64)
    token_ns = None
    if draw(st.booleans()):
        rng = np.random.default_rng(draw(st.integers(0, 99)))
        token_ns = np.concatenate([np.sort(rng.integers(row[0], row[2] + 1, row[5])) for row in table])
    return Requests(
        start_ns=table[:, 0],
        first_token_ns=table[:, 1],
        end_ns=table[:, 2],
        input_tokens=table[:, 3],
        cached_tokens=table[:, 4],
        output_tokens=table[:, 5],
        token_ns=token_ns,
    )


@st.composite
def energies(draw: st.DrawFn) -> CumulativeEnergy:
    powers = draw(st.lists(st.floats(0.0, 1e3), min_size=1, max_size=9))
    at_ns = np.linspace(0, SPAN_NS, len(powers) + 1)
    energy_j = np.append(0.0, np.cumsum(powers)) + 1.0 + np.arange(len(powers) + 1)
    return lambda t_ns: np.interp(t_ns, at_ns, energy_j)


costs = st.builds(
    StepCosts,
    step=st.sampled_from((0.0, 1e-3, 2.0)),
    prefill_token=st.sampled_from((0.0, 1e-6, 0.1)),
    output_token=st.sampled_from((0.0, 0.1, 1e4)),
    context_token=st.sampled_from((0.0, 1e-5)),
    source=st.just("drawn"),
)
policies = st.sampled_from(POLICIES)


def split(engine: Requests, energy: dict[str, CumulativeEnergy], policy: Policy, prices: StepCosts) -> Attribution:
    return attribute(engine, energy, from_ns=0, to_ns=SPAN_NS, policy=policy, costs=prices)


@given(engines(), energies(), energies(), policies, costs)
def test_what_is_shared_out_and_what_is_left_add_up_to_all_on_every_device(
    engine: Requests, one: CumulativeEnergy, other: CumulativeEnergy, policy: Policy, prices: StepCosts
) -> None:
    found = split(engine, {"a": one, "b": other}, policy, prices)
    assert found.energy_j.sum(axis=1) + found.unattributed_j == pytest.approx(found.total_j, rel=1e-9)
    for i, energy in enumerate((one, other)):
        assert found.total_j[i] == pytest.approx(float(np.diff(energy(np.array([0, SPAN_NS])))[0]), rel=1e-12)
    assert (found.energy_j >= -1e-9).all()


@given(engines(), energies(), policies, costs)
def test_equal_requests_pay_equally(
    engine: Requests, energy: CumulativeEnergy, policy: Policy, prices: StepCosts
) -> None:
    columns = ("start_ns", "first_token_ns", "end_ns", "input_tokens", "cached_tokens", "output_tokens")
    twice: Any = {name: np.tile(getattr(engine, name), 2) for name in columns}
    twice["token_ns"] = None if engine.token_ns is None else np.tile(engine.token_ns, 2)
    found = split(replace(engine, **twice), {"": energy}, policy, prices).energy_j[0]
    half = len(found) // 2
    assert found[:half] == pytest.approx(found[half:], rel=1e-9, abs=1e-9)


@given(engines(), energies(), policies, costs)
def test_a_request_alone_pays_all_of_its_time(
    engine: Requests, energy: CumulativeEnergy, policy: Policy, prices: StepCosts
) -> None:
    n = engine.output_tokens[0]
    alone: Any = {
        name: getattr(engine, name)[:1]
        for name in ("start_ns", "first_token_ns", "end_ns", "input_tokens", "cached_tokens", "output_tokens")
    }
    one = replace(engine, **alone, token_ns=None if engine.token_ns is None else engine.token_ns[:n])
    found = split(one, {"": energy}, policy, prices)
    own = energy(np.clip(np.array([one.start_ns[0], one.end_ns[0]]), 0, SPAN_NS))
    assert found.energy_j[0, 0] == pytest.approx(own[1] - own[0], rel=1e-9, abs=1e-9)


@given(engines(), energies(), policies, costs, st.floats(0.0, 1.0))
def test_a_trace_cut_in_two_devices_changes_no_sum(
    engine: Requests, energy: CumulativeEnergy, policy: Policy, prices: StepCosts, share: float
) -> None:
    whole = split(engine, {"": energy}, policy, prices)

    def part(t_ns: Ints) -> Floats:
        return energy(t_ns) * share

    def rest(t_ns: Ints) -> Floats:
        return energy(t_ns) * (1.0 - share)

    parts = split(engine, {"a": part, "b": rest}, policy, prices)
    assert parts.energy_j.sum(axis=0) == pytest.approx(whole.energy_j[0], rel=1e-9, abs=1e-9)
    assert parts.unattributed_j.sum() == pytest.approx(whole.unattributed_j[0], rel=1e-9, abs=1e-9)


def test_many_requests_of_very_different_pace_still_add_up() -> None:
    rng = np.random.default_rng(1)
    n = 20_000
    start = rng.integers(0, 15 * S, n)
    engine = Requests(
        start_ns=start,
        first_token_ns=start + 10 ** rng.integers(0, 10, n),
        end_ns=start + 10 ** rng.integers(0, 10, n) + 10**9,
        input_tokens=10 ** rng.integers(0, 7, n),
        cached_tokens=np.zeros(n, dtype=np.int64),
        output_tokens=10 ** rng.integers(0, 5, n),
    )
    for policy in POLICIES:
        found = split(engine, {"": steady(700)}, policy, H100_ROOFLINE)
        assert found.energy_j.sum() + found.unattributed_j.sum() == pytest.approx(14_000.0, rel=1e-9)


def curve(path: str = "counter", **faults: Any) -> EnergyCurve:
    sensor = Sensor(truth=load([(2.0, 300.0), (3.0, 600.0)]))
    found = record(sensor, poll_times(-3 * S, 8 * S), **faults)
    return EnergyCurve.of(
        Rows.of(found.rows),
        path="counter" if path == "counter" else "integral",
        limits=PowerLimits(floor_w=60.0, cap_w=945.0),
        breaks=Breaks.of(found.gaps),
    )


@pytest.mark.parametrize("path", ["counter", "integral"])
def test_the_shares_add_up_to_the_published_energy_of_the_run(path: str) -> None:
    measured = curve(path)
    t0, t1 = EPOCH_NS, EPOCH_NS + 5 * S
    published = measured.energy(np.array([t0]), np.array([t1])).value_j[0]
    energy = cumulative_energy(measured, from_ns=t0, to_ns=t1)
    engine = requests((0, 0.5, 2, 10, 0, 100), (1, 1.2, 4, 10, 0, 100))
    engine = replace(
        engine,
        start_ns=engine.start_ns + EPOCH_NS,
        first_token_ns=engine.first_token_ns + EPOCH_NS,
        end_ns=engine.end_ns + EPOCH_NS,
    )
    found = attribute(engine, {"": energy}, from_ns=t0, to_ns=t1)
    assert found.total_j[0] == pytest.approx(published, rel=1e-12)
    assert found.energy_j.sum() + found.unattributed_j[0] == pytest.approx(published, rel=1e-9)
    assert found.unattributed_j[0] == pytest.approx(600.0, rel=0.1)


def test_the_course_of_a_counter_at_many_times_is_that_of_its_edges() -> None:
    measured = curve()
    at = EPOCH_NS + np.arange(0, 5_001, 37) * MS
    energy = cumulative_energy(measured, from_ns=EPOCH_NS, to_ns=EPOCH_NS + 5 * S)(at)
    expected = measured.energy(np.full(len(at), EPOCH_NS), at, "plateau").value_j
    assert energy == pytest.approx(expected, abs=1.5)  # a grid fitted elsewhere is off by a millisecond or two
    assert (np.diff(energy) > 0).all()


def test_a_counter_that_restarted_inside_cannot_be_followed() -> None:
    sensor = Sensor(truth=load([(5.0, 300.0)]), reset_ns=2 * S)
    rows = Rows.of(record(sensor, poll_times(-3 * S, 8 * S)).rows)
    measured = EnergyCurve.of(rows, path="counter", limits=PowerLimits(floor_w=60.0, cap_w=945.0))
    energy = cumulative_energy(measured, from_ns=EPOCH_NS, to_ns=EPOCH_NS + 5 * S)
    with pytest.raises(TraceError, match="restarted"):
        energy(np.array([EPOCH_NS + S]))


def test_energy_that_is_not_known_cannot_be_shared_out() -> None:
    far = 100 * S + EPOCH_NS
    energy = cumulative_energy(curve(), from_ns=far, to_ns=far + S)
    with pytest.raises(TraceError, match="GPU-7 is not known"):
        attribute(requests((0, 0, 1, 1, 0, 1)), {"GPU-7": energy}, from_ns=far, to_ns=far + S)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([(0, 2, 1, 1, 0, 1)], "Request 0 cannot be: its first token"),
        ([(0, 1, 1, 1, 0, 1), (0, 1, 2, 1, 2, 1)], "Request 1 cannot be: its token counts"),
        ([(0, 1, 2, 1, 0, -1)], "negative"),
    ],
)
def test_requests_that_cannot_be_are_refused(rows: list[tuple[float, float, float, int, int, int]], words: str) -> None:
    with pytest.raises(TraceError, match=words):
        requests(*rows)


def test_token_times_must_be_as_many_as_tokens_and_inside_their_request() -> None:
    for times, words in (([S], "1 token times for 2"), ([S, 3 * S], "leave the request"), ([2 * S, S], "backwards")):
        with pytest.raises(TraceError, match=words):
            requests((0, 1, 2, 1, 0, 2), token_ns=np.array(times))
    with pytest.raises(TraceError, match="one length"):
        replace(requests((0, 1, 2, 1, 0, 2)), end_ns=np.array([S, S]))


def test_empty_intervals_and_negative_costs_are_refused() -> None:
    engine, energy = t24()
    with pytest.raises(TraceError, match="Swap its edges"):
        attribute(engine, {"": energy}, from_ns=S, to_ns=S)
    with pytest.raises(TraceError, match="less than nothing"):
        attribute(engine, {"": energy}, from_ns=0, to_ns=S, costs=replace(T24_COSTS, output_token=-0.1))


def test_without_requests_all_energy_is_unattributed() -> None:
    found = attribute(requests(), {"": steady(5)}, from_ns=0, to_ns=S)
    assert found.energy_j.shape == (1, 0)
    assert (found.unattributed_j[0], found.total_j[0]) == (pytest.approx(5.0), pytest.approx(5.0))
