# SPDX-License-Identifier: Apache-2.0
"""What became of our transactions, as the canonical chain has it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from provider_agent.store import Intent, IntentState, Mined, Store
from provider_agent.tx.gas import ran_out
from teraproof.rpc.client import RpcPool
from teraproof.rpc.errors import BlockUnknown, ChainError, Reverted
from teraproof.rpc.types import BlockRef, Receipt

log = logging.getLogger(__name__)

_SEVERAL = 2  # receipts, from which on those of the whole block are read instead
_ONE_BY_ONE = 600.0  # seconds, after no endpoint gave the receipts of a block

CALL, CANCEL, FILL = "call", "cancel", "fill"


class Observer:
    """Reads receipts and outcomes. `begin` starts a tick: hashes of blocks are kept for one."""

    def __init__(
        self,
        pool: RpcPool,
        store: Store,
        address: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pool, self._store, self._address, self._clock = pool, store, address, clock
        self._blocks: dict[int, bytes] = {}
        self._head: BlockRef | None = None
        self._receipts: dict[bytes, Receipt] = {}  # of the head's block
        self._gathered = b""  # hash of that block
        self._one_by_one_until = 0.0

    @property
    def number(self) -> int:
        """The number of the head."""
        return 0 if self._head is None else self._head.number

    def begin(self, head: BlockRef) -> None:
        """Judge by this head from now on."""
        self._blocks = {head.number: head.hash}
        self._head = head
        if self._gathered != head.hash:
            self._receipts = {}

    def canonical(self, number: int, block_hash: bytes) -> bool:
        """Whether a block is on the chain of the head. Raises ChainError."""
        if self._head is None or number > self._head.number:
            return False
        if number not in self._blocks:
            self._blocks[number] = self._pool.block(number).hash
        return self._blocks[number] == block_hash

    def gather(self, new: Sequence[Intent]) -> None:
        """Read the receipts of the head's block at once, if it must hold several of `new`."""
        head, now = self._head, self._clock()
        if head is None or len(new) < _SEVERAL or now < self._one_by_one_until:
            return
        if self._gathered == head.hash:
            return
        self._gathered = head.hash
        try:
            found = self._pool.block_receipts(head)
        except BlockUnknown:
            return  # it has left the chain
        except ChainError as error:
            log.info("receipts are read one by one: %s", error)
            self._one_by_one_until = now + _ONE_BY_ONE
            return
        self._receipts = {receipt.tx_hash: receipt for receipt in found}

    def find(self, intent: Intent) -> Mined | None:
        """The canonical receipt of any transaction ever signed for the intent."""
        for made in reversed(self._store.transactions_of(intent.id)):
            receipt = self._receipts.get(made.hash) or self._pool.receipt(made.hash)
            if receipt is not None and self.canonical(receipt.block_number, receipt.block_hash):
                return Mined(
                    receipt.tx_hash,
                    receipt.block_number,
                    receipt.block_hash,
                    receipt.status,
                    receipt.gas_used,
                    receipt.gas_price,
                )
        return None

    def known(self, intent: Intent) -> bool:
        """Whether the nodes have any of the intent's transactions, whatever they answered."""
        try:
            return any(
                self._pool.knows_transaction(made.hash)
                for made in reversed(self._store.transactions_of(intent.id))
            )
        except ChainError:
            return False  # unknown; the next tick asks again

    def outcome(self, intent: Intent, mined: Mined) -> tuple[IntentState, str]:
        """The final state of a mined intent, and the reason."""
        kinds = {made.hash: made.kind for made in self._store.transactions_of(intent.id)}
        if kinds.get(mined.tx_hash) == CANCEL:
            return IntentState.ABANDONED, intent.reason or "cancelled"
        if mined.status == 1:
            return IntentState.FINAL, ""
        return IntentState.REVERTED, self._why_reverted(intent, mined)

    def _why_reverted(self, intent: Intent, mined: Mined) -> str:
        """The revert reason, by running the call again around the block it failed in."""
        if ran_out(self._store.transactions_of(intent.id), mined):
            return "out of gas"
        for number in (mined.block_number, mined.block_number - 1):
            try:
                self._pool.eth_call(intent.to, intent.data, number, self._address)
            except Reverted as error:
                return error.reason
            except ChainError:
                continue
        return "failed on chain, reason unknown"


def name(intent: Intent) -> str:
    """How an intent is called in the log."""
    return f"{intent.key.action} of {intent.key.object_id}"
