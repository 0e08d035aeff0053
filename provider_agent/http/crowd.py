# SPDX-License-Identifier: Apache-2.0
"""Who is connected, and who makes room for a newcomer. Used on the event loop alone."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Protocol

from provider_agent.http.clients import SHARES, networks_of


class Member(Protocol):
    """A connection."""

    def owed_for(self, now: float) -> float | None:
        """Seconds for which its client has kept us waiting; None while it waits for us.

        A head, a body and the reading of an answer are all owed by the client. `now` is of
        `time.monotonic`, as the loop's clock.
        """
        ...

    def drop(self) -> None:
        """End it at once."""
        ...


class Crowd:
    """Connections by client. A newcomer takes the place of one whose client keeps us waiting: of
    its own network when that has its share, of the network with the most when all is full.
    Of several the one that has kept us waiting longest goes. Who waits for us is never dropped.

    An IPv6 address belongs to several networks (see `networks_of`), each with a share of its own.
    Trusted proxies have no share of their own: many clients come through one.
    """

    def __init__(
        self,
        most: int,
        share: int,
        proxies: Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.most, self._share, self._clock = most, share, clock
        self._proxies: list[IPv4Network | IPv6Network] = [ip_network(p) for p in proxies]
        self._networks: dict[Member, tuple[str, ...]] = {}
        self._counts: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._networks)

    def has_room(self) -> bool:
        """Whether one more connection can be accepted, if need be in the place of a late one."""
        now = self._clock()
        return len(self._networks) < self.most or any(
            member.owed_for(now) is not None for member in self._networks
        )

    def make_room(self) -> None:
        """One more has come: where all was full, somebody late leaves for it."""
        if len(self._networks) >= self.most:
            self._drop_one(self._networks)

    def admits(self, address: str) -> bool:
        """Whether a connection from `address` may stay."""
        if self.is_proxy(address):
            return True
        for network, times in zip(networks_of(address), SHARES, strict=False):
            if self._counts[network] < self._share * times:
                continue
            if not self._drop_one([m for m, names in self._networks.items() if network in names]):
                return False
        return True

    def join(self, member: Member, address: str) -> None:
        """Count a connection until `leave`."""
        networks = networks_of(address)
        self._networks[member] = networks
        self._counts.update(networks)

    def leave(self, member: Member) -> None:
        """It has ended; a second time changes nothing."""
        for network in self._networks.pop(member, ()):
            self._counts[network] -= 1
            if not self._counts[network]:
                del self._counts[network]

    def shed(self) -> None:
        """Drop every other connection that is late: the process has run out of descriptors."""
        for _ in range((len(self._networks) + 1) // 2):
            if not self._drop_one(self._networks):
                return

    def give_way(self) -> bool:
        """Drop one that is late for a newcomer elsewhere; whether there was one."""
        return self._drop_one(self._networks)

    def is_proxy(self, address: str) -> bool:
        """Whether `address` is one of our own reverse proxies."""
        if not self._proxies:
            return False
        parsed = ip_address(address)
        return any(parsed in network for network in self._proxies)

    def _drop_one(self, members: Collection[Member]) -> bool:
        now = self._clock()
        late = {m: owed for m in members if (owed := m.owed_for(now)) is not None}
        if not late:
            return False
        # The widest network first: of one that holds most, the part that holds most, and so on.
        for depth in range(1, len(SHARES) + 1):
            part = {member: _network(self._networks[member], depth) for member in late}
            most = max(part.values(), key=lambda network: self._counts[network])
            late = {member: late[member] for member, network in part.items() if network == most}
        latest = max(late, key=lambda member: late[member])
        self.leave(latest)
        latest.drop()
        return True


def _network(networks: tuple[str, ...], depth: int) -> str:
    """The network of a client at this depth, 1 for the widest; an IPv4 address has only itself."""
    return networks[max(0, len(networks) - depth)]
