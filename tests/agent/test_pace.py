# SPDX-License-Identifier: Apache-2.0
"""How fast blocks come, and what the chain's clock says between two of them."""

from __future__ import annotations

from typing import cast

import pytest

from teraproof.rpc.client import RpcPool
from teraproof.rpc.pace import Pace
from teraproof.rpc.types import BlockRef


class Chain:
    """Blocks by number; `times` are their timestamps."""

    def __init__(self, times: list[int]) -> None:
        self.times = times
        self.asked: list[int] = []
        self.clock = 100.0

    def ref(self, number: int) -> BlockRef:
        return BlockRef(number, number.to_bytes(32, "big"), self.times[number])

    def block(self, number: int) -> BlockRef:
        self.asked.append(number)
        return self.ref(number)

    def pace(self, fixed: float | None = None) -> Pace:
        return Pace(cast(RpcPool, self), fixed, clock=lambda: self.clock)


@pytest.mark.parametrize("seconds", [1, 2, 12])
def test_measured__on_the_chain_itself(seconds: int) -> None:
    chain = Chain([1_000 + seconds * n for n in range(100)])
    pace = chain.pace()
    pace.see(chain.ref(99))
    assert pace.seconds == seconds
    assert len(chain.asked) == 1


def test_blocks_faster_than_seconds__measured_too() -> None:
    chain = Chain([1_000 + n // 4 for n in range(100)])
    pace = chain.pace()
    pace.see(chain.ref(99))
    assert 0.15 < pace.seconds < 0.35


def test_pace_changes__measured_anew_after_some_blocks() -> None:
    chain = Chain([12 * n for n in range(50)] + [600 + 2 * n for n in range(50)])
    pace = chain.pace()
    pace.see(chain.ref(49))
    assert pace.seconds == 12
    for number in range(50, 90):
        chain.clock += 2
        pace.see(chain.ref(number))
    assert pace.seconds == 2
    assert len(chain.asked) <= 12


def test_fixed__nothing_is_asked() -> None:
    chain = Chain([0, 12, 24])
    pace = chain.pace(fixed=3)
    pace.see(chain.ref(2))
    assert pace.seconds == 3 and chain.asked == []


def test_chain_of_one_block__and_one_that_stood_still() -> None:
    chain = Chain([0, 10**6])
    pace = chain.pace()
    pace.see(chain.ref(0))
    assert pace.seconds == 12
    pace.see(chain.ref(1))
    assert pace.seconds == 600


def test_now__the_newest_block_carried_on() -> None:
    chain = Chain([1_000 + 12 * n for n in range(20)])
    pace = chain.pace()
    assert pace.now() == 0
    pace.see(chain.ref(10))
    chain.clock += 7
    pace.see(chain.ref(10))
    assert (pace.now(), pace.since_block()) == (1_127, 7)
    pace.see(chain.ref(11))
    assert (pace.now(), pace.since_block()) == (1_132, 0)
