# SPDX-License-Identifier: Apache-2.0
"""Who would judge an order: the seats of its capability, their owners, and what the court takes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from teraproof.amounts import show_seconds, show_tpf
from teraproof.contracts.disputes import DisputesContract
from teraproof.courts import docket
from teraproof.courts.docket import Member
from teraproof.errors import CommandError, counted
from teraproof.market.market import Market
from teraproof.protocol.errors import Code
from teraproof.protocol.terms import Order


@dataclass(frozen=True)
class Jury:
    """The jurors of a capability now. Whose term is over, or too near its end, has no seats in
    `members`.
    """

    capability: bytes
    members: tuple[Member, ...]
    seats: int
    """As the court counts them for new orders."""

    @property
    def owners(self) -> int:
        """How many providers have the seats."""
        return len(self.members)

    def drawable(self, barred: Collection[str] = ()) -> int:
        """Seats that can be drawn when these accounts are parties."""
        return sum(one.seats for one in self.members if one.owner not in barred)

    def described(self, barred: Collection[str] = ()) -> str:
        """For people: "12 seats of 5 owners"."""
        shown = f"{counted(self.seats, 'seat')} of {counted(self.owners, 'owner')}"
        left = self.seats - self.drawable(barred)
        return f"{shown}, {left} of which cannot be drawn" if left > 0 and barred else shown

    def to_json(self) -> dict[str, Any]:
        """For documents."""
        return {
            "capability": "0x" + self.capability.hex(),
            "seats": self.seats,
            "owners": self.owners,
            "jurors": [{"owner": one.owner, "seats": one.seats} for one in self.members],
        }


def court_of(market: Market) -> DisputesContract:
    """The court of a market. CommandError (NO_JURY) where there is none."""
    if market.court is None:
        raise CommandError(
            "this market has no court: nobody judges results here; see job post --judged",
            Code.NO_JURY,
        )
    return market.court


def read_jury(market: Market, capability: bytes) -> Jury:
    """The jurors of a capability (32 bytes)."""
    court = court_of(market)
    period = market.now() // court.period("latest")
    found = docket.members_of(court, capability, market.registry.start_block)
    members = tuple(one for one in found if one.last_period >= period)
    return Jury(capability, members, court.seats(capability, "latest"))


def require_jury(market: Market, order: Order) -> Jury | None:
    """The jury of a judged order; None for an order that no court decides. CommandError (NO_JURY)
    when the court takes no such order now: it says what would be needed.
    """
    if order.capability is None:
        return None
    court = court_of(market)
    found = read_jury(market, order.capability.to_bytes(32, "big"))
    needed = court.panel_min("latest") + order.max_price // court.price_per_seat("latest")
    if found.seats < needed:
        raise CommandError(
            f"no jury can be found: {found.described()} for this capability, but an order of "
            f"{market.show_price(order.max_price)} needs {needed}; lower the price, wait for "
            "jurors, or choose --judged trusted or refusable",
            Code.NO_JURY,
            seats=found.seats,
            needed=needed,
            owners=found.owners,
        )
    longest = court.max_duration("latest")
    if order.duration > longest:
        raise CommandError(
            f"a job of {show_seconds(order.duration)} is not judged here; "
            f"{show_seconds(longest)} are the most: see --duration",
            Code.NO_JURY,
        )
    fee = court.costs_of(order.max_price, order.duration, "latest").fee
    fine, seat = 2 * court.big_fine("latest") * fee, court.seat("latest")
    if fine > seat:
        raise CommandError(
            f"an order of {market.show_price(order.max_price)} is too dear to be judged here: a "
            f"seat is {show_tpf(seat)}, and {show_tpf(fine)} would have to stand behind it; lower "
            "--price",
            Code.NO_JURY,
        )
    return found
