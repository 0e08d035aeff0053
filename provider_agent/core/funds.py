# SPDX-License-Identifier: Apache-2.0
"""Whether a tenant has the money for a quote: asked over the visitors' endpoints, and seldom."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple, Protocol

from teraproof.contracts.token import TokenContract
from teraproof.rpc.types import Block, BlockRef

_KEPT = 1024  # accounts
_SECONDS = 5.0  # for which a look is good, also when blocks come faster


class Escrow(Protocol):
    """A contract in which accounts have credit."""

    def credit_of(self, account: str, block: Block) -> int:
        """Units of the payment token. Raises ChainError."""
        ...


class _Look(NamedTuple):
    block: bytes
    at: float
    held: int


class Funds:
    """What accounts can pay with. The contracts are read over the visitors' endpoints. Called from
    the API's threads.
    """

    def __init__(
        self,
        escrow: Escrow,
        token: TokenContract,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._escrow, self._token, self._clock = escrow, token, clock
        self._looks: OrderedDict[str, _Look] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, account: str, block: BlockRef) -> int:
        """The units of the payment token that an account has, in credit or in its wallet, as of
        `block` or a few seconds before. Raises ChainError.
        """
        now = self._clock()
        with self._lock:
            look = self._looks.get(account)
        if look is not None and (look.block == block.hash or now - look.at < _SECONDS):
            return look.held
        credit = self._escrow.credit_of(account, block)
        held = max(credit, self._token.balance_of(account, block))
        with self._lock:
            self._looks[account] = _Look(block.hash, now, held)
            self._looks.move_to_end(account)
            while len(self._looks) > _KEPT:
                self._looks.popitem(last=False)
        return held
