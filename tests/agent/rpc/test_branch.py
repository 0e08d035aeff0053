# SPDX-License-Identifier: Apache-2.0
"""Blocks that links of headers show: nobody is asked for them again, and no link is taken on
trust.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from teraproof.rpc.branch import Branch
from teraproof.rpc.client import RpcPool
from teraproof.rpc.errors import BlockUnknown, ChainError
from teraproof.rpc.types import BlockRef
from tests.agent.stub_node import CHAIN, Result, StubNode, block

BLOCK = "eth_getBlockByNumber"
Pools = Callable[..., RpcPool]


def name(number: int, fork: int = 0) -> bytes:
    return bytes([fork]) * 24 + number.to_bytes(8, "big")


def ref(number: int, fork: int = 0, below: int | None = None) -> BlockRef:
    """A block of a fork; `below` is the fork of its parent."""
    return BlockRef(
        number, name(number, fork), 0, parent=name(number - 1, fork if below is None else below)
    )


class Chain:
    """A healthy node whose headers link; blocks from `split` on belong to fork `fork`."""

    def __init__(self, head: int = 100, fork: int = 0, split: int = 0) -> None:
        self.fork, self.split = fork, split
        self.node = StubNode(self._rule, head=head)

    def hash(self, number: int) -> bytes:
        return name(number, self.fork if number >= self.split else 0)

    def _rule(self, method: str, params: list[Any]) -> Result | None:
        if method != BLOCK:
            return None
        number = self.node.head if params[0] == "latest" else int(params[0], 16)
        if number > self.node.head:
            return Result(None)
        links = {"hash": self.hash(number), "parentHash": self.hash(number - 1)}
        told = {key: "0x" + value.hex() for key, value in links.items()}
        return Result(block(number, when=number) | told)

    def asked(self) -> list[object]:
        """Blocks that the node was asked for."""
        return [params[0] for method, params in self.node.calls if method == BLOCK]


@pytest.fixture
def pools() -> Iterator[Pools]:
    made: list[RpcPool] = []

    def make(*chains: Chain) -> RpcPool:
        made.append(RpcPool([one.node.url for one in chains], CHAIN))
        return made[-1]

    yield make
    for pool in made:
        pool.close()


@pytest.fixture
def chain() -> Iterator[Chain]:
    made = Chain()
    with made.node:
        yield made


def follow(pool: RpcPool, *chains: Chain, to: int, step: int = 1) -> None:
    """Ask for the head as the chain grows."""
    for head in range(chains[0].node.head, to + 1, step):
        for one in chains:
            one.node.head = head
        pool.head()


def test_find__links_lead_there__found() -> None:
    branch = Branch()
    for number in range(5, 10):
        branch.tell(ref(number))
    assert branch.find(ref(10), 5) == ref(5)
    assert branch.find(ref(10), 4) is None
    assert branch.find(ref(10), 11) is None


@pytest.mark.parametrize("broken", range(6, 9))
def test_find__a_link_does_not_fit__nothing_below_is_believed(broken: int) -> None:
    branch = Branch()
    for number in range(5, 10):
        branch.tell(ref(number, fork=number >= broken, below=0))
    tip = ref(10, fork=1)
    for number in range(5, 11):
        assert (branch.find(tip, number) is not None) == (number >= 9)


def test_find__told_anew_after_a_reorg__the_new_branch_counts() -> None:
    branch = Branch()
    for number in range(5, 10):
        branch.tell(ref(number))
    for number in (8, 9):
        branch.tell(ref(number, fork=1, below=int(number > 8)))
    assert branch.find(ref(10, fork=1), 8) == ref(8, fork=1)
    assert branch.find(ref(10, fork=1), 7) == ref(7)
    assert branch.find(ref(10), 8) is None


def test_branch__many_headers__the_oldest_are_forgotten() -> None:
    branch = Branch()
    for number in range(1, 10_000):
        branch.tell(ref(number))
    assert branch.find(ref(10_000), 9_900) is not None
    assert branch.find(ref(10_000), 1_000) is None


def test_block__below_a_followed_head__nobody_is_asked(chain: Chain, pools: Pools) -> None:
    pool = pools(chain)
    follow(pool, chain, to=120)
    asked = len(chain.asked())
    assert [pool.block(n).hash for n in range(100, 121)] == [name(n) for n in range(100, 121)]
    assert pool.agreed_block(118).hash == name(118)
    assert len(chain.asked()) == asked
    assert pool.block(99).hash == name(99)
    assert chain.asked()[asked:] == [hex(99)]


def test_block__fresh__asked_all_the_same(chain: Chain, pools: Pools) -> None:
    pool = pools(chain)
    follow(pool, chain, to=110)
    asked = len(chain.asked())
    pool.block(105, fresh=True)
    assert chain.asked()[asked:] == [hex(105)]


@pytest.mark.parametrize("step", [2, 3])
def test_block__heads_that_were_missed__each_is_read_once(
    chain: Chain, pools: Pools, step: int
) -> None:
    pool = pools(chain)
    follow(pool, chain, to=100 + 4 * step, step=step)
    for number in range(101, pool.head().number):
        assert pool.block(number).hash == name(number)
        assert pool.agreed_block(number).hash == name(number)
    missed = [n for n in range(101, 100 + 4 * step) if (n - 100) % step]
    assert sorted(str(a) for a in chain.asked() if a != "latest") == sorted(map(hex, missed))


def test_block__reorg_below_the_head__the_new_branch_is_told(chain: Chain, pools: Pools) -> None:
    pool = pools(chain)
    follow(pool, chain, to=110)
    chain.fork, chain.split, chain.node.head = 1, 108, 111
    pool.head()
    assert pool.known_block(108) is None
    assert pool.block(108).hash == name(108, 1)
    assert pool.block(107).hash == name(107)
    assert pool.block(109).hash == name(109, 1)


def test_block__reorg_to_the_same_height__the_new_branch_is_told(
    chain: Chain, pools: Pools
) -> None:
    pool = pools(chain)
    follow(pool, chain, to=110)
    chain.fork, chain.split = 1, 105
    pool.head()
    assert [pool.block(n).hash for n in (104, 105, 110)] == [name(104), name(105, 1), name(110, 1)]


def test_block__chain_got_shorter__nothing_above_is_remembered(chain: Chain, pools: Pools) -> None:
    pool = pools(chain)
    follow(pool, chain, to=110)
    chain.node.head = 105
    pool.head()
    with pytest.raises(BlockUnknown):
        pool.block(106)
    assert pool.block(104).hash == name(104)


def test_agreed_block__two_follow_one_chain__nobody_is_asked(pools: Pools) -> None:
    chains = [Chain(), Chain()]
    with chains[0].node, chains[1].node:
        pool = pools(*chains)
        follow(pool, *chains, to=110)
        before = [len(one.asked()) for one in chains]
        assert pool.agreed_block(108).hash == name(108)
        assert [len(one.asked()) for one in chains] == before


@pytest.mark.parametrize("liar", [0, 1, 2])
def test_agreed_block__one_of_three_on_a_branch_of_its_own__the_others_count(
    pools: Pools, liar: int
) -> None:
    chains = [Chain(fork=int(n == liar), split=104) for n in range(3)]
    with chains[0].node, chains[1].node, chains[2].node:
        pool = pools(*chains)
        follow(pool, *chains, to=110)
        assert pool.agreed_block(108).hash == name(108)


def test_agreed_block__two_disagree__nothing_is_done(pools: Pools) -> None:
    chains = [Chain(), Chain(fork=1, split=104)]
    with chains[0].node, chains[1].node:
        pool = pools(*chains)
        follow(pool, *chains, to=110)
        with pytest.raises(ChainError, match="do not agree"):
            pool.agreed_block(108)


def test_agreed_block__one_did_not_answer_just_now__it_has_no_say(pools: Pools) -> None:
    """What an endpoint told before it went silent is not a second witness for what is new."""
    chains = [Chain(), Chain()]
    with chains[0].node, chains[1].node:
        pool = pools(*chains)
        follow(pool, *chains, to=110)
        silent = chains[1].node
        silent.rule = lambda method, params: Result({"number": "0x1"}) if method == BLOCK else None
        chains[0].fork, chains[0].split = 1, 105
        pool.head()
        assert pool.agreed_block(108).hash == name(108, 1)


def test_header_without_a_parent__asked_as_before() -> None:
    with StubNode() as node:
        pool = RpcPool([node.url], CHAIN)
        for head in (100, 101, 102):
            node.head = head
            pool.head()
        pool.block(100)
        pool.close()
        assert [params[0] for method, params in node.calls if method == BLOCK][3:] == [hex(100)]
