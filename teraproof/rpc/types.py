# SPDX-License-Identifier: Apache-2.0
"""What is read from a node, in types of our own."""

from __future__ import annotations

from dataclasses import dataclass, field

from teraproof.rpc.errors import ChainError


@dataclass(frozen=True, slots=True)
class BlockRef:
    """A block: its number, 32-byte hash, unix time, base fee in wei (None where the chain has no
    EIP-1559), gas limit, its parent's hash and the gas that it used (None where the node does not
    tell them).
    """

    number: int
    hash: bytes
    timestamp: int
    base_fee: int | None = None
    gas_limit: int | None = None
    parent: bytes | None = field(default=None, compare=False)
    gas_used: int | None = field(default=None, compare=False)

    @property
    def next_base(self) -> int | None:
        """The base fee of the block after it, wei: a full block makes the next one dearer by an
        eighth. Never less than its own, for the next but one may be full again.
        """
        base, used, limit = self.base_fee, self.gas_used, self.gas_limit
        if base is None or used is None or limit is None or limit < 2:
            return base
        target = limit // 2
        over = min(used, limit) - target
        return base if over <= 0 else base + max(1, base * over // target // 8)


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
    """What became of a mined transaction; `status` 1 is success, `gas_price` is wei per gas (0
    where the node does not tell it). `logs` is empty unless they were asked for.
    """

    tx_hash: bytes
    block_number: int
    block_hash: bytes
    status: int
    gas_used: int
    gas_price: int
    logs: tuple[Log, ...] = ()


@dataclass(frozen=True, slots=True)
class Mined:
    """Where a transaction of an account stands on the chain."""

    tx_hash: bytes
    block_number: int
    block_hash: bytes


@dataclass(frozen=True, slots=True)
class Fees:
    """What gas costs now, wei per gas. `base` is None on a chain without EIP-1559; `tip` is then
    the whole gas price. `lowest_base` is what the most modest endpoint says: a single one cannot
    make us wait by a base fee of its own.
    """

    base: int | None
    tip: int
    lowest_base: int | None = None


@dataclass(frozen=True, slots=True)
class Broadcast:
    """What the endpoints said to a signed transaction. `accepted` is proof that one has it;
    without it the outcome is unknown, whatever the errors say.
    """

    accepted: bool
    errors: tuple[ChainError, ...] = ()


Block = BlockRef | int | str
