# SPDX-License-Identifier: Apache-2.0
"""What can go wrong between us and a node. The callers act on the class, never on the words.

- `Transport`: no usable answer (time-out, refused, 5xx, 429, malformed). Whether a transaction in
  the request got through is *unknown*.
- `BlockUnknown`: no endpoint knows the block asked for (a reorg, or nobody has it yet).
- `RpcError`: every endpoint that was asked said no.
- `Reverted`: a node ran the call and the call failed.
- `TxRefused`: a node found fault with the transaction itself; `fault` says which.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from teraproof.errors import TeraproofError
from teraproof.protocol.errors import Code


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
    """No usable answer; the outcome of the request is unknown. `reached` says whether an endpoint
    was there at all.
    """

    def __init__(self, message: str, *, reached: bool = True) -> None:
        super().__init__(message)
        self.reached = reached


class BudgetSpent(Transport):
    """Our budget of requests to an endpoint is used up; nothing is wrong with it."""


class Malformed(Transport):
    """An endpoint sent something that cannot be what was asked for."""


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


class TxFault(StrEnum):
    """What a node has against a transaction."""

    KNOWN = "known"  # it has these very bytes
    NONCE = "nonce"  # the nonce is used up, or has a gap before it
    REPLACEMENT = "replacement"  # it has another one with this nonce, for at least as much
    UNDERPRICED = "underpriced"  # the tip or the gas price is below the node's floor
    FEE_CAP = "fee_cap"  # the most that is offered is below the base fee
    FUNDS = "funds"  # the account cannot pay for it
    GAS = "gas"  # the gas limit is too low or too high
    TYPE = "type"  # the chain does not take this type of transaction


class TxRefused(RpcError):
    """A node found fault with the transaction. `least` is the price per gas in wei that it named as
    its floor, if it named one.
    """

    def __init__(self, error: RpcError, fault: TxFault, least: int | None = None) -> None:
        super().__init__(error.number, error.message, error.data)
        self.fault = fault
        self.least = least
