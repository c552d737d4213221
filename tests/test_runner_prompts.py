"""Prompt files: what is read, and what is refused with its line."""

from pathlib import Path

import pytest

from telemetry.errors import UsageError
from telemetry.runners import read_prompts


def write(folder: Path, content: bytes) -> Path:
    path = folder / "prompts.txt"
    path.write_bytes(content)
    return path


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
