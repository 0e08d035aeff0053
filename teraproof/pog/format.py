# SPDX-License-Identifier: Apache-2.0
"""Proof-of-GPU, format v2: parameters, seeds, words, samples and score.

H is keccak-256 and `|` joins bytes. Integers enter a hash as 32-byte big-endian words; seeds,
roots, beacon and draw enter raw. Everything here is exact and plain Python: it is the part that the
agent, the engines and the contract must agree on. How the entries of a matrix lie in the words is
written at `words`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from Crypto.Hash import keccak as _keccak

from teraproof.pog.errors import BenchmarkError

NAME = b"TERAPROOF-POG-2"
ZERO = bytes(32)

MIN_N, MAX_N = 256, 65_536
# Depth 480 * 277 = 132,960; with entries of 7 bits a sum still fits a signed 32-bit integer.
MAX_BLOCKS = 277
MAX_ROUNDS = 1 << 24
MAX_SAMPLES = 256

WORDS_PER_BLOCK = 16
ENTRIES_PER_WORD = 30
ENTRIES_PER_BLOCK = WORDS_PER_BLOCK * ENTRIES_PER_WORD
# Words after the first of a block are squares modulo this prime: one hash pays for 16 words.
PRIME = 2**256 - 189

# What is committed of an entry is one byte: its value modulo 2^8.
ENTRIES_PER_LEAF = 512
LEAF_BYTES = ENTRIES_PER_LEAF


def keccak(data: bytes) -> bytes:
    """H of the format: keccak-256 (with the padding of Ethereum), 32 bytes."""
    return _keccak.new(digest_bits=256, data=data).digest()


def word(value: int) -> bytes:
    """An unsigned integer as a 32-byte big-endian word. BenchmarkError when it does not fit."""
    if not 0 <= value < 1 << 256:
        raise BenchmarkError(f"{value} is not an unsigned 256-bit integer")
    return value.to_bytes(32, "big")


def bytes32(name: str, value: bytes) -> bytes:
    """The value, if it has 32 bytes; else a BenchmarkError that carries the name."""
    if len(value) != 32:
        raise BenchmarkError(f"{name} must be 32 bytes, not {len(value)}")
    return value


@dataclass(frozen=True)
class Shape:
    """The size of a proof's matrices: A is n x depth, B is depth x n, entries 0..127.

    Args:
        n: rows of A and columns of B; a power of two, 256 to 65,536.
        blocks: blocks of 480 entries in a row, 1 to 277.

    Raises BenchmarkError when either is out of its range.
    """

    n: int
    blocks: int

    def __post_init__(self) -> None:
        if not MIN_N <= self.n <= MAX_N or self.n & (self.n - 1):
            raise BenchmarkError(
                f"size must be a power of two from {MIN_N} to {MAX_N}, not {self.n}"
            )
        if not 1 <= self.blocks <= MAX_BLOCKS:
            raise BenchmarkError(f"blocks must be 1 to {MAX_BLOCKS}, not {self.blocks}")

    @property
    def words(self) -> int:
        """Words of 30 entries in a row of A (or a column of B)."""
        return WORDS_PER_BLOCK * self.blocks

    @property
    def depth(self) -> int:
        """Entries in a row of A: K of the format."""
        return ENTRIES_PER_BLOCK * self.blocks

    @property
    def operations(self) -> int:
        """Integer operations of one round: a multiplication and an addition for each term."""
        return 2 * self.n * self.n * self.depth

    @property
    def leaves(self) -> int:
        """Leaves of one round's tree: 512 entries each, in the order of the rows."""
        return self.n * self.n // ENTRIES_PER_LEAF

    @property
    def leaf_path(self) -> int:
        """Length of the path from a leaf to its round's root."""
        return self.leaves.bit_length() - 1

    def leaf_index(self, i: int, j: int) -> int:
        """Number of the leaf that holds row i, column j."""
        return (i * self.n + j) // ENTRIES_PER_LEAF

    def leaf_place(self, i: int, j: int) -> int:
        """The byte of that leaf that is row i, column j. With n = 256 a leaf holds two rows."""
        return (i * self.n + j) % ENTRIES_PER_LEAF


@dataclass(frozen=True)
class Sample:
    """One entry that the draw asks for: row i, column j of the product of round t, from 0."""

    t: int
    i: int
    j: int


def check_rounds(rounds: int) -> int:
    """The rounds, if they are 1 to 2^24; else a BenchmarkError."""
    if not 1 <= rounds <= MAX_ROUNDS:
        raise BenchmarkError(f"rounds must be 1 to {MAX_ROUNDS}, not {rounds}")
    return rounds


def round_path(rounds: int) -> int:
    """Length of the path from a round's root to the commitment: ceil(log2 rounds)."""
    return (check_rounds(rounds) - 1).bit_length()


def challenge(
    chain_id: int, contract: str, epoch: int, beacon: bytes, provider: str, shape: Shape
) -> bytes:
    """What a provider must prove in an epoch; addresses as 0x and 40 hex digits, any case."""
    return keccak(
        keccak(NAME)
        + word(chain_id)
        + word(_address("contract", contract))
        + word(epoch)
        + bytes32("beacon", beacon)
        + word(_address("provider", provider))
        + word(shape.n)
        + word(shape.blocks)
    )


def _address(name: str, value: str) -> int:
    digits = value.removeprefix("0x")
    if len(digits) != 40 or not set(digits) <= set("0123456789abcdefABCDEF"):
        raise BenchmarkError(f"{name} {value!r} is not an address")
    return int(digits, 16)


def seed_a(challenge: bytes) -> bytes:
    """The seed of the rows of A, the same in every round."""
    return keccak(bytes32("challenge", challenge) + b"A")


def seed_b(challenge: bytes, t: int, root_two_before: bytes) -> bytes:
    """The seed of the columns of B in round t; the root is that of round t - 2, ZERO for t < 2."""
    return keccak(
        bytes32("challenge", challenge) + b"B" + word(t) + bytes32("root", root_two_before)
    )


def two_before(roots: Sequence[bytes], t: int) -> bytes:
    """The root of round t - 2, which round t is chained to; ZERO for the first two rounds."""
    return roots[t - 2] if t >= 2 else ZERO


def words(seed: bytes, index: int, blocks: int) -> list[int]:
    """The words of a row of A or a column of B, 16 a block.

    Word 0 of block b is H(seed | (index << 128) + b), unreduced; each further one is the square of
    the one before, modulo 2^256 - 189. With byte(w, p) = (w >> 8p) & 0x7f, entry 10s + k of a word
    (s in 0..2, k in 0..9) is byte(w, 3k + s) in A and byte(w, 3(9 - k) + s) in B. Bytes 30 and 31
    are unused.
    """
    result = []
    for block in range(blocks):
        value = int.from_bytes(keccak(seed + word((index << 128) + block)), "big")
        result.append(value)
        for _ in range(WORDS_PER_BLOCK - 1):
            value = value * value % PRIME
            result.append(value)
    return result


def sample_seed(draw: bytes, rounds: int, commitment: bytes, challenge: bytes) -> bytes:
    """The seed of a proof's samples: r of the format."""
    return keccak(
        bytes32("draw", draw)
        + word(check_rounds(rounds))
        + bytes32("commitment", commitment)
        + bytes32("challenge", challenge)
    )


def samples_of(seed: bytes, rounds: int, shape: Shape, count: int) -> list[Sample]:
    """The samples that follow from `sample_seed`, in order; one entry may come twice."""
    bytes32("seed of the samples", seed)
    check_rounds(rounds)
    if not 1 <= count <= MAX_SAMPLES:
        raise BenchmarkError(f"samples must be 1 to {MAX_SAMPLES}, not {count}")
    result = []
    for number in range(count):
        x = int.from_bytes(keccak(seed + word(number)), "big")
        result.append(Sample(x % rounds, (x >> 64) % shape.n, (x >> 128) % shape.n))
    return result


def samples(
    draw: bytes, rounds: int, commitment: bytes, challenge: bytes, shape: Shape, count: int
) -> list[Sample]:
    """The samples that the draw asks of a proof, in the order in which they are opened."""
    return samples_of(sample_seed(draw, rounds, commitment, challenge), rounds, shape, count)


def score(shape: Shape, rounds: int, window: int) -> int:
    """The proven rate in integer operations per second; the window is in seconds."""
    if window < 1:
        raise BenchmarkError(f"the window must be at least one second, not {window}")
    return shape.operations * check_rounds(rounds) // window
