"""What requests did in each interval of time: the columns that the energy of phases is fitted to."""

import numpy as np

from telemetry.analysis.rows import Bools, Floats, Ints
from telemetry.analysis.work import Requests, Stretches, Work, work_of
from telemetry.errors import TraceError


def phase_columns(requests: Requests, edges_ns: Ints, step_ns: Ints | None = None) -> Floats:
    """Return what happened in each of k intervals between edges (k + 1,), ns: (k, 5), the columns of `TERMS`.

    Seconds, tokens computed in prefill, steps, output tokens, and the context these looked back on. What spans an
    edge is divided by time. step_ns: see `Stretches.steps`.
    Raises TraceError for requests without token times: spread evenly, tokens are moved into the prefills of others,
    which halted them, and prefill comes out 30 to 40 % too cheap (simulated).
    """
    if requests.token_ns is None:
        raise TraceError("Costs of phases that overlap cannot be fitted without token times. Record them.")
    work, cut = _cut(requests, edges_ns)
    pace_ns = work.to_ns - work.from_ns
    made = [
        cut.length_ns * 1e-9,
        cut.total(work.prefill_tokens / pace_ns)[0] * cut.length_ns,
        cut.steps(work, step_ns),
        cut.total(work.output_tokens / pace_ns)[0] * cut.length_ns,
        cut.total(work.context_tokens / pace_ns)[0] * cut.length_ns,
    ]
    return np.array([_between(edges_ns, cut, each) for each in made]).T


def steps_guessed(requests: Requests, edges_ns: Ints) -> Bools:
    """Return in which of k intervals between edges (k + 1,), ns, only prefills ran for a time, (k,).

    Decoding requests count an engine's steps. In how many it computed prompts beside nothing else, only it can tell.
    """
    work, cut = _cut(requests, edges_ns)
    decoding, _ = cut.total(work.is_decode.astype(np.float64))
    alone = (cut.active() > 0) & (decoding == 0)
    guessed: Bools = _between(edges_ns, cut, cut.length_ns * alone) > 0
    return guessed


def _cut(requests: Requests, edges_ns: Ints) -> tuple[Work, Stretches]:
    work = work_of(requests)
    from_ns, to_ns = np.min(work.from_ns, initial=edges_ns[0]), np.max(work.to_ns, initial=edges_ns[-1])
    return work, Stretches.of(work, int(from_ns), int(to_ns))


def _between(edges_ns: Ints, cut: Stretches, made: Floats) -> Floats:
    """Return the sums, (k,), between edges (k + 1,), ns, of what was made in each stretch, (s,)."""
    running = np.append(0.0, np.cumsum(made))
    begin = cut.edges_ns[0]
    return np.diff(np.interp(edges_ns - begin, cut.edges_ns - begin, running))
