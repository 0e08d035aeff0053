# SPDX-License-Identifier: Apache-2.0
"""A court with jurors, and a client without money: what the tests of disputes do with it.

What a jury is, what a seal is and what a commitment is are said here a second time, in Python.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import boa
from eth_abi.abi import encode
from eth_utils.crypto import keccak

from teraproof.protocol.dispute import Case as Case
from teraproof.protocol.terms import Record, Terms
from tests.contracts import actions, headers
from tests.contracts.actions import Provider, go_to, now
from tests.contracts.deploy import (
    LOCK,
    SLASH,
    TPF,
    USD,
    Contract,
    Parameters,
    Suite,
    address_of,
    deploy_disputes,
    deploy_suite,
    deployer_of,
)

CAPABILITY = keccak(text="job|python-3.11|cpu")
MANIFEST = b"the manifest of the result"
RIGHT, WRONG, WITHHELD = 1, 2, 3
NO_RULING, UNDECIDED = 0, 4
DRAWING, COMMITTING, REVEALING, FAILED, RULED, FINAL = 1, 2, 3, 4, 5, 6


def seal_of(manifest: bytes, round: int) -> bytes:
    """What a vote of a round must show: sha256 over sha256, the fewer the later the round."""
    digest = manifest
    for _ in range(3 - round):
        digest = hashlib.sha256(digest).digest()
    return digest


def result_of(manifest: bytes) -> bytes:
    """What is attested of a result."""
    return hashlib.sha256(seal_of(manifest, 0)).digest()


@dataclass
class Court:
    """The contracts, and who is a juror by leaf."""

    suite: Suite
    disputes: Contract
    client: Contract
    p: Parameters
    jurors: dict[bytes, dict[int, Provider]] = field(default_factory=dict)
    opened: int = 0

    # -------------------------------------------------------------- seats

    def member(self, leaf: int, capability: bytes = CAPABILITY) -> tuple[str, int, int, int]:
        """Owner, seats, last period and the period in which it went."""
        word = self.disputes.juror_of(capability, leaf)
        owner = boa.util.abi.Address("0x" + (word & (2**160 - 1)).to_bytes(20, "big").hex())
        mask = 2**32 - 1
        return owner, word >> 160 & mask, word >> 192 & mask, word >> 224

    def juror(self, role: str, seats: int, capability: bytes = CAPABILITY) -> Provider:
        """A new provider that enlists."""
        stake = max(1_000 * TPF, 3 * seats * self.p.seat)
        provider = actions.register(self.suite, role, stake=stake, per_order=10**27, in_all=10**28)
        if seats:
            self.enlist(provider, seats, capability)
        return provider

    def enlist(self, provider: Provider, seats: int, capability: bytes = CAPABILITY) -> int:
        self.disputes.enlist(capability, seats, sender=provider.operator.address)
        leaf = int(self.disputes.leaf_of(provider.owner, capability))
        self.jurors.setdefault(capability, {})[leaf] = provider
        return leaf

    def next_period(self, periods: int = 1) -> None:
        go_to((now() // self.p.period + periods) * self.p.period)

    # ------------------------------------------------------------ dispute

    def case_of(self, suite: Suite, terms: Terms, record: Record, price: int) -> Case:
        """The case of a job that is disputed."""
        return Case(
            terms.job_id(),
            record.provider,
            terms.requester,
            str(suite.staking.operator_of(record.provider)),
            str(suite.staking.provider_of(terms.requester)),
            terms.order.judged.to_bytes(32, "big"),
            result_of(MANIFEST),
            price,
            terms.order.duration,
        )

    def open(
        self,
        provider: Provider,
        requester: str,
        *,
        price: int = 10 * USD,
        duration: int = 600,
        capability: bytes = CAPABILITY,
    ) -> Case:
        self.opened += 1
        case = Case(
            keccak(text=f"job {self.opened}"),
            provider.owner,
            requester,
            str(self.suite.staking.operator_of(provider.owner)),
            str(self.suite.staking.provider_of(requester)),
            capability,
            result_of(MANIFEST),
            price,
            duration,
        )
        arguments = (case.job, case.provider, case.requester, case.capability, case.result)
        self.client.open(*arguments, case.price, case.duration)
        return case

    def draw(self, case: Case, value: bytes = b"", round: int = 0) -> list[tuple[int, int]]:
        """Mine the named block with this randomness and draw; the jury's leaves and votes."""
        self.disputes.draw(case.abi_tuple(), self.mine(case, value, round).header)
        return self.jury(case, round)

    def mine(self, case: Case, value: bytes, round: int) -> headers.Block:
        """Make the named block one with this randomness."""
        headers.go_to_block(self.word(case, round) >> 40 & (2**48 - 1))
        return headers.mine(value_of(value))

    def jury(self, case: Case, round: int = 0) -> list[tuple[int, int]]:
        places = self.word(case, round) >> 96 & 255
        return [self.seat(case, round, place) for place in range(places)]

    def seat(self, case: Case, round: int, place: int) -> tuple[int, int]:
        """Leaf and votes of a place."""
        word = self.disputes.place_of(case.job, round, place)
        return word & (2**27 - 1), word >> 27 & 31

    def word(self, case: Case, round: int) -> int:
        return int(self.disputes.round_of(case.job, round))

    def standing(self, case: Case) -> tuple[int, int, int, int]:
        return tuple(self.disputes.standing_of(case.abi_tuple()))

    def commit(self, case: Case, place: int, kind: int, manifest: bytes = MANIFEST) -> None:
        """Commit as the juror in a place."""
        round = self.standing(case)[0]
        juror = self.who(case, place)
        digest = commitment(case, round, juror, kind, manifest)
        self.disputes.commit(case.abi_tuple(), place, digest, sender=juror.operator.address)

    def reveal(self, case: Case, place: int, kind: int, manifest: bytes = MANIFEST) -> None:
        round = self.standing(case)[0]
        juror = self.who(case, place)
        self.disputes.reveal(
            case.abi_tuple(), place, kind, seal(kind, manifest, round), salt_of(case, round, juror)
        )

    def who(self, case: Case, place: int) -> Provider:
        round = self.standing(case)[0]
        leaf, _ = self.seat(case, round, place)
        return self.jurors[case.capability][leaf]

    def who_sat(self, case: Case, round: int, place: int) -> Provider:
        """Also once the dispute is closed."""
        leaf, _ = self.seat(case, round, place)
        return self.jurors[case.capability][leaf]

    def vote(self, case: Case, votes: Sequence[Any]) -> None:
        """All jurors in their order: a kind, (a kind, a manifest), or None for silence."""
        plain = [vote if isinstance(vote, tuple) or vote is None else (vote,) for vote in votes]
        for place, vote in enumerate(plain):
            if vote:
                self.commit(case, place, *vote)
        if any(vote is None for vote in plain):
            go_to(self.standing(case)[2] + 1)
        for place, vote in enumerate(plain):
            if vote:
                self.reveal(case, place, *vote)

    def spread(self, case: Case, round: int = 0) -> list[tuple[int, int]]:
        """Draw so that no juror has two votes and each vote is a place, as a plain list foretells.

        For jurors that all sit here from the period before on.
        """
        size = (self.p.panel, self.p.redraw_panel, self.p.appeal_panel)[round]
        leaves = range(1, len(self.jurors[case.capability]) + 1)
        seats = [self.member(leaf, case.capability)[1] for leaf in leaves]
        sat = {leaf for earlier in range(round) for leaf, _ in self.jury(case, earlier)}
        for number in range(10_000):
            value = b"%d" % number
            seed = seed_of(case, value_of(value), round)
            if len(expected_places(seats, set(), seed, size, sat)) == size:
                jury = self.draw(case, value, round)
                assert len(jury) == size
                return jury
        raise AssertionError("no such jury in ten thousand")

    def close(self, case: Case) -> tuple[bool, int, int, list[tuple[str, int]]]:
        """Whether the tenant has won; what it and the provider get; the jurors' pay."""
        payout = self.suite.staking.payout_of(case.provider)
        won, parts = self.client.close(case.abi_tuple())
        pays = [(str(account), amount) for account, amount in parts]
        ends = [
            sum(amount for account, amount in pays if account == party)
            for party in (case.requester, payout)
        ]
        jurors = [pay for pay in pays if pay[0] not in (case.requester, payout)]
        return won, ends[0], ends[1], jurors

    def fee(self, case: Case) -> int:
        p = self.p
        hourly = p.hourly_fee * case.duration // 3_600
        return max(p.min_fee, case.price * p.juror_fee_bps // 10_000, hourly)

    def small(self, case: Case) -> int:
        """The fine for a vote against the ruling, TPF wei."""
        return self.fee(case) * self.p.small_fine

    def big(self, case: Case) -> int:
        """The fine for silence."""
        return self.fee(case) * self.p.big_fine

    def bond(self, case: Case) -> int:
        return case.price + (self.p.redraw_panel + self.p.panel // 2) * self.fee(case)


def value_of(value: bytes) -> bytes:
    """The randomness that `draw` puts into the named block."""
    return keccak(b"value" + value)


def seal(kind: int, manifest: bytes, round: int) -> bytes:
    return bytes(32) if kind == WITHHELD else seal_of(manifest, round)


def salt_of(case: Case, round: int, juror: Provider) -> bytes:
    return keccak(b"salt" + case.job + bytes([round]) + juror.owner.encode())


def commitment(
    case: Case, round: int, juror: Provider, kind: int, manifest: bytes = MANIFEST
) -> bytes:
    return keccak(
        encode(
            ["bytes32", "uint256", "address", "uint256", "bytes32", "bytes32"],
            [
                case.job,
                round,
                juror.owner,
                kind,
                seal(kind, manifest, round),
                salt_of(case, round, juror),
            ],
        )
    )


def seed_of(case: Case, value: bytes, round: int) -> bytes:
    """What draws a jury: the named block's value, for this purpose and this round alone."""
    return keccak(
        encode(["bytes", "bytes32", "bytes32", "uint256"], [b"jury", value, case.job, round])
    )


def expected_places(
    seats: Sequence[int],
    barred: set[int],
    seed: bytes,
    votes: int,
    sat: Collection[int] = (),
) -> list[tuple[int, int]]:
    """Leaves and votes of a jury by a plain list: `seats` by leaf from 1 on.

    Another leaf is drawn for one that is `barred`; nobody has the vote of one that has `sat`.
    """
    owners = [leaf for leaf, count in enumerate(seats, 1) for _ in range(count)]
    jury = Counter[int]()
    for number in range(8 * votes + 8):
        if not owners or sum(jury.values()) == votes:
            break
        point = int.from_bytes(keccak(seed + number.to_bytes(32, "big")), "big")
        leaf = owners[point % len(owners)]
        if leaf not in barred:
            jury[leaf] += 1
    places = [(leaf, count) for leaf, count in jury.items() if leaf not in sat]
    return places if sum(jury.values()) == votes else []


def deploy_court(parameters: Parameters | None = None, **changes: Any) -> Court:
    """Staking, the court and the client without money."""
    p = parameters or Parameters(**changes)
    suite = deploy_suite(
        p, sealed=False, with_holder=False, managers={address_of("manager"): LOCK | SLASH}
    )
    with boa.env.prank(suite.deployer):
        disputes = deploy_disputes(suite.staking, p)
        client = deployer_of("mocks/Client").deploy(disputes.address)
        disputes.set_client(client.address)
        suite.staking.setup_manager(disputes.address, LOCK)
        suite.staking.seal()
    return Court(suite, disputes, client, p)
