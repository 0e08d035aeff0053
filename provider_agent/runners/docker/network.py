# SPDX-License-Identifier: Apache-2.0
"""A network for each lease, and the walls around all of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from ipaddress import IPv4Network, ip_network
from typing import Any

from provider_agent.errors import RunnerError
from provider_agent.runners.docker.engine import Engine, EngineRefused, labelled, named
from provider_agent.runners.docker.labels import LEASE, Names
from provider_agent.runners.docker.walls import Walls, Yard
from provider_agent.runners.lease import Lease

_OUTBOUND = "teraproof.outbound"
_BITS = 26  # 61 containers of a lease
_TRIES = 8


class Networks:
    """See the module. `pool` is what leases get their addresses of."""

    def __init__(self, engine: Engine, names: Names, walls: Walls, pool: str) -> None:
        self._engine, self._names, self._walls = engine, names, walls
        self._pool = IPv4Network(pool)
        if self._pool.prefixlen > _BITS:
            raise RunnerError(f"the pool {pool} is too small: each lease takes a /{_BITS} of it")
        self._lock = threading.Lock()

    @property
    def most_parts(self) -> int:
        """How many containers fit into a lease's network."""
        return int(2 ** (32 - _BITS) - 3)

    def ensure(self, lease: Lease) -> str:
        """The name of a lease's network, behind its walls. Raises RunnerError, EngineAway."""
        name = self._names.network(lease.lease_id)
        with self._lock:
            if self._engine.find(f"/networks/{named(name)}") is None:
                # The walls of bridges that are not listed stand first.
                self._walls.build(self.yards())
                self._create(lease, name)
            self._walls.build(self.yards())
        return name

    def rebuild(self) -> None:
        """Puts the walls back as they have to be, if somebody has changed them."""
        with self._lock:
            yards = self.yards()
            if yards:
                self._walls.build(yards)

    def remove(self, lease_id: str) -> None:
        """Takes a lease's network away, whatever still hangs on it."""
        path = f"/networks/{named(self._names.network(lease_id))}"
        with self._lock:
            try:
                self._engine.delete(path)
            except EngineRefused:
                # A killed engine may have left ends of containers that are gone.
                found = self._engine.find(path) or {}
                for container in found.get("Containers") or {}:
                    self._engine.post(f"{path}/disconnect", {"Container": container, "Force": True})
                self._engine.delete(path)
            yards = self.yards()
            if yards:
                self._walls.build(yards)
            else:
                self._walls.take_down()

    def leases(self) -> set[str]:
        """The leases that have a network."""
        return {one["Labels"][LEASE] for one in self._mine()}

    def yards(self) -> list[Yard]:
        """The networks of all leases of this agent."""
        return [
            Yard(
                self._names.bridge(one["Labels"][LEASE]),
                IPv4Network(one["IPAM"]["Config"][0]["Subnet"]),
                one["Labels"].get(_OUTBOUND) == "yes",
            )
            for one in self._mine()
        ]

    def _mine(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._engine.get(
            "/networks", filters=labelled(self._names.mine)
        )
        return found

    def _create(self, lease: Lease, name: str) -> None:
        refusal = ""
        for _, subnet in zip(range(_TRIES), self._free(), strict=False):
            try:
                self._engine.post("/networks/create", self._document(lease, name, subnet))
            except EngineRefused as refused:
                refusal = refused.words
                if self._engine.find(f"/networks/{named(name)}") is not None:
                    return
            else:
                return
        raise RunnerError(
            f"a lease gets no network: {refusal or f'all of {self._pool} is taken'}; give leases "
            "another range of addresses"
        )

    def _document(self, lease: Lease, name: str, subnet: IPv4Network) -> dict[str, Any]:
        said = {_OUTBOUND: "yes" if lease.outbound else "no"}
        return {
            "Name": name,
            "CheckDuplicate": True,
            "Driver": "bridge",
            "EnableIPv6": False,
            "Attachable": False,
            "IPAM": {"Config": [{"Subnet": str(subnet), "Gateway": str(subnet[1])}]},
            "Options": {
                "com.docker.network.bridge.name": self._names.bridge(lease.lease_id),
                "com.docker.network.bridge.enable_icc": "true",
                "com.docker.network.bridge.enable_ip_masquerade": str(lease.outbound).lower(),
            },
            "Labels": self._names.labels(lease.lease_id, **said),
        }

    def _free(self) -> Iterator[IPv4Network]:
        """Ranges of the pool that no network of the engine touches."""
        taken = [
            ip_network(part["Subnet"])
            for one in self._engine.get("/networks")
            for part in one["IPAM"].get("Config") or ()
            if ":" not in part.get("Subnet", ":")
        ]
        for subnet in self._pool.subnets(new_prefix=_BITS):
            if not any(subnet.overlaps(other) for other in taken):
                yield subnet
