# SPDX-License-Identifier: Apache-2.0
"""The seam between the agent and what it does: a module is a folder that brings everything of one
business (jobs, proofs, rewards), and is named in one line of `modules/all.py`.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, Self

from provider_agent.core.attempts import PAUSE, Attempts
from provider_agent.core.capacity import Capacity
from provider_agent.core.feed import EventFeed, Source
from provider_agent.core.fleet import Fleet
from provider_agent.core.head import NewestHead
from provider_agent.core.health import Check
from provider_agent.core.metrics import Metrics
from provider_agent.core.operation import Door, Operation
from provider_agent.core.panels import Panels
from provider_agent.core.settings import Section, Settings
from provider_agent.core.standing import Provider, Standing
from provider_agent.core.trial import StartCheck, Trial
from provider_agent.store import Store
from provider_agent.store.tables import Tables
from provider_agent.tx.keys import OperatorKey
from provider_agent.tx.sender import Sender
from teraproof.contracts.base import Event
from teraproof.rpc.client import RpcPool
from teraproof.rpc.pace import Pace
from teraproof.rpc.types import BlockRef


@dataclass(frozen=True)
class Cycle:
    """What a module is given once per cycle. Every module reads the same block."""

    block: BlockRef
    """The pinned block: what is derived from it is acted upon."""
    head: BlockRef
    """The newest block."""
    provider: Provider | None
    """At the pinned block; None while the operator works for nobody."""
    until: float = float("inf")
    clock: Callable[[], float] = time.monotonic

    def time_left(self) -> float:
        """Seconds that a module may still take. At 0 it leaves the rest for the next cycle."""
        return max(0.0, self.until - self.clock())


class Activity:
    """What needs this machine now. Asked by modules that give way to others."""

    def __init__(self) -> None:
        self._sources: list[tuple[str, Callable[[], bool]]] = []

    def add(self, module: str, is_busy: Callable[[], bool]) -> None:
        """Have a module's work count."""
        self._sources.append((module, is_busy))

    def of_others(self, module: str) -> bool:
        """Whether any other module works on this machine."""
        return any(is_busy() for name, is_busy in self._sources if name != module)


@dataclass(frozen=True)
class Context:
    """What modules are built with. They share no more than this."""

    settings: Settings
    key: OperatorKey
    pool: RpcPool
    """For what the agent itself needs."""
    visitors: RpcPool
    """For calls that strangers cause."""
    store: Store
    sender: Sender
    feed: EventFeed
    newest: NewestHead
    pace: Pace
    standing: Standing
    metrics: Metrics
    capacity: Capacity
    fleet: Fleet
    activity: Activity = field(default_factory=Activity)
    panels: Panels = field(default_factory=Panels)

    @property
    def short_pause(self) -> int:
        """Seconds before a second attempt at what is due in an epoch: epochs are short where blocks
        are, and it must not wait for the next one.
        """
        return max(1, min(PAUSE, int(self.pace.seconds * 2)))

    def attempts(self, name: str, address: str, pause: int = PAUSE) -> Attempts:
        """For the intents of one contract; `name` is its part of their keys."""
        return Attempts(self.store, self.sender, name, address, pause=pause)


def short_id(job: bytes) -> str:
    """A job's id in a table; commands find the job by it."""
    return "0x" + job.hex()[:12]


@dataclass(frozen=True)
class Table:
    """A table for people; the first column is never cut."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


class Module(Protocol):
    """One business of the agent. A module derives from it and leaves out what it does not need;
    `build` and `reconcile` it must have.

    `consume`, `reconcile`, `keep_up`, `measure` and `look_again` are called by the loop's thread,
    operations, `offer` and `ready` by those of the API.
    """

    name: ClassVar[str]
    tables: ClassVar[Tables | None] = None
    """What it keeps in the database."""
    section: ClassVar[str] = ""
    """What its table in the settings file is called."""
    settings: ClassVar[type[Section] | None] = None
    """What stands in that table; every field has a default."""

    kept: ClassVar[Sequence[str]] = ()
    """Directories of small files in the agent's data that a backup must hold."""

    @classmethod
    @abstractmethod
    def build(cls, context: Context) -> Self | None:
        """The module, None when the settings leave it out. Raises ChainError, LocalError."""

    @abstractmethod
    def reconcile(self, cycle: Cycle) -> None:
        """Do what is owed at the pinned block. Raises ChainError; what was written stays right.

        Any error is of this module alone: it is logged, and the module is called again.
        """

    # ------------------------------------------------------------------ without a running agent

    @classmethod
    def checks(cls, trial: Trial) -> Sequence[StartCheck]:
        """Start-up checks by their names: a line that says what is there, or an error."""
        return ()

    @classmethod
    def status(cls, store: Store) -> Sequence[str | Table]:
        """What `status` shows of it."""
        return ()

    # ------------------------------------------------------------------ the life of the agent

    def start(self) -> None:
        """Called once, before the first cycle."""
        return

    def close(self) -> None:
        """Called once, after the last cycle, even if `start` has failed."""
        return

    # ------------------------------------------------------------------ the cycle

    def contracts(self) -> Sequence[Source]:
        """The contracts whose events it wants."""
        return ()

    def consume(self, events: Sequence[Event], again: Sequence[bytes]) -> None:
        """Keep what new events tell, in the feed's transaction; those of all modules' contracts.

        `again` are ids of objects whose events have vanished in a reorg.
        """
        return

    @property
    def is_idle(self) -> bool:
        """Whether nothing depends on a provider's entry that is fresh to the block."""
        return True

    @property
    def look_again(self) -> float | None:
        """Seconds after which the next cycle is wanted at the latest; None when there is no hurry.

        Read after `reconcile`.
        """
        return None

    def keep_up(self) -> None:
        """Do what needs no chain, while no node answers: called again and again instead of
        `reconcile`. Nothing may be ended: what the chain has decided meanwhile is not known.
        """
        return

    def measure(self) -> None:
        """Set the metrics of it, every few seconds."""
        return

    # ------------------------------------------------------------------ what others see

    def operations(self, door: Door) -> Sequence[Operation]:
        """Its part of the HTTP API."""
        return ()

    def offer(self) -> dict[str, Any]:
        """Its part of `GET /v1/provider`, as JSON values."""
        return {}

    def ready(self) -> Sequence[Callable[[], Check]]:
        """What else must hold for the agent to be ready; quick to ask."""
        return ()
