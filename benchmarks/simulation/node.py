# SPDX-License-Identifier: Apache-2.0
"""A provider's endpoint as the agent meets it: it counts, takes its time, and admits so much."""

from __future__ import annotations

import json
import time
from collections import Counter, deque
from typing import Any

from teraproof.rpc.http import Http, Response

TOO_MANY = b'{"jsonrpc":"2.0","id":null,"error":{"code":429,"message":"too many requests"}}'


class Node:
    """Stands before `Http.post`. `rate` is calls in any second, `latency` seconds a call."""

    def __init__(self, rate: float, latency: float) -> None:
        self._rate, self._latency = rate, latency
        self._lately: deque[float] = deque()
        self.calls: Counter[str] = Counter()
        self.refused = 0
        self.busiest = 0

    def install(self) -> None:
        """Take every request of this process."""
        send, node = Http.post, self

        def post(self: Http, url: str, body: bytes, *, seconds: float, most: int) -> Response:
            time.sleep(node._latency)
            if not node._admit(json.loads(body)):
                return Response(429, TOO_MANY, 1.0)
            return send(self, url, body, seconds=seconds, most=most)

        Http.post = post  # type: ignore[method-assign]

    def _admit(self, request: Any) -> bool:
        # A provider counts each call of a batch.
        asked = request if isinstance(request, list) else [request]
        now = time.monotonic()
        while self._lately and now - self._lately[0] >= 1.0:
            self._lately.popleft()
        self._lately.extend([now] * len(asked))
        self.busiest = max(self.busiest, len(self._lately))
        for call in asked:
            self.calls[call["method"]] += 1
        if len(self._lately) > self._rate:
            self.refused += len(asked)
            return False
        return True
