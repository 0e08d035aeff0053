# SPDX-License-Identifier: Apache-2.0
"""HTTP to endpoints that may drip, flood or never end: one deadline for the whole request, and a
cap on what is read, packed or unpacked.
"""

from __future__ import annotations

import base64
import contextlib
import time
import zlib
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpcore

from teraproof.connections import Backend, Deadline, Resolve, trusted, why

_CONNECT_SECONDS = 5.0


class HttpFault(Exception):
    """No response. `reached` says whether anybody was there."""

    def __init__(self, what: str, *, reached: bool = True) -> None:
        super().__init__(what)
        self.what, self.reached = what, reached


@dataclass(frozen=True, slots=True)
class Response:
    """A response: status, body, and the seconds after which to come again (0: not said)."""

    status: int
    body: bytes
    retry_after: float = 0.0


class Http:
    """Keeps connections; safe to use from several threads. `ca_file` holds certificates that are
    trusted in addition to the system's. Without `tls` no certificates are read. `resolve` names the
    addresses that may be connected to; what it raises beyond httpcore's errors is for the caller.
    `connections` are those at one time.
    """

    def __init__(
        self,
        ca_file: Path | None = None,
        *,
        tls: bool = True,
        resolve: Resolve | None = None,
        connections: int = 32,
    ) -> None:
        self._deadline, self._resolve, self._connections = Deadline(), resolve, connections
        self._trust = trusted(ca_file) if tls or ca_file is not None else None
        self._backend = Backend(self._deadline, resolve)
        self._pool = self._make_pool()

    def _make_pool(self) -> httpcore.ConnectionPool:
        return httpcore.ConnectionPool(
            ssl_context=self._trust,
            network_backend=self._backend,
            max_connections=self._connections,
            max_keepalive_connections=16,
            keepalive_expiry=15.0,
        )

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()

    def renew(self) -> None:
        """Begin with new connections, and end the old ones, also those that a thread waits on: its
        request fails. For requests that have outlived their deadline.
        """
        backend = self._backend
        self._backend = Backend(self._deadline, self._resolve)
        self._pool = self._make_pool()
        backend.cut_off()

    def get(self, url: str, *, seconds: float, most: int) -> Response:
        """Read at most `most` bytes within `seconds`. Raises HttpFault."""
        return self._ask("GET", url, None, seconds, most)

    def post(self, url: str, body: bytes, *, seconds: float, most: int) -> Response:
        """Send JSON and read at most `most` bytes within `seconds`. Raises HttpFault."""
        return self._ask("POST", url, body, seconds, most)

    def _ask(
        self, method: str, url: str, body: bytes | None, seconds: float, most: int
    ) -> Response:
        try:
            request = _request(method, url, body)
        except (ValueError, UnicodeError):
            raise HttpFault("has an invalid URL", reached=False) from None
        self._deadline.at = time.monotonic() + seconds
        limits = {
            "connect": min(seconds, _CONNECT_SECONDS),
            "read": seconds,
            "write": seconds,
            "pool": seconds,
        }
        request.extensions = {"timeout": limits}
        try:
            response = self._pool.handle_request(request)
            with contextlib.closing(response):
                headers = {name.lower(): value for name, value in response.headers}
                data = _read(response, headers.get(b"content-encoding", b""), most)
        except httpcore.ConnectTimeout:
            raise HttpFault("timed out", reached=False) from None
        except (httpcore.TimeoutException, TimeoutError):
            raise HttpFault("timed out") from None
        except httpcore.ConnectError as error:
            raise HttpFault(why(error, "chain.ca_file"), reached=False) from None
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol):
            raise HttpFault("breaks the connection") from None
        except (OSError, ValueError, RuntimeError) as error:
            raise HttpFault(f"is unreachable ({type(error).__name__})") from None
        return Response(response.status, data, _retry_after(headers.get(b"retry-after", b"")))


def _request(method: str, url: str, body: bytes | None) -> httpcore.Request:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("not an HTTP URL")
    host = parts.hostname.encode("ascii" if parts.hostname.isascii() else "idna")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    named = b"[" + host + b"]" if b":" in host else host
    if parts.port is not None:
        named += f":{parts.port}".encode()
    headers = [
        (b"Host", named),
        (b"Accept", b"application/json"),
        (b"Accept-Encoding", b"gzip"),
        (b"User-Agent", b"teraproof"),
    ]
    if body is not None:
        length = str(len(body)).encode()
        headers += [(b"Content-Type", b"application/json"), (b"Content-Length", length)]
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        headers.append((b"Authorization", b"Basic " + base64.b64encode(pair)))
    where = httpcore.URL(
        scheme=parts.scheme.encode(), host=host, port=parts.port, target=target.encode("ascii")
    )
    return httpcore.Request(method, where, headers=headers, content=body)


def _read(response: httpcore.Response, encoding: bytes, most: int) -> bytes:
    """The body, unpacked, or HttpFault when it is longer than `most` in either form."""
    packed = encoding.strip().lower()
    if packed not in (b"", b"identity", b"gzip", b"x-gzip"):
        raise HttpFault("answers in an encoding that was not asked for")
    unpack = zlib.decompressobj(wbits=31) if packed.endswith(b"gzip") else None
    data = bytearray()
    raw = 0
    for piece in response.iter_stream():
        raw += len(piece)
        if unpack is None:
            data += piece
        else:
            try:
                data += unpack.decompress(piece, most + 1 - len(data))
            except zlib.error:
                raise HttpFault("answers with a broken body") from None
        if len(data) > most or raw > most:
            raise HttpFault(f"answers with more than {most >> 20} MiB")
    if unpack is not None and not unpack.eof:
        raise HttpFault("answers with a broken body")
    return bytes(data)


def _retry_after(value: bytes) -> float:
    """Seconds, from a number of them or from a date."""
    text = value.decode("ascii", "replace").strip()
    if text.isdigit():
        return float(min(int(text[:9]), 3600))
    try:
        return min(3600.0, max(0.0, parsedate_to_datetime(text).timestamp() - time.time()))
    except (ValueError, TypeError, OverflowError):
        return 0.0
