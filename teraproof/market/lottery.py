# SPDX-License-Identifier: Apache-2.0
"""Watches the boundaries at the newest block: which one has opened a window.

A boundary's block is looked up once. What it says holds as long as it is in the chain, so it is
compared with the chain at each new block until the boundary can be presented no more.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from teraproof import headers
from teraproof.contracts.benchmark import BenchmarkContract
from teraproof.headers import Header
from teraproof.pog.schedule import Rules
from teraproof.rpc.errors import BlockUnknown, ChainError
from teraproof.rpc.pace import Pace
from teraproof.rpc.types import BlockRef

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Winner:
    """A boundary that opens a window."""

    boundary: int
    block: Header
    parent: Header
    beacon: bytes

    @property
    def opened_at(self) -> int:
        """When the window opens."""
        return self.block.timestamp


@dataclass(frozen=True)
class _Found:
    boundary: int
    block: BlockRef
    winner: Winner | None


class Lottery:
    """See the module. Called from one thread."""

    def __init__(self, contract: BenchmarkContract, pace: Pace) -> None:
        self._contract, self._pace = contract, pace
        self._found: _Found | None = None
        self._checked = b""  # head at which the block was last compared

    def winner(self, rules: Rules, head: BlockRef, not_before: int) -> Winner | None:
        """The boundary that has won and can be presented now. None before `not_before`, the
        earliest opening of the next window. Raises ChainError.
        """
        found = self._current(rules, head)
        if found is None or found.block.timestamp < not_before:
            return None
        return found.winner

    def _current(self, rules: Rules, head: BlockRef) -> _Found | None:
        """The boundary that counts at a head, with its block."""
        known = self._found
        if known is not None:
            if head.number < known.block.number:
                # A head that is behind contradicts nothing: another node has answered.
                in_time = head.timestamp < rules.opened_until(known.boundary)
                return known if in_time else None
            if not self._is_canonical(known, head):
                log.warning("the block of boundary %s left the chain", known.boundary)
                known = self._found = None
        boundary = rules.boundary(head.timestamp)
        # The call is mined one block later, at the earliest.
        if boundary is None or head.timestamp >= rules.opened_until(boundary):
            return None
        if known is None or known.boundary != boundary:
            known = self._look(rules, boundary, head)
            self._found, self._checked = known, head.hash
        return known

    def _is_canonical(self, known: _Found, head: BlockRef) -> bool:
        if self._checked == head.hash:
            return True
        try:
            canonical = self._contract.rpc.block(known.block.number).hash == known.block.hash
        except BlockUnknown:
            canonical = False
        self._checked = head.hash
        return canonical

    def _look(self, rules: Rules, boundary: int, head: BlockRef) -> _Found | None:
        first = self._first(boundary, head)
        if first is None:
            return None
        header = self._contract.rpc.header(first.number)
        if header.hash != first.hash:
            raise ChainError(f"block {first.number} was replaced while it was read")
        value = header.value(rules.source)
        winner = None
        if rules.wins(headers.lottery(value)):
            parent = self._contract.rpc.header(first.number - 1)
            if parent.hash != header.parent:
                raise ChainError(f"block {parent.number} was replaced while it was read")
            winner = Winner(boundary, header, parent, headers.beacon(value))
            log.info("boundary %s has won, with block %s", boundary, first.number)
        return _Found(boundary, first, winner)

    def _first(self, boundary: int, head: BlockRef) -> BlockRef | None:
        """The first block not before a time; the newest one is not before it. None when no earlier
        one is there.
        """
        step = 1 + int((head.timestamp - boundary) / self._pace.seconds)
        after, before = head, None
        while before is None:
            if after.number == 0:
                return None
            block = self._contract.rpc.block(max(0, after.number - step))
            if block.timestamp < boundary:
                before = block
            else:
                after, step = block, 2 * step
        while after.number - before.number > 1:
            middle = self._contract.rpc.block((after.number + before.number) // 2)
            if middle.timestamp < boundary:
                before = middle
            else:
                after = middle
        return after
