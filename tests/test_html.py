"""The report as a page and as pictures: what it says, what its figures hold, and what it does where there is little."""

import asyncio
import copy
import hashlib
import re
import sqlite3
from contextlib import closing
from html.parser import HTMLParser
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compared_store import EVIL, WAVE_NS, Compared, compared, insert, read
from hypothesis import given
from hypothesis import strategies as st
from stored import rows
from typer.testing import CliRunner

from telemetry.analysis import FLAGS
from telemetry.analysis.phases import TERMS
from telemetry.cli.app import app
from telemetry.cli.drawing import Drawn, page
from telemetry.join.series import BINS, STROKES
from telemetry.reports.figures import Bars, Figure, Line, Points, Spans
from telemetry.reports.figures_all import MOST_TIMELINES, figures_of
from telemetry.reports.figures_draw import _draw
from telemetry.reports.figures_runs import _front, energy_against, energy_parts, ranked_settings, ranking
from telemetry.reports.figures_time import MOST_LANES, _lanes, _running
from telemetry.reports.html.answers import UNTOLD, answers
from telemetry.reports.html.page import MOST_RUNS, to_html
from telemetry.reports.render import to_markdown
from telemetry.reports.wording import REASONS
from telemetry.storage.store import open_store

S = 1_000_000_000


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Compared:
    folder = tmp_path_factory.mktemp("compared")
    return asyncio.run(compared(folder / "t.db", folder))


class Text(HTMLParser):
    """What a page says outside of scripts and styles, and its elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._inside = ""
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside not in ("script", "style"):
            self.words.append(data)


def figure(shared: Compared, key: str) -> Figure:
    return next(each for each in shared.drawn.figures if each.key.startswith(key))


def over_time(shared: Compared, run: str) -> Figure:
    return next(each for each in shared.drawn.figures if f"Run {run}"[:12] in each.title)


def marks(of: Figure, kind: type[Any], name: str = "") -> list[Any]:
    return [m for panel in of.panels for m in panel.marks if isinstance(m, kind) and name in m.name]


# ---- the page


def test_the_first_screen_answers_the_five_questions(shared: Compared) -> None:
    best, real, request, where, publish = [answer for _, answer in answers(shared.document)]
    assert EVIL in best
    assert "J per output token" in best
    assert real.startswith("Yes: at 95 %")
    assert "for one of 36 requests" in request
    assert "% not told apart" in where
    assert "(few_blocks)" in where
    assert publish.startswith("No.")
    assert REASONS["simulated"] in publish
    said = Text(page(shared.document, shared.drawn)).text
    for question, answer in answers(shared.document):
        assert question in said
        assert " ".join(answer.split()) in said


def test_each_reason_why_phases_are_untold_has_words_of_its_own() -> None:
    terms = [f"constant_{term}" for term in TERMS if term != "idle"]
    assert {*terms, "few_blocks", "condition", "r2", "gap", "no_counter", "no_token_times", "shared_device"} == set(
        UNTOLD
    )
    assert len(set(UNTOLD.values())) == len(UNTOLD)


def test_of_one_run_and_one_setting_the_answers_say_one(shared: Compared) -> None:
    document = copy.deepcopy(shared.document)
    document["groups"] = [group for group in document["groups"] if group["rank"]]
    document["groups"].append(document["groups"][0] | {"rank": None})
    document["runs"][-1]["verdict"] = {"publishable": False, "reasons": ["grade_c"]}
    said = dict(answers(document))
    assert "1 setting could not be ranked" in said["Is the difference real?"]
    assert "(grade_c, 1 run)" in said["May I publish this?"]


def test_a_page_says_simulated_of_itself_and_of_every_figure(shared: Compared) -> None:
    figures = shared.drawn.figures
    assert all(each.simulated for each in figures)
    assert Text(page(shared.document, shared.drawn)).text.count("SIMULATED") >= 2 + len(figures) + len(
        shared.document["runs"]
    )


def test_names_from_users_are_text_and_never_markup(shared: Compared) -> None:
    html = page(shared.document, shared.drawn)
    parsed = Text(html)
    assert EVIL in parsed.text
    assert "<script>alert" not in html
    scripts = [attrs for tag, attrs in parsed.tags if tag == "script"]
    assert scripts == [{"type": "application/json", "id": "figures"}, {}, {}]


def test_a_page_needs_nothing_from_elsewhere_and_forbids_it(shared: Compared) -> None:
    parsed = Text(page(shared.document, shared.drawn))
    addresses = [
        v for _, attrs in parsed.tags for k, v in attrs.items() if k in ("src", "href", "action", "data") and v
    ]
    assert all(v.startswith(("#", "data:")) for v in addresses)
    (policy,) = [attrs["content"] for _, attrs in parsed.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert policy.count("'sha256-") == 2
    assert "unsafe-eval" not in policy
    assert "script-src 'unsafe" not in policy


def test_every_flag_and_reason_of_the_runs_is_spelt_out(shared: Compared) -> None:
    said = Text(page(shared.document, shared.drawn)).text
    assert FLAGS["gap"].sentence in said
    assert REASONS["too_few_runs"] in said
    assert "the engine died" in said


def test_groups_are_listed_by_rank_as_on_the_page(shared: Compared) -> None:
    document = copy.deepcopy(shared.document)
    ranks = [group["rank"] for group in document["groups"]]
    for order in (1, -1):
        document["groups"] = sorted(document["groups"], key=lambda group: order * (group["rank"] or 9))
        listed = to_markdown(document).partition("| rank |")[2].splitlines()[2 : 2 + len(ranks)]
        assert [line.split()[1] for line in listed] == ["1", "2", *["–"] * (len(ranks) - 2)]


def test_tables_say_why_a_run_failed(shared: Compared) -> None:
    (failed,) = (run for run in shared.document["runs"] if run["status"] == "failed")
    assert f"{failed['run'][:8]}: failed. the engine died" in to_markdown(shared.document)


def test_the_page_names_what_stands_behind_the_numbers(shared: Compared) -> None:
    said = Text(page(shared.document, shared.drawn)).text
    for fact in ("gpu-board", "700 W", "counter", "simulated:h200,gpus=2", str(shared.path)):
        assert fact in said, fact


def test_of_very_many_runs_the_page_says_what_is_left_out(shared: Compared) -> None:
    run = shared.document["runs"][0]
    many = shared.document | {"runs": [run | {"run": f"{k:032x}"} for k in range(1000)]}
    html = page(many, Drawn(shared.drawn.figures, figures_of(many, [])[1], shared.drawn.behind))
    assert f"The newest {MOST_RUNS} of 1000 runs are listed" in Text(html).text
    assert "0 runs are shown over time" in Text(html).text
    assert "1000 are not" in Text(html).text
    assert len(html) < 5e6


def test_a_report_of_nothing_is_a_page_that_says_so(shared: Compared) -> None:
    empty = shared.document | {"runs": [], "groups": []}
    figures, notes = figures_of(empty, [])
    assert figures == []
    said = Text(page(empty, Drawn(figures, notes, shared.drawn.behind))).text
    assert "There are no runs" in said
    assert "Ranking is not drawn" in said


def test_a_run_without_requests_or_energy_is_a_page_without_inventions(shared: Compared) -> None:
    unresolved = copy.deepcopy(next(run for run in shared.document["runs"] if run["name"] == "idle"))
    for energy in (unresolved["energy"], *(device["energy"] for device in unresolved["devices"])):
        energy |= {"value_j": None, "lo_j": 0.0, "hi_j": 27.0, "grade": "U"}
    alone = shared.document | {"runs": [unresolved], "groups": []}
    figures, notes = figures_of(alone, [])
    assert figures == []
    said = Text(page(alone, Drawn(figures, notes, shared.drawn.behind))).text
    assert "0-27 J" in said
    assert "It cannot be told: no measured run" in said
    assert "No run has both requests and an energy." in said
    assert re.search(r"\b(nan|None|null)\b", said) is None


# ---- the figures


def test_every_figures_sql_runs_on_the_store_and_gives_rows(shared: Compared) -> None:
    for each in shared.drawn.figures:
        for statement in each.sql:
            if "FROM request" not in statement or "requests" in [panel.y.name for panel in each.panels]:
                assert rows(shared.path, statement), f"{each.key}: {statement}"


def test_the_rankings_sql_gives_the_rankings_numbers(shared: Compared) -> None:
    (statement,) = figure(shared, "ranking").sql
    drawn = {mark.labels[0]: mark.x[0] for mark in marks(figure(shared, "ranking"), Points)}
    found = {row[0]: row[6] for row in rows(shared.path, statement)}
    assert len(found) == len(drawn) == 2
    for name, joules in drawn.items():
        assert found[name.partition(", batch")[0]] == pytest.approx(joules, rel=1e-9)


def test_a_baseline_is_no_run_of_a_setting(shared: Compared) -> None:
    document = copy.deepcopy(shared.document)
    before = ranked_settings(document)
    document["runs"] += [{**run, "runner": "baseline"} for _, runs in before for run in runs]
    assert ranked_settings(document) == before


def test_a_ranking_by_joules_above_idle_says_so_wherever_it_is_shown(shared: Compared) -> None:
    document = copy.deepcopy(shared.document)
    for run in document["runs"]:
        if run["energy"]["value_j"]:
            run["energy"]["net_j"] = run["energy"]["value_j"] / 2
    for group in document["groups"]:
        per = group["j_per_output_token"]
        if per["mean"]:
            per |= {name: per[name] / 2 for name in ("mean", "ci_lo", "ci_hi")}
        per["method"] = per["method"].replace("joules", "joules above idle")
    settings = ranked_settings(document)
    drawn = [ranking(settings), energy_against(settings, "latency")]
    for each, axis in zip(drawn, ("x", "y"), strict=True):
        assert each
        label = each.x.label if axis == "x" else each.panels[0].y.label
        assert label == "energy above idle per output token, J"
        assert "-- All joules." in each.sql[0]
        assert rows(shared.path, each.sql[0])
    single, _, points = drawn[1].panels[0].marks if drawn[1] else ()
    assert isinstance(single, Points)
    assert isinstance(points, Points)
    assert points.y.min() >= single.y.min(), "single runs, too, are those above idle"
    assert points.y.max() <= single.y.max()
    for text in (answers(document)[0][1], to_html(document, [], [], shared.drawn.behind), to_markdown(document)):
        assert re.search("J above idle( per output |/)token", text)


def test_axes_have_units_and_marks_have_arrays_of_one_length(shared: Compared) -> None:
    for each in shared.drawn.figures:
        assert each.x.unit
        for panel in each.panels:
            assert panel.rows or panel.y.unit or panel.y.name == "requests"
            for mark in panel.marks:
                lengths = {len(v) for name in mark.__slots__ if isinstance(v := getattr(mark, name), np.ndarray)}
                assert len(lengths) == 1


def test_mean_powers_lie_in_their_bounds_with_the_truth_and_add_up_to_the_runs_energy(shared: Compared) -> None:
    run = next(run for run in shared.document["runs"] if run["name"] == "plain1")
    lines = [mark for mark in marks(over_time(shared, run["run"]), Line) if mark.lo is not None]
    assert len(lines) == 2
    joules = 0.0
    for line in lines:
        edges, power = np.append(line.x[::2], line.x[-1]), line.y[::2]
        assert np.all(line.lo <= line.y + 1e-9)
        assert np.all(line.y <= line.hi + 1e-9)
        assert np.all((line.lo <= 400.0) & (line.hi >= 400.0)), "whole periods of a square wave of 200 and 600 W"
        joules += float(np.sum(power * np.diff(edges)))
    assert joules == pytest.approx(run["energy"]["value_j"], rel=5e-3)


def test_no_line_crosses_a_gap(shared: Compared) -> None:
    drawn = over_time(shared, "idle-62.0")
    (hole,) = [shade for shade in drawn.shades if shade.loud]
    begin, end = hole.x[0]
    assert (begin, end) == (pytest.approx(3.0, abs=0.2), pytest.approx(6.2, abs=0.4))
    lost = [line for line in marks(drawn, Line) if hole.name.removesuffix(" not measured") in line.name]
    assert len(lost) == 3, "power, temperature and clock"
    for line in lost:
        inside = (line.x[:-1] <= begin + 1.0) & (line.x[1:] >= end - 1.0)
        broken = np.isnan(line.y)
        assert broken.any()
        assert not np.any(inside & ~broken[:-1] & ~broken[1:])
    readings = [line for line in marks(drawn, Line, "sensor") if np.isnan(line.y).any()]
    assert len(readings) == 1


def test_requests_have_lanes_of_their_own_and_phases_in_order(shared: Compared) -> None:
    drawn = over_time(shared, "evil1-30.0")
    prefill, decode = marks(drawn, Spans, "prefill")[0], marks(drawn, Spans, "decode")[0]
    assert len(prefill.x0) == len(decode.x0) == 12
    np.testing.assert_allclose(prefill.x1, decode.x0)
    np.testing.assert_allclose(decode.x1 - decode.x0, 1.5)


times = st.lists(st.tuples(st.floats(0, 100), st.floats(0.01, 50)), min_size=1, max_size=40)


@given(times)
def test_no_two_requests_share_a_lane_at_a_time_and_no_lane_is_wasted(each: list[tuple[float, float]]) -> None:
    table = np.array([[begin, begin, begin, begin + length] for begin, length in each])
    lanes = _lanes(table, 200.0)
    for lane in set(lanes.tolist()):
        own = table[lanes == lane]
        own = own[np.argsort(own[:, 0])]
        assert np.all(own[1:, 0] >= own[:-1, 3])
    at_once = _running(table[:, [0, 3]], table[:, 0])
    assert lanes.max() + 1 == at_once.max()


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=20))
def test_nothing_beats_the_pareto_front_and_it_beats_the_rest(points: list[tuple[int, int]]) -> None:
    x, y = np.array(points, dtype=np.float64).T
    front = _front(x, y).tolist()

    def beats(a: int, b: int) -> bool:
        return bool(x[a] <= x[b] and y[a] <= y[b] and (x[a], y[a]) != (x[b], y[b]))

    for k in range(len(points)):
        beaten = any(beats(other, k) for other in range(len(points)))
        assert beaten == (points[k] not in [points[j] for j in front])


def test_a_setting_that_is_thriftier_and_of_more_throughput_is_the_front_alone(shared: Compared) -> None:
    drawn = figure(shared, "energy-throughput")
    (front,) = marks(drawn, Line, "Pareto")
    (settings,) = marks(drawn, Points, "settings")
    best = int(np.argmin(settings.y))
    assert settings.labels[best].startswith(EVIL)
    assert (front.x.tolist(), front.y.tolist()) == ([settings.x[best]], [settings.y[best]])
    assert len(settings.x) == 2


def test_the_parts_of_the_energy_add_up_to_it(shared: Compared) -> None:
    runs = [run for run in shared.document["runs"] if run["name"] in ("plain1", "plain2")]
    parts = energy_parts(runs)
    assert sum(parts.values()) == pytest.approx(np.mean([run["energy"]["value_j"] for run in runs]))
    assert parts["prefill"] == pytest.approx(600, rel=0.02), "three prefills of 0.5 s, 200 W on each of two GPUs"
    assert parts["unattributed"] == pytest.approx(1600, rel=0.02)
    bars = marks(figure(shared, "split"), Bars)
    assert {bar.name for bar in bars} == {"prefill", "decode", "unattributed", "not told apart"}


def test_a_timeline_is_named_by_its_run_and_model(shared: Compared) -> None:
    titles = [each.title for each in shared.drawn.figures if each.key.startswith("timeline")]
    assert titles[:2] == [f"Run evil2-50 over time: {EVIL}, evil2", "Run plain2-4 over time: smollm2-135m, plain2"]


def test_the_timelines_are_of_the_newest_run_of_each_setting_first(shared: Compared) -> None:
    titles = [each.title for each in shared.drawn.figures if each.key.startswith("timeline")]
    assert [title.split()[1] for title in titles[:2]] == ["evil2-50", "plain2-4"]
    assert len(titles) == min(MOST_TIMELINES, len(shared.document["runs"]))


def test_a_run_that_no_reading_covers_has_a_timeline_without_values(shared: Compared, tmp_path: Path) -> None:
    path = tmp_path / "dark.db"
    path.write_bytes(shared.path.read_bytes())
    with closing(sqlite3.connect(path)) as store:
        span = {"start_ns": WAVE_NS + 1000 * S, "stop_ns": WAVE_NS + 1008 * S}
        about = {"uid": "dark", "batch_size": 1, "concurrency": 1, "warmup": 0, "settings": "{}", "status": "ok"}
        insert(store, "run", [{"id": 99, "host": 1} | about | span])
        insert(store, "run_device", [{"run": 99, "device": 1}])
        store.commit()
    dark = asyncio.run(read(path, "dark"))
    (drawn,) = dark.drawn.figures
    assert [panel.y.name for panel in drawn.panels] == ["power"]
    assert all(np.isnan(line.y).all() for line in marks(drawn, Line))
    assert "NaN" not in page(dark.document, dark.drawn).partition('id="figures">')[2].partition("</script>")[0]


def test_the_kept_library_is_the_one_that_the_decision_names() -> None:
    root = Path(__file__).parents[1]
    library = (root / "telemetry/reports/html/echarts/echarts.min.js").read_bytes()
    decision = (root / "docs/decisions/0007-html-report.md").read_text(encoding="utf-8")
    assert hashlib.sha256(library).hexdigest() in decision


# ---- an hour of eight GPUs


def test_an_hour_of_eight_gpus_with_thousands_of_requests_stays_below_5_mb(tmp_path: Path) -> None:
    path = tmp_path / "hour.db"
    asyncio.run(_an_hour(path))
    hour = asyncio.run(read(path))
    html = page(hour.document, hour.drawn)
    assert len(html.encode()) < 5_000_000
    (drawn,) = [each for each in hour.drawn.figures if each.key.startswith("timeline")]
    assert len(marks(drawn, Line)) == 8 * 4 + 3
    assert marks(drawn, Spans) == [], f"over {MOST_LANES} requests their number is drawn"
    for line in marks(drawn, Line):
        assert len(line.x) <= max(2 * BINS, 4 * (STROKES + 2))
    power = [line for line in marks(drawn, Line) if line.lo is not None]
    assert all(np.isfinite(line.y).all() for line in power)
    assert np.mean(power[0].y) == pytest.approx(450, rel=0.01)


async def _an_hour(path: Path) -> None:
    """Store one reading and one row of vitals a second of eight GPUs that change between 300 and 600 W."""
    async with await open_store(path):
        pass
    rng = np.random.default_rng(0)
    with closing(sqlite3.connect(path)) as store:
        life = {"start_ns": WAVE_NS - 9 * S, "heartbeat_ns": WAVE_NS + 3700 * S, "state": "clean"}
        about = {"uid": "s", "source": "simulated:h200", "settings": "{}", "version": "0", "pid": 1}
        insert(store, "session", [{"id": 1, "host": 1} | about | life])
        settings = {"model": "m", "batch_size": 64, "concurrency": 64, "warmup": 0, "settings": "{}", "status": "ok"}
        span = {"start_ns": WAVE_NS, "stop_ns": WAVE_NS + 3600 * S}
        insert(store, "run", [{"id": 1, "uid": "hour", "host": 1} | settings | span])
        for k in range(1, 9):
            kind = {"name": "NVIDIA H200", "kind": "gpu", "boundary": "gpu-board", "simulated": 1}
            paths = {"energy_path": "counter", "integral_of": "instant"}
            insert(store, "device", [{"id": k, "uid": f"GPU-{k:04}", "host": 1, "idx": k} | kind | paths])
            insert(store, "session_device", [{"session": 1, "device": k}])
            insert(store, "run_device", [{"run": 1, "device": k}])
            t_ns = (WAVE_NS + S * np.arange(-8, 3610)).tolist()
            mw = rng.integers(300_000, 600_000, len(t_ns)).tolist()
            each = [{"device": k, "t_ns": t, "power_instant_mw": p} for t, p in zip(t_ns, mw, strict=True)]
            dated = {"since_ns": S // 50, "latency_us": 60}
            energy = accumulate(mw)
            insert(store, "reading", [row | {"energy_mj": mj} | dated for row, mj in zip(each, energy, strict=True)])
            polls = {"polls": 50, "misses": 0}
            insert(
                store,
                "vitals",
                [
                    {"device": k, "t_ns": t, "temperature_c": p // 10_000, "clock_sm_mhz": 1980 - p % 90} | polls
                    for t, p in zip(t_ns, mw, strict=True)
                ],
            )
        times = [("submitted_ns", 0), ("started_ns", 1), ("first_token_ns", 3), ("last_token_ns", 40), ("ended_ns", 40)]
        counts = {"input_tokens": 100, "output_tokens": 50, "count_source": "ids", "status": "ok"}
        begins = [WAVE_NS + round(at_s * S) for at_s in np.sort(rng.uniform(0, 3500, 5000))]
        insert(
            store,
            "request",
            [
                {"run": 1, "number": n} | {name: begin + s * S for name, s in times} | counts
                for n, begin in enumerate(begins)
            ],
        )
        store.commit()


# ---- pictures and the command


def test_figures_are_written_as_png_and_svg_with_units_and_marked_simulated(shared: Compared, tmp_path: Path) -> None:
    run = next(run["run"] for run in shared.document["runs"] if run["name"] == "evil1")
    command = ["report", run, "--store", str(shared.path), "--figures", str(tmp_path / "out")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    pngs = sorted((tmp_path / "out").glob("*.png"))
    assert [each.name.partition("-")[0] for each in pngs] == ["ranking.png", "split.png", "timeline"]
    for png in pngs:
        assert png.read_bytes().startswith(b"\x89PNG")
        svg = png.with_suffix(".svg").read_text(encoding="utf-8")
        assert "SIMULATED" in svg
        assert re.search(r", (J|W|s)<", svg), "an axis with its unit"
    assert "energy-latency" in done.stderr or "Energy against latency is not drawn" in done.stderr


def test_long_names_leave_a_picture_most_of_its_width(shared: Compared) -> None:
    document = copy.deepcopy(shared.document)
    for group in document["groups"]:
        group["by"] |= {"model": "a model with quite a long name " * 3}
    drawn = ranking([(group, []) for group in document["groups"] if group["rank"]])
    assert drawn
    canvas = _draw(drawn)
    canvas.draw_without_rendering()
    assert canvas.axes[0].get_position().width > 0.5


def test_the_command_writes_the_page(shared: Compared, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    done = CliRunner().invoke(app, ["report", "--store", str(shared.path), "--format", "html", "-o", str(out)])
    assert done.exit_code == 0, done.output
    assert Text(out.read_text(encoding="utf-8")).text.count("Where did the energy go?") == 1


def test_pictures_into_a_file_in_place_of_a_folder_are_refused(shared: Compared, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    command = ["report", "--store", str(shared.path), "--figures", str(tmp_path / "file" / "out")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code != 0
    assert "cannot be written" in str(done.exception or done.output)
