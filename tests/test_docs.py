"""The documentation names everything that exists, and nothing that does not."""

import re
import sqlite3
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer.main

from telemetry.cli.app import app
from telemetry.settings import Settings, origins
from telemetry.storage import schema
from telemetry.storage.tables import metadata
from telemetry.storage.views import NAMES

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.glob("**/*.md"))]


def _sections(page: Path) -> dict[str, str]:
    """Return the text under each heading that names one thing in backticks."""
    parts = re.split(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    headed = zip(parts[1::2], parts[2::2], strict=True)
    return {head.strip("`"): text for head, text in headed if re.fullmatch(r"`[^`]+`", head)}


def _first_cells(text: str) -> list[list[str]]:
    """Return what stands in backticks in the first cell of each table row."""
    rows = re.findall(r"^\|([^|]*)\|", text, flags=re.MULTILINE)
    return [names for row in rows if (names := re.findall(r"`([^`]+)`", row))]


def _commands(command: Any, path: str) -> dict[str, set[str]]:
    """Return each command's options and arguments."""
    inner = getattr(command, "commands", None)
    if inner is not None:
        found: dict[str, set[str]] = {}
        for name, one in inner.items():
            found |= _commands(one, f"{path} {name}")
        return found
    return {path: {name for p in command.params for name in (*p.opts, *p.secondary_opts) if name.startswith("-")}}


COMMANDS = _commands(typer.main.get_command(app), "telemetry")


@pytest.fixture(scope="module")
def columns(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Return the columns of every table and view of a new store."""
    path = tmp_path_factory.mktemp("store") / "t.db"
    schema.create(path)
    connection = sqlite3.connect(path)
    try:
        names = [*metadata.tables, *NAMES]
        return {n: [row[1] for row in connection.execute(f"PRAGMA table_info({n})")] for n in names}
    finally:
        connection.close()


def test_every_command_has_its_section_and_no_section_is_stale() -> None:
    assert set(_sections(DOCS / "commands.md")) == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_commands_section_names_its_options_and_no_others(command: str) -> None:
    text = _sections(DOCS / "commands.md")[command]
    code = " ".join(re.findall(r"`([^`]+)`", text))
    named = set(re.findall(r"(?<![\w-])(--[a-z][a-z-]*|-[a-z])(?![\w-])", code))
    assert named == COMMANDS[command]


@pytest.mark.parametrize("name", [*metadata.tables, *NAMES])
def test_a_tables_section_names_its_columns_and_no_others(name: str, columns: dict[str, list[str]]) -> None:
    documented = [column for cell in _first_cells(_sections(DOCS / "store.md")[name]) for column in cell]
    assert sorted(documented) == sorted(columns[name])


def test_the_store_page_has_a_section_for_tables_and_views_alone(columns: dict[str, list[str]]) -> None:
    assert set(_sections(DOCS / "store.md")) == set(columns)


def test_every_setting_is_documented_with_its_variable_flag_and_default() -> None:
    page = (DOCS / "configuration.md").read_text(encoding="utf-8")
    rows = {row[0]: row for line in page.splitlines() if (row := re.findall(r"`([^`]+)`", line)) and line[0] == "|"}
    assert set(rows) == {f.name for f in fields(Settings)}
    options = set().union(*COMMANDS.values())
    for setting in origins(environ={}):
        row = rows[setting.name]
        assert f"TELEMETRY_{setting.name.upper()}" in row
        flag = f"--{setting.name.replace('_', '-')}"
        assert (flag in row) == (flag in options)
        if setting.name not in ("store", "runtime_dir", "profile", "calibration"):  # these depend on the machine
            assert str(setting.value) in row


def test_the_readme_names_both_make_targets_and_they_exist() -> None:
    readme, makefile = (ROOT / "README.md").read_text(), (ROOT / "Makefile").read_text()
    for target in ("demo", "test"):
        assert f"$ make {target} " in readme
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_shown_in_a_page_exist(page: Path) -> None:
    shown = re.findall(r"^\$ telemetry ((?:[a-z]+ ?)+)", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    for words in shown:
        full = f"telemetry {words.strip()}"
        assert any(full == known or full.startswith(f"{known} ") for known in COMMANDS), full


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [t for t in targets if not (page.parent / t).exists()] == []


def test_the_readme_has_a_link_to_every_page() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [p.name for p in DOCS.glob("*.md") if f"docs/{p.name}" not in readme] == []
