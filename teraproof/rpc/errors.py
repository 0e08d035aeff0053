# SPDX-License-Identifier: Apache-2.0
"""What can go wrong between us and a node, and what a node's words mean. Nothing outside this
package reads them.
"""

from __future__ import annotations

from typing import ClassVar

from eth_abi.abi import decode as abi_decode
from eth_abi.exceptions import DecodingError

from teraproof.errors import TeraproofError
from teraproof.protocol.errors import Code

_ERROR_STRING = bytes.fromhex("08c379a0")  # Error(string)
_PANIC = bytes.fromhex("4e487b71")  # Panic(uint256)


class ChainError(TeraproofError):
    """No RPC endpoint answers, or one answers for another chain."""

    default: ClassVar[Code] = Code.CHAIN_UNAVAILABLE


class Reverted(ChainError):
    """A contract refused a call or a transaction; `reason` is its revert string."""

    default: ClassVar[Code] = Code.CONTRACT_REFUSED

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Transport(ChainError):
    """No usable answer; the outcome of the request is unknown."""


class BlockUnknown(ChainError):
    """No endpoint knows the block that was asked for."""

    default: ClassVar[Code] = Code.BLOCK_UNKNOWN


class RpcError(ChainError):
    """A node refused the request: JSON-RPC `number`, its `message`, and `data` if it sent any."""

    default: ClassVar[Code] = Code.RPC_REFUSED

    def __init__(self, number: int, message: str, data: object = None) -> None:
        super().__init__(f"the RPC endpoint refused the request: {message} (code {number})")
        self.number = number
        self.message = message
        self.data = data


_NO_GAS_MONEY = ("insufficient funds", "gas required exceeds allowance")


def no_gas_money(error: ChainError) -> bool:
    """Whether a node refuses a transaction because its sender cannot pay for the gas."""
    return isinstance(error, RpcError) and any(
        part in error.message.lower() for part in _NO_GAS_MONEY
    )


RUNS_CODE = ("eth_call", "eth_estimateGas")
RATE_LIMITED = ("rate limit", "too many requests", "request limit", "exceeded the quota")
UNKNOWN_BLOCK = (
    "header not found",
    "block not found",
    "blocknotfound",
    "blockoutofrange",
    "unknown block",
    "not currently canonical",
    "missing trie node",
    "hash not found",
    "could not find block",
    "block could not be found",
    "resource not found",
)
_RANGE_TOO_LARGE = (
    "range",
    "more than",
    "too large",
    "too many",
    "limit",
    "response size",
    "timeout",
    "timed out",
)
_KNOWN = ("already known", "known transaction", "already imported", "alreadyknown")


def already_known(error: RpcError) -> bool:
    """Whether a node says that it has these very bytes already."""
    return any(part in error.message.lower() for part in _KNOWN)


def range_too_large(error: RpcError) -> bool:
    """Whether a node finds a range of blocks too large."""
    return error.number == -32005 or any(part in error.message.lower() for part in _RANGE_TOO_LARGE)


def as_revert(error: RpcError) -> Reverted | None:
    """The contract's refusal in a node's error, or None when the error is about something else."""
    if error.number != 3 and "revert" not in error.message.lower():
        return None
    data = error.data
    if isinstance(data, dict):
        data = data.get("data") or data.get("result")
    if isinstance(data, str) and data.startswith("0x"):
        try:
            return Reverted(revert_reason(bytes.fromhex(data[2:])))
        except ValueError:
            pass
    text = error.message
    for prefix in ("execution reverted", "VM Exception while processing transaction: revert"):
        text = text.removeprefix(prefix)
    return Reverted(text.strip(" :,") or "no reason given")


def revert_reason(data: bytes) -> str:
    """The reason in what a failed call returned: Error(string), Panic(uint256), or the bytes."""
    try:
        if data[:4] == _ERROR_STRING:
            return one_line(abi_decode(["string"], data[4:])[0])
        if data[:4] == _PANIC:
            return f"panic 0x{abi_decode(['uint256'], data[4:])[0]:02x}"
    except (DecodingError, UnicodeDecodeError, OverflowError):
        return f"unreadable reason 0x{data[:36].hex()}"
    return f"0x{data[:36].hex()}" if data else "no reason given"


def one_line(text: object) -> str:
    """A stranger's text in one short line."""
    return " ".join(str(text).split())[:300]
