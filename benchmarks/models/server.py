# SPDX-License-Identifier: Apache-2.0
"""The real models behind OpenAI's API: chat with streams and schemas, completions, embeddings."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from benchmarks.models import chat, places
from benchmarks.models.chat import BadRequest, Call
from benchmarks.models.embeddings import Embedder
from benchmarks.models.engine import Engine, EngineError, Run, Settings
from benchmarks.models.faulty import Faulty
from benchmarks.models.text import Text
from benchmarks.models.vocabulary import Vocabulary, entry, of_weights
from teraproof import nesting

#: The largest body of a request, texts of one embedding request, and requests that wait.
LARGEST, BATCH, WAITING = 2**20, 64, 64
EVENTS = {"cache-control": "no-store"}


@dataclass
class Server:
    """The routes, and what they share."""

    settings: Settings
    name: str = places.CHAT
    faulty: Faulty = field(default_factory=Faulty)
    engine: Engine = field(init=False)
    words: Vocabulary = field(default_factory=lambda: of_weights(places.chat_weights()))
    embedder: Embedder | None = None
    open: int = 0

    def application(self) -> Starlette:
        """The application; its engine starts and stops with it."""

        @contextlib.asynccontextmanager
        async def life(_: Starlette) -> AsyncIterator[None]:
            async with Engine(self.settings) as self.engine:
                yield

        return Starlette(
            routes=[
                Route("/health", self.health),
                Route("/v1/models", self.models),
                Route("/v1/chat/completions", self.chat, methods=["POST"]),
                Route("/v1/completions", self.completions, methods=["POST"]),
                Route("/v1/embeddings", self.embeddings, methods=["POST"]),
            ],
            lifespan=life,
        )

    async def health(self, _: HttpRequest) -> Response:
        """Whether the server is up."""
        return JSONResponse({"status": "ok"})

    async def models(self, _: HttpRequest) -> Response:
        """What is served."""
        names = [self.name, places.EMBEDDING]
        rows = [
            {"id": name, "object": "model", "created": 0, "owned_by": "local"} for name in names
        ]
        rows[0]["context_length"] = self.settings.context
        return JSONResponse({"object": "list", "data": rows})

    async def chat(self, request: HttpRequest) -> Response:
        """`/v1/chat/completions`."""
        return await self._answer(request, True)

    async def completions(self, request: HttpRequest) -> Response:
        """`/v1/completions`."""
        return await self._answer(request, False)

    async def embeddings(self, request: HttpRequest) -> Response:
        """`/v1/embeddings`."""
        try:
            body = await _body(request)
            texts = body.get("input") if isinstance(body, dict) else None
            texts = [texts] if isinstance(texts, str) else texts
            if not isinstance(texts, list) or not 0 < len(texts) <= BATCH:
                raise BadRequest(f"input: a text, or a list of 1 to {BATCH} texts")
            if not all(isinstance(each, str) and each for each in texts):
                raise BadRequest("input: texts that are not empty")
            if body.get("encoding_format", "float") != "float":
                raise BadRequest("encoding_format: float")
            if self.embedder is None:
                self.embedder = await asyncio.to_thread(Embedder)
            tokens = self.embedder.tokens(texts)
            vectors = await asyncio.to_thread(self.embedder.vectors, tokens)
        except (BadRequest, ValueError) as error:
            return _error(400, str(error))
        count = sum(map(len, tokens))
        data = [
            {"object": "embedding", "index": place, "embedding": vector}
            for place, vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": count, "total_tokens": count}
        return JSONResponse(
            {"object": "list", "data": data, "model": places.EMBEDDING, "usage": usage}
        )

    async def _answer(self, request: HttpRequest, is_chat: bool) -> Response:
        try:
            call = chat.read(await _body(request), is_chat)
        except BadRequest as error:
            return _error(400, str(error))
        if self.open >= WAITING:
            return _error(503, "too many requests wait: try again later")
        answer = Answering(self, call, is_chat)
        chunks = answer.chunks()
        try:
            first = await anext(chunks)
        except EngineError as error:
            return _error(400, str(error))
        if call.stream:
            return StreamingResponse(
                answer.events(first, chunks), media_type="text/event-stream", headers=EVENTS
            )
        try:
            pieces = [first, *[each async for each in chunks]]
        except EngineError as error:
            return _error(500, str(error))
        return JSONResponse(answer.document(pieces))


@dataclass
class Piece:
    """What a token adds to an answer."""

    text: str
    entry: dict[str, Any] | None


class Answering:
    """One answer, as pieces, as a document, and as events of a stream."""

    def __init__(self, server: Server, call: Call, is_chat: bool) -> None:
        self._server = server
        self._call = call
        self._chat = is_chat
        self._run = Run()
        self._finish = ""
        kind = "chat.completion" if is_chat else "text_completion"
        self._head: dict[str, Any] = {
            "id": f"{'chatcmpl' if is_chat else 'cmpl'}-{uuid.uuid4().hex}",
            "object": f"{kind}.chunk" if is_chat and call.stream else kind,
            "created": int(time.time()),
            "model": server.name,
        }

    async def chunks(self) -> AsyncIterator[Piece]:
        """The pieces of the answer, one per token and one at the end. EngineError as it comes."""
        server, call, run = self._server, self._call, self._run
        text = Text(call.stop)
        broken = call.request.schema is not None and server.faulty.breaks()
        written = ""
        server.open += 1
        try:
            async with contextlib.aclosing(server.engine.generate(call.request, run)) as tokens:
                async for token in tokens:
                    data = server.words.bytes_of(token.id)
                    named = None
                    if call.logprobs:
                        named = entry(server.words, token.id, token.logprob, token.top)
                    piece = text.add(data)
                    written += piece
                    yield Piece(piece.replace("}", "") if broken else piece, named)
                    whole = call.request.schema is not None and _is_json(written)
                    if text.stopped or whole or server.faulty.ends(len(run.tokens)):
                        run.end = "stop"
                        break
        finally:
            server.open -= 1
        self._finish = run.end
        yield Piece(text.add(b"", last=True), None)

    def usage(self) -> dict[str, int]:
        """The tokens that the answer has cost, as this server says."""
        completion = self._server.faulty.count(len(self._run.tokens))
        total = self._run.prompt + completion
        return {
            "prompt_tokens": self._run.prompt,
            "completion_tokens": completion,
            "total_tokens": total,
        }

    def document(self, pieces: list[Piece]) -> dict[str, Any]:
        """The answer as one document."""
        content = "".join(each.text for each in pieces)
        entries = [each.entry for each in pieces if each.entry is not None]
        choice: dict[str, Any] = {"index": 0, "finish_reason": self._reason()}
        if self._chat:
            choice["message"] = {"role": "assistant", **self._content(content)}
            choice["logprobs"] = {"content": entries} if self._call.logprobs else None
        else:
            choice["text"] = content
            choice["logprobs"] = _legacy(entries) if self._call.logprobs else None
        return {**self._head, "choices": [choice], "usage": self.usage()}

    async def events(self, first: Piece, rest: AsyncIterator[Piece]) -> AsyncIterator[str]:
        """The answer as server-sent events. A failure is one event, and the end."""
        try:
            if self._chat:
                yield self._event({"role": "assistant", "content": ""}, None, None)
            yield self._part(first)
            async for piece in rest:
                yield self._part(piece)
        except EngineError as error:
            yield _event({"error": {"message": str(error), "type": "server_error"}})
            return
        yield self._event({}, None, self._reason())
        if self._call.usage:
            yield _event({**self._head, "choices": [], "usage": self.usage()})
        yield "data: [DONE]\n\n"

    def _reason(self) -> str:
        return "tool_calls" if self._call.tool and self._finish == "stop" else self._finish

    def _content(self, content: str) -> dict[str, Any]:
        if self._call.tool is None:
            return {"content": content}
        function = {"name": self._call.tool, "arguments": content}
        call = {"id": f"call_{self._head['id'][-12:]}", "type": "function", "function": function}
        return {"content": None, "tool_calls": [call]}

    def _part(self, piece: Piece) -> str:
        entries = [piece.entry] if piece.entry is not None else []
        if not self._chat or self._call.tool is None:
            return self._event({"content": piece.text}, entries, None)
        delta = self._content(piece.text)
        delta["tool_calls"][0]["index"] = 0
        return self._event(delta, entries, None)

    def _event(
        self, delta: dict[str, Any], entries: list[dict[str, Any]] | None, reason: str | None
    ) -> str:
        choice: dict[str, Any] = {"index": 0, "finish_reason": reason}
        logprobs = entries if self._call.logprobs and entries else None
        if self._chat:
            choice["delta"] = delta
            choice["logprobs"] = {"content": logprobs} if logprobs else None
        else:
            choice["text"] = delta.get("content", "")
            choice["logprobs"] = _legacy(logprobs) if logprobs else None
        return _event({**self._head, "choices": [choice]})


def _is_json(text: str) -> bool:
    """Whether a text is a whole document: what a schema lets follow is white space."""
    if not text.rstrip().endswith(("}", "]")):
        return False
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _legacy(entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Logprobs in the form of `/v1/completions`."""
    return {
        "tokens": [each["token"] for each in entries],
        "token_logprobs": [each["logprob"] for each in entries],
        "top_logprobs": [
            {one["token"]: one["logprob"] for one in each["top_logprobs"]} for each in entries
        ],
    }


def _event(document: dict[str, Any]) -> str:
    return f"data: {json.dumps(document)}\n\n"


def _error(status: int, line: str) -> Response:
    kind = "invalid_request_error" if status == 400 else "server_error"
    return JSONResponse({"error": {"message": line, "type": kind, "code": None}}, status)


async def _body(request: HttpRequest) -> Any:
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > LARGEST:
            raise BadRequest(f"the body is larger than {LARGEST} bytes")
    try:
        return nesting.loads(bytes(data))
    except (ValueError, RecursionError):
        raise BadRequest("the body is not JSON") from None
