"""Stop strings are found wherever they lie in what a model says, and however it was cut into tokens."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.errors import UsageError
from telemetry.runners import Prompt
from telemetry.runners.stopping import StopWatch

# Two letters and two characters of several bytes, so that stop strings are met, nearly met and met twice.
texts = st.text(alphabet="abé🔋", max_size=12)
stops = st.lists(st.text(alphabet="abé🔋", min_size=1, max_size=4), max_size=3)


@given(text=texts, stops=stops, cuts=st.sets(st.integers(0, 40)))
def test_an_answer_ends_with_the_piece_that_completes_a_stop_string(
    text: str, stops: list[str], cuts: set[int]
) -> None:
    said = text.encode()
    edges = sorted({0, *(cut for cut in cuts if cut < len(said)), len(said)})
    watch = StopWatch(stops)
    read = b""
    stopped = False
    for begin, end in itertools.pairwise(edges):
        read += said[begin:end]
        stopped = watch.feed(said[begin:end])
        assert stopped == any(stop.encode() in read for stop in stops)
        if stopped:
            break
    whole = read.decode(errors="replace")
    places = [whole.find(stop) for stop in stops if stop in whole]
    assert watch.text == (whole[: min(places)] if stopped else text)


def test_an_unfinished_character_is_shown_as_one() -> None:
    watch = StopWatch()
    assert not watch.feed("é🔋".encode()[:4])
    assert watch.text == "é\N{REPLACEMENT CHARACTER}"


def test_an_empty_stop_string_is_refused() -> None:
    with pytest.raises(UsageError, match="stop string is empty"):
        Prompt(text="Once", max_tokens=1, stop=("\n", ""))
