"""Real servers, each in a process of its own: llama.cpp's, from xllamacpp, and llama-cpp-python's.

The same model is measured in process, through a server, and through the proxy before that server.
"""

import asyncio
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest
from chain_gguf import STORY, Chain, write_chain_gguf
from proxied import proxied, rows
from runner_contract import RecordingSink, ask

from telemetry.runners import Load, Runner, find_smollm2, open_llama, open_openai

XLLAMACPP = """
import sys, time, xllamacpp
p = xllamacpp.CommonParams()
p.model.path, p.port, p.n_parallel, p.n_ctx = sys.argv[1], int(sys.argv[2]), 2, 1024
p.cpuparams.n_threads = p.cpuparams_batch.n_threads = 1
p.hostnames = ["127.0.0.1"]
server = xllamacpp.Server(p)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    return write_chain_gguf(tmp_path_factory.mktemp("model") / "chain.gguf")


@contextmanager
def served(*words: str) -> Iterator[str]:
    """Start a server, with its port for `PORT`; yield its URL when it answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    url = f"http://127.0.0.1:{port}"
    line = [sys.executable, *(port if word == "PORT" else word for word in words)]
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            while process.poll() is None:
                try:
                    urllib.request.urlopen(f"{url}/v1/models").close()
                    break
                except OSError:
                    time.sleep(0.1)
            assert process.poll() is None, "the server ended"
            yield url
        finally:
            process.kill()


def llama_server(model: Path) -> AbstractContextManager[str]:
    return served("-c", XLLAMACPP, str(model), "PORT")


def python_server(model: Path) -> AbstractContextManager[str]:
    # A prompt has threads of its own, by default one a core: the prefills of a busy machine then took seconds.
    words = ["--n_threads", "1", "--n_threads_batch", "1", "--interrupt_requests", "False", "--n_ctx", "512"]
    return served("-m", "llama_cpp.server", "--model", str(model), "--host", "127.0.0.1", "--port", "PORT", *words)


def test_llama_server_counts_every_token_of_the_story(chain: Chain) -> None:
    with llama_server(chain.path) as url:
        runner = open_openai(url, "chain", load=Load(concurrency=2))
        sinks = ask(runner, ["Once", "Once upon a time", "Once"], 100)
        (cut,) = ask(runner, ["Once"], 5)
        (chatted,) = ask(open_openai(url, "chain", api="chat"), ["Once"], 100)
    assert [sink.output_tokens for sink in sinks] == [42, chain.tokens_after(5), 42]
    for sink, prompt in zip(sinks, ("Once", "Once upon a time", "Once"), strict=True):
        assert f"{prompt}{sink.text}" == STORY
        assert (sink.count_source, sink.finish_reason, sink.cached_tokens) == ("server", "stop", 0)
    for sink in (*sinks, cut, chatted):
        assert len(sink.token_ns) + sum(tokens or 0 for _, tokens in sink.chunks) == sink.output_tokens
    assert (cut.finish_reason, cut.output_tokens) == ("length", 5)
    assert runner.describe().settings["server"] == "llama-server"


@pytest.mark.engine
def test_llama_cpp_pythons_server_tells_no_count_and_is_not_believed_to(
    chain: Chain, caplog: pytest.LogCaptureFixture
) -> None:
    with python_server(chain.path) as url:
        (sink,) = ask(open_openai(url, "chain"), ["Once"], 100)
    assert (sink.text or "").endswith("and café🔋 dreams refilled them all .")  # it loses the word of over 32 bytes
    assert (sink.output_tokens, sink.count_source, sink.finish_reason) == (36, "chunks", "stop")  # of 42 tokens
    assert "does not tell how many tokens" in caplog.text


@pytest.mark.engine
async def test_one_model_gives_the_same_tokens_in_process_through_a_server_and_through_the_proxy(
    chain: Chain, tmp_path: Path
) -> None:
    prompts = ["Once", "Once upon a time"]
    with closing(open_llama(chain.path, threads=1, context=512)) as runner:
        inside = ask(runner, prompts, 100)
    with llama_server(chain.path) as url:
        direct = await asyncio.to_thread(lambda: ask(open_openai(url, "chain"), prompts, 100))
        async with proxied(url, tmp_path / "t.db") as port:
            proxy = f"http://127.0.0.1:{port}"
            passed = await asyncio.to_thread(lambda: ask(open_openai(proxy, "chain"), prompts, 100))
    counts = [(42, "stop"), (chain.tokens_after(5), "stop")]
    for sinks in (inside, direct, passed):
        assert [(sink.output_tokens, sink.finish_reason) for sink in sinks] == counts
    recorded = "select output_tokens, finish_reason, status, count_source from request where finish_reason = 'stop'"
    assert rows(tmp_path / "t.db", recorded) == [(*count, "ok", "server") for count in counts]
    tokens = "select count(*) from token where kind != 'chunk' group by request order by request"
    assert [n for (n,) in rows(tmp_path / "t.db", tokens)][-2:] == [tokens for tokens, _ in counts]


# Times. No two prompts begin alike, for the server keeps the beginning of the last one.
REPEATS, TOKENS = 4, 16
BEGINNINGS = ("Then", "Now", "Here", "Today")
PROMPTS = [f"{word}, the wind rose over the hills, and the old man by the river began to" for word in BEGINNINGS]


def ttft_and_itl_s(sink: RecordingSink) -> tuple[float, float]:
    times_ns = sink.token_ns or [mono_ns for mono_ns, _ in sink.chunks]
    return (times_ns[0] - sink.stamps_ns[0]) / 1e9, median(b - a for a, b in pairwise(times_ns)) / 1e9


def within_spread(ours: Sequence[float], theirs: Sequence[float]) -> bool:
    """Whether the ranges of the repeats overlap, stretched upwards threefold, for this machine may be busy.

    An answer that is held back to its end has no time between its pieces, and fails this by orders of magnitude.
    """
    return min(ours) <= 3 * max(theirs) and min(theirs) <= 3 * max(ours)


@pytest.mark.engine
async def test_neither_a_server_nor_the_proxy_before_it_changes_when_tokens_come(tmp_path: Path) -> None:
    """In process, through llama-cpp-python's own server, and through the proxy; in turn, one engine, one thread."""
    model = find_smollm2()
    assert model is not None
    answers: dict[str, list[RecordingSink]] = {"inside": [], "direct": [], "proxied": []}
    with closing(open_llama(model, threads=1, context=512)) as inside, python_server(model) as url:
        async with proxied(url, tmp_path / "t.db") as port:
            proxy = f"http://127.0.0.1:{port}"
            direct, passed = [await asyncio.to_thread(open_openai, one, "m") for one in (url, proxy)]
            runners: list[Runner] = [inside, direct, passed]
            for k in range(REPEATS):
                for j, (name, runner) in enumerate(zip(answers, runners, strict=True)):
                    prompt = PROMPTS[(k + 2 * j) % REPEATS]  # never one that the server has just had
                    answers[name] += await asyncio.to_thread(ask, runner, [prompt], TOKENS)
    for sinks in answers.values():
        assert [sink.output_tokens for sink in sinks] == [TOKENS] * REPEATS
    times = {name: list(zip(*map(ttft_and_itl_s, sinks), strict=True)) for name, sinks in answers.items()}
    for a, b in (("inside", "direct"), ("inside", "proxied"), ("direct", "proxied")):
        for what, ours, theirs in zip(("TTFT", "ITL"), times[a], times[b], strict=True):
            assert within_spread(ours, theirs), f"{what}, s: {a} {ours}, {b} {theirs}"
