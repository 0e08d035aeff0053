# SPDX-License-Identifier: Apache-2.0
"""Headers that one endpoint has told, and how they hang together.

A header names the one before it by its hash. So who has told a head has told all blocks below it
whose headers are known and link: nobody has to be asked for them again.
"""

from __future__ import annotations

from teraproof.rpc.types import BlockRef

_KEPT = 512  # headers
_HOLE = 3  # headers in a row that may be missing and are worth asking for


class Branch:
    """See the module. Not safe in several threads."""

    def __init__(self) -> None:
        self._told: dict[int, BlockRef] = {}

    def tell(self, block: BlockRef) -> None:
        """Keep a header, in place of another one with its number."""
        self._told.pop(block.number, None)
        self._told[block.number] = block
        while len(self._told) > _KEPT:
            self._told.pop(next(iter(self._told)))

    def find(self, tip: BlockRef, number: int) -> BlockRef | None:
        """The block with a number on the branch that ends with `tip`, as far as links show it."""
        found, _ = self._walk(tip, number)
        return found

    def hole(self, tip: BlockRef, number: int) -> tuple[int, bytes] | None:
        """Number and hash of the header to ask for first to get from `tip` to a number by links;
        None when that is of no use.
        """
        found, last = self._walk(tip, number)
        if found is not None or last.parent is None:
            return None
        missing = last.number - 1
        near = range(missing - _HOLE, missing)
        if missing == number or any(n in self._told for n in near):
            return missing, last.parent
        return None

    def _walk(self, tip: BlockRef, number: int) -> tuple[BlockRef | None, BlockRef]:
        """The block if links lead to it, and the last block that they lead to."""
        at = tip
        while at.number > number:
            below = self._told.get(at.number - 1)
            if below is None or at.parent is None or below.hash != at.parent:
                return None, at
            at = below
        return (at if at.number == number else None), at
