# SPDX-License-Identifier: Apache-2.0
"""How fast blocks come, measured on the chain itself, and what its clock says between two of them.

A chain's block time stands in no contract, and one that is taken from a setting is that of another
chain sooner or later. So the time of the newest block is compared with that of one some way back.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from teraproof.rpc.client import RpcPool
from teraproof.rpc.types import BlockRef

_BACK = 16  # blocks that the measure goes over
_AGAIN = 4  # blocks, and seconds, after which it is taken again
_LEAST, _MOST = 0.05, 600.0  # seconds; a chain that stood still is not slow permanently
_UNKNOWN = 12.0  # until there are two blocks


class Pace:
    """See the module. `fixed` seconds are taken instead of the measure where they are given."""

    def __init__(
        self,
        pool: RpcPool,
        fixed: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool, self._fixed, self._clock = pool, fixed, clock
        self._measured: float | None = None
        self._measured_at = (0, 0.0)  # block, and when by our clock
        self._head: BlockRef | None = None
        self._seen = 0.0

    @property
    def seconds(self) -> float:
        """Seconds between two blocks."""
        if self._fixed is not None:
            return self._fixed
        return _UNKNOWN if self._measured is None else self._measured

    def see(self, head: BlockRef) -> None:
        """Take note of the newest block. Raises ChainError when its forebear cannot be read."""
        if self._head is None or head.hash != self._head.hash:
            self._head, self._seen = head, self._clock()
        number, then = self._measured_at
        old = abs(head.number - number) >= _AGAIN and self._clock() - then >= _AGAIN
        if self._fixed is None and (self._measured is None or old):
            self._measure(head)

    def now(self) -> float:
        """The chain's time, carried on from the newest block by this machine's clock."""
        if self._head is None:
            return 0.0
        return self._head.timestamp + self._clock() - self._seen

    def since_block(self) -> float:
        """Seconds since the newest block was seen."""
        return self._clock() - self._seen

    def _measure(self, head: BlockRef) -> None:
        back = min(_BACK, head.number)
        if back == 0:
            return
        passed = head.timestamp - self._pool.block(head.number - back).timestamp
        self._measured = min(_MOST, max(_LEAST, passed / back))
        self._measured_at = (head.number, self._clock())
