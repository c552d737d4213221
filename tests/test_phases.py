"""Prefill and decode: measured one after another, fitted side by side, and refused where the data cannot tell."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from sensor import EPOCH_NS, MS, S, Sensor, load, poll_times, record

from telemetry.analysis.columns import phase_columns, steps_guessed
from telemetry.analysis.curve import EnergyCurve
from telemetry.analysis.enclosure import PowerLimits
from telemetry.analysis.phases import (
    TERMS,
    PhaseEnergy,
    PhaseModel,
    Term,
    fit_phases,
    phase_energy,
    sequential,
    update_intervals,
)
from telemetry.analysis.rows import Floats, Ints, Rows
from telemetry.analysis.work import Requests
from telemetry.errors import TraceError

LIMITS = PowerLimits(floor_w=60.0, cap_w=945.0)
STARTS = EPOCH_NS + np.arange(8) * 1500 * MS
EDGES = STARTS, STARTS + 300 * MS, STARTS + 1500 * MS
PLANTED = np.array([90.0, 0.02, 3.0, 0.15])  # W, J a prompt token, J a step, J an output token
SOME: tuple[Term, ...] = ("idle", "prefill", "step", "output")


def t13(phase: int = 0, *, path: str = "counter") -> EnergyCurve:
    """Eight times 0.3 s at 650 W and 1.2 s at 280 W, as golden T13."""
    sensor = Sensor(
        truth=load([(0.3, 650.0), (1.2, 280.0)] * 8), phase_ns=phase * MS, counter_phase_ns=(phase + 37) % 100 * MS
    )
    rows = Rows.of(record(sensor, poll_times(-5 * S, 17 * S, seed=phase), seed=phase).rows)
    return EnergyCurve.of(rows, path="counter" if path == "counter" else "integral", limits=LIMITS)


def t13_requests() -> Requests:
    """1,000 prompt tokens in each prefill; 101 tokens, the first at its end."""
    tokens = EDGES[1][:, None] + np.arange(101) * 12 * MS
    return Requests(
        start_ns=EDGES[0],
        first_token_ns=EDGES[1],
        end_ns=EDGES[2],
        input_tokens=np.full(8, 1_000),
        cached_tokens=np.zeros(8, dtype=np.int64),
        output_tokens=np.full(8, 101),
        token_ns=tokens.ravel(),
    )


@pytest.mark.parametrize("phase", range(0, 100, 10))
def test_t13_phases_one_after_another_are_measured_at_their_edges(phase: int) -> None:
    curve = t13(phase)
    for t0, t1, true in ((EDGES[0], EDGES[1], 8 * 195.0), (EDGES[1], EDGES[2], 8 * 336.0)):
        found = phase_energy(curve, t0, t1)
        assert found.energy.value == pytest.approx(true, rel=1.4e-3)
        assert found.energy.lo is not None
        assert found.energy.hi is not None
        assert found.energy.lo <= true <= found.energy.hi
        assert (found.label, found.n, found.energy.method) == ("measured", 8, "counter-plateau")
        single = curve.energy(t0, t1, "plateau").value_j
        assert single == pytest.approx(np.full(8, true / 8), rel=5.3e-3)
    assert sequential(t13_requests())


def test_bounds_of_pooled_phases_are_the_sums_of_their_own_and_widen_with_the_marks() -> None:
    curve = t13()
    each = curve.energy(EDGES[0], EDGES[1], "plateau")
    pooled = phase_energy(curve, EDGES[0], EDGES[1])
    assert [pooled.energy.lo, pooled.energy.hi] == pytest.approx([each.lo_j.sum(), each.hi_j.sum()])
    assert pooled.duration_s == pytest.approx(2.4)
    vague = phase_energy(curve, EDGES[0], EDGES[1], marker_ns=5 * MS)
    assert vague.energy.lo is not None
    assert pooled.energy.lo is not None
    assert vague.energy.lo < pooled.energy.lo


def test_phases_with_fewer_than_three_updates_inside_have_bounds_and_no_value() -> None:
    curve = t13()
    short = phase_energy(curve, EDGES[0][:1], EDGES[0][:1] + 220 * MS)
    assert short.updates == 2
    assert (short.energy.value, short.energy.grade) == (None, "U")
    assert "too_short" in short.energy.flags
    assert short.energy.lo is not None
    pooled = phase_energy(curve, EDGES[0][:2], EDGES[0][:2] + 300 * MS)
    assert pooled.updates >= 3
    assert pooled.energy.value == pytest.approx(390.0, rel=5e-3)


def bursts(seconds: float) -> PhaseEnergy:
    """Return what is measured of eight bursts at 650 W, 1.3 s of 280 W and a bit apart."""
    starts = np.cumsum(np.arange(8) * 7 * MS + 1_300 * MS) - 1_300 * MS
    length = round(seconds * S)
    ends = np.append(starts[1:], starts[-1] + S)
    pieces = [
        piece
        for t0, t1 in zip(starts, ends, strict=True)
        for piece in ((seconds, 650.0), ((int(t1 - t0) - length) * 1e-9, 280.0))
    ]
    rows = Rows.of(record(Sensor(truth=load(pieces)), poll_times(-5 * S, 17 * S)).rows)
    curve = EnergyCurve.of(rows, path="counter", limits=LIMITS)
    return phase_energy(curve, EPOCH_NS + starts, EPOCH_NS + starts + length)


def test_phases_shorter_than_two_publishes_have_no_value_however_many() -> None:
    assert bursts(0.21).energy.value == pytest.approx(8 * 0.21 * 650, rel=2e-3)
    short = bursts(0.1)
    assert short.updates >= 3
    assert short.energy.value is None
    assert "too_short" in short.energy.flags
    assert short.energy.lo is not None
    assert short.energy.hi is not None
    assert short.energy.lo <= 520 <= short.energy.hi


def test_phases_of_power_readings_say_that_their_bounds_are_a_models() -> None:
    found = phase_energy(t13(path="integral"), *EDGES[:2])
    assert found.updates >= 3
    assert "timing_model" in found.energy.flags


def test_phases_that_overlap_are_not_measured() -> None:
    engine = t13_requests()
    late = replace(engine, start_ns=engine.start_ns - MS)
    assert not sequential(late)
    with pytest.raises(TraceError, match="overlap"):
        phase_energy(t13(), late.start_ns, late.end_ns)


@pytest.mark.parametrize("phase", [0, 33, 71])
def test_t13_the_fit_recovers_the_powers_of_both_phases(phase: int) -> None:
    edges, energy_j = update_intervals(t13(phase), EPOCH_NS - 5 * S, EPOCH_NS + 17 * S)
    columns = phase_columns(t13_requests(), edges)
    terms: tuple[Term, ...] = ("idle", "prefill", "output")
    found = fit_phases(columns, energy_j, terms=terms, seed=1, block_s=2.0, n_draws=50)
    assert found.value is not None
    idle_w, prompt_j, output_j = found.value
    assert idle_w + (1_000 * prompt_j + output_j) / 0.3 == pytest.approx(650.0, rel=1.4e-3)
    assert idle_w + 100 * output_j / 1.2 == pytest.approx(280.0, rel=1.4e-3)
    assert (found.label, found.reasons) == ("modelled", ())
    whole = found.energies_j(columns[:, [TERMS.index(term) for term in terms]])
    assert whole[0].sum() == pytest.approx(energy_j.sum(), rel=1e-3)
    assert (whole[1] <= whole[0] + 1e-9).all()
    assert (whole[0] <= whole[2] + 1e-9).all()


def test_what_spans_an_edge_is_divided_by_time() -> None:
    engine = t13_requests()
    columns = phase_columns(engine, STARTS[0] + np.array([-100, 150, 300, 900, 1500]) * MS)
    assert columns[:, TERMS.index("idle")] == pytest.approx([0.25, 0.15, 0.6, 0.6])
    assert columns[:, TERMS.index("prefill")] == pytest.approx([500, 500, 0, 0])
    assert columns[:, TERMS.index("step")] == pytest.approx([0.5, 0.5, 50, 50])
    assert columns[:, TERMS.index("output")] == pytest.approx([0.5, 0.5, 50, 50])
    context = [500, 500, *(50 * 1_000 + np.array([np.arange(1, 51).sum(), np.arange(51, 101).sum()]))]
    assert columns[:, TERMS.index("context")] == pytest.approx(context)
    assert phase_columns(engine, np.array([0, S]))[0].tolist() == [1, 0, 0, 0, 0]


def test_steps_that_the_engine_tells_are_taken_while_it_works_and_not_in_pauses() -> None:
    engine = t13_requests()
    two = Requests(
        start_ns=np.array([0, 60 * S]),
        first_token_ns=np.array([S, 61 * S]),
        end_ns=np.array([2 * S, 62 * S]),
        **{name: getattr(engine, name)[:2] for name in ("input_tokens", "cached_tokens", "output_tokens")},
        token_ns=np.concatenate([at + np.arange(101) * 10 * MS for at in (S, 61 * S)]),
    )
    steps = np.concatenate([at + np.append([250, 500, 750], 1000 + np.arange(101) * 10) * MS for at in (0, 60 * S)])
    edges = np.array([-S, 0, 125 * MS, S, 2 * S, 59 * S, 60 * S, 60 * S + 125 * MS, 61 * S, 62 * S, 63 * S])
    counted = phase_columns(two, edges, steps)[:, TERMS.index("step")]
    assert counted == pytest.approx([0, 0.5, 3.5, 100, 0, 0, 0.5, 3.5, 100, 0])
    assert steps_guessed(two, edges).tolist() == [False, True, True, False, False, False, True, True, False, False]


def test_steps_are_counted_where_a_request_decodes_beside_a_prefill() -> None:
    two = Requests(
        start_ns=np.array([0, S]),
        first_token_ns=np.array([S, 3 * S]),
        end_ns=np.array([2 * S, 4 * S]),
        input_tokens=np.array([10, 10]),
        cached_tokens=np.array([0, 0]),
        output_tokens=np.array([11, 11]),
        token_ns=np.concatenate([at + np.arange(11) * 100 * MS for at in (S, 3 * S)]),
    )
    assert steps_guessed(two, np.arange(-1, 6) * S).tolist() == [False, True, False, True, False, False]


def test_intervals_are_of_half_a_second_and_leave_nothing_out() -> None:
    curve = t13()
    edges, energy_j = update_intervals(curve, EPOCH_NS - 5 * S, EPOCH_NS + 17 * S)
    assert np.diff(edges)[:-1] == pytest.approx(np.full(len(edges) - 2, 0.5e9), abs=110e6)
    assert edges[[0, -1]] == pytest.approx([EPOCH_NS - 5 * S, EPOCH_NS + 17 * S], abs=110e6)
    assert energy_j.sum() == pytest.approx(curve.energy(edges[:1], edges[-1:], "plateau").value_j[0], rel=1e-4)


def test_fits_need_token_times_and_a_counter_without_gaps() -> None:
    with pytest.raises(TraceError, match="without token times"):
        phase_columns(replace(t13_requests(), token_ns=None), EDGES[0])
    with pytest.raises(TraceError, match="energy counter"):
        update_intervals(t13(path="integral"), EPOCH_NS, EPOCH_NS + S)
    with pytest.raises(TraceError, match="without gaps"):
        update_intervals(t13(), EPOCH_NS + 100 * S, EPOCH_NS + 101 * S)


def served(seed: int, seconds: int = 120) -> tuple[Floats, Floats]:
    """Return columns and energies of intervals of 0.5 s under planted costs, with noise of 1 % that lasts."""
    rng = np.random.default_rng(seed)
    n = 2 * seconds
    busy = np.repeat(rng.random(n // 10) < 0.75, 10)
    steps = np.where(busy, rng.uniform(10, 40, n), 0.0)
    columns = np.zeros((n, 5))
    columns[:, 0] = 0.5
    columns[:, 1] = np.where(busy, rng.integers(0, 4_000, n) * (rng.random(n) < 0.5), 0.0)
    columns[:, 2] = steps
    columns[:, 3] = steps * rng.integers(1, 33, n)
    noise = np.empty(n)
    noise[0] = rng.normal()
    for i in range(1, n):
        noise[i] = 0.5 * noise[i - 1] + rng.normal()
    return columns, columns[:, :4] @ PLANTED * (1.0 + 0.01 * noise)


def fitted(columns: Floats, energy_j: Floats, terms: tuple[Term, ...] = SOME) -> PhaseModel:
    return fit_phases(columns, energy_j, terms=terms, seed=7, n_draws=100)


def test_planted_costs_are_inside_their_intervals() -> None:
    held = []
    for seed in range(12):
        found = fitted(*served(seed))
        assert found.lo is not None
        assert found.hi is not None
        held.append((found.lo <= PLANTED) & (found.hi >= PLANTED))
    assert np.mean(held) >= 0.93


def test_a_fit_can_be_repeated_from_its_seed_and_hardly_heeds_a_few_wild_values() -> None:
    columns, energy_j = served(3)
    one, two = fitted(columns, energy_j), fitted(columns, energy_j)
    assert one.draws is not None
    assert two.draws is not None
    assert (one.draws == two.draws).all()
    wild = energy_j.copy()
    wild[::20] *= 1.3
    spoilt = fit_phases(columns, wild, terms=SOME, seed=7, n_draws=10)
    assert one.value is not None
    assert spoilt.value == pytest.approx(one.value, rel=0.02)
    plain = np.linalg.lstsq(columns[:, :4], wild)[0]
    assert np.max(np.abs(plain / one.value - 1)) > 0.04


def test_intervals_whose_steps_are_guessed_are_left_out_where_steps_are_fitted() -> None:
    columns, energy_j = served(3)
    guessed = (columns[:, 1] > 0) & (np.arange(len(columns)) % 4 == 0)
    wrong = columns.copy()
    wrong[guessed, 2] *= 0.5
    found = fit_phases(wrong, energy_j, guessed=guessed, terms=SOME, seed=7, n_draws=10)
    assert found.value == pytest.approx(fitted(columns[~guessed], energy_j[~guessed]).value)
    every: tuple[Term, ...] = ("idle", "prefill", "output")
    models = [fit_phases(columns, energy_j, guessed=g, terms=every, seed=7, n_draws=10) for g in (guessed, None)]
    assert models[0].r2 == models[1].r2


@pytest.mark.parametrize("seed", [0, 1, 2, 5])
def test_idle_power_is_told_by_idle_time_and_not_by_prompts_at_the_wrong_time(seed: int) -> None:
    columns, _ = served(seed)
    energy_j = columns[:, :4] @ PLANTED
    late = np.where(np.roll(columns[:, 2], -1) > 0, columns[:, 1] / 2, 0.0)
    columns[:, 1] += np.roll(late, 1) - late
    found = fitted(columns, energy_j)
    assert found.value is not None
    assert found.effective_blocks is not None
    assert found.value[0] == pytest.approx(PLANTED[0], rel=1e-3)
    idle = (columns[:, 2] == 0).reshape(-1, 20).sum(axis=1)  # of each block
    assert found.effective_blocks[0] == pytest.approx(idle.sum() ** 2 / (idle**2).sum(), rel=0.1)


def test_few_draws_do_not_cut_intervals_short() -> None:
    found = fit_phases(*served(3), terms=SOME, seed=7, n_draws=39)
    assert found.draws is not None
    assert found.lo == pytest.approx(found.draws.min(axis=0))  # of 39, 2.5 % lie below the least and above the most
    assert found.hi == pytest.approx(found.draws.max(axis=0))


def test_costs_are_not_negative() -> None:
    columns, energy_j = served(1)
    columns[:, 4] = np.random.default_rng(0).uniform(0, 1e5, len(columns))
    found = fitted(columns, energy_j - columns[:, 4] * 1e-5, TERMS)
    assert found.value is not None
    assert found.value[4] == 0.0


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda c, e: (c[:100], e[:100]), "few_blocks"),
        (lambda c, e: (np.column_stack([c[:, :3], c[:, 2] * 4, c[:, 4]]), e), "condition"),
        (lambda c, e: (np.column_stack([c[:, :1], c[:, 1] * 0 + 50, c[:, 2:]]), e), "constant_prefill"),
        (lambda c, e: (np.column_stack([c[:, :2], c[:, 2] * 0, c[:, 3:]]), e), "constant_step"),
        (lambda c, e: (c, np.random.default_rng(5).permutation(e)), "r2"),
    ],
    ids=["too short", "always the same batch", "constant prefill", "no steps", "energy of something else"],
)
def test_what_the_data_cannot_tell_is_not_told(
    spoil: Callable[[Floats, Floats], tuple[Floats, Floats]], reason: str
) -> None:
    columns, energy_j = spoil(*served(0))
    found = fitted(columns, energy_j)
    assert reason in found.reasons
    assert (found.value, found.lo, found.hi, found.draws) == (None, None, None, None)
    with pytest.raises(TraceError, match=reason):
        found.energies_j(columns[:, :4])


def test_energy_that_does_not_vary_explains_nothing() -> None:
    columns, _ = served(0)
    found = fitted(columns, np.full(len(columns), 200.0))
    assert found.reasons == ("r2",)
    assert np.isnan(found.r2)


def test_one_request_at_a_time_cannot_tell_steps_from_tokens() -> None:
    engine = t13_requests()
    edges: Ints = np.arange(EDGES[0][0], EDGES[2][-1], 100 * MS)
    found = fit_phases(phase_columns(engine, edges), np.ones(len(edges) - 1), terms=SOME, seed=1)
    assert "condition" in found.reasons
