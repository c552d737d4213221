"""What a runner tells, handed to the recorder."""

from telemetry.errors import RunnerError
from telemetry.model import CountSource, FinishReason
from telemetry.recorder import RequestRecorder, RunRecorder


class RecordedSink:
    """Hands what a runner tells of one prompt to the recorder; `error` is why it was not answered."""

    def __init__(self, run: RunRecorder) -> None:
        self._run = run
        self._request: RequestRecorder | None = None
        self.error: RunnerError | None = None

    def _of(self) -> RequestRecorder:
        if self._request is None:
            self._request = self._run.request()
        return self._request

    def submit(self, mono_ns: int) -> None:
        self._of().submit(mono_ns)

    def start(self, mono_ns: int) -> None:
        self._of().start(mono_ns)

    def prompt(self, *, input_tokens: int, cached_tokens: int | None) -> None:
        self._of().prompt(input_tokens=input_tokens, cached_tokens=cached_tokens)

    def token(self, mono_ns: int) -> None:
        self._of().token_at(mono_ns)

    def chunk(self, mono_ns: int, tokens: int | None) -> None:
        self._of().chunk_at(mono_ns, tokens)

    def end(
        self,
        mono_ns: int,
        *,
        finish_reason: FinishReason,
        output_tokens: int,
        count_source: CountSource,
        text: str,
    ) -> None:
        self._of().end(mono_ns, finish_reason=finish_reason, output_tokens=output_tokens, count_source=count_source)

    def fail(self, mono_ns: int, error: RunnerError) -> None:
        self.error = error
        self._of().fail(str(error), mono_ns)
