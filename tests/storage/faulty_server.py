# SPDX-License-Identifier: Apache-2.0
"""A real HTTP server that serves one object, and how it does so badly."""

from __future__ import annotations

import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Fault = Callable[["Handler", bytes], None]


class Handler(BaseHTTPRequestHandler):
    """Serves `server.data` by `server.fault`, and takes what is put."""

    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: Any) -> None:
        """Nobody reads it."""

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Range")))
        self.server.fault(self, self.server.data)

    do_HEAD = do_GET

    def do_PUT(self) -> None:
        self.server.asked.append((self.path, None))
        length = int(self.headers["Content-Length"])
        data = self.rfile.read(length)
        if len(data) < length:  # broken off: no server keeps a part
            self.close_connection = True
            return
        taken = not (self.headers.get("If-None-Match") == "*" and self.path in self.server.put)
        if taken:
            self.server.put[self.path] = data
        self.begin(200 if taken else 412, 0)

    def begin(self, status: int, length: int | None, **headers: str) -> None:
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def start(self) -> int:
        """Where the part that is asked for begins."""
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        return int(found[1]) if found else 0

    def part(self, data: bytes) -> bytes:
        """Begin an answer with ranges; what has to follow."""
        start = self.start()
        if start >= len(data) > 0:
            self.begin(416, 0)
            return b""
        if start:
            place = f"bytes {start}-{len(data) - 1}/{len(data)}"
            self.begin(206, len(data) - start, Content_Range=place)
        else:
            self.begin(200, len(data))
        return data[start:]


class Server(ThreadingHTTPServer):
    """One object under every path. `asked` has the path and the range of each request."""

    daemon_threads = True

    def __init__(self, data: bytes, host: str = "127.0.0.1") -> None:
        self.data = data
        self.fault: Fault = honest
        self.asked: list[tuple[str, str | None]] = []
        self.put: dict[str, bytes] = {}
        self.secure = False
        super().__init__((host, 0), Handler)

    def handle_error(self, *_: Any) -> None:
        """Clients that go away are what is tested."""

    @property
    def url(self) -> str:
        host, port = self.server_address[:2]
        return f"http{'s' if self.secure else ''}://{str(host)}:{port}"


@contextmanager
def serving(
    data: bytes, fault: Fault | None = None, tls: ssl.SSLContext | None = None, **more: Any
) -> Iterator[Server]:
    server = Server(data, **more)
    server.fault = fault or honest
    if tls is not None:
        server.socket, server.secure = tls.wrap_socket(server.socket, server_side=True), True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


# ---------------------------------------------------------------- ways to serve


def honest(handler: Handler, data: bytes) -> None:
    left = handler.part(data)
    if handler.command == "GET":
        handler.wfile.write(left)


def without_ranges(handler: Handler, data: bytes) -> None:
    handler.begin(200, len(data))
    handler.wfile.write(data)


def cutting(share: float, times: int, then: Fault = honest) -> Fault:
    """The first `times` answers break off after a share of what is left."""
    left = [times]

    def serve(handler: Handler, data: bytes) -> None:
        if left[0] == 0:
            return then(handler, data)
        left[0] -= 1
        part = handler.part(data)
        handler.wfile.write(part[: int(len(part) * share)])
        handler.wfile.flush()
        handler.close_connection = True
        return None

    return serve


def dripping(handler: Handler, data: bytes) -> None:
    """A byte now and then: no single wait is long."""
    for byte in handler.part(data):
        handler.wfile.write(bytes([byte]))
        handler.wfile.flush()
        time.sleep(0.05)


def dripping_headers(handler: Handler, data: bytes) -> None:
    for letter in "HTTP/1.1 200 OK\r\nX-Slow: " + "x" * 10_000:
        handler.wfile.write(letter.encode())
        handler.wfile.flush()
        time.sleep(0.05)


def endless(handler: Handler, data: bytes) -> None:
    """Without a length, and without an end."""
    handler.begin(200, None, Connection="close")
    handler.close_connection = True
    while True:
        handler.wfile.write(data or b"x" * 1000)


def packed(handler: Handler, data: bytes) -> None:
    handler.begin(200, len(data), Content_Encoding="gzip")
    handler.wfile.write(data)


def status(number: int) -> Fault:
    def serve(handler: Handler, data: bytes) -> None:
        handler.begin(number, 0)

    return serve


def redirecting(to: Callable[[], str], number: int = 302) -> Fault:
    def serve(handler: Handler, data: bytes) -> None:
        handler.begin(number, 0, Location=to())

    return serve


def wrong_part(handler: Handler, data: bytes) -> None:
    """The beginning, whatever was asked for, under the name of a part."""
    start = handler.start()
    if not start:
        return cutting(0.5, 1)(handler, data)
    place = f"bytes 0-{len(data) - 1}/{len(data)}"
    handler.begin(206, len(data), Content_Range=place)
    handler.wfile.write(data)
    return None
