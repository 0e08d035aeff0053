# SPDX-License-Identifier: Apache-2.0
"""The gateway's connections to hosts: to public addresses, and to networks that its settings name.

A host says by itself where its API is. Without this rule it could have the gateway send requests
into the network that the gateway is in.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpcore
import httpx

from teraproof.client.line import below, faults
from teraproof.connections import Resolve, trusted
from teraproof.storage.reach import Reach

_RESOLVERS = 16  # names that are looked up at once
_CONNECT_SECONDS = 10.0


class _Backend(httpcore.AsyncNetworkBackend):
    """Connects to the addresses that were checked: a name is looked up once."""

    def __init__(self, resolve: Resolve) -> None:
        self._inner, self._resolve = httpcore.AnyIOBackend(), resolve
        self._threads = ThreadPoolExecutor(_RESOLVERS, thread_name_prefix="resolver")

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        until = time.monotonic() + (_CONNECT_SECONDS if timeout is None else timeout)
        places = await self._look_up(host, port, until)
        for number, place in enumerate(places, 1):
            left = until - time.monotonic()
            if left <= 0:
                break
            try:
                return await self._inner.connect_tcp(
                    place, port, left, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if number == len(places):
                    raise
        raise httpcore.ConnectTimeout("no address answers in time")

    async def _look_up(self, host: str, port: int, until: float) -> Sequence[str]:
        loop, left = asyncio.get_running_loop(), until - time.monotonic()
        looking = loop.run_in_executor(self._threads, self._resolve, host, port, left)
        try:
            return await asyncio.wait_for(looking, left)
        except TimeoutError:
            raise httpcore.ConnectTimeout("the name is not resolved in time") from None

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Lines(httpx.AsyncBaseTransport):
    """What httpx sends its requests through. LocalError (URI_REFUSED) where it may not go there."""

    def __init__(self, reach: Reach, *, most: int, kept: int, kept_seconds: float) -> None:
        self._backend = _Backend(reach.resolve)
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=trusted(None),
            network_backend=self._backend,
            max_connections=most,
            max_keepalive_connections=kept,
            keepalive_expiry=kept_seconds,
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._pool.aclose()
        self._backend.close()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request. Raises httpx's errors, and LocalError."""
        assert isinstance(request.stream, httpx.AsyncByteStream)  # of an async client
        with faults():
            answer = await self._pool.handle_async_request(below(request))
        return httpx.Response(
            answer.status,
            headers=answer.headers,
            stream=_Body(answer),
            extensions=dict(answer.extensions),
        )


class _Body(httpx.AsyncByteStream):
    """The body of an answer, as it comes."""

    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with faults():
            async for piece in self._answer.aiter_stream():
                yield piece

    async def aclose(self) -> None:
        with faults():
            await self._answer.aclose()
