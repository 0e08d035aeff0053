# SPDX-License-Identifier: Apache-2.0
"""Whose nonces the chain has counted: ours, or somebody else's who uses the key.

That a receipt is missing proves nothing: nodes index late. A stranger is shown by its transaction:
one in a block of the chain, from our account, with a nonce, and a hash that we did not sign. Until
it is shown we wait and say so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from provider_agent.errors import KeyInUse
from provider_agent.store import Intent, Store
from teraproof.rpc.client import RpcPool
from teraproof.rpc.errors import ChainError
from teraproof.rpc.types import BlockRef, Mined

log = logging.getLogger(__name__)

_FLOOR = "nonce_floor"  # first nonce that is ours: what came before, this database does not know
_KEPT = 256  # counts by block that are remembered
_FAR = 2048  # blocks behind the head that are searched when nothing is remembered
_PATIENCE = 3  # ticks in a row that must agree before a gap is filled


class Nonces:
    """Keeps the nonces of one account and its database in step."""

    def __init__(
        self,
        pool: RpcPool,
        store: Store,
        address: str,
        confirmations: int,
        canonical: Callable[[int, bytes], bool],
    ) -> None:
        self._pool, self._store, self._address = pool, store, address
        self._confirmations, self._canonical = confirmations, canonical
        self._counts: dict[int, int] = {}  # block number -> transactions of the account until then
        self._counted = b""  # hash of the head at which they were counted last
        self._shown: dict[int, Mined] = {}  # nonce -> what the chain has there
        self._looked: dict[int, int] = {}  # nonce -> head at which it was looked for last
        self._gap_ticks = 0
        self._doubted = False  # whether the last count was more than what was found on the chain
        #: What is being waited for, or "".
        self.trouble = ""

    @property
    def floor(self) -> int:
        """The first nonce that this database may give out."""
        return int(self._store.meta(_FLOOR) or 0)

    def expected(self) -> int | None:
        """The first nonce that the database has not given out; None before the first start."""
        floor = self._store.meta(_FLOOR)
        following = self._store.next_nonce()
        if floor is None:
            return following
        return max(int(floor), following or 0)

    def start(self, adopt: bool) -> None:
        """Compare the chain with the database before anything is signed. Raises KeyInUse."""
        head = self._pool.head()
        mined = self._pool.nonce(self._address, head)
        pending = max(mined, self._pool.nonce(self._address, "pending"))
        expected = self.expected()
        if expected is None:
            # The first start: what the key did before is not ours, but it must have ended.
            if pending > mined and not adopt:
                raise KeyInUse(
                    f"{self._address} has transactions waiting that this agent did not send; wait "
                    "for them, or stop the other program"
                )
            self._store.set_meta(_FLOOR, str(pending))
        elif pending > expected:
            if not adopt:
                raise self._foreign(expected)
            self._store.set_meta(_FLOOR, str(pending))

    def count(self, head: BlockRef) -> int:
        """How many transactions of the account the chain holds at a head; asked once a head.

        A count that keeps us from sending is not one endpoint's word: of several the middle one
        counts, and of two that differ the lower.
        """
        self.trouble = ""
        # A liar may give one hash to two numbers.
        if self._counted != head.hash or head.number not in self._counts:
            found, expected = self._pool.nonce(self._address, head), self.expected()
            if self._doubted or (expected is not None and found > expected):
                told = sorted(self._pool.told_nonces(self._address, head))
                found = told[(len(told) - 1) // 2] if told else found
            self._counts[head.number] = found
            self._counted, self._doubted = head.hash, False
        while len(self._counts) > _KEPT:
            self._counts.pop(min(self._counts))
        return self._counts[head.number]

    def are_in(self, head: BlockRef, intents: Sequence[Intent]) -> list[Intent]:
        """Those of the intents whose nonces were used in the head's own block, as far as is known
        by the counts at the head and at the block before.
        """
        before, count = self._counts.get(head.number - 1), self._counts[head.number]
        if before is None:
            return []
        return [one for one in intents if one.nonce is not None and before <= one.nonce < count]

    # ------------------------------------------------------------------ strangers

    def check_ahead(self, head: BlockRef, count: int) -> bool:
        """Whether the chain holds no more transactions than we have signed. KeyInUse when the one
        after ours is shown; False, and `trouble`, until it is.
        """
        expected = self.expected()
        if expected is None or count <= expected:
            return True
        if self._locate(expected, head) is not None:
            raise self._foreign(expected)
        self.trouble = (
            f"an endpoint says that {self._address} has sent {count} transactions, we know of "
            f"{expected}; nothing is sent until it is clear"
        )
        return False

    def taken(self, suspects: Sequence[Intent], head: BlockRef) -> list[Intent]:
        """Those of the intents whose nonces a stranger's transaction has used for good."""
        found = []
        for intent in suspects:
            assert intent.nonce is not None  # they have been signed
            mined = self._locate(intent.nonce, head)
            ours = {made.hash for made in self._store.transactions_of(intent.id)}
            if mined is None or mined.tx_hash in ours:
                what = "is in a block" if mined is not None else "should be in a block"
                self.trouble = f"nonce {intent.nonce} {what}; waiting for its receipt"
                self._doubted = True
            elif mined.block_number <= head.number - self._confirmations:
                found.append(intent)
        return found

    def foreign(self, intent: Intent) -> KeyInUse:
        """The error for a nonce that somebody else has used."""
        assert intent.nonce is not None  # it has been signed
        return self._foreign(intent.nonce)

    def _foreign(self, nonce: int) -> KeyInUse:
        return KeyInUse(
            f"another program sends with the key {self._address} (nonce {nonce} is not ours); stop "
            "it; if it was you, run this agent once with --adopt-nonces"
        )

    def _locate(self, nonce: int, head: BlockRef) -> Mined | None:
        """The transaction that the chain has at a nonce of ours; looked for once per block."""
        known = self._shown.get(nonce)
        try:
            if known is not None and self._canonical(known.block_number, known.block_hash):
                return known
            self._shown.pop(nonce, None)
            if self._looked.get(nonce) == head.number:
                return None
            self._looked[nonce] = head.number
            for low, high in self._ranges(nonce, head):
                found = self._pool.find_sent(self._address, nonce, low, high)
                if found is not None and self._canonical(found.block_number, found.block_hash):
                    self._shown[nonce] = found
                    return found
        except ChainError as error:
            log.info("looking for the transaction at nonce %s: %s", nonce, error)
        return None

    def _ranges(self, nonce: int, head: BlockRef) -> list[tuple[int, int]]:
        """Blocks to search: between what was seen, then far back."""
        before = [n for n, count in self._counts.items() if count <= nonce and n < head.number]
        after = [n for n, count in self._counts.items() if count > nonce and n <= head.number]
        far = (max(0, head.number - _FAR), head.number)
        if not before or not after or max(before) >= min(after):
            return [far]
        return [(max(before) + 1, min(after)), far]

    # ------------------------------------------------------------------ gaps

    def gap(self, count: int, lowest: int | None) -> bool:
        """Whether the nonce `count`, below `lowest` of ours, is one that nobody will use.

        Our own numbers have no holes: who says that the chain lacks one that we gave out is behind,
        or lies. But transactions of the key from before this database can leave the chain in a
        reorg and never come back; then ours would wait without end.
        """
        if lowest is None or count >= lowest or self._store.gave_out(count):
            self._gap_ticks = 0
            return False
        if self._pool.nonce(self._address, "pending") > count:
            return False
        self._gap_ticks += 1
        if self._gap_ticks < _PATIENCE:
            return False
        self._gap_ticks = 0
        return True
