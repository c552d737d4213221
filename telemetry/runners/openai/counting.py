"""How many tokens a server makes of a text: by its `/tokenize`, else by the usage of an answer of one token."""

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import orjson

from telemetry.errors import RunnerError
from telemetry.runners.base import Prompt
from telemetry.runners.openai.asking import Form, short_answer

if TYPE_CHECKING:
    import httpx


class TokenCounter:
    """Counts with one server.

    The first text is counted in every way that there is. A way to tokenize is used from then on if it agrees with the
    usage, which is the count that a run will have; it costs no prefill.
    """

    def __init__(self, connect: Callable[[], "httpx.AsyncClient"], form: Form, timeout_s: float) -> None:
        self._connect, self._form, self._timeout_s = connect, form, timeout_s
        self._way: Callable[[Form, str], Mapping[str, Any]] | None = None
        self._tried = False

    async def count(self, text: str) -> int:
        """Return the tokens of the text as a prompt. Raises RunnerError where the server does not tell."""
        async with self._connect() as client:
            if self._way is not None:
                counted = await self._tokenize(client, self._way(self._form, text))
                if counted is None:
                    raise RunnerError("The server's /tokenize answered before and does not now. Look into its log.")
                return counted
            told = (
                await short_answer(client, self._form, Prompt(text=text, max_tokens=1), self._timeout_s)
            ).input_tokens
            if told is None:
                raise RunnerError(
                    "The server does not tell how many tokens a prompt has, so no prompt of a set length can be made "
                    "for it. Give prompts as texts, or take a server that tells its usage."
                )
            for way in () if self._tried else (_as_vllm, _as_llama_server):
                if await self._tokenize(client, way(self._form, text)) == told:
                    self._way = way
                    break
            self._tried = True
            return told

    async def _tokenize(self, client: "httpx.AsyncClient", body: Mapping[str, Any]) -> int | None:
        """Return what `/tokenize`, which lies beside the API, counts; None where it does not answer that."""
        import httpx

        try:
            async with asyncio.timeout(self._timeout_s):
                response = await client.post(client.base_url.join("/tokenize"), content=orjson.dumps(body))
            told = orjson.loads(response.content) if response.status_code == 200 else None
        except (TimeoutError, httpx.HTTPError, ValueError):
            return None
        tokens = told.get("tokens") if isinstance(told, dict) else None
        return len(tokens) if isinstance(tokens, list) else None


def _as_vllm(form: Form, text: str) -> Mapping[str, Any]:
    return {"model": form.model, **form.text(text)}


def _as_llama_server(form: Form, text: str) -> Mapping[str, Any]:
    return {"content": text, "add_special": True, "parse_special": True}  # as it reads a prompt itself
