# SPDX-License-Identifier: Apache-2.0
"""A machine that saves leases, with plain directories as volumes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from provider_agent.modules.leases.checkpoints import LeaseCheckpoints
from teraproof.protocol.leasespec import LeaseSpec
from teraproof.storage.layout import Destination
from teraproof.storage.reach import Reach
from teraproof.storage.transfer import open_store
from teraproof.storage.uris import parse

FIRST, SECOND = "1" * 64, "2" * 64


@dataclass
class Machine:
    """A provider's machine: volumes, and the agent's part that saves them."""

    home: Path
    reach: Reach = field(default_factory=Reach.own)

    def __post_init__(self) -> None:
        self.agent()

    def agent(self) -> LeaseCheckpoints:
        """A new process over the same files."""
        self.work = LeaseCheckpoints(self.shelves(), self.home / "agent", self.reach, wanted=True)
        return self.work

    def shelves(self) -> object:
        """What the agent's runner has of the files."""
        return self

    def close(self) -> None:
        """The agent ends."""
        self.work.close()

    def directory(self, lease_id: str, service: str, volume: str) -> Path:
        made = self.home / "volumes" / lease_id / service / volume / "data"
        made.mkdir(parents=True, exist_ok=True)
        return made

    def volume(self, lease: str) -> Path:
        return self.directory(lease, "web", "data")

    def runs(self, lease: str, asked: LeaseSpec) -> None:
        """The lease has started, with what opens a store that asks for nothing."""
        self.work.give(lease, {})
        self.work.begin(lease, asked)
        self.work.keep({lease: asked}, {lease})


def stored(asked: LeaseSpec) -> list[str]:
    assert asked.checkpoints is not None
    store = open_store(parse(asked.checkpoints.uri), Reach.own())
    return [str(each) for each in Destination(store).listed()]


def saved(machine: Machine, checkpoint: str) -> bool:
    return machine.work.kept(FIRST).checkpoint == checkpoint


def write(place: Path, text: str, name: str = "state") -> None:
    place.mkdir(parents=True, exist_ok=True)
    (place / name).write_text(text)
    os.utime(place / name, (1, 1))


def soon(look: Callable[[], object], what: str) -> None:
    end = time.monotonic() + 60
    while not look():
        assert time.monotonic() < end, f"not so: {what}"
        time.sleep(0.05)
