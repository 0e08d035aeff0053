# SPDX-License-Identifier: Apache-2.0
"""A server with OpenAI's API that is played: its answers are words without a meaning.

A real HTTP server on a loop of its own, quick enough that what is measured is in front of it. A
test says what it does wrong (`faults`), and sees what it was asked (`asked`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

WORD = " word"


@dataclass
class Faults:
    """What it does wrong, and how fast it is."""

    status: int = 200
    """Of every answer to a POST."""
    dies_after: int | None = None
    """Tokens of a stream after which the connection is cut."""
    no_end: bool = False
    """Streams end without their last event."""
    no_usage: bool = False
    prompt_tokens: int = 7
    pause: float = 0.0
    """Seconds before each token of a stream, and before other answers."""
    extra: bytes = b""
    """Sent first in a stream."""
    body: bytes | None = None
    """In the place of an answer in one piece."""


@dataclass
class ModelServer:
    """See the module. Use `running`."""

    faults: Faults = field(default_factory=Faults)
    asked: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    keeps: bool = True
    """Whether it keeps what it was asked."""
    cut: int = 0
    """Streams whose client has gone away."""
    url: str = ""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.decode("latin-1").split("\r\n")
                method, path, _ = lines[0].split(" ", 2)
                fields = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
                body = await reader.readexactly(int(fields.get("content-length", "0")))
                if method == "GET":
                    _answer(writer, 200, b'{"object":"list","data":[]}')
                else:
                    asked = json.loads(body)
                    if self.keeps:
                        self.asked.append(asked)
                        self.paths.append(path)
                        self.keys.append(fields.get("authorization", ""))
                    if not await self._post(path, asked, writer):
                        return
                await writer.drain()
        except asyncio.IncompleteReadError:
            return
        except ConnectionError:
            self.cut += 1
        finally:
            writer.close()

    async def _post(self, path: str, asked: dict[str, Any], writer: asyncio.StreamWriter) -> bool:
        faults = self.faults
        if faults.status != 200:
            said = json.dumps({"error": {"message": "not so", "type": "invalid"}}).encode()
            _answer(writer, faults.status, said)
            return True
        if asked.get("stream"):
            return await self._stream(path, asked, writer)
        if faults.pause:
            await asyncio.sleep(faults.pause)
        _answer(writer, 200, faults.body if faults.body is not None else self._whole(path, asked))
        return True

    def _tokens(self, asked: dict[str, Any]) -> int:
        for name in ("max_completion_tokens", "max_tokens", "max_output_tokens"):
            if asked.get(name) is not None:
                return int(asked[name])
        return 16

    def _usage(self, completion: int) -> dict[str, int]:
        prompt = self.faults.prompt_tokens
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }

    def _whole(self, path: str, asked: dict[str, Any]) -> bytes:
        tokens = self._tokens(asked)
        text, model = WORD * tokens, asked["model"]
        found: dict[str, Any]
        if path.endswith("/embeddings"):
            data = [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}]
            found = {"object": "list", "data": data, "model": model, "usage": self._usage(0)}
        elif path.endswith("/responses"):
            usage = {"input_tokens": 7, "output_tokens": tokens, "total_tokens": 7 + tokens}
            found = {**_response(model, text), "usage": usage}
        else:
            chat = path.endswith("/chat/completions")
            said: dict[str, Any] = (
                {"message": _message(asked, text)} if chat else {"text": text, "logprobs": None}
            )
            choice = {"index": 0, "finish_reason": "length", **said}
            found = {
                "id": "x", "object": "chat.completion" if chat else "text_completion",
                "created": 1, "model": model, "choices": [choice], "usage": self._usage(tokens),
            }  # fmt: skip
        if self.faults.no_usage:
            found.pop("usage", None)
        return json.dumps(found).encode()

    async def _stream(self, path: str, asked: dict[str, Any], writer: asyncio.StreamWriter) -> bool:
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        if self.faults.extra:
            _chunk(writer, self.faults.extra)
        tokens, model = self._tokens(asked), asked["model"]
        for number in range(tokens):
            if number == self.faults.dies_after:
                await writer.drain()
                writer.transport.abort()
                return False
            if self.faults.pause:
                await asyncio.sleep(self.faults.pause)
            if writer.transport.is_closing():
                self.cut += 1
                return False
            _chunk(writer, _piece(path, model, number, asked))
            await writer.drain()
        if not self.faults.no_end:
            for event in self._ends(path, model, tokens, asked):
                _chunk(writer, event)
        writer.write(b"0\r\n\r\n")
        return True

    def _ends(self, path: str, model: str, tokens: int, asked: dict[str, Any]) -> Iterator[bytes]:
        if path.endswith("/responses"):
            usage = {"input_tokens": 7, "output_tokens": tokens, "total_tokens": 7 + tokens}
            whole = {**_response(model, WORD * tokens), "usage": usage}
            done = {"type": "response.completed", "response": whole, "sequence_number": tokens}
            yield b"event: response.completed\n" + _event(done)
            return
        options = asked.get("stream_options") or {}
        if options.get("include_usage") and not self.faults.no_usage:
            yield _event({**_frame(path, model), "choices": [], "usage": self._usage(tokens)})
        yield b"data: [DONE]\n\n"


def _message(asked: dict[str, Any], text: str) -> dict[str, Any]:
    if asked.get("tools"):
        name = asked["tools"][0]["function"]["name"]
        call = {"id": "c", "type": "function", "function": {"name": name, "arguments": "{}"}}
        return {"role": "assistant", "content": None, "tool_calls": [call]}
    return {"role": "assistant", "content": text}


def _response(model: str, text: str) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": []}]
    message = {
        "id": "m", "type": "message", "role": "assistant", "status": "completed",
        "content": content,
    }  # fmt: skip
    return {
        "id": "r", "object": "response", "created_at": 1, "model": model, "status": "completed",
        "output": [message], "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
    }  # fmt: skip


def _frame(path: str, model: str) -> dict[str, Any]:
    chat = path.endswith("/chat/completions")
    kind = "chat.completion.chunk" if chat else "text_completion"
    return {"id": "x", "object": kind, "created": 1, "model": model}


def _piece(path: str, model: str, number: int, asked: dict[str, Any]) -> bytes:
    if path.endswith("/responses"):
        delta = {
            "type": "response.output_text.delta", "delta": WORD, "item_id": "m",
            "output_index": 0, "content_index": 0, "sequence_number": number, "logprobs": [],
        }  # fmt: skip
        return b"event: response.output_text.delta\n" + _event(delta)
    said: dict[str, Any] = (
        {"delta": {"content": WORD}} if path.endswith("/chat/completions") else {"text": WORD}
    )
    if asked.get("logprobs"):
        entry = {"token": WORD, "logprob": -0.5, "bytes": None, "top_logprobs": []}
        said["logprobs"] = {"content": [entry]}
    choice = {"index": 0, "finish_reason": None, **said}
    frame = {**_frame(path, model), "choices": [choice]}
    if (asked.get("stream_options") or {}).get("include_usage"):
        frame["usage"] = None
    return _event(frame)


def _event(document: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def _chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(b"%x\r\n%s\r\n" % (len(data), data))


def _answer(writer: asyncio.StreamWriter, status: int, body: bytes) -> None:
    head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    writer.write(f"{head}\r\n\r\n".encode() + body)


@contextlib.contextmanager
def running(server: ModelServer | None = None) -> Iterator[ModelServer]:
    """The server on a free port of this machine, in a thread; `url` is its base URL."""
    found = server or ModelServer()
    started, loop = threading.Event(), asyncio.new_event_loop()
    stopping = asyncio.Event()

    async def serve() -> None:
        listener = await asyncio.start_server(found._serve, "127.0.0.1", 0, backlog=2_048)
        found.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1"
        started.set()
        await stopping.wait()
        listener.close()

    def run() -> None:
        loop.run_until_complete(serve())
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.close()

    thread = threading.Thread(target=run, name="model server", daemon=True)
    thread.start()
    started.wait()
    try:
        yield found
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join()
