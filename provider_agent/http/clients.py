# SPDX-License-Identifier: Apache-2.0
"""Clients told apart by their addresses, and how often one may come."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address, ip_network

Clock = Callable[[], float]


#: Customers get a /64, a /56 or a /48, and nobody can tell which: each of these counts as a client.
_PREFIXES = (64, 56, 48)
#: How many times the share of one client each of `networks_of` may have.
SHARES = (1, 2, 4)


def networks_of(client: str) -> tuple[str, ...]:
    """What a client counts as, narrowest first: its address, or the networks of an IPv6 address."""
    try:
        parsed = ip_address(client)
    except ValueError:
        return (client,)
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return (str(parsed.ipv4_mapped),)
        return tuple(str(ip_network((parsed, length), strict=False)) for length in _PREFIXES)
    return (client,)


class RateLimit:
    """A token bucket for each network of a client, and a larger one for all together."""

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
        networks, now = networks_of(client), self._clock()
        with self._lock:
            left = {
                network: self._left(network, share, now)
                for network, share in zip(networks, SHARES, strict=False)
            }
            allowed = all(tokens >= 1 for tokens in left.values())
            if allowed:
                everybody, before = self._all
                room = self._burst * self._crowd
                everybody = min(room, everybody + (now - before) * self._rate * self._crowd)
                allowed = everybody >= 1
                self._all = (everybody - allowed, now)
            self._buckets.update({one: (tokens - allowed, now) for one, tokens in left.items()})
            while len(self._buckets) > self._MAX_CLIENTS:
                self._buckets.popitem(last=False)
            return allowed

    def pause(self, client: str) -> int:
        """Seconds, at least 1, after which a client that was not allowed may be."""
        networks, now = networks_of(client), self._clock()
        with self._lock:
            left, since = self._all
            waits = [(1 - left) / (self._rate * self._crowd) - (now - since)]
            for network, share in zip(networks, SHARES, strict=False):
                left, since = self._buckets.get(network, (1.0, now))
                waits.append((1 - left) / (self._rate * share) - (now - since))
        return max(1, math.ceil(max(waits)))

    def _left(self, network: str, share: int, now: float) -> float:
        """Takes a bucket out: the tokens that are in it."""
        left, since = self._buckets.pop(network, (float(self._burst * share), now))
        return min(self._burst * share, left + (now - since) * self._rate * share)
