# SPDX-License-Identifier: Apache-2.0
"""Which of our own quotes were used already, before a pinned block shows it.

A cycle sees a hire some blocks after it. A tenant who asks again before that wants another quote
and not the one that it has just used: the contract would refuse that.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Protocol

from teraproof.rpc.types import Block

_KEPT = 1024  # nonces; one that was forgotten is asked for again


class Escrow(Protocol):
    """The contract that takes quotes: Jobs or Leases."""

    def quote_used(self, operator: str, nonce: int, block: Block) -> bool:
        """Whether a quote's nonce was used or cancelled. Raises ChainError."""
        ...


class SpentQuotes:
    """See the module. `escrow` is read over the visitors' endpoints, since strangers cause it.
    Called from the API's threads. What is reserved for a quote stays so: the loop decides that.
    """

    def __init__(self, escrow: Escrow, operator: str) -> None:
        self._escrow, self._operator = escrow, operator
        self._spent: OrderedDict[int, None] = OrderedDict()
        self._lock = threading.Lock()

    def __contains__(self, nonce: int) -> bool:
        """Whether a look has shown that a quote was used. Asks nobody."""
        with self._lock:
            return nonce in self._spent

    def look(self, nonce: int) -> bool:
        """Whether a quote was used, as of the newest block. Raises ChainError."""
        if nonce in self:
            return True
        used = self._escrow.quote_used(self._operator, nonce, "latest")
        if used:
            with self._lock:
                self._spent[nonce] = None
                while len(self._spent) > _KEPT:
                    self._spent.popitem(last=False)
        return used
