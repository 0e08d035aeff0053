# SPDX-License-Identifier: Apache-2.0
"""Answers of nodes, read strictly where something depends on them. Null means missing.

What cannot be read is `Malformed`: it counts against its endpoint, and the next one is asked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from teraproof.rpc.errors import Malformed
from teraproof.rpc.types import Block, BlockRef, Log, Mined, Receipt

MAX_INTEGER = 2**63  # upper bound of block numbers, times, gas and indices
_MAX_WORD = 2**256
_QUANTITY = re.compile(r"0x[0-9a-fA-F]{1,64}")
_HEX = re.compile(r"0x(?:[0-9a-fA-F]{2})*")


def tag(block: Block) -> object:
    """How a request names a block."""
    if isinstance(block, BlockRef):
        # EIP-1898: this very block or nothing, so a read never mixes two sides of a reorg.
        return {"blockHash": "0x" + block.hash.hex(), "requireCanonical": True}
    return hex(block) if isinstance(block, int) else block


def number_of(block: Block) -> int | None:
    """The number of a block, where its name tells it."""
    if isinstance(block, BlockRef):
        return block.number
    return block if isinstance(block, int) else None


def integer(value: object) -> int:
    """A number below 2^256."""
    if not isinstance(value, str) or not _QUANTITY.fullmatch(value):
        raise Malformed("sent something that is not a number")
    number = int(value, 16)
    if number >= _MAX_WORD:
        raise Malformed("sent a number beyond 2^256")
    return number


def small(value: object) -> int:
    """A number below 2^63."""
    number = integer(value)
    if number >= MAX_INTEGER:
        raise Malformed("sent a number beyond 2^63")
    return number


def hex_bytes(value: object) -> bytes:
    """Bytes written as 0x and hexadecimal digits."""
    if not isinstance(value, str) or not _HEX.fullmatch(value):
        raise Malformed("sent something that is not hexadecimal")
    return bytes.fromhex(value[2:])


def hash32(value: object) -> bytes:
    """A hash of 32 bytes."""
    data = hex_bytes(value)
    if len(data) != 32:
        raise Malformed("sent a hash that is not of 32 bytes")
    return data


def fields(raw: object, what: str) -> Mapping[str, Any]:
    """An object whose missing fields read as null."""
    if not isinstance(raw, dict):
        raise Malformed(f"sent a malformed {what}")
    return _Fields(raw)


class _Fields(dict[str, Any]):
    """A node's object: null and missing are one thing."""

    def __missing__(self, key: str) -> None:
        return None


def block(raw: object) -> BlockRef:
    """A block. Base fee, gas limit, gas used and parent are optional."""
    found = fields(raw, "block")
    base, limit = found["baseFeePerGas"], found["gasLimit"]
    return BlockRef(
        number=small(found["number"]),
        hash=hash32(found["hash"]),
        timestamp=small(found["timestamp"]),
        base_fee=None if base is None else integer(base),
        gas_limit=_optional(limit),
        parent=_optional_hash(found["parentHash"]),
        gas_used=_optional(found["gasUsed"]),
    )


def _optional(value: object) -> int | None:
    """A number that nothing depends on: an unreadable one is a missing one."""
    try:
        return None if value is None else small(value)
    except Malformed:
        return None


def _optional_hash(value: object) -> bytes | None:
    """A hash that nothing depends on."""
    try:
        return None if value is None else hash32(value)
    except Malformed:
        return None


def receipt(raw: object, with_logs: bool) -> Receipt | None:
    """A receipt; None for one that is not mined. Logs are read only if they are wanted."""
    if raw is None:
        return None
    found = fields(raw, "receipt")
    if found["blockHash"] is None or found["blockNumber"] is None:
        return None
    entries = found["logs"] if with_logs else None
    if entries is not None and not isinstance(entries, list):
        raise Malformed("sent malformed logs")
    return Receipt(
        tx_hash=hash32(found["transactionHash"]),
        block_number=small(found["blockNumber"]),
        block_hash=hash32(found["blockHash"]),
        status=small(found["status"]),
        gas_used=_optional(found["gasUsed"]) or 0,
        gas_price=_optional(found["effectiveGasPrice"]) or 0,
        logs=tuple(log(entry) for entry in entries or ()),
    )


def receipts(raw: object, of: bytes) -> list[Receipt]:
    """The receipts of the block with this hash."""
    if not isinstance(raw, list):
        raise Malformed("sent malformed receipts")
    found = [receipt(entry, False) for entry in raw]
    if any(one is None or one.block_hash != of for one in found):
        raise Malformed("sent receipts of another block than was asked for")
    return [one for one in found if one is not None]


def logs(raw: object) -> list[Log]:
    """Logs in chain order, without the removed ones."""
    if not isinstance(raw, list):
        raise Malformed("sent malformed logs")
    found = [log(entry) for entry in raw if not fields(entry, "log")["removed"]]
    return sorted(found, key=lambda entry: (entry.block_number, entry.log_index))


def log(raw: object) -> Log:
    """A log."""
    found = fields(raw, "log")
    topics = found["topics"]
    if not isinstance(topics, list) or len(hex_bytes(found["address"])) != 20:
        raise Malformed("sent a malformed log")
    return Log(
        address=str(found["address"]),
        topics=tuple(hash32(topic) for topic in topics),
        data=hex_bytes(found["data"]),
        block_number=small(found["blockNumber"]),
        block_hash=hash32(found["blockHash"]),
        tx_hash=hash32(found["transactionHash"]),
        log_index=small(found["logIndex"]),
    )


def sent_by(raw: object, account: str, nonce: int) -> Mined | None:
    """The transaction of an account with a nonce in a block that was read with all of them."""
    found = fields(raw, "block")
    entries = found["transactions"]
    if not isinstance(entries, list):
        raise Malformed("sent a block without its transactions")
    for entry in entries:
        made = fields(entry, "transaction")
        if (
            str(made["from"]).lower() == account.lower()
            and made["nonce"] is not None
            and small(made["nonce"]) == nonce
        ):
            return Mined(hash32(made["hash"]), small(found["number"]), hash32(found["hash"]))
    return None
