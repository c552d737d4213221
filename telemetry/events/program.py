"""One program on the event socket: the runs and requests that it has open, and what each event does to them."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from telemetry.errors import StoreBusy, StoreError, UserError
from telemetry.events.messages import stamp
from telemetry.recorder import Recording, RequestRecorder, RunRecorder

RUNS = 100  # open at once, and
REQUESTS = 10_000  # in each of them, so that what a program forgets to end fills no memory
ABOUT = (
    "name", "model", "runner", "quantisation", "experiment", "batch_size", "concurrency", "warmup", "repeat",
    "settings",
)  # fmt: skip


@dataclass(slots=True)
class _Request:
    recorder: RequestRecorder
    last_ns: int
    pieces: bool = False  # some of its text came uncounted


@dataclass(slots=True)
class _Run:
    recorder: RunRecorder
    name: str
    start_ns: int
    last_ns: int
    requests: dict[str | int, _Request] = field(default_factory=dict)


class Program:
    """What a program does on one connection. Times are CLOCK_MONOTONIC, ns."""

    def __init__(self, recording: Recording, pid: int) -> None:
        self._recording = recording
        self._pid = pid
        self._runs: dict[str, _Run] = {}  # by the program's own name and by UID

    async def take(self, event: Mapping[str, Any]) -> dict[str, Any] | None:
        """Do what an event says and return the answer, if it has one.

        Raises UserError where it does not fit what came before, and StoreBusy; then nothing is done.
        """
        at_ns, kind = stamp(event), event["event"]
        if kind == "run_start":
            return await self._start_run(event, at_ns)
        run = self._runs.get(event["run"])
        if run is None:
            raise UserError(f"No run {event['run']!r} is open on this connection. Begin it with run_start.")
        if kind == "run_stop":
            return await self._stop_run(run, event, at_ns)
        if kind == "request_start":
            self._start_request(run, event, at_ns)
            return None
        request = run.requests.get(event["request"])
        if request is None:
            raise UserError(
                f"No request {event['request']!r} is open in run {run.name!r}. Begin it with request_start."
            )
        _in_order(at_ns, request.last_ns, "the request's previous event")
        if kind == "token":
            tokens = event.get("n", 1)
            request.pieces |= tokens is None
            request.recorder.chunk_at(at_ns, tokens)
        else:
            _end(request, event, at_ns)
            del run.requests[event["request"]]
        request.last_ns = at_ns
        run.last_ns = max(run.last_ns, at_ns)
        return None

    def hang_up(self, why: str) -> None:
        """Fail whatever is open."""
        for run in list(self._runs.values()):
            if self._runs.get(run.name) is run:
                for request in run.requests.values():
                    request.recorder.fail(why)
                self._close(run, why)

    async def _start_run(self, event: Mapping[str, Any], at_ns: int) -> dict[str, Any]:
        name = event["run"]
        if name in self._runs:
            raise UserError(f"A run {name!r} is open on this connection already. Stop it with run_stop.")
        if len(self._runs) >= 2 * RUNS:
            raise UserError(f"{RUNS} runs are open on this connection. Stop one with run_stop.")
        about = {key: event[key] for key in ABOUT if key in event}
        recorder = self._recording.run(**about, pid=self._pid, start_ns=self._recording.store.clock.at(at_ns))
        await recorder.__aenter__()
        self._runs[name] = self._runs[recorder.uid] = _Run(recorder, name, at_ns, at_ns)
        return {"ok": True, "run": recorder.uid}

    async def _stop_run(self, run: _Run, event: Mapping[str, Any], at_ns: int) -> dict[str, Any]:
        _in_order(at_ns, run.last_ns, "the run's last event")
        self._close(run, event.get("error"), at_ns)
        with suppress(StoreBusy, StoreError):  # it waits in memory, and is told of by the recording
            await self._recording.flush()
        return {"ok": True, "run": run.recorder.uid}

    def _close(self, run: _Run, error: str | None, at_ns: int | None = None) -> None:
        run.recorder.stop(error, at_ns)
        del self._runs[run.name], self._runs[run.recorder.uid]

    def _start_request(self, run: _Run, event: Mapping[str, Any], at_ns: int) -> None:
        _in_order(at_ns, run.start_ns, "the run's start")
        if event["request"] in run.requests:
            raise UserError(f"A request {event['request']!r} is open in run {run.name!r} already. End it first.")
        if len(run.requests) >= REQUESTS:
            raise UserError(f"{REQUESTS} requests are open in run {run.name!r}. End them with request_end.")
        recorder = run.recorder.request()
        recorder.submit(at_ns)
        _tell_prompt(recorder, event)
        recorder.start(at_ns)
        run.requests[event["request"]] = _Request(recorder, at_ns)
        run.last_ns = max(run.last_ns, at_ns)


def _end(request: _Request, event: Mapping[str, Any], at_ns: int) -> None:
    _tell_prompt(request.recorder, event)
    tokens, error = event.get("output_tokens"), event.get("error")
    if error is not None:
        request.recorder.fail(error, at_ns)
        return
    request.recorder.end(
        at_ns,
        finish_reason=event.get("finish_reason", "stop"),
        output_tokens=tokens,
        count_source="caller" if not request.pieces else "chunks" if tokens is None else "server",
    )


def _tell_prompt(recorder: RequestRecorder, event: Mapping[str, Any]) -> None:
    if "input_tokens" in event:
        recorder.prompt(input_tokens=event["input_tokens"], cached_tokens=event.get("cached_tokens"))


def _in_order(at_ns: int, after_ns: int, what: str) -> None:
    if at_ns < after_ns:
        raise UserError(
            f"The event's time lies {(after_ns - at_ns) / 1e9:.6f} s before {what}. "
            "Give every event a time, of one clock, or none."
        )
