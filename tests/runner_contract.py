"""What every runner keeps, as tests: a runner's own test file subclasses `RunnerContract`."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence

import pytest

from telemetry.errors import RunnerError
from telemetry.model import CountSource, FinishReason
from telemetry.runners import Prompt, Runner, RunnerThread


class RecordingSink:
    """Keeps what a runner says of one prompt; `on_event` is called with each event's name."""

    def __init__(self, on_event: Callable[[str], None] = lambda name: None) -> None:
        self.events: list[str] = []
        self.stamps_ns: list[int] = []
        self.token_ns: list[int] = []
        self.chunks: list[tuple[int, int | None]] = []
        self.input_tokens: int | None = None
        self.cached_tokens: int | None = None
        self.finish_reason: FinishReason | None = None
        self.output_tokens: int | None = None
        self.count_source: CountSource | None = None
        self.text: str | None = None
        self.error: RunnerError | None = None
        self._on_event = on_event

    def submit(self, mono_ns: int) -> None:
        self._note("submit", mono_ns)

    def start(self, mono_ns: int) -> None:
        self._note("start", mono_ns)

    def prompt(self, *, input_tokens: int, cached_tokens: int | None) -> None:
        self.input_tokens, self.cached_tokens = input_tokens, cached_tokens
        self._note("prompt")

    def token(self, mono_ns: int) -> None:
        self.token_ns.append(mono_ns)
        self._note("token", mono_ns)

    def chunk(self, mono_ns: int, tokens: int | None) -> None:
        self.chunks.append((mono_ns, tokens))
        self._note("chunk", mono_ns)

    def end(
        self,
        mono_ns: int,
        *,
        finish_reason: FinishReason,
        output_tokens: int,
        count_source: CountSource,
        text: str,
    ) -> None:
        self.finish_reason, self.output_tokens, self.text = finish_reason, output_tokens, text
        self.count_source = count_source
        self._note("end", mono_ns)

    def fail(self, mono_ns: int, error: RunnerError) -> None:
        self.error = error
        self._note("fail", mono_ns)

    def _note(self, name: str, mono_ns: int | None = None) -> None:
        self.events.append(name)
        if mono_ns is not None:
            self.stamps_ns.append(mono_ns)
        self._on_event(name)


def prompts_of(prompts: Sequence[str], max_tokens: int) -> list[Prompt]:
    """Return texts as prompts of one length."""
    return [Prompt(text=text, max_tokens=max_tokens) for text in prompts]


def ask(
    runner: Runner, prompts: Sequence[str], max_tokens: int, cancel: threading.Event | None = None
) -> list[RecordingSink]:
    """Answer the texts and return what their sinks were told."""
    return ask_each(runner, prompts_of(prompts, max_tokens), cancel)


def ask_each(runner: Runner, prompts: Sequence[Prompt], cancel: threading.Event | None = None) -> list[RecordingSink]:
    """Answer the prompts and return what their sinks were told."""
    sinks = [RecordingSink() for _ in prompts]
    runner.generate(prompts, sinks, cancel or threading.Event())
    return sinks


class RunnerContract:
    """A subclass has a fixture `runner`, which says at least 8 tokens to `prompts` and refuses `refused`.

    batch_size: the prompts that it computes together.
    """

    batch_size = 1
    prompts = ("Once upon a time", "Once upon")
    refused = ""

    def test_an_answer_is_told_from_start_to_end_in_order(self, runner: Runner) -> None:
        for sink in ask(runner, self.prompts, 5):
            assert sink.events == ["start", "prompt", *["token"] * 5, "end"]

    def test_stamps_lie_within_the_call_and_never_go_back(self, runner: Runner) -> None:
        before_ns = time.monotonic_ns()
        sinks = ask(runner, self.prompts * self.batch_size, 5)  # so many batches as there are prompts
        after_ns = time.monotonic_ns()
        for sink in sinks:
            assert sink.stamps_ns == sorted(sink.stamps_ns)
        end_ns = before_ns
        for first in range(0, len(sinks), self.batch_size):
            batch = sinks[first : first + self.batch_size]
            assert end_ns < min(sink.stamps_ns[0] for sink in batch)
            end_ns = max(sink.stamps_ns[-1] for sink in batch)
        assert end_ns < after_ns

    def test_no_more_tokens_than_asked_for_and_the_count_is_that_of_the_stamps(self, runner: Runner) -> None:
        for wanted in (1, 2, 7):
            for sink in ask(runner, self.prompts, wanted):
                assert (sink.finish_reason, sink.output_tokens, len(sink.token_ns)) == (
                    "length",
                    wanted,
                    wanted,
                )
                assert sink.count_source == "ids"

    def test_the_same_prompt_again_is_read_in_full_and_answered_alike(self, runner: Runner) -> None:
        prompt = self.prompts[0]
        first, again = ask(runner, [prompt, prompt], 4)
        runner.reset()
        (later,) = ask(runner, [prompt], 4)
        assert first.input_tokens
        for sink in (first, again, later):
            assert (sink.input_tokens, sink.cached_tokens) == (first.input_tokens, 0)
            assert sink.text == first.text

    def test_a_texts_tokens_are_counted_as_those_of_a_prompt(self, runner: Runner) -> None:
        for prompt, sink in zip(self.prompts, ask(runner, self.prompts, 1), strict=True):
            assert runner.count_tokens(prompt) == sink.input_tokens

    def test_a_prompt_that_cannot_be_answered_fails_alone(self, runner: Runner) -> None:
        before, refused, after = ask(runner, [self.prompts[0], self.refused, self.prompts[1]], 3)
        assert refused.events == ["fail"]
        assert str(refused.error).endswith(".")
        assert before.events[-1] == after.events[-1] == "end"
        assert after.output_tokens == 3

    def test_a_cancel_ends_the_answers_at_the_next_token_and_begins_no_other(self, runner: Runner) -> None:
        cancel = threading.Event()
        not_begun = RecordingSink()
        cut_after_3 = RecordingSink(lambda name: cancel.set() if len(cut_after_3.token_ns) == 3 else None)
        batch = [cut_after_3, *(RecordingSink() for _ in range(1, self.batch_size))]
        texts = [*[self.prompts[0]] * self.batch_size, self.prompts[1]]
        runner.generate(prompts_of(texts, 8), [*batch, not_begun], cancel)
        for sink in batch:
            assert (sink.finish_reason, sink.output_tokens, len(sink.token_ns)) == ("cancelled", 3, 3)
        assert not_begun.events == ["end"]
        assert (not_begun.finish_reason, not_begun.output_tokens, not_begun.text) == ("cancelled", 0, "")

    def test_after_a_cancelled_run_the_next_is_whole(self, runner: Runner) -> None:
        (expected,) = ask(runner, self.prompts[:1], 4)
        cancel = threading.Event()
        sink = RecordingSink(lambda name: cancel.set() if name == "token" else None)
        runner.generate(prompts_of(self.prompts[:1], 4), [sink], cancel)
        runner.reset()
        (whole,) = ask(runner, self.prompts[:1], 4)
        assert (whole.finish_reason, whole.text, whole.cached_tokens) == ("length", expected.text, 0)

    def test_every_prompt_has_a_sink(self, runner: Runner) -> None:
        with pytest.raises(ValueError, match="argument"):
            runner.generate(prompts_of(self.prompts, 1), [RecordingSink()], threading.Event())

    def test_it_describes_itself_the_same_before_and_after_a_run(self, runner: Runner) -> None:
        before = runner.describe()
        ask(runner, self.prompts, 1)
        assert runner.describe() == before
        assert before.runner
        assert before.model
        assert before.settings

    async def test_a_cancelled_task_ends_its_answers_before_it_ends(self, runner: Runner) -> None:
        loop = asyncio.get_running_loop()
        running = asyncio.Event()

        def hold_the_first_token(name: str) -> None:
            if name == "token":
                loop.call_soon_threadsafe(running.set)
                thread.cancel.wait()

        sink = RecordingSink(hold_the_first_token)
        async with RunnerThread() as thread:
            task = asyncio.create_task(
                thread.call(runner.generate, prompts_of(self.prompts[:1], 8), [sink], thread.cancel)
            )
            await running.wait()
            task.cancel()
            await asyncio.wait({task})
            assert task.cancelled()
            assert (sink.events[-1], sink.finish_reason, sink.output_tokens) == ("end", "cancelled", 1)

    def test_it_can_be_closed_twice(self, runner: Runner) -> None:
        runner.close()
        runner.close()
