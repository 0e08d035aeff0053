# SPDX-License-Identifier: Apache-2.0
"""Merkle trees of format v2: the tree over a round's leaves, and the one over the rounds' roots.

Paths hold the siblings from the bottom upwards. At each level an even index means that the current
node is the left one. A leaf is 512 bytes and a node 64, so a node never passes for a leaf.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from teraproof.pog.errors import BenchmarkError
from teraproof.pog.format import ZERO, check_rounds, keccak, round_path

Levels = list[list[bytes]]


def node(left: bytes, right: bytes) -> bytes:
    """The parent of two nodes: H(left | right)."""
    return keccak(left + right)


def levels(bottom: Sequence[bytes]) -> Levels:
    """Every level of a tree, the given one first, the root alone last.

    BenchmarkError unless the number of nodes is a power of two.
    """
    count = len(bottom)
    if count == 0 or count & (count - 1):
        raise BenchmarkError(f"a tree needs a power of two of nodes, not {count}")
    result = [list(bottom)]
    while len(result[-1]) > 1:
        below = result[-1]
        result.append([node(below[k], below[k + 1]) for k in range(0, len(below), 2)])
    return result


def path(tree: Levels, index: int) -> list[bytes]:
    """The siblings of the node with that index in the lowest level, from there upwards."""
    if not 0 <= index < len(tree[0]):
        raise BenchmarkError(f"the tree has no node {index}")
    return [level[(index >> height) ^ 1] for height, level in enumerate(tree[:-1])]


def climb(start: bytes, index: int, siblings: Sequence[bytes]) -> bytes:
    """The root that a node, its index and its path lead to."""
    current = start
    for sibling in siblings:
        current = node(sibling, current) if index & 1 else node(current, sibling)
        index >>= 1
    return current


class RoundTree:
    """The tree over a proof's roots, which grows by one round at a time.

    Only nodes without padding are kept, so appending costs one hash on average, and a commitment or
    a path at any time one a level.
    """

    def __init__(self, roots: Sequence[bytes] = ()) -> None:
        self._levels: Levels = [[]]
        for root in roots:
            self.append(root)

    def __len__(self) -> int:
        return len(self._levels[0])

    def append(self, root: bytes) -> None:
        """Add the root of the next round."""
        check_rounds(len(self) + 1)
        self._levels[0].append(root)
        height = 0
        while len(self._levels[height]) % 2 == 0:
            left, right = self._levels[height][-2:]
            height += 1
            if height == len(self._levels):
                self._levels.append([])
            self._levels[height].append(node(left, right))

    def commitment(self) -> bytes:
        """The root over all rounds so far, padded with zero words to a power of two of them."""
        return self._padded()[-1].node(0)

    def path(self, t: int) -> list[bytes]:
        """The path of round t's root to the commitment over all rounds so far."""
        if not 0 <= t < len(self):
            raise BenchmarkError(f"the proof has no round {t}")
        levels = self._padded()[:-1]
        return [level.node((t >> height) ^ 1) for height, level in enumerate(levels)]

    def _padded(self) -> list[_PaddedLevel]:
        """Every level of the padded tree, the roots first."""
        result: list[_PaddedLevel] = []
        edge, empty = None, ZERO
        for height in range(round_path(len(self)) + 1):
            kept = self._levels[height] if height < len(self._levels) else []
            result.append(_PaddedLevel(kept, edge, empty))
            if len(kept) % 2:
                edge = node(kept[-1], empty if edge is None else edge)
            elif edge is not None:
                edge = node(edge, empty)
            empty = node(empty, empty)
        return result


@dataclass(frozen=True)
class _PaddedLevel:
    """Nodes over rounds alone, then perhaps one over both, then those over padding alone."""

    kept: list[bytes]
    edge: bytes | None
    empty: bytes

    def node(self, index: int) -> bytes:
        if index < len(self.kept):
            return self.kept[index]
        return self.edge if self.edge is not None and index == len(self.kept) else self.empty


def commitment(roots: Sequence[bytes]) -> bytes:
    """The proof's commitment to its rounds, 1 to 2^24 of them; of one round, its root."""
    return RoundTree(roots).commitment()


def root_path(roots: Sequence[bytes], t: int) -> list[bytes]:
    """The path of round t's root to the commitment. For many paths keep a `RoundTree`."""
    return RoundTree(roots).path(t)
