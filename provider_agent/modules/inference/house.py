# SPDX-License-Identifier: Apache-2.0
"""Gas on the house: what this agent spends on deposits before they have brought it.

A channel and its payer are free to invent, so a bound for each of them bounds nothing. What
newcomers have cost within a day and have not brought back is bounded in total, and for one payer. A
payer that has brought the gas of its deposits goes on, whatever strangers do.

All of it follows from the channel book, so a restart forgets nothing.
"""

from __future__ import annotations

from provider_agent.modules.inference.gas import DEPOSIT_GAS, Costs
from provider_agent.modules.inference.rows import Asked
from provider_agent.store import Repository, Store

_DAY = 86_400  # seconds
_MOST_LOST = 20  # deposits that may fail on chain in a day before newcomers get no more
_PART = 4  # of the budget is one payer's
# Under way, or mined. What was refused first, or sent by somebody else, has cost nothing here.
_MADE = "(state = ? OR tx_hash <> x'')"


class HouseBook(Repository):
    """What deposits of payers have cost and brought, by the rows of the channel book."""

    def made(self, payer: str) -> int:
        """Deposits that were sent for a payer, of those that are kept."""
        query = f"SELECT count(*) FROM channel_deposits WHERE {_MADE} AND payer = ?"  # noqa: S608 - ours
        return int(self._db().execute(query, (Asked.SENT, payer)).fetchone()[0])

    def made_by_payer(self, since: int) -> dict[str, int]:
        """The same of each payer, since a time."""
        query = (
            f"SELECT payer, count(*) FROM channel_deposits WHERE {_MADE} AND updated_at >= ? "  # noqa: S608 - ours
            "GROUP BY payer"
        )
        return {str(payer): int(n) for payer, n in self._db().execute(query, (Asked.SENT, since))}

    def lost(self, since: int) -> int:
        """Deposits that have failed on chain since a time."""
        query = (
            "SELECT count(*) FROM channel_deposits "
            "WHERE state = ? AND tx_hash <> x'' AND updated_at >= ?"
        )
        return int(self._db().execute(query, (Asked.REFUSED, since)).fetchone()[0])

    def brought(self, payer: str) -> int:
        """Units that a payer's channels were charged."""
        query = "SELECT charged FROM paid_channels WHERE payer = ?"
        return sum(int(row[0]) for row in self._db().execute(query, (payer,)))

    def now(self) -> int:
        """The store's time."""
        return self._now()


class House:
    """See the module. `most` are the deposits of newcomers that may be unearned at once. Used from
    any thread.
    """

    def __init__(self, store: Store, costs: Costs, most: int) -> None:
        self._book, self._costs, self._most = HouseBook(store), costs, most

    def has_record(self, payer: str) -> bool:
        """Whether a payer has brought the gas of all its deposits, and of one more."""
        brought = self._book.brought(payer)
        if not brought:
            return False
        return brought >= self._costs.of(DEPOSIT_GAS * (self._book.made(payer) + 1))

    def _unearned(self) -> dict[str, int]:
        """Deposits of the last day that each payer has not brought the gas of."""
        cost = self._costs.of(DEPOSIT_GAS)
        if not cost:
            return {}
        found = {}
        for payer, made in self._book.made_by_payer(self._book.now() - _DAY).items():
            left = made - self._book.brought(payer) // cost
            if left > 0:
                found[payer] = left
        return found

    @property
    def is_shut(self) -> bool:
        """Whether newcomers get no deposit."""
        if self._book.lost(self._book.now() - _DAY) >= _MOST_LOST:
            return True
        return sum(self._unearned().values()) >= self._most

    def pays_for(self, payer: str) -> bool:
        """Whether this agent sends another deposit of a payer."""
        if self.has_record(payer):
            return True
        own = self._unearned().get(payer, 0)
        return own < max(1, self._most // _PART) and not self.is_shut
