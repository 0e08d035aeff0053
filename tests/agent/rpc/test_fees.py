# SPDX-License-Identifier: Apache-2.0
"""What is offered for gas, from what nodes say, within the caps."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from teraproof.rpc.client import RpcPool
from teraproof.rpc.errors import RpcError, TxFault, TxRefused
from teraproof.rpc.fees import Offer, Pricer, gas_limit, intrinsic_gas, raised
from teraproof.rpc.types import Fees
from tests.agent.stub_node import CHAIN, GWEI, Raw, Refusal, Result, StubNode, block


@contextlib.contextmanager
def pool_of(*nodes: StubNode) -> Iterator[RpcPool]:
    with contextlib.ExitStack() as stack:
        pool = RpcPool([stack.enter_context(node).url for node in nodes], CHAIN, 1.0, max_wait=0.3)
        stack.callback(pool.close)
        yield pool


def telling(**said: Any) -> StubNode:
    """A node with answers of its own to some methods (without `eth_`)."""
    return StubNode(lambda method, params: said.get(method.removeprefix("eth_")))


def history(reward: object, bases: object = None) -> Result:
    return Result({"baseFeePerGas": bases or [hex(GWEI)] * 6, "reward": [[reward]] * 5})


@pytest.mark.parametrize(
    ("reward", "own", "tip"),
    [
        ("0x0", hex(GWEI), GWEI),  # empty blocks say 0, the node knows better
        (hex(3 * GWEI), hex(GWEI), 3 * GWEI),
        ("0x0", "0x0", 0),
        (None, hex(GWEI), GWEI),
        ("absurd", hex(GWEI), GWEI),
        (7, hex(GWEI), GWEI),
    ],
)
def test_fees__tip_is_the_most_of_history_and_the_nodes_own(
    reward: object, own: str, tip: int
) -> None:
    with pool_of(telling(feeHistory=history(reward), maxPriorityFeePerGas=Result(own))) as pool:
        assert pool.fees().tip == tip


@pytest.mark.parametrize(
    "said",
    [
        Refusal(-32601, "no such method"),
        Raw(b"<html>", 502),
        Result(None),
        Result([]),
        Result({"baseFeePerGas": None, "reward": None}),
        Result({"baseFeePerGas": [], "reward": []}),
        Result({"baseFeePerGas": ["0x"], "reward": [[]]}),
        Result({"baseFeePerGas": "x", "reward": {"a": 1}}),
        Result({"baseFeePerGas": [hex(2**300)], "reward": [["0x1"]]}),
    ],
)
def test_fees__no_history__base_of_the_head_and_the_nodes_tip(said: object) -> None:
    with pool_of(telling(feeHistory=said)) as pool:
        assert pool.fees() == Fees(GWEI, GWEI, GWEI)


def test_fees__absurd_base_in_the_history__bounded_by_the_head() -> None:
    with pool_of(telling(feeHistory=history("0x0", [hex(10**30)]))) as pool:
        fees = pool.fees()
        assert fees.base == 8 * GWEI and fees.lowest_base == 8 * GWEI


def test_fees__one_of_three_lies__the_middle_one_counts() -> None:
    liar = telling(
        feeHistory=history(hex(190 * GWEI)), maxPriorityFeePerGas=Result(hex(190 * GWEI))
    )
    with pool_of(liar, StubNode(), StubNode()) as pool:
        assert pool.fees().tip == GWEI
    with pool_of(StubNode(base=500 * GWEI), StubNode()) as pool:
        fees = pool.fees()
        assert (fees.base, fees.lowest_base) == (GWEI, GWEI)


@pytest.mark.parametrize(
    ("used", "base"),
    [
        ("0x0", GWEI),
        (hex(15_000_000), GWEI),  # half full
        (hex(22_500_000), GWEI + GWEI // 16),
        (hex(30_000_000), GWEI + GWEI // 8),
        (hex(10**12), GWEI + GWEI // 8),  # more than there can be
        (None, GWEI),
        ("many", GWEI),
    ],
)
def test_fees__full_blocks__priced_for_the_next_one_at_each_head(used: object, base: int) -> None:
    """Also when the tips were asked for just before, and with no request more."""
    node = StubNode()

    def rule(method: str, params: list[Any]) -> Any:
        if method != "eth_getBlockByNumber":
            return None
        return Result({**block(node.head), "gasUsed": used if node.head > 100 else "0x0"})

    node.rule = rule
    with pool_of(node) as pool:
        assert pool.fees().base == GWEI
        node.head += 1
        pool.head()
        before = len(node.calls)
        assert pool.fees(head_known=True).base == base
        assert len(node.calls) == before


def test_fees__chain_without_base_fee__its_gas_price() -> None:
    gone = Refusal(-32601, "the method does not exist")
    node = StubNode(
        lambda m, p: gone if m in ("eth_feeHistory", "eth_maxPriorityFeePerGas") else None,
        base=None,
    )
    with pool_of(node) as pool:
        assert pool.fees() == Fees(None, GWEI)
        offer = Pricer(pool.fees).offer()
        assert offer is not None and offer.legacy
        assert offer.max_fee == offer.priority_fee == GWEI + GWEI // 8


# ---------------------------------------------------------------------- offers


def pricer(fees: Fees, **caps: Any) -> Pricer:
    return Pricer(lambda: fees, **caps)


def test_offer__never_a_tip_of_nothing() -> None:
    assert pricer(Fees(250, 0, 250)).offer() == Offer(501, 1)


def test_offer__within_the_caps() -> None:
    high = pricer(Fees(GWEI, 190 * GWEI, GWEI), max_fee=200 * GWEI, max_tip=5 * GWEI)
    assert high.offer() == Offer(7 * GWEI, 5 * GWEI)
    assert pricer(Fees(150 * GWEI, GWEI, 150 * GWEI), max_fee=200 * GWEI).offer() == Offer(
        200 * GWEI, GWEI
    )


def test_offer__base_fee_above_the_cap__waits_and_says_so() -> None:
    dear = pricer(Fees(300 * GWEI, GWEI, 300 * GWEI), max_fee=200 * GWEI)
    assert dear.offer() is None and "above chain.max_fee_gwei" in dear.trouble
    legacy = pricer(Fees(None, 300 * GWEI), max_fee=200 * GWEI)
    assert legacy.offer() is None and "above chain.max_fee_gwei" in legacy.trouble


def refusal(fault: TxFault, least: int | None = None) -> TxRefused:
    return TxRefused(RpcError(-32000, "no"), fault, least)


def test_refused__floor_that_was_named_is_offered_next() -> None:
    one = pricer(Fees(GWEI, 1, GWEI), max_tip=50 * GWEI)
    first = one.offer()
    assert first is not None
    one.refused(refusal(TxFault.UNDERPRICED, 30 * GWEI), first)
    assert one.offer() == Offer(32 * GWEI, 30 * GWEI)


def test_refused__no_number__twice_as_much_each_time_up_to_the_cap() -> None:
    one = pricer(Fees(GWEI, 1, GWEI), max_tip=5 * GWEI)
    for _ in range(60):
        offer = one.offer()
        assert offer is not None
        one.refused(refusal(TxFault.UNDERPRICED), offer)
    last = one.offer()
    assert last is not None and last.priority_fee == 5 * GWEI
    assert "above chain.max_tip_gwei" in one.trouble


def test_refused__type__legacy_from_now_on() -> None:
    one = pricer(Fees(GWEI, GWEI, GWEI))
    first = one.offer()
    assert first is not None and not first.legacy
    one.refused(refusal(TxFault.TYPE), first)
    assert one.offer() == Offer(3 * GWEI, 3 * GWEI, legacy=True)


def test_refused__fee_below_the_base_fee__more_next() -> None:
    one = pricer(Fees(GWEI, 1, GWEI))
    first = one.offer()
    assert first is not None
    one.refused(refusal(TxFault.FEE_CAP), first)
    second = one.offer()
    assert second is not None and second.max_fee == 2 * first.max_fee


def test_replacement__starts_from_today() -> None:
    one = pricer(Fees(100 * GWEI, GWEI, 100 * GWEI), max_fee=500 * GWEI)
    assert one.replacement(Offer(3 * GWEI, GWEI)) == Offer(201 * GWEI, raised(GWEI))


def test_replacement__of_what_no_node_has__may_be_cheaper() -> None:
    one = pricer(Fees(GWEI, GWEI, GWEI))
    assert one.replacement(Offer(90 * GWEI, 9 * GWEI), waits=False) == Offer(3 * GWEI, GWEI)


def test_replacement__price_is_not_the_reason__the_ladder_ends() -> None:
    one = pricer(Fees(GWEI, GWEI, GWEI), max_fee=200 * GWEI)
    offer: Offer | None = one.offer()
    steps = 0
    while offer is not None:
        last, offer, steps = offer, one.replacement(offer), steps + 1
    assert steps < 15 and last.max_fee <= 12 * GWEI
    assert one.trouble == ""


def test_replacement__above_the_cap__says_so() -> None:
    one = pricer(Fees(2 * GWEI, GWEI, 2 * GWEI), max_fee=5 * GWEI)
    assert one.replacement(Offer(5 * GWEI, GWEI)) is None
    assert "more than chain.max_fee_gwei" in one.trouble


def test_floor__is_forgotten_in_time() -> None:
    now = [0.0]
    one = Pricer(lambda: Fees(GWEI, 1, GWEI), clock=lambda: now[0])
    one.refused(refusal(TxFault.UNDERPRICED, 9 * GWEI), Offer(GWEI, 1))
    assert one.offer() == Offer(11 * GWEI, 9 * GWEI)
    now[0] += 1000
    assert one.offer() == Offer(2 * GWEI + 1, 1)


def test_gas__limits() -> None:
    assert gas_limit(100_000) == 125_000
    assert gas_limit(100_000, 110_000) == 110_000
    assert intrinsic_gas(b"") == 21_000
    assert intrinsic_gas(b"\0\1") == 21_020
