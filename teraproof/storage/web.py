# SPDX-License-Identifier: Apache-2.0
"""HTTP to places that may be anybody's: what a URI may reach is checked at each step, every wait
ends, bodies flow in pieces. No proxies, no cookies, no credentials of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpcore

from teraproof.connections import Backend, Deadline, trusted, why
from teraproof.errors import LocalError
from teraproof.protocol.errors import Code
from teraproof.storage.limits import PIECE, Limits, Meter
from teraproof.storage.reach import Reach
from teraproof.storage.uris import Uri

_CONNECT_SECONDS = 10.0
_CHANGED_METHOD = (301, 302, 303)
_SAME_METHOD = (307, 308)
_AWAY = (408, 425, 429)
_MISSING = (404, 410)
_HEADERS = (("Accept-Encoding", "identity"), ("User-Agent", "teraproof"))

#: A body, from its beginning each time.
Content = Callable[[], Iterable[bytes]]


@dataclass(frozen=True)
class Answer:
    """An open answer."""

    uri: Uri
    """Who gave it, after redirects."""
    status: int
    headers: Mapping[str, str]
    """By names in lower case."""
    pieces: Iterator[bytes]
    """The body as it comes. LocalError when it breaks or is too slow."""

    def number(self, name: str) -> int | None:
        """A header that is a number of bytes."""
        value = self.headers.get(name, "")
        return int(value) if value.isascii() and value.isdigit() and len(value) < 20 else None


class Web:
    """Asks one request at a time. `ca_file` holds certificates to trust besides the system's."""

    def __init__(self, reach: Reach, limits: Limits, ca_file: Path | None = None) -> None:
        self.reach, self.limits, self._ca_file = reach, limits, ca_file
        self._deadline = Deadline()
        self._pools: dict[bool, httpcore.ConnectionPool] = {}
        self._backends = {
            True: Backend(self._deadline, reach.resolve),
            False: Backend(self._deadline, reach.resolve_plain),
        }

    def cut_off(self) -> None:
        """End the connections, so that a thread that waits for one hears it. Any thread."""
        for backend in self._backends.values():
            backend.cut_off()

    def close(self) -> None:
        """Close the connections."""
        for pool in self._pools.values():
            pool.close()
        self._pools.clear()

    @contextlib.contextmanager
    def ask(
        self,
        method: str,
        uri: Uri,
        headers: Mapping[str, str] | None = None,
        content: Content | None = None,
        *,
        follow: bool = True,
    ) -> Iterator[Answer]:
        """Open a request. LocalError when it may not go there or nobody answers in time.

        `content` needs a header `content-length`. Redirects keep method and body, or are for GET
        and HEAD; without `follow` they are answers like others.
        """
        meter = Meter(self.limits)
        for left in range(self.limits.redirects, -1, -1):
            with self._open(method, self.reach.check(uri), headers or {}, content, meter) as answer:
                location = answer.headers.get("location")
                moved = answer.status in _SAME_METHOD or (
                    answer.status in _CHANGED_METHOD and content is None
                )
                if not follow or not moved or location is None:
                    yield answer
                    return
                if left == 0:
                    raise LocalError(f"{uri}: redirects without end", Code.STORE_REFUSED)
            uri = uri.joined(location)
        raise AssertionError("unreachable")

    @contextlib.contextmanager
    def _open(
        self,
        method: str,
        uri: Uri,
        headers: Mapping[str, str],
        content: Content | None,
        meter: Meter,
    ) -> Iterator[Answer]:
        request = httpcore.Request(
            method,
            httpcore.URL(
                scheme=uri.scheme.encode(),
                host=uri.host.encode(),
                port=uri.port,
                target=uri.target.encode(),
            ),
            headers=[("Host", uri.authority), *_HEADERS, *headers.items()],
            content=None if content is None else self._counted(uri, content(), meter),
            extensions={"timeout": {"connect": _CONNECT_SECONDS}},
        )
        self._deadline.at = meter.deadline
        with _faults(uri):
            response = self._pool(uri.scheme == "https").handle_request(request)
        with contextlib.closing(response):
            shown = {
                name.decode("ascii", "replace").lower(): value.decode("latin-1")
                for name, value in response.headers
            }
            yield Answer(uri, response.status, shown, self._pieces(uri, response, meter))

    def _pieces(self, uri: Uri, response: httpcore.Response, meter: Meter) -> Iterator[bytes]:
        source = response.iter_stream()
        while True:
            self._deadline.at = meter.deadline
            with _faults(uri):
                piece = next(source, None)
            if piece is None:
                return
            meter.moved(len(piece))
            self.reach.check(uri)  # who may no longer go there stops in the middle
            yield piece

    def _counted(self, uri: Uri, content: Iterable[bytes], meter: Meter) -> Iterator[bytes]:
        for piece in content:
            self.reach.check(uri)
            for at in range(0, len(piece), PIECE):
                part = piece[at : at + PIECE]
                yield part
                meter.moved(len(part))
                self._deadline.at = meter.deadline

    def _pool(self, tls: bool) -> httpcore.ConnectionPool:
        if tls not in self._pools:
            self._pools[tls] = httpcore.ConnectionPool(
                # Reading all certificates takes longer than a request; plain HTTP needs none.
                ssl_context=trusted(self._ca_file) if tls else None,
                network_backend=self._backends[tls],
                max_connections=4,
                keepalive_expiry=15.0,
            )
        return self._pools[tls]


@contextlib.contextmanager
def _faults(uri: Uri) -> Iterator[None]:
    """Failures of the network as lines for a person."""
    try:
        yield
    except (httpcore.TimeoutException, TimeoutError):
        raise LocalError(f"{uri}: is too slow; try later", Code.TOO_SLOW) from None
    except httpcore.ConnectError as error:
        raise LocalError(f"{uri}: {why(error)}", Code.STORE_UNREACHABLE) from None
    except (httpcore.NetworkError, httpcore.ProtocolError, OSError):
        raise LocalError(
            f"{uri}: the connection broke; try again", Code.STORE_UNREACHABLE
        ) from None


def refusal(uri: Uri, status: int) -> LocalError:
    """The error that a status stands for."""
    if status in _MISSING:
        return LocalError(f"{uri}: is not there", Code.OBJECT_MISSING)
    if status in _AWAY or status >= 500:
        return LocalError(f"{uri}: answers with status {status}; try later", Code.STORE_UNREACHABLE)
    advice = "; check the credentials" if status in (401, 403) else ""
    return LocalError(
        f"{uri}: refuses the request with status {status}{advice}", Code.STORE_REFUSED
    )
