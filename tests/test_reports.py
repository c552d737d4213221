"""Reports for people and programs, and the schemas that hold them."""

import copy
import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from jsonschema import Draft202012Validator
from rich.console import Console

from telemetry import reports
from telemetry.analysis import FLAGS
from telemetry.errors import UsageError

Document = dict[str, Any]


def energy(value: float | None = 4000.0, lo: float | None = 3966.0, hi: float | None = 4034.0) -> Document:
    return {
        **{"value_j": value, "lo_j": lo, "hi_j": hi, "method": "counter-plateau"},
        **{"grade": "U" if value is None else "A", "net_j": None, "baseline": None},
    }


def a_run(**changes: Any) -> Document:
    triple = {"value": 2.0, "lo": 1.98, "hi": 2.02}
    percentiles = {"p50": None, "p90": None, "p95": None, "p99": None, "n": 8}
    return {
        **{"run": "0199aa", "name": "first", "model": "smollm2-135m", "runner": "llama_cpp"},
        **{"batch_size": 1, "concurrency": 1, "warmup": False, "simulated": False, "status": "ok"},
        **{"start": "2026-01-01T00:00:00.000Z", "duration_s": 12.3, "boundary": "gpu-board"},
        "energy": energy(),
        "devices": [
            {
                **{"uid": "GPU-1", "name": "NVIDIA H200", "energy": energy(), "avg_power_w": 401.0},
                **{"peak_power_w": 411.0, "max_temperature_c": 61, "max_memory_used_bytes": 5},
                "throttled_s": 0.0,
            }
        ],
        **{"avg_power_w": 401.0, "peak_power_w": 411.0, "requests": {"ok": 8, "failed": 0}},
        **{"input_tokens": 100, "output_tokens": 2017, "j_per_output_token": triple},
        **{"j_per_total_token": triple, "j_per_request": triple | percentiles, "tokens_per_s": 162.0},
        **{"ttft_s": percentiles | {"mean": 0.123, "p50": 0.119}, "tpot_s": None, "itl_s": None},
        "e2e_s": percentiles | {"mean": 1.77},
        **{"phases": {"prefill_j": None, "decode_j": triple}, "flags": ["gap"]},
        "verdict": {"publishable": False, "reasons": ["too_few_runs"]},
        "collector": {"polls": 9, "missed": 0, "latency_p99_s": 0.001, "cpu_s": 0.1, "dropped_rows": 0},
        **changes,
    }


def a_report(*runs: Document) -> Document:
    mean = {"mean": 2.0, "ci_lo": 1.9, "ci_hi": 2.1, "method": "student-t", "p50": None, "n": 5}
    by = {"model": "smollm2-135m"}
    return {
        **{"schema": "telemetry.report/1", "store": "/s.db", "generated": "2026-01-01T00:00:00.000Z"},
        **{"version": "0.1.0", "runs": list(runs)},
        "groups": [{"by": by, "n_runs": 5, "j_per_output_token": mean, "rank": 1, "tied_with": []}],
    }


def a_window(**changes: Any) -> Document:
    device = {"uid": "GPU-1", "name": "NVIDIA H200", "energy": energy()}
    source = {"column": "energy_mj", "poll_hz": 100.0, "refresh_hz": None, "largest_gap_s": 0.02}
    return {
        **{"schema": "telemetry.window/1", "from": "2026-01-01T00:00:00Z", "to": "2026-01-01T00:00:10Z"},
        **{"duration_s": 10.0, "energy": energy()},
        "devices": [device | {"avg_power_w": 401.0, "peak_power_w": None}],
        **{"source": source | {"samples": 1000}, "flags": ["gap"]},
        **changes,
    }


def a_list(*, simulated: bool = False) -> Document:
    run: Document = {
        "run": "0199aa",
        "name": None,
        "model": "smollm2-135m",
        "start": "2026-01-01T00:00:00.000Z",
    }
    run |= {"duration_s": None, "status": "open", "simulated": simulated}
    return {"schema": "telemetry.list/1", "runs": [run]}


# Comparisons have a test of their own, see test_comparing.
EXAMPLES = {"report-1": a_report(a_run()), "window-1": a_window(), "list-1": a_list()}
UNRESOLVED = {"energy": energy(None, 0.0, 27.0), "j_per_output_token": None, "avg_power_w": None}
UNRESOLVED |= {"peak_power_w": None, "tokens_per_s": None, "ttft_s": None, "output_tokens": None}


def printed(show: Any, document: Document, width: int = 120, *, colour: bool = False) -> str:
    console = Console(
        file=io.StringIO(), width=width, force_terminal=colour, color_system="standard" if colour else None
    )
    show(document, console)
    stream = console.file
    assert isinstance(stream, io.StringIO)
    return stream.getvalue()


def one_line(text: str) -> str:
    return " ".join(text.split())


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def paths(document: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every key of a document, save the free ones of a group's `by`."""
    if isinstance(document, list):
        return [path for i, item in enumerate(document) for path in paths(item, (*at, i))]
    if not isinstance(document, dict) or at[-1:] == ("by",):
        return []
    return [path for key, item in document.items() for path in ((*at, key), *paths(item, (*at, key)))]


def violations(name: str, document: Document) -> list[str]:
    return [error.message for error in Draft202012Validator(reports.schema(name)).iter_errors(document)]


# ---- schemas


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_schema_is_itself_valid_and_admits_its_example(name: str) -> None:
    Draft202012Validator.check_schema(reports.schema(name))
    assert violations(name, EXAMPLES[name]) == []


@pytest.mark.parametrize("name", EXAMPLES)
def test_no_field_may_be_left_out_or_change_its_type(name: str) -> None:
    for path in paths(EXAMPLES[name]):
        *parents, last = path
        for spoil in ("leave out", "retype"):
            document = copy.deepcopy(EXAMPLES[name])
            entry: Any = document
            for key in parents:
                entry = entry[key]
            if spoil == "leave out":
                del entry[last]
            else:
                entry[last] = object  # neither of JSON's types
            assert violations(name, document), f"{spoil} {path}"


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_schema_admits_fields_of_later_versions(name: str) -> None:
    assert violations(name, EXAMPLES[name] | {"something_new": 1}) == []


@pytest.mark.parametrize("field", ["simulated", "warmup", "run", "flags", "energy", "requests"])
def test_null_is_refused_where_something_is_always_known(field: str) -> None:
    assert violations("report-1", a_report(a_run(**{field: None})))


def test_an_unresolved_run_is_a_valid_report() -> None:
    assert violations("report-1", a_report(a_run(**UNRESOLVED, collector=None))) == []


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_field_is_documented(name: str) -> None:
    text = (Path(__file__).parent.parent / "docs" / "json.md").read_text(encoding="utf-8")
    fields = {path[-1] for path in paths(EXAMPLES[name])}
    assert {field for field in fields if f"`{field}`" not in text} == set()


def test_an_unknown_schema_is_refused_with_the_known_names() -> None:
    with pytest.raises(UsageError, match="report-1, window-1, list-1"):
        reports.schema("report-9")


# ---- numbers


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *[(0.0, "0"), (0.123456, "0.1235"), (162.04, "162"), (999.96, "1000"), (123456.0, "123500")],
        *[(-2.5, "-2.5"), (0.00001, "1e-05"), (None, "–"), (float("nan"), "–"), (float("inf"), "–")],
    ],
)
def test_a_number_has_four_significant_digits_and_nothing_is_a_dash(value: float | None, text: str) -> None:
    assert reports.format_number(value) == text
    assert reports.format_number(value, "W") == (text if text == "–" else f"{text} W")


def test_an_interval_shows_what_is_known_and_no_more() -> None:
    assert reports.interval(4000.0, 3966.0, 4034.0, "J") == "4000 [3966..4034] J"
    assert reports.interval(None, 0.0, 27.0, "J") == "0-27 J"
    assert reports.interval(None, -3.0, 27.0, "J") == "-3 to 27 J"
    assert reports.interval(4000.0, None, 4034.0, "J") == "4000 J"
    assert reports.interval(None, None, 27.0, "J") == "–"


# ---- JSON


def test_json_gives_the_document_back_with_null_for_what_is_no_number() -> None:
    report = a_report(a_run(avg_power_w=float("nan"), peak_power_w=np.float64(411.0)))
    text = reports.to_json(report)
    assert text.startswith(b'{\n  "schema"')
    assert text.endswith(b"}\n")
    assert orjson.loads(text) == a_report(a_run(avg_power_w=None, peak_power_w=411.0))


# ---- table


WIDTHS = [120, 80]


@pytest.mark.parametrize("width", WIDTHS)
def test_a_table_holds_every_number_uncut_and_stays_within_the_width(width: int) -> None:
    text = printed(reports.to_table, a_report(a_run(run="01990d5c7f3a7b1e8a2c4d5e6f708192")), width)
    assert max(map(len, text.splitlines())) <= width
    for part in ("4000 [3966..4034] J", "2 [1.98..2.02]", "401", "411", "162", "0.119 p50", "2017", "first"):
        assert part in text
    assert "2 [1.9..2.1]" in text  # the group
    assert "…" not in text
    assert FLAGS["gap"].sentence in one_line(text)
    assert "not publishable. Fewer than five measured runs" in one_line(text)


@pytest.mark.parametrize("width", WIDTHS)
def test_what_is_unknown_never_prints_as_a_zero(width: int) -> None:
    text = printed(reports.to_table, a_report(a_run(**UNRESOLVED)), width)
    assert "0-27 J" in text
    words = text.replace("0-27 J", "").split()
    assert "0" not in words
    assert "None" not in text
    assert words.count("–") >= 5


@pytest.mark.parametrize("width", WIDTHS)
def test_a_mean_stands_in_for_a_median_that_is_not_resolved_and_says_so(width: int) -> None:
    ttft = {"mean": 0.1234, "p50": None, "p90": None, "p95": None, "p99": None, "n": 2}
    assert "0.1234 mean" in printed(reports.to_table, a_report(a_run(ttft_s=ttft)), width)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_warm_up_is_dim_and_named_and_a_measured_run_is_not(width: int) -> None:
    dim = "\x1b[2m"
    warm = printed(reports.to_table, a_report(a_run(warmup=True)), width, colour=True)
    assert dim in warm
    assert "warm-up" in warm
    measured = printed(reports.to_table, a_report(a_run()), width, colour=True)
    assert dim not in measured
    assert "warm-up" not in measured


def test_a_name_with_markup_or_control_characters_prints_as_it_is_and_steers_nothing() -> None:
    text = printed(reports.to_table, a_report(a_run(name="[red]x[/red]", model="a\x1b[2Jb\nc")), 80)
    assert "[red]x[/red]" in text
    assert "a�[2Jb�c" in text
    assert "\x1b" not in text


def test_failed_requests_are_counted_beside_the_good_ones() -> None:
    text = printed(reports.to_table, a_report(a_run(requests={"ok": 7, "failed": 3})))
    assert "7, 3 failed" in text


def test_a_report_without_runs_says_so() -> None:
    assert "There are no runs." in printed(reports.to_table, a_report() | {"groups": []})


def test_a_flag_of_two_runs_is_explained_once() -> None:
    text = printed(reports.to_table, a_report(a_run(), a_run(run="0199bb")))
    assert one_line(text).count(FLAGS["gap"].sentence) == 1


def test_a_publishable_run_says_so() -> None:
    run = a_run(verdict={"publishable": True, "reasons": []})
    assert "0199aa: publishable." in printed(reports.to_table, a_report(run))


@pytest.mark.parametrize("width", WIDTHS)
def test_long_names_fold_and_lose_nothing(width: int) -> None:
    listing = a_list()
    listing["runs"][0] |= {"run": "0199" * 8, "name": "n" * 70, "model": "m" * 70}
    text = printed(reports.list_table, listing, width)
    assert max(map(len, text.splitlines())) <= width
    body = text.partition("─ \n")[2]
    assert (body.count("n"), body.count("m")) == (70 + 1, 70)  # and the n of "open"
    assert "01990199 " in body, "a uid is as long as people type it"


def test_reasons_and_simulation_that_all_runs_share_are_said_once() -> None:
    refused = {"publishable": False, "reasons": ["too_few_runs"]}
    runs = [a_run(run=f"{k:08x}" * 4, simulated=True, verdict=refused) for k in range(3)]
    text = " ".join(printed(reports.to_table, a_report(*runs)).split())
    assert "was measured for all 3 runs." in text
    assert text.count("all 3 runs: not publishable. Fewer than five") == 1
    runs[1]["verdict"] = {"publishable": True, "reasons": []}
    assert "00000000, 00000002: not publishable" in " ".join(printed(reports.to_table, a_report(*runs)).split())


@pytest.mark.parametrize("width", WIDTHS)
def test_of_very_many_runs_a_table_shows_the_newest_and_says_so(width: int) -> None:
    runs = [a_run(run=f"{k:08x}" * 4) for k in range(201)]
    text = printed(reports.to_table, a_report(*runs), width)
    assert "The newest 200 of 201 runs are shown." in text
    assert "00000001" in text
    assert "000000c8" in text
    assert "00000000 " not in text.partition("shown.")[2].partition("publishable")[0]
    assert reports.to_csv(a_report(*runs)).count("\n") == 202


@pytest.mark.parametrize("width", WIDTHS)
def test_an_unresolved_run_shows_its_interval_and_no_value(width: int) -> None:
    unresolved = energy(26.0, -6.5, 27.2) | {"grade": "U"}
    ratio = {"value": 13.0, "lo": -3.25, "hi": 13.6}
    text = printed(reports.to_table, a_report(a_run(energy=unresolved, j_per_output_token=ratio)), width)
    assert "-6.5 to 27.2 J" in text
    assert "-3.25 to 13.6" in text
    assert "26 [" not in text
    assert "13 [" not in text


@pytest.mark.parametrize("width", WIDTHS)
def test_the_residual_shown_is_that_of_the_device_where_the_paths_differ_most(width: int) -> None:
    (device,) = a_run()["devices"]
    devices = [device | {"counter_residual": r} for r in (0.002, None, -0.0125)]
    assert "-1.25 %" in printed(reports.to_table, a_report(a_run(devices=devices)), width)
    assert " % " not in printed(reports.to_table, a_report(a_run()), width).partition("gap:")[0]


@pytest.mark.parametrize("width", WIDTHS)
def test_net_energy_is_shown_with_its_baseline_also_below_zero_and_only_where_there_is_one(width: int) -> None:
    below = energy() | {"net_j": -12.5, "net_lo_j": -40.0, "net_hi_j": 15.0, "baseline": "B1 121 W"}
    assert "-12.5 [-40..15] J above B1 121 W" in printed(reports.to_table, a_report(a_run(energy=below)), width)
    bare = energy() | {"active_j": 700.0, "active_baseline": "B0 80 W"}
    assert "700 J above B0 80 W" in printed(reports.to_table, a_report(a_run(energy=bare)), width)
    assert "net" not in printed(reports.to_table, a_report(a_run()), width)
    assert "| net |" in reports.to_markdown(a_report(a_run(energy=below)))


# ---- simulated


def test_simulated_shows_in_every_format() -> None:
    report, listing, window = (
        a_report(a_run(simulated=True)),
        a_list(simulated=True),
        a_window(simulated=True),
    )
    for width in WIDTHS:
        table = printed(reports.to_table, report, width)
        assert "SIMULATED: no hardware" in table
        assert table.count("SIMULATED") == 2  # the line, and the run itself
        assert "SIMULATED: no hardware" in printed(reports.window_table, window, width)
        assert printed(reports.list_table, listing, width).count("SIMULATED") == 2
    for markdown in (
        reports.to_markdown(report),
        reports.window_markdown(window),
        reports.list_markdown(listing),
    ):
        assert markdown.startswith("**SIMULATED: no hardware")
    for text in (reports.to_csv(report), reports.window_csv(window), reports.list_csv(listing)):
        assert {row["simulated"] for row in rows(text)} == {"true"}


def test_nothing_measured_is_called_simulated() -> None:
    for show, document in (
        (reports.to_table, a_report(a_run())),
        (reports.window_table, a_window()),
        (reports.list_table, a_list()),
    ):
        assert "SIMULATED" not in printed(show, document)
    assert "SIMULATED" not in reports.to_markdown(a_report(a_run()))
    assert rows(reports.to_csv(a_report(a_run())))[0]["simulated"] == "false"


# ---- CSV and Markdown


def test_csv_is_one_flat_row_a_run_with_units_in_the_names() -> None:
    good, bad = rows(reports.to_csv(a_report(a_run(flags=["gap", "stale"]), a_run(**UNRESOLVED))))
    assert good["energy_value_j"] == "4000.0"
    assert good["ttft_p50_s"] == "0.119"
    assert good["ttft_n"] == "8"
    assert good["decode_hi_j"] == "2.02"
    assert good["flags"] == "gap;stale"
    assert good["reasons"] == "too_few_runs"
    assert (bad["energy_value_j"], bad["energy_hi_j"], bad["ttft_p50_s"], bad["avg_power_w"]) == (
        *("", "27.0", "", ""),
    )


def test_csv_leaves_nan_empty() -> None:
    (row,) = rows(reports.to_csv(a_report(a_run(avg_power_w=float("nan")))))
    assert row["avg_power_w"] == ""


def test_markdown_has_as_many_cells_in_every_row_whatever_the_names_hold() -> None:
    text = reports.to_markdown(a_report(a_run(model="a|b"), a_run(**UNRESOLVED)))
    header, _, first, second = [line for line in text.splitlines() if line.startswith("|")][:4]
    assert "a\\|b" in first
    assert "0-27 J" in second
    cells = {line.replace("\\|", "").count("|") for line in (header, first, second)}
    assert len(cells) == 1
    assert FLAGS["gap"].sentence in text


# ---- window and list


@pytest.mark.parametrize("width", WIDTHS)
def test_a_window_shows_its_energy_its_source_and_its_flags(width: int) -> None:
    text = one_line(printed(reports.window_table, a_window(), width))
    for part in (
        "energy: 4000 [3966..4034] J, grade A",
        "counter-plateau",
        "1000 samples",
        "polled at 100 Hz",
    ):
        assert part in text
    assert "refreshed at –" in text
    assert FLAGS["gap"].sentence in text
    assert FLAGS["gap"].sentence in reports.window_markdown(a_window())


def test_the_csv_of_a_window_ends_in_its_total() -> None:
    device, total = rows(reports.window_csv(a_window()))
    assert (device["device"], device["avg_power_w"], device["peak_power_w"]) == ("GPU-1", "401.0", "")
    assert (total["device"], total["energy_value_j"], total["avg_power_w"]) == ("total", "4000.0", "")


@pytest.mark.parametrize("width", WIDTHS)
def test_a_list_shows_a_run_that_has_not_ended_without_a_duration(width: int) -> None:
    text = printed(reports.list_table, a_list(), width)
    assert "open" in text
    assert "–" in text
    assert " 0 " not in text
    assert "| open |" in reports.list_markdown(a_list())
    (row,) = rows(reports.list_csv(a_list()))
    assert row["duration_s"] == ""
