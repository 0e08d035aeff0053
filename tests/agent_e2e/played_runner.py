# SPDX-License-Identifier: Apache-2.0
"""A runner that plays containers. What it has outlives the agent, like containers do."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from provider_agent.errors import RunnerError
from provider_agent.runners.disk import Taken
from provider_agent.runners.lease import (
    Arrival,
    ContainerState,
    Credentials,
    ImageRoom,
    Lease,
    LeaseState,
    Port,
    Status,
)
from teraproof.errors import Refused
from teraproof.protocol.digests import MAX_FILES
from teraproof.protocol.errors import Code
from tests.agent.leases.documents import PINNED


class Printed:
    """What a container has printed."""

    def __init__(self, pieces: list[tuple[int, bytes]]) -> None:
        self._pieces = iter(pieces)

    def __iter__(self) -> Printed:
        return self

    def __next__(self) -> tuple[int, bytes]:
        return next(self._pieces)

    def close(self) -> None:
        """Nothing holds it open."""


@dataclass
class PlayedRunner:
    """Containers that run when they are told to, and die when a test says so."""

    leases: dict[str, Lease] = field(default_factory=dict)
    started: set[str] = field(default_factory=set)
    dead: set[str] = field(default_factory=set)
    starts: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    logins: dict[str, dict[str, Credentials]] = field(default_factory=dict)
    away: bool = False
    unfit: str = ""
    """Why nothing can be prepared; "" when it can."""
    full: bool = False
    """Whether no image that is fetched now fits on the disk."""
    registry: threading.Event = field(default_factory=threading.Event)
    """Set when the registry that wants credentials sends all of an image; else it drips."""
    coming: set[str] = field(default_factory=set)
    """What is fetched from it at this moment."""
    given_up: set[str] = field(default_factory=set)
    fetched: list[str] = field(default_factory=list)
    ports: dict[int, int] = field(default_factory=dict)
    """Where a port of a container really is."""

    def __post_init__(self) -> None:
        self.registry.set()

    def _answer(self) -> None:
        if self.away:
            raise RunnerError("the engine does not answer", Code.CONTAINERS_AWAY)

    def check(self) -> str:
        return "played"

    def resolve(self, image: str, credentials: Credentials | None = None) -> str:
        self._answer()
        return PINNED

    def fetch(
        self,
        lease: Lease,
        credentials: Mapping[str, Credentials] | None = None,
        *,
        most: int,
        seconds: float,
    ) -> None:
        self._answer()
        if self.unfit:
            raise Refused(Code.IMAGE_UNFIT, self.unfit)
        self.fetched += [service.image for service in lease.services]

    def arrival(self, lease_id: str) -> Arrival | None:
        if lease_id in self.coming:
            return Arrival(1, 0, under_way=True)
        return Arrival(1, 1) if lease_id in self.leases else None

    def give_up(self, lease_id: str) -> None:
        self.given_up.add(lease_id)

    def close(self) -> None:
        self.given_up |= self.coming

    def image_room(self) -> ImageRoom:
        return ImageRoom()

    def free_images(self, size: int) -> int:
        return 0

    def needs(self, lease: Lease) -> Taken:
        each = [service for service, _ in lease.parts]
        files = len(each) + (MAX_FILES if lease.copies else 0)
        disk = lease.copies + sum(one.storage for one in each)
        return Taken(sum(one.memory for one in each), disk, files)

    def prepare(self, lease: Lease, credentials: Mapping[str, Credentials] | None = None) -> None:
        self._answer()
        if self.unfit:
            raise Refused(Code.IMAGE_UNFIT, self.unfit)
        if self.full:
            raise RunnerError("there is no room for an image", Code.DISK_FULL)
        if credentials:
            self._fetch(lease.lease_id)
        self.logins[lease.lease_id] = dict(credentials or {})
        self.leases[lease.lease_id] = lease

    def _fetch(self, lease_id: str) -> None:
        self.given_up.discard(lease_id)
        self.coming.add(lease_id)
        try:
            while not self.registry.wait(0.02):
                if lease_id in self.given_up:
                    raise RunnerError("it was given up", Code.IMAGE_GIVEN_UP)
        finally:
            self.coming.discard(lease_id)

    def prepared(self, lease_id: str) -> Lease | None:
        return self.leases.get(lease_id)

    def start(self, lease_id: str) -> None:
        self._answer()
        if lease_id not in self.leases:
            raise RunnerError("prepare the lease again")
        if lease_id not in self.started:
            self.starts.append(lease_id)
        self.started.add(lease_id)

    def state(self, lease_id: str) -> LeaseState:
        self._answer()
        parts = self.leases[lease_id].parts
        runs = lease_id in self.started and lease_id not in self.dead
        status = Status.RUNNING if runs else Status.EXITED
        return LeaseState(
            lease_id,
            lease_id in self.started,
            tuple(ContainerState(service.name, n, status) for service, n in parts),
        )

    def stop(self, lease_id: str) -> None:
        self.started.discard(lease_id)

    def remove(self, lease_id: str) -> None:
        self._answer()
        self.leases.pop(lease_id, None)
        self.started.discard(lease_id)
        self.removed.append(lease_id)

    def list(self) -> tuple[str, ...]:
        self._answer()
        return tuple(sorted({*self.leases, *self.coming}))

    def keep(self, wanted: Collection[str]) -> Mapping[str, LeaseState]:
        self._answer()
        for name in set(self.leases) - set(wanted):
            self.remove(name)
        return {name: self.state(name) for name in wanted if name in self.leases}

    def changes(self) -> Iterator[str]:
        return iter(())

    def logs(self, lease_id: str, *_: Any, **__: Any) -> Printed:
        return Printed([(1, f"printed by {lease_id[:8]}\n".encode())])

    def exec(self, *_: Any, **__: Any) -> Any:
        raise RunnerError("not played")

    def address(self, lease_id: str, service: str, port: Port, number: int = 0) -> tuple[str, int]:
        return "127.0.0.1", self.ports.get(port.number, port.number)
