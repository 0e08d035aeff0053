# SPDX-License-Identifier: Apache-2.0
"""The event feed on a real chain, and the decoding of our contracts' events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak

from provider_agent.core.feed import EventFeed, Followed
from teraproof.contracts import deals
from teraproof.contracts import jobs as calls
from teraproof.contracts.abi import Function
from teraproof.contracts.base import Event
from teraproof.contracts.jobs import JobsContract, Posted, Settled
from teraproof.deals import JOB_EVENTS
from teraproof.protocol.terms import Order, Record, Terms
from teraproof.rpc.client import RpcPool
from teraproof.rpc.errors import ChainError
from teraproof.rpc.types import Log
from tests.agent import counter
from tests.agent.faulty_rpc import FaultyRpc, Mode
from tests.agent.stores import fresh_store
from tests.support.anvil import Anvil

SLOTS = range(1, 100)


@dataclass(frozen=True, slots=True)
class Count(Event):
    """The counter has counted; the slot is what the event is about."""

    job: bytes


class Counted:
    """The counter as a source: the slot is the object that an event is about."""

    def __init__(self, address: str) -> None:
        self.address = address

    def topics(self) -> list[bytes]:
        return [slot.to_bytes(32, "big") for slot in SLOTS]

    def decode(self, entry: Log) -> Event | None:
        return Count(entry, entry.topics[0])


class Follower:
    """A consumer that keeps what it gets."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.again: list[int] = []

    def __call__(self, events: Sequence[Event], again: Sequence[bytes]) -> None:
        for event in events:
            assert isinstance(event, Count)
            self.seen.append(int.from_bytes(event.job, "big"))
        self.again += [int.from_bytes(job, "big") for job in again]


class World:
    def __init__(self, anvil: Anvil, proxy: FaultyRpc, path: Path) -> None:
        self.anvil, self.proxy = anvil, proxy
        self.contract = counter.deploy(anvil)
        self.pool = RpcPool([proxy.url], anvil.chain_id, timeout=1.0)
        self.store = fresh_store(path / "agent.sqlite")
        self.follower = Follower()

    def feed(self, chunk: int = 2000, window: int = 16) -> EventFeed:
        return EventFeed(
            self.pool, self.store, [Counted(self.contract)], reorg_window=window, chunk=chunk
        )

    def count(self, slot: int) -> None:
        sender = self.anvil.accounts[1].address
        self.anvil.wait(self.anvil.send(sender, self.contract, counter.calldata(slot)))

    def poll(self, feed: EventFeed | None = None) -> list[int]:
        before = len(self.follower.seen)
        (feed or self.feed()).poll(self.pool.head(), self.follower)
        return self.follower.seen[before:]


@pytest.fixture
def world(anvil: Anvil, tmp_path: Path) -> Iterator[World]:
    with FaultyRpc(anvil.url) as proxy:
        made = World(anvil, proxy, tmp_path)
        yield made
        made.store.close()
        made.pool.close()


class Broken(Counted):
    def decode(self, entry: Log) -> Event | None:
        raise ZeroDivisionError


def test_poll__a_source_shows_a_bug__the_others_are_read(world: World) -> None:
    sources = [Broken(world.contract), Counted(world.contract)]
    world.count(1)
    assert world.poll(EventFeed(world.pool, world.store, sources)) == [1]


def test_poll__told_to_stop__goes_on_where_it_was(world: World) -> None:
    for slot in (1, 2, 3):
        world.count(slot)
    feed, head = world.feed(chunk=1, window=1), world.pool.head()
    assert not feed.poll(head, world.follower, lambda: False)
    assert world.follower.seen == []
    polls = 0
    assert not feed.is_whole, "there are events that were not read yet"
    while not feed.poll(head, world.follower, lambda: False):
        polls += 1
    assert world.follower.seen == [1, 2, 3] and polls > 1 and feed.is_whole


def test_poll__each_event_once(world: World) -> None:
    for slot in (1, 2, 3):
        world.count(slot)
    assert world.poll() == [1, 2, 3]
    assert world.poll() == []
    world.count(4)
    assert world.poll() == [4]
    assert world.follower.again == []


@pytest.mark.parametrize("chunk", [1, 3, 7])
def test_poll__chunks__nothing_lost(world: World, chunk: int) -> None:
    for slot in SLOTS[:12]:
        world.count(slot)
    assert world.poll(world.feed(chunk, window=2)) == list(SLOTS[:12])
    assert world.poll(world.feed(chunk, window=2)) == []


def test_poll__consumer_fails__handed_out_again(world: World) -> None:
    world.count(1)

    def dies(events: Sequence[Event], again: Sequence[bytes]) -> None:
        world.store.set_meta("effect", "half done")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        world.feed().poll(world.pool.head(), dies)
    assert world.store.meta("effect") is None
    assert world.poll() == [1]


def test_poll__interrupted_first_sync__goes_on(world: World) -> None:
    for slot in SLOTS[:10]:
        world.count(slot)
    feed = world.feed(chunk=2, window=2)
    world.proxy.fault(Mode.ERROR_500, "eth_getLogs", after=3)
    with pytest.raises(ChainError):
        feed.poll(world.pool.head(), world.follower)
    got = list(world.follower.seen)
    assert 0 < len(got) < 10
    world.proxy.clear()
    world.pool.endpoints[0].not_before = 0.0
    world.poll(feed)
    assert world.follower.seen == list(SLOTS[:10])


@pytest.mark.parametrize("how", ["reorg", "rollback"])
@pytest.mark.parametrize("depth", [1, 3, 10])
def test_poll__reorg__vanished_are_named_and_new_ones_found(
    world: World, depth: int, how: str
) -> None:
    for slot in SLOTS[:12]:
        world.count(slot)
    world.poll()
    getattr(world.anvil, how)(depth)
    world.count(50)
    world.count(51)
    assert world.poll() == [50, 51]
    assert world.follower.again == list(SLOTS[12 - depth : 12])
    assert world.poll() == []


def test_poll__reorg_deeper_than_the_window__fork_is_found(world: World) -> None:
    feed = world.feed(window=4)
    for slot in SLOTS[:12]:
        world.count(slot)
        world.poll(feed)
    world.anvil.reorg(9)
    world.count(50)
    world.count(51)
    assert world.poll(feed) == [50, 51]
    assert set(world.follower.again) == set(SLOTS[3:12])


def test_poll__down_for_long__catches_up(world: World) -> None:
    world.count(1)
    assert world.poll() == [1]
    world.anvil.mine(100)
    world.count(2)
    world.anvil.mine(100)
    assert world.poll(world.feed(chunk=30)) == [2]


# ---------------------------------------------------------------------- our contracts

REQUESTER = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
JOBS = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
TERMS = Terms(
    requester=REQUESTER,
    posted_at=1000,
    challenge_window=60,
    fee_bps=100,
    paused=0,
    order=Order(b"\x01" * 32, 5, 10, 7, 600, 60, 0, 0, bytes(32), 3, 1),
)


def _log(name: str, topics: list[bytes], data: bytes, address: str = JOBS) -> Log:
    (kind,) = [kind for kind in JobsContract.EVENTS if kind.__name__ == name]
    return Log(address, (kind.TYPE.topic, *topics), data, 1, b"b", b"t", 0)


@pytest.fixture
def jobs(world: World) -> JobsContract:
    return JobsContract(world.pool, JOBS)


def test_decode__posted(jobs: JobsContract) -> None:
    job = TERMS.job_id()
    entry = _log(
        "Posted",
        [job, encode(["address"], [REQUESTER])],
        encode([Terms.ABI], [TERMS.abi_tuple()]),
        JOBS.lower(),
    )
    event = jobs.decode(entry)
    assert event == Posted(entry, job, REQUESTER, TERMS)


def test_decode__settled(jobs: JobsContract) -> None:
    entry = _log(
        "Settled",
        [b"\x02" * 32, encode(["address"], [REQUESTER])],
        encode(["uint256", "uint256"], [9, 1]),
    )
    assert jobs.decode(entry) == Settled(entry, b"\x02" * 32, REQUESTER, 9, 1)


def test_decode__not_ours_or_unreadable__skipped(jobs: JobsContract) -> None:
    topics = [b"\x02" * 32, encode(["address"], [REQUESTER])]
    data = encode(["uint256", "uint256"], [9, 1])
    assert jobs.decode(_log("Settled", topics, data, REQUESTER)) is None
    assert jobs.decode(_log("Settled", topics, data[:40])) is None
    assert jobs.decode(_log("Settled", topics[:1], data)) is None
    assert jobs.decode(Log(JOBS, (), b"", 1, b"b", b"t", 0)) is None


def test_look_back__events_that_were_not_shown_are_found(world: World) -> None:
    """A node without its logs for longer than the window."""
    feed = world.feed(window=4)
    world.count(1)
    assert world.poll(feed) == [1]
    hidden = world.proxy.fault(Mode.EMPTY, "eth_getLogs")
    world.count(2)
    before = world.anvil.number()
    for _ in range(10):
        world.anvil.mine()
        assert world.poll(feed) == []
    assert hidden.applied > 0
    world.proxy.clear()
    assert world.poll(feed) == [], "it is behind the window"
    feed.look_back(before - 2)
    looked = [feed.looks_back]
    assert world.poll(feed)[-1:] == [2]
    assert [*looked, feed.looks_back] == [True, False]
    assert world.poll(feed) == []


def test_look_back__one_endpoint_has_lost_its_logs__the_other_is_asked(world: World) -> None:
    pool = RpcPool([world.proxy.url, world.anvil.url], world.anvil.chain_id, timeout=1.0)
    feed = EventFeed(pool, world.store, [Counted(world.contract)], reorg_window=4)
    world.proxy.fault(Mode.EMPTY, "eth_getLogs")
    world.count(1)
    for _ in range(2):
        world.anvil.mine(6)
        feed.look_back(0)
        feed.poll(pool.head(), world.follower)
    assert world.follower.seen == [1]
    pool.close()


def test_follow__no_other_kind_and_no_other_contract(jobs: JobsContract) -> None:
    source = Followed(jobs, JOB_EVENTS)
    settled = _log(
        "Settled",
        [b"\x02" * 32, encode(["address"], [REQUESTER])],
        encode(["uint256", "uint256"], [9, 1]),
    )
    changed = _log("FeeChanged", [], encode(["uint256"], [9]))
    assert isinstance(source.decode(settled), Settled)
    assert settled.topics[0] in source.topics()
    assert jobs.decode(changed) is not None
    assert source.decode(changed) is None
    assert changed.topics[0] not in source.topics()
    assert source.decode(replace(settled, address=REQUESTER)) is None


def test_posted__terms_that_cannot_be__skipped(jobs: JobsContract) -> None:
    order = (b"\x01" * 32, 11, 10, 7, 600, 60, 0, 0, bytes(32), 3, 1)  # starts above its maximum
    terms = (REQUESTER, 1000, 60, 100, 0, order)
    topics = [b"\x02" * 32, encode(["address"], [REQUESTER])]
    assert jobs.decode(_log("Posted", topics, encode([Terms.ABI], [terms]))) is None


def test_types__ours_are_those_of_the_contract() -> None:
    assert Terms.ABI == calls.TERMS_TYPE
    assert Order.ABI == calls.ORDER_TYPE
    assert Record.ABI == calls.RECORD_TYPE


def test_calldata__decodes_to_what_went_in(jobs: JobsContract) -> None:
    record = Record(REQUESTER, 1, 2, 0, b"\x03" * 32)
    terms, path = TERMS.abi_tuple(), (b"\x04" * 32,)
    result, receipt, signature = b"\x05" * 32, b"\x06" * 32, b"s" * 65
    cases: list[tuple[bytes, Function, tuple[object, ...]]] = [
        (jobs.accept(TERMS), calls.ACCEPT, (terms,)),
        (jobs.accept(TERMS, path), calls.ACCEPT_2, (terms, path)),
        (
            jobs.attest(TERMS, result, receipt, 1, 2, signature),
            calls.ATTEST,
            (terms, result, receipt, 1, 2, signature),
        ),
        (jobs.finalize(TERMS, record), calls.FINALIZE, (terms, record.abi_tuple())),
        (jobs.approve(TERMS, record), calls.APPROVE, (terms, record.abi_tuple())),
        (jobs.refuse(TERMS, record), calls.REFUSE, (terms, record.abi_tuple())),
        (jobs.expire(TERMS), calls.EXPIRE, (terms,)),
        (jobs.cancel(TERMS), calls.CANCEL, (terms,)),
        (jobs.withdraw(), deals.WITHDRAW, ()),
        (jobs.withdraw(REQUESTER), deals.WITHDRAW_1, (REQUESTER,)),
        (jobs.cancel_quotes(1, 2), deals.CANCEL_QUOTES, (1, 2)),
    ]
    for data, function, expected in cases:
        signature_text = f"{function.name}({','.join(function.inputs)})"
        assert data[:4] == keccak(text=signature_text)[:4]
        assert _lower(function.decode_input(data)) == _lower(expected)


def _lower(value: object) -> object:
    """Addresses in one spelling, at any depth."""
    if isinstance(value, tuple):
        return tuple(_lower(each) for each in value)
    return value.lower() if isinstance(value, str) else value


def test_read__not_our_contract__one_line(world: World) -> None:
    contract = JobsContract(world.pool, world.contract)
    with pytest.raises(ChainError, match="check the contract addresses"):
        contract.state(bytes(32), world.pool.head())
