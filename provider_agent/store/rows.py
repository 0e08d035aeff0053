# SPDX-License-Identifier: Apache-2.0
"""What the store keeps, as frozen dataclasses, and the edges along which states move."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class IntentState(StrEnum):
    """Where the transaction of an intent stands; see `chain/sender.py`."""

    PLANNED = "planned"  # wanted, nothing signed
    SIGNED = "signed"  # has its nonce and a signed transaction, perhaps broadcast
    SENT = "sent"  # some node has taken a transaction of ours for it
    MINED = "mined"  # in a block, not deep enough yet
    FINAL = "final"  # executed, deep enough
    REVERTED = "reverted"  # would fail or has failed on chain; nothing happened
    ABANDONED = "abandoned"  # given up, and the call can no longer land


DONE = (IntentState.FINAL, IntentState.REVERTED, IntentState.ABANDONED)
# Edges out of a final state exist for one reason: a reorg deeper than the confirmations.
INTENT_EDGES: dict[IntentState, tuple[IntentState, ...]] = {
    IntentState.PLANNED: (IntentState.SIGNED, IntentState.REVERTED, IntentState.ABANDONED),
    IntentState.SIGNED: (
        IntentState.SIGNED,
        IntentState.SENT,
        IntentState.MINED,
        IntentState.ABANDONED,
    ),
    IntentState.SENT: (IntentState.SIGNED, IntentState.MINED, IntentState.ABANDONED),
    IntentState.MINED: (IntentState.MINED, IntentState.SENT, *DONE),
    IntentState.FINAL: (IntentState.SENT, IntentState.MINED),
    IntentState.REVERTED: (IntentState.SENT, IntentState.MINED),
    IntentState.ABANDONED: (IntentState.SENT, IntentState.MINED),
}


class IntentKey(NamedTuple):
    """What makes an intent unique. A second try after a revert is another `action` ("accept#2")."""

    contract: str
    object_id: str
    action: str


@dataclass(frozen=True, slots=True)
class Transaction:
    """A signed transaction. Fees are wei per gas, `raw` is what goes to the network."""

    hash: bytes
    nonce: int
    kind: str  # "call", or "cancel" for the self-transfer that frees a nonce
    raw: bytes
    gas: int
    max_fee: int
    priority_fee: int
    signed_at: int


@dataclass(frozen=True, slots=True)
class Mined:
    """Where a transaction of an intent was found in the chain; `status` 1 is success."""

    tx_hash: bytes
    block_number: int
    block_hash: bytes
    status: int
    gas_used: int
    gas_price: int


@dataclass(frozen=True, slots=True)
class Intent:
    """One call the agent wants executed once. `mined` is what was last seen on chain."""

    id: int
    key: IntentKey
    to: str
    data: bytes
    value: int
    state: IntentState
    deadline: int | None
    cancel: bool
    nonce: int | None
    reason: str
    mined: Mined | None
    created_at: int
    updated_at: int

    @property
    def done(self) -> bool:
        """Whether nothing more will happen to it (short of a reorg)."""
        return self.state in DONE


@dataclass(frozen=True, slots=True)
class Mark:
    """A block that a feed has read up to."""

    number: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class SeenLog:
    """A log that a feed has handed out; `object_id` is what to look at again when it vanishes."""

    block_hash: bytes
    log_index: int
    block_number: int
    object_id: bytes
