# SPDX-License-Identifier: Apache-2.0
"""A JSON-RPC proxy that misbehaves on demand, between the code under test and a real node.

`FaultyRpc(upstream)` listens on a free port. `fault(...)` adds a rule: which method (or all), in
which way it goes wrong, for how many calls, after how many good ones. The first rule that fits a
call and is not used up is applied. `calls` records every request with what was done to it.
Only the standard library; no pytest.
"""

from __future__ import annotations

import contextlib
import json
import threading
from dataclasses import dataclass, field
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.wire import BROKEN, Wire


class Mode(StrEnum):
    """Ways to go wrong."""

    HANG = "hang"  # take the request and never answer
    DROP = "drop"  # close the connection without forwarding
    DROP_RESPONSE = "drop_response"  # forward, then close the connection
    LAG = "lag"  # answer as if the last blocks were not there
    ERROR_500 = "error_500"
    RATE_LIMIT = "rate_limit"  # HTTP 429
    RATE_LIMIT_RPC = "rate_limit_rpc"  # error -32005
    GARBAGE = "garbage"  # not JSON
    NULL = "null"  # a result of null
    EMPTY = "empty"  # a result of no entries
    WRONG_CHAIN = "wrong_chain"  # another chain id
    NONCE_TOO_LOW = "nonce_too_low"  # refuse without forwarding
    UNDERPRICED = "underpriced"  # "replacement transaction underpriced", not forwarded
    KNOWN = "known"  # "already known", not forwarded: a lie
    KNOWN_AFTER = "known_after"  # forwarded, then "already known"
    NONCE_TOO_LOW_AFTER = "nonce_too_low_after"  # forwarded, then "nonce too low"
    RANGE = "range"  # eth_getLogs over more than `blocks` blocks is refused


_MESSAGES = {
    Mode.NONCE_TOO_LOW: (-32000, "nonce too low"),
    Mode.NONCE_TOO_LOW_AFTER: (-32000, "nonce too low"),
    Mode.UNDERPRICED: (-32000, "replacement transaction underpriced"),
    Mode.KNOWN: (-32000, "already known"),
    Mode.KNOWN_AFTER: (-32000, "already known"),
    Mode.RATE_LIMIT_RPC: (-32005, "rate limit exceeded"),
}
_FORWARDED_FIRST = (Mode.DROP_RESPONSE, Mode.KNOWN_AFTER, Mode.NONCE_TOO_LOW_AFTER)


@dataclass
class Fault:
    """A rule. `method` None fits all; `times` None never ends; `blocks` is for LAG and RANGE."""

    mode: Mode
    method: str | None = None
    times: int | None = None
    after: int = 0
    blocks: int = 0
    applied: int = 0
    passed: int = 0

    def takes(self, method: str) -> bool:
        """Whether the rule applies to this call; counts it."""
        if self.method is not None and self.method != method:
            return False
        if self.times is not None and self.applied >= self.times:
            return False
        if self.passed < self.after:
            self.passed += 1
            return False
        self.applied += 1
        return True


@dataclass
class FaultyRpc:
    """The proxy. Use as a context manager, or `start` and `stop`."""

    upstream: str
    wrong_chain_id: int = 1
    faults: list[Fault] = field(default_factory=list)
    calls: list[tuple[str, Mode | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._released = threading.Event()
        self._wire = Wire(self.upstream)
        self._server: ThreadingHTTPServer | None = None

    # ------------------------------------------------------------------ life

    @property
    def url(self) -> str:
        assert self._server is not None, "not started"
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> FaultyRpc:
        """Listen on a free port."""
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # or each answer waits 40 ms for an acknowledgement

            def do_POST(self) -> None:
                proxy._handle(self)

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()
        return self

    def stop(self) -> None:
        """Stop listening and let hanging requests go."""
        self._released.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
        self._wire.close()

    def __enter__(self) -> FaultyRpc:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    # ------------------------------------------------------------------ rules

    def fault(
        self,
        mode: Mode,
        method: str | None = None,
        *,
        times: int | None = None,
        after: int = 0,
        blocks: int = 0,
    ) -> Fault:
        """Add a rule; returns it, so that a test can see how often it was applied."""
        rule = Fault(mode, method, times, after, blocks)
        with self._lock:
            self.faults.append(rule)
        return rule

    def clear(self) -> None:
        """Behave again, and let hanging requests go."""
        with self._lock:
            self.faults.clear()
        self._released.set()
        self._released = threading.Event()

    def count(self, method: str) -> int:
        """How many requests with this method came in."""
        with self._lock:
            return sum(1 for name, _ in self.calls if name == method)

    # ------------------------------------------------------------------ requests

    def _choose(self, method: str) -> Fault | None:
        with self._lock:
            chosen = next((rule for rule in self.faults if rule.takes(method)), None)
            self.calls.append((method, chosen.mode if chosen else None))
            return chosen

    def _handle(self, handler: BaseHTTPRequestHandler) -> None:
        with contextlib.suppress(*BROKEN, RuntimeError):
            body = handler.rfile.read(int(handler.headers.get("content-length", "0")))
            request = json.loads(body)
            rule = self._choose(request["method"])
            if rule is None:
                self._answer(handler, 200, self._forward(request))
                return
            self._misbehave(handler, request, rule)
            return
        handler.close_connection = True

    def _misbehave(
        self, handler: BaseHTTPRequestHandler, request: dict[str, Any], rule: Fault
    ) -> None:
        mode = rule.mode
        if mode in _FORWARDED_FIRST:
            self._forward(request)
        if mode is Mode.HANG:
            self._released.wait(60.0)
        if mode in (Mode.HANG, Mode.DROP, Mode.DROP_RESPONSE):
            handler.close_connection = True
            return
        if mode in _MESSAGES:
            code, message = _MESSAGES[mode]
            self._answer(handler, 200, _error(request, code, message))
        elif mode is Mode.ERROR_500:
            self._answer(handler, 500, b"<html>internal server error</html>")
        elif mode is Mode.RATE_LIMIT:
            self._answer(handler, 429, b"slow down")
        elif mode is Mode.GARBAGE:
            self._answer(handler, 200, b'{"jsonrpc": "2.0", "res')
        elif mode is Mode.NULL:
            self._answer(handler, 200, _result(request, None))
        elif mode is Mode.EMPTY:
            self._answer(handler, 200, _result(request, []))
        elif mode is Mode.WRONG_CHAIN:
            if request["method"] == "eth_chainId":
                self._answer(handler, 200, _result(request, hex(self.wrong_chain_id)))
            else:
                self._answer(handler, 200, self._forward(request))
        elif mode is Mode.LAG:
            self._answer(handler, 200, self._lag(request, rule.blocks))
        elif mode is Mode.RANGE:
            self._answer(handler, 200, self._range(request, rule.blocks))

    def _forward(self, request: dict[str, Any]) -> bytes:
        return self._wire.post(request)

    def _ask(self, method: str, *params: object) -> Any:
        body = {"jsonrpc": "2.0", "id": 0, "method": method, "params": list(params)}
        return json.loads(self._wire.post(body)).get("result")

    def _range(self, request: dict[str, Any], most: int) -> bytes:
        if request["method"] == "eth_getLogs":
            wanted = request["params"][0]
            if int(wanted["toBlock"], 16) - int(wanted["fromBlock"], 16) + 1 > most:
                return _error(request, -32000, f"block range too large, at most {most}")
        return self._forward(request)

    def _lag(self, request: dict[str, Any], behind: int) -> bytes:
        """Answer as a node does that has not seen the last `behind` blocks."""
        top = max(0, int(self._ask("eth_blockNumber"), 16) - behind)
        method = request["method"]
        if method == "eth_blockNumber":
            return _result(request, hex(top))
        if method in ("eth_getTransactionReceipt", "eth_getTransactionByHash"):
            answer = json.loads(self._forward(request))
            found = answer.get("result")
            if found and found.get("blockNumber") and int(found["blockNumber"], 16) > top:
                return _result(request, None)
            return json.dumps(answer).encode()
        params = []
        for value in request["params"]:
            if value in ("latest", "pending"):
                value = hex(top)
            elif isinstance(value, dict) and "blockHash" in value and "data" not in value:
                block = self._ask("eth_getBlockByHash", value["blockHash"], False)
                if block is None or int(block["number"], 16) > top:
                    return _error(request, -32000, "header not found")
            elif method == "eth_getLogs" and isinstance(value, dict):
                last = min(int(value["toBlock"], 16), top)
                value = {**value, "toBlock": hex(last)}
                if int(value["fromBlock"], 16) > last:
                    return _result(request, [])
            params.append(value)
        if method == "eth_getBlockByNumber" and int(params[0], 16) > top:
            return _result(request, None)
        return self._forward({**request, "params": params})

    @staticmethod
    def _answer(handler: BaseHTTPRequestHandler, status: int, body: bytes) -> None:
        handler.send_response(status)
        handler.send_header("content-type", "application/json")
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)


def _result(request: dict[str, Any], result: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}).encode()


def _error(request: dict[str, Any], code: int, message: str) -> bytes:
    error = {"code": code, "message": message}
    return json.dumps({"jsonrpc": "2.0", "id": request["id"], "error": error}).encode()
