# SPDX-License-Identifier: Apache-2.0
"""A dispute as the chain tells it: its phase, its juries and what was voted, and what comes next.

Words of `Disputes` are taken apart here and nowhere else. Times are unix seconds, amounts units of
the payment token.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from eth_utils.address import to_checksum_address

from teraproof.contracts.disputes import JUROR_OF, Costs, DisputesContract, Enlisted, Opened
from teraproof.courts.votes import Ruling, Vote
from teraproof.protocol.dispute import Case
from teraproof.rpc.errors import Reverted
from teraproof.rpc.types import Block

ROUNDS = 3
_LEAF = 2**27 - 1


class Phase(IntEnum):
    """What a dispute waits for."""

    DRAWING = 1
    COMMITTING = 2
    REVEALING = 3
    FAILED = 4
    """Without a ruling. A larger jury can be asked for, in the first half by the requester."""
    RULED = 5
    """The loser can appeal."""
    FINAL = 6
    """Anyone can conclude it."""


class Stage(IntEnum):
    """How far a jury is."""

    NAMED = 1
    DRAWN = 2
    SEALED = 3
    """All have committed."""
    REVEALED = 4
    """All who committed have revealed."""
    UNFILLED = 5
    """Too few could be drawn."""


@dataclass(frozen=True)
class Member:
    """A juror of a capability, as `juror_of` tells it."""

    owner: str
    seats: int
    last_period: int
    """The last period in which juries that it may sit in are asked for."""
    went: int
    """The period in which it lost all seats; 0 while it has some."""

    def is_over(self, period: int) -> bool:
        """Whether no jury that is asked for in a period may draw it any more. Until somebody evicts
        it its seats are counted all the same.
        """
        return period > self.last_period

    @classmethod
    def unpack(cls, value: int) -> Member | None:
        """From the contract's word; None for no juror."""
        if value == 0:
            return None
        owner = str(to_checksum_address((value & (2**160 - 1)).to_bytes(20, "big")))
        mask = 2**32 - 1
        return cls(owner, value >> 160 & mask, value >> 192 & mask, value >> 224)


@dataclass(frozen=True)
class Place:
    """A juror in a jury."""

    number: int
    leaf: int
    votes: int
    juror: str
    """The provider's owner address."""
    has_committed: bool
    vote: Vote | None
    """None until it is revealed."""
    kept: bytes
    """28 bytes: of the commitment, then of the digest that a revealed seal claims."""


@dataclass(frozen=True)
class Round:
    """A jury. It is drawn with the block of number `target`; before that, it has no places."""

    number: int
    stage: Stage
    since: int
    """When it reached its stage."""
    target: int
    places: tuple[Place, ...]

    def of(self, juror: str) -> Place | None:
        """The place of a provider by its owner address; None if it does not sit."""
        return next((place for place in self.places if place.juror == juror), None)


@dataclass(frozen=True)
class Dispute:
    """A dispute at a block. `until` is the last second of the phase, 0 if it is FINAL."""

    case: Case
    phase: Phase
    until: int
    ruling: Ruling
    """The present one; during an appeal, what is appealed."""
    costs: Costs
    rounds: tuple[Round, ...]
    """Those that were asked for, in order; the last is the present one. A dispute that is appealed
    at once has rounds 0 and 2.
    """

    @property
    def current(self) -> Round:
        """The present round."""
        return self.rounds[-1]

    def loser(self) -> str:
        """The owner address or requester that the present ruling is against."""
        case = self.case
        return case.provider if self.ruling.is_for_requester else case.requester

    def can_redraw(self, account: str, now: int, redraw_time: int) -> bool:
        """Whether an account can ask for a larger jury at `now`; `redraw_time` is REDRAW_TIME."""
        if self.phase is not Phase.FAILED or now > self.until:
            return False
        return account == self.case.requester or 2 * (self.until - now) < redraw_time


def read(disputes: DisputesContract, case: Case, block: Block) -> Dispute | None:
    """The dispute over a case at a block; None if none is open, or it has another case. All of it
    is of one block, also of the latest: phase and votes fit each other. Raises ChainError.
    """
    if isinstance(block, str):
        block = disputes.rpc.head()
    try:
        standing = disputes.standing_of(case, block)
    except Reverted:
        return None
    rounds = tuple(
        _round(disputes, case, number, word, block)
        for number in range(standing.round + 1)
        if (word := disputes.round_of(case.job, number, block))
    )
    return Dispute(
        case,
        Phase(standing.phase),
        standing.until,
        Ruling(standing.ruling),
        disputes.costs_of(case.price, case.duration, block),
        rounds,
    )


def case_of(
    disputes: DisputesContract, job: bytes, first: int, last: int | None = None
) -> Case | None:
    """The case of a job by the event that opened its dispute in blocks `first` to `last` (the
    head), also once it is closed; None if there is none. Raises ChainError.
    """
    found = disputes.find(Opened, first, last, job=job)
    return found[-1].case if found else None


def member(
    disputes: DisputesContract, juror: str, capability: bytes, block: Block
) -> Member | None:
    """A provider's seats for a capability; None if it never enlisted. Raises ChainError."""
    leaf = disputes.leaf_of(juror, capability, block)
    return Member.unpack(disputes.juror_of(capability, leaf, block)) if leaf else None


def members_of(
    disputes: DisputesContract, capability: bytes, first: int, block: Block = "latest"
) -> list[Member]:
    """Who has seats for a capability, by the events from block `first` on, the most seats first;
    also those whose term `is_over`. Each owner is there once. Raises ChainError.

    Besides the events it costs one request for each 400 jurors (`rpc.gather`).
    """
    leaves = {event.leaf for event in disputes.find(Enlisted, first, capability=capability)}
    words = disputes.read_many(JUROR_OF, block, [(capability, leaf) for leaf in sorted(leaves)])
    found = [one for word in words if (one := Member.unpack(word)) is not None and one.seats]
    return sorted(found, key=lambda one: -one.seats)


def leaf_of_place(value: int) -> int:
    """The leaf of the juror in a place, by the contract's word or by the event `Drawn`."""
    return value & _LEAF


def _round(disputes: DisputesContract, case: Case, number: int, word: int, block: Block) -> Round:
    places = tuple(_places(disputes, case, number, word, block))
    stage = Stage(word >> 88 & 255)
    return Round(number, stage, word & 2**40 - 1, word >> 40 & 2**48 - 1, places)


def _places(
    disputes: DisputesContract, case: Case, number: int, word: int, block: Block
) -> Iterator[Place]:
    for place in range(word >> 96 & 255):
        value = disputes.place_of(case.job, number, place, block)
        leaf = leaf_of_place(value)
        sits = Member.unpack(disputes.juror_of(case.capability, leaf, block))
        kind = word >> (168 + 2 * place) & 3
        yield Place(
            number=place,
            leaf=leaf,
            votes=value >> 27 & 31,
            juror="" if sits is None else sits.owner,
            has_committed=bool(word >> (104 + place) & 1),
            vote=Vote(kind) if kind else None,
            kept=value.to_bytes(32, "big")[:28],
        )
