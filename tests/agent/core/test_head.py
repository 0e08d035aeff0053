# SPDX-License-Identifier: Apache-2.0
"""How often the agent asks for the newest block, and how late it learns of one."""

from __future__ import annotations

import random

import pytest

from provider_agent.core.head import NewestHead
from teraproof.rpc.errors import ChainError, Transport
from teraproof.rpc.types import BlockRef


class Chain:
    """Blocks at given times, and a clock that the test moves."""

    def __init__(self, times: list[float]) -> None:
        self.times, self.now, self.asked, self.branch = times, 0.0, 0, 0
        self.down = False

    def clock(self) -> float:
        return self.now

    def read(self) -> BlockRef:
        self.asked += 1
        if self.down:
            raise Transport("down")
        number = sum(1 for t in self.times if t <= self.now)
        return BlockRef(number, bytes([self.branch]) * 16 + number.to_bytes(16, "big"), 0)

    def watch(self, heads: NewestHead, until: float, every: float = 2.0) -> list[float]:
        """Cycle until then; how late each block was seen, in seconds."""
        late, seen = [], heads.look().number
        while self.now < until:
            self.now += every
            number = heads.look().number
            late += [self.now - self.times[n - 1] for n in range(seen + 1, number + 1)]
            seen = number
        return late


def every(seconds: float, blocks: int = 1000) -> list[float]:
    return [seconds * n for n in range(1, blocks)]


def test_steady_chain__few_looks_a_block_and_none_late() -> None:
    chain = Chain(every(12.0))
    heads = NewestHead(chain.read, 2.0, clock=chain.clock)
    chain.watch(heads, 200)
    before = chain.asked
    late = chain.watch(heads, 2_000)
    assert (chain.asked - before) / len(late) <= 3
    assert max(late) <= 2.0, "no later than by asking in each cycle"


def test_unsteady_chain__asked_in_each_cycle() -> None:
    chance = random.Random(1)
    times, now = [], 0.0
    while now < 4_000:
        now += chance.expovariate(1 / 12)
        times.append(now)
    chain = Chain(times)
    heads = NewestHead(chain.read, 2.0, clock=chain.clock)
    late = chain.watch(heads, 3_900)
    assert sum(late) / len(late) < 4.0


def test_quick_chain__asked_in_each_cycle() -> None:
    chain = Chain(every(0.25, 4000))
    heads = NewestHead(chain.read, 2.0, clock=chain.clock)
    late = chain.watch(heads, 600)
    assert chain.asked >= 295 and max(late) <= 2.0


def test_chain_gets_quicker__noticed() -> None:
    chain = Chain([*every(12.0, 100), *(1_188 + n / 2 for n in range(1, 2_000))])
    heads = NewestHead(chain.read, 2.0, clock=chain.clock)
    chain.watch(heads, 1_250)
    assert max(chain.watch(heads, 1_900)) <= 2.0


@pytest.mark.parametrize("missed", [1, 3, 40])
def test_blocks_that_do_not_come__asked_until_one_does(missed: int) -> None:
    times = [t for t in every(12.0) if not 1_200 < t <= 1_200 + 12 * missed]
    chain = Chain(times)
    heads = NewestHead(chain.read, 2.0, clock=chain.clock)
    late = chain.watch(heads, 3_000)
    assert max(late) <= 2.0


def test_cycles_that_follow_at_once__one_look() -> None:
    chain = Chain(every(12.0))
    heads = NewestHead(chain.read, 2.0, clock=chain.clock)
    for _ in range(10):
        heads.look()
        chain.now += 0.01
    assert chain.asked == 1


def test_each_block_counts__asked_in_each_cycle() -> None:
    chain = Chain(every(12.0))
    heads = NewestHead(chain.read, 2.0, clock=chain.clock)
    heads.hurried = True
    chain.watch(heads, 1_000)
    assert chain.asked >= 500


def test_no_answer__told_and_asked_again_at_once() -> None:
    chain = Chain(every(12.0))
    heads = NewestHead(chain.read, 2.0, clock=chain.clock)
    chain.watch(heads, 241)
    chain.now, chain.down = 252.5, True
    with pytest.raises(ChainError):
        heads.look()
    chain.down = False
    assert heads.look().number == 21


def test_reorg__the_pace_is_learnt_anew() -> None:
    chain = Chain(every(12.0))
    heads = NewestHead(chain.read, 2.0, clock=chain.clock)
    chain.watch(heads, 240)
    chain.times, chain.branch = [*every(12.0, 15), *(241.0 + n for n in range(1, 500))], 1
    late = chain.watch(heads, 300)
    assert max(late) <= 12.0
    assert max(chain.watch(heads, 500)) <= 2.0
