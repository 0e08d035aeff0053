# SPDX-License-Identifier: Apache-2.0
"""Where the files are that a lease has saved: on the agent's machine, or on another one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from teraproof.storage.snapshot import Copier
from teraproof.storage.target import Target


@runtime_checkable
class Shelves(Protocol):
    """A runner that has what its leases write on this machine."""

    def directory(self, lease_id: str, service: str, volume: str) -> Path:
        """Where the files of a volume are, of the first container of a service of a prepared lease.
        The tenant writes to them: follow no link. What lies next to it is on the same file system,
        and no container sees it. Raises RunnerError.
        """


@dataclass(frozen=True)
class Standing:
    """Whether a lease has begun with its checkpoint, whether that is next to its volume already,
    all of it, and whether what is there has a bound of its own.
    """

    has_begun: bool
    is_whole: bool
    is_bounded: bool


class Shelf(Copier, Target, Protocol):
    """A directory that a lease has saved, and what it begins with. For one thread. LocalError,
    with the code `containers_away` where its machine does not answer.
    """

    def look(self) -> Standing:
        """How it is."""
        ...

    def begin(self) -> None:
        """Move what has appeared into the volume, if anything has. It is done once."""
        ...

    def rest(self) -> None:
        """Let go of all connections, until more is asked for."""
        ...

    def cut_off(self) -> None:
        """Break off what is under way, and do nothing more. Any thread."""
        ...


@runtime_checkable
class FarShelves(Protocol):
    """A runner that has what its leases write on other machines."""

    def shelf(self, lease_id: str, service: str, volume: str, inside: str, most: int) -> Shelf:
        """A directory of a volume, as `Shelves` says; of at most `most` bytes. Asks nobody yet.
        Raises RunnerError.
        """
