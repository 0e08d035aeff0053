# SPDX-License-Identifier: Apache-2.0
"""Each payer's share of the work that receipts make: a signature, and a place in the next commit.

A payer with a thousand streams whose steps end at once would stand in front of everybody. So a few
of one payer's are made at a time. The others wait, while those of other payers go by.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

MOST = 32  # receipts of one payer that are made at once


class Shares:
    """See the module. Used on one event loop."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._places: dict[str, asyncio.Semaphore] = {}
        self._here: dict[str, int] = {}

    @asynccontextmanager
    async def of(self, payer: str) -> AsyncIterator[None]:
        """Hold a place of this payer; wait for one if there is none."""
        places = self._places.setdefault(payer, asyncio.Semaphore(self._most))
        self._here[payer] = self._here.get(payer, 0) + 1
        try:
            async with places:
                yield
        finally:
            self._here[payer] -= 1
            if not self._here[payer]:
                del self._here[payer], self._places[payer]
