# SPDX-License-Identifier: Apache-2.0
"""Payment channels: who they join, and what is signed about them.

A channel is the scheme `batch-settlement` of x402, version 2: a payer puts a deposit into a
contract, signs vouchers with a growing sum, and the receiver claims the sum of the last one. The
contract stands at one address on every chain, and a channel's id is the EIP-712 digest of its
configuration under that contract's domain. This module has no state and asks no node. What it
makes equals what the SDK of x402 makes (`x402` 2.25.0 on PyPI, `mechanisms/evm/batch_settlement`).

Amounts are units of the channel's token, times are unix seconds, delays are seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from teraproof.errors import LocalError
from teraproof.protocol import signatures
from teraproof.protocol.errors import Code
from teraproof.protocol.messages import (
    Domain,
    Fields,
    Hashed,
    Struct,
    check_members,
    digest,
    recover,
)
from teraproof.protocol.terms import ZERO_ADDRESS, uint, word

#: Where the contract of channels stands on every chain.
CHANNELS = "0x4020074e9dF2ce1deE5A9C1b5c3f541D02a10003"
#: Where the collector stands that takes deposits by EIP-3009.
COLLECTOR = "0x4020806089470a89826cB9fB1f4059150b550004"
NAME = "x402 Batch Settlement"
VERSION = "1"

#: Bounds of `withdrawDelay`, both included: 15 minutes and 30 days.
MIN_WITHDRAW_DELAY = 900
MAX_WITHDRAW_DELAY = 2_592_000

_ENTRY = "ClaimEntry(bytes32 channelId,uint128 maxClaimableAmount,uint128 totalClaimed)"
_ENTRY_HASH = bytes(keccak(text=_ENTRY))
_BATCH_HASH = bytes(keccak(text=f"ClaimBatch(ClaimEntry[] claims){_ENTRY}"))


def channels_domain(chain_id: int, contract: str = CHANNELS) -> Domain:
    """The domain of channels, vouchers, refunds and batches of claims on a chain."""
    return Domain(chain_id, contract, NAME, VERSION)


@dataclass(frozen=True)
class ChannelConfig(Struct):
    """What a channel is, and the whole of it: nothing of this changes while it lives.

    `payer_authorizer` signs the vouchers; zero means that the payer does, as a contract (ERC-1271).
    `receiver_authorizer` claims and refunds for the receiver. `salt` tells channels of the same
    parties apart.
    """

    TYPE: ClassVar[str] = "ChannelConfig"
    FIELDS: ClassVar[Fields] = (
        ("payer", "address"),
        ("payerAuthorizer", "address"),
        ("receiver", "address"),
        ("receiverAuthorizer", "address"),
        ("token", "address"),
        ("withdrawDelay", "uint40"),
        ("salt", "bytes32"),
    )
    ABI: ClassVar[str] = "(address,address,address,address,address,uint40,bytes32)"

    payer: str
    payer_authorizer: str
    receiver: str
    receiver_authorizer: str
    token: str
    withdraw_delay: int
    salt: bytes

    def abi_tuple(self) -> tuple[Any, ...]:
        """The seven values in the contract's order, for an ABI encoder."""
        return tuple(self.values().values())

    @classmethod
    def from_abi(cls, value: Sequence[Any]) -> ChannelConfig:
        """From the decoded ABI value of a log."""
        return cls(*value)

    def check(self) -> None:
        """LocalError when the contract takes no deposit for such a channel, with the reason."""
        for name in ("payer", "receiver", "receiver_authorizer", "token"):
            if getattr(self, name) == ZERO_ADDRESS:
                raise LocalError(f"channel: {name} is the zero address", Code.INPUT_INVALID)
        if not MIN_WITHDRAW_DELAY <= self.withdraw_delay <= MAX_WITHDRAW_DELAY:
            raise LocalError(
                f"channel: withdraw_delay is {self.withdraw_delay} s; "
                f"choose {MIN_WITHDRAW_DELAY} to {MAX_WITHDRAW_DELAY} s",
                Code.INPUT_INVALID,
            )


def channel_id(chain_id: int, config: ChannelConfig, contract: str = CHANNELS) -> bytes:
    """The channel's id, 32 bytes: what the contract's `getChannelId(config)` says."""
    return digest(channels_domain(chain_id, contract), config)


@dataclass(frozen=True)
class Voucher(Struct):
    """The payer's word: at most this sum of the channel's deposit is the receiver's.

    The sum grows from voucher to voucher, so the last one is worth all of them.
    """

    TYPE: ClassVar[str] = "Voucher"
    FIELDS: ClassVar[Fields] = (("channelId", "bytes32"), ("maxClaimableAmount", "uint128"))

    channel_id: bytes
    max_claimable_amount: int


@dataclass(frozen=True)
class Refund(Struct):
    """The receiver authorizer's word: this much of what is unclaimed goes back to the payer.

    `nonce` is the contract's `refundNonce(channelId)`, so that each word is used once.
    """

    TYPE: ClassVar[str] = "Refund"
    FIELDS: ClassVar[Fields] = (
        ("channelId", "bytes32"),
        ("nonce", "uint256"),
        ("amount", "uint128"),
    )

    channel_id: bytes
    nonce: int
    amount: int


@dataclass(frozen=True)
class VoucherClaim:
    """One row of a claim: a voucher with its signature, and the sum that is taken by it."""

    config: ChannelConfig
    max_claimable_amount: int
    signature: bytes
    total_claimed: int
    """The sum of all claims of the channel after this one; at most the voucher's."""

    ABI: ClassVar[str] = f"(({ChannelConfig.ABI},uint128),bytes,uint128)"

    def __post_init__(self) -> None:
        uint("claim.max_claimable_amount", self.max_claimable_amount, 128)
        uint("claim.total_claimed", self.total_claimed, 128)

    def abi_tuple(self) -> tuple[Any, ...]:
        """The row in the contract's order, for an ABI encoder."""
        voucher = (self.config.abi_tuple(), self.max_claimable_amount)
        return voucher, self.signature, self.total_claimed


@dataclass(frozen=True)
class ClaimEntry:
    """What a receiver authorizer signs of one row."""

    channel_id: bytes
    max_claimable_amount: int
    total_claimed: int

    def __post_init__(self) -> None:
        word("claim.channel_id", self.channel_id)
        uint("claim.max_claimable_amount", self.max_claimable_amount, 128)
        uint("claim.total_claimed", self.total_claimed, 128)

    def struct_hash(self) -> bytes:
        """The EIP-712 `hashStruct`, 32 bytes."""
        kinds = ["bytes32", "bytes32", "uint128", "uint128"]
        values = [_ENTRY_HASH, self.channel_id, self.max_claimable_amount, self.total_claimed]
        return bytes(keccak(encode(kinds, values)))


@dataclass(frozen=True)
class ClaimBatch:
    """The receiver authorizer's word over all rows of a claim; for `claimWithSignature`."""

    claims: tuple[ClaimEntry, ...]

    def struct_hash(self) -> bytes:
        """The EIP-712 `hashStruct`, 32 bytes."""
        rows = b"".join(entry.struct_hash() for entry in self.claims)
        return bytes(keccak(_BATCH_HASH + keccak(rows)))


def claim_batch(
    chain_id: int, rows: Sequence[VoucherClaim], contract: str = CHANNELS
) -> ClaimBatch:
    """What a receiver authorizer signs for these rows, in their order."""
    return ClaimBatch(
        tuple(
            ClaimEntry(
                channel_id(chain_id, row.config, contract),
                row.max_claimable_amount,
                row.total_claimed,
            )
            for row in rows
        )
    )


@dataclass(frozen=True)
class ReceiveWithAuthorization(Struct):
    """The holder's word that `to` may fetch tokens (EIP-3009), under the token's own domain.

    It counts after `valid_after` and before `valid_before`. `nonce` is used once.
    """

    TYPE: ClassVar[str] = "ReceiveWithAuthorization"
    FIELDS: ClassVar[Fields] = (
        ("from", "address"),
        ("to", "address"),
        ("value", "uint256"),
        ("validAfter", "uint256"),
        ("validBefore", "uint256"),
        ("nonce", "bytes32"),
    )

    from_: str
    to: str
    value: int
    valid_after: int
    valid_before: int
    nonce: bytes


check_members(ChannelConfig, Voucher, Refund, ReceiveWithAuthorization)


@dataclass(frozen=True)
class DepositAuthorization:
    """What a payer sends with its signature for a deposit by EIP-3009."""

    valid_after: int
    valid_before: int
    salt: int
    """Free choice of the payer; each pair of channel and salt is used once."""

    def __post_init__(self) -> None:
        for name in ("valid_after", "valid_before", "salt"):
            uint(f"deposit.{name}", getattr(self, name), 256)

    def message(
        self, channel: bytes, payer: str, amount: int, collector: str = COLLECTOR
    ) -> ReceiveWithAuthorization:
        """What the payer signs, under `Domain(chain id, token, token's name, token's version)`."""
        return ReceiveWithAuthorization(
            from_=payer,
            to=collector,
            value=amount,
            valid_after=self.valid_after,
            valid_before=self.valid_before,
            nonce=deposit_nonce(channel, self.salt),
        )

    def collector_data(self, signature: bytes) -> bytes:
        """What the contract hands to the collector: the last argument of `deposit`."""
        kinds = ["uint256", "uint256", "uint256", "bytes"]
        return bytes(encode(kinds, [self.valid_after, self.valid_before, self.salt, signature]))


def deposit_nonce(channel: bytes, salt: int) -> bytes:
    """The nonce of a deposit's authorization: it binds the tokens to this channel."""
    return bytes(
        keccak(
            word("deposit.channel", channel) + uint("deposit.salt", salt, 256).to_bytes(32, "big")
        )
    )


def admitted(domain: Domain, message: Hashed, signature: str) -> tuple[str, bytes]:
    """Who signed the message, and the signature as the contract takes it.

    `signature` is hex digits as wallets write them: 65 bytes with v 0, 1, 27 or 28, or 64 bytes
    (EIP-2098). LocalError for any other, and for an s in the upper half.
    """
    found = signatures.normalised(signatures.read(signature))
    return recover(domain, message, found), found
