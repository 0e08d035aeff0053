# SPDX-License-Identifier: Apache-2.0
"""A JSON-RPC node over real HTTP whose answers a test decides, down to the bytes.

`StubNode(rule)`: `rule(method, params)` gives what the node says: `Result(value)`, `Refusal(code,
text, status)`, `Raw(...)` for bytes of its own, or None for the plain answers of a healthy chain.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CHAIN = 31337
GWEI = 10**9


@dataclass(frozen=True)
class Result:
    """A result, or an answer with `more` fields of its own (an id, say)."""

    value: object
    more: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Refusal:
    """A JSON-RPC error."""

    code: object
    text: object
    status: int = 200
    data: object = None


@dataclass(frozen=True)
class Raw:
    """Bytes as they are. `every` seconds pass after each byte of the body, or of the headers."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    every: float = 0.0
    drip_headers: bool = False


HTML = b"<html><head><title>Attention required</title></head><body>no</body></html>"
Rule = Callable[[str, list[Any]], Result | Refusal | Raw | None]


def block(number: int, base: int | None = GWEI, when: int | None = None) -> dict[str, object]:
    """A block of the healthy chain."""
    found: dict[str, object] = {
        "number": hex(number),
        "hash": "0x" + number.to_bytes(32, "big").hex(),
        "timestamp": hex(int(time.time()) if when is None else when),
        "gasLimit": hex(30_000_000),
    }
    return found if base is None else {**found, "baseFeePerGas": hex(base)}


class StubNode:
    """Use as a context manager. `calls` holds every request."""

    def __init__(
        self, rule: Rule | None = None, *, head: int = 100, base: int | None = GWEI
    ) -> None:
        self.rule, self.head, self.base = rule, head, base
        self.calls: list[tuple[str, list[Any]]] = []
        self.times: list[float] = []
        node = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                with contextlib.suppress(OSError):
                    node._handle(self)

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._stopped = threading.Event()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> StubNode:
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()

    def count(self, method: str) -> int:
        """How often a method was asked for."""
        return sum(1 for name, _ in self.calls if name == method)

    # ------------------------------------------------------------------ answers

    def healthy(self, method: str, params: list[Any]) -> object:
        """What a healthy node says."""
        if method == "eth_chainId":
            return hex(CHAIN)
        if method == "eth_getBlockByNumber":
            number = self.head if params[0] in ("latest", "pending") else int(params[0], 16)
            return block(number, self.base) if number <= self.head else None
        return {
            "eth_getLogs": [],
            "eth_getTransactionCount": "0x0",
            "eth_getBalance": hex(10**18),
            "eth_call": "0x" + "00" * 32,
            "eth_getCode": "0x",
            "eth_estimateGas": hex(100_000),
            "eth_gasPrice": hex(GWEI),
            "eth_maxPriorityFeePerGas": hex(GWEI),
            "eth_feeHistory": {"baseFeePerGas": [hex(self.base or 0)] * 6, "reward": [["0x0"]] * 5},
            "eth_sendRawTransaction": "0x" + "11" * 32,
        }.get(method)

    def _handle(self, handler: BaseHTTPRequestHandler) -> None:
        request = json.loads(handler.rfile.read(int(handler.headers["content-length"])))
        method, params = request["method"], request["params"]
        self.calls.append((method, params))
        self.times.append(time.monotonic())
        said = self.rule(method, params) if self.rule is not None else None
        if isinstance(said, Raw):
            self._send_raw(handler, said)
            return
        answer: dict[str, object] = {"jsonrpc": "2.0", "id": request["id"]}
        status = 200
        if isinstance(said, Refusal):
            error: dict[str, object] = {"code": said.code, "message": said.text}
            if said.data is not None:
                error["data"] = said.data
            answer["error"], status = error, said.status
        elif isinstance(said, Result):
            answer |= {"result": said.value, **said.more}
        else:
            answer["result"] = self.healthy(method, params)
        self._send(handler, status, json.dumps(answer).encode(), {})

    @staticmethod
    def _send(
        handler: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str]
    ) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def _send_raw(self, handler: BaseHTTPRequestHandler, said: Raw) -> None:
        if not said.every:
            self._send(handler, said.status, said.body, said.headers)
            return
        handler.close_connection = True
        start = b"HTTP/1.1 200 OK\r\n" + (
            b"" if said.drip_headers else b"content-length: 99999\r\n\r\n"
        )
        handler.wfile.write(start)
        piece = b"x" if said.drip_headers else b" "
        while not self._stopped.wait(said.every):
            handler.wfile.write(piece)
            handler.wfile.flush()


def bomb(mebibytes: int) -> Raw:
    """A few kilobytes that unpack to many."""
    data = gzip.compress(b" " * (mebibytes << 20), 9)
    return Raw(data, headers={"content-encoding": "gzip"})
