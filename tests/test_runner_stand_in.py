"""The paced stand-in keeps the runners' contract, and its own pace."""

import pytest
from runner_contract import RunnerContract, ask, ask_each

from telemetry.errors import UsageError
from telemetry.runners import Prompt, StandInRunner


class TestStandIn(RunnerContract):
    @pytest.fixture
    def runner(self) -> StandInRunner:
        return StandInRunner(prefill_s_per_token=0.0001, token_interval_s=0.001)


def test_no_token_comes_before_its_time() -> None:
    runner = StandInRunner(prefill_s_per_token=0.002, token_interval_s=0.004)
    (sink,) = ask(runner, ["five words in this prompt"], 4)
    since_start_ns = [token_ns - sink.stamps_ns[0] for token_ns in sink.token_ns]
    for late_ns, due_ns in zip(since_start_ns, (10_000_000, 14_000_000, 18_000_000, 22_000_000), strict=True):
        assert late_ns >= due_ns


def test_it_counts_its_own_words_and_cannot_be_taken_for_a_model() -> None:
    runner = StandInRunner(prefill_s_per_token=0.0, token_interval_s=0.0)
    (sink,) = ask(runner, ["three words here"], 2)
    assert (sink.input_tokens, sink.text) == (3, "watt watt ")
    assert (runner.describe().runner, runner.describe().model) == ("stand-in", "paced stand-in (no model)")


def test_it_stops_at_a_stop_string_across_its_words() -> None:
    runner = StandInRunner(prefill_s_per_token=0.0, token_interval_s=0.0)
    (sink,) = ask_each(runner, [Prompt(text="three words here", max_tokens=9, stop=("t wa",))])
    assert (sink.finish_reason, sink.text, sink.output_tokens, len(sink.token_ns)) == ("stop", "wat", 2, 2)


def test_a_prompt_that_may_have_no_token_is_refused() -> None:
    with pytest.raises(UsageError, match="at least 1 token"):
        Prompt(text="Once", max_tokens=0)
