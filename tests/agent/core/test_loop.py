# SPDX-License-Identifier: Apache-2.0
"""The cycle: who is called, in which order, and that nobody's trouble is another's."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self, cast

import pytest

from provider_agent.core.capacity import Capacity
from provider_agent.core.feed import EventFeed
from provider_agent.core.fleet import Fleet
from provider_agent.core.head import NewestHead
from provider_agent.core.loop import Loop
from provider_agent.core.metrics import Metrics
from provider_agent.core.module import Context, Cycle, Module
from provider_agent.core.settings import Settings
from provider_agent.core.standing import Standing
from provider_agent.core.watch import Watch
from provider_agent.errors import KeyInUse
from provider_agent.modules.all import MODULES
from provider_agent.store import IntentKey, StoreError
from provider_agent.tx.keys import OperatorKey
from provider_agent.tx.sender import Sender
from teraproof.contracts.base import Event
from teraproof.contracts.staking import StakingContract
from teraproof.protocol.errors import Code
from teraproof.rpc.client import RpcPool
from teraproof.rpc.errors import ChainError
from teraproof.rpc.pace import Pace
from teraproof.rpc.types import BlockRef
from tests.agent.duty_parts import OPERATOR, OWNER, STAKING, PlainChain
from tests.agent.stores import fresh_store


class Part(Module):
    """A module that does what the test says."""

    name: ClassVar[str] = "part"

    def __init__(self, name: str, rig: Rig) -> None:
        self.name = name  # type: ignore[misc]  # each is another one
        self._rig = rig
        self.cycles: list[Cycle] = []
        self.does: Callable[[Cycle], None] = lambda cycle: None
        self.hears: Callable[[], None] = lambda: None
        self.heard = 0
        self.keeps: Callable[[], None] = lambda: None
        self.tended = 0

    @classmethod
    def build(cls, context: Context) -> Self | None:
        return None

    def reconcile(self, cycle: Cycle) -> None:
        self._rig.called.append(self.name)
        self.cycles.append(cycle)
        self.does(cycle)

    def keep_up(self) -> None:
        self.tended += 1
        self.keeps()

    def consume(self, events: Sequence[Event], again: Sequence[bytes]) -> None:
        self.hears()
        self.heard += len(events)


@dataclass
class Chain:
    """The chain as the loop meets it: a head, events, a sender that ticks."""

    head: BlockRef = field(default_factory=lambda: BlockRef(10, b"\x0a" * 32, 1_000))
    fails: Exception | None = None
    events_fail: Exception | None = None
    ticks: int = 0
    last_mined: int = 0
    endpoints: Sequence[int] = (1,)
    address: str = OPERATOR.address
    looks_back: bool = False
    polls: int = 0
    done: bool = True
    balance: int = 7

    def tick(self) -> BlockRef:
        if self.fails is not None:
            raise self.fails
        self.ticks += 1
        return self.head

    def see(self, head: BlockRef) -> None:
        pass

    @property
    def reserve(self) -> Chain:
        return self

    def look(self, block: BlockRef) -> None:
        pass

    def poll(self, block: BlockRef, consume: Any, go_on: Callable[[], bool]) -> bool:
        self.polls += 1
        if self.events_fail is not None:
            raise self.events_fail
        consume(["event"], [])
        go_on()
        return self.done


@dataclass
class Rig:
    folder: Path
    now: float = 0.0
    called: list[str] = field(default_factory=list)
    chain: Chain = field(default_factory=Chain)

    def __post_init__(self) -> None:
        def clock() -> float:
            return self.now

        chain: Any = self.chain
        self.staking = PlainChain()
        self.metrics = Metrics()
        self.store = fresh_store(self.folder / "agent.sqlite")
        self.first, self.second = Part("first", self), Part("second", self)
        self.settings = Settings.model_validate(
            {
                "chain": {
                    "rpc_urls": ["http://127.0.0.1:1"],
                    "chain_id": 31337,
                    "staking": STAKING,
                    "confirmations": 0,
                },
                "operator": {},
                "agent": {"data_dir": self.folder},
            }
        )
        context = Context(
            settings=self.settings,
            key=cast(OperatorKey, None),
            pool=cast(RpcPool, chain),
            visitors=cast(RpcPool, None),
            store=self.store,
            sender=cast(Sender, chain),
            feed=cast(EventFeed, chain),
            newest=NewestHead(lambda: self.chain.head, 2.0, clock),
            pace=cast(Pace, chain),
            standing=Standing(cast(StakingContract, self.staking), OPERATOR.address, clock),
            metrics=self.metrics,
            fleet=cast(Fleet, None),
            capacity=cast(Capacity, None),
        )
        self.watch = Watch(lambda: None, clock=clock)
        modules = (self.first, self.second)
        self.loop = Loop(context, modules, self.watch, clock=clock)

    def next_block(self) -> None:
        number = self.chain.head.number + 1
        self.chain.head = BlockRef(number, number.to_bytes(32, "big"), 1_000 + number)
        self.staking.blocks[number] = self.chain.head
        self.now += 12


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.store.close()


def raising(error: Exception) -> Callable[..., None]:
    def work(*_: object) -> None:
        raise error

    return work


def test_cycle__every_module__same_block_and_provider(rig: Rig) -> None:
    assert rig.loop.cycle()
    assert rig.called == ["first", "second"]
    (one,), (two,) = rig.first.cycles, rig.second.cycles
    assert one.block == two.block == rig.chain.head
    assert one.provider is two.provider
    assert one.provider is not None and one.provider.owner == OWNER


def test_modules__a_bond_at_stake__comes_first() -> None:
    assert [kind.name for kind in MODULES] == [
        "proofs", "leases", "jobs", "disputes", "inference", "rewards",
    ]  # fmt: skip


@pytest.mark.parametrize("error", [ChainError("no node"), ZeroDivisionError(), OSError(28, "full")])
@pytest.mark.parametrize("who", ["first", "second"])
def test_cycle__module_fails__the_other_and_the_sender_go_on(
    rig: Rig, who: str, error: Exception
) -> None:
    broken, sound = (rig.first, rig.second) if who == "first" else (rig.second, rig.first)
    broken.does = raising(error)
    for _ in range(3):
        rig.next_block()
        assert rig.loop.cycle()
    assert len(sound.cycles) == 3 and rig.chain.ticks == 3
    assert rig.loop.last_cycle is not None
    rig.now += 80
    rig.loop.cycle()
    assert {check.name for check in rig.loop.checks() if not check.ok} == {who}
    broken.does = lambda cycle: None
    rig.now += 60
    rig.loop.cycle()
    assert all(check.ok for check in rig.loop.checks())


@pytest.mark.parametrize("who", ["first", "second"])
def test_consume__module_fails__the_other_hears_it(rig: Rig, who: str) -> None:
    broken, sound = (rig.first, rig.second) if who == "first" else (rig.second, rig.first)
    broken.hears = raising(ZeroDivisionError())
    rig.loop.cycle()
    assert (broken.heard, sound.heard) == (0, 1)


def test_cycle__events_cannot_be_read__what_follows_from_state_is_done(rig: Rig) -> None:
    rig.chain.events_fail = ChainError("no logs here")
    assert rig.loop.cycle()
    assert rig.called == ["first", "second"]


def test_cycle__events_not_all_read__read_on_in_the_next_cycle_of_the_same_block(rig: Rig) -> None:
    rig.chain.done = False
    rig.loop.cycle()
    rig.chain.done = True
    rig.loop.cycle()
    rig.loop.cycle()
    assert rig.chain.polls == 2


def test_cycle__chain_cannot_be_read__nobody_is_called_and_the_pause_grows(rig: Rig) -> None:
    rig.chain.fails = ChainError("no node answers")
    pauses = []
    for _ in range(4):
        assert not rig.loop.cycle()
        pauses.append(rig.loop._policy.wait("chain"))
        rig.now += pauses[-1]
    assert rig.called == [] and pauses == [4, 8, 16, 32]


class Sleeper(threading.Event):
    """Lets the rig's clock run where the loop would sleep; set when the test's time is over."""

    def __init__(self, rig: Rig, until: float) -> None:
        super().__init__()
        self._rig, self._until = rig, until

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self._rig.now += max(timeout, 0.001)
        if self._rig.now >= self._until:
            self.set()
        return self.is_set()


def test_run__no_node_for_ten_minutes__what_runs_is_looked_after_all_the_time(rig: Rig) -> None:
    """Though the chain itself is asked less and less often."""
    rig.chain.fails = ChainError("no node answers")
    rig.loop.run(Sleeper(rig, 600.0))
    assert rig.called == []
    assert rig.first.tended >= 600 / rig.settings.chain.poll_seconds / 2
    assert rig.first.tended == rig.second.tended


@pytest.mark.parametrize("who", ["first", "second"])
def test_run__no_node_and_a_module_fails__the_other_is_looked_after(rig: Rig, who: str) -> None:
    broken, sound = (rig.first, rig.second) if who == "first" else (rig.second, rig.first)
    broken.keeps = raising(ZeroDivisionError())
    rig.chain.fails = ChainError("no node answers")
    rig.loop.run(Sleeper(rig, 600.0))
    assert sound.tended > broken.tended > 1


def test_run__nodes_answer__nobody_does_without_the_chain(rig: Rig) -> None:
    rig.loop.run(Sleeper(rig, 60.0))
    assert rig.called and rig.first.tended == rig.second.tended == 0


def test_run__nodes_are_back__the_chain_is_read_again(rig: Rig) -> None:
    rig.chain.fails = ChainError("no node answers")

    def back() -> None:
        if rig.now > 100:
            rig.chain.fails = None

    rig.first.keeps = back
    rig.loop.run(Sleeper(rig, 400.0))
    assert "first" in rig.called and rig.loop.last_cycle is not None


@pytest.mark.parametrize("error", [KeyInUse("stranger"), StoreError(Code.DATABASE_GONE, "moved")])
def test_run__what_ends_an_agent__ends_it(rig: Rig, error: Exception) -> None:
    rig.second.does = raising(error)
    with pytest.raises(type(error)):
        rig.loop.run(threading.Event())


def test_cycle__slow_module__the_next_one_still_has_time(rig: Rig) -> None:
    """One deadline for all: a share for each, and never nothing."""

    def slow(cycle: Cycle) -> None:
        left = cycle.time_left()
        assert 0 < left <= 30
        rig.now += 2 * left
        assert cycle.time_left() == 0

    rig.first.does = slow
    shares: list[float] = []
    rig.second.does = lambda cycle: shares.append(cycle.time_left())
    rig.loop.cycle()
    rig.first.does = lambda cycle: setattr(rig, "now", rig.now + 500)
    rig.loop.cycle()
    assert len(shares) == 2 and all(share >= 1 for share in shares)


def test_run__something_was_written__the_next_step_is_not_slept_on(rig: Rig) -> None:
    stop = threading.Event()

    def write(cycle: Cycle) -> None:
        number = len(rig.first.cycles)
        if number < 5:
            rig.store.add_intent(IntentKey("first", str(number), "do"), OWNER, b"")
        else:
            stop.set()

    rig.first.does = write
    rig.loop.run(stop)
    assert len(rig.first.cycles) == 5
