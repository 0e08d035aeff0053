# SPDX-License-Identifier: Apache-2.0
"""What attackers can do, drawn at random: a move is one call, or a few that belong together."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from teraproof.protocol.messages import Quote, quote_nonce
from teraproof.protocol.terms import ZERO_ADDRESS
from tests.attack.market import ATTACKERS, EVIL, HONEST, TWIN, Moment
from tests.contracts.stateful.deal import SPEC
from tests.contracts.stateful.machine import FAR
from tests.contracts.stateful.world import short, signature

STAKES = (1, 10**6, 10**12, 10**18, 10**21, 10**23, 10**24)
# Steps of a price ladder before it is left again.
RUNGS = 25


@dataclass(frozen=True)
class Move:
    """Its kind, and every number that a kind may ask for."""

    kind: str
    who: str
    pool: str
    owner: str
    """One of the attackers' own providers."""
    amount: int
    part: int
    delay: int
    bps: int

    def __call__(self, moment: Moment) -> None:
        KINDS[self.kind](self, moment)

    def __str__(self) -> str:
        told = (
            f"by {short(self.who)}",
            f"pool {short(self.pool)}",
            f"own {short(self.owner)}",
            f"amount {self.amount}",
            f"1/{self.part}",
            f"{self.delay} s",
            f"{self.bps} bps",
        )
        return f"{self.kind} ({', '.join(told)})"


def strategy(source: random.Random) -> list[Move]:
    """One to eight moves."""
    return [random_move(source) for _ in range(source.choice((1, 2, 2, 3, 3, 4, 6, 8)))]


def random_move(source: random.Random) -> Move:
    return Move(
        kind=source.choice(NAMES),
        who=source.choice(ATTACKERS),
        pool=source.choice((EVIL, EVIL, HONEST, TWIN)),
        owner=source.choice((EVIL, TWIN)),
        amount=source.choice(STAKES) * source.randrange(1, 10),
        part=source.choice((1, 2, 3, 10, 10**6, 10**18)),
        delay=source.choice((1, 60, 1_200, 3_600, 86_400, 200_000)),
        bps=source.choice((0, 1, 5_000, 9_999, 10_000)),
    )


def held(move: Move, moment: Moment) -> int:
    """Shares of the account that moves."""
    shares: int = moment.story.chain.view("staking", "shares_of", move.pool, move.who)
    return shares


def enter(move: Move, moment: Moment) -> None:
    moment.send("staking", "delegate", (move.pool, move.amount), move.who)


def leave(move: Move, moment: Moment) -> None:
    shares = held(move, moment)
    moment.send("staking", "undelegate", (move.pool, shares // move.part or shares), move.who)


def leave_but_little(move: Move, moment: Moment) -> None:
    shares = held(move, moment)
    left = min(shares, 10 * move.part)
    moment.send("staking", "undelegate", (move.pool, shares - left), move.who)


def climb(move: Move, moment: Moment) -> None:
    """A ladder: deposits of the most that buys one share less, then out again."""
    for _ in range(RUNGS):
        active, _, shares, *_ = moment.story.chain.view("staking", "pool", move.pool)
        dear = -(-2 * (active + 1) // (shares + 1_000)) - 1
        moment.send("staking", "delegate", (move.pool, max(dear, 1)), move.who)
    leave(move, moment)


def claim(move: Move, moment: Moment) -> None:
    moment.send("emissions", "claim", (move.pool,), move.who)


def activate(move: Move, moment: Moment) -> None:
    moment.send("staking", "activate", (move.pool, move.who), move.who)


def take_back(move: Move, moment: Moment) -> None:
    moment.send("staking", "take_back", (move.pool,), move.who)


def commission(move: Move, moment: Moment) -> None:
    moment.send("staking", "set_commission", (move.bps,), move.owner)


def release(move: Move, moment: Moment) -> None:
    moment.send("benchmark", "release_bond", (move.owner,), move.owner)


def show(move: Move, moment: Moment) -> None:
    """Openings of an own proof, earlier than planned."""
    moment.show(move.owner)


def report(move: Move, moment: Moment) -> None:
    moment.send("benchmark", "fail", (move.pool,), move.who)


def wait(move: Move, moment: Moment) -> None:
    moment.wait(move.delay)


def cash(move: Move, moment: Moment) -> None:
    moment.send("staking", "withdraw_unbonded", (move.pool, 0), move.who)


def donate(move: Move, moment: Moment) -> None:
    moment.send("token", "transfer", (moment.story.addresses["staking"], move.amount), move.who)


def seize_oneself(move: Move, moment: Moment) -> None:
    """Hire oneself and let it expire: the collateral goes to another of one's accounts."""
    story = moment.story
    operator = story.operator_of(move.owner)
    nonce = quote_nonce(story.next_consent[operator] - 1, 1)
    quote = Quote(operator, ZERO_ADDRESS, SPEC, 1, move.amount, 1, FAR, nonce)
    signed = signature(story.world.jobs, quote, operator)
    moment.send("payment", "mint", (move.who, 1), move.who)
    moment.send("payment", "approve", (story.addresses["jobs"], 1), move.who)
    moment.send("jobs", "hire", (quote.abi_tuple(), signed, False), move.who)
    posted: list[Any] = [event for name, event in story.chain.happened() if name == "Posted"]
    if posted:
        moment.wait(2)
        moment.send("jobs", "expire", (posted[0]["terms"],), move.who)


KINDS: dict[str, Callable[[Move, Moment], None]] = {
    kind.__name__.replace("_", " "): kind
    for kind in (
        enter,
        leave,
        leave_but_little,
        climb,
        claim,
        activate,
        take_back,
        commission,
        release,
        show,
        report,
        wait,
        cash,
        donate,
        seize_oneself,
    )
}
NAMES = tuple(KINDS)
