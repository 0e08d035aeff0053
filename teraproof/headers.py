# SPDX-License-Identifier: Apache-2.0
"""Headers of blocks, as the contracts take them, and the random values that follow from them.

A node tells a header as JSON; the contract wants the bytes that the block's hash is made of. They
are built again here, for the fields of every fork from London on, and compared with the hash: a
header that does not fit is an error and is never sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

from eth_utils.crypto import keccak

from teraproof.protocol.errors import Code
from teraproof.rpc.errors import ChainError

MAX_HEADER = 1024  # bytes that the contract takes
# EIP-2935: where chains keep hashes of earlier blocks than BLOCKHASH and ArbSys reach.
HISTORY = "0x0000F90827F1C53a10cb7A02335B175320002935"
ZERO = bytes(32)

# In the order of the header. What is a number is written without leading zeros; the rest are the
# bytes that they are. A fork appends; what an older block has not, its node does not name.
_NUMBERS = frozenset(
    ("difficulty", "number", "gasLimit", "gasUsed", "timestamp")
    + ("baseFeePerGas", "blobGasUsed", "excessBlobGas", "slotNumber")
)
_FIXED = (
    "parentHash",
    "sha3Uncles",
    "miner",
    "stateRoot",
    "transactionsRoot",
    "receiptsRoot",
    "logsBloom",
    "difficulty",
    "number",
    "gasLimit",
    "gasUsed",
    "timestamp",
    "extraData",
    "mixHash",
    "nonce",
)
_LATER = (
    "baseFeePerGas",  # London
    "withdrawalsRoot",  # Shanghai; a root of another kind on OP chains
    "blobGasUsed",  # Cancun
    "excessBlobGas",
    "parentBeaconBlockRoot",
    "requestsHash",  # Prague
    "blockAccessListHash",  # Amsterdam
    "slotNumber",
)


class HeaderError(ChainError):
    """A block's header cannot be had in the form that the contract takes: asking again is of no
    use.
    """

    default: ClassVar[Code] = Code.HEADER_UNFIT


class Source(IntEnum):
    """Where a block's value comes from; see `randomness/designated_block.vy`."""

    PREVRANDAO = 0
    BLOCK_HASH = 1
    ARBITRUM = 2


@dataclass(frozen=True, slots=True)
class Header:
    """A block's header: `data` is the RLP that its hash is made of."""

    number: int
    hash: bytes
    parent: bytes
    timestamp: int
    mix: bytes
    data: bytes

    def value(self, source: int) -> bytes:
        """The block's random value. HeaderError when it has none."""
        found = self.mix if source == Source.PREVRANDAO else self.hash
        if found == ZERO:
            raise HeaderError(f"block {self.number} has no prevrandao; check the contract's source")
        return found


def lottery(value: bytes) -> int:
    """A block's value as a number for the lottery of windows, below a million."""
    return int.from_bytes(_tagged(b"lottery", value), "big") % 1_000_000


def beacon(value: bytes) -> bytes:
    """The beacon that a block's value makes."""
    return _tagged(b"beacon", value)


def draw(value: bytes) -> bytes:
    """The draw that a block's value makes."""
    return _tagged(b"draw", value)


def rebuild(raw: Mapping[str, object]) -> Header:
    """The header in a node's answer. HeaderError when it does not make the block's hash, ChainError
    when there is none.
    """
    names = [*_FIXED, *(name for name in _LATER if raw.get(name) is not None)]
    try:
        items = [_item(name, raw[name]) for name in names]
        digest = _bytes(raw["hash"])
        number, timestamp = _number(raw["number"]), _number(raw["timestamp"])
        parent, mix = _bytes(raw["parentHash"]), _bytes(raw["mixHash"])
    except (KeyError, TypeError, ValueError):
        raise ChainError("an RPC endpoint sent a block without a whole header") from None
    data = _list(items)
    if bytes(keccak(data)) != digest:
        raise HeaderError(
            f"the header of block {number} cannot be rebuilt from what the RPC endpoint says of "
            "it; it may be on a chain that is not supported"
        )
    if len(data) > MAX_HEADER:
        raise HeaderError(f"the header of block {number} is longer than the contract takes")
    return Header(number, digest, parent, timestamp, mix, data)


def _tagged(tag: bytes, value: bytes) -> bytes:
    return bytes(keccak(tag + value))


# ---------------------------------------------------------------------- RLP


def _list(items: list[bytes]) -> bytes:
    body = b"".join(items)
    return _head(0xC0, len(body)) + body


def _item(name: str, value: object) -> bytes:
    if name in _NUMBERS:
        number = _number(value)
        data = number.to_bytes((number.bit_length() + 7) // 8, "big")
    else:
        data = _bytes(value)
    if len(data) == 1 and data[0] < 0x80:
        return data
    return _head(0x80, len(data)) + data


def _head(base: int, size: int) -> bytes:
    if size < 56:
        return bytes([base + size])
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([base + 55 + len(length)]) + length


def _number(value: object) -> int:
    if not isinstance(value, str) or not value.startswith("0x"):
        raise ValueError("not a number")
    return int(value, 16)


def _bytes(value: object) -> bytes:
    if not isinstance(value, str) or not value.startswith("0x"):
        raise ValueError("not hexadecimal")
    return bytes.fromhex(value[2:])
