# SPDX-License-Identifier: Apache-2.0
"""Endpoints of the agent: one that is well, and others that turn against it."""

from __future__ import annotations

import contextlib
import json
import random
import time
from enum import StrEnum
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.agent.faulty_rpc import FaultyRpc

_VETOES = (
    (-32000, "historical state is not available"),
    (-32002, "request timed out"),
    (30, "Request timeout on the free tier, please upgrade your tier to the paid one"),
    (-32000, "Unauthorized: You must authenticate your request with an API key"),
    (-32601, "the method does not exist/is not available"),
    (-32046, "Cannot fulfill request"),
    (-32001, "daily quota used up"),
)
_ESTIMATES = (0, 21_000, 45_000, 100_000_000)
_GWEI = 10**9


class Kind(StrEnum):
    """What an endpoint does under siege."""

    GOOD = "good"
    DRIP = "drip"  # a byte a second, without end
    VETO = "veto"  # refuses everything but its chain and its blocks, in changing words
    LIAR = "liar"  # wrong estimates and tips, no logs


class SiegeNode(FaultyRpc):
    """A node that behaves until `hostile` is set."""

    def __init__(self, upstream: str, kind: Kind) -> None:
        super().__init__(upstream)
        self.kind, self.hostile = kind, False

    def start(self) -> FaultyRpc:
        """Listen; an agent that is killed leaves broken connections, which are not news."""
        super().start()
        assert self._server is not None
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        return self

    def _handle(self, handler: BaseHTTPRequestHandler) -> None:
        if not self.hostile or self.kind is Kind.GOOD:
            super()._handle(handler)
            return
        with contextlib.suppress(OSError, ValueError):
            body = handler.rfile.read(int(handler.headers.get("content-length", "0")))
            if self.kind is Kind.DRIP:
                self._drip(handler)
                return
            self._answer(handler, 200, self._wrong(json.loads(body)))

    def _drip(self, handler: BaseHTTPRequestHandler) -> None:
        handler.close_connection = True
        handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 99999\r\n\r\n")
        while self.hostile:
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(1)

    def _wrong(self, request: dict[str, Any]) -> bytes:
        method = request["method"]
        if method in ("eth_chainId", "eth_getBlockByNumber"):
            return self._forward(request)
        if self.kind is Kind.VETO:
            code, message = random.choice(_VETOES)
            return _reply(request, error={"code": code, "message": message})
        if method == "eth_estimateGas":
            return _reply(request, result=hex(random.choice(_ESTIMATES)))
        if method in ("eth_maxPriorityFeePerGas", "eth_gasPrice"):
            return _reply(request, result=hex(190 * _GWEI))
        if method == "eth_feeHistory":
            rewards = {"baseFeePerGas": [hex(_GWEI)] * 6, "reward": [[hex(190 * _GWEI)]] * 5}
            return _reply(request, result=rewards)
        if method == "eth_getLogs":
            return _reply(request, result=[])
        if method == "eth_getTransactionReceipt":
            return _reply(request, result=None)
        return self._forward(request)


def _reply(request: dict[str, Any], **answer: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": request["id"], **answer}).encode()
