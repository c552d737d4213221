"""The runner for OpenAI-compatible servers: on a scripted one that misbehaves (real ones: test_real_servers.py)."""

import json
import logging
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runner_contract import RecordingSink, RunnerContract, ask, ask_each, prompts_of
from scripted_server import (
    CUT,
    DONE,
    HOLD,
    Asked,
    Reply,
    ScriptedServer,
    Step,
    counting,
    event,
    piece,
    pieces,
    telling,
    usage,
)

from telemetry.errors import RunnerError, UsageError
from telemetry.experiment import Plan, Setting, conduct
from telemetry.recorder import Recorder
from telemetry.runners import Load, OpenAIRunner, Prompt, open_openai
from telemetry.runners.openai import Api, Arrival, arrivals_s, asking, sse
from telemetry.runners.openai.chunks import finish_reason, read_chunk
from telemetry.runners.openai.sse import EventReader
from telemetry.runners.prompts import Draft, PromptSet

KEY = "sk-secret-4711-of-the-user"
LAST = event(piece(finish="stop"))


@pytest.fixture(autouse=True)
def no_key_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def answered(
    *steps: Step, prompts: Sequence[str] = ("Say it",), api: Api = "completions", **load: Any
) -> RecordingSink:
    """Ask a server that answers with these steps; return what the first prompt's sink was told."""
    with ScriptedServer(telling(*steps)) as server:
        return ask(open_openai(server.url, "m", api=api, load=Load(**load)), prompts, 8)[0]


# The contract that every runner keeps.


class TestCompletions(RunnerContract):
    @pytest.fixture
    def runner(self) -> Iterator[OpenAIRunner]:
        with ScriptedServer(counting) as server:
            yield open_openai(server.url, "m")


class TestChat(RunnerContract):
    @pytest.fixture
    def runner(self) -> Iterator[OpenAIRunner]:
        with ScriptedServer(counting) as server:
            yield open_openai(server.url, "m", api="chat")


# Chunks are told apart from tokens.


def test_a_piece_of_text_is_no_token_and_the_usage_at_the_end_is_the_count() -> None:
    texts = [event(piece(text)) for text in ("so", "me ", "words")]
    sink = answered(*texts, event(piece(finish="stop", usage=usage(7, prompt=5, cached=2))), DONE)
    assert sink.events == ["start", "chunk", "chunk", "chunk", "prompt", "end"]
    assert [tokens for _, tokens in sink.chunks] == [None, None, None]
    assert (sink.output_tokens, sink.count_source, sink.text) == (7, "server", "some words")
    assert (sink.input_tokens, sink.cached_tokens) == (5, 2)


def test_the_usage_may_come_in_a_chunk_of_its_own_without_choices() -> None:
    sink = answered(event(piece("a")), LAST, event({"choices": [], "usage": usage(4)}), DONE)
    assert (sink.output_tokens, sink.count_source, len(sink.chunks)) == (4, "server", 1)


def test_where_nobody_counts_the_pieces_are_counted_and_say_so(caplog: pytest.LogCaptureFixture) -> None:
    bare = telling(event(piece("a")), event(piece("b")), LAST, DONE)
    with ScriptedServer(bare, opening=bare) as server:
        runner = open_openai(server.url, "m")
        (sink,) = ask(runner, ["Say it"], 8)
    assert (sink.output_tokens, sink.count_source) == (2, "chunks")
    assert "prompt" not in sink.events
    assert runner.describe().settings["server_counts"] == "none"
    assert "does not tell how many tokens" in caplog.text


def test_two_tokens_in_a_chunk_are_two_at_one_time() -> None:
    both = event(piece("ab", usage=usage(3)))
    sink = answered(event(piece("x", usage=usage(1))), both, event(piece(finish="stop", usage=usage(4))), DONE)
    assert sink.events == ["start", "prompt", "token", "chunk", "token", "end"]
    assert sink.chunks[0][1] == 2
    assert (sink.output_tokens, sink.count_source) == (4, "server")


def test_two_ids_in_a_chunk_are_two_at_one_time_and_the_ids_are_the_count() -> None:
    sink = answered(event(piece("ab", ids=[5, 6])), event(piece("", ids=[2], finish="stop")), DONE)
    assert [tokens for _, tokens in sink.chunks] == [2]
    assert len(sink.token_ns) == 1
    assert (sink.output_tokens, sink.count_source) == (3, "ids")


def test_ids_that_the_usage_contradicts_do_not_count() -> None:
    sink = answered(event(piece("ab", ids=[5, 6])), LAST, event({"choices": [], "usage": usage(9)}), DONE)
    assert (sink.output_tokens, sink.count_source) == (9, "server")


def test_a_token_without_text_has_its_time_and_the_one_that_ends_the_text_too() -> None:
    # As llama-server does in chat: the end's token is in the count of the chunk after the finish.
    timings = [{"predicted_n": n, "prompt_n": 4, "cache_n": 3} for n in (1, 3)]
    steps = [event(piece(text, chat=True, timings=told)) for text, told in zip(("a", "é"), timings, strict=True)]
    last = event({"choices": [], "usage": usage(4, prompt=7, cached=3)})
    sink = answered(*steps, event(piece(chat=True, finish="stop")), last, DONE, api="chat")
    assert sink.events == ["start", "prompt", "token", "chunk", "token", "end"]
    assert (sink.input_tokens, sink.cached_tokens, sink.output_tokens) == (7, 3, 4)


def test_the_first_token_is_not_the_chunk_that_names_the_role() -> None:
    role = event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}], "usage": usage(0)})
    with ScriptedServer(telling(role, 0.02, event(piece("a", chat=True, usage=usage(1))), LAST, DONE)) as server:
        runner = open_openai(server.url, "m", api="chat")
        server.mark_ns.clear()
        (sink,) = ask(runner, ["Say it"], 8)
    assert sink.token_ns[0] > server.mark_ns[0]
    assert len(sink.token_ns) == 1


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_reasoning_is_content(name: str) -> None:
    thought = {"choices": [{"index": 0, "delta": {name: "hm "}}]}
    sink = answered(event(thought), event(piece("yes", chat=True, finish="stop")), DONE, api="chat")
    assert (len(sink.chunks), sink.text) == (2, "hm yes")


@pytest.mark.parametrize("told", [True, -1, "7", None, 2.0])
def test_a_count_that_is_no_whole_number_is_not_taken_for_one(told: object) -> None:
    chunk = read_chunk(json.dumps(piece("a", usage={"completion_tokens": told, "prompt_tokens": told})).encode())
    assert (chunk.running, chunk.input_tokens) == (None, None)


# Streams as they come.


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_bytes_may_be_cut_anywhere_lines_may_end_in_crlf_and_comments_are_skipped(size: int) -> None:
    body = b": ping\r\n\r\n" + event(piece("café🔋 ")).replace(b"\n", b"\r\n") + b":\r\n" + b"event: message\n"
    body += event(piece("über", finish="stop", usage=usage(9))) + b": ping\n\n" + DONE
    sink = answered(*pieces(body, size=size))
    assert (sink.text, sink.output_tokens, sink.error) == ("café🔋 über", 9, None)


@given(st.lists(st.binary(min_size=1).filter(lambda b: b"\n" not in b and b"\r" not in b)), st.data(), st.booleans())
def test_events_do_not_depend_on_how_the_body_is_cut(events: list[bytes], data: st.DataObject, crlf: bool) -> None:
    body = b"".join(b"data: " + e + b"\n: ping\n\n" for e in events)
    body = body.replace(b"\n", b"\r\n") if crlf else body
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=8)))
    reader = EventReader()
    got = [e for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True) for e in reader.feed(body[a:b])]
    assert got == events
    assert reader.close() is None


def test_an_event_has_the_lines_of_all_its_data_fields_and_may_end_with_the_body() -> None:
    reader = EventReader()
    assert reader.feed(b"data: a\ndata:b\n\ndata: c") == [b"a\nb"]
    assert reader.close() == b"c"


def test_a_line_without_end_is_refused_before_it_fills_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "LONGEST_LINE", 100)
    sink = answered(b"data: " + b"x" * 200)
    assert "without a line's end" in str(sink.error)


def test_done_may_be_missing() -> None:
    sink = answered(event(piece("a", finish="stop")))
    assert (sink.events[-1], sink.finish_reason) == ("end", "stop")


def test_done_without_a_reason_is_an_end_too() -> None:
    assert answered(event(piece("a", usage=usage(3))), DONE).finish_reason == "stop"
    assert answered(event(piece("a", usage=usage(8))), DONE).finish_reason == "length"


def test_what_comes_after_done_is_not_of_the_answer() -> None:
    sink = answered(event(piece("a", finish="stop")), DONE, event(piece("b")), b"data: {\n\n")
    assert (sink.text, sink.error) == ("a", None)


def test_a_connection_that_is_held_open_after_done_does_not_hold_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "AFTER_DONE_S", 0.05)
    sink = answered(event(piece("a", finish="stop")), DONE, HOLD)
    assert sink.events[-1] == "end"
    assert sink.text == "a"


def test_a_chunk_without_choices_in_the_middle_is_passed_over() -> None:
    sink = answered(event(piece("a")), event({"choices": []}), event({}), event(piece("b", finish="stop")), DONE)
    assert (sink.text, len(sink.chunks), sink.error) == ("ab", 2, None)


def test_a_slow_first_byte_is_waited_for() -> None:
    sink = answered(0.1, event(piece("a", finish="stop")), DONE)
    assert sink.text == "a"


@pytest.mark.parametrize(
    ("told", "ours"),
    [("stop", "stop"), ("eos_token", "stop"), ("tool_calls", "stop"), ("length", "length"), ("max_tokens", "length")],
)
def test_finish_reasons_in_our_words(told: str, ours: str) -> None:
    assert answered(event(piece("a", finish=told)), DONE).finish_reason == ours


@pytest.mark.parametrize("told", ["abort", "content_filter", "error"])
def test_an_answer_that_the_server_broke_off_has_failed(told: str) -> None:
    with pytest.raises(RunnerError, match=told):
        finish_reason(told, tokens=1, max_tokens=8)
    assert answered(event(piece("a", finish=told)), DONE).events == ["start", "chunk", "fail"]


# Failures are data.

BROKEN: dict[str, tuple[list[Step], str]] = {
    "cut": ([CUT], "connection broke"),
    "closed": ([], "closed the stream before the answer was finished"),
    "stalled": ([HOLD], "silent for 1 s"),
    "pinging": ([b": ping\n\n", 0.2] * 50, "silent for 1 s"),
    "no JSON": ([event(b'{"choices": [{"te'), DONE], "no JSON"),
    "no object": ([event([1, 2]), DONE], "no JSON object"),
    "error": ([event({"error": {"message": "CUDA out of memory"}}), DONE], "CUDA out of memory. Look"),
    "error in words": ([event({"error": "overloaded"}), DONE], "overloaded. Look"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_an_answer_that_breaks_fails_alone_and_keeps_its_tokens(fault: str) -> None:
    rest, words = BROKEN[fault]

    def answer(asked: Asked) -> Reply:
        begun = [event(piece("a", usage=usage(1))), event(piece("b", usage=usage(2)))]
        return Reply(steps=[*begun, *rest]) if asked.prompt == "Break" else counting(asked)

    with ScriptedServer(answer) as server:
        broken, whole = ask(open_openai(server.url, "m", load=Load(timeout_s=1.0)), ["Break", "Go on"], 4)
    assert broken.events == ["start", "prompt", "token", "token", "fail"]
    assert words in str(broken.error)
    assert (whole.finish_reason, whole.output_tokens) == ("length", 4)


def test_a_server_that_is_silent_from_the_beginning_is_given_up() -> None:
    sink = answered(HOLD, timeout_s=1.0)
    assert sink.events == ["start", "fail"]


REFUSALS = {
    401: ({"error": {"message": "Incorrect API key provided"}}, "Incorrect API key provided. Set the environment"),
    404: ({"object": "error", "message": "The model `m` does not exist."}, "does not exist"),
    422: ({"detail": "Unexpected fields"}, "Unexpected fields. Check"),
    429: ({"error": "slow down"}, "slow down. Lower --concurrency"),
    500: (None, "Internal <b>. Look into the server's log"),
}


@pytest.mark.parametrize("status", REFUSALS)
def test_a_refused_request_fails_with_the_servers_words_and_the_run_goes_on(status: int) -> None:
    told, words = REFUSALS[status]

    def answer(asked: Asked) -> Reply:
        body = json.dumps(told).encode() if told else b"Internal <b>"
        return Reply(status=status, steps=[body]) if asked.prompt == "Refuse" else counting(asked)

    with ScriptedServer(answer) as server:
        refused, whole = ask(open_openai(server.url, "m"), ["Refuse", "Go on"], 4)
        assert server.prompts == ["Refuse", "Go on"]  # no second try unless asked for
    assert refused.events == ["start", "fail"]
    assert f"answered {status}" in str(refused.error)
    assert words in str(refused.error)
    assert str(refused.error).endswith(".")
    assert whole.output_tokens == 4


def _always(reply: Reply, asked: Asked) -> Reply:
    return reply


def failing_first(times: int, reply: Reply) -> Callable[[Asked], Reply]:
    left = iter([reply] * times)
    return lambda asked: next(left, None) or counting(asked)


BUSY = Reply(status=429, steps=[b"{}"], headers={"Retry-After": "0"})


def test_a_busy_server_is_asked_again_as_often_as_asked_for() -> None:
    for times, last in ((2, "end"), (3, "fail")):
        with ScriptedServer(failing_first(times, BUSY)) as server:
            (sink,) = ask(open_openai(server.url, "m", load=Load(retries=2)), ["Say it"], 2)
            assert len(server.prompts) == 3
        assert sink.events[0] == "start"
        assert sink.events.count("start") == 1
        assert sink.events[-1] == last


def test_what_has_begun_or_cannot_help_is_not_asked_again() -> None:
    begun = Reply(steps=[event(piece("a")), CUT])
    for reply in (begun, Reply(status=400, steps=[b"{}"])):
        with ScriptedServer(failing_first(1, reply)) as server:
            (sink,) = ask(open_openai(server.url, "m", load=Load(retries=2)), ["Say it"], 2)
            assert len(server.prompts) == 1
        assert sink.events[-1] == "fail"


def test_a_fault_of_the_recording_is_not_taken_for_one_of_the_server() -> None:
    def break_down(name: str) -> None:
        if name == "token":
            raise ValueError("no space left")

    with ScriptedServer(counting) as server:
        runner = open_openai(server.url, "m", load=Load(concurrency=2))
        with pytest.raises(ValueError, match="no space left"):
            runner.generate(prompts_of(["a", "b"], 3), [RecordingSink(break_down), RecordingSink()], threading.Event())


def test_a_cancel_ends_also_what_waits_for_a_silent_server_or_for_a_place() -> None:
    cancel = threading.Event()

    def answer(asked: Asked) -> Reply:
        cancel.set()
        return Reply(steps=[HOLD])

    with ScriptedServer(answer) as server:
        sinks = [RecordingSink(), RecordingSink()]
        open_openai(server.url, "m").generate(prompts_of(["a", "b"], 3), sinks, cancel)
        assert server.prompts == ["a"]
    assert [sink.events for sink in sinks] == [["start", "end"], ["end"]]
    assert [sink.finish_reason for sink in sinks] == ["cancelled", "cancelled"]


# How requests come.


def test_as_many_requests_are_under_way_as_asked_for_and_no_more() -> None:
    three = threading.Event()

    def answer(asked: Asked) -> Reply:
        if server.under_way == 3:
            three.set()
        return Reply(steps=[three, *counting(asked).steps])

    with ScriptedServer(answer) as server:
        runner = open_openai(server.url, "m", load=Load(concurrency=3))
        sinks = ask(runner, [f"prompt {k}" for k in range(9)], 2)
        assert server.most_under_way == 3
        assert set(server.prompts[:3]) == {"prompt 0", "prompt 1", "prompt 2"}  # connections overtake each other
    assert [sink.output_tokens for sink in sinks] == [2] * 9
    assert runner.describe().concurrency == 3


def test_requests_at_a_rate_are_due_at_their_own_times_also_while_they_wait_for_a_place() -> None:
    with ScriptedServer(counting) as server:
        load = Load(concurrency=1, arrival="constant", rate=200.0)
        sinks = ask(open_openai(server.url, "m", load=load), ["a", "b", "c"], 2)
    due_ns = [sink.stamps_ns[0] for sink in sinks]
    assert [sink.events[:2] for sink in sinks] == [["submit", "start"]] * 3
    assert [b - a for a, b in pairwise(due_ns)] == [5_000_000, 5_000_000]
    assert all(sink.stamps_ns[0] <= sink.stamps_ns[1] for sink in sinks)


@given(st.integers(1, 50), st.sampled_from(("poisson", "constant", "burst")), st.floats(0.01, 1e4), st.integers())
def test_arrivals_begin_at_once_never_go_back_and_follow_the_seed(n: int, how: Arrival, rate: float, seed: int) -> None:
    due_s = arrivals_s(n, arrival=how, rate=rate, seed=seed)
    assert len(due_s) == n
    assert due_s[0] == 0
    assert due_s == sorted(due_s)
    assert due_s == arrivals_s(n, arrival=how, rate=rate, seed=seed)


def test_arrivals_keep_their_rate() -> None:
    assert arrivals_s(3, arrival="constant", rate=4.0, seed=0) == [0.0, 0.25, 0.5]
    assert arrivals_s(3, arrival="burst", rate=None, seed=0) == [0.0] * 3
    assert arrivals_s(10_001, arrival="poisson", rate=5.0, seed=1)[-1] == pytest.approx(2000, rel=0.05)
    assert arrivals_s(9, arrival="poisson", rate=5.0, seed=1) != arrivals_s(9, arrival="poisson", rate=5.0, seed=2)


@pytest.mark.parametrize("rate", [None, 0.0, -1.0, float("nan")])
def test_arrivals_need_a_rate(rate: float | None) -> None:
    with pytest.raises(UsageError, match="request rate above 0"):
        arrivals_s(2, arrival="poisson", rate=rate, seed=0)


def test_prompts_that_are_due_at_their_own_times_are_asked_at_those() -> None:
    prompts = [Prompt(text=text, max_tokens=2, due_s=due) for text, due in (("b", 0.04), ("a", 0.0), ("c", 0.04))]
    with ScriptedServer(counting) as server:
        sinks = ask_each(open_openai(server.url, "m", load=Load(concurrency=3)), prompts)
    assert [sink.events[:2] for sink in sinks] == [["submit", "start"]] * 3
    b_ns, a_ns, c_ns = (sink.stamps_ns[0] for sink in sinks)
    assert (b_ns - a_ns, c_ns - a_ns) == (40_000_000, 40_000_000)
    assert all(sink.stamps_ns[0] <= sink.stamps_ns[1] for sink in sinks)


@pytest.mark.parametrize(
    ("load", "due_s"), [(Load(arrival="constant", rate=9.0), (0.0, 1.0)), (Load(), (0.0, None))], ids=["rate", "mixed"]
)
def test_times_of_their_own_go_with_no_others(load: Load, due_s: Sequence[float | None]) -> None:
    with ScriptedServer(counting) as server:
        runner = open_openai(server.url, "m", load=load)
        with pytest.raises(UsageError, match="of 2 prompts are due at times of their own"):
            ask_each(runner, [Prompt(text="a", max_tokens=1, due_s=due) for due in due_s])
        assert server.prompts == []


def test_what_ends_an_answer_is_asked_of_the_server() -> None:
    with ScriptedServer(telling(event(piece("a", usage=usage(2), finish="stop")), DONE)) as server:
        prompts = [Prompt(text="a", max_tokens=9, stop=("\n", "END")), Prompt(text="b", max_tokens=9)]
        (stopped, _) = ask_each(open_openai(server.url, "m"), prompts)
        bodies = [asked.body for asked in server.asked[-2:]]
    assert [body.get("stop") for body in bodies] == [["\n", "END"], None]
    assert (stopped.finish_reason, stopped.output_tokens) == ("stop", 2)


# The tokens of a text.


def tokenizing(*keys: str, beside: int = 0) -> Callable[[dict[str, Any]], Reply]:
    """Return a `/tokenize` that knows bodies with exactly these keys, and counts words and so many more."""

    def answer(body: dict[str, Any]) -> Reply:
        if sorted(body) != sorted(keys):
            return Reply(status=400, steps=[b"{}"])
        text: str = body["messages"][0]["content"] if "messages" in body else body.get("prompt") or body["content"]
        return Reply(steps=[json.dumps({"tokens": [7] * (len(text.split()) + beside)}).encode()])

    return answer


@pytest.mark.parametrize(
    ("keys", "api"),
    [
        (("model", "prompt"), "completions"),
        (("model", "messages"), "chat"),
        (("content", "add_special", "parse_special"), "completions"),
    ],
)
def test_a_text_is_tokenized_where_that_agrees_with_the_usage(keys: Sequence[str], api: Api) -> None:
    with ScriptedServer(counting, tokenize=tokenizing(*keys)) as server:
        runner = open_openai(server.url, "m", api=api)
        assert [runner.count_tokens(text) for text in ("a b", "a b c", "a")] == [2, 3, 1]
        assert server.prompts == ["a b"]  # to compare with


@pytest.mark.parametrize("tokenize", [None, tokenizing("model", "prompt", beside=1)], ids=["none", "disagreeing"])
def test_else_the_usage_of_an_answer_of_one_token_tells(tokenize: Callable[[dict[str, Any]], Reply] | None) -> None:
    with ScriptedServer(counting, tokenize=tokenize) as server:
        runner = open_openai(server.url, "m")
        assert [runner.count_tokens(text) for text in ("a b", "a b c")] == [2, 3]
        assert [asked.body["max_tokens"] for asked in server.asked[-2:]] == [1, 1]


def test_a_server_that_tells_no_tokens_of_a_prompt_is_not_guessed_for() -> None:
    silent = telling(event(piece("a", finish="stop")), DONE)
    with ScriptedServer(silent, tokenize=tokenizing("model", "prompt")) as server:
        runner = open_openai(server.url, "m")
        with pytest.raises(RunnerError, match="does not tell how many tokens a prompt has"):
            runner.count_tokens("a b")


# A server is opened.


def test_a_server_is_asked_for_counts_and_no_cache_and_each_time_with_another_salt() -> None:
    with ScriptedServer(counting) as server:
        runner = open_openai(f"{server.url}/", "m")
        ask(runner, ["a", "a"], 2)
        bodies = [asked.body for asked in server.asked]
        assert {asked.path for asked in server.asked} == {"/v1/completions"}
    for body in bodies:
        assert (body["model"], body["stream"], body["temperature"]) == ("m", True, 0.0)
        assert body["stream_options"] == {"include_usage": True, "continuous_usage_stats": True}
        assert (body["return_token_ids"], body["timings_per_token"], body["cache_prompt"]) == (True, True, False)
    assert len({body["cache_salt"] for body in bodies}) == 3
    assert runner.describe().engine_version == "vllm 1.2.3"
    assert runner.describe().settings["server_counts"] == "token ids"
    assert runner.describe().settings["server_model"] == "org/m"
    assert runner.describe().settings["server"] == "vllm"


def test_a_prompt_is_sent_as_it_is_or_as_a_users_message_below_the_path_that_was_given() -> None:
    with ScriptedServer(counting) as server:
        ask(open_openai(f"{server.url}/openai/v3/", "m"), [" a"], 2)
        ask(open_openai(server.url, "m", api="chat"), [" b"], 2)
        plain, chat = (asked for asked in server.asked if asked.prompt != "Hi")
    assert (plain.path, plain.body["prompt"], plain.body["max_tokens"]) == ("/openai/v3/completions", " a", 2)
    assert (chat.path, chat.body["messages"]) == ("/v1/chat/completions", [{"role": "user", "content": " b"}])


@pytest.mark.parametrize(
    ("known", "left"),
    [
        ({"stream_options", "return_token_ids", "timings_per_token", "cache_prompt"}, None),
        ({"stream_options"}, ["stream_options"]),
        (set(), []),
    ],
)
def test_a_server_that_refuses_what_it_does_not_know_is_asked_without(known: set[str], left: list[str] | None) -> None:
    usual = {"model", "stream", "temperature", "max_tokens", "prompt"}

    def strict(asked: Asked) -> Reply:
        unknown = set(asked.body) - usual - known
        return Reply(status=422, steps=[b'{"detail": "Unexpected fields"}']) if unknown else counting(asked)

    with ScriptedServer(strict, opening=strict) as server:
        runner = open_openai(server.url, "m")
        (sink,) = ask(runner, ["a"], 2)
        assert len(server.prompts) == 1
    assert runner.describe().settings["fields"] == (sorted(known) if left is None else left)
    assert sink.output_tokens == 2


@pytest.mark.parametrize(
    ("chunk", "name"),
    [
        (piece("a", timings={"predicted_n": 1}), "llama-server"),
        (piece("a", system_fingerprint="fp_ollama"), "ollama"),
        ({"choices": [{"text": "a", "matched_stop": None}]}, "sglang"),
        (piece("a", ids=[1]), "vllm"),
        (piece("a"), "unknown"),
    ],
)
def test_a_server_is_known_by_what_it_sends(chunk: dict[str, Any], name: str) -> None:
    one = telling(event(chunk), LAST, DONE)
    with ScriptedServer(one, opening=one) as server:
        assert open_openai(server.url, "m").describe().settings["server"] == name


def test_no_server_is_said_so() -> None:
    with ScriptedServer(counting) as server:
        url = server.url
    with pytest.raises(RunnerError, match="No server answers"):
        open_openai(url, "m")


def test_a_server_that_refuses_the_short_request_is_not_opened() -> None:
    for status, words in ((400, "no such"), (404, "--model"), (500, "log")):
        refusing = Reply(status=status, steps=[b'{"error": {"message": "no such thing"}}'])
        refuse = partial(_always, refusing)
        with ScriptedServer(counting, opening=refuse) as server, pytest.raises(RunnerError, match=words):
            open_openai(server.url, "m")


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8000", "ftp://host/v1", "http://", "http://u:pw@host/v1", "http://h/v1?key=1"]
)
def test_a_url_that_is_none_or_holds_a_secret_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(UsageError) as refused:
        open_openai(url, "m")
    assert "pw" not in str(refused.value)
    assert "key=1" not in str(refused.value)


@pytest.mark.parametrize("load", [{"concurrency": 0}, {"retries": -1}, {"timeout_s": 0.0}, {"arrival": "poisson"}])
def test_a_load_that_cannot_be_is_refused(load: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        open_openai("http://127.0.0.1:1/v1", "m", load=Load(**load))


def test_a_proxy_of_the_environment_is_not_used_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert answered(event(piece("a", finish="stop")), DONE).text == "a"


# The key.


def test_the_key_is_sent_and_shown_nowhere(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\n")
    caplog.set_level(logging.DEBUG)

    def answer(asked: Asked) -> Reply:
        echo = asked.headers["authorization"]
        if asked.prompt == "Refuse":
            return Reply(status=401, steps=[json.dumps({"error": {"message": f"bad header {echo}"}}).encode()])
        return Reply(steps=[event(f"{echo} is no object".encode())])

    with ScriptedServer(answer) as server:
        runner = open_openai(server.url, "m")
        refused, broken = ask(runner, ["Refuse", "Break"], 4)
        with pytest.raises(RunnerError, match=r"Bearer \*\*\*") as uncounted:
            runner.count_tokens("Refuse")
        assert {asked.headers["authorization"] for asked in server.asked} == {f"Bearer {KEY}"}
    assert "bad header Bearer ***" in str(refused.error)
    assert "no JSON" in str(broken.error)
    for shown in (
        repr(refused.error),
        repr(broken.error),
        repr(uncounted.value),
        repr(runner.describe()),
        repr(runner),
        caplog.text,
    ):
        assert KEY not in shown


def test_a_key_that_an_opening_would_show_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    refusing = Reply(status=401, steps=[json.dumps({"detail": f"unknown {KEY}"}).encode()])
    with (
        ScriptedServer(counting, opening=partial(_always, refusing)) as server,
        pytest.raises(RunnerError, match=r"unknown \*\*\*") as refused,
    ):
        open_openai(server.url, "m")
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__


def test_a_key_that_is_no_key_is_refused_without_showing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-sécret\x07")
    with pytest.raises(RunnerError, match="no key can have") as refused:
        open_openai("http://127.0.0.1:1/v1", "m")
    assert "cret" not in str(refused.value)


# In the store.


def store_rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


async def test_a_run_in_the_store_says_what_was_counted_and_by_whom(tmp_path: Path) -> None:
    scripts: dict[str, Sequence[Step]] = {
        "counted": [event(piece("a", usage=usage(n))) for n in (1, 2, 4, 6, 7)] + [LAST, DONE],
        "told": [event(piece("a")) for _ in range(70)] + [event(piece(finish="stop", usage=usage(99))), DONE],
        "bare": [event(piece("a")), LAST, DONE],
        "cut": [event(piece("a")), event(piece("b")), CUT],
    }
    with ScriptedServer(lambda asked: Reply(steps=scripts[asked.prompt])) as server:
        options = {"base_url": server.url}
        setting = Setting(name="m", engine="openai", model="m", prompts="p", concurrency=2, options=options)
        prompts = PromptSet(drafts=tuple(Draft(input=text, output=200) for text in scripts), about={})
        plan = Plan(name="e", settings=(setting,), prompts={"p": prompts}, repeat=1, warmup=0)
        async with Recorder(tmp_path / "t.db", collect=False) as recorder:
            uids = await conduct(
                recorder, plan, experiment="e", progress=lambda done, total, what: None, say=lambda words: None
            )
    assert len(uids) == 1
    about = store_rows(tmp_path / "t.db", "select runner, model, concurrency, status from run")
    assert about == [("openai", "m", 2, "ok")]
    requests = store_rows(
        tmp_path / "t.db", "select output_tokens, count_source, status, cached_tokens from request order by number"
    )
    assert requests == [
        (7, "server", "ok", 0),
        (99, "server", "ok", 0),
        (1, "chunks", "ok", None),
        (2, "chunks", "failed", None),
    ]
    kinds = store_rows(
        tmp_path / "t.db",
        'select request, kind, count(*), min("index") from token group by request, kind order by 1, 4',
    )
    assert kinds == [
        (0, "token", 3, 0),  # 1, 2 and 7
        (0, "coalesced", 4, 2),
        (1, "chunk", 70, 0),
        (2, "chunk", 1, 0),
        (3, "chunk", 2, 0),
    ]
    rows = store_rows(tmp_path / "t.db", "select request, count(*) from token_chunk group by request order by 1")
    assert rows == [(0, 3), (1, 2), (2, 1), (3, 1)]  # up to 64 times a row


def command(*words: object, key: str = "") -> subprocess.CompletedProcess[str]:
    environ = os.environ | ({"OPENAI_API_KEY": key} if key else {})
    line = [sys.executable, "-m", "telemetry.cli", "run", "openai", *map(str, words)]
    return subprocess.run(line, env=environ, capture_output=True, text=True, check=False)


def test_the_command_measures_counts_failures_and_leaves_the_key_nowhere(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("one prompt\nBreak\nand a third\n")

    def answer(asked: Asked) -> Reply:
        echo = {"error": asked.headers["authorization"]}
        return Reply(steps=[event(echo)]) if asked.prompt == "Break" else counting(asked)

    line = ["--model", "m", "--prompts", prompts, "--max-tokens", 5, "--repeat", 1, "--warmup", 1, "--api", "chat"]
    line += ["--request-rate", 50, "--arrival", "constant", "--timeout", 5, "--seed", 3]
    with ScriptedServer(answer) as server:
        line += ["--source", "simulated:h200", "--store", tmp_path / "t.db", "--format", "json"]
        done = command("--base-url", server.url, *line, key=KEY)
    assert done.returncode == 0, done.stderr
    (measured,) = [run for run in json.loads(done.stdout)["runs"] if not run["warmup"]]
    assert (measured["runner"], measured["concurrency"], measured["requests"]) == ("openai", 3, {"ok": 2, "failed": 1})
    assert (measured["output_tokens"], measured["status"]) == (10, "ok")
    due = "select submitted_ns from request where run = (select id from run where not warmup) order by number"
    due_ns = [row[0] for row in store_rows(tmp_path / "t.db", due)]
    assert [b - a for a, b in pairwise(due_ns)] == [20_000_000] * 2
    assert KEY not in done.stdout + done.stderr
    for file in tmp_path.iterdir():
        assert KEY.encode() not in file.read_bytes(), file


def test_the_command_says_what_cannot_be_before_it_makes_a_store(tmp_path: Path) -> None:
    prompts, store = tmp_path / "prompts.txt", tmp_path / "t.db"
    prompts.write_text("one prompt\n")
    line = ["--model", "m", "--prompts", prompts, "--store", store, "--source", "simulated:h200"]
    with ScriptedServer(counting) as server:
        url = server.url
    for words, code, said in (
        (["--base-url", url], 1, "No server answers"),
        (["--base-url", "nowhere"], 2, "no URL"),
        (["--base-url", url, "--arrival", "constant"], 2, "do not go together"),
        (["--base-url", url, "--arrival", "burst", "--request-rate", 1], 2, "do not go together"),
        (["--base-url", url, "--request-rate", 0], 2, "do not go together"),
    ):
        refused = command(*words, *line)
        assert (refused.returncode, said in refused.stderr) == (code, True), refused.stderr
        assert "Traceback" not in refused.stderr
    assert not store.exists()
