# SPDX-License-Identifier: Apache-2.0
"""Which disputes this provider looks at, of all that there are.

Those of ours come first: over our results, opened by us, or with us in a jury. Then those over
capabilities of which we have seats: we may be drawn there, and draw. All others are nothing to us.
Anybody may open disputes, so a cycle reads few that are not ours, and no rows but what is new.
"""

from __future__ import annotations

from provider_agent.core.standing import Provider
from provider_agent.modules.disputes.repository import DisputesRepository, Order
from provider_agent.modules.disputes.seats import Seats
from teraproof.contracts.base import Event
from teraproof.contracts.disputes import Committed, Drawn, Revealed
from teraproof.courts.docket import Dispute, leaf_of_place
from teraproof.protocol.dispute import Case
from teraproof.rpc.types import BlockRef

_READS = 8  # disputes that are not ours and are read in a cycle


class Watch:
    """See the module. `account` is the operator's. Used by one thread."""

    def __init__(self, store: DisputesRepository, seats: Seats, account: str) -> None:
        self._store, self._seats, self._account = store, seats, account
        self._orders: dict[bytes, Order] = {}
        self._seated: set[bytes] = set()
        self._for: tuple[str, int] | None = None  # the provider and its seats that these are for
        self._changed: set[bytes] = set()
        self._drawn: dict[bytes, tuple[int, ...]] = {}  # juries, by the words of their places
        self._reads = 0
        #: Disputes of which there is news.
        self.dirty: set[bytes] = set()

    def changed(self, job: bytes, *, is_new: bool = False) -> None:
        """The row of an order has changed; it `is_new` where its dispute may not be known here."""
        if is_new or job in self._orders:
            self._changed.add(job)

    def news(self, job: bytes, event: Event | None = None) -> None:
        """Something has happened in a dispute. What others do in a jury is theirs."""
        if isinstance(event, Drawn):
            self._drawn[job] = event.places
        if isinstance(event, Committed | Revealed) and not self._is_ours(job):
            return
        self.dirty.add(job)

    def orders(self, block: BlockRef, provider: Provider) -> list[Order]:
        """The orders whose disputes may concern us, those of ours first. Raises ChainError."""
        now_for = provider.owner, self._seats.joined
        if self._for != now_for:
            self._orders.clear()
            self._changed = {order.job for order in self._store.disputed()}
            self._for = now_for
        for job in list(self._changed):
            order = self._store.open_dispute(job)
            if order is not None and self._concerns(order.case, provider, block):
                self._orders[job] = order
            else:
                self._forget(job)
            self._changed.discard(job)
        for job, places in self._drawn.items():
            order = self._orders.get(job)
            leaf = None if order is None else self._leaf(order.case)
            if leaf and leaf in map(leaf_of_place, places):
                self._seated.add(job)
        self._drawn.clear()
        self.dirty &= self._orders.keys()
        self._reads = _READS
        return sorted(self._orders.values(), key=lambda one: not self._is_ours(one.job))

    def may_read(self, job: bytes) -> bool:
        """Whether a dispute may be read in this cycle: one of ours always, some others."""
        if self._is_ours(job):
            return True
        self._reads -= 1
        return self._reads >= 0

    def was_read(self, job: bytes, dispute: Dispute | None, owner: str) -> None:
        """A dispute was read: whether we sit in it is known now. None where there is none."""
        self.dirty.discard(job)
        rounds = () if dispute is None else dispute.rounds
        if any(round_.of(owner) is not None for round_ in rounds):
            self._seated.add(job)
        else:
            self._seated.discard(job)
        # The next one that waits has its turn before it.
        if job in self._orders:
            self._orders[job] = self._orders.pop(job)

    def _forget(self, job: bytes) -> None:
        self._orders.pop(job, None)
        self._seated.discard(job)

    def _concerns(self, case: Case | None, provider: Provider, block: BlockRef) -> bool:
        if case is None:
            return False
        if provider.owner == case.provider or self._account == case.requester:
            return True
        return self._seats.leaf(case.capability, provider.owner, block) != 0

    def _is_ours(self, job: bytes) -> bool:
        """Whether a dispute is owed before others; one that is not known yet may be."""
        order = self._orders.get(job)
        if job in self._seated or order is None or order.case is None or order.note:
            return True  # a note: we have done something there, perhaps before a restart
        owner = "" if self._for is None else self._for[0]
        return order.case.provider == owner or order.case.requester == self._account

    def _leaf(self, case: Case | None) -> int | None:
        """Our leaf where a dispute's juries are drawn, as far as it is known."""
        return None if case is None else self._seats.known_leaf(case.capability)
