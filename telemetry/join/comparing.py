"""Two settings side by side: what differs, by how much, how sure that is, and whether a limit was broken."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from telemetry.analysis import Arm, Comparison, Interval, arm_interval, compare, holm, noise_floor
from telemetry.analysis.comparison import BOARDS_APART, MARGIN
from telemetry.errors import TraceError, UsageError
from telemetry.join.groups import RATIOS, TELLING

Run = Mapping[str, Any]  # as the report's JSON has it
SEED = 0  # of resampling and permutation: the same comparison each time
_LIMIT = re.compile(r"\s*([a-z_]+)\s*([<>])\s*([+-]?\d+(?:\.\d+)?)\s*%\s*")
_ALIASES = {"j_per_token": "j_per_output_token"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """What is compared: a sum over runs by another sum, never a mean of ratios."""

    unit: str
    amount: Callable[[Run], float | None]
    by: Callable[[Run], float | None]
    is_energy: bool = False  # so that the runs' bounds hold for it
    lower_is_better: bool = True


def _energy(run: Run) -> float | None:
    value: float | None = run["energy"]["value_j"]
    return value


def _mean(name: str, run: Run) -> float | None:
    value: float | None = run[name]["mean"]
    return value


def _one(run: Run) -> float:
    return 1.0


QUANTITIES: Mapping[str, Quantity] = {
    **{
        name: Quantity(unit="J", amount=_energy, by=RATIOS[name], is_energy=True)
        for name in ("j_per_output_token", "j_per_total_token", "j_per_request")
    },
    "energy_j": Quantity(unit="J", amount=_energy, by=_one, is_energy=True),
    "tokens_per_s": Quantity(
        unit="1/s",
        amount=RATIOS["j_per_output_token"],
        by=lambda run: run["duration_s"],
        lower_is_better=False,
    ),
    **{f"{name}_s": Quantity(unit="s", amount=partial(_mean, f"{name}_s"), by=_one) for name in ("ttft", "itl", "e2e")},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two: the report's runs of a store, and the environments that they name."""

    label: str
    store: str
    runs: Sequence[Run]
    environments: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def counted(self) -> list[Run]:
        """Return the measured runs that ended well and have an energy.

        Raises TraceError where there is none, and where they are not all of one setting and environment.
        """
        kept = [run for run in self.runs if run["status"] == "ok" and not run["warmup"] and (_energy(run) or 0) > 0]
        if not kept:
            raise TraceError(
                f"{self.label} has no measured run that ended well and has an energy; warm-ups are none. "
                "Name others, or measure it first."
            )
        unlike = {name: sorted({str(run.get(name)) for run in kept}) for name in TELLING}
        unlike = {name: values for name, values in unlike.items() if len(values) > 1}
        if unlike:
            told = list(self._apart(kept)) or list(unlike)
            raise TraceError(
                f"{self.label} holds runs that differ in {', '.join(told)}, and such are never pooled. Name runs of "
                f"one setting, or narrow it with --where KEY=VALUE: {_choices(unlike)}."
            )
        return kept

    def environment(self, runs: Sequence[Run]) -> Mapping[str, Any]:
        """Return the environment of runs of one setting, as names and plain values."""
        known = _flat(self.environments.get(str(runs[0].get("environment")), {}))
        return known or {name: runs[0].get(name) for name in TELLING if name != "environment"}

    def _apart(self, runs: Sequence[Run]) -> Sequence[str]:
        every = [_flat(self.environments.get(str(run.get("environment")), {})) for run in runs]
        names = dict.fromkeys(name for one in every for name in one)
        return [name for name in names if len({str(one.get(name)) for one in every}) > 1]


def compare_sides(a: Side, b: Side, *, again: Side | None = None, limits: Sequence[str] = ()) -> dict[str, Any]:
    """Return B against A as the comparison's JSON, version 1.

    again: runs of A's setting once more, whose difference from A is taken for noise. limits: such as
    `j_per_token>+5%`, which breaks where B's is above A's by more and the difference is told from none.
    Raises TraceError where a side is not of one setting or shares a run with another, UsageError for a limit that is
    none.
    """
    of_a, of_b = a.counted(), b.counted()
    of_again = again.counted() if again else None
    _check_apart(of_a, of_b, of_again or ())
    asked = [_limit(text) for text in limits]
    boards = [{device["uid"] for device in runs[0]["devices"]} for runs in (of_a, of_b)]
    calibration = 0.0 if boards[0] == boards[1] else BOARDS_APART
    found: dict[str, tuple[Comparison, Arm, Arm]] = {}
    for name, quantity in QUANTITIES.items():
        arm_a, arm_b = _arm(of_a, quantity), _arm(of_b, quantity)
        if arm_a is None or arm_b is None or (name == "energy_j" and not _equal_work(of_a, of_b)):
            continue
        spare = of_again and _arm(of_again, quantity)
        found[name] = (
            compare(
                arm_a,
                arm_b,
                seed=SEED,
                calibration=calibration if quantity.is_energy else 0.0,
                floor=noise_floor(arm_a, spare, seed=SEED) if spare else None,
                lower_is_better=quantity.lower_is_better,
            ),
            arm_a,
            arm_b,
        )
    known = [name for name, (one, _, _) in found.items() if one.p is not None]
    adjusted = dict(zip(known, holm([found[name][0].p or 0.0 for name in known]), strict=True))
    quantities = {
        name: _quantity(name, *each, p_holm=float(adjusted[name]) if name in adjusted else None)
        for name, each in found.items()
    }
    reasons = dict.fromkeys(r for run in (*of_a, *of_b) for r in run["verdict"]["reasons"])
    if not _by_turns(of_a, of_b):
        reasons["not_interleaved"] = None
    return {
        "schema": "telemetry.compare/1",
        "a": _side(a, of_a),
        "b": _side(b, of_b),
        "differs": _differs(a.environment(of_a), b.environment(of_b)),
        "simulated": any(run["simulated"] for run in (*of_a, *of_b)),
        "seed": SEED,
        "margin": MARGIN,
        "quantities": quantities,
        "verdict": {"publishable": not reasons, "reasons": list(reasons)},
        "limits": [_checked(*one, quantities) for one in asked],
    }


def _check_apart(*sides: Sequence[Run]) -> None:
    """Raise TraceError where a run is on two sides: what is compared with itself differs by nothing."""
    uids = [str(run["run"]) for runs in sides for run in runs]
    if twice := sorted({uid for uid in uids if uids.count(uid) > 1}):
        raise TraceError(
            f"{', '.join(uid[:8] for uid in twice)} would be compared with itself. Name each run on one side alone."
        )


def _equal_work(*sides: Sequence[Run]) -> bool:
    """Tell whether every run answered as many requests, so that whole runs can be compared."""
    return len({run["requests"]["ok"] for runs in sides for run in runs}) == 1


def _arm(runs: Sequence[Run], quantity: Quantity) -> Arm | None:
    amounts, by = [quantity.amount(run) for run in runs], [quantity.by(run) for run in runs]
    if not all(amounts) or not all(by):
        return None
    bounds: list[np.ndarray[Any, Any] | None] = [None, None]
    if quantity.is_energy and all(run["energy"]["lo_j"] and run["energy"]["hi_j"] for run in runs):
        bounds = [np.array([run["energy"][key] for run in runs], dtype=np.float64) for key in ("lo_j", "hi_j")]
    return Arm(
        energy_j=np.array(amounts, dtype=np.float64),
        tokens=np.array(by, dtype=np.float64),
        energy_lo_j=bounds[0],
        energy_hi_j=bounds[1],
    )


def _quantity(name: str, found: Comparison, a: Arm, b: Arm, *, p_holm: float | None) -> dict[str, Any]:
    likely = found.interval
    return {
        "unit": QUANTITIES[name].unit,
        "lower_is_better": QUANTITIES[name].lower_is_better,
        "a": _value(a),
        "b": _value(b),
        "ratio": found.ratio,
        "ratio_lo": likely and likely.lo,
        "ratio_hi": likely and likely.hi,
        "method": likely and likely.method,
        "p": found.p,
        "p_holm": p_holm,
        "p_equivalent": found.p_equivalent,
        "detectable": found.detectable,
        "timing": found.timing and list(found.timing),
        "calibration": found.calibration,
        "floor": found.floor,
        "conclusion": found.conclusion,
    }


def _value(arm: Arm) -> dict[str, Any]:
    likely: Interval | None = arm_interval(arm, seed=SEED)
    return {"value": arm.value, "ci_lo": likely and likely.lo, "ci_hi": likely and likely.hi, "n": len(arm)}


def _side(side: Side, runs: Sequence[Run]) -> dict[str, Any]:
    return {
        "label": side.label,
        "store": side.store,
        "runs": [run["run"] for run in runs],
        **{name: runs[0].get(name) for name in TELLING},
    }


def _differs(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[dict[str, Any]]:
    names = dict.fromkeys((*a, *b))
    return [{"what": name, "a": a.get(name), "b": b.get(name)} for name in names if a.get(name) != b.get(name)]


def _flat(snapshot: Mapping[str, Any], under: str = "") -> dict[str, Any]:
    """Return a snapshot with the names of what is inside joined by dots."""
    flat: dict[str, Any] = {}
    for name, value in snapshot.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{under}{name}.")
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            for number, one in enumerate(value):
                flat |= _flat(one, f"{under}{name}.{number}.")
        else:
            flat[under + name] = value
    return flat


def _choices(unlike: Mapping[str, Sequence[str]]) -> str:
    return "; ".join(f"{name} is {' or '.join(values)}" for name, values in unlike.items())


def _by_turns(a: Sequence[Run], b: Sequence[Run]) -> bool:
    """Tell whether neither side was measured wholly before the other, so that a drift falls on both."""
    starts = [sorted(run["start"] for run in runs) for runs in (a, b)]
    return bool(starts[0][0] < starts[1][-1] and starts[1][0] < starts[0][-1])


def _limit(text: str) -> tuple[str, str, str, float]:
    found = _LIMIT.fullmatch(text)
    name = found and _ALIASES.get(found[1], found[1])
    if found is None or name not in QUANTITIES:
        raise UsageError(
            f"{text!r} is no limit. Write one such as j_per_token>+5% or tokens_per_s<-3%, of "
            f"{', '.join((*_ALIASES, *QUANTITIES))}."
        )
    assert name is not None
    return text, name, found[2], float(found[3]) / 100.0


def _checked(text: str, name: str, sign: str, limit: float, quantities: Mapping[str, Any]) -> dict[str, Any]:
    """Return whether a limit is broken: the effect is beyond it, and more than the runs' own spread."""
    if name not in quantities:
        raise TraceError(f"{text} cannot be checked: these runs have no {name}. Leave the limit away.")
    found = quantities[name]
    effect = found["ratio"] - 1.0
    beyond = effect > limit if sign == ">" else effect < limit
    told = found["ratio_lo"] is None or not found["ratio_lo"] <= 1.0 <= found["ratio_hi"]
    return {"limit": text, "quantity": name, "effect": effect, "beyond": beyond, "broken": beyond and told}
