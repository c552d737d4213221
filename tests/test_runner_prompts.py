"""Prompts out of files and traces: what is read, what is refused with its line, and what a run's settings keep."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from telemetry.errors import UsageError
from telemetry.runners import Prompt, parse_prompts, prompt_set, read_prompts

DATA = Path(__file__).with_name("data")
AZURE, MOONCAKE = DATA / "azure_llm_2023_code_head.csv", DATA / "mooncake_fast25_head.jsonl"


def write(folder: Path, content: bytes | object, name: str = "prompts.txt") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def words(text: str) -> int:
    """Count tokens as a model would whose tokens are words, between a begin mark and an end mark."""
    return len(text.split()) + 2


def no_count(text: str) -> int:
    raise AssertionError("nothing needed to be counted")


def made(asked: Mapping[str, Any]) -> list[Prompt]:
    return prompt_set(asked).make(words)


# Plain text.


def test_each_line_is_a_prompt_as_it_stands_and_blank_lines_are_none(tmp_path: Path) -> None:
    path = write(tmp_path, "One?\n\n  two, indented \r\n \t\ncafé🔋".encode())
    assert read_prompts(path) == ["One?", "  two, indented ", "café🔋"]


def test_the_mark_that_some_editors_put_first_is_no_part_of_a_prompt(tmp_path: Path) -> None:
    assert read_prompts(write(tmp_path, b"\xef\xbb\xbfHello\n")) == ["Hello"]


@pytest.mark.parametrize("content", [b"", b"\n  \n\t\n"])
def test_a_file_without_a_prompt_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UsageError, match=r"prompts\.txt holds no prompt"):
        read_prompts(write(tmp_path, content))


def test_a_file_in_another_encoding_is_refused_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"prompts\.txt, line 3, is not UTF-8: .* at byte 4\."):
        read_prompts(write(tmp_path, b"fine\n\ncaf\xe9\n"))


def test_a_file_that_is_not_there_and_a_folder_are_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_prompts(tmp_path / "none.txt")
    with pytest.raises(UsageError, match="Is a directory"):
        read_prompts(tmp_path)


def test_texts_are_limited_and_stopped_as_asked_for_and_need_no_tokenizer(tmp_path: Path) -> None:
    path = write(tmp_path, b"one\ntwo\nthree\n")
    asked = prompt_set({"file": str(path), "n": 2, "max_tokens": 7, "stop": ["\n", "END"]})
    assert asked.make(no_count) == [Prompt(text=text, max_tokens=7, stop=("\n", "END")) for text in ("one", "two")]


# JSON.


def test_a_line_of_json_may_have_its_own_limit_and_stop_strings(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "max_tokens": 3}, {"text": "b\nc", "stop": "."}, {"prompt": "d", "id": 7}]
    path = write(tmp_path, b"\n\n".join(json.dumps(row).encode() for row in rows), "p.jsonl")
    assert prompt_set({"file": str(path), "stop": "END"}, max_tokens=9).make(no_count) == [
        Prompt(text="a", max_tokens=3, stop=("END",)),
        Prompt(text="b\nc", max_tokens=9, stop=(".",)),
        Prompt(text="d", max_tokens=9, stop=("END",)),
    ]


# In ShareGPT's layout; the words are ours.
TALKS = [
    {
        "id": "a_0",
        "conversations": [
            {"from": "human", "value": "Why is a watt no joule?"},
            {"from": "gpt", "value": "It is one in each second.\n"},
            {"from": "human", "value": "Thanks!"},
        ],
    },
    {"id": "b_0", "conversations": []},
    {"id": "c_1", "conversations": [{"from": "gpt", "value": "…as I said before."}]},
    {"id": "d_0", "conversations": [{"from": "system", "value": "Be short."}, {"from": "user", "value": "Hi"}]},
]


def test_of_a_conversation_the_first_question_is_the_prompt_and_its_answer_may_set_the_limit(tmp_path: Path) -> None:
    path = write(tmp_path, TALKS, "sharegpt.json")
    assert [prompt.text for prompt in made({"file": str(path)})] == ["Why is a watt no joule?", "Hi"]
    (prompt,) = made({"file": str(path), "answers": True})
    assert (prompt.text, prompt.max_tokens) == ("Why is a watt no joule?", 6)  # without the model's two marks


BAD_ROWS: dict[str, tuple[object, str]] = {
    "no JSON": (b'{"prompt": "a"}\n{"pro\n', "line 2, is no JSON"),
    "no object": (b'{"prompt": "a"}\n\n["b"]\n', "line 3, is no object"),
    "no text": (b'{"messages": []}', "line 1, has no text"),
    "an empty text": (b'{"prompt": " "}', "line 1, has no text"),
    "a limit of 0": (b'{"prompt": "a", "max_tokens": 0}', "line 1, has max_tokens 0"),
    "a limit that is true": (b'{"prompt": "a", "max_tokens": true}', "line 1, has max_tokens True"),
    "an empty stop string": (b'{"prompt": "a", "stop": ["b", ""]}', "line 1, has stop"),
    "no turns": (b'{"conversations": "hello"}', "no list of turns"),
    "a turn without text": (b'{"conversations": [{"from": "human", "value": null}]}', "whose `value` is no text"),
    "nothing": (b"\n", "holds no prompt"),
    "nobody asks": (b'{"conversations": []}', "holds no prompt"),
}


@pytest.mark.parametrize("fault", BAD_ROWS)
def test_a_bad_line_refuses_the_file(tmp_path: Path, fault: str) -> None:
    content, said = BAD_ROWS[fault]
    with pytest.raises(UsageError, match=said):
        prompt_set({"file": str(write(tmp_path, content, "p.jsonl"))})


def test_a_file_of_json_holds_a_list_and_an_entry_goes_by_its_number(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="entry 2, has no text"):
        prompt_set({"file": str(write(tmp_path, [{"prompt": "a"}, {}], "p.json"))})
    with pytest.raises(UsageError, match="holds no list"):
        prompt_set({"file": str(write(tmp_path, {"prompt": "a"}, "p.json"))})
    with pytest.raises(UsageError, match=r"line 2 .*belong into a \.jsonl file"):
        prompt_set({"file": str(write(tmp_path, b'{"prompt": "a"}\n{"prompt": "b"}', "p.json"))})


def test_answers_are_asked_only_of_conversations(tmp_path: Path) -> None:
    for name, content in (("p.txt", b"a"), ("p.jsonl", b'{"prompt": "a"}')):
        with pytest.raises(UsageError, match="Leave `answers` out"):
            prompt_set({"file": str(write(tmp_path, content, name)), "answers": True})


# Traces.


def test_a_trace_sets_lengths_and_in_a_replay_the_times() -> None:
    azure = prompt_set({"trace": str(AZURE), "n": 3, "replay": True})
    assert [words(prompt.text) for prompt in azure.make(words)] == [4808, 3180, 110]
    assert [(draft.output, draft.due_s) for draft in azure.drafts] == [(10, 0.0), (8, 0.052), (27, 0.098189)]
    mooncake = prompt_set({"trace": str(MOONCAKE), "replay": True, "speed": 0.5})
    assert [draft.input for draft in mooncake.drafts][:2] == [40160, 36640]
    assert [draft.due_s for draft in mooncake.drafts][:5] == [0.0, 0.0, 0.08, 0.554, 0.942]
    assert (len(mooncake), mooncake.replayed) == (12, True)


def test_without_a_replay_requests_come_as_the_load_has_them() -> None:
    asked = prompt_set({"trace": str(AZURE)})
    assert not asked.replayed
    assert {draft.due_s for draft in asked.drafts} == {None}


HEAD = b"TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
BAD_TRACES: dict[str, tuple[bytes, str]] = {
    "no input": (HEAD + b"2023-11-16 18:17:03.97,5,1\r\n2023-11-16 18:17:04.1,0,1\r\n", "line 3, has 0 input tokens"),
    "no output": (b'{"timestamp": 0, "input_length": 5, "output_length": 0}', "line 1, has 0 output tokens"),
    "half a token": (b'{"timestamp": 0, "input_length": 5.5, "output_length": 1}', "line 1, has 5.5 input tokens"),
    "no number": (HEAD + b"2023-11-16 18:17:03.97,five,1\n", "line 2, is no request"),
    "no time": (HEAD + b"yesterday,5,1\n", "line 2, is no request"),
    "a cell too few": (HEAD + b"2023-11-16 18:17:03.97,5\n", "line 2, is no request"),
    "another key": (b'{"timestamp": 0, "input_length": 5}', "line 1, is no object with .*output_length"),
    "another header": (b"Timestamp,Model,Request tokens\n", "line 1, begins no trace"),
    "a header alone": (HEAD, "holds no request"),
    "nothing": (b"", "holds no request"),
}


@pytest.mark.parametrize("fault", BAD_TRACES)
def test_a_request_that_cannot_be_refuses_the_trace(tmp_path: Path, fault: str) -> None:
    content, said = BAD_TRACES[fault]
    with pytest.raises(UsageError, match=said):
        prompt_set({"trace": str(write(tmp_path, content, "trace"))})


# What is asked for.


def test_a_command_line_asks_for_what_a_plan_asks_for(tmp_path: Path) -> None:
    path = write(tmp_path, b"one\ntwo\n")
    for line, plan in (
        (str(path), {"file": str(path)}),
        (f"file:{path},n=1,stop=1", {"file": str(path), "n": 1, "stop": "1"}),
        (f"trace:{AZURE},replay=true,speed=.5", {"trace": str(AZURE), "replay": True, "speed": 0.5}),
        ("synthetic:input=512,n=4,seed=-1", {"input": 512, "n": 4, "seed": -1}),
        (
            "synthetic:input=lognormal(512, 0.6),output=uniform(1,64)",
            {"input": "lognormal(512,0.6)", "output": "uniform(1,64)"},
        ),
    ):
        assert parse_prompts(line, max_tokens=9) == prompt_set(plan, max_tokens=9)


@pytest.mark.parametrize(
    "line", ["synthetic:input=5,n", "synthetic:input=5,n=1,n=2", "file:p.txt,stop=,", "trace:t,trace=u"]
)
def test_a_command_line_has_one_value_for_a_key(line: str) -> None:
    with pytest.raises(UsageError, match="one KEY=VALUE for each key"):
        parse_prompts(line)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "not from none"),
        ({"file": "a", "trace": "b"}, "not from file and trace"),
        ({"input": 5, "replay": True}, "have no `replay`"),
        ({"file": 7}, "the path of a file"),
        ({"input": 5, "n": 0}, "n 0. Give a whole number of 1 or more"),
        ({"input": 5, "n": True}, "n True"),
        ({"input": 5, "seed": 1.5}, "seed 1.5. Give a whole number"),
        ({"input": 5, "stop": [""]}, "Prompts have stop"),
        ({"input": 0}, "0 is no number of tokens"),
        ({"input": "uniform(5,4)"}, "no number of tokens"),
        ({"input": "uniform(5)"}, "no number of tokens"),
        ({"input": "lognormal(0.5,1)"}, "no number of tokens"),
        ({"input": "lognormal(5,99)"}, "no number of tokens"),
        ({"input": "lognormal(5,1,9)"}, "no number of tokens"),
        ({"input": 5, "output": "many"}, "no number of tokens"),
        ({"trace": str(AZURE), "n": 13}, "holds 12 prompts, and 13 were asked for"),
        ({"trace": str(AZURE), "replay": "yes"}, "replay 'yes'. Give true or false"),
        ({"trace": str(AZURE), "replay": True, "speed": 0}, "speed 0"),
        ({"trace": str(AZURE), "speed": 2.0}, "only with `replay`"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        prompt_set(asked)


def test_settings_differ_where_prompts_differ_and_not_where_the_file_lies(tmp_path: Path) -> None:
    (tmp_path / "moved").mkdir()
    paths = [write(tmp_path, b"one"), write(tmp_path / "moved", b"one"), write(tmp_path, b"two", "other.txt")]
    here, moved, other = (prompt_set({"file": path.name}, folder=path.parent) for path in paths)
    assert here.to_settings() == moved.to_settings()
    assert here.to_settings()["sha256"] != other.to_settings()["sha256"]
    settings = [
        prompt_set(asked, max_tokens=8).to_settings()
        for asked in (
            {"input": 5},
            {"input": 5, "seed": 1},
            {"input": 5, "output": 9},
            {"input": "uniform(5, 6)"},
            {"trace": str(AZURE)},
            {"trace": str(AZURE), "replay": True},
            {"trace": str(AZURE), "replay": True, "speed": 2},
            {"trace": str(AZURE), "n": 5},
        )
    ]
    assert len({json.dumps(about, sort_keys=True) for about in settings}) == len(settings)
    assert prompt_set({"input": 5, "output": 8}).to_settings() == settings[0]
