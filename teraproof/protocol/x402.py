# SPDX-License-Identifier: Apache-2.0
"""x402, version 2, as it travels over HTTP for the scheme `batch-settlement`.

A server that wants to be paid answers 402 with `PAYMENT-REQUIRED`. The client sends the request
again with `PAYMENT-SIGNATURE`, and the answer to that carries `PAYMENT-RESPONSE`. All three are
JSON in base64. What is written here is what the SDK of x402 reads, and the other way round (`x402`
2.25.0 on PyPI, `http` and `mechanisms/evm/batch_settlement`).

Amounts are units of the token, and decimal text on the wire. Times are unix seconds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from teraproof.errors import LocalError
from teraproof.protocol.errors import Code
from teraproof.protocol.json_fields import (
    amount_of,
    from_base64,
    object_of,
    signature_of,
    text_of,
    to_base64,
    word_of,
)
from teraproof.protocol.terms import address

VERSION = 2
SCHEME = "batch-settlement"
EIP3009 = "eip3009"

REQUIRED_HEADER = "PAYMENT-REQUIRED"
SIGNATURE_HEADER = "PAYMENT-SIGNATURE"
RESPONSE_HEADER = "PAYMENT-RESPONSE"
#: Bytes of one of these headers that are read at the most.
MOST_BYTES = 12 << 10

_NETWORK = re.compile(r"eip155:([1-9][0-9]{0,18})")


class Fault(StrEnum):
    """Why a payment is refused, in the words of the SDK; clients decide by them."""

    _value_: str

    def __new__(cls, word: str) -> Fault:
        """The words share a beginning."""
        text = f"invalid_batch_settlement_evm_{word}"
        made = str.__new__(cls, text)
        made._value_ = text
        return made

    SCHEME = "scheme"
    NETWORK_MISMATCH = "network_mismatch"
    PAYLOAD_TYPE = "payload_type"
    CHANNEL_NOT_FOUND = "channel_not_found"
    CHANNEL_ID_INVALID = "channel_id_invalid"
    CHANNEL_ID_MISMATCH = "channel_id_mismatch"
    RECEIVER_MISMATCH = "receiver_mismatch"
    RECEIVER_AUTHORIZER_MISMATCH = "receiver_authorizer_mismatch"
    AUTHORIZER_MISMATCH = "authorizer_address_mismatch"
    TOKEN_MISMATCH = "token_mismatch"  # noqa: S105 - no secret
    WITHDRAW_DELAY_MISMATCH = "withdraw_delay_mismatch"
    WITHDRAW_DELAY_OUT_OF_RANGE = "withdraw_delay_out_of_range"
    VOUCHER_PAYLOAD = "voucher_payload"
    VOUCHER_SIGNATURE = "voucher_signature"
    EXCEEDS_BALANCE = "cumulative_exceeds_balance"
    BELOW_CLAIMED = "cumulative_below_claimed"
    AMOUNT_MISMATCH = "cumulative_amount_mismatch"
    CHANNEL_BUSY = "channel_busy"
    DEPOSIT_PAYLOAD = "deposit_payload"
    DEPOSIT_BELOW_MIN = "deposit_below_min_deposit"
    DEPOSIT_SIMULATION = "deposit_simulation_failed"
    DEPOSIT_TRANSACTION = "deposit_transaction_failed"
    INSUFFICIENT_BALANCE = "insufficient_balance"
    AUTHORIZATION_EARLY = "payload_authorization_valid_after"
    AUTHORIZATION_LATE = "payload_authorization_valid_before"
    AUTHORIZATION_SIGNATURE = "receive_authorization_signature"
    EIP3009_REQUIRED = "erc3009_authorization_required"
    REFUND_PAYLOAD = "refund_payload"
    REFUND_AMOUNT = "refund_amount_invalid"
    REFUND_NO_BALANCE = "refund_no_balance"
    REFUND_TRANSACTION = "refund_transaction_failed"
    STATE_UNAVAILABLE = "verification_state_unavailable"


class PaymentUnfit(LocalError):
    """A payment that cannot be taken; `fault` says why in the words of the SDK."""

    def __init__(self, fault: Fault, line: str) -> None:
        super().__init__(line, Code.PAYMENT_UNFIT, fault=fault.value)
        self.fault = fault


def network(chain_id: int) -> str:
    """The name of a chain (CAIP-2)."""
    return f"eip155:{chain_id}"


def chain_of(name: str) -> int:
    """The number of the chain with this name. LocalError when it is not an EVM chain."""
    found = _NETWORK.fullmatch(name)
    if found is None:
        raise LocalError(f"network: {name!a} is not the name of an EVM chain", Code.INPUT_INVALID)
    return int(found[1])


# ---------------------------------------------------------------------- what a channel stands at


@dataclass(frozen=True)
class ChannelState:
    """A channel as the server sees it."""

    channel: bytes
    balance: int
    """What was deposited and not refunded, claimed parts included."""
    total_claimed: int
    withdraw_requested_at: int = 0
    refund_nonce: int = 0
    charged: int | None = None
    """The sum of all that was charged for requests."""

    def to_json(self) -> dict[str, Any]:
        """As it stands in `channelState`."""
        found: dict[str, Any] = {
            "channelId": f"0x{self.channel.hex()}",
            "balance": str(self.balance),
            "totalClaimed": str(self.total_claimed),
            "withdrawRequestedAt": self.withdraw_requested_at,
            "refundNonce": str(self.refund_nonce),
        }
        if self.charged is not None:
            found["chargedCumulativeAmount"] = str(self.charged)
        return found

    @classmethod
    def from_json(cls, value: object) -> Self:
        """The inverse. LocalError for anything else."""
        found = object_of(value, "channelState")
        charged = found.get("chargedCumulativeAmount")
        return cls(
            channel=word_of(found, "channelId"),
            balance=amount_of(found, "balance"),
            total_claimed=amount_of(found, "totalClaimed"),
            withdraw_requested_at=amount_of(found, "withdrawRequestedAt", 0),
            refund_nonce=amount_of(found, "refundNonce", 0),
            charged=None if charged is None else amount_of(found, "chargedCumulativeAmount"),
        )


@dataclass(frozen=True)
class SignedVoucher:
    """A voucher with its signature, in the contract's form where it comes from `from_json`."""

    channel: bytes
    amount: int
    """The sum of the channel that it makes claimable."""
    signature: bytes

    def to_json(self) -> dict[str, Any]:
        """As it stands in a payload."""
        return {
            "channelId": f"0x{self.channel.hex()}",
            "maxClaimableAmount": str(self.amount),
            "signature": f"0x{self.signature.hex()}",
        }

    @classmethod
    def from_json(cls, value: object) -> Self:
        """The inverse. LocalError for anything else."""
        found = object_of(value, "voucher")
        return cls(
            channel=word_of(found, "channelId"),
            amount=amount_of(found, "maxClaimableAmount", bits=128),
            signature=signature_of(found),
        )


# ---------------------------------------------------------------------- 402


@dataclass(frozen=True)
class Terms:
    """What a server wants for one request (`PaymentRequirements`).

    `amount` is the most that the request can cost. `name` and `version` are those of the token's
    EIP-712 domain. `state` and `voucher` are there when they put a client right.
    """

    network: str
    asset: str
    amount: int
    pay_to: str
    max_timeout_seconds: int
    receiver_authorizer: str
    withdraw_delay: int
    name: str
    version: str
    min_deposit: int | None = None
    state: ChannelState | None = None
    voucher: SignedVoucher | None = None
    min_step: int | None = None
    """The least `Teraproof-Step`, in tokens; ours, and nothing of x402's."""

    def to_json(self) -> dict[str, Any]:
        """An entry of `accepts`, or `accepted` of a payment."""
        extra: dict[str, Any] = {
            "receiverAuthorizer": self.receiver_authorizer,
            "withdrawDelay": self.withdraw_delay,
            "name": self.name,
            "version": self.version,
            "assetTransferMethod": EIP3009,
        }
        if self.min_deposit is not None:
            extra["minDeposit"] = str(self.min_deposit)
        if self.min_step is not None:
            extra["minStep"] = self.min_step
        if self.state is not None:
            extra["channelState"] = self.state.to_json()
        if self.voucher is not None:
            extra["voucherState"] = {
                "signedMaxClaimable": str(self.voucher.amount),
                "signature": f"0x{self.voucher.signature.hex()}",
            }
        return {
            "scheme": SCHEME,
            "network": self.network,
            "asset": self.asset,
            "amount": str(self.amount),
            "payTo": self.pay_to,
            "maxTimeoutSeconds": self.max_timeout_seconds,
            "extra": extra,
        }

    @classmethod
    def from_json(cls, value: object) -> Self:
        """The inverse. LocalError for another scheme, another way of deposit, or a wrong form."""
        found = object_of(value, "accepts")
        if found.get("scheme") != SCHEME:
            raise LocalError(f"payment: the scheme is not {SCHEME}", Code.INPUT_INVALID)
        extra = object_of(found.get("extra"), "extra")
        if extra.get("assetTransferMethod", EIP3009) != EIP3009:
            raise LocalError(f"payment: deposits are not by {EIP3009}", Code.INPUT_INVALID)
        state = extra.get("channelState")
        held = None if state is None else ChannelState.from_json(state)
        signed = extra.get("voucherState")
        voucher = None
        if held is not None and signed is not None:
            written = object_of(signed, "voucherState")
            voucher = SignedVoucher(
                held.channel, amount_of(written, "signedMaxClaimable"), signature_of(written)
            )
        least, step = extra.get("minDeposit"), extra.get("minStep")
        return cls(
            network=network(chain_of(text_of(found, "network"))),
            asset=address("asset", found.get("asset")),
            amount=amount_of(found, "amount", bits=128),
            pay_to=address("payTo", found.get("payTo")),
            max_timeout_seconds=amount_of(found, "maxTimeoutSeconds"),
            receiver_authorizer=address("receiverAuthorizer", extra.get("receiverAuthorizer")),
            withdraw_delay=amount_of(extra, "withdrawDelay"),
            name=text_of(extra, "name"),
            version=text_of(extra, "version"),
            min_deposit=None if least is None else amount_of(extra, "minDeposit"),
            state=held,
            voucher=voucher,
            min_step=None if step is None else amount_of(extra, "minStep"),
        )


@dataclass(frozen=True)
class Required:
    """The answer 402. `error` is a `Fault`, or a line for people when nothing was paid yet."""

    accepts: tuple[Terms, ...]
    url: str
    description: str = ""
    error: str = "payment required"

    def to_json(self) -> dict[str, Any]:
        """The document of the header."""
        resource: dict[str, Any] = {"url": self.url, "mimeType": "application/json"}
        if self.description:
            resource["description"] = self.description
        return {
            "x402Version": VERSION,
            "error": self.error,
            "resource": resource,
            "accepts": [terms.to_json() for terms in self.accepts],
        }

    def encode(self) -> str:
        """The value of `PAYMENT-REQUIRED`."""
        return to_base64(self.to_json())

    @classmethod
    def decode(cls, value: str) -> Self:
        """The inverse; terms of other schemes are left out. LocalError for a wrong form."""
        found = from_base64(value, REQUIRED_HEADER, MOST_BYTES)
        accepts = found.get("accepts")
        if not isinstance(accepts, list):
            raise LocalError(f"{REQUIRED_HEADER}: `accepts` is not a list", Code.INPUT_INVALID)
        resource = found.get("resource")
        named = resource if isinstance(resource, dict) else {}
        error = found.get("error")
        return cls(
            accepts=tuple(
                Terms.from_json(one)
                for one in accepts
                if isinstance(one, dict) and one.get("scheme") == SCHEME
            ),
            url=str(named.get("url", "")),
            description=str(named.get("description", "")),
            error=error if isinstance(error, str) else "",
        )


# ---------------------------------------------------------------------- the answer to a payment


@dataclass(frozen=True)
class Settlement:
    """What became of a payment (`PAYMENT-RESPONSE`).

    `charged` is what moves the client's own count of the channel, `state.charged` where the count
    stands after it. `transaction` is the hash of a deposit's or a refund's, else empty.
    """

    success: bool
    network: str
    payer: str = ""
    transaction: str = ""
    charged: int | None = None
    amount: int | None = None
    state: ChannelState | None = None
    fault: str = ""
    line: str = ""

    def to_json(self) -> dict[str, Any]:
        """The document of the header."""
        extra: dict[str, Any] = {}
        if self.charged is not None:
            extra["chargedAmount"] = str(self.charged)
        if self.state is not None:
            extra["channelState"] = self.state.to_json()
        found: dict[str, Any] = {
            "success": self.success,
            "transaction": self.transaction,
            "network": self.network,
            "amount": "" if self.amount is None else str(self.amount),
        }
        for name, value in (
            ("payer", self.payer),
            ("errorReason", self.fault),
            ("errorMessage", self.line),
            ("extra", extra),
        ):
            if value:
                found[name] = value
        return found

    def encode(self) -> str:
        """The value of `PAYMENT-RESPONSE`."""
        return to_base64(self.to_json())

    @classmethod
    def decode(cls, value: str) -> Self:
        """The inverse. LocalError for anything else."""
        found = from_base64(value, RESPONSE_HEADER, MOST_BYTES)
        extra = found.get("extra") or {}
        said = object_of(extra, "extra")
        state = said.get("channelState")
        return cls(
            success=found.get("success") is True,
            network=text_of(found, "network"),
            payer=str(found.get("payer") or ""),
            transaction=str(found.get("transaction") or ""),
            charged=amount_of(said, "chargedAmount") if "chargedAmount" in said else None,
            amount=amount_of(found, "amount") if found.get("amount") else None,
            state=None if state is None else ChannelState.from_json(state),
            fault=str(found.get("errorReason") or ""),
            line=str(found.get("errorMessage") or ""),
        )
