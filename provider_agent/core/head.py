# SPDX-License-Identifier: Apache-2.0
"""The block that a cycle reads."""

from __future__ import annotations

from teraproof.rpc.client import RpcPool
from teraproof.rpc.types import BlockRef


class PinnedHead:
    """Finds a block behind the head, so that small reorgs pass by, and one that two endpoints have,
    so that no single one can make up a chain for us.
    """

    def __init__(self, pool: RpcPool, confirmations: int) -> None:
        self._pool, self._confirmations = pool, confirmations
        self._head: BlockRef | None = None
        self._block: BlockRef | None = None  # pinned under that head

    def pin(self, head: BlockRef) -> BlockRef:
        """The block to read under a head. Raises ChainError."""
        number = max(0, head.number - self._confirmations)
        known = self._block
        if known is not None and self._head == head and known.number == number:
            return known
        alone = len(self._pool.endpoints) == 1
        block = head if alone and number == head.number else self._pool.agreed_block(number)
        shorter = self._head is not None and head.number < self._head.number
        if known is not None and block.number < known.number and not shorter:
            return known  # the second endpoint has fallen behind, the chain has not
        self._block, self._head = block, head
        return block
