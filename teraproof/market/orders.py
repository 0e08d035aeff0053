# SPDX-License-Identifier: Apache-2.0
"""What orders of jobs and of leases have in common: what is refused before any money moves, and how
what was placed is found in its transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from teraproof.amounts import show_time
from teraproof.contracts.base import Contract, Event
from teraproof.errors import CommandError, WrongInput
from teraproof.market.market import Market
from teraproof.protocol.errors import Code
from teraproof.protocol.terms import ZERO_ADDRESS
from teraproof.rpc.types import Receipt

_Placed = TypeVar("_Placed", bound=Event)


class Escrow(Protocol):
    """The contract that orders go to: Jobs or Leases."""

    def paused_until(self, block: str) -> int:
        """When new orders are taken again; unix seconds, 0 for now."""
        ...

    def max_auction(self, block: str) -> int:
        """The longest auction, seconds."""
        ...

    def quote_used(self, operator: str, nonce: int, block: str) -> bool:
        """Whether a quote can be used no more."""
        ...


class Quoted(Protocol):
    """A provider's quote."""

    @property
    def operator(self) -> str:
        """Who signs it."""
        ...

    @property
    def expires(self) -> int:
        """Its last second."""
        ...

    @property
    def nonce(self) -> int:
        """The operator's consent, and a number of its own."""
        ...


def check_auction(escrow: Escrow, seconds: int) -> None:
    """WrongInput for one that is too long."""
    if seconds > escrow.max_auction("latest"):
        raise WrongInput("the auction is too long; 30 days are the most")


def check_open(market: Market, escrow: Escrow, what: str) -> None:
    """CommandError while no new orders are taken; `what` names them."""
    paused, now = escrow.paused_until("latest"), market.now()
    if paused > now:
        raise CommandError(
            f"new {what} are paused until {show_time(paused, now)}", Code.ORDERS_PAUSED
        )


def check_quote(market: Market, escrow: Escrow, quote: Quoted) -> str:
    """The provider (its owner) that a quote binds. CommandError when it cannot be used."""
    owner = market.staking.provider_of(quote.operator, "latest")
    if owner == ZERO_ADDRESS:
        raise CommandError("the quote is of no registered provider; nothing was sent")
    if quote.expires < market.now():
        raise CommandError("the quote has expired; ask for another", Code.QUOTE_INVALID)
    if escrow.quote_used(quote.operator, quote.nonce, "latest"):
        raise CommandError("the quote was used or taken back; ask for another", Code.QUOTE_INVALID)
    if quote.nonce >> 128 != market.staking.consent_nonce(quote.operator, "latest") - 1:
        raise CommandError(
            "the quote's operator was bound again since; ask for another", Code.QUOTE_INVALID
        )
    return owner


def placed_in(
    contract: Contract, kind: type[_Placed], receipts: Sequence[Receipt], label: str, what: str
) -> _Placed:
    """The event of what the last transaction has placed. CommandError where it shows none."""
    receipt = receipts[-1]
    for entry in receipt.logs:
        event = contract.decode(entry)
        if isinstance(event, kind):
            return event
    raise CommandError(
        f"{label}: transaction 0x{receipt.tx_hash.hex()} shows no {what}; look at it"
    )
