# SPDX-License-Identifier: Apache-2.0
"""Headers built again from what nodes say of a block, and the values that follow from them."""

from __future__ import annotations

from typing import Any

import pytest
import rlp
from eth_utils.crypto import keccak

from teraproof import headers
from teraproof.headers import Source, rebuild
from teraproof.rpc.errors import ChainError

# Put together field by field, for each fork; real ones are read in tests/agent_proofs.
BASE: dict[str, str] = {
    "parentHash": "0x" + "11" * 32,
    "sha3Uncles": "0x1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347",
    "miner": "0x" + "22" * 20,
    "stateRoot": "0x" + "33" * 32,
    "transactionsRoot": "0x" + "44" * 32,
    "receiptsRoot": "0x" + "55" * 32,
    "logsBloom": "0x" + "66" * 256,
    "difficulty": "0x0",
    "number": "0x14ab3c1",
    "gasLimit": "0x2255100",
    "gasUsed": "0x7f",
    "timestamp": "0x6790e5a7",
    "extraData": "0x4e65746865726d696e64",
    "mixHash": "0x" + "77" * 32,
    "nonce": "0x0000000000000000",
}
LONDON = {"baseFeePerGas": "0x80"}
SHANGHAI = LONDON | {"withdrawalsRoot": "0x" + "88" * 32}
CANCUN = SHANGHAI | {
    "blobGasUsed": "0x0",
    "excessBlobGas": "0x4b80000",
    "parentBeaconBlockRoot": "0x" + "99" * 32,
}
PRAGUE = CANCUN | {"requestsHash": "0x" + "aa" * 32}
ARBITRUM = LONDON | {
    "l1BlockNumber": "0x14ab3c1",
    "sendCount": "0x2c3d5",
    "sendRoot": "0x" + "bb" * 32,
    "withdrawalsRoot": None,
}
NUMBERS = {"difficulty", "number", "gasLimit", "gasUsed", "timestamp"} | {
    "baseFeePerGas",
    "blobGasUsed",
    "excessBlobGas",
}
ORDER = [*BASE, *PRAGUE]
NOT_IN_HEADERS = {"size": "0x267", "uncles": [], "transactions": [], "totalDifficulty": "0x0"}


def block(fork: dict[str, Any], **changes: str) -> dict[str, Any]:
    """A node's answer, its hash made by another implementation of RLP."""
    fields: dict[str, Any] = {**BASE, **fork, **changes}
    items = []
    for name in ORDER:
        value = fields.get(name)
        if value is None:
            continue
        items.append(int(value, 16) if name in NUMBERS else bytes.fromhex(value[2:]))
    digest = keccak(rlp.encode(items))
    return {**fields, **NOT_IN_HEADERS, "hash": "0x" + digest.hex()}


@pytest.mark.parametrize("fork", [{}, LONDON, SHANGHAI, CANCUN, PRAGUE, ARBITRUM])
def test_rebuild__every_fork(fork: dict[str, Any]) -> None:
    raw = block(fork)
    header = rebuild(raw)
    assert bytes(keccak(header.data)).hex() == raw["hash"][2:]
    assert (header.number, header.timestamp) == (0x14AB3C1, 0x6790E5A7)
    assert header.parent == b"\x11" * 32 and header.mix == b"\x77" * 32


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("number", "0x0"),
        ("number", "0x7f"),
        ("number", "0x80"),
        ("number", "0xffff"),
        ("baseFeePerGas", "0x" + "ff" * 31),
        ("extraData", "0x"),
        ("extraData", "0x05"),
        ("extraData", "0x" + "d8" * 32),
        ("extraData", "0x" + "d8" * 97),  # longer than on Ethereum
    ],
)
def test_rebuild__lengths(name: str, value: str) -> None:
    raw = block(PRAGUE, **{name: value})
    assert bytes(keccak(rebuild(raw).data)).hex() == raw["hash"][2:]


@pytest.mark.parametrize("name", [*BASE, *PRAGUE])
def test_rebuild__a_field_that_is_another__is_refused(name: str) -> None:
    raw = block(PRAGUE)
    text = raw[name]
    raw[name] = text[:-1] + ("1" if text[-1] != "1" else "2")
    with pytest.raises(ChainError, match="cannot be rebuilt"):
        rebuild(raw)


@pytest.mark.parametrize("value", [None, 5, "12", "0xzz"])
def test_rebuild__not_a_header__is_refused(value: object) -> None:
    with pytest.raises(ChainError, match="without a whole header"):
        rebuild({**block(PRAGUE), "timestamp": value})
    raw = block(PRAGUE)
    del raw["mixHash"]
    with pytest.raises(ChainError, match="without a whole header"):
        rebuild(raw)


def test_rebuild__longer_than_the_contract_takes__is_refused() -> None:
    with pytest.raises(ChainError, match="longer than"):
        rebuild(block(PRAGUE, extraData="0x" + "01" * 500))


def test_value__by_source() -> None:
    header = rebuild(block(PRAGUE))
    assert header.value(Source.PREVRANDAO) == header.mix
    assert header.value(Source.BLOCK_HASH) == header.value(Source.ARBITRUM) == header.hash
    without = rebuild(block(PRAGUE, mixHash="0x" + "00" * 32))
    assert without.value(Source.BLOCK_HASH) == without.hash
    with pytest.raises(ChainError, match="no prevrandao"):
        without.value(Source.PREVRANDAO)


def test_purposes__are_tagged() -> None:
    value = b"\x05" * 32
    assert headers.beacon(value) == keccak(b"beacon" + value)
    assert headers.draw(value) == keccak(b"draw" + value)
    assert headers.lottery(value) == int.from_bytes(keccak(b"lottery" + value)) % 10**6
