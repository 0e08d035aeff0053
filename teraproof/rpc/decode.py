# SPDX-License-Identifier: Apache-2.0
"""Answers of nodes, read strictly. A malformed one is a Transport error: it says nothing."""

from __future__ import annotations

from typing import Any

from teraproof.rpc.errors import Transport
from teraproof.rpc.types import Block, BlockRef, Log

MAX_INTEGER = 2**63  # more is no block number, time, amount of gas or index of any chain


def tag(block: Block) -> object:
    """How a request names a block."""
    if isinstance(block, BlockRef):
        # EIP-1898: this very block or nothing, so a read never mixes two sides of a reorg.
        return {"blockHash": "0x" + block.hash.hex(), "requireCanonical": True}
    return hex(block) if isinstance(block, int) else block


def number(block: Block) -> int | None:
    """The number of a block, where its name tells it."""
    if isinstance(block, BlockRef):
        return block.number
    return block if isinstance(block, int) else None


def integer(value: object) -> int:
    """A number that is not negative."""
    try:
        number = int(value, 16)  # type: ignore[call-overload]  # TypeError is caught
    except (TypeError, ValueError):
        raise Transport("an RPC endpoint sent something that is not a number") from None
    if number < 0:
        raise Transport("an RPC endpoint sent a negative number")
    return int(number)


def small(value: object) -> int:
    """A number below 2^63."""
    number = integer(value)
    if number >= MAX_INTEGER:
        raise Transport("an RPC endpoint sent a number beyond 2^63")
    return number


def hex_bytes(value: object) -> bytes:
    """Bytes written as 0x and hexadecimal digits."""
    if isinstance(value, str) and value.startswith("0x"):
        try:
            return bytes.fromhex(value[2:])
        except ValueError:
            pass
    raise Transport("an RPC endpoint sent something that is not hexadecimal")


def block(raw: object) -> BlockRef:
    """A block."""
    if not isinstance(raw, dict):
        raise Transport("an RPC endpoint sent a malformed block")
    try:
        return BlockRef(
            number=small(raw["number"]),
            hash=hex_bytes(raw["hash"]),
            timestamp=small(raw["timestamp"]),
            base_fee=integer(raw.get("baseFeePerGas", "0x0")),
        )
    except KeyError:
        raise Transport("an RPC endpoint sent a malformed block") from None


def log(raw: dict[str, Any]) -> Log:
    """A log."""
    try:
        return Log(
            address=str(raw["address"]),
            topics=tuple(hex_bytes(topic) for topic in raw["topics"]),
            data=hex_bytes(raw["data"]),
            block_number=small(raw["blockNumber"]),
            block_hash=hex_bytes(raw["blockHash"]),
            tx_hash=hex_bytes(raw["transactionHash"]),
            log_index=small(raw["logIndex"]),
        )
    except (KeyError, TypeError):
        raise Transport("an RPC endpoint sent a malformed log") from None
