"""Experiments: what a plan says, what its runs were, and what is left after one was cut short."""

import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from stored import rows

from telemetry.cli.experiments import _Progress, carry_out
from telemetry.errors import CollectorRunning, RunnerError, UsageError
from telemetry.experiment import Gate, Plan, Setting, check_setting, conduct, digest, read_plan
from telemetry.experiment.alone import alone_on
from telemetry.experiment.environment import sha256_of, snapshot
from telemetry.recorder import Recorder
from telemetry.runners import Prompt, RequestSink, RunnerInfo, StandInRunner
from telemetry.runners.prompts import Draft, PromptSet
from telemetry.settings import load_settings
from telemetry.storage.experiments import device_facts
from telemetry.storage.store import open_store

PLAN = """
name = "three"
repeat = 3
warmup = 1
warmup_s = 0
run_s = 0.0
baseline_s = 0
cool_down_s = 0
gate = false

[prompts.short]
file = "short.txt"
max_tokens = 4

[prompts.long]
file = "short.txt"
max_tokens = 8

[[setting]]
engine = "stand-in"
token_interval_s = 0.01
prompts = ["short", "long"]

[[setting]]
engine = "stand-in"
token_interval_s = 0.02
prompts = "short"
"""


TRACE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:17:03.9799600,10,3
2023-11-16 18:17:04.0319600,12,4
2023-11-16 18:17:04.0781490,8,5
"""


def written(folder: Path, text: str = PLAN) -> Path:
    (folder / "short.txt").write_text("One word\nTwo more words\n")
    path = folder / "plan.toml"
    path.write_text(text)
    return path


def prompt_texts(*texts: str, tokens: int = 4) -> PromptSet:
    return PromptSet(drafts=tuple(Draft(input=text, output=tokens) for text in texts), about={"texts": list(texts)})


def setting(name: str = "one", **changes: Any) -> Setting:
    return Setting(**{"name": name, "engine": "stand-in", "model": "none", "prompts": "p"} | changes)


def plan(*settings: Setting, texts: Sequence[str] = ("One word",), **changes: Any) -> Plan:
    made = settings or (setting(),)
    return Plan(name="e", settings=made, prompts={"p": prompt_texts(*texts)}, **{"repeat": 1} | changes)


async def carried_out(path: Path, what: Plan, experiment: str = "e", **how: Any) -> list[str]:
    async with Recorder(path, collect=False) as recorder:
        return await conduct(
            recorder, what, experiment=experiment, **{"progress": lambda *_: None, "say": lambda _: None} | how
        )


# The plan.


def test_a_plan_crosses_every_list_of_a_setting_and_names_settings_by_what_tells_them_apart(tmp_path: Path) -> None:
    found = read_plan(written(tmp_path))
    assert [s.name for s in found.settings] == [
        "short token_interval_s 0.01",
        "long token_interval_s 0.01",
        "short token_interval_s 0.02",
    ]
    assert (found.name, found.repeat, found.gate) == ("three", 3, None)
    assert found.prompts["long"].drafts[1].output == 8


def test_quantisations_stand_in_the_model_s_name_and_paths_start_from_the_plan(tmp_path: Path) -> None:
    (tmp_path / "m-q8.gguf").touch()
    text = PLAN.partition("[[setting]]")[0] + (
        '[[setting]]\nengine = "llama"\nmodel = "m-{quantisation}.gguf"\nquantisation = ["q4", "q8"]\n'
        'batch_size = [1, 4]\nprompts = "short"\n'
    )
    found = read_plan(written(tmp_path, text)).settings
    assert [(s.model, s.batch_size) for s in found] == [
        (str(tmp_path / "m-q4.gguf"), 1),
        (str(tmp_path / "m-q4.gguf"), 4),
        (str(tmp_path / "m-q8.gguf"), 1),
        (str(tmp_path / "m-q8.gguf"), 4),
    ]
    with pytest.raises(UsageError, match=r"no model file .*/m-q4\.gguf"):
        check_setting(found[0], prompt_texts("One"))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("repeat = 3", "repeats = 3", "repeats is no key here. Known are repeat, "),
        ("repeat = 3", "repeat = 0", "repeat is 0. Give 1 or more"),
        ("repeat = 3", 'repeat = "3"', "repeat is '3', which is no int"),
        ("warmup_s = 0", "warmup_s = -1", "warmup_s is -1, which is no float of 0 or more"),
        ("warmup_s = 0", "warmup_s = 0\norder = 'random'", "order is 'random'. Give one of abba, shuffled"),
        ("gate = false", "gate = {wait = 3}", r"\[gate\]: wait is no key here"),
        ("gate = false", "gate = true", r"\[gate\]: it is no table"),
        ("warmup_s = 0", "warmup_s = inf", "warmup_s is inf, which is no float"),
        ("warmup_s = 0", "warmup_s = nan", "warmup_s is nan, which is no float"),
        ('prompts = "short"', "prompts = []", r"\[\[setting\]\] 2: prompts is an empty list"),
        ('engine = "stand-in"', 'engine = "vllm"', r"\[\[setting\]\] 1: engine is 'vllm'. Give one of llama, "),
        ("token_interval_s = 0.02", "speed = 2", r"\[\[setting\]\] 2: speed is no key here"),
        ("token_interval_s = 0.02", "token_interval_s = 0.01", r"two settings are alike \(stand-in|two settings are"),
        ('prompts = "short"', 'prompts = "none"', r"there is no table \[prompts.none\]. Known are short, long"),
        ("max_tokens = 8", "max_tokens = 0", r"\[prompts.long\]: "),
        ("[prompts.long]", "[prompts.long", "is not a TOML file"),
        ("run_s = 0.0\n", "run_s = 2\n", None),
        ("warmup = 1\n", "warmup = 0\nseed = 3\n", None),
    ],
)
def test_a_plan_that_says_what_no_plan_says_is_refused_by_table_and_key(
    tmp_path: Path, old: str, new: str, words: str | None
) -> None:
    path = written(tmp_path, PLAN.replace(old, new, 1))
    if words is None:
        read_plan(path)
        return
    with pytest.raises(UsageError, match=words) as refused:
        read_plan(path)
    assert str(path) in str(refused.value)


def test_a_setting_that_is_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Give at least one table \[\[setting\]\]"):
        read_plan(written(tmp_path, "setting = [1]\n" + PLAN.partition("[[setting]]")[0]))


def test_equal_words_in_two_folders_are_two_plans_and_one_plan_from_wherever_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = PLAN.partition("[[setting]]")[0] + '[[setting]]\nengine = "llama"\nmodel = "m.gguf"\nprompts = "short"\n'
    hashes = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        written(folder, text)
        for place, path in ((folder, "plan.toml"), (tmp_path, f"{name}/plan.toml"), (folder, f"../{name}/plan.toml")):
            monkeypatch.chdir(place)
            hashes.append(digest(read_plan(Path(path)).as_json()))
    one, two = hashes[0], hashes[3]
    assert one != two
    assert hashes == [one, one, one, two, two, two]


def test_files_of_one_name_in_several_folders_are_told_apart(tmp_path: Path) -> None:
    text = PLAN.partition("[[setting]]")[0] + (
        '[[setting]]\nengine = "llama"\nmodel = "{quantisation}/m.gguf"\nquantisation = ["q4", "q8"]\n'
        'prompts = "short"\n'
    )
    found = read_plan(written(tmp_path, text)).settings
    assert [s.name for s in found] == [str(tmp_path / "q4/m.gguf"), str(tmp_path / "q8/m.gguf")]


def test_runs_of_a_length_need_a_warm_up_to_find_it() -> None:
    with pytest.raises(UsageError, match="need a warm-up"):
        plan(run_s=2.0, warmup=0)


def test_settings_go_forwards_and_backwards_by_turns_or_shuffled_by_the_seed() -> None:
    some = (setting("a"), setting("b"), setting("c"))
    abba = [slot.setting.name for slot in plan(*some, repeat=4).slots]
    assert abba == [*"abc", *"cba", *"abc", *"cba"]
    one, same, other = (
        [slot.setting.name for slot in plan(*some, repeat=20, order="shuffled", seed=seed).slots] for seed in (1, 1, 2)
    )
    assert one == same != other
    assert all(sorted(one[k : k + 3]) == ["a", "b", "c"] for k in range(0, 60, 3))
    assert [slot.position for slot in plan(*some, repeat=2).slots] == list(range(6))


def test_a_first_look_takes_two_settings_and_short_answers_and_says_so() -> None:
    quick = plan(setting("a"), setting("b"), setting("c"), repeat=9, gate=Gate()).quick()
    assert ([s.name for s in quick.settings], quick.repeat, quick.gate) == (["a", "b"], 3, None)
    assert (quick.run_s, quick.baseline_s, quick.scale) == (2.0, 1.0, "quick")
    prompts = [Prompt(text=str(k), max_tokens=100) for k in range(9)]
    assert [(p.text, p.max_tokens) for p in quick.scaled(prompts)] == [(str(k), 16) for k in range(4)]
    assert digest(quick.as_json()) != digest(plan(setting("a"), setting("b"), setting("c"), repeat=9).as_json())


# Carried out.


async def test_each_setting_is_warmed_up_and_measured_in_its_turn(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    what = plan(setting("a"), setting("b", options={"token_interval_s": 0.001}), repeat=2, texts=("One", "Two words"))
    uids = await carried_out(path, what)
    found = rows(path, "SELECT name, warmup, repeat, position, settings FROM run ORDER BY start_ns")
    assert [(name, bool(warmup), repeat, position) for name, warmup, repeat, position, _ in found] == [
        ("a, warm-up 1", True, None, None),
        ("a, repeat 1", False, 1, 0),
        ("b, warm-up 1", True, None, None),
        ("b, repeat 1", False, 1, 1),
        ("b, repeat 2", False, 2, 2),  # b is still open and warm
        ("a, warm-up 1", True, None, None),
        ("a, repeat 2", False, 2, 3),
    ]
    assert [orjson.loads(about)["setting"] for *_, about in found] == ["a", "a", "b", "b", "b", "a", "a"]
    assert len(uids) == 7
    assert rows(path, "SELECT count(*), sum(output_tokens) FROM request") == [(14, 56)]
    assert rows(path, "SELECT count(*) FROM request WHERE submitted_ns > started_ns") == [(0,)]


async def test_a_run_goes_through_its_prompts_until_it_is_long_enough_and_each_repeat_alike(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    await carried_out(path, plan(repeat=2, run_s=0.4))
    counts = rows(
        path, "SELECT r.warmup, count(*) FROM run r JOIN request q ON q.run = r.id GROUP BY r.id ORDER BY r.id"
    )
    (warm, first), (one, often), (two, again) = counts
    assert (warm, one, two) == (1, 0, 0)
    assert first == 1
    assert often == again > 1


async def test_idle_is_recorded_around_each_open_engine(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    await carried_out(path, plan(setting("a"), setting("b", batch_size=2), baseline_s=0.01))
    names = rows(path, "SELECT name FROM run WHERE NOT warmup ORDER BY start_ns")
    assert [name for (name,) in names] == ["B1", "a, repeat 1", "B1", "B1", "b, repeat 1", "B1"]


async def test_runs_of_one_environment_share_its_hash_and_those_of_others_do_not(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    await carried_out(path, plan(setting("a"), setting("b", options={"token_interval_s": 0.001}), repeat=2))
    found = Counter(rows(path, "SELECT environment FROM run"))
    assert sorted(found.values()) == [3, 4]  # with one and with two warm-ups
    kept = {name: orjson.loads(what) for name, what in rows(path, "SELECT hash, snapshot FROM environment")}
    assert {(name,) for name in kept} == set(found)
    assert {digest(what) for what in kept.values()} == set(kept)
    assert {what["asked"].get("token_interval_s") for what in kept.values()} == {None, 0.001}


async def test_a_first_look_is_not_pooled_with_the_whole(tmp_path: Path) -> None:
    path, what = tmp_path / "t.db", plan()
    await carried_out(path, what, "whole")
    await carried_out(path, replace(what, scale="quick"), "quick")
    assert len(rows(path, "SELECT DISTINCT environment FROM run")) == 2


def test_another_model_file_driver_or_prompt_is_another_environment(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights").write_bytes(b"a" * 3_000_000)
    alone = sha256_of(folder / "weights")
    before = sha256_of(folder)
    (folder / "weights").write_bytes(b"a" * 2_999_999 + b"b")
    assert len({alone, before, sha256_of(folder), sha256_of(folder / "weights")}) == 4
    info = RunnerInfo(runner="r", model="m", engine_version="1")

    def environment(sha256: str = "s", n: int = 1, driver: str = "1") -> str:
        return digest(snapshot(setting(), info, sha256, {"n": n}, [{"uid": "G", "driver": driver}]))

    hashes = [environment(), environment("t"), environment(n=2), environment(driver="2")]
    assert len(set(hashes)) == 4
    assert environment() == hashes[0]


def test_a_model_s_file_is_read_again_only_when_it_has_changed(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"one")
    before, stamps = sha256_of(file), (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    file.write_bytes(b"two")
    os.utime(file, ns=(stamps[0], stamps[1] + 1))
    after = sha256_of(file)
    assert after != before
    file.write_bytes(b"six")  # what nobody can see from outside
    os.utime(file, ns=(stamps[0], stamps[1] + 1))
    assert sha256_of(file) == after


async def test_an_environment_that_changes_within_an_experiment_is_said_aloud(tmp_path: Path) -> None:
    class Newer(StandInRunner):
        def describe(self) -> RunnerInfo:
            return replace(super().describe(), engine_version="2")

    path, words = tmp_path / "t.db", list[str]()
    with pytest.raises(RunnerError):
        await carried_out(path, plan(repeat=3), opened=lambda _: Dying(answers=2), say=words.append)
    assert words == []
    quick = {"prefill_s_per_token": 0.0, "token_interval_s": 0.0}
    await carried_out(path, plan(repeat=3), opened=lambda _: Newer(**quick), say=words.append)
    (said,) = words
    assert said.startswith("The environment of one has changed: its runs until now are not pooled")


async def test_a_power_limit_set_while_a_collector_runs_is_another_environment(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    async with Recorder(path, source="simulated:h200"):
        pass
    async with await open_store(path) as store:
        uids = [uid for (uid,) in await store.fetch("SELECT uid FROM device")]
        now_ns = store.clock.now_ns()
        with closing(sqlite3.connect(path)) as other:
            other.execute("DELETE FROM vitals")
            other.commit()
            (before,) = await device_facts(store, uids)
            add = "INSERT INTO vitals (device, t_ns, power_limit_mw, polls, misses) SELECT id, ?, ?, 1, 0 FROM device"
            other.executemany(add, [(now_ns - 3600 * 10**9, 600_000), (now_ns, 500_000)])
            other.commit()
            (after,) = await device_facts(store, uids)
            other.execute("DELETE FROM vitals WHERE t_ns = ?", (now_ns,))
            other.commit()
            (long_ago,) = await device_facts(store, uids)
    assert (before["power_limit_mw"], after["power_limit_mw"]) == (700_000, 500_000)
    assert long_ago == before, "what another collector saw an hour ago is not in force"
    assert {**after, "power_limit_mw": None} == {**before, "power_limit_mw": None}


class Dying(StandInRunner):
    """Answers as often as it may, and then no more."""

    def __init__(self, answers: int) -> None:
        super().__init__(prefill_s_per_token=0.0, token_interval_s=0.0)
        self._left = answers

    def generate(self, prompts: Sequence[Prompt], sinks: Sequence[RequestSink], cancel: threading.Event) -> None:
        self._left -= 1
        if self._left < 0:
            for sink in sinks:
                sink.fail(time.monotonic_ns(), RunnerError("The server is gone."))
        else:
            super().generate(prompts, sinks, cancel)


async def test_an_engine_that_dies_fails_its_run_and_the_rest_waits_for_another_try(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    dying = Dying(answers=3)
    with pytest.raises(RunnerError, match=r"No prompt was answered\. The first failed so: The server is gone\."):
        await carried_out(path, plan(repeat=4), opened=lambda _: dying)
    assert rows(path, "SELECT position, status FROM run WHERE NOT warmup ORDER BY start_ns") == [
        (0, "ok"),
        (1, "ok"),
        (2, "failed"),
    ]
    await carried_out(path, plan(repeat=4))
    assert rows(path, "SELECT position, count(*) FROM run WHERE NOT warmup AND status = 'ok' GROUP BY position") == [
        (k, 1) for k in range(4)
    ]


async def test_what_is_left_goes_through_the_prompts_as_often_as_what_was_recorded(tmp_path: Path) -> None:
    path = tmp_path / "t.db"
    with pytest.raises(RunnerError):
        await carried_out(path, plan(repeat=3, run_s=0.01), opened=lambda _: Dying(answers=2))
    ((about,),) = rows(path, "SELECT settings FROM run WHERE position = 0")
    await carried_out(path, plan(repeat=3, run_s=0.01))  # with an engine that is slower
    passes = {
        orjson.loads(s)["passes"] for (s,) in rows(path, "SELECT settings FROM run WHERE NOT warmup AND status = 'ok'")
    }
    assert passes == {orjson.loads(about)["passes"]}


def test_two_experiments_do_not_share_a_device(tmp_path: Path) -> None:
    with (
        alone_on(["GPU-1", "GPU-2"], tmp_path),
        alone_on(["GPU-3"], tmp_path),
        pytest.raises(CollectorRunning, match=r"Another experiment is under way on the device GPU-2, by process \d"),
        alone_on(["GPU-2", "GPU-3"], tmp_path),
    ):
        pass
    with alone_on(["GPU-2", "GPU-3"], tmp_path):
        pass


def test_what_goes_wrong_on_a_held_device_is_not_taken_for_its_lock(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="the model"), alone_on(["GPU-1"], tmp_path):
        raise FileNotFoundError("the model")


def test_every_user_of_a_host_can_open_the_lock_of_an_experiment(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        with alone_on(["GPU-1"], tmp_path):
            pass
    finally:
        os.umask(before)
    (lock,) = tmp_path.iterdir()
    assert lock.stat().st_mode & 0o777 == 0o666


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        (Gate(for_s=1.5, wait_s=30.0), None),
        (Gate(for_s=0.0, wait_s=0.0), "has been read for less than"),
        (Gate(for_s=1.5, wait_s=0.0, below_c=1.0), r"has been read for less than|°C; it must be below 1 °C"),
    ],
)
async def test_the_start_gate_opens_on_an_idle_gpu_and_says_aloud_when_it_does_not(
    tmp_path: Path, gate: Gate, said: str | None
) -> None:
    path, words = tmp_path / "t.db", list[str]()
    async with Recorder(path, source="simulated:h200") as recorder:
        await conduct(recorder, plan(gate=gate), experiment="e", progress=lambda *_: None, say=words.append)
    (flags,) = {f for (f,) in rows(path, "SELECT flags FROM run WHERE runner <> 'baseline'")}
    if said is None:
        assert (words, flags) == ([], "[]")
    else:
        assert flags == '["gate_timeout"]'
        (only,) = words
        assert "stayed shut for 0 s" in only
        assert re.search(said, only)


# The command.


def bench(folder: Path, *more: str, wait_s: float | None = None) -> int:
    """Run the command, killed after a while or not; return its exit code."""
    line = [sys.executable, "-m", "telemetry.cli", "bench", str(folder / "plan.toml"), "--store", str(folder / "t.db")]
    running = subprocess.Popen(
        [*line, "--source", "simulated:h200", "--format", "json", "-o", str(folder / "report.json"), *more],
        stderr=subprocess.PIPE,
    )
    try:
        _, words = running.communicate(timeout=wait_s)
    except subprocess.TimeoutExpired:
        running.send_signal(signal.SIGKILL)
        running.communicate()
    else:
        print(words.decode())
    return running.returncode


def measured(folder: Path) -> list[tuple[Any, ...]]:
    """Return what was measured well: (setting, repeat, position, output tokens), sorted."""
    found = rows(
        folder / "t.db",
        "SELECT r.settings, r.repeat, r.position, sum(q.output_tokens) FROM run r JOIN request q ON q.run = r.id "
        "WHERE r.status = 'ok' AND NOT r.warmup GROUP BY r.id",
    )
    return sorted((orjson.loads(about)["setting"], *rest) for about, *rest in found)


def test_a_bench_that_is_killed_and_begun_again_has_the_runs_of_one_left_alone(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
        written(folder)
    assert bench(whole) == 0
    draw, codes = random.Random(), list[int]()
    while not codes or codes[-1] != 0:
        codes.append(bench(killed, wait_s=draw.uniform(1.5, 4.0) if len(codes) < 3 else None))
        assert codes[-1] in (0, -signal.SIGKILL)
    assert measured(killed) == measured(whole)
    assert len(measured(whole)) == 9
    assert len(rows(killed / "t.db", "SELECT DISTINCT experiment FROM run")) == 1
    assert rows(killed / "t.db", "SELECT count(*) FROM run WHERE status = 'open'") == [(0,)]


def test_a_finished_bench_shows_its_report_again_and_measures_anew_only_when_asked(tmp_path: Path) -> None:
    written(tmp_path, PLAN.replace("repeat = 3", "repeat = 1"))
    assert bench(tmp_path) == 0
    first = orjson.loads((tmp_path / "report.json").read_bytes())
    assert bench(tmp_path) == 0
    assert orjson.loads((tmp_path / "report.json").read_bytes())["runs"] == first["runs"]
    assert bench(tmp_path, "--again") == 0
    assert len(rows(tmp_path / "t.db", "SELECT uid FROM experiment")) == 2
    assert len(measured(tmp_path)) == 6


def test_a_bench_that_is_refused_leaves_no_experiment_to_go_on_with(tmp_path: Path, runtime_dir: Path) -> None:
    written(tmp_path, PLAN.replace("repeat = 3", "repeat = 1"))
    assert bench(tmp_path) == 0
    (device,) = rows(tmp_path / "t.db", "SELECT uid FROM device")
    with alone_on(device, runtime_dir):
        assert bench(tmp_path, "--again") == 1
    assert len(rows(tmp_path / "t.db", "SELECT uid FROM experiment")) == 1


@pytest.mark.parametrize(
    ("again", "said"),
    [
        (False, "Stopped with 0 of 1 runs recorded. The same command goes on from there.\n"),
        (True, "Stopped with 0 of 1 runs recorded. The same command without --again goes on from there.\n"),
        (None, ""),
    ],
)
def test_a_bench_whose_engine_is_gone_says_how_to_go_on(
    tmp_path: Path, runtime_dir: Path, capsys: pytest.CaptureFixture[str], again: bool | None, said: str
) -> None:
    settings = load_settings({"store": str(tmp_path / "t.db"), "source": "simulated:h200"})
    with pytest.raises(RunnerError, match="No prompt was answered"):
        carry_out(settings, plan(texts=("",)), again=again)
    assert capsys.readouterr().err == said


def test_the_time_left_is_told_however_long_a_run_lasts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now_s = 0.0
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr("rich.console.monotonic", lambda: now_s)
    with _Progress(4) as bar:
        for done in (1, 2):
            now_s += 100.0
            bar.show(done, 4, "models [/a]/b.gguf, repeat 1")  # no mark-up
    shown = capsys.readouterr().err
    assert "0:03:20" in shown
    assert "models [/a]/b.gguf" in shown


def test_a_first_look_is_never_publishable(tmp_path: Path) -> None:
    written(tmp_path)
    assert bench(tmp_path, "--scale", "quick") == 0
    document = orjson.loads((tmp_path / "report.json").read_bytes())
    assert all("quick" in run["verdict"]["reasons"] for run in document["runs"])
    assert len({run["model"] for run in document["runs"]}) == 1
    assert {run["warmup"] for run in document["runs"]} == {True, False}


def test_a_trace_is_replayed_to_a_server_alone_all_at_once_if_need_be(tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_text(TRACE)
    text = PLAN.replace('file = "short.txt"\nmax_tokens = 4', 'trace = "trace.csv"\nreplay = true')
    found = read_plan(written(tmp_path, text))
    with pytest.raises(UsageError, match="need a server"):
        check_setting(found.settings[0], found.prompts["short"])
    server = 'engine = "openai"\nbase_url = "http://127.0.0.1:9/v1"\nmodel = "m"\n'
    plain, timed = read_plan(
        written(tmp_path, text.partition("[[setting]]")[0] + f'[[setting]]\n{server}prompts = ["long", "short"]\n')
    ).settings
    assert (plain.concurrency, timed.concurrency) == (1, 3)


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parent.parent / "examples").glob("*.toml")), ids=lambda p: p.name
)
def test_the_plans_among_the_examples_are_plans(path: Path) -> None:
    assert len(read_plan(path).settings) >= 2
