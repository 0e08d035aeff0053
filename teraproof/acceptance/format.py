# SPDX-License-Identifier: Apache-2.0
"""What a challenged device computes: seeds, rounds of format v2, a filled memory and its sweeps.

H is keccak-256, X is SHAKE128, `|` joins bytes. Integers and addresses are words of 32 bytes,
big-endian; ids, nonces, keys and roots enter raw. d is the number of a device in its lease, from 0.

    base(d)    = H( H("TERAPROOF-ACCEPTANCE-1") | chain id | contract | provider | lease
                    | devices | d | first nonce )
    memory(d)  = H( base | "M" )
    proof(d)   = H( base | "P" | second nonce | N | BLOCKS | rounds )
    key(d, 0)  = H( base | "S" | third nonce | commitment )
    key(d, s)  = H( key(d, s-1) | root(s-1) )
    query(d)   = H( base | "Q" | fourth nonce | commitment | root(0) | ... )

`proof` is the challenge of a proof in format v2 (docs/proof-format.md), whose commitment is over
its rounds, and whose draw is `query`.

Block i of the memory is kept from the stream X(memory | i). It is cut into pieces of 168 bytes,
one permutation each, and of every 16 pieces the last stays: 32 of them, 5,376 bytes. So what is
kept costs 16 permutations that hang on each other for 168 bytes. Its words are 64 bits, the least
significant byte first.

Sweep s reads the whole memory: the digest of a block is the sum of its words times the words of
X(key(d, s)), modulo 2^64. 512 digests are a leaf, filled up with zeros. `root(s)` is the root over
the hashes of the leaves, filled up with zero words to a power of two, by the nodes of format v2.

A query opens entries of the rounds, and one digest of a sweep for each number s:

    x = H( query | "B" | s )        sweep = x mod sweeps       block = (x >> 64) mod blocks
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from operator import mul

from teraproof.pog import format as pog
from teraproof.pog import merkle
from teraproof.pog.errors import BenchmarkError
from teraproof.pog.format import ZERO, Sample, Shape, bytes32, keccak, word
from teraproof.protocol.terms import address

NAME = b"TERAPROOF-ACCEPTANCE-1"

PIECE_BYTES = 168
"""What a permutation of SHAKE128 gives."""
STRIDE, PIECES = 16, 32
BLOCK_BYTES = PIECES * PIECE_BYTES
BLOCK_WORDS = BLOCK_BYTES // 8
DIGEST_BYTES = 8
DIGESTS_PER_LEAF = 512
LEAF_BYTES = DIGESTS_PER_LEAF * DIGEST_BYTES

ENTRIES = 64
"""Entries of the rounds that are opened of each device, and as many digests of its sweeps."""
MAX_DEVICES, MAX_ROUNDS, MAX_SWEEPS, MAX_SECONDS = 16, 1 << 16, 1024, 300
MAX_MEMORY_BLOCKS = 1 << 27
_WORDS = struct.Struct(f"<{BLOCK_WORDS}Q")
_MASK = 2**64 - 1


@dataclass(frozen=True)
class Lease:
    """Which lease is challenged: the Leases contract on its chain, the provider's owner address,
    and the lease's id (32 bytes). LocalError where one of them has the wrong form.
    """

    chain_id: int
    contract: str
    provider: str
    id: bytes

    def __post_init__(self) -> None:
        word(self.chain_id)
        bytes32("lease", self.id)
        for name in ("contract", "provider"):
            object.__setattr__(self, name, address(name, getattr(self, name)))


@dataclass(frozen=True)
class Work:
    """What each device of a lease has to do.

    Args:
        shape: of the matrices of a round.
        rounds: 1 to 65,536.
        devices: of the lease, 1 to 16.
        blocks: of memory that each device fills at most, 5,376 bytes each; 0 for none.
        sweeps: how often all of it is read, 1 to 1,024.
        seconds: after which the tenant waits no longer for a step, 1 to 300.

    BenchmarkError where one is out of its range.
    """

    shape: Shape
    rounds: int
    devices: int
    blocks: int
    sweeps: int
    seconds: int

    def __post_init__(self) -> None:
        for name, least, most in (
            ("rounds", 1, MAX_ROUNDS),
            ("devices", 1, MAX_DEVICES),
            ("blocks", 0, MAX_MEMORY_BLOCKS),
            ("sweeps", 1, MAX_SWEEPS),
            ("seconds", 1, MAX_SECONDS),
        ):
            if not least <= getattr(self, name) <= most:
                raise BenchmarkError(f"{name} must be {least} to {most}, not {getattr(self, name)}")


@dataclass(frozen=True)
class Query:
    """A digest that is asked for: that of a block, in a sweep; both from 0."""

    sweep: int
    block: int


class Seeds:
    """What follows from a lease, a device's number and the nonces of a challenge, 32 bytes each.

    BenchmarkError where a value has the wrong size or the lease has no such device.
    """

    def __init__(self, lease: Lease, work: Work, device: int, first: bytes) -> None:
        if not 0 <= device < work.devices:
            raise BenchmarkError(f"the lease has no device {device}")
        self._work = work
        self._base = keccak(
            keccak(NAME)
            + word(lease.chain_id)
            + word(int(lease.contract, 16))
            + word(int(lease.provider, 16))
            + lease.id
            + word(work.devices)
            + word(device)
            + bytes32("nonce", first)
        )

    def memory(self) -> bytes:
        """The seed of the memory's blocks."""
        return keccak(self._base + b"M")

    def proof(self, second: bytes) -> bytes:
        """The challenge of the rounds."""
        shape = self._work.shape
        return keccak(
            self._base
            + b"P"
            + bytes32("nonce", second)
            + word(shape.n)
            + word(shape.blocks)
            + word(self._work.rounds)
        )

    def first_key(self, third: bytes, commitment: bytes) -> bytes:
        """The key of the first sweep."""
        return keccak(
            self._base + b"S" + bytes32("nonce", third) + bytes32("commitment", commitment)
        )

    def query(self, fourth: bytes, commitment: bytes, roots: Sequence[bytes]) -> bytes:
        """What draws entries and digests; `roots` are those of the sweeps."""
        return keccak(
            self._base
            + b"Q"
            + bytes32("nonce", fourth)
            + bytes32("commitment", commitment)
            + b"".join(bytes32("root", root) for root in roots)
        )


def next_key(key: bytes, root: bytes) -> bytes:
    """The key of the sweep after the one with this key and root."""
    return keccak(bytes32("key", key) + bytes32("root", root))


def entries(query: bytes, work: Work, commitment: bytes, challenge: bytes) -> list[Sample]:
    """The entries of the rounds that a query opens, in their order."""
    return pog.samples(query, work.rounds, commitment, challenge, work.shape, ENTRIES)


def queries(query: bytes, sweeps: int, blocks: int) -> list[Query]:
    """The digests that a query opens, in their order; `blocks` is how many are filled."""
    if blocks == 0:
        return []
    found = []
    for number in range(ENTRIES):
        x = int.from_bytes(keccak(query + b"B" + word(number)), "big")
        found.append(Query(x % sweeps, (x >> 64) % blocks))
    return found


# ---------------------------------------------------------------------- the memory


def block(seed: bytes, index: int) -> bytes:
    """A block of the memory, 5,376 bytes."""
    stream = hashlib.shake_128(seed + word(index)).digest(STRIDE * BLOCK_BYTES)
    step = STRIDE * PIECE_BYTES
    return b"".join(
        stream[at : at + PIECE_BYTES] for at in range(step - PIECE_BYTES, len(stream), step)
    )


def coefficients(key: bytes) -> bytes:
    """The 672 words that a sweep multiplies a block with, as 5,376 bytes."""
    return hashlib.shake_128(bytes32("key", key)).digest(BLOCK_BYTES)


def digest(of: bytes, factors: bytes) -> int:
    """The digest of a block in the sweep with these `coefficients`."""
    total: int = sum(map(mul, _WORDS.unpack(of), _WORDS.unpack(factors)))
    return total & _MASK


def leaves(blocks: int) -> int:
    """Leaves of a sweep's tree, those filled up included: a power of two."""
    count = -(-blocks // DIGESTS_PER_LEAF)
    return 1 << (count - 1).bit_length()


def leaf_path(blocks: int) -> int:
    """Length of the path from a leaf to the root of a sweep."""
    return leaves(blocks).bit_length() - 1


def tree(digests: bytes) -> merkle.Levels:
    """The tree over a sweep's digests, 8 bytes each; the root is alone in the last level."""
    count = len(digests) // DIGEST_BYTES
    hashes = [
        keccak(digests[at : at + LEAF_BYTES].ljust(LEAF_BYTES, b"\0"))
        for at in range(0, len(digests), LEAF_BYTES)
    ]
    return merkle.levels(hashes + [ZERO] * (leaves(count) - len(hashes)))
