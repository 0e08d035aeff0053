# SPDX-License-Identifier: Apache-2.0
"""What can be planned for a lease, drawn at random: a case, and what the hostile do in it."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from tests.attack.lease_play import HORIZON, NEVER, TICK, Act, LeasePlay
from tests.attack.leasehold import PROVIDER, PUPPET, TENANT
from tests.contracts.stateful.world import OPERATORS, PAYOUTS

ANYBODY = tuple(
    f"leases.{name}"
    for name in (
        *("settle", "close", "accuse", "expire", "cancel", "top_up", "confirm", "reject", "accept"),
        *("ready", "suspend", "resume", "give_notice", "leave", "heartbeat", "withdraw"),
    )
)
OF_OWNER = ("staking.undelegate", "staking.set_payout", "staking.set_lock_limits")
AMOUNTS = (0, 1, 299, 1_000, 10**5, 10**6, 10**9, 10**18, 10**21, 10**22, 2**96)


@dataclass(frozen=True)
class LeaseMove:
    """Its kind, and what a kind may ask for."""

    kind: str
    act: Act
    first: int = 0
    second: int = 0
    flag: bool = False

    def __call__(self, play: LeasePlay) -> None:
        KINDS[self.kind](self, play)

    def __str__(self) -> str:
        if self.kind == "act":
            about = "the other lease" if self.act.beside else f"amount {self.act.amount}"
            return f"{self.act.target} at {self.act.at} s by {name_of(self.act.sender)} ({about})"
        when = f", {self.act.at} s" if self.kind == "blames" else ""
        return f"{self.kind} ({self.first}, {self.second}, {self.flag}{when})"


def name_of(sender: str) -> str:
    names = {PROVIDER: "owner", OPERATORS[0].address: "operator", PAYOUTS[0]: "payout"}
    return {**names, TENANT: "tenant", PUPPET: "puppet"}[sender]


# --------------------------------------------------------------------------------- the case


def size(move: LeaseMove, play: LeasePlay) -> None:
    """What the deposit pays for, within the term; both are longer than the grace."""
    play.affordable = 3 + move.first % 12
    play.term = play.affordable + move.second % 6


def price(move: LeaseMove, play: LeasePlay) -> None:
    play.rate, play.rises = (1, 7, 1_000, 333_333)[move.first % 4], move.second % 4


def backing(move: LeaseMove, play: LeasePlay) -> None:
    play.collateral, play.ready_within = (0, 1, 500, 5_000)[move.first % 4], 1 + move.second % 3


def notice(move: LeaseMove, play: LeasePlay) -> None:
    """Not above the term."""
    play.notice = min(move.first % 5, play.term)


def begins(move: LeaseMove, play: LeasePlay) -> None:
    """When the provider takes it and is ready; an honest one is in time."""
    play.accepts = move.first % 5
    play.readies = play.accepts + move.second % (play.ready_within + 1)


def ends(move: LeaseMove, play: LeasePlay) -> None:
    """When a tenant that has had enough closes."""
    play.closes = move.first if move.flag else NEVER
    play.confirms = move.second % 6


def breaks(move: LeaseMove, play: LeasePlay) -> None:
    """An outage that the provider suspends, shorter than what it can be accused for."""
    play.down += ((move.first, move.first + move.second % 8),)


def dies(move: LeaseMove, play: LeasePlay) -> None:
    """The agent is dead for less than what it can be accused for."""
    begin = max(move.first, play.readies + 2)
    play.silent += ((begin, begin + move.second % 5),)


def announces(move: LeaseMove, play: LeasePlay) -> None:
    play.gives_notice = move.first


CASE = (size, price, backing, notice, begins, ends, breaks, dies, announces)

# ------------------------------------------------------------------------------ the hostile


def act(move: LeaseMove, play: LeasePlay) -> None:
    play.acts.append(move.act)


def blames(move: LeaseMove, play: LeasePlay) -> None:
    """Accuse, and close as soon as that can count."""
    sender = PUPPET if move.flag else move.act.sender
    accuse = Act(move.act.at, "leases.accuse", sender)
    close = Act(accuse.at + play.p.max_gap + 1, "leases.close", sender)
    play.acts += [accuse, close]


def lets_down(move: LeaseMove, play: LeasePlay) -> None:
    """The work is down, for any time, and said to be or not."""
    play.down += ((move.first, move.first + move.second),)
    play.is_quiet = move.flag


def vanishes(move: LeaseMove, play: LeasePlay) -> None:
    play.silent += ((move.first, NEVER if move.flag else move.first + move.second),)


def walks_out(move: LeaseMove, play: LeasePlay) -> None:
    play.leaves = move.first


def is_late(move: LeaseMove, play: LeasePlay) -> None:
    play.readies = play.accepts + move.first


def keeps(move: LeaseMove, play: LeasePlay) -> None:
    play.keeps = move.flag


BY_PROVIDER = (lets_down, vanishes, walks_out, is_late)
BY_TENANT = (keeps,)
KINDS: dict[str, Callable[[LeaseMove, LeasePlay], None]] = {
    kind.__name__: kind for kind in (*CASE, act, blames, *BY_PROVIDER, *BY_TENANT)
}


def senders(hostile: Collection[str]) -> tuple[str, ...]:
    found = [PUPPET]
    if "provider" in hostile:
        found += [OPERATORS[0].address, OPERATORS[0].address, PROVIDER, PAYOUTS[0]]
    if "tenant" in hostile:
        found += [TENANT, TENANT]
    return tuple(found)


def strategy(source: random.Random, hostile: Collection[str]) -> list[LeaseMove]:
    """A case, and one to eight moves in it."""
    kinds = [source.choice(CASE).__name__ for _ in range(source.choice((0, 1, 2, 3, 4)))]
    own = ["act"] * 4 + ["blames"]
    own += [kind.__name__ for kind in BY_PROVIDER] if "provider" in hostile else []
    own += [kind.__name__ for kind in BY_TENANT] if "tenant" in hostile else []
    kinds += [source.choice(own) for _ in range(source.choice((1, 2, 2, 3, 3, 4, 6, 8)))]
    # What is ordered comes first: other moves go by it.
    kinds.sort(key=lambda kind: [*KINDS].index(kind))
    return [random_move(source, kind, hostile) for kind in kinds]


def random_move(source: random.Random, kind: str, hostile: Collection[str]) -> LeaseMove:
    sender = source.choice(senders(hostile))
    targets = (*ANYBODY, *OF_OWNER) if sender == PROVIDER else ANYBODY
    at = source.randrange(HORIZON) * TICK + source.choice((-1, 0, 0, 1, source.randrange(TICK)))
    made = Act(max(at, 0), source.choice(targets), sender, source.choice(AMOUNTS))
    if source.random() < 0.1:
        made = replace(made, beside=True)
    numbers = (source.randrange(HORIZON), source.randrange(HORIZON))
    return LeaseMove(kind, made, *numbers, flag=source.random() < 0.5)
