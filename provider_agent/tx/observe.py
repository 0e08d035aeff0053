# SPDX-License-Identifier: Apache-2.0
"""What became of our transactions, as the canonical chain has it."""

from __future__ import annotations

from provider_agent.store import Intent, IntentState, Mined, Store
from teraproof.rpc.client import RpcPool
from teraproof.rpc.errors import ChainError, Reverted
from teraproof.rpc.types import BlockRef

CALL, CANCEL, FILL = "call", "cancel", "fill"


class Observer:
    """Reads receipts and outcomes. `begin` starts a tick: hashes of blocks are kept for one."""

    def __init__(self, pool: RpcPool, store: Store, address: str) -> None:
        self._pool, self._store, self._address = pool, store, address
        self._blocks: dict[int, bytes] = {}
        self._head: BlockRef | None = None

    def begin(self, head: BlockRef) -> None:
        """Judge by this head from now on."""
        self._blocks = {head.number: head.hash}
        self._head = head

    def canonical(self, number: int, block_hash: bytes) -> bool:
        """Whether a block is on the chain of the head. Raises ChainError."""
        if self._head is None or number > self._head.number:
            return False
        if number not in self._blocks:
            self._blocks[number] = self._pool.block(number).hash
        return self._blocks[number] == block_hash

    def find(self, intent: Intent) -> Mined | None:
        """The canonical receipt of any transaction ever signed for the intent."""
        for made in reversed(self._store.transactions_of(intent.id)):
            receipt = self._pool.receipt(made.hash)
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
        for number in (mined.block_number, mined.block_number - 1):
            try:
                self._pool.eth_call(intent.to, intent.data, number, self._address)
            except Reverted as error:
                return error.reason
            except ChainError:
                continue
        used_up = any(
            made.hash == mined.tx_hash and mined.gas_used >= made.gas
            for made in self._store.transactions_of(intent.id)
        )
        return "out of gas" if used_up else "failed on chain, reason unknown"


def name(intent: Intent) -> str:
    """How an intent is called in the log."""
    return f"{intent.key.action} of {intent.key.object_id}"
