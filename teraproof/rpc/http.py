# SPDX-License-Identifier: Apache-2.0
"""HTTP to endpoints that may drip, flood or never end: one deadline for the whole request, and a
cap on what is read, packed or unpacked.

A time-out for each read would not do: a byte a second never runs into it. So the deadline is kept
below HTTP, where bytes come from the socket: it covers the headers, too.
"""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
import threading
import time
import weakref
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import httpcore

_CONNECT_SECONDS = 5.0
_PIECE = 65_536  # bytes written between two looks at the clock


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


class _Deadline(threading.local):
    """When the present thread's request must have ended, monotonic."""

    at = 0.0

    def left(self, timeout: float | None, error: type[Exception]) -> float:
        left = self.at - time.monotonic()
        if left <= 0:
            raise error("the whole request took too long")
        return left if timeout is None else min(left, timeout)


class _Stream(httpcore.NetworkStream):
    """A connection that knows the deadline."""

    def __init__(
        self,
        inner: httpcore.NetworkStream,
        deadline: _Deadline,
        note: Callable[[socket.socket], None],
    ) -> None:
        self._inner, self._deadline, self._note = inner, deadline, note

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        left = self._deadline.left(timeout, httpcore.ReadTimeout)
        return self._inner.read(max_bytes, left)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for at in range(0, len(buffer), _PIECE):
            left = self._deadline.left(timeout, httpcore.WriteTimeout)
            self._inner.write(buffer[at : at + _PIECE], left)

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        left = self._deadline.left(timeout, httpcore.ConnectTimeout)
        # The handshake takes the socket away: a second handle on it can be cut off meanwhile.
        with self._inner.get_extra_info("socket").dup() as handle:
            self._note(handle)
            inner = self._inner.start_tls(ssl_context, server_hostname, left)
        self._note(inner.get_extra_info("socket"))
        return _Stream(inner, self._deadline, self._note)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Backend(httpcore.NetworkBackend):
    """Opens connections that know the deadline."""

    def __init__(self, deadline: _Deadline) -> None:
        self._inner, self._deadline = httpcore.SyncBackend(), deadline
        self._sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()

    def cut_off(self) -> None:
        """End all connections. To close a socket would not wake a thread that reads from it."""
        for opened in list(self._sockets):
            with contextlib.suppress(OSError):
                # Not TLS's own way to end, which waits for the other side.
                socket.socket.shutdown(opened, socket.SHUT_RDWR)

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        left = self._deadline.left(timeout, httpcore.ConnectTimeout)
        stream = self._inner.connect_tcp(host, port, left, local_address, socket_options)
        self._sockets.add(stream.get_extra_info("socket"))
        return _Stream(stream, self._deadline, self._sockets.add)


class Http:
    """Keeps connections; safe to use from several threads. `ca_file` holds certificates that are
    trusted in addition to the system's. Without `tls` no certificates are read.
    """

    def __init__(self, ca_file: Path | None = None, *, tls: bool = True) -> None:
        self._deadline = _Deadline()
        self._trust = _trust(ca_file) if tls or ca_file is not None else None
        self._backend = _Backend(self._deadline)
        self._pool = self._make_pool()

    def _make_pool(self) -> httpcore.ConnectionPool:
        return httpcore.ConnectionPool(
            ssl_context=self._trust,
            network_backend=self._backend,
            max_connections=32,
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
        self._backend = _Backend(self._deadline)
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
            raise HttpFault(_why(error), reached=False) from None
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


def _why(error: Exception) -> str:
    """The cause of a failed connection, in words that say what to do."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"has a certificate that is not trusted ({cause.verify_message}); for an authority "
                "of your own set chain.ca_file"
            )
        if isinstance(cause, ssl.SSLError):
            return f"does not speak TLS as we do ({cause.reason or 'no reason'})"
        if isinstance(cause, socket.gaierror):
            return "has a host name that does not resolve"
        if isinstance(cause, ConnectionRefusedError):
            return "refuses connections on this port"
        cause = cause.__cause__ or cause.__context__
    return f"is unreachable ({error})" if str(error) else "is unreachable"


def _trust(ca_file: Path | None) -> ssl.SSLContext:
    """The system's certificates (SSL_CERT_FILE moves them), those of certifi, and our own."""
    context = ssl.create_default_context()
    with contextlib.suppress(ImportError, OSError):
        import certifi

        context.load_verify_locations(certifi.where())
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    return context
