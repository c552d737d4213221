"""Requests as work over time: which ran when, and how many tokens each stretch of time made."""

import math
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from telemetry.analysis.rows import Bools, Floats, Ints
from telemetry.errors import TraceError

Index = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """n requests that one engine served, columns (n,).

    start_ns: when the engine took it up; waiting before that is not here.  first_token_ns: the end of prefill,
    `end_ns` where no token came.  end_ns: the last token, or where it failed.  cached_tokens: of the
    input_tokens, those found in a cache and not computed.
    token_ns: the times of all output tokens, request by request, (Σ output_tokens,); without them the tokens of
    a request are taken to be evenly spread over its decode.
    Raises TraceError where these do not fit together.
    """

    start_ns: Ints
    first_token_ns: Ints
    end_ns: Ints
    input_tokens: Ints
    cached_tokens: Ints
    output_tokens: Ints
    token_ns: Ints | None = None

    def __post_init__(self) -> None:
        shapes = {getattr(self, f.name).shape for f in fields(self) if f.name != "token_ns"}
        if len(shapes) != 1 or len(next(iter(shapes))) != 1:
            raise TraceError(f"The requests' columns have shapes {sorted(shapes)}. Give flat arrays of one length.")
        _all(
            (self.start_ns <= self.first_token_ns) & (self.first_token_ns <= self.end_ns),
            "its first token is not between start and end",
        )
        _all(
            (self.cached_tokens >= 0) & (self.cached_tokens <= self.input_tokens) & (self.output_tokens >= 0),
            "its token counts are negative, or more tokens were cached than came in",
        )
        if self.token_ns is None:
            return
        if len(self.token_ns) != self.output_tokens.sum():
            raise TraceError(
                f"There are {len(self.token_ns)} token times for {self.output_tokens.sum()} output tokens."
            )
        of = np.repeat(np.arange(len(self)), self.output_tokens)
        held = (self.token_ns >= self.start_ns[of]) & (self.token_ns <= self.end_ns[of])
        held[1:] &= (np.diff(self.token_ns) >= 0) | (np.diff(of) > 0)
        wrong = np.zeros(len(self), dtype=np.bool_)
        wrong[of[~held]] = True
        _all(~wrong, "its token times run backwards or leave the request")

    def __len__(self) -> int:
        return len(self.start_ns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The requests in p pieces of even pace, columns (p,), each longer than nothing.

    A request's first piece is its prefill, which ends with its first output token; the others are its decode.
    prefill_tokens: computed ones.  context_tokens: Σ over the piece's output tokens of the tokens before each.
    """

    request: Index
    from_ns: Ints
    to_ns: Ints
    prefill_tokens: Floats
    output_tokens: Floats
    context_tokens: Floats
    is_decode: Bools

    def __len__(self) -> int:
        return len(self.from_ns)

    def between(self, from_ns: int, to_ns: int) -> "Work":
        """Return what lies between two times; of a piece cut through, the share of its tokens."""
        begin, end = np.maximum(self.from_ns, from_ns), np.minimum(self.to_ns, to_ns)
        k = begin < end
        share = (end - begin)[k] / (self.to_ns - self.from_ns)[k]
        return Work(
            request=self.request[k],
            from_ns=begin[k],
            to_ns=end[k],
            prefill_tokens=self.prefill_tokens[k] * share,
            output_tokens=self.output_tokens[k] * share,
            context_tokens=self.context_tokens[k] * share,
            is_decode=self.is_decode[k],
        )

    def by_request(self, amount: Floats, n: int) -> Floats:
        """Return the sum of an amount, (p,), over each request's pieces, (n,)."""
        return np.bincount(self.request, weights=amount, minlength=n).astype(np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretches:
    """Time cut at every edge of a piece, s stretches: in each the same pieces run.

    edges_ns: (s + 1,).  first, last: (p,), the stretches of piece i are first[i] … last[i] − 1.
    """

    edges_ns: Ints
    first: Index
    last: Index

    @classmethod
    def of(cls, work: Work, from_ns: int, to_ns: int) -> "Stretches":
        """Cut [from_ns, to_ns], which holds all the work."""
        edges = np.unique(np.concatenate([work.from_ns, work.to_ns, [from_ns, to_ns]]))
        return cls(
            edges_ns=edges,
            first=np.searchsorted(edges, work.from_ns),
            last=np.searchsorted(edges, work.to_ns),
        )

    @property
    def length_ns(self) -> Floats:
        """Return how long each stretch is, (s,)."""
        return np.diff(self.edges_ns).astype(np.float64)

    def total(self, weight: Floats) -> tuple[Floats, Floats]:
        """Return Σ of the weights (p,) ≥ 0 of the pieces in each stretch, (s,), and the weights as summed, (p,).

        They are summed as whole multiples of 2⁻⁶¹ of their total, so that what leaves takes away exactly what it
        brought; in floating point a fast prefill would leave behind a rounding as large as a slow decode's weight.
        """
        quantum = 2.0 ** (math.frexp(float(weight.sum()))[1] - 61)
        whole = np.rint(weight / quantum).astype(np.int64)
        change = np.zeros(len(self.edges_ns), dtype=np.int64)
        np.add.at(change, self.first, whole)
        np.subtract.at(change, self.last, whole)
        return (np.cumsum(change)[:-1] * quantum).astype(np.float64), (whole * quantum).astype(np.float64)

    def active(self) -> Ints:
        """Return how many pieces, and so requests, run in each stretch, (s,)."""
        n = len(self.edges_ns)
        starts, ends = np.bincount(self.first, minlength=n), np.bincount(self.last, minlength=n)
        return np.cumsum(starts - ends)[:-1].astype(np.int64)

    def steps(self, work: Work, step_ns: Ints | None = None) -> Floats:
        """Return how many steps the engine took in each stretch, (s,).

        step_ns: when its steps ended, sorted, where the engine tells. Else a step is taken to give each decoding
        request one token, so its pace is the mean of theirs, and where all are in prefill, the mean of one step
        for each prefill. Too many where an engine puts out several tokens a step (speculative decoding).
        """
        if step_ns is not None:
            # Steps begin where the one before ended, but for the first after a pause.
            busy_ns = np.append(0.0, np.cumsum(self.length_ns * (self.active() > 0)))
            ended_ns = np.append(0.0, np.interp(step_ns - self.edges_ns[0], self.edges_ns - self.edges_ns[0], busy_ns))
            return np.diff(np.interp(busy_ns, ended_ns, np.arange(len(ended_ns), dtype=np.float64)))
        pace = work.output_tokens / (work.to_ns - work.from_ns)
        rates = []
        for chosen in (work.is_decode, ~work.is_decode):
            makes = (chosen & (pace > 0)).astype(np.float64)
            count, _ = self.total(makes)
            total, _ = self.total(pace * makes)
            rates.append(np.where(count > 0, total / np.maximum(count, 1.0), 0.0))
        return np.where(rates[0] > 0, rates[0], rates[1]) * self.length_ns


def work_of(requests: Requests) -> Work:
    """Return the requests as pieces of work.

    Pieces without duration (a first token at the start, two tokens at one time) are added to the piece of the same
    request before them, or after them where there is none; a request without any duration does no work.
    """
    n = len(requests)
    every = np.arange(n)
    inputs, outputs = requests.input_tokens.astype(np.float64), requests.output_tokens.astype(np.float64)
    if requests.token_ns is None:
        later = np.maximum(outputs - 1.0, 0.0)
        of = np.concatenate([every, every])
        to_ns = np.concatenate([requests.first_token_ns, requests.end_ns])
        output = np.concatenate([np.minimum(outputs, 1.0), later])
        context = np.concatenate([inputs * np.minimum(outputs, 1.0), later * inputs + later * (later + 1.0) / 2.0])
    else:
        token_of = np.repeat(every, requests.output_tokens)
        begins = np.cumsum(requests.output_tokens) - requests.output_tokens
        place = np.arange(len(token_of)) - begins[token_of]
        of = np.concatenate([token_of, every])
        to_ns = np.concatenate([requests.token_ns, requests.end_ns])
        output = np.concatenate([np.ones(len(token_of)), np.zeros(n)])
        context = np.concatenate([inputs[token_of] + place, np.zeros(n)])
    order = np.argsort(of, kind="stable")  # of one request they are in the order of time already
    of, to_ns = of[order], to_ns[order]
    is_first = np.append(True, np.diff(of) > 0)[: len(of)]
    from_ns = np.where(is_first, requests.start_ns[of], np.roll(to_ns, 1))
    prefill = np.where(is_first, (inputs - requests.cached_tokens)[of], 0.0)

    kept = to_ns > from_ns
    kept_of = np.bincount(of, weights=kept, minlength=n).astype(np.intp)
    before = np.cumsum(kept_of) - kept_of  # pieces kept of the requests before
    into = np.maximum(np.cumsum(kept) - 1, before[of])
    lasting = kept_of[of] > 0
    size = int(kept.sum())

    def merged(amount: Floats) -> Floats:
        return np.bincount(into[lasting], weights=amount[lasting], minlength=size).astype(np.float64)

    return Work(
        request=of[kept],
        from_ns=from_ns[kept],
        to_ns=to_ns[kept],
        prefill_tokens=merged(prefill),
        output_tokens=merged(output[order]),
        context_tokens=merged(context[order]),
        is_decode=~is_first[kept],
    )


def _all(holds: Bools, otherwise: str) -> None:
    if not holds.all():
        raise TraceError(f"Request {int(np.flatnonzero(~holds)[0])} cannot be: {otherwise}.")
