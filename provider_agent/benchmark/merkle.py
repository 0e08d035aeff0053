# SPDX-License-Identifier: Apache-2.0
"""Merkle trees of format v1: the tree over a round's leaves, and the one over the rounds' roots.

Paths hold the siblings from the bottom upwards. At each level an even index means that the current
node is the left one. A leaf is 512 bytes and a node 64, so a node never passes for a leaf.
"""

from __future__ import annotations

from collections.abc import Sequence

from provider_agent.benchmark.errors import BenchmarkError
from provider_agent.benchmark.format import ZERO, keccak, round_path

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


def round_tree(roots: Sequence[bytes]) -> Levels:
    """The tree over the rounds' roots, padded with zero words to a power of two."""
    size = 1 << round_path(len(roots))
    return levels([*roots, *[ZERO] * (size - len(roots))])


def commitment(roots: Sequence[bytes]) -> bytes:
    """The proof's commitment to its rounds, 1 to 2^24 of them; of one round, its root."""
    return round_tree(roots)[-1][0]


def root_path(roots: Sequence[bytes], t: int) -> list[bytes]:
    """The path of round t's root to the commitment. For many paths keep `round_tree`."""
    return path(round_tree(roots), t)
