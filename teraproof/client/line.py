# SPDX-License-Identifier: Apache-2.0
"""The connections of a client: they know the deadline, and lead where they may."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import httpcore
import httpx

from teraproof.connections import Backend, Deadline, Resolve, trusted

_KEPT_SECONDS = 5.0


class Line(httpx.BaseTransport):
    """What httpx sends its requests through. `tls` says whether certificates are needed: reading
    all of them takes longer than a request.
    """

    def __init__(self, deadline: Deadline, resolve: Resolve, *, tls: bool) -> None:
        self._backend = Backend(deadline, resolve)
        self._pool = httpcore.ConnectionPool(
            ssl_context=trusted(None) if tls else None,
            network_backend=self._backend,
            max_connections=100,
            keepalive_expiry=_KEPT_SECONDS,
        )

    def cut_off(self) -> None:
        """End what is under way in any thread: its request fails."""
        self._backend.cut_off()

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request. Raises httpx's errors, and LocalError where it may not go there."""
        assert isinstance(request.stream, httpx.SyncByteStream)  # of a client that is not async
        with faults():
            answer = self._pool.handle_request(below(request))
        return httpx.Response(
            answer.status,
            headers=answer.headers,
            stream=_Body(answer),
            extensions=dict(answer.extensions),
        )


def below(request: httpx.Request) -> httpcore.Request:
    """A request of httpx as httpcore sends it."""
    return httpcore.Request(
        request.method,
        httpcore.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        ),
        headers=request.headers.raw,
        content=request.stream,
        extensions=request.extensions,
    )


class _Body(httpx.SyncByteStream):
    """The body of an answer, as it comes."""

    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        with faults():
            yield from self._answer.iter_stream()

    def close(self) -> None:
        self._answer.close()


@contextlib.contextmanager
def faults() -> Iterator[None]:
    """Failures of the network under the names that they have above: httpx has the same ones."""
    try:
        yield
    except (
        httpcore.TimeoutException,
        httpcore.NetworkError,
        httpcore.ProtocolError,
        httpcore.ProxyError,
        httpcore.UnsupportedProtocol,
    ) as error:
        found: type[httpx.TransportError] = getattr(httpx, type(error).__name__)
        raise found(str(error)) from error
    except OSError as error:
        # What httpcore has no name for, such as a host name that cannot be one.
        raise httpx.NetworkError(str(error)) from error
