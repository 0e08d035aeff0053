# SPDX-License-Identifier: Apache-2.0
"""A dispute as the machine knows it: what each juror did and when, and what follows from that.

Nothing here knows a word of storage. Seats are plain lists, deadlines follow from what was done.
A ruling comes from the economics model (`benchmarks.courts`), which was written apart.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from eth_utils.crypto import keccak

from benchmarks.courts.rules import Ruling, ruling
from teraproof.protocol.dispute import Case, Statement
from tests.contracts.stateful.world import PARAMETERS

RIGHT, WRONG, WITHHELD = 1, 2, 3
CAPABILITY = bytes(keccak(text="job|python-3.11|cpu"))
SIZES = (PARAMETERS.panel, PARAMETERS.redraw_panel, PARAMETERS.appeal_panel)
LONGEST_JOB = PARAMETERS.max_duration
DRAWING, COMMITTING, REVEALING, FAILED, RULED, FINAL = 1, 2, 3, 4, 5, 6
# The model's names for a ruling, by the contract's numbers.
CODES = {
    Ruling.NO_QUORUM: 0,
    Ruling.PROVIDER: 1,
    Ruling.TENANT: 2,
    Ruling.WITHHELD: 3,
    Ruling.UNDECIDED: 4,
}


def seal_of(manifest: bytes, round: int) -> bytes:
    """What a vote of a round must show of a manifest: fewer hashes of it the later the round."""
    for _ in range(3 - round):
        manifest = hashlib.sha256(manifest).digest()
    return manifest


def result_of(manifest: bytes) -> bytes:
    """What is attested of a result."""
    return hashlib.sha256(seal_of(manifest, 0)).digest()


def longest(duration: int) -> int:
    """The seconds that a dispute takes if everybody uses the last second of everything."""
    p = PARAMETERS
    jury = p.draw_time + p.commit_time + duration + p.reveal_time
    return 3 * jury + p.redraw_time + p.appeal_time + p.close_time


def fee_of(price: int, duration: int) -> int:
    p = PARAMETERS
    return max(p.min_fee, price * p.juror_fee_bps // 10_000, p.hourly_fee * duration // 3_600)


@dataclass
class Seat:
    """A juror of a capability."""

    leaf: int
    owner: str
    keys: tuple[str, ...] = ()
    """Owner, and the operator and the payout address that it enlisted with."""
    seats: int = 0
    last: int = 0
    """The last period in which a jury can be asked for that it may sit in."""
    went: int = -9
    """The period in which it lost its last seat."""


@dataclass
class Vote:
    """What a juror has committed to."""

    kind: int
    seal: bytes
    salt: bytes
    honest: bool


@dataclass
class Jury:
    """One round."""

    number: int
    asked_at: int
    period: int
    target: int
    drawn_at: int = 0
    places: list[tuple[int, int]] = field(default_factory=list)
    """Leaf and votes of each juror."""
    committed: dict[int, Vote] = field(default_factory=dict)
    sealed_at: int = 0
    """When the last of all jurors committed."""
    revealed: dict[int, Vote] = field(default_factory=dict)
    revealed_at: int = 0
    """When the last of those who committed revealed."""

    def commits_until(self, duration: int) -> int:
        return self.drawn_at + PARAMETERS.commit_time + duration

    def reveals_until(self, duration: int) -> int:
        begins = self.sealed_at or self.commits_until(duration)
        return begins + PARAMETERS.reveal_time

    def can_commit(self, now: int, duration: int) -> bool:
        return bool(self.places) and not self.sealed_at and now <= self.commits_until(duration)

    def can_reveal(self, now: int, duration: int) -> bool:
        if not self.places or self.revealed_at or now > self.reveals_until(duration):
            return False
        return bool(self.sealed_at) or now > self.commits_until(duration)

    def ends_at(self, duration: int) -> int:
        """Its last second, as it stands."""
        if not self.drawn_at:
            return self.asked_at + PARAMETERS.draw_time
        if not self.places:
            return self.drawn_at - 1
        if self.revealed_at:
            return self.revealed_at - 1
        if not self.committed:
            return self.commits_until(duration)
        return self.reveals_until(duration)

    def found(self) -> tuple[Ruling, bytes]:
        """What it has ruled once it is over, and on which seal if the result is wrong."""
        count: Counter[int] = Counter()
        wrong: Counter[bytes] = Counter()
        for place, vote in self.revealed.items():
            votes = self.places[place][1]
            count[vote.kind] += votes
            if vote.kind == WRONG:
                wrong[claim_of(vote, self.number)] += votes
        (claim, most), *_ = wrong.most_common(1) or [(b"", 0)]
        found = ruling(
            np.array([count[RIGHT]]),
            np.array([most]),
            np.array([count[WITHHELD]]),
            SIZES[self.number],
            np.array([count[WRONG] - most]),
        )
        return Ruling(int(found[0])), claim


def claim_of(vote: Vote, round: int) -> bytes:
    """What a seal says that the attested digest should be."""
    digest = vote.seal
    for _ in range(round + 1):
        digest = hashlib.sha256(digest).digest()
    return digest


@dataclass
class Trial:
    """A disputed job."""

    case: Case
    statement: Statement
    juries: list[Jury] = field(default_factory=list)
    appellant: str = ""

    @property
    def jury(self) -> Jury:
        return self.juries[-1]

    @property
    def fee(self) -> int:
        return fee_of(self.case.price, self.case.duration)

    @property
    def bond(self) -> int:
        return self.case.price + (SIZES[1] + SIZES[0] // 2) * self.fee

    @property
    def appeal_bond(self) -> int:
        return SIZES[2] * self.fee

    def before_appeal(self) -> tuple[Ruling, bytes]:
        return self.juries[-2].found() if self.jury.number == 2 else (Ruling.NO_QUORUM, b"")

    def ruling(self) -> tuple[Ruling, bytes]:
        """As it stands when the last jury is over: an appeal must convince."""
        found = self.jury.found()
        stays = self.jury.number == 2 and found[0] in (Ruling.NO_QUORUM, Ruling.UNDECIDED)
        return self.before_appeal() if stays else found

    def standing(self, now: int) -> tuple[int, int, int, int]:
        """Round, phase, its last second and the ruling, as the contract tells them."""
        jury, duration, p = self.jury, self.case.duration, PARAMETERS
        number, ends_at = jury.number, jury.ends_at(self.case.duration)
        if now <= ends_at:
            early = CODES[self.before_appeal()[0]]
            if not jury.drawn_at:
                return number, DRAWING, ends_at, early
            if jury.can_commit(now, duration):
                return number, COMMITTING, jury.commits_until(duration), early
            return number, REVEALING, ends_at, early
        code = CODES[self.ruling()[0]]
        if number == 0 and code == 0 and now <= ends_at + p.redraw_time:
            return number, FAILED, ends_at + p.redraw_time, code
        if number < 2 and (number, code) != (0, 0) and now <= ends_at + p.appeal_time:
            return number, RULED, ends_at + p.appeal_time, code
        return number, FINAL, 0, code

    def phase(self, now: int) -> int:
        return self.standing(now)[1]

    def is_for_requester(self, found: Ruling) -> bool:
        return found in (Ruling.TENANT, Ruling.WITHHELD)

    def loser(self, found: Ruling) -> str:
        return self.case.provider if self.is_for_requester(found) else self.case.requester

    def earns(self, jury: Jury, place: int) -> int:
        """What a juror is paid for its own vote."""
        found, claim = self.ruling()
        vote, votes = jury.revealed.get(place), jury.places[place][1]
        if vote is None:
            return 0
        if found in (Ruling.NO_QUORUM, Ruling.WITHHELD):
            return votes * PARAMETERS.attendance
        if found is Ruling.UNDECIDED:
            return votes * (self.fee // 2) if vote.kind != WITHHELD else 0
        return votes * self.fee if self.agrees(jury, vote, found, claim) else 0

    def paid(self) -> int:
        """What all jurors are paid."""
        return sum(
            self.earns(jury, place) for jury in self.juries for place in range(len(jury.places))
        )

    def losers_part(self) -> int:
        """What the loser pays of that, as far as its bonds reach: half where an appeal has turned
        WITHHELD.
        """
        turned = self.before_appeal()[0] is Ruling.WITHHELD
        half = turned and not self.is_for_requester(self.ruling()[0])
        return self.paid() // 2 if half else self.paid()

    def agrees(self, jury: Jury, vote: Vote, found: Ruling, claim: bytes) -> bool:
        if found is Ruling.PROVIDER:
            return vote.kind == RIGHT
        return vote.kind == WRONG and claim_of(vote, jury.number)[:28] == claim[:28]

    def fine(self, jury: Jury, place: int) -> int:
        """What a juror loses: TPF wei."""
        found, claim = self.ruling()
        vote, votes = jury.revealed.get(place), jury.places[place][1]
        if vote is None:
            return votes * self.fee * PARAMETERS.big_fine
        heard = jury.found()[0] is not Ruling.NO_QUORUM
        on_result = found in (Ruling.PROVIDER, Ruling.TENANT)
        if not heard or not on_result or vote.kind == WITHHELD:
            return 0
        agrees = self.agrees(jury, vote, found, claim)
        return 0 if agrees else votes * self.fee * PARAMETERS.small_fine
