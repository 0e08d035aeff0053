# SPDX-License-Identifier: Apache-2.0
"""The channel book: no voucher is used twice, and nobody is charged beyond what was signed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from provider_agent.modules.inference.claim_book import ClaimBook
from provider_agent.modules.inference.repository import ChannelBook
from provider_agent.modules.inference.rows import Asked
from provider_agent.modules.inference.tables import TABLES
from provider_agent.store import Store
from teraproof.protocol.channels import channel_id
from teraproof.protocol.x402 import ChannelState, Fault, PaymentUnfit
from tests.agent.inference.parts import CHAIN, OPERATOR, a_config, receipt, signed_deposit, voucher

CONFIG = a_config()
CHANNEL = channel_id(CHAIN, CONFIG)
MOST = 10**9


@pytest.fixture
def book(tmp_path: Path) -> Iterator[ChannelBook]:
    store = Store(tmp_path / "agent.sqlite", tables=(TABLES,))
    found = ChannelBook(store)
    found.see(CONFIG, ChannelState(CHANNEL, 1_000, 0), 1)
    yield found
    store.close()


def refused(fault: Fault) -> pytest.RaisesExc[PaymentUnfit]:
    return pytest.RaisesExc(PaymentUnfit, check=lambda error: error.fault is fault)


def test_begin__keeps_the_voucher_and_the_reserve_and_no_second_one_runs(book: ChannelBook) -> None:
    row = book.begin(voucher(CHANNEL, 100), 100, MOST)
    assert (row.voucher, row.reserved, row.number, row.is_open) == (100, 100, 1, True)
    with refused(Fault.CHANNEL_BUSY):
        book.begin(voucher(CHANNEL, 300), 100, MOST)
    assert book.channel(CHANNEL) == row


def test_end__charges_what_the_receipt_says_and_the_same_voucher_pays_nothing_more(
    book: ChannelBook,
) -> None:
    book.begin(voucher(CHANNEL, 100), 100, MOST)
    book.end(receipt(CHANNEL, 1, 60, 60))
    row = book.channel(CHANNEL)
    assert row is not None and (row.charged, row.unclaimed, row.is_open) == (60, 60, False)
    with refused(Fault.AMOUNT_MISMATCH):
        book.begin(voucher(CHANNEL, 100), 100, MOST)
    assert book.begin(voucher(CHANNEL, 160), 100, MOST).number == 2


@pytest.mark.parametrize(
    ("amount", "ceiling", "fault"),
    [
        (99, 100, Fault.AMOUNT_MISMATCH),
        (1_001, 100, Fault.EXCEEDS_BALANCE),
        (0, 0, Fault.BELOW_CLAIMED),
    ],
)
def test_begin__a_voucher_that_does_not_fit_changes_nothing(
    book: ChannelBook, amount: int, ceiling: int, fault: Fault
) -> None:
    before = book.channel(CHANNEL)
    with refused(fault):
        book.begin(voucher(CHANNEL, amount), ceiling, MOST)
    assert book.channel(CHANNEL) == before


def test_begin__an_unknown_channel_a_withdrawal_and_too_much_credit_are_refused(
    book: ChannelBook,
) -> None:
    with refused(Fault.CHANNEL_NOT_FOUND):
        book.begin(voucher(b"\x01" * 32, 100), 100, MOST)
    with refused(Fault.STATE_UNAVAILABLE):
        book.begin(voucher(CHANNEL, 100), 100, 99)
    book.see(CONFIG, ChannelState(CHANNEL, 1_000, 0, 5), 2)
    with refused(Fault.EXCEEDS_BALANCE):
        book.begin(voucher(CHANNEL, 100), 100, MOST)


def test_recover__an_open_request_counts_as_far_as_its_last_receipt_goes(book: ChannelBook) -> None:
    book.begin(voucher(CHANNEL, 100), 100, MOST)
    book.step(receipt(CHANNEL, 1, 40, 40), 60)
    assert book.recover() == 1
    row = book.channel(CHANNEL)
    assert row is not None and (row.charged, row.is_open, row.reserved) == (40, False, 0)
    assert book.recover() == 0


def test_charge__a_receipt_of_another_request_or_above_the_voucher_is_a_bug(
    book: ChannelBook,
) -> None:
    book.begin(voucher(CHANNEL, 100), 100, MOST)
    for wrong in (
        receipt(CHANNEL, 2, 1, 1),
        receipt(CHANNEL, 1, 1, 2),
        receipt(CHANNEL, 1, 101, 101),
    ):
        with pytest.raises(AssertionError):
            book.step(wrong, 0)
    row = book.channel(CHANNEL)
    assert row is not None and row.charged == 0 and row.is_open


def test_see__what_is_older_changes_nothing_and_a_claim_before_us_counts_as_charged(
    book: ChannelBook,
) -> None:
    book.see(CONFIG, ChannelState(CHANNEL, 5, 5), 0)
    row = book.channel(CHANNEL)
    assert row is not None and row.balance == 1_000
    other = a_config(salt=9)
    known = channel_id(CHAIN, other)
    book.see(other, ChannelState(known, 70, 30), 4)
    row = book.channel(known)
    assert row is not None and (row.charged, row.voucher, row.unclaimed) == (30, 30, 0)


def test_deposits__the_same_one_is_kept_once_and_its_end_is_seen(book: ChannelBook) -> None:
    deposit = signed_deposit(CHANNEL, 500)
    first = book.ask_deposit(CHANNEL, CONFIG, deposit)
    assert book.ask_deposit(CHANNEL, CONFIG, deposit) == first
    assert first.state is Asked.NEW and first.deposit == deposit and first.config == CONFIG
    assert book.waiting_deposits() == book.waiting_deposits(CONFIG.payer) == 1
    assert book.waiting_deposits(OPERATOR.address) == 0
    book.set_deposit(first.nonce, state=Asked.REFUSED, reason=Fault.DEPOSIT_TRANSACTION)
    assert book.deposits(Asked.NEW, Asked.SENT) == []
    (ended,) = book.deposits(Asked.REFUSED)
    assert ended.reason == Fault.DEPOSIT_TRANSACTION
    book.forget_asked(0, 0)
    assert book.deposit(first.nonce) is not None
    book.forget_asked(0, 2**40)
    assert book.deposit(first.nonce) is None, "strangers cause them for nothing: not kept for long"


def test_deposits__what_was_done_is_kept_longer(book: ChannelBook) -> None:
    done = book.ask_deposit(CHANNEL, CONFIG, signed_deposit(CHANNEL, 500))
    book.set_deposit(done.nonce, state=Asked.DONE)
    book.forget_asked(0, 2**40)
    assert book.deposit(done.nonce) is not None and book.deposits_made(CHANNEL) == 1
    book.forget_asked(2**40, 0)
    assert book.deposit(done.nonce) is None


def test_refund__one_at_a_time_and_no_request_beside_it(book: ChannelBook) -> None:
    book.begin(voucher(CHANNEL, 100), 100, MOST)
    with refused(Fault.CHANNEL_BUSY):
        book.ask_refund(voucher(CHANNEL, 100), None)
    book.end(receipt(CHANNEL, 1, 60, 60))
    for wanted, fault in ((941, Fault.REFUND_NO_BALANCE), (0, Fault.REFUND_AMOUNT)):
        with refused(fault):
            book.ask_refund(voucher(CHANNEL, 60), wanted)
    with refused(Fault.AMOUNT_MISMATCH):
        book.ask_refund(voucher(CHANNEL, 59), None)
    assert book.ask_refund(voucher(CHANNEL, 60), None).amount == 940
    with refused(Fault.CHANNEL_BUSY):
        book.begin(voucher(CHANNEL, 200), 100, MOST)
    book.set_refund(CHANNEL, state=Asked.DONE)
    assert book.refunds(Asked.NEW) == [] and book.refunds(Asked.DONE)[0].amount == 940
    assert book.begin(voucher(CHANNEL, 200), 100, MOST).number == 2


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None
)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["begin", "step", "end", "raise", "recover", "abandon"]),
            st.integers(0, 1_200),
            st.integers(0, 200),
        ),
        max_size=25,
    )
)
def test_whatever_a_payer_sends__charged_never_exceeds_the_vouchers(
    tmp_path_factory: pytest.TempPathFactory, moves: list[tuple[str, int, int]]
) -> None:
    """I-9. And what was served without a receipt is never more than one reserve."""
    store = Store(tmp_path_factory.mktemp("book") / "agent.sqlite", tables=(TABLES,))
    book = ChannelBook(store)
    book.see(CONFIG, ChannelState(CHANNEL, 1_000, 0), 1)
    highest = charged = 0
    for move, amount, part in moves:
        row = book.channel(CHANNEL)
        assert row is not None
        try:
            if move == "begin":
                book.begin(voucher(CHANNEL, amount), part, MOST)
                highest = max(highest, amount)
            elif move == "raise":
                book.raise_voucher(voucher(CHANNEL, amount))
                highest = max(highest, amount)
            elif move == "recover":
                book.recover()
            elif move == "abandon":
                book.abandon(CHANNEL)
            elif row.is_open:
                so_far = row.charged - row.opened_charged
                more = min(part, row.reserved, row.voucher - row.charged)
                said = receipt(CHANNEL, row.number, so_far + more, row.charged + more)
                if move == "step":
                    book.step(said, min(part, row.voucher - row.charged - more))
                else:
                    book.end(said)
                charged += more
        except PaymentUnfit:
            assert book.channel(CHANNEL) == row
        row = book.channel(CHANNEL)
        assert row is not None
        assert row.charged == charged <= row.voucher == highest <= row.balance
        assert row.charged + row.reserved <= row.voucher
    store.close()


def test_forget__a_drained_channel_alone_and_none_of_its_vouchers_counts_again(
    book: ChannelBook,
) -> None:
    book.begin(voucher(CHANNEL, 100), 100, MOST)
    book.end(receipt(CHANNEL, 1, 60, 60))
    for state in ((1_000, 0), (1_000, 60), (60, 0)):  # full; full and claimed; to be claimed
        book.see(CONFIG, ChannelState(CHANNEL, *state), 2)
        assert book.forget_drained(2**40) == 0
    book.see(CONFIG, ChannelState(CHANNEL, 60, 60), 3)
    waiting = book.ask_deposit(CHANNEL, CONFIG, signed_deposit(CHANNEL, 500))
    assert book.forget_drained(2**40) == 0
    book.set_deposit(waiting.nonce, state=Asked.DONE)
    assert (book.forget_drained(0), book.forget_drained(2**40), book.count()) == (0, 1, 0)
    book.see(CONFIG, ChannelState(CHANNEL, 560, 60), 4)
    with refused(Fault.AMOUNT_MISMATCH):
        book.begin(voucher(CHANNEL, 100), 100, MOST)
    assert book.begin(voucher(CHANNEL, 160), 100, MOST).opened_charged == 60


def test_left__what_is_not_worth_a_claim_does_not_stand_in_front(tmp_path: Path) -> None:
    """Channels that owe a unit each, and are never emptied, would hide the one that matters."""
    store = Store(tmp_path / "agent.sqlite", tables=(TABLES,))
    book = ChannelBook(store)
    for salt in range(6):
        config = a_config(salt=salt)
        channel, cost = channel_id(CHAIN, config), 500 if salt == 5 else 1
        book.see(config, ChannelState(channel, 1_000, 0), 1)
        book.begin(voucher(channel, cost), cost, MOST)
        book.end(receipt(channel, 1, cost, cost))
        book.see(config, ChannelState(channel, 1_000, 0, 100 + salt), 2)
    claims = ClaimBook(store)
    assert [row.charged for row in claims.left(3)] == [1, 1, 1]
    assert [row.charged for row in claims.left(3, 20)] == [500]
    store.close()


def test_unclaimed__what_is_lost_or_for_others_to_claim_does_not_stand_in_front(
    tmp_path: Path,
) -> None:
    """A cycle considers some hundreds: the rest would never be claimed."""
    store = Store(tmp_path / "agent.sqlite", tables=(TABLES,))
    book, claims = ChannelBook(store), ClaimBook(store)
    for salt in range(6):
        other: dict[str, Any] = {} if salt % 2 else {"receiver_authorizer": "0x" + "44" * 20}
        config = a_config(salt=salt, **(other if salt < 4 else {}))
        channel, cost = channel_id(CHAIN, config), 900 - salt * 100
        book.see(config, ChannelState(channel, 1_000, 0), 1)
        book.begin(voucher(channel, cost), cost, MOST)
        book.end(receipt(channel, 1, cost, cost))
        if other and salt < 4:
            book.see(config, ChannelState(channel, 1_000, 0, 7), 2)
        elif salt < 4:
            book.see(config, ChannelState(channel, 31, 30, 7), 2)  # one unit was left in it
        else:
            book.see(config, ChannelState(channel, 1_000, 0, 8), 2)
    me = OPERATOR.address
    assert [row.charged for row in claims.unclaimed(2)] == [900, 700], "of whomever"
    assert [row.charged for row in claims.unclaimed(2, me)] == [500, 400]
    assert [row.charged for row in claims.left(2, 1, me)] == [500, 400]
    asked: list[str] = []
    db = store._db()
    db.set_trace_callback(asked.append)
    claims.unclaimed(2, me)
    db.set_trace_callback(None)
    plan = [row["detail"] for row in db.execute(f"EXPLAIN QUERY PLAN {asked[-1]}")]
    assert "INDEX paid_channels_by_credit" in plan[0] and len(plan) == 1, plan
    store.close()
