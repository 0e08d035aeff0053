# SPDX-License-Identifier: Apache-2.0
"""Tokens to begin with: stake from who holds it, test dollars from nowhere."""

from __future__ import annotations

from provider_agent.chain.contracts import Abi
from scripts.market.amounts import show_tpf
from scripts.market.contracts import Contract
from scripts.market.errors import ScriptError
from scripts.market.market import Market, check_tokens, transact
from scripts.market.sending import Sender
from scripts.market.ui import Ui
from teraproof.rpc.types import Receipt

_MINT = Abi(
    [
        {
            "type": "function",
            "name": "mint",
            "inputs": [{"type": "address"}, {"type": "uint256"}],
            "outputs": [],
        }
    ]
)


def send_stake(market: Market, sender: Sender, ui: Ui, receiver: str, amount: int) -> Receipt:
    """Transfer TPF wei."""
    shown = show_tpf(amount)
    check_tokens(market, market.token, sender.address, amount, shown)
    ui.ask(f"Send {shown} to {receiver}?")
    return transact(sender, ui, f"send {shown}", market.token, "transfer", receiver, amount)


def mint_payment(market: Market, sender: Sender, ui: Ui, receiver: str, amount: int) -> Receipt:
    """Make test dollars. ScriptError where jobs are paid in a real token."""
    if market.registry.contracts["PaymentToken"].bytecode_sha256 is None:
        raise ScriptError(
            f"jobs on chain {market.chain.chain_id} are paid in {market.payment.address}, which "
            "nobody can mint here"
        )
    token = Contract(market.chain.pool, market.payment.address, _MINT)
    label = f"mint {market.show_price(amount)}"
    return transact(sender, ui, label, token, "mint", receiver, amount)
