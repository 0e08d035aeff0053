# SPDX-License-Identifier: Apache-2.0
"""Clients told apart by their addresses, and how often one may come."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address, ip_network

Clock = Callable[[], float]


def network_of(client: str) -> str:
    """What a client counts as: its address, or the /64 of an IPv6 address.

    A /64 is what one customer usually gets.
    """
    try:
        parsed = ip_address(client)
    except ValueError:
        return client
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ip_network((parsed, 64), strict=False))
    return client


class RateLimit:
    """A token bucket for each client (see `network_of`), and a larger one for all together."""

    _MAX_CLIENTS = 10_000

    def __init__(
        self, per_minute: int, burst: int, crowd: int = 20, clock: Clock = time.monotonic
    ) -> None:
        self._rate, self._burst, self._crowd, self._clock = per_minute / 60, burst, crowd, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._all = (float(burst * crowd), clock())
        self._lock = threading.Lock()

    def allow(self, client: str) -> bool:
        """Whether `client` (an IP address) may go on now; counts the try."""
        key, now = network_of(client), self._clock()
        with self._lock:
            left, since = self._buckets.pop(key, (float(self._burst), now))
            left = min(self._burst, left + (now - since) * self._rate)
            allowed = left >= 1
            if allowed:
                everybody, before = self._all
                room = self._burst * self._crowd
                everybody = min(room, everybody + (now - before) * self._rate * self._crowd)
                allowed = everybody >= 1
                self._all = (everybody - allowed, now)
            self._buckets[key] = (left - allowed, now)
            if len(self._buckets) > self._MAX_CLIENTS:
                self._buckets.popitem(last=False)
            return allowed
