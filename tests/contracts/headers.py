# SPDX-License-Identifier: Apache-2.0
"""Headers of blocks for the tests, and a local chain that knows their hashes.

`build` makes the RLP of a header of any fork and needs no chain; `hash_of` is its hash. A contract
takes a header when the chain's hash of that block is the header's, so the chain must know it:

* titanoboa: `know(number, header)` sets what BLOCKHASH says, `mine(...)` does it for a block that
  has just been, and goes on to the next one. Beyond 256 blocks the contract asks the history
  contract of EIP-2935; `keep(number, header)` puts that contract there and writes the hash into it.
* pyrevm: BLOCKHASH there is keccak256 of the decimal number and cannot be set, so go beyond its
  reach: put HISTORY_CODE at HISTORY, write the hash of block n to storage slot `history_slot(n)`,
  and set the block's number to at least n + FAR_BLOCKS before the call that presents the header
  (and at most n + 8,191). `open` and `draw` care for no other distance.
* anvil: the real ones; `of_node(block)` builds the header of a block as `eth_getBlockByNumber`
  gives it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import boa
import rlp
from eth_utils.crypto import keccak

from teraproof.headers import HISTORY

# The code of the history contract, as it stands on every chain that has it.
HISTORY_CODE = bytes.fromhex(
    "3373fffffffffffffffffffffffffffffffffffffffe14604657602036036042575f35600143038111604257611fff"
    "81430311604257611fff9006545f5260205ff35b5f5ffd5b5f35611fff60014303065500"
)
HISTORY_REACH = 8_191
# From this number of blocks on the history contract is asked, and not BLOCKHASH.
FAR_BLOCKS = 257

# Fields of a header by fork, in their order; each fork adds to the one before.
FORKS = {"frontier": 15, "london": 16, "shanghai": 17, "cancun": 20, "prague": 21}


# ---------------------------------------------------------------------- headers


def build(
    number: int,
    timestamp: int,
    prevrandao: bytes,
    *,
    parent_hash: bytes = bytes(32),
    fork: str = "prague",
    extra_data: bytes = b"",
    difficulty: int = 0,
    gas_limit: int = 36_000_000,
    gas_used: int = 12_345_678,
    base_fee: int = 7,
    blob_gas: int = 0,
    excess_blob_gas: int = 0,
) -> bytes:
    """The RLP of a header; what is not given is filled with something of the right length."""
    fields: list[bytes | int] = [
        parent_hash,
        keccak(b"ommers"),
        keccak(b"beneficiary")[:20],
        keccak(b"state"),
        keccak(b"transactions"),
        keccak(b"receipts"),
        bytes(256),
        difficulty,
        number,
        gas_limit,
        gas_used,
        timestamp,
        extra_data,
        prevrandao,
        bytes(8),
        base_fee,
        keccak(b"withdrawals"),
        blob_gas,
        excess_blob_gas,
        keccak(b"beacon root"),
        keccak(b"requests"),
    ]
    encoded: bytes = rlp.encode(fields[: FORKS[fork]])
    return encoded


def hash_of(header: bytes) -> bytes:
    """The hash of the block."""
    return keccak(header)


def of_node(block: Mapping[str, Any]) -> bytes:
    """The header of a block as a node gives it; fails if its hash is not the block's."""
    whole = [
        "difficulty",
        "number",
        "gasLimit",
        "gasUsed",
        "timestamp",
        "baseFeePerGas",
        "blobGasUsed",
        "excessBlobGas",
    ]
    names = [
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
        "baseFeePerGas",
        "withdrawalsRoot",
        "blobGasUsed",
        "excessBlobGas",
        "parentBeaconBlockRoot",
        "requestsHash",
    ]
    fields = [
        int(block[name], 16) if name in whole else bytes.fromhex(block[name][2:])
        for name in names
        if block.get(name) is not None
    ]
    header: bytes = rlp.encode(fields)
    assert "0x" + hash_of(header).hex() == block["hash"], "not the header of that block"
    return header


def history_slot(number: int) -> int:
    """Where the history contract keeps the hash of a block."""
    return number % HISTORY_REACH


# ---------------------------------------------------------------------- titanoboa


class _Ancestors:
    """What BLOCKHASH reads: hashes of the blocks before the present one, the newest first."""

    def __init__(self) -> None:
        self.known: dict[int, bytes] = {}

    def __iter__(self) -> Iterator[bytes]:
        present = block_number()
        for number in range(present - 1, max(present - 257, -1), -1):
            yield self.known.get(number, keccak(b"block %d" % number))


_ancestors = _Ancestors()


def block_number() -> int:
    """The number of the block in which calls land."""
    return int(boa.env.evm.patch.block_number)


def go_to_block(number: int) -> None:
    """Let calls land in block `number`; the time stays."""
    boa.env.evm.patch.block_number = number


def know(number: int, header: bytes) -> None:
    """Let BLOCKHASH of block `number` be the hash of this header."""
    boa.env.evm.patch.prev_hashes = _ancestors
    _ancestors.known[number] = hash_of(header)


def keep(number: int, header: bytes) -> None:
    """Let the history contract know the hash of block `number`."""
    boa.env.set_code(HISTORY, HISTORY_CODE)
    boa.env.set_storage(HISTORY, history_slot(number), int.from_bytes(hash_of(header), "big"))


@dataclass(frozen=True)
class Block:
    """A block that can be presented: its header, and that of its parent."""

    number: int
    timestamp: int
    prevrandao: bytes
    header: bytes
    parent: bytes

    @property
    def hash(self) -> bytes:
        return hash_of(self.header)


def block(
    number: int, timestamp: int, prevrandao: bytes, *, seconds: int = 1, fork: str = "prague"
) -> Block:
    """A block and its parent, `seconds` before it."""
    parent = build(number - 1, timestamp - seconds, keccak(prevrandao), fork=fork)
    header = build(number, timestamp, prevrandao, parent_hash=hash_of(parent), fork=fork)
    return Block(number, timestamp, prevrandao, header, parent)


def mine(prevrandao: bytes, *, seconds: int = 1) -> Block:
    """Make the present block one with this randomness, and go to the next one.

    Its timestamp is the present one; its parent is `seconds` older, the next block as much
    younger.
    """
    made = block(block_number(), int(boa.env.timestamp), prevrandao, seconds=seconds)
    know(made.number, made.header)
    go_to_block(made.number + 1)
    boa.env.timestamp = made.timestamp + seconds
    return made
