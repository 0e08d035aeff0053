# SPDX-License-Identifier: Apache-2.0
"""Who picks the block of the draw, and what that is worth: by formula and by real hashes.

The lottery, the draw and the samples are computed as the contract does; blocks are hashes of
numbers. A cheater does 50 rounds and claims 60. It knows every block that is out when it calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

from eth_utils.crypto import keccak

TRUE_ROUNDS = 50
CLAIMED = 60


def tagged(tag: bytes, value: bytes) -> bytes:
    """A block's value for one purpose."""
    return keccak(tag + value)


def wins(value: bytes, chance_ppm: int) -> bool:
    """Whether a boundary's block opens a window."""
    return int.from_bytes(tagged(b"lottery", value), "big") % 1_000_000 < chance_ppm


def sample_rounds(
    draw: bytes, rounds: int, commitment: bytes, challenge: bytes, count: int
) -> Iterator[tuple[int, int]]:
    """The round of each sample, and the whole number that it comes from."""
    seed = keccak(draw + rounds.to_bytes(32, "big") + commitment + challenge)
    for number in range(count):
        x = int.from_bytes(keccak(seed + number.to_bytes(32, "big")), "big")
        yield x % rounds, x


@dataclass(frozen=True)
class Chain:
    """Blocks of an epoch; a value can be read once the block is out."""

    epoch: int

    def value(self, number: int) -> bytes:
        """The value of a block."""
        return keccak(b"block" + self.epoch.to_bytes(8, "big") + number.to_bytes(8, "big"))


@cache
def open_window(chain: Chain, blocks_a_slot: int, chance_ppm: int) -> int:
    """The block that opens the window: the first boundary that wins."""
    number = 0
    while not wins(chain.value(number), chance_ppm):
        number += blocks_a_slot
    return number


def would_pass(chain: Chain, value: bytes, samples: int) -> bool:
    """Whether a draw asks for nothing false, or a false entry fits by chance in its 8 bits."""
    name = chain.epoch.to_bytes(8, "big")
    commitment, challenge = keccak(b"commitment" + name), keccak(b"challenge" + name)
    asked = sample_rounds(tagged(b"draw", value), CLAIMED, commitment, challenge, samples)
    return all(t < TRUE_ROUNDS or keccak(x.to_bytes(32, "big"))[0] == 0 for t, x in asked)


# A way to the draw: from the chain, the first block after the window, and the number of samples.
Way = Callable[[Chain, int, int], bool]


def callers_block(choices: int) -> Way:
    """Format v1's rule: the draw is that of the block in which somebody calls."""

    def way(chain: Chain, first: int, samples: int) -> bool:
        return any(would_pass(chain, chain.value(first + n), samples) for n in range(choices))

    return way


def named_block(choices: int, delay: int) -> Way:
    """The rule now: who calls `close` names a block to come. It picks when it calls.

    It closes as soon as the block that is out would have let it pass, in the hope that this helps.
    """

    def way(chain: Chain, first: int, samples: int) -> bool:
        called = first + choices - 1
        for number in range(first, first + choices):
            if would_pass(chain, chain.value(number - 1), samples):
                called = number
                break
        return would_pass(chain, chain.value(called + delay), samples)

    return way


def simulate(way: Way, epochs: int, samples: int, window: int, chance_ppm: int, slot: int) -> int:
    """In how many epochs the cheater passes; window and slot in blocks."""
    passed = 0
    for epoch in range(epochs):
        chain = Chain(epoch)
        opened = open_window(chain, slot, chance_ppm)
        passed += way(chain, opened + window, samples)
    return passed
