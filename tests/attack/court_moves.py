# SPDX-License-Identifier: Apache-2.0
"""What the hostile plan around a judged job, drawn at random.

A move writes a part of the plan: how jurors in league vote, who appeals and when, or a call at
some moment. The case itself (price, collateral, whose jurors are in league) is a move, too.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from eth_utils.crypto import keccak

from tests.attack.courthouse import (
    JUROR,
    JURORS,
    NEWCOMERS,
    OPERATOR,
    PROVIDER,
    PUPPET,
    SEATS,
    SPARE,
    TENANT,
)
from tests.attack.play import LIE, TRUTH, Play
from tests.contracts.deploy import USD
from tests.contracts.stateful.trial import CAPABILITY

CONDUCTS = (
    "agree", "agree", "withheld", "withheld", "wrong", "win", "win", "break", "just",
    "own", "guess", "copy", "sealed", "silent", "silent",
)  # fmt: skip
# The seats that friends have at the start, at most: with newcomers a third of all.
MOST_SEATS = 10
COLLATERALS = (0, 5, 10, 30, 100)
# USD. Below 1.67 the least fee of a vote is more than its part of the price.
PRICES = (2, 3, 10, 12)
ROUNDS = 3
MOMENTS = (
    "attested", "disputed", "drawn 0", "sealed 0", "ruled 0", "drawn 1", "ruled 1",
    "drawn 2", "sealed 2", "final", "over",
)  # fmt: skip


@dataclass(frozen=True)
class CourtMove:
    """Its kind, and what a kind may ask for."""

    kind: str
    how: str = ""
    moment: str = ""
    round: int = 0
    """3 is every round."""
    who: int = 0
    """A juror in league, by its place among them; beyond them: all."""
    number: int = 0

    def __call__(self, play: Play) -> None:
        KINDS[self.kind](self, play)

    def __str__(self) -> str:
        told = (self.how, self.moment, f"round {self.round}", f"who {self.who}", str(self.number))
        return f"{self.kind} ({', '.join(part for part in told if part)})"

    def friends(self, play: Play) -> list[int]:
        mine = sorted(play.friends)
        return [mine[self.who]] if self.who < len(mine) else mine


# ------------------------------------------------------------------------------- the setting


def case(move: CourtMove, play: Play) -> None:
    """Everything that nobody chooses, and the seats in league: few large ones or many small."""
    source = random.Random(move.number)
    play.luck = move.number
    play.price = source.choice(PRICES) * USD
    play.tenths = source.choice(COLLATERALS)
    play.is_compared = source.random() < 0.3
    play.friends = leagued(source)
    play.away = frozenset(n for n in JURORS if n not in play.friends and source.random() < 0.05)
    if not play.hostile:
        play.is_lie = source.random() < 0.5
        play.quarrels = not play.is_lie
        play.is_stubborn = source.random() < 0.5


def leagued(source: random.Random) -> frozenset[int]:
    order = list(JURORS)
    source.shuffle(order)
    order.sort(key=lambda n: SEATS[n] * source.choice((-1, 0, 1)))
    most, found = source.choice((0, 3, 6, MOST_SEATS, MOST_SEATS)), set(NEWCOMERS)
    for n in order:
        if n not in found and sum(SEATS[m] for m in found) + SEATS[n] <= most:
            found.add(n)
    return frozenset(found)


# ---------------------------------------------------------------------------------- the plan


def lie(move: CourtMove, play: Play) -> None:
    play.is_lie = True


def deliver_nothing(move: CourtMove, play: Play) -> None:
    play.is_idle = True


def starve(move: CourtMove, play: Play) -> None:
    """Inputs for some jurors alone, or for none; friends have them."""
    play.serves = move.how


def dispute(move: CourtMove, play: Play) -> None:
    play.quarrels = True


def last_second(move: CourtMove, play: Play) -> None:
    play.is_late = True


def redraw(move: CourtMove, play: Play) -> None:
    play.redraws = move.how


def appeal(move: CourtMove, play: Play) -> None:
    """Always, or once it is seen who has sat, and that enough own seats have not."""
    for party in play.hostile:
        play.appeals[party] = move.number


def vote(move: CourtMove, play: Play) -> None:
    rounds = range(ROUNDS) if move.round == ROUNDS else (move.round,)
    for juror in move.friends(play):
        for round in rounds:
            play.conduct[round, juror] = move.how


# --------------------------------------------------------------------------------- the calls

Kind = Callable[[CourtMove, Play], None]


def at_a_moment(poke: Kind) -> Kind:
    """A move that makes calls when its moment has come."""

    def plan(move: CourtMove, play: Play) -> None:
        play.pokes.setdefault(move.moment, []).append(lambda now: poke(move, now))

    plan.__name__ = poke.__name__
    return plan


def key_of(juror: int) -> str:
    return str(OPERATOR[JUROR[juror]].address)


@at_a_moment
def resign(move: CourtMove, play: Play) -> None:
    for juror in move.friends(play):
        play.room.send("disputes.resign", (JUROR[juror], CAPABILITY), key_of(juror))


@at_a_moment
def renew(move: CourtMove, play: Play) -> None:
    """The same seats for a longer term; a newcomer takes one."""
    for juror in move.friends(play):
        seats = max(1, SEATS[juror])
        play.room.send("disputes.enlist", (CAPABILITY, seats), key_of(juror))


@at_a_moment
def leave(move: CourtMove, play: Play) -> None:
    for juror in move.friends(play):
        play.room.send("disputes.leave", (JUROR[juror], CAPABILITY), PUPPET)


@at_a_moment
def evict(move: CourtMove, play: Play) -> None:
    for juror in JURORS:
        play.room.send("disputes.evict", (JUROR[juror], CAPABILITY), PUPPET)


@at_a_moment
def take_stake_out(move: CourtMove, play: Play) -> None:
    """All that is free, of jurors in league and of a hostile provider."""
    owners = [JUROR[juror] for juror in move.friends(play)]
    for owner in (*owners, *({PROVIDER} & play.hostile)):
        shares = play.room.view("staking.shares_of", owner, owner)
        for part in (1, 2, 10):
            if not play.room.send("staking.undelegate", (owner, shares // part), owner):
                break


@at_a_moment
def lower_limits(move: CourtMove, play: Play) -> None:
    owners = [JUROR[juror] for juror in move.friends(play)]
    for owner in (*owners, *({PROVIDER} & play.hostile)):
        play.room.send("staking.set_lock_limits", (0, 0), owner)


@at_a_moment
def another_operator(move: CourtMove, play: Play) -> None:
    if PROVIDER in play.hostile:
        args = (SPARE.address, *play.room.consent)
        if not play.room.send("staking.set_operator", args, PROVIDER):
            play.operator = SPARE.address


@at_a_moment
def another_payout(move: CourtMove, play: Play) -> None:
    owners = [JUROR[juror] for juror in move.friends(play)]
    for owner in (*owners, *({PROVIDER} & play.hostile)):
        play.room.send("staking.set_payout", (PUPPET,), owner)


@at_a_moment
def two_results(move: CourtMove, play: Play) -> None:
    """A hostile provider is convicted by its own puppet, for the bounty."""
    if PROVIDER not in play.hostile or not play.record:
        return
    one, other = play.said(TRUTH), play.said(LIE)
    if move.how == "specification":
        one = replace(one, spec=bytes(keccak(text="another specification")))
    said = [
        part
        for message in (one, other)
        for part in (
            (message.spec, message.result, message.receipt, message.started, message.finished),
            play.room.sign(message, PROVIDER),
        )
    ]
    play.room.send("jobs.convict", (play.terms, play.record, *said), PUPPET)


@at_a_moment
def approve(move: CourtMove, play: Play) -> None:
    if TENANT in play.hostile and play.record:
        play.room.send("jobs.approve", (play.terms, play.record), TENANT)


@at_a_moment
def end_it_early(move: CourtMove, play: Play) -> None:
    """Whatever a stranger may call, before its time or twice."""
    papers = (play.terms, play.record)
    if play.record:
        play.room.send("jobs.finalize", papers, PUPPET)
    if play.case:
        play.room.send("jobs.conclude", (*papers, play.case), PUPPET)
        play.room.send("disputes.redraw", (play.case,), PUPPET)
        play.room.send("disputes.draw", (play.case, b""), PUPPET)
    play.room.send("jobs.expire", (play.terms,), PUPPET)


@at_a_moment
def speak_for_others(move: CourtMove, play: Play) -> None:
    """Commit in the place of an honest juror, or appeal for a party."""
    if not play.juries:
        return
    for place, (juror, _) in enumerate(play.juries[-1].places):
        if juror not in play.friends:
            for sender in (PUPPET, *map(key_of, sorted(play.friends)[:1])):
                play.room.send("disputes.commit", (play.case, place, bytes(32)), sender)
    play.room.send("jobs.appeal", (play.case, False), PUPPET)


@at_a_moment
def cash(move: CourtMove, play: Play) -> None:
    for who in (PUPPET, *play.hostile):
        play.room.send("jobs.withdraw", (), who)


OF_ALL: tuple[Kind, ...] = (
    vote, vote, vote, vote, last_second, take_stake_out, lower_limits, another_payout,
    end_it_early, speak_for_others, cash,
)  # fmt: skip
# Who changes seats changes who is drawn: no measure for jurors that have no party.
OF_SEATS = (resign, renew, leave, evict)
OF_PROVIDER = (
    lie, deliver_nothing, starve, starve, appeal, appeal, appeal, another_operator, two_results,
)  # fmt: skip
OF_TENANT = (dispute, redraw, redraw, appeal, appeal, appeal, approve)
# Most strategies go to court.
TO_COURT = 0.85
KINDS: dict[str, Kind] = {
    kind.__name__.replace("_", " "): kind
    for kind in (case, *OF_ALL, *OF_SEATS, *OF_PROVIDER, *OF_TENANT)
}


def strategy(source: random.Random, hostile: Sequence[str]) -> list[CourtMove]:
    """A case, and one to eight moves in it."""
    kinds: list[Kind] = [*OF_ALL, *(OF_SEATS if hostile else ())]
    first = []
    if PROVIDER in hostile:
        kinds += OF_PROVIDER
        first.append("lie")
    if TENANT in hostile:
        kinds += OF_TENANT
        first.append("dispute")
    names = [kind.__name__.replace("_", " ") for kind in kinds]
    moves = [CourtMove("case", number=source.getrandbits(48))]
    moves += [CourtMove(kind) for kind in first if source.random() < TO_COURT]
    count = source.choice((1, 2, 3, 4, 5, 6, 7, 8))
    return moves + [random_move(source, source.choice(names)) for _ in range(count)]


def random_move(source: random.Random, kind: str) -> CourtMove:
    hows = {
        "vote": CONDUCTS,
        "starve": ("some", "none"),
        "redraw": ("late", "never"),
        "two results": ("results", "specification"),
    }
    return CourtMove(
        kind,
        how=source.choice(hows.get(kind, ("",))),
        moment=source.choice(MOMENTS),
        round=source.choice((0, 1, 2, 3, 3)),
        who=source.choice((0, 1, 2, 99, 99, 99)),
        number=source.choice((0, 0, 10, 30)) if kind == "appeal" else 0,
    )
