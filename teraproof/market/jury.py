# SPDX-License-Identifier: Apache-2.0
"""Who would judge an order: the seats of its capability, their owners, and what the court takes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from teraproof.amounts import show_seconds, show_tpf
from teraproof.contracts.disputes import DisputesContract
from teraproof.courts import docket
from teraproof.courts.docket import Member
from teraproof.errors import CommandError, Refused, counted
from teraproof.market.market import Market
from teraproof.protocol.errors import Code
from teraproof.protocol.terms import LEAST_CAPABILITY, Order

# Of the seats: what one owner, or two together, have more of than that, is not many opinions.
_MOST_SHARE = Fraction(1, 2)


@dataclass(frozen=True)
class Jury:
    """The jurors of a capability now. Seats whose term is over, or too near its end, are in
    `stale`: the court counts them until somebody evicts them, and no jury gets them.
    """

    capability: bytes
    members: tuple[Member, ...]
    """Who can be drawn, the most seats first."""
    stale: tuple[Member, ...] = ()

    @property
    def owners(self) -> int:
        """How many providers have the seats."""
        return len(self.members)

    @property
    def seats(self) -> int:
        """Seats that can be drawn."""
        return self.drawable()

    def drawable(self, barred: Collection[str] = ()) -> int:
        """Seats that can be drawn when these accounts are parties."""
        return sum(one.seats for one in self.members if one.owner not in barred)

    def described(self, barred: Collection[str] = ()) -> str:
        """For people: "12 seats of 5 owners"."""
        shown = f"{counted(self.seats, 'seat')} of {counted(self.owners, 'owner')}"
        left = self.seats - self.drawable(barred)
        return f"{shown}, {left} of which cannot be drawn" if left else shown

    def warning(self) -> str | None:
        """What a tenant should know of these jurors; None for many small ones."""
        for number in (1, 2):
            first = sum(one.seats for one in self.members[:number])
            if len(self.members) >= number and first > _MOST_SHARE * self.seats:
                who = "one owner has" if number == 1 else "two owners have"
                whose = "that owner's" if number == 1 else "theirs"
                return (
                    f"{who} {first} of the {self.seats} seats: a ruling may be {whose} alone, and "
                    "an appeal may find no juror"
                )
        return None

    def to_json(self) -> dict[str, Any]:
        """For documents."""
        return {
            "capability": "0x" + self.capability.hex(),
            "seats": self.seats,
            "owners": self.owners,
            "jurors": [{"owner": one.owner, "seats": one.seats} for one in self.members],
            "stale_seats": sum(one.seats for one in self.stale),
        }


@dataclass(frozen=True)
class Bench:
    """The jurors of an order, and the seats that the court wants for it: `least`, and one more for
    each `price_per_seat` of its price (payment token units).
    """

    jury: Jury
    least: int
    price_per_seat: int

    def needed(self, price: int) -> int:
        """The seats without which no order of this price is taken."""
        return self.least + price // self.price_per_seat

    def refusal(self, provider: str, price: int) -> Refused | None:
        """Why a provider cannot take an order of this price: its own seats do not judge it."""
        seats, needed = self.jury.drawable((provider,)), self.needed(price)
        if seats >= needed:
            return None
        own = self.jury.seats - seats
        without = f" without its own {own}" if own else ""
        line = f"{counted(seats, 'seat')}{without} can judge it, {needed} are needed"
        return Refused(Code.NO_JURY, line, seats=seats, needed=needed)


def bench_of(market: Market, judged: int) -> Bench | None:
    """Who judges what is `judged` like that; None where no court does."""
    if judged <= LEAST_CAPABILITY or market.court is None:
        return None
    court = market.court
    jury = read_jury(market, judged.to_bytes(32, "big"))
    return Bench(jury, court.panel_min("latest"), court.price_per_seat("latest"))


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
    return Jury(
        capability,
        tuple(one for one in found if not one.is_over(period)),
        tuple(one for one in found if one.is_over(period)),
    )


def require_jury(market: Market, order: Order, provider: str | None = None) -> Jury | None:
    """The jury of a judged order; None for an order that no court decides. CommandError (NO_JURY)
    when the court takes no such order now: it says what would be needed. `provider` takes it, if
    that is known: its own seats do not count.
    """
    if order.capability is None:
        return None
    court = court_of(market)
    found = read_jury(market, order.capability.to_bytes(32, "big"))
    bench = Bench(found, court.panel_min("latest"), court.price_per_seat("latest"))
    least, needed = bench.least, bench.needed(order.max_price)
    barred = () if provider is None else (provider,)
    seats = found.drawable(barred)
    if seats < needed:
        # Every order needs the least: no price is low enough without it.
        cheaper = "lower the price, " if seats >= least else ""
        raise CommandError(
            f"no jury can be found: {found.described(barred)} for this capability, but an order of "
            f"{market.show_price(order.max_price)} needs {needed}; {cheaper}wait for jurors, "
            "or choose --judged trusted or refusable",
            Code.NO_JURY,
            seats=seats,
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
