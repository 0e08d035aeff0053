# SPDX-License-Identifier: Apache-2.0
"""Funding: transfer TPF, mint test dollars."""

from __future__ import annotations

from teraproof.amounts import show_tpf
from teraproof.contracts.payment_token import PaymentTokenContract
from teraproof.errors import WrongInput
from teraproof.market.market import Market, check_tokens, transact
from teraproof.market.sending import Sender
from teraproof.market.ui import Ui
from teraproof.rpc.types import Receipt


def send_stake(market: Market, sender: Sender, ui: Ui, receiver: str, amount: int) -> Receipt:
    """Transfer TPF wei."""
    _check_some(amount)
    shown = show_tpf(amount)
    check_tokens(market, market.token, sender.address, amount, shown)
    ui.ask(f"Send {shown} to {receiver}?")
    return transact(
        sender, ui, f"send {shown}", market.token, market.token.transfer(receiver, amount)
    )


def mint_payment(market: Market, sender: Sender, ui: Ui, receiver: str, amount: int) -> Receipt:
    """Make test dollars. CommandError where jobs are paid in a real token."""
    if market.registry.contracts["PaymentToken"].bytecode_sha256 is None:
        raise WrongInput(
            f"jobs on chain {market.chain.chain_id} are paid in {market.payment.address}, which "
            "nobody can mint here"
        )
    _check_some(amount)
    token = PaymentTokenContract(market.chain.pool, market.payment.address)
    label = f"mint {market.show_price(amount)}"
    return transact(sender, ui, label, token, token.mint(receiver, amount))


def _check_some(amount: int) -> None:
    if amount == 0:
        raise WrongInput("AMOUNT: 0 moves nothing; give more")
