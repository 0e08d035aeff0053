# SPDX-License-Identifier: Apache-2.0
"""Who is connected, and who makes room for a newcomer. Used on the event loop alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Protocol

from provider_agent.http.clients import network_of


class Member(Protocol):
    """A connection."""

    idle_since: float | None
    """When its client began to owe us a request, by the loop's clock; None while we answer."""

    def drop(self) -> None:
        """End it at once."""
        ...


class Crowd:
    """Connections by client. A newcomer takes the place of the one that has been idle longest:
    of its own address when that has its share, of the address with the most when all is full.
    Connections whose requests are being answered are never dropped.

    Trusted proxies have no share of their own: many clients come through one.
    """

    def __init__(self, most: int, share: int, proxies: Sequence[str] = ()) -> None:
        self.most, self._share = most, share
        self._proxies: list[IPv4Network | IPv6Network] = [ip_network(p) for p in proxies]
        self._clients: dict[Member, str] = {}
        self._counts: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._clients)

    def has_room(self) -> bool:
        """Whether one more connection can be accepted, if need be in the place of an idle one."""
        return len(self._clients) < self.most or any(
            member.idle_since is not None for member in self._clients
        )

    def make_room(self) -> None:
        """One more has come: where all was full, somebody idle leaves for it."""
        if len(self._clients) >= self.most:
            # The address that holds most loses first, whoever the newcomer is.
            any(self._drop_one(self._of(client)) for client, _ in self._counts.most_common())

    def admits(self, address: str) -> bool:
        """Whether a connection from `address` may stay."""
        client = network_of(address)
        if self.is_proxy(address) or self._counts[client] < self._share:
            return True
        return self._drop_one(self._of(client))

    def join(self, member: Member, address: str) -> None:
        """Count a connection until `leave`."""
        client = network_of(address)
        self._clients[member] = client
        self._counts[client] += 1

    def leave(self, member: Member) -> None:
        """It has ended; a second time changes nothing."""
        client = self._clients.pop(member, None)
        if client is not None:
            self._counts[client] -= 1
            if not self._counts[client]:
                del self._counts[client]

    def shed(self) -> None:
        """Drop every other idle connection: the process has run out of descriptors."""
        for _ in range((len(self._clients) + 1) // 2):
            if not self._drop_one(self._clients):
                return

    def is_proxy(self, address: str) -> bool:
        """Whether `address` is one of our own reverse proxies."""
        if not self._proxies:
            return False
        parsed = ip_address(address)
        return any(parsed in network for network in self._proxies)

    def _of(self, client: str) -> list[Member]:
        return [member for member, found in self._clients.items() if found == client]

    def _drop_one(self, members: Iterable[Member]) -> bool:
        idle = [(m.idle_since, m) for m in members if m.idle_since is not None]
        if not idle:
            return False
        _, stalest = min(idle, key=lambda pair: pair[0])
        self.leave(stalest)
        stalest.drop()
        return True
