# SPDX-License-Identifier: Apache-2.0
"""What one attempt at a host costs: reserved, begun, shown by receipts, and written once."""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass

from teraproof.gateway import ledger as rows
from teraproof.gateway import log as activity
from teraproof.gateway.keys import Keys, Reservation
from teraproof.gateway.ledger import Channel
from teraproof.gateway.receipts import Asked, Dishonest, check
from teraproof.gateway.store import Store
from teraproof.protocol.inference import SignedReceipt

_DAY = 86_400


@dataclass
class Timing:
    """When things happened, monotonic; 0.0: not yet."""

    began: float = 0.0
    content: float = 0.0
    ended: float = 0.0

    @property
    def latency(self) -> float:
        """Seconds to the first content."""
        return (self.content or self.ended) - self.began

    @property
    def writing(self) -> float:
        """Seconds from the first content to the end."""
        return self.ended - self.content if self.content else 0.0


async def book_late(store: Store, keys: Keys, channel: Channel, receipt: SignedReceipt) -> None:
    """Book what a request has cost whose receipt comes only now. The receipt was checked, and
    nobody else uses the channel.
    """
    day, late = int(time.time()) // _DAY, receipt.receipt.cumulative - channel.charged

    def write(db: sqlite3.Connection) -> str | None:
        payer = activity.unclear_of(db, channel.id)
        rows.keep_receipt(db, channel.id, receipt)
        rows.keep(db, channel.id, unclear=0)
        if payer is None:
            return None
        activity.charge_late(db, *payer, day, late)
        return payer[1]

    payer = await store.write(write)
    channel.charged, channel.unclear, channel.stated = receipt.receipt.cumulative, 0, 0
    channel.number, channel.receipt = receipt.receipt.number, receipt
    if payer is not None:
        keys.unclear(payer, channel.id, 0)
        keys.charge_late(payer, day, late)


class Bill:
    """See the module. `settle` is called in whatever way the attempt ends."""

    def __init__(
        self, store: Store, keys: Keys, asked: Asked, kind: str, reserved: Reservation
    ) -> None:
        self._store, self._keys, self._asked, self._kind = store, keys, asked, kind
        self._reserved = reserved
        self.timing = Timing(began=time.monotonic())
        self.channel: Channel | None = None
        self.receipt: SignedReceipt | None = None
        #: Whether the answer came to its end, with its last receipt.
        self.whole = False
        #: Whether its last receipt came, although the answer did not come to its end.
        self.final = False
        #: The row of the activity log; 0: nothing was paid yet.
        self.row = 0

    def begin(self, db: sqlite3.Connection) -> int:
        """Write that the attempt begins, with its first voucher."""
        assert self.channel is not None
        begun = activity.Begun(
            self._reserved.key.name,
            self._kind,
            self._asked.model.name,
            self._asked.host.owner,
            self.channel.id,
            self._reserved.amount,
        )
        return activity.begin(db, begun)

    def shown(self, db: sqlite3.Connection) -> None:
        """Write what receipts show so far, with a voucher for the next step."""
        if self.receipt is not None and self.channel is not None:
            rows.keep_receipt(db, self.channel.id, self.receipt)
            activity.shows(db, self.row, self.charged)

    def take(self, receipt: SignedReceipt, response: bytes) -> None:
        """A receipt, and the digest of what came before it. Dishonest when it does not hold."""
        assert self.channel is not None
        check(receipt, self._asked, self.channel, response, self.charged)
        before, now = self.receipt, receipt.receipt
        if before is not None and (
            now.number != before.receipt.number or now.cumulative < before.receipt.cumulative
        ):
            raise Dishonest("receipt: it takes back what an earlier one of this answer says")
        self.receipt = receipt

    @property
    def charged(self) -> int:
        """What receipts show of this attempt, units of the token."""
        return 0 if self.receipt is None else self.receipt.receipt.charged

    async def settle(self, why: str = "", *, gone: bool = False) -> None:
        """Write what it has cost; once, a second call does nothing.

        Where the provider has charged for a request without a receipt, was believed, and again no
        last receipt has come, the channel is used no more. A client that went away (`gone`) is not
        the provider's fault.
        """
        if self._reserved.settled:
            return
        channel, receipt = self.channel, self.receipt
        day = self._reserved.settle(self.charged)
        if channel is None or not self.row:
            return
        charged = channel.charged if receipt is None else receipt.receipt.cumulative
        late = charged - channel.charged - self.charged
        known = self.whole or (self.final and receipt is not None)
        unclear = 0 if known else channel.signed - charged
        spoiled = not known and not gone and channel.stated > channel.charged
        ended, row, key = self._ended(why), self.row, self._reserved.key.name

        def write(db: sqlite3.Connection) -> str | None:
            payer = activity.unclear_of(db, channel.id) if late else None
            if receipt is not None:
                rows.keep_receipt(db, channel.id, receipt)
            rows.keep(db, channel.id, unclear=unclear)
            if spoiled:
                rows.keep_state(db, channel.id, rows.LEAVING)
            activity.end(db, row, ended)
            activity.spend(db, key, day, ended.cost)
            if payer is None:
                return None
            activity.charge_late(db, *payer, day, late)
            return payer[1]

        channel.charged, channel.unclear, channel.stated = charged, unclear, 0
        if receipt is not None:
            channel.number, channel.receipt = receipt.receipt.number, receipt
        if spoiled:
            channel.state = rows.LEAVING
        self._keys.unclear(key, channel.id, unclear)
        payer = await self._store.lasting(write)  # the host has answered, and is paid
        if payer is not None:
            self._keys.charge_late(payer, day, late)

    def _ended(self, why: str) -> activity.Ended:
        timing = self.timing
        now = timing.ended or time.monotonic()
        return activity.Ended(
            outcome=activity.OK if self.whole else activity.FAILED,
            cost=self.charged,
            why=why,
            latency_ms=round(1000 * (timing.content - timing.began)) if timing.content else None,
            total_ms=round(1000 * (now - timing.began)),
            receipt=self.receipt,
        )
