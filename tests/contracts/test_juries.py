# SPDX-License-Identifier: Apache-2.0
"""Who is drawn: in proportion to seats, by a plain list's word, and never a party.

100,000 votes are drawn on revm by the very code that Disputes draws with.
"""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from eth_utils.crypto import keccak

from teraproof.protocol.terms import ZERO_ADDRESS
from tests.contracts.court import CAPABILITY, Case, expected_places
from tests.contracts.deploy import address_of
from tests.contracts.revm import Revm

pytestmark = pytest.mark.invariant("I-14")

PERIOD = 3_600
JURORS = 60
OTHER = b"\x05" * 32
# A chi-square of 50 to 60 degrees of freedom is above this once in 10,000.
MOST_CHI_SQUARE = 100.0


class Room:
    """Jurors with seats from 1 to 20, some of them parties to the case by one key or another."""

    def __init__(self) -> None:
        self.chain = Revm(1_800_000_000 // PERIOD * PERIOD + 60)
        self.registry = self.chain.deploy("mocks/Registry")
        self.jury = self.chain.deploy("mocks/Jury", self.registry.address, PERIOD)
        chosen = random.Random(9)
        self.seats = [chosen.randrange(1, 21) for _ in range(JURORS)]
        self.owners = [address_of(f"juror {number}") for number in range(JURORS)]
        self.keys = {owner: (owner, owner) for owner in self.owners}
        requester, operator = address_of("requester"), address_of("operator")
        # Leaf by leaf: the provider itself; the requester itself; whose operator is the requester;
        # paid to the requester; paid to the provider; paid to the provider's operator; whose
        # operator the requester has become since.
        self.owners[1] = requester
        provider = self.owners[0]
        self.named(2, operator=requester)
        self.named(3, payout=requester)
        self.named(4, payout=provider)
        self.named(5, payout=operator)
        self.barred = {1, 2, 3, 4, 5, 6, 7}
        self.case = Case(
            *(keccak(text="job"), provider, requester, operator, self.owners[6]),
            *(CAPABILITY, bytes(32), 1, 600),
        )
        for number, owner in enumerate(self.owners):
            operator_of, payout = self.keys.get(owner, (owner, owner))
            self.registry.set_keys(owner, operator_of, payout)
            self.jury.enlist(CAPABILITY, self.seats[number], sender=operator_of)
            self.registry.set_keys(owner, operator_of, owner)
        self.chain.now += PERIOD

    def named(self, number: int, *, operator: str | None = None, payout: str | None = None) -> None:
        owner = self.owners[number]
        self.keys[owner] = (operator or owner, payout or owner)

    def votes(self, sat: tuple[int, ...] = (), juries: int = 33_400) -> list[int]:
        """Votes by leaf, 3 a jury."""
        total = [0] * (JURORS + 1)
        step = 200
        for first in range(0, juries, step):
            drawn, failed = self.chain.view(
                "mocks/Jury", "pick_many", self.case.abi_tuple(), first, step, 3, list(sat)
            )
            assert failed == 0 or sat
            total = [a + b for a, b in zip(total, drawn, strict=False)]
        assert sum(total) == 3 * juries or sat
        return total


def strangers(seats: list[int]) -> tuple[Revm, Case]:
    """Jurors with these seats, and a case to which no juror is a party."""
    chain = Revm(1_800_000_000 // PERIOD * PERIOD + 60)
    registry = chain.deploy("mocks/Registry")
    jury = chain.deploy("mocks/Jury", registry.address, PERIOD)
    for number, count in enumerate(seats):
        owner = address_of(f"juror {number}")
        registry.set_keys(owner, owner, owner)
        jury.enlist(CAPABILITY, count, sender=owner)
    chain.now += PERIOD
    provider, requester, operator = (address_of(role) for role in ("p", "r", "o"))
    job = keccak(text="job")
    case = Case(job, provider, requester, operator, ZERO_ADDRESS, CAPABILITY, bytes(32), 1, 600)
    return chain, case


@pytest.fixture(scope="module")
def room() -> Room:
    return Room()


def chi_square(room: Room, votes: list[int], barred: set[int]) -> float:
    allowed = [leaf for leaf in range(1, JURORS + 1) if leaf not in barred]
    seats = sum(room.seats[leaf - 1] for leaf in allowed)
    found = 0.0
    for leaf in allowed:
        expected = sum(votes) * room.seats[leaf - 1] / seats
        found += (votes[leaf] - expected) ** 2 / expected
    return found


def test_hundred_thousand_draws__no_party_ever__the_rest_by_its_seats(room: Room) -> None:
    votes = room.votes()
    assert sum(votes) >= 100_000
    assert [votes[leaf] for leaf in sorted(room.barred)] == [0] * len(room.barred)
    assert chi_square(room, votes, room.barred) < MOST_CHI_SQUARE


def test_draws__who_sat_before__has_a_vote_that_nobody_casts(room: Room) -> None:
    """The rest keeps its part of the seats: it is not made larger by those that sit no more."""
    sat = (10, 20, 30, 40)
    votes = room.votes(sat, 4_000)
    barred = room.barred | set(sat)
    assert [votes[leaf] for leaf in sorted(barred)] == [0] * len(barred)
    assert chi_square(room, votes, barred) < MOST_CHI_SQUARE
    allowed = [n for leaf, n in enumerate(room.seats, 1) if leaf not in room.barred]
    expected = 12_000 * (1 - sum(room.seats[leaf - 1] for leaf in sat) / sum(allowed))
    assert abs(sum(votes) - expected) < 250


@pytest.mark.parametrize(("honest", "each", "sybils"), [(2, 14, 4), (3, 9, 4), (4, 6, 6)])
def test_appeal__a_small_part_of_the_seats__decides_no_more_than_its_part(
    honest: int, each: int, sybils: int
) -> None:
    """Few jurors with many seats have judged first, and sit no more: who is left is a minority."""
    chain, case = strangers([each] * honest + [1] * sybils)
    judged_first = list(range(1, min(honest, 3) + 1))
    turned = 0
    for number in range(200):
        votes, _ = chain.view(
            "mocks/Jury", "pick_many", case.abi_tuple(), number, 1, 11, judged_first
        )
        turned += 2 * sum(votes[honest + 1 : honest + 1 + sybils]) > 11
    assert turned / 200 <= sybils / (honest * each + sybils)


def test_draws__everybody_sat_before__comes_to_nothing() -> None:
    chain, case = strangers([3, 4])
    assert chain.view("mocks/Jury", "pick", case.abi_tuple(), bytes(32), 31, [1, 2]) == []
    (place,) = chain.view("mocks/Jury", "pick", case.abi_tuple(), bytes(32), 31, [1])
    assert place & 2**27 - 1 == 2 and place >> 27 < 31


def test_draws__without_the_exclusions__parties_would_be_drawn(room: Room) -> None:
    """The same jurors, in a case of strangers: what the test above rests on."""
    provider, requester, operator = (address_of(f"stranger {n}") for n in range(3))
    case = replace(
        room.case,
        provider=provider,
        requester=requester,
        operator=operator,
        principal=ZERO_ADDRESS,
    )
    drawn, _ = room.chain.view("mocks/Jury", "pick_many", case.abi_tuple(), 0, 2_000, 3, [])
    assert all(drawn[leaf] > 0 for leaf in room.barred)


def test_draws__other_capability__nobody(room: Room) -> None:
    case = replace(room.case, capability=OTHER)
    assert room.chain.view("mocks/Jury", "pick", case.abi_tuple(), bytes(32), 3, []) == []


def test_draws__as_a_plain_list_says(room: Room) -> None:
    """Seed by seed and place by place, for the sizes of all rounds."""
    for number in range(300):
        seed, votes = keccak(text=f"seed {number}"), (3, 5, 9, 31)[number % 4]
        found = room.chain.view("mocks/Jury", "pick", room.case.abi_tuple(), seed, votes, [50])
        places = [(place & 2**27 - 1, place >> 27) for place in found]
        assert places == expected_places(room.seats, room.barred, seed, votes, {50})


def test_draws__all_seats_barred__comes_to_nothing(room: Room) -> None:
    """A provider alone in its capability has no jury that it could be."""
    case = replace(room.case, capability=OTHER)
    kept = room.chain.snapshot()
    room.jury.enlist(OTHER, 5, sender=room.owners[0])
    room.chain.now += PERIOD
    assert room.chain.view("mocks/Jury", "pick", case.abi_tuple(), bytes(32), 3, []) == []
    room.chain.revert(kept)
