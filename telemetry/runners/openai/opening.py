"""A server found, asked what it is, and tried with one short request."""

import asyncio
import ipaddress
import logging
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import orjson

from telemetry.errors import RunnerError, UsageError
from telemetry.runners.base import Prompt, RunnerInfo
from telemetry.runners.openai.arrivals import arrivals_s
from telemetry.runners.openai.asking import Api, Form, RequestFailed, short_answer
from telemetry.runners.openai.chunks import Tally
from telemetry.runners.openai.runner import Load, OpenAIRunner

if TYPE_CHECKING:
    import httpx

KEY = "OPENAI_API_KEY"
CONNECT_S = 10.0

_USAGE = {"include_usage": True}
_COUNTS = {
    "stream_options": {**_USAGE, "continuous_usage_stats": True},  # vLLM, SGLang: a running count in each chunk
    "return_token_ids": True,  # vLLM, SGLang
    "timings_per_token": True,  # llama-server: a running count in each chunk
    "cache_prompt": False,  # llama-server: computes every prompt in full
}
# From the most telling to what every server takes; the first that is not refused is used. Most servers ignore
# what they do not know. One release of vLLM refuses a salt, and transformers serve refuses everything unknown.
FIELDS: tuple[Mapping[str, Any], ...] = (
    {**_COUNTS, "cache_salt": ""},  # vLLM: keeps a prompt from being answered out of a former one's cache
    _COUNTS,
    {"stream_options": _USAGE},
    {},
)
# Where servers tell their versions, below the host: vLLM, Ollama, llama-server, TGI, SGLang.
_VERSIONS = {
    "/version": "version",
    "/api/version": "version",
    "/props": "build_info",
    "/info": "version",
    "/get_server_info": "version",
}
log = logging.getLogger("telemetry")


def open_openai(
    base_url: str,
    model: str,
    *,
    api: Api = "completions",
    load: Load | None = None,
) -> OpenAIRunner:
    """Find out what a server is and what it tells, with one request of 4 tokens, so that its model is loaded then.

    base_url: as other clients take it, `http://127.0.0.1:8000/v1`; without a path `/v1` is added. The API key is
    taken from OPENAI_API_KEY and goes nowhere but into the requests' headers.
    Raises UsageError for a URL or load that cannot be; RunnerError when httpx is not installed, nothing answers,
    or the server refuses the short request.
    """
    url, load = _checked(base_url), load or Load()
    _check(load)
    key = os.environ.get(KEY, "").strip()
    connect = _connector(url, key)

    def redact(words: str) -> str:
        return words.replace(key, "***") if key else words

    try:
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as loop:
            form, tried, version = loop.run(_look(connect, Form(api=api, model=model, fields={}), load.timeout_s))
    except RunnerError as error:
        raise RunnerError(redact(str(error))) from None  # whose causes may hold the key
    if tried.counts == "none":
        log.warning(
            "The server at %s does not tell how many tokens it generates: pieces of text are counted instead, which "
            "are fewer, and energy per token comes out too high. Compare such runs by joules per request.",
            url,
        )
    info = RunnerInfo(
        runner="openai",
        model=model,
        engine_version=redact(" ".join(part for part in (tried.told_by, version) if part) or "unknown"),
        concurrency=load.concurrency,
        settings={
            "base_url": url,
            "api": api,
            "server": tried.told_by or "unknown",
            "server_model": tried.model and redact(tried.model),
            "server_counts": tried.counts,
            "fields": sorted(form.fields),
            "temperature": 0.0,
            "arrival": load.arrival,
            "request_rate": load.rate,
            "seed": load.seed,
            "timeout_s": load.timeout_s,
            "retries": load.retries,
        },
    )
    return OpenAIRunner(info, form, load, connect=connect, redact=redact)


def _checked(base_url: str) -> str:
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{base_url} is no URL of a server. Give one such as http://127.0.0.1:8000/v1.")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UsageError(
            f"The URL of {parts.hostname} has a user, a password or a query in it, and the store would keep them. "
            f"Give it without, and the key in the environment variable {KEY}."
        )
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/') or '/v1'}"


def _check(load: Load) -> None:
    if load.concurrency < 1 or load.retries < 0 or not load.timeout_s > 0:
        raise UsageError(
            f"A load needs a concurrency of 1 or more, no fewer than 0 retries and a time-out above 0 s, not {load}."
        )
    arrivals_s(1, arrival=load.arrival, rate=load.rate, seed=load.seed)


def _connector(url: str, key: str) -> Callable[[], "httpx.AsyncClient"]:
    """Return what opens a client. The certificates are read once, here, and not at the start of each run."""
    try:
        import httpx
    except ModuleNotFoundError as error:
        raise RunnerError("httpx is not installed. Get it with pip install 'telemetry[http]'.") from error
    if not (key.isascii() and key.isprintable()):
        raise RunnerError(f"{KEY} has characters that no key can have. Set it to the key alone.")  # without showing it
    headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    certificates = httpx.create_ssl_context()
    # On this machine each request has its own connection: llama-server drops about one in 100 that is used again.
    remote = not _is_loopback(urlsplit(url).hostname or "")

    def connect() -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=url,
            headers=headers,
            verify=certificates,
            trust_env=remote,  # a proxy that the environment names has no business on this machine
            timeout=httpx.Timeout(None, connect=CONNECT_S),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=None if remote else 0),
        )

    return connect


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _look(
    connect: Callable[[], "httpx.AsyncClient"], form: Form, timeout_s: float
) -> tuple[Form, Tally, str | None]:
    """Return how this server is best asked, the tally of a short answer, and its version."""
    async with connect() as client:
        form, tally = await _try(client, form, timeout_s)
        return form, tally, await _version(client, timeout_s)


async def _try(client: "httpx.AsyncClient", plain: Form, timeout_s: float) -> tuple[Form, Tally]:
    refused: RequestFailed | None = None
    for fields in FIELDS:
        form = Form(api=plain.api, model=plain.model, fields=fields)
        try:
            return form, await short_answer(client, form, Prompt(text="Hi", max_tokens=4), timeout_s)
        except RequestFailed as error:
            if error.status not in (400, 422):
                raise
            refused = refused or error  # the first says most: the later ones ask for less
    assert refused is not None
    raise refused


async def _version(client: "httpx.AsyncClient", timeout_s: float) -> str | None:
    """Return the version that the server tells; None where it does not."""
    import httpx

    for path, name in _VERSIONS.items():
        try:
            async with asyncio.timeout(min(timeout_s, CONNECT_S)):
                response = await client.get(client.base_url.join(path))
            told = orjson.loads(response.content) if response.status_code == 200 else None
        except (TimeoutError, httpx.HTTPError, ValueError):  # it answers requests, which is what matters
            continue
        if isinstance(told, dict) and isinstance(told.get(name), str):
            return str(told[name])
    return None
