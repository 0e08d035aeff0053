# SPDX-License-Identifier: Apache-2.0
"""Stake that waits: it came while an epoch of its provider was unsettled. Amounts are TPF wei."""

from __future__ import annotations

from teraproof.amounts import show_tpf
from teraproof.errors import CommandError
from teraproof.market.market import Market, transact
from teraproof.market.sending import Sender
from teraproof.market.ui import Ui
from teraproof.rpc.types import Receipt


def of(market: Market, provider: str, account: str) -> int:
    """What an account's entry with a provider holds."""
    return market.staking.entry_of(provider, account, "latest")


def tell(market: Market, ui: Ui, provider: str, account: str) -> None:
    """Say so when stake waits, and how it becomes active."""
    waiting = of(market, provider, account)
    if waiting:
        ui.note(
            f"{show_tpf(waiting)} wait as an entry until the provider's epoch is settled: "
            "provider activate makes them active, provider take-back returns them"
        )


def activate(market: Market, sender: Sender, ui: Ui, provider: str, account: str) -> Receipt:
    """Make an account's entry active stake; anyone may. CommandError when it cannot be yet."""
    waiting = of(market, provider, account)
    if not waiting:
        raise CommandError(f"{account} has no entry with {provider}")
    ui.ask(f"Make {show_tpf(waiting)} of {account} active stake of {provider}?")
    data = market.staking.activate(provider, account)
    return transact(sender, ui, "activate", market.staking, data)


def take_back(
    market: Market, sender: Sender, ui: Ui, provider: str, receiver: str | None = None
) -> Receipt:
    """Take the account's entry out again. CommandError when there is none."""
    waiting, to = of(market, provider, sender.address), receiver or sender.address
    if not waiting:
        raise CommandError(f"{sender.address} has no entry with {provider}")
    ui.ask(f"Take {show_tpf(waiting)} back to {to}?")
    data = market.staking.take_back(provider, to)
    return transact(sender, ui, "take back", market.staking, data)
