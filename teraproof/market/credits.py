# SPDX-License-Identifier: Apache-2.0
"""Money that waits for its owner in the contracts, and how it gets out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from teraproof.amounts import show_tpf
from teraproof.errors import CommandError
from teraproof.market.market import Market, transact
from teraproof.market.sending import Sender
from teraproof.market.ui import Ui
from teraproof.rpc.types import Receipt


@dataclass(frozen=True)
class Credits:
    """What an account may pull: payment token from Jobs, TPF wei from Staking, and payment token
    from Leases.
    """

    payment: int
    stake: int
    leased: int = 0

    @property
    def money(self) -> int:
        """Payment token of all contracts."""
        return self.payment + self.leased


@dataclass(frozen=True)
class Withdrawn:
    """What was pulled, and the transactions that did it."""

    payment: int
    stake: int
    receipts: tuple[Receipt, ...]


def credits_of(market: Market, account: str) -> Credits:
    """Payouts, refunds and deposits in Jobs and in Leases; seizures, bounties and commission in
    Staking.
    """
    return Credits(
        market.jobs.credit_of(account, "latest"),
        market.staking.credit_of(account, "latest"),
        0 if market.leases is None else market.leases.credit_of(account, "latest"),
    )


def show_credits(market: Market, held: Credits) -> str:
    """Credits for people: "2 tUSD and 80 TPF"."""
    shown = [market.show_price(held.money)] if held.money else []
    shown += [show_tpf(held.stake)] if held.stake else []
    return " and ".join(shown)


def withdraw(market: Market, sender: Sender, ui: Ui, receiver: str | None = None) -> Withdrawn:
    """Pull all credits of the account to `receiver`, by default itself.

    CommandError when there is nothing to pull.
    """
    held = credits_of(market, sender.address)
    to = receiver or sender.address
    if not held.money and not held.stake:
        raise CommandError(f"{sender.address} has nothing to withdraw")
    rows = [("refunds and payouts", market.show_price(held.money))] if held.money else []
    rows += [("seizures and bounties", show_tpf(held.stake))] if held.stake else []
    ui.table(f"Withdraw to {to}", ("what", "amount"), rows)
    ui.ask(f"Withdraw {show_credits(market, held)} to {to}?")
    receipts = list(pull(market, sender, ui, held, to))
    if held.stake:
        label = f"withdraw {show_tpf(held.stake)}"
        receipts.append(transact(sender, ui, label, market.staking, market.staking.withdraw(to)))
    return Withdrawn(held.money, held.stake, tuple(receipts))


def pull(market: Market, sender: Sender, ui: Ui, held: Credits, to: str) -> Iterator[Receipt]:
    """Send the payment token that waits, of each contract that has some, to `to`."""
    for amount, source in ((held.payment, market.jobs), (held.leased, market.leases)):
        if amount and source is not None:
            label = f"withdraw {market.show_price(amount)}"
            yield transact(sender, ui, label, source, source.withdraw(to))
