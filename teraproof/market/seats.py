# SPDX-License-Identifier: Apache-2.0
"""Seats of a juror: taken, given up, their stake set free. Amounts are TPF wei.

The operator takes seats, for it is the agent that must run disputed jobs. The owner's stake is
behind them, so the owner, too, may give them up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from teraproof.amounts import show_time, show_tpf
from teraproof.contracts.disputes import Closed, Enlisted, Opened
from teraproof.courts import docket
from teraproof.courts.docket import Dispute, Member
from teraproof.errors import CommandError, WrongInput, counted
from teraproof.market import notebook, providers
from teraproof.market.jury import court_of, read_jury
from teraproof.market.market import Market, transact
from teraproof.market.sending import Sender
from teraproof.market.ui import Ui
from teraproof.protocol.capability import Capability
from teraproof.protocol.errors import Code
from teraproof.protocol.terms import ZERO_ADDRESS
from teraproof.rpc.types import Receipt

_SHORT = 10  # digits of a capability


@dataclass(frozen=True)
class Held:
    """What a juror has for a capability."""

    capability: bytes
    member: Member
    locked: int
    expires_at: int
    """Last second of its lock, 0 without one."""
    leaves_from: int
    """First second at which the lock of one without seats can be ended."""
    is_over: bool
    """Whether its term is too near its end for new juries."""

    def unbacked(self, seat: int, now: int) -> int:
        """Seats that have no longer the time or the stake; `seat` is SEAT, TPF wei."""
        locked = self.locked if now <= self.expires_at else 0
        backed = 0 if self.is_over else locked // (seat // 2)
        return max(0, self.member.seats - backed)


def parse(text: str) -> bytes:
    """A capability as people give it, 32 bytes: "kind|runtime|hardware", or 64 hex digits."""
    digits = text.removeprefix("0x").lower()
    if len(digits) == 64 and not set(digits) - set("0123456789abcdef"):
        return bytes.fromhex(digits)
    found = Capability.parse(text)
    notebook.note_capability(found)
    return found.number().to_bytes(32, "big")


def named(capability: bytes) -> str:
    """A capability in a sentence: its name if it was used here, or its first digits."""
    found = notebook.capability_of(capability)
    return "0x" + capability.hex()[:_SHORT] if found is None else f"{str(found)!r}"


def read(market: Market, owner: str, capability: bytes) -> Held | None:
    """What a provider has for a capability; None if it never enlisted for it."""
    court = court_of(market)
    member = docket.member(court, owner, capability, "latest")
    if member is None:
        return None
    lock = market.staking.lock_of(court.address, owner, capability, "latest")
    period, now = court.period("latest"), market.now()
    longest = court.longest(court.max_duration("latest"), "latest")
    return Held(
        capability,
        member,
        lock[0],
        lock[1],
        (member.went + 1) * period + longest + 1 if member.went else 0,
        member.is_over(now // period),
    )


def read_all(market: Market, owner: str) -> list[Held]:
    """Everything that a provider has enlisted for."""
    events = court_of(market).find(Enlisted, market.registry.start_block, juror=owner)
    found = [read(market, owner, name) for name in dict.fromkeys(e.capability for e in events)]
    return [held for held in found if held is not None]


# ---------------------------------------------------------------------- what jurors do


def enlist(market: Market, sender: Sender, ui: Ui, capability: bytes, seats: int) -> Receipt:
    """Take seats for a term, add some, or renew them (the operator)."""
    court = court_of(market)
    owner = _owner_of(market, sender.address)
    seat, term = court.seat("latest"), court.term("latest")
    held = read(market, owner, capability)
    _check_enlist(market, held, seats, seat)
    provider = providers.read(market, owner)
    before = 0 if held is None else held.locked
    free = min(provider.own, provider.max_locked) - provider.locked + before
    needed = seats * seat
    if needed > min(free, provider.max_lock_per_order):
        raise CommandError(
            f"{counted(seats, 'seat')} need {show_tpf(needed)} of {owner}'s own stake, of which "
            f"{show_tpf(max(0, min(free, provider.max_lock_per_order)))} can be locked: stake "
            "more, or raise the limits with provider set-limits",
            Code.SEATS_UNFIT,
        )
    now = market.now()
    fee = court.min_fee("latest")
    ui.table(
        f"Take seats for {owner}",
        ("what", "value"),
        [
            ("capability", notebook.show_capability(capability)),
            ("seats", str(seats)),
            ("stake locked", show_tpf(needed)),
            ("locked until", show_time(now + term, now)),
            ("a vote is paid at least", market.show_price(fee)),
            ("silence costs at least", show_tpf(court.big_fine("latest") * fee)),
            ("they count from", show_time(_next_period(market), now)),
        ],
    )
    ui.ask(f"Lock {show_tpf(needed)} of {owner} for {counted(seats, 'seat')}?")
    return transact(sender, ui, "enlist", court, court.enlist(capability, seats))


def _check_enlist(market: Market, held: Held | None, seats: int, seat: int) -> None:
    if seats < 1:
        raise WrongInput("--seats: take one or more; juror resign gives all up")
    if held is None:
        return
    least = max(held.member.seats, -(-held.locked // seat))
    if seats < least:
        raise CommandError(
            f"stake for {counted(least, 'seat')} is locked for a term; there cannot be fewer "
            "before its end, but for none: juror resign",
            Code.SEATS_UNFIT,
        )
    if held.member.seats == 0:
        period = court_of(market).period("latest")
        back = (held.member.went + 2) * period
        if market.now() < back:
            raise CommandError(
                "the seats were lost too recently: a jury can still find them until "
                f"{show_time(back, market.now())}; enlist then",
                Code.SEATS_UNFIT,
            )
        return
    if held.is_over:
        raise CommandError(
            "the term of the old seats is over: resign them first, and enlist two periods later",
            Code.SEATS_UNFIT,
        )


def resign(market: Market, sender: Sender, ui: Ui, owner: str, capability: bytes) -> Receipt:
    """Give up all seats (the owner or its operator)."""
    held = _held(market, owner, capability)
    if sender.address not in (owner, market.staking.operator_of(owner, "latest")):
        raise CommandError(
            f"seats of {owner} are given up by it or by its operator, not by {sender.address}",
            Code.SEATS_UNFIT,
        )
    if held.member.seats == 0:
        raise CommandError(f"{owner} has no seats for {named(capability)}", Code.SEATS_UNFIT)
    ui.ask(
        f"Give up {counted(held.member.seats, 'seat')} of {owner}? Juries asked for until "
        f"{show_time(_next_period(market), market.now())} may still find them: keep the agent up"
    )
    court = court_of(market)
    done = transact(sender, ui, "resign", court, court.resign(owner, capability))
    ui.note(
        "an agent with these seats in `disputes.seats` must have 0 there; an older version of it "
        "would take them again"
    )
    return done


def leave(market: Market, sender: Sender, ui: Ui, owner: str, capability: bytes) -> Receipt:
    """End the lock of a juror without seats, once no jury can need it (anyone)."""
    held, now = _held(market, owner, capability), market.now()
    if held.member.seats:
        raise CommandError(
            f"{owner} has {counted(held.member.seats, 'seat')} for {named(capability)}: juror "
            "resign comes first",
            Code.SEATS_UNFIT,
        )
    if not held.locked:
        raise CommandError(f"{owner} has nothing locked for {named(capability)}", Code.SEATS_UNFIT)
    if now < held.leaves_from:
        raise CommandError(
            f"{owner} may still sit in a jury; its {show_tpf(held.locked)} can be set free from "
            f"{show_time(held.leaves_from, now)} on",
            Code.NOT_READY,
        )
    ui.ask(f"End the lock of {show_tpf(held.locked)} of {owner}?")
    court = court_of(market)
    return transact(sender, ui, "leave", court, court.leave(owner, capability))


def evict(
    market: Market, sender: Sender, ui: Ui, capability: bytes, owner: str | None = None
) -> list[str]:
    """Remove seats whose term is over, or that too little stake is behind (anyone): those of one
    juror, or all of a capability. Returns the jurors that lost some.
    """
    if owner is not None:
        every = [_held(market, owner, capability)]
    else:
        jury = read_jury(market, capability)
        read_now = [read(market, one.owner, capability) for one in (*jury.members, *jury.stale)]
        every = [held for held in read_now if held is not None]
    court, seat, now = court_of(market), court_of(market).seat("latest"), market.now()
    lost = {held.member.owner: held.unbacked(seat, now) for held in every}
    gone = [juror for juror, count in lost.items() if count]
    if not gone:
        who = "nobody" if owner is None else owner
        raise CommandError(
            f"{who} has seats for {named(capability)} without the stake or the time for them: "
            "there is nothing to evict",
            Code.SEATS_UNFIT,
        )
    count = sum(lost.values())
    ui.ask(f"Remove {counted(count, 'seat')} of {counted(len(gone), 'juror')}?")
    for juror in gone:
        transact(sender, ui, f"evict {juror}", court, court.evict(juror, capability))
    return gone


# ---------------------------------------------------------------------- what is shown


def show(market: Market, ui: Ui, owner: str) -> dict[str, Any]:
    """A juror's seats and the open disputes in which it sits."""
    now = market.now()
    every = read_all(market, owner)
    rows = [
        (
            notebook.show_capability(held.capability),
            str(held.member.seats),
            show_tpf(held.locked),
            show_time(held.expires_at, now) if held.locked else "",
            _state(market, held, now),
        )
        for held in every
    ]
    if rows:
        columns = ("capability", "seats", "stake locked", "until", "state")
        ui.table(f"Seats of {owner}", columns, rows)
    else:
        ui.note(f"{owner} has no seats, see juror enlist")
    sits = sitting(market, owner)
    if sits:
        ui.table(
            "Sits in",
            ("job", "jury", "votes", "phase", "until"),
            [
                (
                    "0x" + one.case.job.hex(),
                    str(one.current.number + 1),
                    str(place.votes),
                    one.phase.name.lower(),
                    show_time(one.until, now) if one.until else "",
                )
                for one in sits
                if (place := one.current.of(owner)) is not None
            ],
        )
    return {
        "juror": owner,
        "seats": [
            {
                "capability": "0x" + held.capability.hex(),
                "seats": held.member.seats,
                "locked": str(held.locked),
                "expires_at": held.expires_at or None,
                "leaves_from": held.leaves_from or None,
                "term_is_over": held.is_over,
            }
            for held in every
        ],
        "sits_in": ["0x" + one.case.job.hex() for one in sits],
    }


def show_capability(market: Market, ui: Ui, capability: bytes) -> dict[str, Any]:
    """Who has the seats of a capability, and what the court asks for an order."""
    jury, court = read_jury(market, capability), court_of(market)
    least, step = court.panel_min("latest"), court.price_per_seat("latest")
    rows = [(one.owner, str(one.seats), "can be drawn") for one in jury.members]
    rows += [(one.owner, str(one.seats), "term is over: juror evict") for one in jury.stale]
    if rows:
        title = f"Jurors of {notebook.show_capability(capability)}: {jury.described()}"
        ui.table(title, ("juror", "seats", "state"), rows)
    else:
        ui.note(f"no juror has seats for {notebook.show_capability(capability)}")
    if (warning := jury.warning()) is not None:
        ui.note(warning)
    ui.note(
        f"an order needs {least} seats, and one more for each {market.show_price(step)} of its "
        "price"
    )
    return {**jury.to_json(), "needed": least, "price_per_seat": str(step)}


def sitting(market: Market, owner: str) -> Sequence[Dispute]:
    """The open disputes whose present jury a provider is in."""
    court, first = court_of(market), market.registry.start_block
    over = {event.job for event in court.find(Closed, first)}
    opened = [event.case for event in court.find(Opened, first) if event.job not in over]
    read_now = [docket.read(court, case, "latest") for case in opened]
    return [one for one in read_now if one is not None and one.current.of(owner) is not None]


# ---------------------------------------------------------------------- parts


def _owner_of(market: Market, operator: str) -> str:
    owner = market.staking.provider_of(operator, "latest")
    if owner != ZERO_ADDRESS:
        return owner
    if providers.is_registered(market, operator):
        agent = market.staking.operator_of(operator, "latest")
        raise CommandError(
            f"seats are taken by the operator {agent} of {operator}, whose agent must run "
            "disputed jobs: let the agent do it, or use the operator's key",
            Code.SEATS_UNFIT,
        )
    raise CommandError(
        f"{operator} is not the operator of a provider; register one with provider register",
        Code.NOT_REGISTERED,
    )


def _held(market: Market, owner: str, capability: bytes) -> Held:
    held = read(market, owner, capability)
    if held is None:
        raise CommandError(
            f"{owner} never took seats for {named(capability)}; see juror status",
            Code.SEATS_UNFIT,
        )
    return held


def _next_period(market: Market) -> int:
    period = court_of(market).period("latest")
    return (market.now() // period + 1) * period


def _state(market: Market, held: Held, now: int) -> str:
    if held.member.seats:
        return "term is over: resign" if held.is_over else "can be drawn"
    if held.locked:
        ready = now >= held.leaves_from
        return "can leave" if ready else f"can leave {show_time(held.leaves_from, now)}"
    return "left"
