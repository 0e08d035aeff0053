# SPDX-License-Identifier: Apache-2.0
"""The contracts of a deployment as the scripts use them: any function, read or encoded by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eth_utils.address import to_checksum_address

from teraproof.market.reading import Abi
from teraproof.rpc.client import RpcPool
from teraproof.rpc.types import Block, Log

# What most providers of RPC endpoints allow in one request; the pool halves it when it is not.
LOG_CHUNK = 5_000


class Contract:
    """An address with an ABI."""

    def __init__(self, pool: RpcPool, address: str, abi: Abi) -> None:
        self.pool = pool
        self.address = str(to_checksum_address(address))
        self.abi = abi

    def read(self, name: str, *arguments: object, block: Block = "latest") -> Any:
        """What a view returns; a tuple when it returns several values.

        Raises Reverted with the contract's reason, ChainError when it is another contract.
        """
        data = self.pool.eth_call(self.address, self.abi.encode(name, *arguments), block)
        values = self.abi.decode_output(name, len(arguments), data)
        return values[0] if len(values) == 1 else values

    def encode(self, name: str, *arguments: object) -> bytes:
        """Calldata."""
        return self.abi.encode(name, *arguments)

    def logs(self, names: Sequence[str], first: int, topics: Sequence[object] = ()) -> list[Log]:
        """Logs of these events from block `first` on; `topics` filter the indexed arguments."""
        wanted: list[object] = [["0x" + topic.hex() for topic in self.abi.topics(names)]]
        found: list[Log] = []
        head = self.pool.head().number
        while first <= head:
            last = min(first + LOG_CHUNK - 1, head)
            found += self.pool.logs([self.address], first, last, [*wanted, *topics])
            first = last + 1
        return found


def address_topic(address: str) -> str:
    """An address as an indexed argument."""
    return "0x" + bytes(12).hex() + address.removeprefix("0x").lower()


def word_topic(word: bytes) -> str:
    """A bytes32 as an indexed argument."""
    return "0x" + word.hex()
