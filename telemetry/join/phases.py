"""Prefill and decode of a run: measured where requests ran one after the other, else fitted, or the reasons why not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from telemetry.analysis import (
    TERMS,
    EnergyCurve,
    PhaseModel,
    Requests,
    fit_phases,
    grade_of,
    phase_columns,
    phase_energy,
    sequential,
    steps_guessed,
    update_intervals,
)
from telemetry.analysis.phases import Term
from telemetry.analysis.rows import Floats
from telemetry.errors import TraceError
from telemetry.join.baselines import summed
from telemetry.model import Estimate

MODELLED = "modelled"
SEED = 0
DRAWS = 500  # enough for an interval, and done in a second or two for ten minutes of serving
# Steps and output tokens go together where the batch is always the same; then one of them tells for both.
TRIED: tuple[tuple[Term, ...], ...] = (("idle", "prefill", "step", "output"), ("idle", "prefill", "output"))
OF: Mapping[str, tuple[Term, ...]] = {
    "prefill_j": ("prefill",),
    "decode_j": ("step", "output"),
    "base_j": ("idle",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Phases:
    """Energies by `prefill_j`, `decode_j` and, fitted, `base_j`; and how well a fit went, the worst of all devices."""

    energies: Mapping[str, Estimate] = field(default_factory=dict)
    condition: float | None = None
    r2: float | None = None


def phases(curves: Sequence[EnergyCurve], work: Requests, start_ns: int, stop_ns: int) -> Phases:
    """Return the energies of a run's phases on all devices together.

    curves: with all rows of the interval.  work: the requests that were on the devices, with token times if there are.
    Fitted energies that the data cannot tell have no value, and the reasons as flags.
    """
    if not curves or not len(work):
        return Phases()
    if sequential(work):
        edges = {"prefill_j": (work.start_ns, work.first_token_ns), "decode_j": (work.first_token_ns, work.end_ns)}
        return Phases(
            energies={name: summed([phase_energy(c, *at).energy for c in curves]) for name, at in edges.items()}
        )
    if work.token_ns is None or any(curve.path != "counter" for curve in curves):
        return Phases(energies=untold(("no_token_times",) if work.token_ns is None else ("no_counter",)))
    try:
        fits = [_fitted(curve, work, start_ns, stop_ns) for curve in curves]
    except TraceError:  # the counter's updates do not follow on from each other
        return Phases(energies=untold(("gap",)))
    models = [model for model, _ in fits]
    quality = {
        "condition": max(model.condition for model in models),
        "r2": min(model.r2 for model in models),
    }
    if reasons := dict.fromkeys(reason for model in models for reason in model.reasons):
        return Phases(energies=untold(tuple(reasons)), **_finite(quality))
    each = [{name: _estimate(model, columns, terms) for name, terms in OF.items()} for model, columns in fits]
    return Phases(energies={name: summed([found[name] for found in each]) for name in OF}, **_finite(quality))


def _fitted(curve: EnergyCurve, work: Requests, start_ns: int, stop_ns: int) -> tuple[PhaseModel, Floats]:
    """Return the first fit that is identifiable, or the last that is not, and its columns."""
    edges_ns, energy_j = update_intervals(curve, start_ns, stop_ns)
    columns, guessed = phase_columns(work, edges_ns), steps_guessed(work, edges_ns)
    for terms in TRIED:
        model = fit_phases(columns, energy_j, guessed=guessed, terms=terms, seed=SEED, n_draws=DRAWS)
        if not model.reasons:
            break
    return model, columns[:, [TERMS.index(term) for term in model.terms]]


def _estimate(model: PhaseModel, columns: Floats, terms: tuple[Term, ...]) -> Estimate:
    value, lo, hi = model.together_j(columns, terms).tolist()
    return Estimate(value=value, lo=lo, hi=hi, method=MODELLED, grade=grade_of(value, lo, hi))


def untold(reasons: tuple[str, ...]) -> dict[str, Estimate]:
    """Return that the energies of phases cannot be told, and why."""
    return {name: Estimate(value=None, lo=None, hi=None, method=MODELLED, grade="U", flags=reasons) for name in OF}


def _finite(quality: Mapping[str, float]) -> dict[str, float]:
    return {name: number for name, number in quality.items() if np.isfinite(number)}
