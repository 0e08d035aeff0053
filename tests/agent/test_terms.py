# SPDX-License-Identifier: Apache-2.0
import pytest
from eth_abi.abi import decode, encode
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

from teraproof.errors import LocalError
from teraproof.protocol.terms import (
    Assignment,
    Order,
    Record,
    Status,
    Terms,
    address,
    assignment_of,
    status_of,
)

u64 = st.integers(0, 2**64 - 1)
u256 = st.integers(0, 2**256 - 1)
words = st.binary(min_size=32, max_size=32)
addresses = st.binary(min_size=20, max_size=20).map(lambda b: "0x" + b.hex())
prices = st.tuples(u256, u256).map(sorted)
orders = st.builds(
    lambda spec, price, rest, times, root: Order(
        spec,
        price[0],
        price[1],
        rest[0],
        times[0],
        times[1],
        rest[1],
        rest[2],
        root,
        rest[3],
        rest[4],
    ),
    words,
    prices,
    st.tuples(u256, u256, u256, u256, u256),
    st.tuples(u64, u64),
    words,
)
all_terms = st.builds(Terms, addresses, u64, u64, u256, u64, orders)

STRUCT = (
    "(address,uint64,uint64,uint256,uint64,"
    "(bytes32,uint256,uint256,uint256,uint64,uint64,uint256,uint256,bytes32,uint256,uint256))"
)


@given(all_terms)
def test_job_id__any_terms__is_hash_of_sixteen_words(terms: Terms) -> None:
    data = encode([STRUCT], [terms.abi_tuple()])
    assert len(data) == 16 * 32
    assert terms.job_id() == keccak(data)
    assert Terms.from_abi(decode([STRUCT], data)[0]) == terms


@given(all_terms, u64)
def test_price_at__any_time__stays_between_start_and_maximum(terms: Terms, later: int) -> None:
    price = terms.price_at(terms.posted_at + later)
    assert terms.order.start_price <= price <= terms.order.max_price
    assert price <= terms.price_at(terms.posted_at + later + 1)
    assert terms.price_at(terms.posted_at + terms.order.auction) == terms.order.max_price


def order(**changes: object) -> Order:
    values: dict[str, object] = {
        "spec": b"\x01" * 32,
        "start_price": 100,
        "max_price": 200,
        "collateral": 5,
        "duration": 3600,
        "auction": 10,
        "min_stake": 0,
        "min_score": 0,
        "allow_root": bytes(32),
        "nonce": 7,
    }
    return Order(**{**values, **changes})  # type: ignore[arg-type]  # values differ by field


REQUESTER = "0x52908400098527886E0F7030069857D2E4169EE7"


def test_price_at__auction__rises_in_whole_units() -> None:
    terms = Terms(REQUESTER, 1_000, 60, 100, 7, order(start_price=0, max_price=10, auction=4))
    assert [terms.price_at(1_000 + t) for t in range(6)] == [0, 2, 5, 7, 10, 10]


def test_price_at__no_auction__is_maximum() -> None:
    assert Terms(REQUESTER, 1_000, 60, 100, 7, order(auction=0)).price_at(1_000) == 200


def test_price_at__before_posting__refused() -> None:
    with pytest.raises(LocalError, match="before the job was posted"):
        Terms(REQUESTER, 1_000, 60, 100, 7, order()).price_at(999)


@given(all_terms, u64, u64)
def test_price_at__paused__that_of_the_age_without_the_pause(
    terms: Terms, age: int, paused: int
) -> None:
    at = terms.posted_at + age
    assert terms.price_at(at + paused, paused) == terms.price_at(at)
    assert terms.open_until(9, paused) == terms.open_until(9) + paused
    if paused > age:
        with pytest.raises(LocalError, match="before the job was posted"):
            terms.price_at(at, paused)


def test_paused_since__a_node_that_lags_behind__none() -> None:
    terms = Terms(REQUESTER, 1_000, 60, 100, 7, order())
    assert [terms.paused_since(total) for total in (0, 7, 10)] == [0, 0, 3]


def test_times__are_last_seconds_included() -> None:
    terms = Terms(REQUESTER, 1_000, 60, 100, 7, order())
    assert terms.open_until(120) == 1_130
    assert terms.deadline(2_000) == 5_600
    assert terms.finalizable_after(3_000) == 3_060


@given(addresses, st.integers(0, 2**40 - 1), st.integers(0, 2**24 - 1))
def test_assignment__state_word__reads_back(provider: str, at: int, paused: int) -> None:
    given_word = Assignment(address("provider", provider), at, paused)
    word = given_word.state_word()
    assert status_of(word) is Status.ASSIGNED
    assert assignment_of(word) == given_word


@given(st.builds(Record, addresses, u64, u64, u64, words))
def test_record__state_word__is_digest_with_status_byte(record: Record) -> None:
    digest = keccak(encode(["(address,uint64,uint64,uint64,bytes32)"], [record.abi_tuple()]))
    assert record.state_word().to_bytes(32, "big") == digest[:31] + b"\x03"
    assert assignment_of(record.state_word()) is None
    assert Record.from_abi(record.abi_tuple()) == record


def test_status_of__unknown__refused() -> None:
    with pytest.raises(LocalError, match="unknown job status 99"):
        status_of(99)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"spec": b"short"}, "order.spec: expected 32 bytes"),
        ({"start_price": 201}, "order.start_price: above order.max_price"),
        ({"duration": 2**64}, "order.duration: .* is not a uint64"),
        ({"max_price": -1}, "order.max_price: -1 is not a uint256"),
        ({"nonce": True}, "order.nonce: True is not a uint256"),
        ({"judged": -1}, "order.judged: -1 is not a uint256"),
    ],
)
def test_order__out_of_bounds__one_line(changes: dict[str, object], line: str) -> None:
    with pytest.raises(LocalError, match=line):
        order(**changes)


@pytest.mark.parametrize("wrong", [REQUESTER.replace("E", "e", 1), "0x12", "", None, REQUESTER[2:]])
def test_address__wrong__refused(wrong: object) -> None:
    with pytest.raises(LocalError, match="requester"):
        address("requester", wrong)


def test_from_abi__wrong_number_of_values__refused() -> None:
    for cls in (Order, Terms, Record):
        with pytest.raises(LocalError, match="values"):
            cls.from_abi([1, 2, 3])
