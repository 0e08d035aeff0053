# SPDX-License-Identifier: Apache-2.0
"""Gas money: a job is taken only if it can be attested, also after gas got dearer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from provider_agent.tx.reserve import GasReserve
from teraproof.rpc.errors import ChainError
from teraproof.rpc.types import BlockRef
from tests.agent.stub_node import GWEI, Refusal, Result
from tests.agent.tx.test_prices import OPERATOR, Chain

LIFECYCLE = 200_000  # gas of accept, attest and finalize, docs/gas.md


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Chain]:
    made = Chain(tmp_path)
    prices = made.sender._prices
    made.sender.reserve = GasReserve(
        made.pool, OPERATOR.address, prices, 200 * GWEI, lambda: made.now
    )
    with contextlib.closing(made):
        yield made


def look(chain: Chain, held: Any) -> None:
    chain.now += 60
    chain.head += 1
    chain.said["eth_getBalance"] = held if isinstance(held, Refusal) else Result(hex(held))
    head = chain.pool.head()
    chain.sender.reserve.look(BlockRef(head.number, head.hash, head.timestamp))


def test_reserve__money_gone_after_a_look__seen_before_a_promise(chain: Chain) -> None:
    """The owner may take it back, or another program spend it, however much there was."""
    look(chain, 100 * 10**18)
    assert chain.sender.reserve.jobs >= 1_000
    chain.said["eth_getBalance"] = Result("0x0")
    chain.now += 1
    chain.head += 1
    head = chain.pool.head()
    chain.sender.reserve.look(head)
    assert chain.sender.reserve.jobs >= 1_000, "not looked at in each cycle"
    chain.sender.reserve.look(head, promises=True)
    assert chain.sender.reserve.jobs == 0
    asked = chain.node.count("eth_getBalance")
    chain.sender.reserve.look(head, promises=True)
    assert chain.node.count("eth_getBalance") == asked, "once per block"


def test_reserve__before_the_first_look__nothing_is_taken(chain: Chain) -> None:
    reserve = chain.sender.reserve
    assert reserve.jobs == 0


@pytest.mark.parametrize("owed", [0, 1, 7])
def test_reserve__what_it_lets_in__can_be_paid_when_the_base_fee_is_five_times(
    chain: Chain, owed: int
) -> None:
    """The promise: at the least balance that is enough, all of them can be ended at five times."""
    low, high = 0, 10**18
    while high - low > 10**12:
        middle = (low + high) // 2
        look(chain, middle)
        low, high = (low, middle) if chain.sender.reserve.jobs > owed else (middle, high)
    assert chain.base == GWEI
    assert high >= (owed + 1) * LIFECYCLE * 5 * GWEI
    assert high <= (owed + 1) * LIFECYCLE * 20 * GWEI  # and no fortune is asked for


def test_reserve__short__no_job_is_paid_for(chain: Chain) -> None:
    look(chain, 10**12)
    assert chain.sender.reserve.jobs == 0
    look(chain, 10**18)
    assert chain.sender.reserve.jobs > 0


def test_reserve__price_above_the_cap__nothing_is_taken(chain: Chain) -> None:
    chain.base = 500 * GWEI
    look(chain, 10**21)
    assert chain.sender.reserve.jobs == 0


def test_reserve__price_never_above_the_cap(chain: Chain) -> None:
    """What the cap forbids is never spent, so it is not asked for."""
    chain.base = 150 * GWEI
    look(chain, 250_000 * 200 * GWEI)
    assert chain.sender.reserve.jobs == 1


def test_reserve__nodes_are_silent__error_and_the_next_look_asks_again(chain: Chain) -> None:
    look(chain, 10**18)
    with pytest.raises(ChainError):
        look(chain, Refusal(-32603, "internal error"))
    look(chain, 0)
    assert chain.sender.reserve.jobs == 0
