"""The command line as a user meets it: a process of its own, its exit code, and what it prints where."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from chain_gguf import write_chain_gguf

from telemetry.cli.common import progress_bar
from telemetry.cli.reading import _time_ns
from telemetry.errors import UsageError
from telemetry.reports import schema

DATA = Path(__file__).parent / "data"
RECORDING = DATA / "oxford_rtx4090_transient.csv"
FIRST, MIDDLE, LAST = "1689858995.561243", "1689859001.542520", "1689859007.542629"
SIMULATED = ("--source", "simulated:h200")


def telemetry(*line: object, expect: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own and require its exit code."""
    command = [sys.executable, "-m", "telemetry.cli", *map(str, line)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == expect, done.stderr
    return done


def refused(*line: object, expect: int) -> str:
    """Run a command that must fail; return its one line of explanation."""
    done = telemetry(*line, expect=expect)
    (words,) = done.stderr.splitlines()  # a traceback would be many
    assert words.startswith("telemetry: ")
    assert words.endswith(".")
    assert done.stdout == ""
    return words


def store() -> Path:
    """Return the store that the fixture of conftest names in the environment."""
    return Path(os.environ["TELEMETRY_STORE"])


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.txt"
    path.write_text("Once upon a time\n")
    return path


# Importing, and windows of what was imported.


def test_an_imported_recording_answers_windows_with_its_published_energies() -> None:
    telemetry("import", RECORDING, "--tz", "+01:00")
    for begin, end, energy_j in ((FIRST, LAST, 2622.30), (FIRST, MIDDLE, 2254.00), (MIDDLE, LAST, 368.30)):
        document = json.loads(telemetry("window", "--from", begin, "--to", end, "--format", "json").stdout)
        jsonschema.validate(document, schema("window-1"))
        assert document["energy"]["value_j"] == pytest.approx(energy_j, rel=1e-3)


def test_a_window_an_hour_beside_the_readings_is_refused_and_names_the_hour_and_the_zone() -> None:
    assert "UTC" in telemetry("import", RECORDING).stderr
    words = refused("window", "--from", FIRST, "--to", LAST, expect=1)
    assert "1.00 hours" in words
    assert "--tz +01:00" in words


def test_a_recording_is_not_imported_twice() -> None:
    telemetry("import", RECORDING, "--tz", "+01:00")
    assert "imported into" in refused("import", RECORDING, "--tz", "+01:00", expect=1)


def test_a_recording_cut_in_mid_line_is_refused_by_line_and_leaves_no_store(tmp_path: Path) -> None:
    cut = tmp_path / "cut.csv"
    lines = RECORDING.read_text().splitlines(keepends=True)[:403]
    cut.write_text("".join(lines)[:-20])
    assert "line 403" in refused("import", cut, "--tz", "+01:00", expect=1)
    assert not store().exists()


# What cannot be done is said in one sentence.


def test_an_unknown_gpu_is_refused_and_the_known_ones_are_named() -> None:
    words = refused("collect", *SIMULATED, "--gpus", "7", "--duration", "0.1", expect=2)
    assert "'7'" in words
    assert "GPU-51d00000-" in words


def test_a_missing_model_and_an_empty_prompt_file_are_usage_errors(tmp_path: Path, prompts: Path) -> None:
    nowhere, empty = tmp_path / "none.gguf", tmp_path / "empty.txt"
    empty.touch()
    assert "none.gguf" in refused("run", "llama", "--model", nowhere, "--prompts", prompts, expect=2)
    assert "no prompt" in refused("run", "llama", "--model", prompts, "--prompts", empty, expect=2)
    assert not store().exists()


def test_a_model_that_is_no_gguf_is_refused(tmp_path: Path, prompts: Path) -> None:
    model = tmp_path / "words.gguf"
    model.write_text("This is no model.")
    words = refused("run", "llama", "--model", model, "--prompts", prompts, *SIMULATED, expect=1)
    assert "words.gguf is no GGUF file" in words


def test_a_store_that_cannot_be_made_is_refused(prompts: Path) -> None:
    # Below a file, for no permission stops root.
    place = prompts / "telemetry.db"
    assert str(place) in refused("collect", *SIMULATED, "--duration", "0.1", "--store", place, expect=1)


def test_reading_a_store_that_is_not_there_does_not_make_it() -> None:
    assert "There is no store" in refused("list", expect=1)
    assert not store().exists()


# Questions in SQL.


def asked(*keys: str) -> str:
    """Type into `telemetry sql` at a terminal; return what it shows."""
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "telemetry.cli", "sql", "--format", "csv"]
    with subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as prompt:
        os.close(theirs)
        os.write(ours, "".join(keys).encode())
        shown, words = prompt.communicate(timeout=30)
    os.close(ours)
    assert prompt.returncode == 0
    return shown + words


def test_sql_takes_queries_from_a_terminal_and_one_from_a_pipe() -> None:
    telemetry("import", RECORDING, "--tz", "+01:00")
    shown = asked("select count(*)\n", "as n from device;\n", "selec;\n", "select 6*7 as answer;\n", "\x04")
    assert "view,v_run_efficiency" in shown
    assert "n\n1\n" in shown.replace("\r", "")
    assert "The query was refused" in shown, "and the next one is answered:"
    assert "answer\n42\n" in shown.replace("\r", "")
    command = [sys.executable, "-m", "telemetry.cli", "sql", "--format", "csv"]
    piped = subprocess.run(command, input=b"select 6*7 as answer", capture_output=True, check=True)
    assert piped.stdout == b"answer\n42\n"


def test_what_stands_in_brackets_is_text_in_tables_and_progress_and_no_cell_is_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    telemetry("import", RECORDING, "--tz", "+01:00")
    shown = telemetry("sql", f"SELECT '[/x] [red]' AS '[/name]', '{'y' * 200}' AS long").stdout
    assert "[/x] [red]" in shown
    assert "[/name]" in shown
    assert shown.count("y") == 200
    assert "[/new]" in telemetry("config", "--store", "[/new].db").stdout
    terminal = StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stderr", terminal)
    with progress_bar("reading [/x].db") as progress:
        progress(1, 2, "run [/y]")
    assert "run [/y]" in terminal.getvalue()


# Collecting.


def test_collect_around_a_command_passes_its_exit_code_on_and_records_a_failed_run() -> None:
    telemetry("collect", *SIMULATED, "--duration", "1", "--", "sh", "-c", "exit 3", expect=3)
    (row,) = json.loads(telemetry("sql", "select status, runner from run", "--format", "json").stdout)
    assert row == {"status": "failed", "runner": "command"}


def test_a_detached_collector_is_seen_keeps_others_off_and_stops() -> None:
    telemetry("collect", "--detach", *SIMULATED, "--duration", "30")
    try:
        seen = telemetry("status").stdout
        words = refused("collect", *SIMULATED, "--duration", "0.1", expect=1)
        assert str(store()) in seen
        assert f"process {seen.split('pid ')[1].split(',')[0]}," in words
    finally:
        telemetry("stop")
    assert telemetry("status").stdout == "no collector is running\n"
    (row,) = json.loads(telemetry("sql", "select count(*) as n from reading", "--format", "json").stdout)
    assert row["n"] > 0


def collector(log: Path) -> subprocess.Popen[bytes]:
    """Start a collector that writes its words to a file; return it when it collects."""
    command = [sys.executable, "-m", "telemetry.cli", "collect", *SIMULATED]
    with log.open("wb") as words:
        started = subprocess.Popen(command, stderr=words)
    while b"Collecting" not in log.read_bytes():
        assert started.poll() is None
        time.sleep(0.02)
    return started


def test_a_hangup_opens_the_log_again_where_there_is_one(tmp_path: Path) -> None:
    log, rotated = tmp_path / "log", tmp_path / "log.1"
    with collector(log) as started:
        log.rename(rotated)
        started.send_signal(signal.SIGHUP)
        while not log.exists():
            assert started.poll() is None
            time.sleep(0.02)
        started.terminate()
    assert started.returncode == 0
    assert log.read_text().startswith("Stopped: ")
    assert "Stopped" not in rotated.read_text()


def test_a_hangup_of_the_terminal_stops_cleanly() -> None:
    # By a shell that has the signal as usual: under nohup it would be ignored, and rightly so.
    heard = (
        "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_DFL); os.execv(sys.executable, sys.argv[1:])"
    )
    command = [sys.executable, "-m", "telemetry.cli", "collect", *SIMULATED]
    with subprocess.Popen([sys.executable, "-c", heard, *command], stderr=subprocess.PIPE) as started:
        assert started.stderr is not None
        assert b"Collecting" in started.stderr.readline()
        started.send_signal(signal.SIGHUP)
        assert b"Stopped: " in started.stderr.read()
    assert started.returncode == 0
    (row,) = json.loads(telemetry("sql", "select state from session", "--format", "json").stdout)
    assert row == {"state": "clean"}


RECORDING_ITSELF = """
import sys, time, telemetry
with telemetry.Recorder(source="simulated:h200") as recorder, recorder.run():
    print("begun", flush=True)
    sys.stdin.read()
"""


def test_stop_leaves_programs_alone_that_record_their_own_runs() -> None:
    command = [sys.executable, "-c", RECORDING_ITSELF]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"begun\n"
        assert telemetry("status").stdout.startswith(f"recording its own runs: pid {program.pid}")
        words = telemetry("stop").stderr
        program.communicate(b"")
    assert f"Process {program.pid} records its own runs" in words
    assert "nothing to stop" in words
    assert program.returncode == 0


def test_a_command_that_does_not_obey_is_killed_and_its_run_kept() -> None:
    stubborn = "trap '' TERM; echo begun; while true; do sleep 0.1; done"
    command = [sys.executable, "-m", "telemetry.cli", "collect", *SIMULATED, "--", "sh", "-c", stubborn]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == b"begun\n"
        started.terminate()
    assert started.returncode == 128 + signal.SIGKILL
    (row,) = json.loads(telemetry("sql", "select status, stop_ns > 0 as stopped from run", "--format", "json").stdout)
    assert row == {"status": "failed", "stopped": 1}


def test_a_command_that_does_not_exist_makes_nothing() -> None:
    assert "no program nosuchprogram" in refused("collect", *SIMULATED, "--", "nosuchprogram", expect=2)
    assert not store().exists()


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "-5", "1e30", "never", "9999-01-01", ""])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--to is"):
        _time_ns(text, "--to")


def test_times_are_read_to_the_nanosecond() -> None:
    assert _time_ns("1689858995.561243001", "--from") == 1_689_858_995_561_243_001
    assert _time_ns("2023-07-20T14:16:35.561243+01:00", "--from") == 1_689_858_995_561_243_000
    assert _time_ns("1970-01-01", "--from") == 0


def test_what_cannot_be_written_or_is_no_time_is_one_sentence() -> None:
    telemetry("import", RECORDING, "--tz", "+01:00")
    place = "/nonexistent/report.json"
    for form in ("json", "table"):
        assert f"{place} cannot be written" in refused("report", "-o", place, "--format", form, expect=2)
    assert "is nan, which is no time" in refused("window", "--from", FIRST, "--to", "nan", expect=2)
    words = refused("window", "--from", "1689859060", "--to", "1689859061", expect=1)
    assert re.search(r"miss each other by \d\d\.\d seconds", words)
    assert "Two columns are named a" in refused("sql", "select 1 a, 2 a", expect=2)


# A measured run, read back by every command.


@pytest.mark.engine
def test_a_measured_run_is_reported_listed_shown_and_kept_from_writers(tmp_path: Path, prompts: Path) -> None:
    chain = write_chain_gguf(tmp_path / "chain.gguf")
    line = ("--model", chain.path, "--prompts", prompts, "--repeat", "1", "--warmup", "0", *SIMULATED)
    measured = telemetry("run", "llama", *line, "--format", "json").stdout
    again = telemetry("report", "--format", "json").stdout
    runs: list[dict[str, Any]] = []
    for text in (measured, again):
        document = json.loads(text)
        jsonschema.validate(document, schema("report-1"))
        runs += document["runs"]
    tokens = 1 + len(prompts.read_text().split())  # BEGIN and a token a word
    for run in runs:
        assert (run["input_tokens"], run["output_tokens"]) == (tokens, chain.tokens_after(tokens))
        assert run["simulated"]
    assert runs[0]["energy"] == runs[1]["energy"]

    uid = runs[0]["run"]
    listing = json.loads(telemetry("list", "--format", "json").stdout)
    jsonschema.validate(listing, schema("list-1"))
    assert [one["run"] for one in listing["runs"]] == [uid]
    assert uid in telemetry("show", uid[:6], "--format", "csv").stdout
    assert "begins with zz" in refused("show", "zz", expect=1)
    assert "simulated" in telemetry("report", "--strict", "--format", "md", expect=3).stdout
    assert "read-only" in refused("sql", "delete from run", expect=2)
    assert telemetry("sql", "select count(*) from run", "--format", "csv").stdout.split() == ["count(*)", "1"]


# What is here.


def test_config_says_where_a_setting_comes_from() -> None:
    document = json.loads(telemetry("config", "--format", "json").stdout)
    found = {one["name"]: (one["value"], one["origin"]) for one in document["settings"]}
    assert found["store"] == (str(store()), "environment TELEMETRY_STORE")
    assert found["interval"] == ("0.02", "default")


def test_doctor_finds_the_simulated_device_and_makes_no_store() -> None:
    checks = json.loads(telemetry("doctor", *SIMULATED, "--format", "json").stdout)["checks"]
    assert ("NVIDIA H200 (simulated)", "yes") in [(one["what"], one["state"]) for one in checks]
    assert not store().exists()
