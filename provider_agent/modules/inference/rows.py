# SPDX-License-Identifier: Apache-2.0
"""The rows of the channel book."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Self

from eth_abi.abi import decode, encode

from teraproof.protocol.channels import ChannelConfig, DepositAuthorization
from teraproof.protocol.inference import SignedReceipt
from teraproof.protocol.payments import Deposit
from teraproof.protocol.x402 import ChannelState, SignedVoucher


class Asked(StrEnum):
    """How a deposit or a refund stands that a payer has asked for."""

    NEW = "new"
    """Nothing was sent for it."""
    SENT = "sent"
    """An intent is there for it."""
    DONE = "done"
    """It is in a confirmed block, and the channel's row says so."""
    REFUSED = "refused"
    """It was given up; `reason` is an error word of x402, or `UNPAID`."""
    HELD = "held"
    """A deposit whose gas is not paid now. It may be asked for again."""


#: The reason of a refund whose channel has brought less than the gas that was spent on it.
UNPAID = "unpaid"


@dataclass(frozen=True, slots=True)
class ChannelRow:
    """A channel. See the table for what the columns mean."""

    channel: bytes
    config: ChannelConfig
    balance: int
    total_claimed: int
    withdraw_requested_at: int
    refund_nonce: int
    seen_block: int
    voucher: int
    signature: bytes
    charged: int
    number: int
    is_open: bool
    reserved: int
    opened_charged: int
    opened_at: int | None
    receipt_text: str | None
    """The last receipt, as JSON."""

    @property
    def receipt(self) -> SignedReceipt | None:
        """The last receipt."""
        text = self.receipt_text
        return None if text is None else SignedReceipt.from_json(json.loads(text))

    @property
    def name(self) -> str:
        """What intents call it."""
        return self.channel.hex()

    @property
    def unclaimed(self) -> int:
        """What was served and is not claimed yet."""
        return max(0, self.charged - self.total_claimed)

    @property
    def at_risk(self) -> int:
        """The same with what is being served, as far as it is in the channel."""
        return max(0, min(self.charged + self.reserved, self.balance) - self.total_claimed)

    @property
    def state(self) -> ChannelState:
        """As the payer is shown it."""
        return ChannelState(
            self.channel,
            self.balance,
            self.total_claimed,
            self.withdraw_requested_at,
            self.refund_nonce,
            self.charged,
        )

    @property
    def signed(self) -> SignedVoucher | None:
        """The highest voucher; None before the first."""
        if not self.signature:
            return None
        return SignedVoucher(self.channel, self.voucher, self.signature)

    @classmethod
    def read(cls, row: sqlite3.Row) -> Self:
        """From a row of the table."""
        return cls(
            channel=row["channel"],
            config=config_of(row["config"]),
            balance=int(row["balance"]),
            total_claimed=int(row["total_claimed"]),
            withdraw_requested_at=row["withdraw_requested_at"],
            refund_nonce=int(row["refund_nonce"]),
            seen_block=row["seen_block"],
            voucher=int(row["voucher"]),
            signature=row["signature"],
            charged=int(row["charged"]),
            number=row["number"],
            is_open=bool(row["open"]),
            reserved=int(row["reserved"]),
            opened_charged=int(row["opened_charged"]),
            opened_at=row["opened_at"],
            receipt_text=row["receipt"],
        )


@dataclass(frozen=True, slots=True)
class DepositRow:
    """A deposit that a payer has signed."""

    nonce: bytes
    channel: bytes
    config: ChannelConfig
    deposit: Deposit
    state: Asked
    reason: str
    tx_hash: bytes
    created_at: int

    @property
    def name(self) -> str:
        """What intents call it."""
        return self.nonce.hex()

    @classmethod
    def read(cls, row: sqlite3.Row) -> Self:
        """From a row of the table."""
        said = DepositAuthorization(
            int(row["valid_after"]), int(row["valid_before"]), int.from_bytes(row["salt"], "big")
        )
        return cls(
            nonce=row["nonce"],
            channel=row["channel"],
            config=config_of(row["config"]),
            deposit=Deposit(int(row["amount"]), said, row["signature"]),
            state=Asked(row["state"]),
            reason=row["reason"],
            tx_hash=row["tx_hash"],
            created_at=row["created_at"],
        )


@dataclass(frozen=True, slots=True)
class RefundRow:
    """A refund that a payer has asked for."""

    channel: bytes
    amount: int
    state: Asked
    reason: str
    tx_hash: bytes
    created_at: int

    @classmethod
    def read(cls, row: sqlite3.Row) -> Self:
        """From a row of the table."""
        return cls(
            channel=row["channel"],
            amount=int(row["amount"]),
            state=Asked(row["state"]),
            reason=row["reason"],
            tx_hash=row["tx_hash"],
            created_at=row["created_at"],
        )


def packed(config: ChannelConfig) -> bytes:
    """A configuration as the tables keep it."""
    return bytes(encode([ChannelConfig.ABI], [config.abi_tuple()]))


@lru_cache(maxsize=4_096)
def config_of(data: bytes) -> ChannelConfig:
    """The inverse."""
    return ChannelConfig(*decode([ChannelConfig.ABI], data)[0])
