# SPDX-License-Identifier: Apache-2.0
"""The opening of one sample, its flat bytes, and the contract's check in Python.

The agent runs `verify` before it sends an opening: what passes here passes on chain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from teraproof.pog import format as pog
from teraproof.pog import merkle
from teraproof.pog.errors import OpeningError
from teraproof.pog.format import LEAF_BYTES, ZERO, Sample, Shape

# The contract multiplies ten lanes of 24 bits at once; the tenth holds the sum of the products.
_LANES = sum(0x7F << 24 * k for k in range(10))
_SUM_SHIFT = 216
_SUM_MASK = (1 << 24) - 1
# 32 words of three phases of ten products stay below 2^24; after that a lane could overflow.
_WORDS_PER_FLUSH = 32


@dataclass(frozen=True)
class Opening:
    """All that shows one entry of one round: see `encode` for the order on the wire.

    root_before is the root of round t - 2 and path_before its path; for t < 2 they are zero and
    empty. Every node of a path is 32 bytes, the leaf 512.
    """

    root_before: bytes
    root: bytes
    leaf: bytes
    leaf_path: tuple[bytes, ...]
    root_path: tuple[bytes, ...]
    path_before: tuple[bytes, ...]

    def words(self) -> list[bytes]:
        """The 32-byte words that `open_sample` takes, in the order of `encode`."""
        data = self.encode()
        return [data[at : at + 32] for at in range(0, len(data), 32)]

    def encode(self) -> bytes:
        """What the contract takes: root(t-2), root(t), leaf, leaf's path, the earlier path, path.

        The path of root(t-2) goes only as far as it differs from that of root(t): above the node
        where they meet their siblings are the same.
        """
        own = len(self.path_before)
        while own and self.path_before[own - 1 :] == self.root_path[own - 1 :]:
            own -= 1
        return b"".join(
            (
                self.root_before,
                self.root,
                self.leaf,
                *self.leaf_path,
                *self.path_before[:own],
                *self.root_path,
            )
        )

    @classmethod
    def decode(cls, data: bytes, shape: Shape, rounds: int) -> Opening:
        """The inverse of `encode`. OpeningError when the length fits no round of such a proof."""
        upper = pog.round_path(rounds)
        # Rounds t and t - 2 meet two levels up at the lowest; the first two have no earlier one.
        fixed = 64 + LEAF_BYTES + 32 * (shape.leaf_path + upper)
        lengths = {fixed + 32 * own: own for own in (0, *range(2, upper + 1))}
        if len(data) not in lengths:
            wanted = " or ".join(str(length) for length in lengths)
            raise OpeningError(f"an opening of this proof has {wanted} bytes, not {len(data)}")
        leaf_end = 64 + LEAF_BYTES
        nodes = [data[at : at + 32] for at in range(leaf_end, len(data), 32)]
        own = lengths[len(data)]
        middle = shape.leaf_path + own
        path = tuple(nodes[middle:])
        return cls(
            root_before=data[:32],
            root=data[32:64],
            leaf=data[64:leaf_end],
            leaf_path=tuple(nodes[: shape.leaf_path]),
            root_path=path,
            path_before=(*nodes[shape.leaf_path : middle], *path[own:]) if own else (),
        )


def product_entry(a: Sequence[int], b: Sequence[int]) -> int:
    """The entry of the product of a row's and a column's words, as the contract computes it."""
    total = 0
    for start in range(0, len(a), _WORDS_PER_FLUSH):
        lanes = 0
        for left, right in zip(
            a[start : start + _WORDS_PER_FLUSH], b[start : start + _WORDS_PER_FLUSH], strict=True
        ):
            for shift in (0, 8, 16):
                lanes += (left >> shift & _LANES) * (right >> shift & _LANES)
        total += lanes >> _SUM_SHIFT & _SUM_MASK
    return total


def entry(challenge: bytes, shape: Shape, sample: Sample, root_two_before: bytes) -> int:
    """C_t[i][j] of a proof, computed from its two seeds alone."""
    seed_b = pog.seed_b(challenge, sample.t, root_two_before)
    return product_entry(
        pog.words(pog.seed_a(challenge), sample.i, shape.blocks),
        pog.words(seed_b, sample.j, shape.blocks),
    )


def verify(
    opening: Opening,
    sample: Sample,
    challenge: bytes,
    shape: Shape,
    rounds: int,
    commitment: bytes,
) -> None:
    """Check an opening as the contract does.

    Raises OpeningError, which says what does not fit, unless the opening shows that the commitment
    of these rounds holds the right 8 bits at the sample.
    """
    t = sample.t
    if not 0 <= t < rounds or not 0 <= sample.i < shape.n or not 0 <= sample.j < shape.n:
        raise OpeningError(f"the proof has no entry {sample}")
    upper = pog.round_path(rounds)
    _nodes("root", [opening.root, opening.root_before], 2)
    _nodes("path of the leaf", opening.leaf_path, shape.leaf_path)
    _nodes("path of the root", opening.root_path, upper)
    _nodes("path of the earlier root", opening.path_before, upper if t >= 2 else 0)
    if len(opening.leaf) != LEAF_BYTES:
        raise OpeningError(f"a leaf has {LEAF_BYTES} bytes, not {len(opening.leaf)}")

    if merkle.climb(opening.root, t, opening.root_path) != commitment:
        raise OpeningError(f"the root of round {t} is not in the commitment")
    if t < 2:
        if opening.root_before != ZERO:
            raise OpeningError(f"round {t} has no earlier root; it must be zero")
    elif merkle.climb(opening.root_before, t - 2, opening.path_before) != commitment:
        raise OpeningError(f"the root of round {t - 2} is not in the commitment")
    leaf = pog.keccak(opening.leaf)
    if merkle.climb(leaf, shape.leaf_index(sample.i, sample.j), opening.leaf_path) != opening.root:
        raise OpeningError(f"the leaf is not in the root of round {t}")

    claimed = opening.leaf[shape.leaf_place(sample.i, sample.j)]
    value = entry(challenge, shape, sample, opening.root_before)
    if claimed != value & 0xFF:
        raise OpeningError(
            f"row {sample.i}, column {sample.j} of round {t} is {value & 0xFF} modulo 2^8, "
            f"not {claimed}"
        )


def _nodes(name: str, nodes: Sequence[bytes], length: int) -> None:
    if len(nodes) != length:
        raise OpeningError(f"the {name} has {length} nodes, not {len(nodes)}")
    if any(len(node) != 32 for node in nodes):
        raise OpeningError(f"the {name} holds a node that is not 32 bytes")
