"""An OpenAI-compatible server that says what a test tells it to, byte by byte, and misbehaves on request."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

CUT = object()  # as a step: the connection is dropped in the middle of the body
HOLD = object()  # as a step: nothing more is said until the server is closed

Step = bytes | float | threading.Event | object  # sent as they are; waited for, s; waited for; see above


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request as it came."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def prompt(self) -> str:
        """The prompt, of either way to ask."""
        asked = self.body["messages"][0]["content"] if "messages" in self.body else self.body["prompt"]
        assert isinstance(asked, str)
        return asked

    @property
    def chat(self) -> bool:
        """Whether it was asked as a message."""
        return self.path.endswith("/chat/completions")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What is sent back: each step of bytes is a piece of the body and a packet of its own."""

    steps: Sequence[Step] = ()
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


def event(data: object) -> bytes:
    """Return a server-sent event."""
    return b"data: " + (data if isinstance(data, bytes) else json.dumps(data, ensure_ascii=False).encode()) + b"\n\n"


DONE = event(b"[DONE]")
STREAM = {"Content-Type": "text/event-stream"}


def piece(text: str = "", *, chat: bool = False, finish: str | None = None, **beside: Any) -> dict[str, Any]:
    """Return a chunk with one choice; what is beside the choice goes to the chunk, `ids` into the choice."""
    choice: dict[str, Any] = {"index": 0, "finish_reason": finish}
    if "ids" in beside:
        choice["token_ids"] = beside.pop("ids")
    choice |= {"delta": {"content": text}} if chat else {"text": text}
    return {"choices": [choice], **beside}


def usage(output: int, *, prompt: int = 3, cached: int | None = 0) -> dict[str, Any]:
    """Return a usage object."""
    details = None if cached is None else {"cached_tokens": cached}
    return {"completion_tokens": output, "prompt_tokens": prompt, "prompt_tokens_details": details}


def counting(asked: Asked) -> Reply:
    """Answer as vLLM does: an event and a running count for each token, ids where asked, one usage at the end."""
    prompt, limit = len(asked.prompt.split()), asked.body["max_tokens"]
    steps = []
    if asked.chat:
        role = {"choices": [{"index": 0, "finish_reason": None, "delta": {"role": "assistant", "content": ""}}]}
        steps.append(event(role | {"usage": usage(0, prompt=prompt)}))
    for n in range(1, limit + 1):
        finish = "length" if n == limit else None
        told = usage(n, prompt=prompt)
        steps.append(event(piece(f"watt{n} ", chat=asked.chat, finish=finish, ids=[n], usage=told, model="org/m")))
    return Reply(steps=[*steps, event({"choices": [], "usage": usage(limit, prompt=prompt)}), DONE], headers=STREAM)


def telling(*steps: Step) -> Callable[[Asked], Reply]:
    """Return an answer that is the same whatever is asked."""
    return lambda asked: Reply(steps=steps, headers=STREAM)


class ScriptedServer:
    """A server on loopback in a thread of its own, for `with`.

    The short request of an opening (its prompt is `Hi`) is answered by `opening`, every other by `answer`.
    tokenize: what `/tokenize` answers to a body; None: there is none.
    """

    def __init__(
        self,
        answer: Callable[[Asked], Reply],
        opening: Callable[[Asked], Reply] = counting,
        tokenize: Callable[[dict[str, Any]], Reply] | None = None,
    ) -> None:
        self.answer, self._opening, self._tokenize = answer, opening, tokenize
        self.asked: list[Asked] = []
        self.mark_ns: list[int] = []  # when each reply had sent its first step
        self.under_way = self.most_under_way = 0
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="scripted-server")

    def __enter__(self) -> Self:
        self._thread.start()
        server = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._serve, "127.0.0.1", 0), self._loop)
        self._server = server.result()
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def prompts(self) -> list[str]:
        """What was asked after the opening, in order."""
        return [asked.prompt for asked in self.asked if asked.prompt != "Hi"]

    async def _stop(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; return whether the connection may be used for another."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, path, _ = head[0].split()
        headers = {name.lower(): value for line in head[1:] if line for name, value in [line.split(": ", 1)]}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        if method == "GET" or path == "/tokenize":
            known = self._tokenize if path == "/tokenize" else None
            return await self._send(writer, known(json.loads(body)) if known else _about(path))
        asked = Asked(path=path, headers=headers, body=json.loads(body))
        self.asked.append(asked)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            return await self._send(writer, (self._opening if asked.prompt == "Hi" else self.answer)(asked))
        finally:
            self.under_way -= 1

    async def _send(self, writer: asyncio.StreamWriter, reply: Reply) -> bool:
        head = [f"HTTP/1.1 {reply.status} Scripted", "Transfer-Encoding: chunked"]
        head += [f"{name}: {value}" for name, value in reply.headers.items()]
        writer.write("\r\n".join([*head, "", ""]).encode())
        for k, step in enumerate(reply.steps):
            if step is CUT:
                return False
            await self._step(writer, step)
            if k == 0:
                self.mark_ns.append(time.monotonic_ns())
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True

    async def _step(self, writer: asyncio.StreamWriter, step: Step) -> None:
        if isinstance(step, bytes):
            writer.write(f"{len(step):x}\r\n".encode() + step + b"\r\n")
            await writer.drain()
        elif isinstance(step, float):
            await asyncio.sleep(step)
        elif isinstance(step, threading.Event):
            while not step.is_set():
                await asyncio.sleep(0.002)
        elif step is HOLD:
            await asyncio.Event().wait()


def _about(path: str) -> Reply:
    if path == "/version":
        return Reply(steps=[b'{"version": "1.2.3"}'])
    return Reply(status=404, steps=[b'{"detail": "Not Found"}'])


def pieces(body: bytes, *, size: int) -> Iterable[bytes]:
    """Return a body cut into pieces of `size` bytes, wherever that falls."""
    return (body[k : k + size] for k in range(0, len(body), size))
