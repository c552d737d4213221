"""Holds attribution, fitted costs and intervals against simulated truth, and times the attribution.

Run it as `python benchmarks/simulated_truth.py`; it takes some minutes and needs no GPU. It prints the tables of
docs/attribution.md, docs/statistics.md and docs/benchmarks.md. All seeds are fixed; times are the machine's.
"""

import math
import os
import statistics
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

os.environ.setdefault("OMP_NUM_THREADS", "1")  # there is a process for each core

import numpy as np
from numpy.typing import NDArray

# The sensor is that of the golden tests: it shares no code with the package.
sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

from sensor import EPOCH_NS, MS, S, Sensor, Waveform, load, poll_times, record, square

from telemetry.analysis import (
    H100_ROOFLINE,
    POLICIES,
    Arm,
    EnergyCurve,
    Requests,
    Rows,
    StepCosts,
    arm_interval,
    attribute,
    compare,
    cumulative_energy,
    fit_phases,
    phase_columns,
    power_limits,
    steps_guessed,
    update_intervals,
)
from telemetry.analysis.phases import Term
from telemetry.analysis.statistics import Interval, percentile_interval
from telemetry.join.phases import DRAWS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
T = TypeVar("T")

TERMS: tuple[Term, ...] = ("idle", "prefill", "step", "output")
IDLE_W, PROMPT_J, STEP_J, OUTPUT_J = PLANTED = (90.0, 0.02, 3.0, 0.15)
COSTS = StepCosts(step=STEP_J, prefill_token=PROMPT_J, output_token=OUTPUT_J, source="planted")
STEP_S, PROMPT_S, OUTPUT_S = 12e-3, 40e-6, 150e-6  # a step's time, and what each token in it adds
PROMPTS, OUTPUTS = (50, 2_000), (10, 500)  # tokens of a request, evenly drawn
BUDGET = 512  # tokens in a step, where prompts may be divided
NOISE, NOISE_KEPT = 0.01, 0.95  # of the steps' energies, and how much of it stays from step to step
LIMITS = power_limits(limit_w=700.0, min_instant_w=None, max_instant_w=None, name="NVIDIA H200")

FITS, FIT_S, FIT_MOST = 200, 300.0, 16
SHARED, SHARED_S, SHARED_MOST = 10, 120.0, (1, 4, 16, 64)
SAMPLES, RUNS, RUN_CV, VALUES = 2_000, (5, 10, 30), 0.02, (2.0, 2.04)  # J/token of two settings
SIZES, TIMES = (1_000, 3_162, 10_000, 31_623, 100_000), 5


# A simulated engine on a simulated board


@dataclass(slots=True, kw_only=True)
class _Request:
    prompt: int
    output: int
    start_ns: int
    computed: int = 0
    token_ns: list[int] = field(default_factory=list)
    true_j: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """n requests from EPOCH_NS on, what each cost, (n,), J, and the power that the board drew."""

    requests: Requests
    true_j: Floats
    truth: Waveform
    end_ns: int
    running: float  # requests in a step, mean


def seen(truth: Waveform, seed: int) -> EnergyCurve:
    """Return the energy that a collector knows: of a counter updated each 100 ± 2 ms and polled each 20 ms ± 30 %."""
    sensor = Sensor(truth=truth, counter_phase_ns=seed % 100 * MS, jitter_ns=2 * MS, seed=seed)
    times = poll_times(int(truth.at_ns[0]) + 2 * S, int(truth.at_ns[-1]) - S, seed=seed)
    return EnergyCurve.of(Rows.of(record(sensor, times, seed=seed).rows), path="counter", limits=LIMITS)


def serve(seed: int, *, seconds: float, most: int, whole: bool = False, varied: bool = False) -> Served:
    """Serve requests, `most` at a time, a new one for each that ends, and at last those that still run.

    A step gives each decoding request a token and the rest of its budget to prompts, in order of arrival.
    whole: prompts are not divided, and a step takes one. varied: how many may run changes every 5 to 15 s, a quarter
    of the time to none. The true energy of a request is its Shapley value in each step: an equal share of what a step
    costs without tokens, idle power included, and what its own tokens add.
    """
    rng = np.random.default_rng(seed)
    running: list[_Request] = []
    served: list[_Request] = []
    steps: list[tuple[int, int, float]] = []  # from, to, W
    now_ns = until_ns = places = members = 0
    noise = 0.0
    while running or now_ns < seconds * S:
        if now_ns >= until_ns:
            places = most if not varied else int(rng.integers(1, most + 1)) if rng.random() < 0.75 else 0
            until_ns = now_ns + round(rng.uniform(5, 15) * S)
        if now_ns >= seconds * S:
            places = 0
        decoding = [r for r in running if r.computed == r.prompt]
        prefilling = [r for r in running if r.computed < r.prompt]
        left = PROMPTS[1] if whole else BUDGET - len(decoding)
        chunks: list[tuple[_Request, int]] = []
        while left > 0 and (prefilling or len(running) < places):
            if not prefilling:
                prompt, output = int(rng.integers(*PROMPTS)), int(rng.integers(*OUTPUTS))
                prefilling.append(_Request(prompt=prompt, output=output, start_ns=now_ns))
                running.append(prefilling[0])
            request = prefilling.pop()
            chunks.append((request, min(left, request.prompt - request.computed)))
            left = 0 if whole else left - chunks[-1][1]
        if not running:
            now_ns = until_ns
            continue
        for request, tokens in chunks:
            request.computed += tokens
        makers = decoding + [r for r, _ in chunks if r.computed == r.prompt]
        prompts, outputs = sum(tokens for _, tokens in chunks), len(makers)
        length_ns = round((STEP_S + PROMPT_S * prompts + OUTPUT_S * outputs) * S)
        noise = NOISE_KEPT * noise + NOISE * (1 - NOISE_KEPT**2) ** 0.5 * rng.normal()
        above_j = (STEP_J + PROMPT_J * prompts + OUTPUT_J * outputs) * (1 + noise)
        steps.append((now_ns, now_ns + length_ns, IDLE_W + above_j / (length_ns * 1e-9)))
        now_ns += length_ns
        members += len(running)
        for request in running:
            request.true_j += (STEP_J * (1 + noise) + IDLE_W * STEP_S) / len(running)
        for request, tokens in chunks:
            request.true_j += tokens * (PROMPT_J * (1 + noise) + IDLE_W * PROMPT_S)
        for request in makers:
            request.true_j += OUTPUT_J * (1 + noise) + IDLE_W * OUTPUT_S
            request.token_ns.append(now_ns)
        served += [r for r in running if len(r.token_ns) == r.output]
        running = [r for r in running if len(r.token_ns) < r.output]
    return Served(
        requests=Requests(
            start_ns=EPOCH_NS + np.array([r.start_ns for r in served]),
            first_token_ns=EPOCH_NS + np.array([r.token_ns[0] for r in served]),
            end_ns=EPOCH_NS + np.array([r.token_ns[-1] for r in served]),
            input_tokens=np.array([r.prompt for r in served]),
            cached_tokens=np.zeros(len(served), dtype=np.int64),
            output_tokens=np.array([r.output for r in served]),
            token_ns=EPOCH_NS + np.concatenate([r.token_ns for r in served]),
        ),
        true_j=np.array([r.true_j for r in served]),
        truth=_drawn_power(steps),
        end_ns=EPOCH_NS + steps[-1][1],
        running=members / len(steps),
    )


def _drawn_power(steps: Sequence[tuple[int, int, float]]) -> Waveform:
    """Return the power of the steps, idle between them and for 6 s before and after."""
    begin_ns, end_ns = (np.array([step[i] for step in steps]) for i in (0, 1))
    at_ns = np.unique(np.concatenate([begin_ns, end_ns, [begin_ns[0] - 6 * S, end_ns[-1] + 6 * S]]))
    power_w = np.full(len(at_ns) - 1, IDLE_W)
    power_w[np.searchsorted(at_ns, begin_ns)] = [step[2] for step in steps]
    return Waveform(at_ns=at_ns, begin_w=power_w, end_w=power_w)


# What is held against the truth


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Of each planted cost, (4,), whether its interval held it, and by which share the fit was off; None if refused."""

    held: NDArray[np.bool_] | None
    off: Floats | None


def fit(seed: int, *, whole: bool) -> Fit:
    """Fit the costs of one simulated run."""
    run = serve(seed, seconds=FIT_S, most=FIT_MOST, whole=whole, varied=True)
    edges_ns, energy_j = update_intervals(seen(run.truth, seed), EPOCH_NS, run.end_ns)
    columns, guessed = phase_columns(run.requests, edges_ns), steps_guessed(run.requests, edges_ns)
    model = fit_phases(columns, energy_j, guessed=guessed, terms=TERMS, seed=seed, n_draws=DRAWS)
    if model.value is None or model.lo is None or model.hi is None:
        return Fit(held=None, off=None)
    planted = np.array(PLANTED)
    return Fit(held=(model.lo <= planted) & (planted <= model.hi), off=model.value / planted - 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """|error| of each request's energy, (n,), by column of the table, and how many ran in a step in the mean."""

    off: Mapping[str, Floats]
    running: float


def shares(seed: int, *, most: int) -> Shares:
    """Share out the energy of one simulated run, by every policy and as readings of the counter would."""
    run = serve(seed, seconds=SHARED_S, most=most)
    energy = cumulative_energy(seen(run.truth, seed), from_ns=EPOCH_NS, to_ns=run.end_ns)
    asked = [(name, policy, COSTS) for name, policy in zip(POLICY_NAMES, POLICIES, strict=True)]
    paid_j = {}
    for name, policy, costs in (*asked, ("M4, `H100_ROOFLINE`", POLICIES[-1], H100_ROOFLINE)):
        found = attribute(run.requests, {"": energy}, from_ns=EPOCH_NS, to_ns=run.end_ns, policy=policy, costs=costs)
        paid_j[name] = found.energy_j[0]
    edges_ns = np.unique([run.requests.start_ns, run.requests.end_ns])
    start_j, end_j = (
        energy(edges_ns)[np.searchsorted(edges_ns, at)] for at in (run.requests.start_ns, run.requests.end_ns)
    )
    paid_j["counter readings"] = end_j - start_j
    return Shares(off={name: np.abs(each / run.true_j - 1.0) for name, each in paid_j.items()}, running=run.running)


def of_setting(a: Arm, _b: Arm, seed: int) -> tuple[Interval | None, float]:
    """Return the interval of a setting's J/token, and the truth."""
    return arm_interval(a, seed=seed), VALUES[0]


def of_ratio(a: Arm, b: Arm, seed: int) -> tuple[Interval | None, float]:
    """Return the interval of the ratio of two settings, and the truth."""
    return compare(a, b, seed=seed).interval, VALUES[1] / VALUES[0]


def of_median(a: Arm, _b: Arm, _seed: int) -> tuple[Interval | None, float]:
    """Return the interval of the median of a setting's runs, and the truth."""
    return percentile_interval(a.energy_j / a.tokens, 50), VALUES[0] * math.exp(-(RUN_CV**2) / 2)


INTERVALS = {"one setting": of_setting, "ratio of two": of_ratio, "median of runs": of_median}


def held(name: str, n: int, samples: Iterable[int] = range(SAMPLES)) -> float:
    """Return in which share of samples of n simulated runs an interval held the truth; NaN where there was none."""
    found = []
    for seed in samples:
        rng = np.random.default_rng([n, seed])
        interval, truth = INTERVALS[name](drawn(rng, n, VALUES[0]), drawn(rng, n, VALUES[1]), seed)
        found.append(math.nan if interval is None else float(interval.lo <= truth <= interval.hi))
    return statistics.fmean(found)


def drawn(rng: np.random.Generator, n: int, value: float) -> Arm:
    """Return n runs of unlike numbers of tokens whose J/token is `value` on the long run."""
    tokens = rng.uniform(800, 1_200, n)
    return Arm(energy_j=tokens * value * np.exp(rng.normal(-(RUN_CV**2) / 2, RUN_CV, n)), tokens=tokens)


def attributed_s(curve: EnergyCurve, n: int) -> float:
    """Return the CPU time of sharing out two minutes among n requests that all run in the middle of them, s."""
    rng = np.random.default_rng(n)
    start, first, end = (EPOCH_NS + rng.integers(k * 40 * S, (k + 1) * 40 * S, n) for k in range(3))
    requests = Requests(
        start_ns=start, first_token_ns=first, end_ns=end,
        input_tokens=rng.integers(*PROMPTS, n), cached_tokens=np.zeros(n, dtype=np.int64),
        output_tokens=rng.integers(*OUTPUTS, n),
    )  # fmt: skip
    to_ns = EPOCH_NS + 120 * S
    began_s = time.process_time()
    energy = cumulative_energy(curve, from_ns=EPOCH_NS, to_ns=to_ns)
    found = attribute(requests, {"": energy}, from_ns=EPOCH_NS, to_ns=to_ns)
    took_s = time.process_time() - began_s
    assert np.isclose(found.energy_j.sum() + found.unattributed_j[0], found.total_j[0], rtol=1e-9)
    return took_s


# Tables


def line(*cells: str) -> str:
    """Return a line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def head(*cells: str) -> list[str]:
    """Return the head of a Markdown table."""
    return [line(*cells), "|" + "---|" * len(cells)]


POLICY_NAMES = ("M0", "M1", "M2", "M3", "M4")
ENGINES = {"prompts entire": True, "prompts divided": False}
FIT_HEAD = head("simulated engine", "idle power", "prompt token", "step", "output token", "all four", "refused")
SHARES_HEAD = head("simulated, at a time", "requests", *POLICY_NAMES, "M4, `H100_ROOFLINE`", "counter readings")
HELD_HEAD = head("simulated runs", *INTERVALS)
TIMES_HEAD = head("overlapping requests", "CPU, median", "least – most")


def fit_line(engine: str, found: Sequence[Fit]) -> str:
    """Return a line of the table of fits: how often each interval held its cost, and the fit's mean error."""
    held_by = np.array([fit.held for fit in found if fit.held is not None])
    off = np.array([fit.off for fit in found if fit.off is not None])
    cells = [f"{100 * h:.1f} % ({100 * o:+.2f} %)" for h, o in zip(held_by.mean(0), off.mean(0), strict=True)]
    return line(engine, *cells, f"{100 * held_by.all(1).mean():.1f} %", str(len(found) - len(held_by)))


def shares_line(most: int, found: Sequence[Shares]) -> str:
    """Return a line of the table of policies: mean and worst error of a request."""
    together = {name: np.concatenate([each.off[name] for each in found]) for name in found[0].off}
    running = statistics.mean(each.running for each in found)
    cells = [f"{percent(off.mean())} / {percent(off.max())}" for off in together.values()]
    return line(f"{most} ({running:.1f})", f"{len(together['M0']):,}", *cells)


def percent(share: float) -> str:
    """Return a share with two digits, %."""
    return f"{100 * share:.2g}" if share < 0.995 else f"{100 * share:,.0f}"


def held_line(n: int, shares_held: Sequence[float]) -> str:
    """Return a line of the table of coverage."""
    return line(str(n), *("–" if math.isnan(each) else f"{100 * each:.1f} %" for each in shares_held))


def times_line(n: int, took_s: Sequence[float]) -> str:
    """Return a line of the table of times."""
    return line(f"{n:,}", f"{statistics.median(took_s):.3g} s", f"{min(took_s):.3g} – {max(took_s):.3g} s")


# All of it


def main() -> None:
    """Work out everything and print the tables."""
    began_s = time.monotonic()
    two_minutes = seen(load(square(600.0, 100.0, period_s=0.3, seconds=120.0)), seed=0)
    times = {n: [attributed_s(two_minutes, n) for _ in range(TIMES)] for n in SIZES}
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        covered = {n: [pool.submit(held, name, n) for name in INTERVALS] for n in RUNS}
        shared = {most: [pool.submit(shares, seed, most=most) for seed in range(SHARED)] for most in SHARED_MOST}
        fitted = {
            name: [pool.submit(fit, seed, whole=whole) for seed in range(FITS)] for name, whole in ENGINES.items()
        }
        _wait([each for group in (covered, shared, fitted) for some in group.values() for each in some])
    _print(f"Policies: error of a request's energy, %, mean / worst, {SHARED} seeds", SHARES_HEAD,
           [shares_line(most, _results(found)) for most, found in shared.items()])  # fmt: skip
    _print(f"Fitted costs: held in their intervals, and mean error, {FITS} seeds", FIT_HEAD,
           [fit_line(name, _results(found)) for name, found in fitted.items()])  # fmt: skip
    _print(f"Coverage, {SAMPLES:,} seeds", HELD_HEAD, [held_line(n, _results(found)) for n, found in covered.items()])
    growth = np.polyfit(np.log(SIZES), np.log([statistics.median(each) for each in times.values()]), 1)[0]
    _print(
        f"Time, growing as n to the power of {growth:.2f}", TIMES_HEAD, [times_line(*each) for each in times.items()]
    )
    print(f"Done in {time.monotonic() - began_s:.0f} s.", file=sys.stderr)


def _results(futures: Sequence[Future[T]]) -> list[T]:
    return [each.result() for each in futures]


def _wait(futures: Sequence[Future[Any]]) -> None:
    for done, _ in enumerate(as_completed(futures), start=1):
        print(f"\r{done} of {len(futures)} simulations", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)


def _print(title: str, top: Sequence[str], lines: Iterable[str]) -> None:
    print(f"\n{title}\n")
    print("\n".join([*top, *lines]), flush=True)


if __name__ == "__main__":
    main()
