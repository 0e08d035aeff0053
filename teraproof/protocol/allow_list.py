# SPDX-License-Identifier: Apache-2.0
"""Allow-lists of orders: a Merkle root on chain, the list itself in the job's specification.

A leaf is keccak256(keccak256(owner address as a word)); a node hashes its two children in sorted
order, so that a path needs no directions. The leaves are sorted; where one has no neighbour it
goes up a level as it is. The contract knows a root and a path only: the shape is an agreement
between those who make lists and those who read them.
"""

from __future__ import annotations

from collections.abc import Sequence

from eth_abi.abi import encode
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from teraproof.errors import LocalError
from teraproof.protocol.terms import ZERO_WORD, address


def leaf(owner: str) -> bytes:
    """The leaf of a provider, by its owner address; the root of a list of one."""
    return bytes(keccak(keccak(encode(["address"], [owner]))))


def ordered(owners: Sequence[str]) -> tuple[str, ...]:
    """The owners as a specification lists them: checked, each once, in order of their bytes."""
    return tuple(sorted({address("allow", owner) for owner in owners}, key=str.lower))


def is_ordered(owners: Sequence[str]) -> bool:
    """Whether these addresses stand as `ordered` gives them."""
    return list(owners) == sorted({to_checksum_address(one) for one in owners}, key=str.lower)


def root(owners: Sequence[str]) -> bytes:
    """The root of a list; zero, which means anyone, for an empty one."""
    return _levels(owners)[-1][0] if owners else ZERO_WORD


def proof(owners: Sequence[str], owner: str) -> list[bytes]:
    """The path from an owner to the root; empty for an empty list and for one of one.

    LocalError when a list does not name the owner.
    """
    if not owners:
        return []
    levels = _levels(owners)
    if leaf(owner) not in levels[0]:
        raise LocalError(f"{owner} is not on the list")
    at, path = levels[0].index(leaf(owner)), []
    for level in levels[:-1]:
        if at ^ 1 < len(level):
            path.append(level[at ^ 1])
        at //= 2
    return path


def _levels(owners: Sequence[str]) -> list[list[bytes]]:
    """All nodes, from the sorted leaves to the root."""
    levels = [sorted({leaf(owner) for owner in owners})]
    while len(levels[-1]) > 1:
        below = levels[-1]
        pairs = [below[at : at + 2] for at in range(0, len(below), 2)]
        levels.append([_node(*pair) if len(pair) == 2 else pair[0] for pair in pairs])
    return levels


def _node(a: bytes, b: bytes) -> bytes:
    return bytes(keccak(min(a, b) + max(a, b)))
