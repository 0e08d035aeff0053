# SPDX-License-Identifier: Apache-2.0
"""The agent's HTTP API, and the thread that serves it.

Wiring: build an `ApiDeps`, then `ApiServer(create_app(deps), host, port).start()`; `stop()` ends.

    ApiDeps(
        auth=Authenticator(store, siwe.Expected.at(public_url, chain_id), eth_call),
        jobs=...,          # JobDirectory: job(job_id) -> JobView | None
        specs=store,       # SpecStore: put_spec, spec, spec_usage, spec_bytes, is_named
        inputs=InputStorage(data_dir / "inputs", StorageLimits(...)),
        may_upload=...,    # (address, sha256, size) -> bool: an input of a job or quote of theirs;
                           # Refused when it is one, and the provider would not run the job
        provider=...,      # () -> JSON of GET /v1/provider
        health=Health(last_cycle, max_age, clock, checks),
        metrics=Metrics(),
        quotes=...,        # QuoteIssuer: issue(requester, spec) -> (Quote, signature); or None
    )

Everything in it is called from worker threads, several at once. Answers are JSON unless they are
files; errors are `{"error": "one line"}`. AgentErrors of `jobs`, `provider` and `may_upload` are
failures of this side and are answered without their text; what `quotes` raises is for the tenant,
and so is Refused.

    GET  /healthz /readyz /metrics /v1/provider
    POST /v1/auth/nonce                     -> nonce, domain, uri, chain_id, expires
    POST /v1/auth/login {message, signature}-> token, address, expires
    HEAD, PUT /v1/specs/{sha256}            canonical job specification
    HEAD, PUT /v1/inputs/{sha256}           one input file, Content-Length needed
    POST /v1/quotes {spec}                  -> quote (integers as text), signature
    GET  /v1/jobs/{id}                      and /receipt, /logs?offset=N&limit=N
    GET  /v1/jobs/{id}/result               manifest; /result/{path} (Range: bytes=N-), /result.tar
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import json
import logging
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Protocol

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from provider_agent.api import jobs as job_files
from provider_agent.api.auth import Authenticator, RateLimit
from provider_agent.api.health import Health
from provider_agent.api.jobs import JobDirectory, JobView
from provider_agent.api.storage import DigestMismatch, InputStorage, QuotaError
from provider_agent.errors import AgentError, AuthError, Refused, SpecError
from provider_agent.metrics import CONTENT_TYPE, Metrics
from provider_agent.protocol import jobspec, messages
from provider_agent.protocol.digests import Entry, check_path, is_hex_digest, parse_manifest
from provider_agent.protocol.siwe import MAX_MESSAGE_BYTES, MAX_SIGNATURE_BYTES
from teraproof.rpc.errors import ChainError

log = logging.getLogger(__name__)

_JSON_BYTES = 2 * (MAX_MESSAGE_BYTES + MAX_SIGNATURE_BYTES) + 1_024
_WRITE_BYTES = 1 << 20
_HEADER_BYTES = 16 << 10
_RANGE = re.compile(r"bytes=([0-9]{1,18})-")

Handler = Callable[[Request], Awaitable[Response]]


class SpecStore(Protocol):
    """Where specifications are kept, by the sha256 of their canonical bytes."""

    def put_spec(self, digest: bytes, body: bytes, uploader: str) -> None:
        """Keep a specification; a second time changes nothing."""
        ...

    def spec(self, digest: bytes) -> bytes | None:
        """The bytes of a specification, or None."""
        ...

    def spec_usage(self, uploader: str | None = None) -> tuple[int, int]:
        """Specifications that no job names, of one account or of all: how many, how many bytes."""
        ...

    def spec_bytes(self) -> int:
        """How many bytes all specifications take."""
        ...

    def is_named(self, digest: bytes) -> bool:
        """Whether a job on chain names the specification."""
        ...


class QuoteIssuer(Protocol):
    """Makes and signs quotes."""

    def issue(self, requester: str, spec: jobspec.JobSpec) -> tuple[messages.Quote, bytes]:
        """A quote for this requester and its signature. AgentError tells the tenant why not."""
        ...


@dataclass(frozen=True)
class ApiLimits:
    """What a stranger can cost; seconds and bytes."""

    header_seconds: float = 10
    """For the head of a request, and for an idle connection."""
    body_seconds: float = 10
    """For a small body, and between two pieces of an upload."""
    upload_rate: int = 16 << 10
    """Slowest upload tolerated over its whole length, bytes per second."""
    uploads: int = 32
    uploads_per_account: int = 4
    connections: int = 256
    auth_per_minute: int = 30
    auth_burst: int = 30
    specs_per_minute: int = 120
    """Specifications that an account may send; each costs a little time to check."""
    specs_per_account: int = 32
    """Specifications of an account that no job names yet; posting one costs money."""
    spec_bytes_per_account: int = 2 << 20
    unnamed_spec_bytes: int = 256 << 20
    """Of all accounts together; `spec_bytes` counts those that jobs name as well."""
    spec_bytes: int = 4 << 30


@dataclass(frozen=True)
class ApiDeps:
    """Everything the API needs; see the module's docstring."""

    auth: Authenticator
    jobs: JobDirectory
    specs: SpecStore
    inputs: InputStorage
    may_upload: Callable[[str, str, int], bool]
    provider: Callable[[], dict[str, Any]]
    health: Health
    metrics: Metrics
    quotes: QuoteIssuer | None = None
    limits: ApiLimits = field(default_factory=ApiLimits)


def create_app(deps: ApiDeps) -> Starlette:
    """The ASGI application."""
    api = _Api(deps)
    job = "/v1/jobs/{job_id}"
    table: list[tuple[str, str, Handler]] = [
        ("GET", "/healthz", api.healthz),
        ("GET", "/readyz", api.readyz),
        ("GET", "/metrics", api.metrics),
        ("GET", "/v1/provider", api.provider),
        ("POST", "/v1/auth/nonce", api.nonce),
        ("POST", "/v1/auth/login", api.login),
        ("HEAD", "/v1/specs/{sha256}", api.has_spec),
        ("PUT", "/v1/specs/{sha256}", api.put_spec),
        ("HEAD", "/v1/inputs/{sha256}", api.has_input),
        ("PUT", "/v1/inputs/{sha256}", api.put_input),
        ("POST", "/v1/quotes", api.quote),
        ("GET", job, api.job),
        ("GET", job + "/receipt", api.receipt),
        ("GET", job + "/logs", api.logs),
        ("GET", job + "/result", api.manifest),
        ("GET", job + "/result.tar", api.tar),
        ("GET", job + "/result/{path:path}", api.result_file),
    ]
    routes = [
        Route(path, _counted(deps.metrics, path, handler), methods=[method])
        for method, path, handler in table
    ]
    app = Starlette(
        routes=routes,
        exception_handlers={HTTPException: _http_error, Exception: _internal_error},
    )
    app.router.redirect_slashes = False
    app.add_middleware(_Headers)
    return app


class ApiServer:
    """The API in a background thread. The socket is bound in `start`, so its errors are seen."""

    def __init__(
        self,
        app: ASGIApp,
        host: str,
        port: int,
        limits: ApiLimits | None = None,
        trusted_proxies: Sequence[str] = (),
    ) -> None:
        self._limits = limits or ApiLimits()
        self._app, self._host, self._port = app, host, port
        self._proxies = list(trusted_proxies)
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port in use, also when 0 was asked for; valid after `start`."""
        return self._port

    @property
    def running(self) -> bool:
        """Whether the thread is serving."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Bind, then serve. AgentError when the address is taken or not ours."""
        try:
            family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
            bound = socket.create_server((self._host, self._port), family=family, backlog=256)
        except (OSError, OverflowError) as error:
            if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
                raise AgentError(
                    f"port {self._port} of {self._host} is in use; change api.port or stop the "
                    "other program"
                ) from None
            raise AgentError(
                f"api: cannot listen on {self._host} port {self._port} ({error}); change [api]"
            ) from None
        self._port = int(bound.getsockname()[1])
        limits = self._limits

        class Protocol(_Impatient):
            header_seconds = limits.header_seconds

        config = uvicorn.Config(
            self._app,
            http=Protocol,
            ws="none",
            loop="asyncio",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=bool(self._proxies),
            forwarded_allow_ips=self._proxies,
            limit_concurrency=limits.connections,
            timeout_keep_alive=int(limits.header_seconds),
            timeout_graceful_shutdown=3,
            h11_max_incomplete_event_size=_HEADER_BYTES,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([bound],), name="api", daemon=True
        )
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise AgentError("api: the server ended while starting; see the log")
            time.sleep(0.01)

    def stop(self) -> None:
        """Finish open requests for a few seconds, then end the thread."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(timeout=15)
            self._server = self._thread = None


class _Impatient(H11Protocol):
    """Closes connections that send no request; uvicorn alone waits for ever."""

    header_seconds: float = 10
    _idle_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        # uvicorn narrows the type in the same way.
        super().connection_made(transport)
        self._idle_since = self.loop.time()
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._idle_since = self.loop.time()

    def _watch(self) -> None:
        if self.transport.is_closing():
            return
        # None before the first request, whatever uvicorn's annotation says.
        cycle = getattr(self, "cycle", None)
        idle = cycle is None or cycle.response_complete
        if idle and self.loop.time() - self._idle_since > self.header_seconds:
            self.transport.close()
            return
        self.loop.call_later(max(0.05, self.header_seconds / 4), self._watch)


class _Api:
    """The handlers. Blocking calls go to worker threads; the event loop only moves bytes."""

    def __init__(self, deps: ApiDeps) -> None:
        self.deps = deps
        self._limits = deps.limits
        self._rate = RateLimit(deps.limits.auth_per_minute, deps.limits.auth_burst)
        specs = deps.limits.specs_per_minute
        self._spec_rate = RateLimit(specs, specs, crowd=10)
        # Checking a specification is work for the processor: one at a time, the agent has jobs.
        self._spec_lock = threading.Lock()
        # Only touched on the event loop.
        self._uploads: Counter[str] = Counter()

    # ---------------------------------------------------------------- public

    async def healthz(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(self, request: Request) -> Response:
        ready, checks = await run_in_threadpool(self.deps.health.report)
        lines = [{"name": c.name, "ok": c.ok, "detail": c.detail} for c in checks]
        return JSONResponse({"ready": ready, "checks": lines}, 200 if ready else 503)

    async def metrics(self, request: Request) -> Response:
        text = await run_in_threadpool(self.deps.metrics.exposition)
        return Response(text, headers={"content-type": CONTENT_TYPE})

    async def provider(self, request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(self.deps.provider))

    # ---------------------------------------------------------------- sign-in

    async def nonce(self, request: Request) -> Response:
        self._limit(request)
        value, expires = await run_in_threadpool(self.deps.auth.nonce)
        expected = self.deps.auth.expected
        return JSONResponse(
            {
                "nonce": value,
                "domain": expected.domain,
                "uri": expected.uri,
                "chain_id": expected.chain_id,
                "expires": expires,
            }
        )

    async def login(self, request: Request) -> Response:
        self._limit(request)
        body = await self._json(request, "message", "signature")
        try:
            signature = bytes.fromhex(body["signature"].removeprefix("0x"))
        except ValueError:
            raise HTTPException(400, "signature: expected hex digits") from None
        try:
            session = await run_in_threadpool(self.deps.auth.login, body["message"], signature)
        except AuthError as error:
            raise HTTPException(401, str(error)) from None
        except ChainError as error:
            log.warning("sign-in of a contract wallet: %s", error)
            raise HTTPException(503, "the chain cannot be asked just now; try later") from None
        return JSONResponse(
            {"token": session.token, "address": session.address, "expires": session.expires}
        )

    # ---------------------------------------------------------------- uploads

    async def has_spec(self, request: Request) -> Response:
        await self._account(request)
        digest = bytes.fromhex(_sha256(request))
        found = await run_in_threadpool(self.deps.specs.spec, digest)
        return Response(status_code=404 if found is None else 200)

    async def put_spec(self, request: Request) -> Response:
        account = await self._account(request)
        digest = bytes.fromhex(_sha256(request))
        if await run_in_threadpool(self.deps.specs.spec, digest) is not None:
            return JSONResponse({"spec": digest.hex()})
        if not self._spec_rate.allow(account):
            raise HTTPException(
                429, "too many specifications; wait a minute", {"retry-after": "60"}
            )
        data = await self._body(request, jobspec.MAX_BYTES)
        if hashlib.sha256(data).digest() != digest:
            raise HTTPException(422, "the body does not hash to the name; send it again")
        new = await run_in_threadpool(self._keep_spec, digest, data, account)
        return JSONResponse({"spec": digest.hex()}, 201 if new else 200)

    def _keep_spec(self, digest: bytes, data: bytes, account: str) -> bool:
        specs, limits = self.deps.specs, self._limits
        with self._spec_lock:
            if specs.spec(digest) is not None:
                return False
            full = specs.spec_bytes() + len(data) > limits.spec_bytes
            if not specs.is_named(digest):
                count, size = specs.spec_usage(account)
                if (
                    count >= limits.specs_per_account
                    or size + len(data) > limits.spec_bytes_per_account
                ):
                    raise HTTPException(
                        429,
                        "your specifications without a job are over this provider's quota; post "
                        "the job, and send its specification once the provider has seen it",
                    )
                full = full or specs.spec_usage()[1] + len(data) > limits.unnamed_spec_bytes
            if full:
                raise HTTPException(507, "this provider has no room left; try later or elsewhere")
            try:
                jobspec.parse_named(data, digest)
            except SpecError as error:
                raise HTTPException(422, str(error)) from None
            specs.put_spec(digest, data, account)
            return True

    async def has_input(self, request: Request) -> Response:
        account = await self._account(request)
        found = await run_in_threadpool(self.deps.inputs.path, account, _sha256(request))
        return Response(status_code=404 if found is None else 200)

    async def put_input(self, request: Request) -> Response:
        account = await self._account(request)
        sha256 = _sha256(request)
        size = _content_length(request)
        try:
            allowed = await run_in_threadpool(self.deps.may_upload, account, sha256, size)
        except Refused as error:
            raise HTTPException(403, f"this provider would not run the job: {error}") from None
        if not allowed:
            raise HTTPException(
                403,
                "no open job or quote of yours here has an input of this digest and size; send "
                "its specification, and post the job first",
            )
        if await run_in_threadpool(self.deps.inputs.path, account, sha256) is not None:
            return JSONResponse({"sha256": sha256})
        with self._one_upload(account):
            try:
                await self._receive(request, account, sha256, size)
            except QuotaError as error:
                raise HTTPException(error.status, str(error)) from None
            except DigestMismatch as error:
                raise HTTPException(422, str(error)) from None
            except TimeoutError:
                raise HTTPException(408, "the upload is too slow; send it again") from None
            except ClientDisconnect:
                # Nobody reads this answer; nothing was kept.
                raise HTTPException(400, "the upload was broken off") from None
            except OSError as error:
                log.error("an upload could not be written: %s", error)
                raise HTTPException(507, "this provider's disk failed; try elsewhere") from None
        return JSONResponse({"sha256": sha256}, 201)

    async def _receive(self, request: Request, account: str, sha256: str, size: int) -> None:
        limits = self._limits
        upload = await run_in_threadpool(self.deps.inputs.receive, account, sha256, size)
        await run_in_threadpool(upload.__enter__)
        error: BaseException | None = None
        try:
            async with asyncio.timeout(limits.body_seconds + size / limits.upload_rate):
                buffer = bytearray()
                async for chunk in _pieces(request, limits.body_seconds):
                    buffer += chunk
                    if len(buffer) >= _WRITE_BYTES:
                        await run_in_threadpool(upload.write, bytes(buffer))
                        buffer.clear()
                await run_in_threadpool(upload.write, bytes(buffer))
            await run_in_threadpool(upload.finish)
        except BaseException as raised:
            error = raised
            raise
        finally:
            # Not in a worker thread: it must happen even when this task is being cancelled.
            upload.__exit__(type(error) if error else None, error, None)

    @contextlib.contextmanager
    def _one_upload(self, account: str) -> Iterator[None]:
        limits = self._limits
        if self._uploads[account] >= limits.uploads_per_account:
            raise HTTPException(429, "too many uploads of yours at once; wait for one to end")
        if self._uploads.total() >= limits.uploads:
            raise HTTPException(503, "too many uploads at once; try later")
        self._uploads[account] += 1
        try:
            yield
        finally:
            self._uploads[account] -= 1
            if not self._uploads[account]:
                del self._uploads[account]

    # ---------------------------------------------------------------- quotes

    async def quote(self, request: Request) -> Response:
        account = await self._account(request)
        body = await self._json(request, "spec")
        if self.deps.quotes is None:
            raise HTTPException(404, "this provider issues no quotes; post the job instead")
        if not is_hex_digest(body["spec"]):
            raise HTTPException(400, "spec: expected 64 lower-case hex digits")
        if not self._spec_rate.allow(account):
            raise HTTPException(429, "too many requests; wait a minute", {"retry-after": "60"})
        digest = bytes.fromhex(body["spec"])
        data = await run_in_threadpool(self.deps.specs.spec, digest)
        if data is None:
            raise HTTPException(404, "the specification is not here; upload it first")
        spec = await run_in_threadpool(jobspec.parse_named, data, digest)
        try:
            quote, signature = await run_in_threadpool(self.deps.quotes.issue, account, spec)
        except ChainError as error:
            log.warning("quote: %s", error)
            raise HTTPException(503, "the chain cannot be asked just now; try later") from None
        except AgentError as error:
            raise HTTPException(409, str(error)) from None
        return JSONResponse({"quote": quote_json(quote), "signature": "0x" + signature.hex()})

    # ---------------------------------------------------------------- jobs

    async def job(self, request: Request) -> Response:
        return JSONResponse((await self._job(request)).status)

    async def receipt(self, request: Request) -> Response:
        receipt = (await self._job(request)).receipt
        if receipt is None:
            raise HTTPException(404, "no receipt yet")
        return Response(receipt, media_type="application/json")

    async def logs(self, request: Request) -> Response:
        view = await self._job(request)
        offset = _integer(request, "offset")
        limit = _integer(request, "limit") or job_files.LOG_BYTES
        if view.log is None:
            raise HTTPException(404, "no log yet")
        try:
            piece = await run_in_threadpool(job_files.log_slice, view.log, offset, limit)
        except FileNotFoundError:
            raise HTTPException(404, "no log yet") from None
        except AgentError:
            raise HTTPException(404, "the log is not a file any more") from None
        return JSONResponse(piece)

    async def manifest(self, request: Request) -> Response:
        view = await self._job(request)
        if view.manifest is None:
            raise HTTPException(404, "no result yet")
        return Response(view.manifest, media_type="application/json")

    async def tar(self, request: Request) -> Response:
        view = await self._job(request)
        listed = await run_in_threadpool(_listed, view)
        assert view.results is not None
        return StreamingResponse(
            job_files.tar_stream(view.results, listed),
            media_type="application/x-tar",
            headers={"content-length": str(job_files.tar_size(listed))},
        )

    async def result_file(self, request: Request) -> Response:
        view = await self._job(request)
        try:
            path = check_path(request.path_params["path"])
        except AgentError as error:
            raise HTTPException(400, str(error)) from None
        listed = await run_in_threadpool(_listed, view)
        assert view.results is not None
        entry = next((e for e in listed if e.path == path), None)
        if entry is None:
            raise HTTPException(404, "no such file in the result")
        asked = request.headers.get("range")
        ranged = _RANGE.fullmatch(asked) if asked else None
        offset = int(ranged[1]) if ranged else 0
        if ranged and offset >= entry.size:
            raise HTTPException(416, "the range begins after the end of the file")
        headers = {"content-length": str(entry.size - offset), "accept-ranges": "bytes"}
        if ranged:
            headers["content-range"] = f"bytes {offset}-{entry.size - 1}/{entry.size}"
        stack = ExitStack()
        try:
            pieces = await run_in_threadpool(
                job_files.file_slice, stack, view.results, entry, offset
            )
        except AgentError as error:
            stack.close()
            raise HTTPException(410, str(error)) from None
        return StreamingResponse(
            _closing(stack, pieces),
            206 if ranged else 200,
            headers=headers,
            media_type="application/octet-stream",
        )

    # ---------------------------------------------------------------- shared

    def _limit(self, request: Request) -> None:
        client = request.client.host if request.client else "unknown"
        if not self._rate.allow(client):
            raise HTTPException(429, "too many sign-ins; wait a minute", {"retry-after": "60"})

    async def _account(self, request: Request) -> str:
        header = request.headers.get("authorization")
        try:
            return await run_in_threadpool(self.deps.auth.account, header)
        except AuthError as error:
            challenge = {"www-authenticate": "Bearer"}
            raise HTTPException(401, str(error), challenge) from None

    async def _job(self, request: Request) -> JobView:
        account = await self._account(request)
        text = request.path_params["job_id"].removeprefix("0x")
        if not is_hex_digest(text):
            raise HTTPException(400, "job id: expected 0x and 64 lower-case hex digits")
        view = await run_in_threadpool(self.deps.jobs.job, bytes.fromhex(text))
        if view is None:
            raise HTTPException(404, "this provider does not know the job")
        if view.requester.lower() != account.lower():
            raise HTTPException(403, "only the job's requester may see this")
        return view

    async def _body(self, request: Request, limit: int) -> bytes:
        if int(request.headers.get("content-length", "0")) > limit:
            raise HTTPException(413, f"the body is larger than {limit} bytes")
        data = bytearray()
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                async for chunk in request.stream():
                    data += chunk
                    if len(data) > limit:
                        raise HTTPException(413, f"the body is larger than {limit} bytes")
        except TimeoutError:
            raise HTTPException(408, "the request is too slow; send it again") from None
        except ClientDisconnect:
            raise HTTPException(400, "the request was broken off") from None
        return bytes(data)

    async def _json(self, request: Request, *names: str) -> dict[str, str]:
        data = await self._body(request, _JSON_BYTES)
        try:
            body = json.loads(data)
        except (ValueError, RecursionError):
            raise HTTPException(400, "the body is not JSON") from None
        if not isinstance(body, dict) or set(body) != set(names):
            raise HTTPException(400, f"expected an object with {' and '.join(names)}")
        if not all(isinstance(body[name], str) and body[name].isascii() for name in names):
            raise HTTPException(400, f"{' and '.join(names)}: expected ASCII text")
        return body


def quote_json(quote: messages.Quote) -> dict[str, str]:
    """A quote as JSON; integers are decimal text because they may have 256 bits."""
    return {
        name: "0x" + value.hex() if isinstance(value, bytes) else str(value)
        for name, value in quote.values().items()
    }


class _Headers:
    """Headers that every answer carries: nothing here is for caches, frames or guessing."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer: ASGIApp = self._app
        # h11 limits only a head that comes in several pieces.
        if sum(len(name) + len(value) for name, value in scope["headers"]) > _HEADER_BYTES:
            answer = JSONResponse({"error": "the headers are too long"}, 431)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"cache-control", b"no-store"),
                    (b"x-content-type-options", b"nosniff"),
                ]
            await send(message)

        await answer(scope, receive, with_headers)


def _counted(metrics: Metrics, route: str, handler: Handler) -> Handler:
    async def counted(request: Request) -> Response:
        status = 500
        try:
            response = await handler(request)
            status = response.status_code
            return response
        except HTTPException as error:
            status = error.status_code
            raise
        finally:
            metrics.http_requests.labels(route, str(status)).inc()

    return counted


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)


async def _internal_error(request: Request, error: Exception) -> Response:
    # The server logs the traceback; the answer tells a stranger nothing about this machine.
    return JSONResponse({"error": "internal error of the provider"}, 500)


async def _pieces(request: Request, patience: float) -> AsyncIterator[bytes]:
    stream = request.stream()
    while True:
        # Not wait_for: before Python 3.12 it can swallow the time-out of the whole upload.
        async with asyncio.timeout(patience):
            piece = await anext(stream, None)
        if piece is None:
            return
        yield piece


def _listed(view: JobView) -> list[Entry]:
    if view.manifest is None or view.results is None:
        raise HTTPException(404, "no result yet")
    return parse_manifest(view.manifest)


def _closing(stack: ExitStack, pieces: Iterator[bytes]) -> Iterator[bytes]:
    with stack:
        yield from pieces


def _sha256(request: Request) -> str:
    value = str(request.path_params["sha256"])
    if not is_hex_digest(value):
        raise HTTPException(400, "sha256: expected 64 lower-case hex digits")
    return value


def _content_length(request: Request) -> int:
    value = request.headers.get("content-length", "")
    if not re.fullmatch(r"[0-9]{1,18}", value):
        raise HTTPException(411, "send the file with a Content-Length")
    return int(value)


def _integer(request: Request, name: str) -> int | None:
    value = request.query_params.get(name)
    if value is None:
        return None
    if not re.fullmatch(r"[0-9]{1,18}", value):
        raise HTTPException(400, f"{name}: expected a number of bytes")
    return int(value)
