# SPDX-License-Identifier: Apache-2.0
"""Votes of jurors: kinds, seals, salts and commitments, as `courts/votes.vy` checks them.

A juror commits to a digest of its vote and a salt, and reveals both later. The salt follows from
the juror's key, the dispute and the round. So a juror that has lost its notes can still reveal,
and commits to the same digest again when a reorg has undone the first one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from eth_abi.abi import encode
from eth_account.signers.local import LocalAccount
from eth_utils.crypto import keccak

from teraproof.protocol.digests import Origin, vote_seal
from teraproof.protocol.messages import Ballot, Domain, sign
from teraproof.protocol.terms import ZERO_WORD, address, word

#: The bits of a commitment that the chain keeps are all but the last 32.
KEPT_BYTES = 28


class Vote(IntEnum):
    """What a juror says of a result."""

    RIGHT = 1
    """It is as attested."""
    WRONG = 2
    """It is another one."""
    WITHHELD = 3
    """It could not be judged: inputs or attested bytes were not served, or not in time."""


class Ruling(IntEnum):
    """What a jury has found."""

    NONE = 0
    """Not yet, or without a quorum."""
    RIGHT = 1
    WRONG = 2
    WITHHELD = 3
    UNDECIDED = 4

    @property
    def is_for_requester(self) -> bool:
        """Whether it is against the provider."""
        return self in (Ruling.WRONG, Ruling.WITHHELD)


@dataclass(frozen=True)
class Opinion:
    """A vote and what it shows. The seal is 32 bytes: of a RIGHT vote the attested result's for the
    round, of a WRONG one that of what came out instead (where results are compared with a
    tolerance, the attested result's), of a WITHHELD one zero.
    """

    vote: Vote
    seal: bytes = ZERO_WORD

    def __post_init__(self) -> None:
        word("seal", self.seal)
        if (self.vote is Vote.WITHHELD) != (self.seal == ZERO_WORD):
            raise ValueError("a WITHHELD vote shows zero, any other a seal")

    @classmethod
    def of(cls, vote: Vote, manifest: bytes, origin: Origin, number: int) -> Opinion:
        """A vote in a round (0 to 2) that shows the seal of this manifest's result."""
        return cls(vote, vote_seal(manifest, origin, number))


def attested(seal: bytes, number: int) -> bytes:
    """What a result is attested as whose seal for a round (0 to 2) this is, 32 bytes."""
    for _ in range(number + 1):
        seal = hashlib.sha256(seal).digest()
    return seal


def salt(account: LocalAccount, domain: Domain, job: bytes, number: int) -> bytes:
    """The juror's secret for a round, 32 bytes: the digest of its operator key's own signature,
    which is the same each time. `domain` is that of Disputes.
    """
    return bytes(keccak(sign(domain, Ballot(job, number), account)))


def commitment(job: bytes, number: int, juror: str, opinion: Opinion, secret: bytes) -> bytes:
    """What a juror commits to, 32 bytes. `juror` is the provider's owner address."""
    kinds = ["bytes32", "uint256", "address", "uint256", "bytes32", "bytes32"]
    values = [job, number, address("juror", juror), int(opinion.vote), opinion.seal, secret]
    return bytes(keccak(encode(kinds, values)))


def committed(
    job: bytes,
    number: int,
    juror: str,
    secret: bytes,
    kept: bytes,
    candidates: Iterable[Opinion],
) -> Opinion | None:
    """Which of these a juror has committed to, by what the chain keeps of its commitment."""
    for opinion in candidates:
        if commitment(job, number, juror, opinion, secret)[:KEPT_BYTES] == kept[:KEPT_BYTES]:
            return opinion
    return None
