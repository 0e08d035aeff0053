# SPDX-License-Identifier: Apache-2.0
"""A module as small as one can be that brings everything: it counts what a contract logs, and
counts there itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from provider_agent.core.feed import Source
from provider_agent.core.health import Check
from provider_agent.core.module import Context, Cycle, Module, Table
from provider_agent.core.operation import Door, Operation
from provider_agent.core.settings import Address, Section
from provider_agent.core.trial import StartCheck, Trial
from provider_agent.store import Store
from provider_agent.store.tables import Tables
from teraproof.contracts.base import Event
from teraproof.rpc.types import Log
from tests.agent import counter


class ToySettings(Section):
    """What is counted."""

    contract: Address | None = None
    """The contract that counts."""
    wanted: int = Field(default=1, ge=0)
    """How often this agent counts itself."""


@dataclass(frozen=True)
class Counted(Event):
    """Something was counted in a slot."""

    slot: int


class Counts:
    """The contract's events."""

    def __init__(self, address: str) -> None:
        self.address = address

    def topics(self) -> list[bytes]:
        return [slot.to_bytes(32, "big") for slot in range(10)]

    def decode(self, entry: Log) -> Event | None:
        if entry.address.lower() != self.address.lower():
            return None
        return Counted(entry, int.from_bytes(entry.topics[0], "big"))


class ToyModule(Module):
    """See the module."""

    name: ClassVar[str] = "toy"
    section: ClassVar[str] = "toy"
    settings: ClassVar[type[Section]] = ToySettings
    tables: ClassVar[Tables]  # set by the test: the steps lie in its folder

    def __init__(self, context: Context, place: str) -> None:
        self._store, self._source = context.store, Counts(place)
        self._wanted = context.settings.section(ToySettings).wanted
        self._attempts = context.attempts("toy", place)
        self._seen = context.metrics.gauge("toy_seen", "What was counted.")
        self.life: list[str] = []

    @classmethod
    def build(cls, context: Context) -> Self | None:
        place = context.settings.section(ToySettings).contract
        return None if place is None else cls(context, place)

    @classmethod
    def checks(cls, trial: Trial) -> Sequence[StartCheck]:
        place = trial.settings.section(ToySettings).contract
        return [("toy", lambda: f"counts at {place}")]

    @classmethod
    def status(cls, store: Store) -> Sequence[str | Table]:
        return [Table("Toys", ("slot", "times"), [(str(s), str(n)) for s, n in counts(store)])]

    def start(self) -> None:
        self.life.append("start")

    def close(self) -> None:
        self.life.append("close")

    def contracts(self) -> Sequence[Source]:
        return [self._source]

    def consume(self, events: Sequence[Event], again: Sequence[bytes]) -> None:
        for event in events:
            if isinstance(event, Counted):
                with self._store.transaction() as db:
                    db.execute(
                        "INSERT INTO toys VALUES (?, 1) "
                        "ON CONFLICT (slot) DO UPDATE SET times = times + 1",
                        (event.slot,),
                    )

    def reconcile(self, cycle: Cycle) -> None:
        for number in range(self._wanted):
            self._attempts.begin(str(number), "count", counter.calldata(7))

    def measure(self) -> None:
        self._seen.set(sum(times for _, times in counts(self._store)))

    def operations(self, door: Door) -> Sequence[Operation]:
        return [Operation("GET", "/v1/toys", self.toys, public=True)]

    async def toys(self, request: Request) -> Response:
        """What was counted, by slot."""
        return JSONResponse({str(slot): times for slot, times in counts(self._store)})

    def offer(self) -> dict[str, Any]:
        return {"toys": len(counts(self._store))}

    def ready(self) -> Sequence[Callable[[], Check]]:
        return [lambda: Check("toys", bool(counts(self._store)))]


def counts(store: Store) -> list[tuple[int, int]]:
    """Slots, and how often each was counted."""
    return [(int(row[0]), int(row[1])) for row in store._db().execute("SELECT * FROM toys")]


def tables(folder: Path) -> Tables:
    """The table of toys, its steps written into `folder`."""
    folder.mkdir()
    (folder / "0001_toys.sql").write_text(
        "CREATE TABLE toys (slot INTEGER PRIMARY KEY, times INTEGER NOT NULL);"
    )
    return Tables("toy", folder)
