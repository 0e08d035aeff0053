# SPDX-License-Identifier: Apache-2.0
"""Gas that is spent on newcomers: for one payer and for all; who has paid goes on."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from provider_agent.core.worth import GasWorth
from provider_agent.modules.inference.gas import DEPOSIT_GAS, Costs
from provider_agent.modules.inference.house import House
from provider_agent.modules.inference.repository import ChannelBook
from provider_agent.modules.inference.rows import Asked
from provider_agent.modules.inference.tables import TABLES
from provider_agent.store import Store
from teraproof.protocol.channels import channel_id
from teraproof.protocol.x402 import ChannelState, Fault
from tests.agent.inference.parts import CHAIN, PAYER, a_config, receipt, signed_deposit, voucher
from tests.agent.inference.rig import chain, new_wallet, serve

MOST = 8
DAY = 86_400


class Town:
    """A book with payers that are invented as they are needed."""

    def __init__(self, folder: Path, coin_price: int = 1_000) -> None:
        self.folder, self.coin_price, self.now = folder, coin_price, 10**9
        self.open()

    def open(self) -> None:
        self.store = Store(
            self.folder / "agent.sqlite", tables=(TABLES,), clock=lambda: float(self.now)
        )
        self.book = ChannelBook(self.store)
        said: Any = SimpleNamespace(coin_price=Decimal(self.coin_price), max_fee_gwei=Decimal(200))
        self.costs = Costs(GasWorth(said, 10**6), lambda: 10**9, 3_600)
        self.house = House(self.store, self.costs, MOST)

    def deposit(
        self, payer: LocalAccount, salt: int, state: Asked = Asked.DONE, tx_hash: bytes = b"\x01"
    ) -> None:
        config = a_config(payer, salt)
        channel = channel_id(CHAIN, config)
        self.book.see(config, ChannelState(channel, 10**9, 0), 1)
        row = self.book.ask_deposit(channel, config, signed_deposit(channel, 500, payer, salt))
        self.book.set_deposit(row.nonce, state=state, tx_hash=tx_hash)

    def charge(self, payer: LocalAccount, salt: int, units: int) -> None:
        channel = channel_id(CHAIN, a_config(payer, salt))
        self.book.begin(voucher(channel, units, payer), units, 10**12)
        self.book.end(receipt(channel, 1, units, units))


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    found = Town(tmp_path)
    yield found
    found.store.close()


def is_shut(town: Town) -> bool:
    return town.house.is_shut


def stranger(number: int) -> LocalAccount:
    account: LocalAccount = Account.from_key((1_000 + number).to_bytes(32, "big"))
    return account


def test_newcomers__all_together_have_a_budget_and_it_comes_back_with_what_they_bring(
    town: Town,
) -> None:
    for number in range(MOST):
        assert town.house.pays_for(stranger(number).address)
        town.deposit(stranger(number), 0)
    assert is_shut(town) and not town.house.pays_for(stranger(99).address)
    cost = town.costs.of(DEPOSIT_GAS)
    assert cost > 1
    town.charge(stranger(0), 0, cost - 1)
    assert is_shut(town)
    town.charge(stranger(1), 0, cost)
    assert not is_shut(town) and town.house.pays_for(stranger(99).address)


def test_newcomers__the_budget_comes_back_after_a_day_and_not_with_a_restart(town: Town) -> None:
    for number in range(MOST):
        town.deposit(stranger(number), 0, Asked.SENT if number % 2 else Asked.DONE)
    town.store.close()
    town.open()
    assert is_shut(town)
    town.now += DAY + 1
    assert not is_shut(town)


def test_one_payer__has_a_part_of_the_budget_over_all_its_channels(town: Town) -> None:
    for salt in range(MOST // 4):
        assert town.house.pays_for(PAYER.address)
        town.deposit(PAYER, salt)
    assert not town.house.pays_for(PAYER.address)
    assert town.house.pays_for(stranger(0).address) and not is_shut(town)


def test_payer_with_a_record__is_not_locked_out_and_its_record_is_over_all_its_channels(
    town: Town,
) -> None:
    cost = town.costs.of(DEPOSIT_GAS)
    for salt in range(3):
        town.deposit(PAYER, salt)
    town.charge(PAYER, 0, 3 * cost)
    assert not town.house.has_record(PAYER.address), "the next one is not earned yet"
    town.charge(PAYER, 1, cost + 1)
    for number in range(MOST):
        town.deposit(stranger(number), 0)
    for number in range(20):
        town.deposit(stranger(100 + number), 0, Asked.REFUSED, b"\x02")
    assert is_shut(town)
    assert town.house.pays_for(PAYER.address) and town.house.has_record(PAYER.address)
    assert not town.house.has_record(stranger(0).address)


def test_deposits_that_fail_on_chain__are_counted_after_a_restart_too(town: Town) -> None:
    for number in range(20):
        town.deposit(stranger(number), 0, Asked.REFUSED, b"\x02")
    free = Town(town.folder, coin_price=0)
    assert is_shut(free), "whatever gas is worth"
    free.store.close()
    town.now += 3_601
    town.book.forget_asked(0, town.now)
    assert is_shut(town), "they have cost gas, so they are not forgotten in an hour"
    town.now += DAY
    assert not is_shut(town)


def test_deposits_that_were_refused_before_they_were_sent__cost_nothing(town: Town) -> None:
    for number in range(3 * MOST):
        town.deposit(stranger(number), 0, Asked.REFUSED, b"")
    assert not is_shut(town)


def test_gas_that_is_worth_nothing__needs_no_budget(tmp_path: Path) -> None:
    town = Town(tmp_path, coin_price=0)
    for number in range(3 * MOST):
        town.deposit(stranger(number), 0)
    assert not is_shut(town)
    town.store.close()


# ---------------------------------------------------------------------- at the counter


def test_held_deposit__has_a_code_of_its_own_and_the_same_payment_is_taken_later(
    tmp_path: Path,
) -> None:
    with serve(tmp_path) as rig:
        terms, wallet = rig.terms(), new_wallet(rig)
        payment = wallet.pay(terms.amount, terms, deposit=100_000)
        with chain(rig, state=Asked.HELD):
            answer = rig.ask(payment)
        assert answer.status_code == 503
        error = answer.json()["error"]
        assert (error["code"], error["retryable"]) == ("deposits_held", True)
        assert "deposit by yourself" in error["message"]
        assert rig.server.asked == []
        with chain(rig):
            assert rig.ask(payment).status_code == 200


def test_deposit_that_was_refused_for_good__is_not_asked_for_again(tmp_path: Path) -> None:
    with serve(tmp_path) as rig:
        terms, wallet = rig.terms(), new_wallet(rig)
        payment = wallet.pay(terms.amount, terms, deposit=100_000)
        with chain(rig, refuse=Fault.DEPOSIT_SIMULATION):
            assert rig.ask(payment).status_code == 402
        with chain(rig):
            assert rig.ask(payment).status_code == 402


def test_strangers_deposits_fill_the_queue__who_has_a_record_gets_in(tmp_path: Path) -> None:
    with serve(tmp_path, max_deposits=2) as rig:
        cashier = rig.front._routes._cashier
        cashier._has_record = lambda payer: payer == PAYER.address
        for number in range(2):
            config = a_config(stranger(number))
            channel = channel_id(CHAIN, config)
            said = signed_deposit(channel, 10**5, stranger(number), until=10**10)
            rig.book.ask_deposit(channel, config, said)
        terms = rig.terms()
        other = new_wallet(rig, stranger(9)).pay(terms.amount, terms, deposit=100_000)
        assert "too many deposits" in rig.ask(other).json()["error"]["message"]
        with chain(rig):
            mine = new_wallet(rig).pay(terms.amount, terms, deposit=100_000)
            assert rig.ask(mine).status_code == 200
