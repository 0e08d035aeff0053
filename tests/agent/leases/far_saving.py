# SPDX-License-Identifier: Apache-2.0
"""A provider whose leases run on a machine of a fleet: the real talk over TLS, without Ray."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from provider_agent.runners.lease import Shell
from provider_agent.runners.ray.cluster import Contact
from provider_agent.runners.ray.keys import identity
from provider_agent.runners.ray.link import Channel, Link, placed
from provider_agent.runners.ray.server import Server
from provider_agent.runners.ray.shelf_client import FarShelf
from provider_agent.runners.ray.shelf_server import ShelfServer
from provider_agent.runners.shelf import NearShelf
from provider_agent.runners.shelves import Shelf
from tests.agent.leases.saving import Machine


class Far:
    """What an agent has of the files: a way to their machine."""

    def __init__(self, machine: FarMachine) -> None:
        self._machine = machine

    def shelf(self, lease_id: str, service: str, volume: str, inside: str, most: int) -> Shelf:
        asked = {"of": service, "volume": volume, "inside": inside, "most": most}

        def dial() -> Channel:
            self._machine.dialled += 1
            return self._machine.link.channel("shelf", **placed(lease_id, "", 0), **asked)

        return FarShelf("m", dial)


class FarMachine(Machine):
    """See the module."""

    link: Link
    part: Server
    dialled = 0

    def __post_init__(self) -> None:
        self.begin()
        super().__post_init__()

    def begin(self) -> None:
        """Our part on the machine is there."""
        agent = identity(self.home / "keys", "agent")
        machine = identity(self.home / "far", "machine")
        self.part = Server("127.0.0.1", 0, lambda asked: None, self._channel)
        self.part.trust(machine.serves(agent.pem))
        contact = Contact("m", "", "127.0.0.1", self.part.port, machine.pem)
        self.link = Link(contact, agent, 20.0)

    def die(self) -> None:
        """Our part on the machine dies."""
        self.part.close()

    def close(self) -> None:
        super().close()
        self.die()

    def shelves(self) -> object:
        return Far(self)

    @property
    def own(self) -> Path:
        """What our part keeps there, besides volumes."""
        return self.home / "far" / "shelves"

    def _channel(self, asked: Mapping[str, Any]) -> Shell:
        assert asked["what"] == "shelf"
        place = self.directory(asked["lease"], asked["of"], asked["volume"])
        own = self.own / asked["lease"]
        return self.served(
            ShelfServer(partial(NearShelf, place, asked["inside"], own, asked["most"]), own)
        )

    def served(self, shelf: ShelfServer) -> Shell:
        """What serves a talk."""
        return shelf
