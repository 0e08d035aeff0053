# SPDX-License-Identifier: Apache-2.0
"""What the end of a job has done with the money, read from the logs of its transaction."""

from __future__ import annotations

from teraproof.amounts import show_tpf
from teraproof.market.credits import credits_of, show_credits
from teraproof.market.market import Market
from teraproof.market.reading import Cancelled, Expired, Refused, Settled
from teraproof.market.ui import Ui
from teraproof.protocol.terms import Terms
from teraproof.rpc.types import Receipt


def lines(market: Market, terms: Terms, receipt: Receipt) -> list[str]:
    """What each party got and lost, a line a matter."""
    found = []
    for entry in receipt.logs:
        event = market.job_events.decode(entry)
        if isinstance(event, Settled):
            fee = market.show_price(event.fee)
            found.append(f"{market.show_price(event.paid)} to {event.provider}, fee {fee}")
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
        if int(entry.address, 16) != int(market.staking.address, 16):
            continue
        decoded = market.staking.abi.decode_log(entry)
        if decoded is None or decoded[0] != "Seized":
            continue
        part = decoded[1]
        victim, bounty, burned = (int(part[key]) for key in ("to_victim", "bounty", "burned"))
        found.append(
            f"{show_tpf(victim + bounty + burned)} seized: {show_tpf(victim)} to the tenant, "
            f"{show_tpf(bounty)} bounty, {show_tpf(burned)} burned"
        )
    return found


def tell(market: Market, ui: Ui, terms: Terms, receipt: Receipt, account: str) -> None:
    """Say what happened, and what waits for `account` now."""
    for line in lines(market, terms, receipt):
        ui.step(line)
    held = credits_of(market, account)
    if held.payment or held.stake:
        shown = show_credits(market, held)
        ui.note(f"{shown} wait for {account}; take them with: job withdraw")
