"""The thread that polls one device, so that a call that hangs stalls no other device."""

import threading
import time

from telemetry.clock import Clock
from telemetry.collector.pipeline import Channel
from telemetry.collector.poller import STUCK_NS, Poller, SamplerHealth
from telemetry.collector.sources.base import Source
from telemetry.errors import SourceEnded

S = 1_000_000_000
LONGEST_SLEEP_S = 0.1


class Sampler:
    """Polls one device from `start` to `stop`. The source stays the caller's, to be closed after `stop`."""

    def __init__(
        self,
        source: Source,
        channel: Channel,
        clock: Clock,
        *,
        period_s: float,
        seed: int,
        stagger_s: float,
        keep_all: bool = False,
    ) -> None:
        """Poll each `period_s`, dithered by a generator of that seed, first `stagger_s` from now.

        `keep_all`: hand on every poll, also those that read what the one before did.
        """
        self._clock = clock
        self._poller = Poller(
            source,
            channel,
            clock,
            period_ns=round(period_s * S),
            seed=seed,
            start_ns=clock.now_ns() + round(stagger_s * S),
            keep_all=keep_all,
        )
        self._stopping = threading.Event()
        # A daemon, because a call that never returns must not keep the process from ending.
        self._thread = threading.Thread(target=self._poll, name=f"sampler {source.device.uid}", daemon=True)

    def start(self) -> None:
        """Begin polling."""
        self._thread.start()

    def stop(self, timeout_s: float) -> bool:
        """Stop polling, hand on the gap that is open, if any; return whether the thread has ended.

        A thread that is stuck in a call is not waited for, another one for at most `timeout_s`; either is
        left behind with a gap `stuck`, and nothing that it still reads is handed on.
        """
        self._stopping.set()
        if self._thread.is_alive() and not self.stuck(self._clock.now_ns()):
            self._thread.join(timeout_s)
        stuck = self._thread.is_alive()
        self._poller.close(stuck=stuck)
        return not stuck

    @property
    def running(self) -> bool:
        """Whether the thread lives; False without `stop` or `health().ended` means that it crashed."""
        return self._thread.is_alive()

    @property
    def ended(self) -> bool:
        """Whether the source was a recording that has been played to its end."""
        return self._poller.ended

    @property
    def in_call_since_ns(self) -> int | None:
        """When the call began that the thread is in now; None between calls."""
        return self._poller.in_call_since_ns

    def stuck(self, now_ns: int) -> bool:
        """Tell whether the thread has been in one call for more than 5 s."""
        since_ns = self._poller.in_call_since_ns
        return since_ns is not None and now_ns - since_ns > STUCK_NS

    def health(self) -> SamplerHealth:
        """Return how the polling goes."""
        return self._poller.health()

    def _poll(self) -> None:
        try:
            while not self._stopping.is_set():
                wait_s = (self._poller.due_ns - self._clock.now_ns()) / S
                if wait_s > 0:
                    # Not `self._stopping.wait`, which costs a third more each time; but never long, for the stop.
                    time.sleep(min(wait_s, LONGEST_SLEEP_S))
                if wait_s <= LONGEST_SLEEP_S:
                    self._poller.step()
        except SourceEnded:
            self._poller.end()
