# SPDX-License-Identifier: Apache-2.0
"""The newest block, and the one behind it that a cycle reads."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from teraproof.rpc.client import RpcPool
from teraproof.rpc.errors import BlockUnknown
from teraproof.rpc.types import BlockRef

_SEEN = 8  # steps from head to head that the pace is taken from
_EARLY = 0.9  # of the usual time between two blocks, after which the next one may be there
_UNSTEADY = 1.1  # times the shortest step that the usual one may take, in a steady chain
_MOST = 30.0  # seconds without a look


class NewestHead:
    """The newest block, asked for when there may be one.

    Most cycles find the head that the cycle before has seen: blocks come at their own pace.
    `read` asks the nodes; `poll` is the seconds between two looks. Used by one thread.
    """

    def __init__(
        self,
        read: Callable[[], BlockRef],
        poll: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read, self._poll, self._clock = read, poll, clock
        #: Whether each block counts at once.
        self.hurried = False
        self._head: BlockRef | None = None
        self._asked = self._seen = 0.0
        self._steps: deque[tuple[float, int]] = deque(maxlen=_SEEN)  # seconds, blocks

    def look(self) -> BlockRef:
        """The head; the one of the last look while no other is due. Raises ChainError."""
        now = self._clock()
        if self._head is not None and now < self._due():
            return self._head
        head = self._read()
        now = self._clock()
        if self._head is None or head.hash != self._head.hash:
            if self._head is not None and head.number > self._head.number:
                self._steps.append((now - self._seen, head.number - self._head.number))
            else:
                self._steps.clear()  # the chain was cut back, and may go on at another pace
            self._seen = now
        self._head, self._asked = head, now
        return head

    def _due(self) -> float:
        """When to ask again."""
        # Half of it, so that a cycle that comes a little early does not wait for the next one.
        next_poll = self._asked + self._poll / 2
        return next_poll if self.hurried else max(next_poll, self._seen + self._rest())

    def _rest(self) -> float:
        """Seconds after a head in which no other is to be expected; none where blocks come at
        odd times.
        """
        if len(self._steps) < self._steps.maxlen:  # type: ignore[operator]  # it has one
            return 0.0
        usual = sum(t for t, _ in self._steps) / sum(n for _, n in self._steps)
        shortest = min(t / n for t, n in self._steps)
        return min(_MOST, _EARLY * min(usual, _UNSTEADY * shortest))


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


def goes_on(pool: RpcPool, last: BlockRef, block: BlockRef) -> bool:
    """Whether the chain that a block ends holds the `last` one. Raises ChainError."""
    if block.number <= last.number:
        return block.hash == last.hash
    try:
        return pool.block(last.number).hash == last.hash
    except BlockUnknown:
        return False
