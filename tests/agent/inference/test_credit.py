# SPDX-License-Identifier: Apache-2.0
"""What is at risk: bounded in a channel, for a payer with many channels, and for all payers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from provider_agent.core.pay import Pay
from provider_agent.modules.inference.claim_book import ClaimBook
from provider_agent.modules.inference.credit import Bounds, Credit
from provider_agent.modules.inference.repository import ChannelBook
from provider_agent.modules.inference.settings import InferenceSettings
from provider_agent.modules.inference.status import channels_status
from provider_agent.modules.inference.tables import TABLES
from provider_agent.store import Store
from teraproof.protocol import x402
from teraproof.protocol.channels import channel_id
from teraproof.protocol.x402 import ChannelState, Fault, PaymentUnfit
from tests.agent.inference.parts import CHAIN, PAYER, a_config, receipt, voucher
from tests.agent.inference.rig import receipt_of, required, serve

OTHER: LocalAccount = Account.from_key(b"\x05" * 32)
BOUNDS = Bounds(channel=100, payer=250, total=400)
FREE_PROMPT = {"prompt_price": "0"}


class Till:
    """A book, and its credit with a clock that the test moves."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder / "agent.sqlite", tables=(TABLES,))
        self.book, self.now = ChannelBook(self.store), 0.0
        self.credit = Credit(self.store, BOUNDS, clock=lambda: self.now)

    def open(self, salt: int, payer: LocalAccount = PAYER) -> bytes:
        config = a_config(payer, salt)
        channel = channel_id(CHAIN, config)
        self.book.see(config, ChannelState(channel, 10_000, 0), 1)
        return channel

    def begin(self, channel: bytes, cost: int, payer: LocalAccount = PAYER) -> None:
        row = self.book.channel(channel)
        assert row is not None
        said = voucher(channel, row.charged + cost, payer)
        self.book.begin(said, cost, BOUNDS.channel, self.credit)

    def end(self, channel: bytes, cost: int) -> None:
        row = self.book.channel(channel)
        assert row is not None
        self.book.end(receipt(channel, row.number, cost, row.charged + cost))

    @property
    def at_risk(self) -> dict[str, int]:
        return ClaimBook(self.store).at_risk()


@pytest.fixture
def till(tmp_path: Path) -> Iterator[Till]:
    found = Till(tmp_path)
    yield found
    found.store.close()


def test_one_payer_with_many_channels__owes_no_more_than_its_bound(till: Till) -> None:
    channels = [till.open(salt) for salt in range(4)]
    for channel in channels[:2]:
        till.begin(channel, 100)
        till.end(channel, 100)
    till.begin(channels[2], 50)
    with pytest.raises(PaymentUnfit) as error:
        till.begin(channels[3], 1)
    assert error.value.fault is Fault.STATE_UNAVAILABLE
    row = till.book.channel(channels[3])
    assert row is not None and not row.is_open
    other = till.open(0, OTHER)
    till.begin(other, 100, OTHER)
    assert till.at_risk == {PAYER.address: 250, OTHER.address: 100}
    assert max(till.at_risk.values()) <= BOUNDS.payer

    # A claim makes room, when it is seen.
    till.book.see(a_config(PAYER, 0), ChannelState(channels[0], 10_000, 100), 2)
    till.now += 60
    till.begin(channels[3], 100)


def test_all_payers_together__owe_no_more_than_the_total(till: Till) -> None:
    for number in range(4):
        payer: LocalAccount = Account.from_key((50 + number).to_bytes(32, "big"))
        till.begin(till.open(0, payer), 100, payer)
    with pytest.raises(PaymentUnfit):
        till.begin(till.open(0, OTHER), 1, OTHER)


def test_requests_that_cost_nothing__use_up_nobodys_credit(till: Till) -> None:
    """A server refuses them again and again: no look at the sums comes in between."""
    payers: list[LocalAccount] = [Account.from_key(bytes([50 + n]) * 32) for n in range(3)]
    channels = [till.open(0, payer) for payer in payers]
    for _ in range(5):
        for channel, payer in zip(channels, payers, strict=True):
            till.begin(channel, 100, payer)
            till.book.abandon(channel, till.credit)
    till.begin(till.open(0, OTHER), 100, OTHER)
    # What was charged stays counted, and what was only reserved does not.
    for channel, payer in zip(channels, payers, strict=True):
        till.begin(channel, 100, payer)
        row = till.book.channel(channel)
        assert row is not None
        till.book.end(receipt(channel, row.number, 60, 60), till.credit)
    assert till.at_risk == {OTHER.address: 100, **{payer.address: 60 for payer in payers}}
    more = till.open(1, OTHER)
    with pytest.raises(PaymentUnfit):
        till.begin(more, 121, OTHER)
    till.begin(till.open(2, PAYER), 100, PAYER)
    with pytest.raises(PaymentUnfit):
        till.begin(more, 21, OTHER)
    till.begin(more, 20, OTHER)
    assert sum(till.at_risk.values()) == BOUNDS.total


def test_steps_of_a_stream__count_with_what_they_reserve(till: Till) -> None:
    first, second, third = (till.open(salt) for salt in range(3))
    for channel in (first, second):
        till.begin(channel, 100)
        till.end(channel, 100)
    row = till.book.channel(third)
    assert row is not None
    till.book.begin(voucher(third, 1_000), 20, BOUNDS.channel, till.credit)
    assert till.book.step(receipt(third, 1, 20, 20), 30, till.credit)
    assert not till.book.step(receipt(third, 1, 50, 50), 1, till.credit)
    row = till.book.channel(third)
    assert row is not None and (row.charged, row.reserved) == (50, 0)
    assert till.at_risk == {PAYER.address: 250}


def test_step__beyond_what_the_channel_may_owe(till: Till) -> None:
    channel = till.open(0)
    till.book.begin(voucher(channel, 1_000), 60, BOUNDS.channel, till.credit)
    assert till.book.step(receipt(channel, 1, 60, 60), 40, till.credit)
    assert not till.book.step(receipt(channel, 1, 100, 100), 1, till.credit)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None
)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["begin", "step", "end", "claim", "wait"]),
            st.integers(0, 5),
            st.integers(1, 120),
        ),
        max_size=30,
    )
)
def test_whatever_payers_do__what_is_at_risk_stays_within_its_bounds(
    tmp_path_factory: pytest.TempPathFactory, moves: list[tuple[str, int, int]]
) -> None:
    till = Till(tmp_path_factory.mktemp("till"))
    payers = [PAYER, PAYER, PAYER, PAYER, OTHER, OTHER]
    channels = [till.open(salt, payer) for salt, payer in enumerate(payers)]
    for move, number, amount in moves:
        channel, payer = channels[number], payers[number]
        row = till.book.channel(channel)
        assert row is not None
        if move == "begin":
            try:
                said = voucher(channel, row.charged + 5_000, payer)
                till.book.begin(said, amount, BOUNDS.channel, till.credit)
            except PaymentUnfit:
                assert till.book.channel(channel) == row
        elif move == "claim":
            state = ChannelState(channel, 10_000, row.charged)
            till.book.see(row.config, state, row.seen_block + 1)
        elif move == "wait":
            till.now += 60
        elif row.is_open:
            cost = min(amount, row.reserved)
            so_far = row.charged - row.opened_charged + cost
            paid = receipt(channel, row.number, so_far, row.charged + cost)
            if move == "step":
                till.book.step(paid, amount, till.credit)
            elif amount % 3:
                till.book.end(paid, till.credit)
            else:
                till.book.abandon(channel, till.credit)
        at_risk = till.at_risk
        assert sum(at_risk.values()) <= BOUNDS.total
        assert max(at_risk.values(), default=0) <= BOUNDS.payer
        for row in till.book.channels():
            assert row.at_risk <= BOUNDS.channel
    till.store.close()


def test_what_payers_have_taken_back__is_lost_and_keeps_nobody_from_being_served(
    till: Till,
) -> None:
    """Otherwise some withdrawals before the claim would end all service for good."""
    payers: list[LocalAccount] = [Account.from_key(bytes([50 + n]) * 32) for n in range(4)]
    for payer in payers:
        till.begin(till.open(0, payer), 100, payer)
        till.end(channel_id(CHAIN, a_config(payer)), 100)
    till.now += 60
    with pytest.raises(PaymentUnfit):
        till.begin(till.open(0, OTHER), 100, OTHER)
    for payer in payers[:3]:
        config = a_config(payer)
        till.book.see(config, ChannelState(channel_id(CHAIN, config), 30, 30), 5)
    till.now += 60
    assert sum(till.at_risk.values()) == 100
    till.begin(till.open(0, OTHER), 100, OTHER)
    # A part that is still in the channel is at risk.
    config = a_config(payers[3])
    till.book.see(config, ChannelState(channel_id(CHAIN, config), 80, 30), 5)
    assert till.at_risk[payers[3].address] == 50
    for row in till.book.channels():
        assert row.at_risk == till.at_risk[row.config.payer]


# ---------------------------------------------------------------------- what an owner sets and sees


def test_bounds__follow_the_bound_of_a_channel_where_nothing_is_set() -> None:
    assert Bounds.of(InferenceSettings(), 10) == Bounds(50, 200, 1_000)
    said = InferenceSettings.model_validate(
        {"max_unclaimed": "2", "max_unclaimed_payer": "3", "max_unclaimed_total": "5"}
    )
    assert Bounds.of(said, 10) == Bounds(20, 30, 50)


def test_status__shows_what_is_at_risk_beside_the_bounds(till: Till) -> None:
    Pay(2, "USD").keep(till.store, "inference")
    assert "at risk" not in str(channels_status(till.store, "inference")[0])
    BOUNDS.keep(till.store)
    till.begin(till.open(0), 100)
    till.begin(till.open(0, OTHER), 50, OTHER)
    line = str(channels_status(till.store, "inference")[0])
    assert "at risk: 1.5 USD of at most 4 USD, of one payer 1 USD of 2.5 USD" in line


# ---------------------------------------------------------------------- at the counter


@pytest.mark.parametrize("bound", ["max_unclaimed_payer", "max_unclaimed_total"])
def test_requests_above_the_bound__are_refused_before_any_work(tmp_path: Path, bound: str) -> None:
    bounds: dict[str, Any] = {bound: "0.007"}
    with serve(tmp_path, **bounds) as rig:
        terms = rig.terms()
        assert 3_500 < terms.amount <= 7_000
        for salt in range(12):
            wallet, asked = rig.fund(salt=salt), len(rig.server.asked)
            answer = rig.ask(wallet.pay(terms.amount, terms))
            if answer.status_code == 402:
                break
            assert len(rig.server.asked) == asked + 1
            credit: Any = rig.front._routes._cashier._credit
            credit._next = 0.0  # it looks again
        assert required(answer).error == x402.Fault.STATE_UNAVAILABLE
        assert 1 <= asked == len(rig.server.asked) and not wallet.row.is_open


def test_stream_in_steps__ends_where_the_credit_ends(tmp_path: Path) -> None:
    """Its vouchers would cover all of it."""
    with serve(tmp_path, model=FREE_PROMPT, max_unclaimed="0.0006") as rig:
        wallet = rig.fund()
        answer = rig.ask(wallet.pay(10**6), step=4, stream=True, max_tokens=40)
        assert answer.status_code == 200, answer.text
        assert "stream_unpaid" in answer.text and "too much is unclaimed" in answer.text
        said = receipt_of(answer).receipt
        assert said.completion_tokens == 8 and wallet.row.charged == said.charged == 480
        assert wallet.row.at_risk <= 600 and not wallet.row.is_open


def test_sums_of_many_channels__are_read_from_an_index_alone(till: Till) -> None:
    """They are read while a request waits, and the rows are long."""
    asked: list[str] = []
    db = till.store._db()
    db.set_trace_callback(asked.append)
    ClaimBook(till.store).at_risk()
    db.set_trace_callback(None)
    (plan,) = db.execute(f"EXPLAIN QUERY PLAN {asked[-1]}")
    assert "COVERING INDEX paid_channels_risk" in plan["detail"]
