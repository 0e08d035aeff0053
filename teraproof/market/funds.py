# SPDX-License-Identifier: Apache-2.0
"""Where the payment tokens that a call takes in come from: credit, an allowance, or a permit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from teraproof.contracts.deals import DealsContract
from teraproof.errors import CommandError
from teraproof.market.market import Market, check_tokens, sign_permit, transact
from teraproof.market.sending import Call, Sender
from teraproof.market.ui import Ui
from teraproof.protocol.errors import Code
from teraproof.rpc.errors import Reverted
from teraproof.rpc.types import Receipt

#: About what they take, so that who has far too little gas money hears it before the first one.
_CALL_GAS, _PERMIT_GAS, _ALLOW_GAS = 120_000, 80_000, 45_000


class Funds(Enum):
    """Where the payment comes from."""

    AUTO = "auto"
    CREDIT = "credit"
    ALLOWANCE = "allowance"
    PERMIT = "permit"


@dataclass(frozen=True)
class Payment:
    """What a call takes in, payment token units."""

    label: str
    """The call, for people."""
    purpose: str
    """Where the money goes: "in escrow"."""
    amount: int


def agree(
    market: Market,
    sender: Sender,
    ui: Ui,
    payment: Payment,
    funds: Funds,
    into: DealsContract | None = None,
) -> Funds:
    """Ask whether `into` (Jobs) may take the payment; where it comes from then.

    CommandError when the account cannot pay. Raises Declined.
    """
    taker = market.jobs if into is None else into
    source = _choose(market, sender, payment.amount, funds, taker)
    shown = market.show_price(payment.amount)
    where = {
        Funds.CREDIT: f"its credit in the market ({shown})",
        Funds.ALLOWANCE: f"its wallet ({shown}, allowance)",
        Funds.PERMIT: f"its wallet ({shown}, signed permit)",
    }[source]
    ui.ask(f"Put {shown} of {sender.address} {payment.purpose}, from {where}?")
    return source


def check_all(
    market: Market,
    sender: Sender,
    payments: Sequence[Payment],
    funds: Funds,
    into: DealsContract | None = None,
) -> None:
    """CommandError unless the account can make all payments to `into` (Jobs), one after the other:
    tokens and gas. So the first is not made where a later one cannot be.
    """
    taker = market.jobs if into is None else into
    credit = taker.credit_of(sender.address, "latest")
    wallet = market.payment_balance(sender.address)
    allowed = market.payment.allowance(sender.address, taker.address, "latest")
    total = sum(one.amount for one in payments)
    gas, left, spent = 0, credit, 0
    for one in payments:
        gas += _CALL_GAS
        if funds is Funds.CREDIT or (funds is Funds.AUTO and left >= one.amount):
            left -= one.amount
            continue
        spent += one.amount
        if funds is Funds.PERMIT or (funds is Funds.AUTO and allowed < one.amount):
            gas += _PERMIT_GAS
        else:
            gas += _ALLOW_GAS if allowed < one.amount else 0
            allowed = max(0, allowed - one.amount)
    if left < 0 or spent > wallet:
        held = f"{market.show_price(credit)} of credit"
        if funds is not Funds.CREDIT:
            held += f" and {market.show_price(wallet)} in its wallet"
        raise CommandError(
            f"{sender.address} has {held}, which does not pay for all {len(payments)} of them, "
            f"{market.show_price(total)} together; nothing was sent",
            Code.FUNDS_MISSING,
        )
    sender.check_balance(gas * sender.offer().max_fee, f"all {len(payments)} of them")


def pay_in(
    market: Market,
    sender: Sender,
    ui: Ui,
    payment: Payment,
    funds: Funds,
    call: Callable[[bool | None], bytes],
    into: DealsContract | None = None,
    *,
    agreed: Funds | None = None,
) -> tuple[Receipt, ...]:
    """Send the calldata of `call`, which `into` (Jobs) takes the payment with; it is called with
    True where credit pays, else with None. The receipts of all that was sent, the call's own last.

    `agreed` is what `agree` returned for this payment, or a larger one; without it the person is
    asked. CommandError when the account cannot pay.
    """
    amount, shown = payment.amount, market.show_price(payment.amount)
    taker = market.jobs if into is None else into
    source = agree(market, sender, ui, payment, funds, taker) if agreed is None else agreed
    receipts = []
    if source is Funds.PERMIT:
        permit = sign_permit(market, market.payment, sender, taker.address, amount)
        if permit is None:
            source = Funds.ALLOWANCE
        else:
            data = taker.deposit_with_permit(*permit.arguments())
            receipts.append(transact(sender, ui, f"deposit {shown}", taker, data))
            source = Funds.CREDIT
    if source is Funds.ALLOWANCE:
        allowed = market.payment.allowance(sender.address, taker.address, "latest")
        if allowed < amount:
            receipts += _allow(market, sender, ui, shown, allowed, amount, taker.address)
    data = call(True if source is Funds.CREDIT else None)
    receipts.append(transact(sender, ui, payment.label, taker, data))
    return tuple(receipts)


def _allow(
    market: Market,
    sender: Sender,
    ui: Ui,
    shown: str,
    allowed: int,
    amount: int,
    spender: str,
) -> list[Receipt]:
    """Let the market take `amount` units of the payment token. Some tokens (USDT) change only an
    allowance of nothing: there a leftover is taken back first.
    """
    receipts = []
    data = market.payment.approve(spender, amount)
    if allowed:
        try:
            sender.estimate(Call(f"allow {shown}", market.payment.address, data))
        except Reverted:
            label = "take a leftover allowance back"
            nothing = market.payment.approve(spender, 0)
            receipts.append(transact(sender, ui, label, market.payment, nothing))
    label = f"allow {shown}"
    receipts.append(transact(sender, ui, label, market.payment, data))
    return receipts


def _choose(
    market: Market,
    sender: Sender,
    amount: int,
    funds: Funds,
    taker: DealsContract,
) -> Funds:
    """Credit first (a deposit of an interrupted run is found again), then what is allowed."""
    shown = market.show_price(amount)
    credit = taker.credit_of(sender.address, "latest")
    if funds is Funds.CREDIT and credit < amount:
        raise CommandError(
            f"{sender.address} has {market.show_price(credit)} of credit, but {shown} are needed",
            Code.FUNDS_MISSING,
        )
    if funds is Funds.CREDIT or (funds is Funds.AUTO and credit >= amount):
        return Funds.CREDIT
    check_tokens(market, market.payment, sender.address, amount, shown)
    if funds is not Funds.AUTO:
        return funds
    allowed = market.payment.allowance(sender.address, taker.address, "latest")
    return Funds.ALLOWANCE if allowed >= amount else Funds.PERMIT
