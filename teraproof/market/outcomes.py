# SPDX-License-Identifier: Apache-2.0
"""What the end of a job has done with the money, read from the logs of its transaction."""

from __future__ import annotations

from teraproof.amounts import show_tpf
from teraproof.contracts.jobs import Cancelled, Expired, Refunded, Refused, Settled
from teraproof.contracts.staking import Seized
from teraproof.market.credits import credits_of, show_credits
from teraproof.market.market import Market
from teraproof.market.ui import Ui
from teraproof.protocol.terms import Terms
from teraproof.rpc.types import Receipt


def lines(market: Market, terms: Terms, receipt: Receipt) -> list[str]:
    """What each party got and lost, a line a matter."""
    found = []
    for entry in receipt.logs:
        event = market.jobs.decode(entry)
        if isinstance(event, Settled):
            fee = market.show_price(event.fee)
            found.append(f"{market.show_price(event.paid)} to {event.provider}, fee {fee}")
        elif isinstance(event, Refunded):
            found.append(f"{market.show_price(event.refund)} back to {terms.requester}")
        elif isinstance(event, Cancelled):
            found.append(f"refund {market.show_price(event.refund)} to {event.requester}")
        elif isinstance(event, Refused):
            found.append(f"{market.show_price(event.burned)} burned")
        elif isinstance(event, Expired):
            rest = event.refund < terms.order.max_price
            found.append(
                f"refund {market.show_price(event.refund)}"
                + (" (the rest was returned when the job was accepted)" if rest else "")
            )
    return found + _seizures(market, receipt)


def _seizures(market: Market, receipt: Receipt) -> list[str]:
    found = []
    for entry in receipt.logs:
        event = market.staking.decode(entry)
        if isinstance(event, Seized):
            found.append(
                f"{show_tpf(event.to_victim + event.bounty + event.burned)} seized: "
                f"{show_tpf(event.to_victim)} to the tenant, {show_tpf(event.bounty)} bounty, "
                f"{show_tpf(event.burned)} burned"
            )
    return found


def tell(market: Market, ui: Ui, terms: Terms, receipt: Receipt, account: str) -> None:
    """Say what happened, and what waits for `account` now."""
    for line in lines(market, terms, receipt):
        ui.step(line)
    held = credits_of(market, account)
    if held.money or held.stake:
        shown = show_credits(market, held)
        ui.note(f"{shown} wait for {account}; take them with: job withdraw")
