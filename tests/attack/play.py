# SPDX-License-Identifier: Apache-2.0
"""One judged job from its post to its last payment: the honest do their part, the hostile a plan.

Nobody honest looks at what the hostile have planned. An honest juror runs the job and votes by it;
an honest tenant disputes what is wrong, asks for another jury and appeals while it can; an honest
provider appeals what is wrong. Their calls are never refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from eth_utils.crypto import keccak

from teraproof.protocol.messages import Attestation
from teraproof.protocol.terms import ZERO_WORD, Status
from tests.attack.courthouse import (
    JUROR,
    NEWCOMERS,
    OPERATOR,
    PROVIDER,
    PUPPET,
    TENANT,
    Courthouse,
    word_of,
)
from tests.attack.wealth import WORTH
from tests.contracts import headers
from tests.contracts.codec import address_word, word
from tests.contracts.deploy import USD
from tests.contracts.revm import SPACING
from tests.contracts.stateful.trial import (
    CAPABILITY,
    COMMITTING,
    DRAWING,
    FAILED,
    FINAL,
    REVEALING,
    RIGHT,
    WITHHELD,
    WRONG,
    result_of,
    seal_of,
)

SPEC = bytes(keccak(text="a judged specification"))
TRUTH, LIE, GARBAGE = b"what the job gives", b"what the provider says", b"what friends say"
ENDS = (Status.SETTLED, Status.REFUNDED, Status.EXPIRED)
FOR_TENANT = (2, 3)
DURATION = 600
SALT = word_of("salt", 1)


class BrokenPromise(AssertionError):
    """Something that the market promises does not hold."""


@dataclass(frozen=True)
class Vote:
    """What a juror reveals; `opens` is false for what it cannot, or does not, open."""

    kind: int
    seal: bytes
    is_honest: bool = False
    opens: bool = True


@dataclass
class Jury:
    """A round as it was."""

    number: int
    places: list[tuple[int, int]]
    """Juror and votes."""
    votes: dict[int, Vote] = field(default_factory=dict)
    """By place, of those who committed."""
    ruling: int = 0
    """As it stood before an appeal."""

    def count(self, holds: Callable[[int], bool]) -> int:
        """Votes of the places whose juror has this property."""
        return sum(votes for juror, votes in self.places if holds(juror))


@dataclass
class Play:
    """A job and what the hostile mean to do. Moves write the plan; `run` carries it out."""

    room: Courthouse
    hostile: frozenset[str]
    """Parties; jurors are `friends`."""
    price: int = 10 * USD
    tenths: int = 30
    """The collateral in tenths of the price."""
    friends: frozenset[int] = frozenset()
    away: frozenset[int] = frozenset()
    """Honest jurors that are not there."""
    luck: int = 0
    """What the named blocks hold."""
    is_compared: bool = False
    """By a comparator: a vote WRONG shows the attested seal."""
    is_lie: bool = False
    is_late: bool = False
    """The hostile use the last second."""
    is_idle: bool = False
    """The provider delivers nothing."""
    serves: str = "all"
    """Which honest jurors get the inputs: all, some, none."""
    quarrels: bool = False
    """The tenant disputes what is right."""
    is_stubborn: bool = False
    """A wrong party that is not hostile here appeals."""
    appeals: dict[str, int] = field(default_factory=dict)
    """Hostile parties that appeal, when friends have that percentage of the seats not yet used."""
    redraws: str = "early"
    """When a hostile tenant asks for another jury: early, late, never."""
    conduct: dict[tuple[int, int], str] = field(default_factory=dict)
    """How a friend votes in a round; justly, if it is not here."""
    pokes: dict[str, list[Callable[[Play], None]]] = field(default_factory=dict)
    """Calls of the hostile at a moment."""
    # ------------------------------------------------------------------ what came of it
    job: bytes = ZERO_WORD
    terms: tuple[Any, ...] = ()
    record: tuple[Any, ...] = ()
    case: tuple[Any, ...] = ()
    juries: list[Jury] = field(default_factory=list)
    bonds: dict[str, int] = field(default_factory=dict)
    worked: bool = False
    ran: bool = False
    """A friend has run the job."""
    ruling: int = 0
    operator: str = OPERATOR[PROVIDER].address
    """The provider's present one."""

    def __post_init__(self) -> None:
        self.chain, self.p = self.room.chain, self.room.p

    # --------------------------------------------------------------------------------- tools

    @property
    def collateral(self) -> int:
        return self.price * WORTH * self.tenths // 10

    @property
    def fee(self) -> int:
        """Of a vote, as the page on the court's economics says."""
        hourly = self.p.hourly_fee * DURATION // 3_600
        return max(self.p.min_fee, self.price * self.p.juror_fee_bps // 10_000, hourly)

    def size(self, number: int) -> int:
        return (self.p.panel, self.p.redraw_panel, self.p.appeal_panel)[number]

    def must(self, target: str, args: tuple[Any, ...], sender: str) -> None:
        """What somebody honest does, or what the hostile cannot be refused either."""
        if reason := self.room.send(target, args, sender):
            raise BrokenPromise(f"{target} is refused: {reason}")

    def told(self, name: str) -> dict[str, Any]:
        """An event of the last call."""
        return next(event for known, event in self.chain.happened() if known == name)

    def status(self) -> Status:
        return Status(self.room.view("jobs.status", self.job))

    def at(self, moment: str) -> None:
        for poke in self.pokes.get(moment, ()):
            poke(self)

    def wait_until(self, time: int) -> None:
        self.chain.now = max(self.chain.now, time)

    def standing(self) -> tuple[int, int, int, int]:
        round, phase, until, ruling = self.room.view("disputes.standing_of", self.case)
        return round, phase, until, ruling

    def is_friend(self, juror: int) -> bool:
        return juror in self.friends

    def is_there(self, juror: int) -> bool:
        return juror not in self.friends and juror not in self.away

    # ------------------------------------------------------------------------------- the job

    def run(self) -> None:
        """To the end of the job. BrokenPromise if there is none."""
        self.deal()
        if self.is_idle:
            self.wait_until(self.terms[1] + DURATION + 1)
            self.room.send("jobs.expire", (self.terms,), PUPPET)
        else:
            self.attest()
            self.at("attested")
            if self.status() is Status.ATTESTED:
                self.end_attested()
        self.at("over")
        if self.status() not in ENDS:
            raise BrokenPromise(f"the job stays {self.status().name}")
        lock = self.room.view("staking.lock_of", self.chain.addresses["jobs"], PROVIDER, self.job)
        if lock[0]:
            raise BrokenPromise("the collateral stays locked")

    def deal(self) -> None:
        capability = int.from_bytes(CAPABILITY, "big")
        prices = (self.price, self.price, self.collateral)
        order = (SPEC, *prices, DURATION, 0, 0, 0, ZERO_WORD, 1, capability)
        self.terms = (
            TENANT, self.chain.now, self.p.challenge_window, self.p.fee_bps, 0, order,
        )  # fmt: skip
        posted = self.chain.send("jobs", "post", (order, False), TENANT)
        assert posted.reason is None, posted.reason
        self.job = posted.value
        self.at("posted")
        self.must("jobs.accept", (self.terms, []), self.operator)

    def said(self, manifest: bytes) -> Attestation:
        return Attestation(self.job, SPEC, result_of(manifest), SALT, self.terms[1], self.chain.now)

    def attest(self) -> None:
        said = self.said(LIE if self.is_lie else TRUTH)
        self.statement = (said.spec, said.result, said.receipt, said.started, said.finished)
        args = (self.terms, said.result, said.receipt, said.started, said.finished, b"")
        self.must("jobs.attest", args, self.operator)
        self.record = (PROVIDER, self.terms[1], self.chain.now, 0, said.struct_hash())
        self.worked = not self.is_lie

    def end_attested(self) -> None:
        until = self.record[2] + self.p.challenge_window
        if not (self.quarrels or (self.is_lie and TENANT not in self.hostile)):
            self.wait_until(until + 1)
            self.must("jobs.finalize", (self.terms, self.record), PUPPET)
            return
        if self.is_late:
            self.wait_until(until)
        args = (self.terms, self.record, self.statement, ZERO_WORD, False)
        self.must("jobs.dispute", args, TENANT)
        opened = self.told("Opened")
        self.case, self.bonds[TENANT] = opened["case"], opened["bond"]
        self.at("disputed")
        self.go_through_court()
        self.at("final")
        # Once, also where a conviction has ended the job: its bonds are still with the court.
        refused = self.room.send("jobs.conclude", (self.terms, self.record, self.case), PUPPET)
        if refused not in (None, "court: no such dispute"):
            raise BrokenPromise(f"jobs.conclude is refused: {refused}")

    # ----------------------------------------------------------------------------- the court

    def go_through_court(self) -> None:
        # Three juries with their phases, and what is waited for between them.
        for _ in range(30):
            round, phase, until, self.ruling = self.standing()
            if phase == FINAL:
                return
            if phase == DRAWING:
                self.draw(round)
            elif phase == COMMITTING:
                self.vote(self.juries[-1], until)
            elif phase == REVEALING:
                self.open_votes(self.juries[-1], until)
            elif phase == FAILED:
                self.ask_again(until)
            else:
                self.maybe_appeal(until)
        raise BrokenPromise("a dispute that does not end")

    def draw(self, number: int) -> None:
        target = self.room.view("disputes.round_of", self.job, number) >> 40 & 2**48 - 1
        header = headers.build(target, self.chain.now, word_of("luck", self.luck * 8 + number))
        self.chain.remember(target, headers.hash_of(header))
        self.chain.set_block(self.chain.now, max(self.chain.number, target + SPACING))
        self.must("disputes.draw", (self.case, header), PUPPET)
        drawn = self.told("Drawn")["places"]
        places = [(self.juror(place & 2**27 - 1), place >> 27) for place in drawn]
        self.juries.append(Jury(number, places))
        self.at(f"drawn {number}")

    def juror(self, leaf: int) -> int:
        """Leaves are numbered as jurors are, but for newcomers."""
        if leaf <= len(JUROR) - len(NEWCOMERS):
            return leaf - 1
        owner = self.room.view("disputes.juror_of", CAPABILITY, leaf) & (1 << 160) - 1
        return JUROR_BY_OWNER[owner]

    def vote(self, jury: Jury, until: int) -> None:
        hostile = []
        for place, (juror, _) in enumerate(jury.places):
            if self.is_friend(juror):
                hostile.append(place)
            elif self.is_there(juror):
                self.commit(jury, place, self.honest_vote(juror, jury.number))
        votes = {place: self.hostile_vote(jury, place) for place in hostile}
        if self.is_late and any(votes.values()):
            self.wait_until(until)
        for place, vote in votes.items():
            if vote:
                self.commit(jury, place, vote)
        if self.standing()[1] == COMMITTING:
            self.wait_until(until + 1)

    def commit(self, jury: Jury, place: int, vote: Vote) -> None:
        juror = JUROR[jury.places[place][0]]
        digest = keccak(
            self.job + word(jury.number) + address_word(juror) + word(vote.kind) + vote.seal + SALT
        )
        self.must("disputes.commit", (self.case, place, digest), OPERATOR[juror].address)
        jury.votes[place] = vote

    def open_votes(self, jury: Jury, until: int) -> None:
        self.at(f"sealed {jury.number}")
        for is_honest in (True, False):
            opening = {
                place: vote
                for place, vote in jury.votes.items()
                if vote.opens and vote.is_honest == is_honest
            }
            if self.is_late and not is_honest and opening:
                self.wait_until(until)
            for place, vote in opening.items():
                args = (self.case, place, vote.kind, vote.seal, SALT)
                self.must("disputes.reveal", args, PUPPET)
        if self.standing()[1] == REVEALING:
            self.wait_until(until + 1)

    # --------------------------------------------------------------------------------- votes

    def is_served(self, juror: int) -> bool:
        return self.serves == "all" or (self.serves == "some" and juror % 2 == 0)

    def honest_vote(self, juror: int, round: int) -> Vote:
        if not self.is_served(juror):
            return Vote(WITHHELD, ZERO_WORD, is_honest=True)
        return Vote(*self.by_a_run(round), is_honest=True)

    def by_a_run(self, round: int) -> tuple[int, bytes]:
        """What a run of the job shows: a kind and its seal."""
        if not self.is_lie:
            return RIGHT, seal_of(TRUTH, round)
        return WRONG, seal_of(LIE if self.is_compared else TRUTH, round)

    def hostile_vote(self, jury: Jury, place: int) -> Vote | None:
        """None is silence."""
        juror, round = jury.places[place][0], jury.number
        how = self.conduct.get((round, juror), "just")
        if how in ("win", "break"):
            how = self.by_count(jury, how)
        if how == "just":
            self.ran = True
            return Vote(*self.by_a_run(round))
        attested = seal_of(LIE if self.is_lie else TRUTH, round)
        if how == "agree":
            return Vote(RIGHT, attested)
        if how == "withheld":
            return Vote(WITHHELD, ZERO_WORD)
        if how == "wrong":
            return Vote(WRONG, attested if self.is_compared else seal_of(GARBAGE, round))
        if how == "own":
            return Vote(WRONG, word_of("own", juror))
        if how == "sealed":
            return Vote(WITHHELD, ZERO_WORD, opens=False)
        if how == "guess":
            return Vote(RIGHT, word_of("guess", juror), opens=False)
        if how == "copy" and jury.votes:
            return Vote(*self.honest_like(jury), opens=False)
        return None

    def honest_like(self, jury: Jury) -> tuple[int, bytes]:
        vote = next(iter(jury.votes.values()))
        return vote.kind, vote.seal

    def by_count(self, jury: Jury, how: str) -> str:
        """As well informed as can be: falsely where that wins, silent where that breaks."""
        own, honest = jury.count(self.is_friend), jury.count(self.is_there)
        if how == "break" and 2 * honest <= self.size(jury.number):
            return "silent"
        if own <= honest:
            return "just"
        if self.is_lie:
            return "agree"
        return "withheld" if own >= 2 * honest else "wrong"

    # ------------------------------------------------------------------------------- parties

    def ask_again(self, until: int) -> None:
        """Another jury: by an honest tenant that is right, or as planned."""
        if TENANT not in self.hostile or self.redraws == "early":
            self.must("disputes.redraw", (self.case,), TENANT)
        elif self.redraws == "late":
            self.wait_until(until)
            self.must("disputes.redraw", (self.case,), PUPPET)
        else:
            self.wait_until(until + 1)

    def maybe_appeal(self, until: int) -> None:
        loser = PROVIDER if self.ruling in FOR_TENANT else TENANT
        is_right = (loser == TENANT) == self.is_lie
        self.juries[-1].ruling = self.ruling
        self.at(f"ruled {self.juries[-1].number}")
        if loser in self.hostile:
            appeals = loser in self.appeals and self.free_part() >= self.appeals[loser]
        else:
            appeals = is_right or self.is_stubborn
        if not appeals:
            self.wait_until(until + 1)
            return
        if self.is_late and loser in self.hostile:
            self.wait_until(until)
        self.must("jobs.appeal", (self.case, False), loser)
        self.bonds[loser] = self.bonds.get(loser, 0) + self.told("Appealed")["bond"]

    def free_part(self) -> int:
        """Percentage of the seats that have not sat which friends have."""
        sat = {juror for jury in self.juries for juror, _ in jury.places}
        left = [n for n in range(len(JUROR)) if n not in sat]
        own = sum(self.seats(n) for n in left if n in self.friends)
        return 100 * own // max(1, sum(self.seats(n) for n in left))

    def seats(self, juror: int) -> int:
        leaf = self.room.view("disputes.leaf_of", JUROR[juror], CAPABILITY)
        word: int = self.room.view("disputes.juror_of", CAPABILITY, leaf)
        return word >> 160 & 2**32 - 1


JUROR_BY_OWNER = {int(owner, 16): n for n, owner in enumerate(JUROR)}
