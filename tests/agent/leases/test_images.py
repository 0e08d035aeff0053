# SPDX-License-Identifier: Apache-2.0
"""Images that come before a lease does: what they take of the ledger, and how they end."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from provider_agent.core.capacity import Amounts, Capacity, Resource
from provider_agent.core.fleet import Fleet
from provider_agent.core.settings import RunnerSettings
from provider_agent.devices import Survey
from provider_agent.errors import RunnerError
from provider_agent.modules.all import open_store
from provider_agent.modules.leases.images import ImageDesk, fetch_name
from provider_agent.modules.leases.promises import Promises
from provider_agent.modules.leases.repository import LeasesRepository
from provider_agent.modules.leases.settings import LeasesSettings
from provider_agent.modules.leases.stock import Stock
from provider_agent.runners.disk import Taken
from provider_agent.runners.lease import Arrival, ImageRoom, Lease
from provider_agent.store import Store
from teraproof.contracts.leases import LeasesContract
from teraproof.errors import Refused
from teraproof.protocol.errors import Code
from teraproof.protocol.leasespec import LeaseSpec
from teraproof.rpc.types import BlockRef
from tests.agent.leases.documents import PINNED, service, spec

DISK, MOST = 1_000, 400
BLOCK = BlockRef(1, b"1" * 32, 1_000)


def soon(holds: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.002)


class Engine:
    """A disk of `DISK` bytes, and one fetch on it at a time, whose bytes a test sends."""

    def __init__(self) -> None:
        self.free = DISK
        self.whole = 0  # bytes of images that are here
        self.part = 0  # bytes of the one that comes
        self.most: int | None = None
        self.name = ""
        self.closed = threading.Event()
        self.done = threading.Event()
        self.lock = threading.RLock()

    def resolve(self, image: str) -> str:
        return PINNED

    def fetch(self, lease: Lease, *, most: int, seconds: float) -> None:
        with self.lock:
            self.name, self.most = lease.lease_id, most
        end = time.monotonic() + seconds
        while not self.done.wait(0.002) and time.monotonic() < end:
            if self.closed.is_set():
                raise RunnerError("given up", Code.IMAGE_GIVEN_UP)
        with self.lock:
            self.most = None

    def send(self, size: int) -> None:
        with self.lock:
            self.part += size
            self.free -= size

    def finish_image(self) -> None:
        with self.lock:
            assert self.most is not None
            self.whole += self.part
            self.most, self.part = self.most - self.part, 0

    def left(self) -> int | None:
        return None if self.most is None else max(0, self.most - self.part)

    def arrival(self, lease_id: str) -> Arrival | None:
        with self.lock:
            if lease_id != self.name:
                return None
            return Arrival(2, 0, self.part, self.part, left=self.left())

    def room(self) -> ImageRoom:
        with self.lock:
            return ImageRoom(held=self.whole, expected=self.left() or 0)

    def close(self) -> None:
        self.closed.set()


class Ledger:
    """The desk and the promises of an agent that has no lease yet."""

    def __init__(self, store: Store, seconds: float = 60) -> None:
        self.engine = Engine()
        self.capacity = Capacity(lambda: Amounts(slots=1, disk=self.engine.free, gas=9), share=100)
        self.desk = ImageDesk(self.engine, self.capacity, most=MOST, seconds=seconds, patience=0)
        stock = Stock(
            LeasesSettings(cpus=1),
            RunnerSettings(),
            1,
            self.capacity,
            Fleet(0, lambda: Survey(()), lambda path: True),
            lambda lease: Taken(0, 0, 0),
        )
        self.promises = Promises(
            LeasesRepository(store),
            self.capacity,
            stock,
            cast("LeasesContract", None),  # of no quote is it asked
            "0x" + "1" * 40,
            lambda digest: None,
            lambda name: False,
            self.engine.room,
            self.desk.reckon,
        )

    def ask(self, one: LeaseSpec) -> None:
        with pytest.raises(Refused):
            self.desk.names(one, "somebody")

    def left(self) -> int:
        """What is left for others, as the ledger has it."""
        self.promises.update(BLOCK)
        return self.capacity.left(Resource.DISK)

    def close(self) -> None:
        self.engine.done.set()
        self.desk.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = open_store(tmp_path / "agent.sqlite")
    yield made
    made.close()


@examples(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(first=st.integers(0, 200), second=st.integers(0, 200), steps=st.integers(1, 4))
def test_fetch__takes_its_bytes_once_from_its_first_to_its_last(
    store: Store, first: int, second: int, steps: int
) -> None:
    ledger = Ledger(store)
    try:
        assert ledger.left() == DISK
        ledger.ask(spec())
        soon(lambda: ledger.engine.most is not None)
        # However much of it has come, and of which image: others have what it can never take.
        assert ledger.left() == DISK - MOST
        for image in (first, second):
            for step in range(steps):
                ledger.engine.send(image * (step + 1) // steps - image * step // steps)
                soon(lambda: ledger.left() == DISK - MOST)
            ledger.engine.finish_image()
            soon(lambda: ledger.left() == DISK - MOST)
        ledger.engine.done.set()
        soon(lambda: ledger.left() == DISK - first - second)
    finally:
        ledger.close()


def test_fetch__never_gives_to_others_what_may_still_come(store: Store) -> None:
    """The runner's word is older than the look at the ledger, or there is none."""
    ledger = Ledger(store)
    try:
        ledger.engine.arrival = lambda lease_id: None  # type: ignore[method-assign]
        ledger.ask(spec())
        soon(lambda: ledger.engine.most is not None)
        for _ in range(4):
            ledger.engine.send(50)
            assert ledger.left() <= DISK - MOST
    finally:
        ledger.close()


def test_another_fetch_under_way__is_counted_as_well(store: Store) -> None:
    ledger = Ledger(store)
    try:
        ledger.ask(spec())
        soon(lambda: ledger.engine.most is not None)
        room = ledger.engine.room
        # What a lease of ours is prepared with.
        ledger.engine.room = lambda: ImageRoom(0, room().expected + 100)  # type: ignore[method-assign]
        ledger.promises._room = ledger.engine.room
        assert ledger.left() == DISK - MOST - 100
    finally:
        ledger.close()


def test_disk_that_others_write_to__is_no_reason_to_refuse(store: Store) -> None:
    """All that is left would be taken: a byte less between two looks must not matter."""
    engine = Engine()
    engine.done.set()
    engine.free = 10**9
    looks = itertools.count()
    capacity = Capacity(lambda: Amounts(slots=1, disk=engine.free - 10**6 * next(looks), gas=9))
    desk = ImageDesk(engine, capacity, most=10**12, seconds=60)
    try:
        assert desk.names(spec(), "somebody") == {"web": PINNED}
    finally:
        desk.close()


def test_agent_ends_while_images_come__does_not_wait_for_a_registry(store: Store) -> None:
    ledger = Ledger(store, seconds=3_600)
    for number in range(4):  # some have not begun
        ledger.ask(spec(service(), name=f"number-{number}"))
    soon(lambda: ledger.engine.most is not None)
    ended = threading.Thread(target=ledger.desk.close)
    ended.start()
    ended.join(60)
    assert not ended.is_alive()
    assert ledger.capacity.left(Resource.DISK) == DISK


def test_images__wanted_while_they_come(store: Store) -> None:
    ledger = Ledger(store)
    try:
        one = spec()
        ledger.ask(one)
        assert ledger.desk.wanted() == {fetch_name(one.digest())}
    finally:
        ledger.close()
