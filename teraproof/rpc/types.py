# SPDX-License-Identifier: Apache-2.0
"""What is read from a node, in types of our own."""

from __future__ import annotations

from dataclasses import dataclass

from teraproof.rpc.errors import ChainError


@dataclass(frozen=True, slots=True)
class BlockRef:
    """A block: its number, 32-byte hash, unix time, and base fee in wei (0 before EIP-1559)."""

    number: int
    hash: bytes
    timestamp: int
    base_fee: int = 0


@dataclass(frozen=True, slots=True)
class Log:
    """A log as the node gave it. `removed` logs are never handed out."""

    address: str
    topics: tuple[bytes, ...]
    data: bytes
    block_number: int
    block_hash: bytes
    tx_hash: bytes
    log_index: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a mined transaction; `status` 1 is success, `gas_price` is wei per gas."""

    tx_hash: bytes
    block_number: int
    block_hash: bytes
    status: int
    gas_used: int
    gas_price: int
    logs: tuple[Log, ...] = ()


@dataclass(frozen=True, slots=True)
class Fees:
    """Fees of EIP-1559 in wei per gas: the next block's base fee and a usual tip."""

    base: int
    tip: int


@dataclass(frozen=True, slots=True)
class Broadcast:
    """What the endpoints said to a signed transaction. `accepted` is proof that one has it;
    without it the outcome is unknown, whatever the errors say.
    """

    accepted: bool
    errors: tuple[ChainError, ...] = ()


Block = BlockRef | int | str
