# SPDX-License-Identifier: Apache-2.0
"""Connections that know a deadline, and what is trusted on them. All HTTP to others stands on it.

A time-out for each read would not do: a byte per second never runs into it. So the deadline is kept
below HTTP, where bytes come from the socket: it covers the headers, too.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import httpcore

_PIECE = 65_536  # bytes written between two looks at the clock

#: The addresses of a host that may be connected to, within some seconds. It raises for none.
Resolve = Callable[[str, int, float], Sequence[str]]


class Deadline(threading.local):
    """When the present thread's request must have ended, monotonic."""

    at = 0.0

    def left(self, timeout: float | None, error: type[Exception]) -> float:
        """Seconds, at most `timeout`. Raises `error` when there are none."""
        left = self.at - time.monotonic()
        if left <= 0:
            raise error("the whole request took too long")
        return left if timeout is None else min(left, timeout)


class _Stream(httpcore.NetworkStream):
    """A connection that knows the deadline."""

    def __init__(
        self,
        inner: httpcore.NetworkStream,
        deadline: Deadline,
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


class Backend(httpcore.NetworkBackend):
    """Opens connections that know the deadline. With `resolve`, a connection is to an address that
    it names and to no other: a name is looked up once, so nobody can change it after the check.
    """

    def __init__(self, deadline: Deadline, resolve: Resolve | None = None) -> None:
        self._inner, self._deadline, self._resolve = httpcore.SyncBackend(), deadline, resolve
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
        """Open a connection. Raises httpcore's errors, and what `resolve` raises."""
        left = self._deadline.left(timeout, httpcore.ConnectTimeout)
        places = [host] if self._resolve is None else self._resolve(host, port, left)
        for number, place in enumerate(places, 1):
            left = self._deadline.left(timeout, httpcore.ConnectTimeout)
            try:
                stream = self._inner.connect_tcp(place, port, left, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if number == len(places):
                    raise
                continue
            self._sockets.add(stream.get_extra_info("socket"))
            return _Stream(stream, self._deadline, self._sockets.add)
        raise httpcore.ConnectError("no address")


def why(error: Exception, setting: str = "") -> str:
    """The cause of a failed connection, in words that say what to do. `setting` names the one that
    trusts further certificates.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            advice = f"; for an authority of your own set {setting}" if setting else ""
            return f"has a certificate that is not trusted ({cause.verify_message}){advice}"
        if isinstance(cause, ssl.SSLError):
            return f"does not speak TLS as we do ({cause.reason or 'no reason'})"
        if isinstance(cause, socket.gaierror):
            return "has a host name that does not resolve"
        if isinstance(cause, ConnectionRefusedError):
            return "refuses connections on this port"
        cause = cause.__cause__ or cause.__context__
    return f"is unreachable ({error})" if str(error) else "is unreachable"


def trusted(ca_file: Path | None) -> ssl.SSLContext:
    """The system's certificates (SSL_CERT_FILE moves them), those of certifi, and our own."""
    context = ssl.create_default_context()
    with contextlib.suppress(ImportError, OSError):
        import certifi

        context.load_verify_locations(certifi.where())
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    return context
