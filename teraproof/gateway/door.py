# SPDX-License-Identifier: Apache-2.0
"""The local HTTP endpoint: OpenAI's API for programs that have a key of gateway.toml.

    GET  /v1/models, /v1/models/{id}        models, the lowest price, context limits, their hosts
    POST /v1/chat/completions, /v1/completions, /v1/embeddings, /v1/responses
    GET  /healthz                           without a key

Errors have the shape of OpenAI's, with the code of `teraproof.protocol.errors`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from teraproof import nesting
from teraproof.errors import LocalError, Refused
from teraproof.gateway import preferences
from teraproof.gateway.ask import Ask
from teraproof.gateway.attempt import Attempt
from teraproof.gateway.faults import RequestRefused
from teraproof.gateway.keys import Key
from teraproof.gateway.relay import Relay, Streamed
from teraproof.gateway.room import Part
from teraproof.gateway.settings import GatewaySettings
from teraproof.protocol.errors import CODE_HEADER, Code, one_line
from teraproof.protocol.inference import PATHS, Model

_STATUS: Mapping[Code, int] = {
    Code.BUDGET_SPENT: 402,
    Code.HOSTS_EXHAUSTED: 502,
    Code.FIELD_INVALID: 400,
}
PROVIDER_HEADER = "teraproof-provider"
COST_HEADER = "teraproof-cost"

Handler = Callable[[Request], Awaitable[Response]]


class Door:
    """See the module."""

    def __init__(self, relay: Relay, settings: GatewaySettings) -> None:
        self._relay, self._settings = relay, settings

    def app(self) -> Starlette:
        """The ASGI application."""
        routes = [
            Route("/healthz", self._health, methods=["GET"]),
            Route("/v1/models", self._models, methods=["GET"]),
            Route("/v1/models/{name:path}", self._model, methods=["GET"]),
            *(Route(path, self._answerer(kind), methods=["POST"]) for kind, path in PATHS.items()),
        ]
        handlers = {LocalError: _refused, HTTPException: _unknown, Exception: _failed}
        return Starlette(routes=routes, exception_handlers=handlers)  # type: ignore[arg-type] # its handlers take every exception

    # ------------------------------------------------------------------ models

    async def _health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok", "hosts": len(self._relay.hosts.every())})

    async def _models(self, request: Request) -> Response:
        key = self._key(request)
        return JSONResponse({"object": "list", "data": self._rows(key)})

    async def _model(self, request: Request) -> Response:
        key, name = self._key(request), request.path_params["name"]
        for row in self._rows(key):
            if row["id"] == name:
                return JSONResponse(row)
        raise Refused(Code.MODEL_UNKNOWN, f"{one_line(name, 80)}: no provider serves it now")

    def _rows(self, key: Key) -> list[dict[str, Any]]:
        offered: dict[str, list[tuple[str, Model]]] = {}
        for host in self._relay.hosts.every():
            for model in host.offer.models:
                if not key.models or model.name in key.models:
                    offered.setdefault(model.name, []).append((host.owner, model))
        return [self._row(name, offered[name]) for name in sorted(offered)]

    def _row(self, name: str, offers: list[tuple[str, Model]]) -> dict[str, Any]:
        """The least that any host asks, and the most that any host takes; each by itself below."""
        decimals = self._relay.means.decimals
        cheapest = min(
            (model for _, model in offers), key=lambda one: (one.prices.completion, one.name)
        )
        row = cheapest.listed(0, "teraproof", decimals)
        row["context_length"] = max(model.context for _, model in offers)
        row["top_provider"] = {
            "context_length": row["context_length"],
            "max_completion_tokens": max(model.max_completion for _, model in offers),
            "is_moderated": False,
        }
        row["kinds"] = sorted({kind for _, model in offers for kind in model.kinds})
        row["endpoints"] = [
            {**model.listed(0, owner, decimals), "provider": owner, **self._seen(owner, name)}
            for owner, model in offers
        ]
        return row

    def _seen(self, owner: str, model: str) -> dict[str, Any]:
        hosts, lineups = self._relay.hosts, self._relay.lineups
        seen = hosts.seen(owner, model)
        return {
            "latency_seconds": seen.latency,
            "throughput_tokens": seen.throughput,
            "answered": round(seen.reliability, 4),
            "valid": round(lineups.share(owner, model), 4),
            "verdict": lineups.verdict(owner, model).line,
            "left_out_seconds": round(hosts.out_for(owner)),
        }

    # ------------------------------------------------------------------ answers

    def _answerer(self, kind: str) -> Handler:
        async def answer(request: Request) -> Response:
            return await self._answer(kind, request)

        return answer

    async def _answer(self, kind: str, request: Request) -> Response:
        key, live = self._key(request), self._relay.live
        if live.running >= self._settings.listen.max_parallel:
            raise Refused(
                Code.SERVER_BUSY,
                f"{live.running} requests run; raise listen.max_parallel, or ask later",
            )
        live.running += 1
        room, answers = self._relay.means.room.part(), False

        def ended() -> None:
            live.running -= 1
            room.end()

        try:
            ask = await self._ask(kind, request, room)
            if not ask.streams:
                body, attempt = await self._relay.json(ask, key)
                room.hold(len(body))
                answers = True

                def left() -> None:
                    ended()
                    self._relay.answered(attempt, key)

                return _Whole(body, _shown(attempt), left)
            streamed = await self._relay.stream(ask, key)
            answers = True
            return _Stream(streamed, ended)
        except RequestRefused as error:
            return Response(
                error.body,
                error.status,
                media_type="application/json",
                headers={CODE_HEADER: error.code.value},
            )
        finally:
            if not answers:
                ended()

    def _key(self, request: Request) -> Key:
        return self._relay.means.keys.of(request.headers.get("authorization"))

    async def _ask(self, kind: str, request: Request, room: Part) -> Ask:
        most = self._settings.listen.max_body_bytes
        data = bytearray()
        try:
            async for piece in request.stream():
                data += piece
                room.take(len(piece))
                if len(data) > most:
                    raise Refused(
                        Code.BODY_TOO_LARGE,
                        f"the body is longer than {most} bytes (listen.max_body_bytes)",
                        limit=most,
                    )
        except ClientDisconnect:
            raise Refused(Code.BAD_REQUEST, "the client has gone") from None
        try:
            body = nesting.finite(bytes(data))
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            raise Refused(Code.BODY_INVALID, "the body is not a JSON object")
        wanted = preferences.read(body, self._settings.names)
        return Ask(kind, body, len(data), wanted)


class _Whole(Response):
    """An answer in one piece. What it holds is free again when the client has it, or is gone."""

    def __init__(self, body: bytes, headers: dict[str, str], ended: Callable[[], None]) -> None:
        super().__init__(body, media_type="application/json", headers=headers)
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._ended()


class _Stream(StreamingResponse):
    """A stream whose end does not hang on who reads it: a client may go before the first piece, or
    leave one unread.
    """

    def __init__(self, streamed: Streamed, ended: Callable[[], None]) -> None:
        headers = {**_shown(streamed.attempt, costs=False), "cache-control": "no-cache"}
        super().__init__(streamed.pieces, media_type="text/event-stream", headers=headers)
        self._streamed, self._ended = streamed, ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._ended()
            await self._streamed.end()


def _shown(attempt: Attempt, *, costs: bool = True) -> dict[str, str]:
    headers = {PROVIDER_HEADER: attempt.host.owner}
    if costs:
        headers[COST_HEADER] = f"{Decimal(str(attempt.cost)):f}"
    return headers


async def _refused(request: Request, error: LocalError) -> Response:
    return _answer(error.code, str(error), _STATUS.get(error.code, error.code.status or 500))


async def _unknown(request: Request, error: HTTPException) -> Response:
    code = Code.METHOD_NOT_ALLOWED if error.status_code == 405 else Code.ROUTE_UNKNOWN
    return _answer(code, "there is no such route here; see docs/inference.md", error.status_code)


async def _failed(request: Request, error: Exception) -> Response:
    return _answer(Code.INTERNAL, "a bug of the gateway; its log says more", 500)


def _answer(code: Code, line: str, status: int) -> Response:
    kind = "invalid_request_error" if status < 500 else "server_error"
    error = {"message": line, "type": kind, "code": code.value, "param": None}
    return JSONResponse({"error": error}, status, headers={CODE_HEADER: code.value})
