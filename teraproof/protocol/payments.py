# SPDX-License-Identifier: Apache-2.0
"""What a client of x402 pays with: the payload of `PAYMENT-SIGNATURE` (see `protocol.x402`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from teraproof.errors import LocalError
from teraproof.protocol.channels import ChannelConfig, DepositAuthorization
from teraproof.protocol.json_fields import (
    amount_of,
    from_base64,
    object_of,
    signature_of,
    to_base64,
    word_of,
)
from teraproof.protocol.terms import address
from teraproof.protocol.x402 import (
    MOST_BYTES,
    SCHEME,
    SIGNATURE_HEADER,
    VERSION,
    Fault,
    PaymentUnfit,
    SignedVoucher,
)


class Kind(StrEnum):
    """What a payment does."""

    DEPOSIT = "deposit"
    """Opens or tops up a channel, and pays by the voucher that comes along."""
    VOUCHER = "voucher"
    """Pays out of the channel."""
    REFUND = "refund"
    """Asks for what is left; its voucher says how much was charged."""


@dataclass(frozen=True)
class Deposit:
    """Tokens for a channel, by EIP-3009."""

    amount: int
    authorization: DepositAuthorization
    signature: bytes

    def to_json(self) -> dict[str, Any]:
        """As it stands in a payload."""
        said = self.authorization
        return {
            "amount": str(self.amount),
            "authorization": {
                "erc3009Authorization": {
                    "validAfter": str(said.valid_after),
                    "validBefore": str(said.valid_before),
                    "salt": f"0x{said.salt:064x}",
                    "signature": f"0x{self.signature.hex()}",
                }
            },
        }

    @classmethod
    def from_json(cls, value: object) -> Self:
        """The inverse. LocalError for anything else; PaymentUnfit for another way of deposit."""
        found = object_of(value, "deposit")
        said = object_of(found.get("authorization"), "authorization").get("erc3009Authorization")
        if said is None:
            raise PaymentUnfit(Fault.EIP3009_REQUIRED, "the deposit is not by EIP-3009")
        signed = object_of(said, "erc3009Authorization")
        return cls(
            amount=amount_of(found, "amount", bits=128),
            authorization=DepositAuthorization(
                valid_after=amount_of(signed, "validAfter"),
                valid_before=amount_of(signed, "validBefore"),
                salt=int.from_bytes(word_of(signed, "salt"), "big"),
            ),
            signature=signature_of(signed),
        )


@dataclass(frozen=True)
class Payment:
    """What a client pays with. `refund` is the amount that it wants back; None for all of it.

    `accepted` are the terms that it answers, as it repeats them: nothing of them is trusted.
    """

    kind: Kind
    config: ChannelConfig
    voucher: SignedVoucher
    deposit: Deposit | None = None
    refund: int | None = None
    accepted: Mapping[str, Any] = field(default_factory=dict)
    url: str = ""

    @property
    def amount(self) -> int | None:
        """The amount of the terms that it answers; None where it does not say."""
        try:
            return amount_of(self.accepted, "amount")
        except LocalError:
            return None

    def to_json(self) -> dict[str, Any]:
        """The document of the header."""
        payload: dict[str, Any] = {
            "type": self.kind.value,
            "channelConfig": config_to_json(self.config),
            "voucher": self.voucher.to_json(),
        }
        if self.deposit is not None:
            payload["deposit"] = self.deposit.to_json()
        if self.refund is not None:
            payload["amount"] = str(self.refund)
        found: dict[str, Any] = {
            "x402Version": VERSION,
            "payload": payload,
            "accepted": dict(self.accepted),
        }
        if self.url:
            found["resource"] = {"url": self.url}
        return found

    def encode(self) -> str:
        """The value of `PAYMENT-SIGNATURE`."""
        return to_base64(self.to_json())

    @classmethod
    def decode(cls, value: str) -> Self:
        """The inverse. PaymentUnfit for anything else."""
        try:
            return cls.from_json(from_base64(value, SIGNATURE_HEADER, MOST_BYTES))
        except PaymentUnfit:
            raise
        except LocalError as error:
            raise PaymentUnfit(Fault.VOUCHER_PAYLOAD, str(error)) from None

    @classmethod
    def from_json(cls, value: object) -> Self:
        """From the document of the header. PaymentUnfit, LocalError."""
        found = object_of(value, "payment")
        if found.get("x402Version") != VERSION:
            raise PaymentUnfit(Fault.SCHEME, f"x402Version is not {VERSION}")
        accepted = found.get("accepted")
        terms = accepted if isinstance(accepted, dict) else {}
        if terms.get("scheme", SCHEME) != SCHEME:
            raise PaymentUnfit(Fault.SCHEME, f"the scheme is not {SCHEME}")
        payload = object_of(found.get("payload"), "payload")
        kind = payload.get("type")
        if kind not in tuple(Kind):
            raise PaymentUnfit(Fault.PAYLOAD_TYPE, "the type is not deposit, voucher or refund")
        refund = payload.get("amount") if kind == Kind.REFUND else None
        resource = found.get("resource")
        url = resource.get("url", "") if isinstance(resource, dict) else ""
        try:
            return cls(
                kind=Kind(kind),
                config=config_from_json(payload.get("channelConfig")),
                voucher=SignedVoucher.from_json(payload.get("voucher")),
                deposit=(
                    Deposit.from_json(payload.get("deposit")) if kind == Kind.DEPOSIT else None
                ),
                refund=None if refund is None else amount_of(payload, "amount"),
                accepted=terms,
                url=url if isinstance(url, str) else "",
            )
        except PaymentUnfit:
            raise
        except LocalError as error:
            raise PaymentUnfit(_UNFIT[Kind(kind)], str(error)) from None


_UNFIT = {
    Kind.DEPOSIT: Fault.DEPOSIT_PAYLOAD,
    Kind.VOUCHER: Fault.VOUCHER_PAYLOAD,
    Kind.REFUND: Fault.REFUND_PAYLOAD,
}


def config_to_json(config: ChannelConfig) -> dict[str, Any]:
    """A channel's configuration as it stands in a payload."""
    return {**config.values(), "salt": f"0x{config.salt.hex()}"}


def config_from_json(value: object) -> ChannelConfig:
    """The inverse. LocalError for anything else."""
    found = object_of(value, "channelConfig")
    return ChannelConfig(
        payer=address("payer", found.get("payer")),
        payer_authorizer=address("payerAuthorizer", found.get("payerAuthorizer")),
        receiver=address("receiver", found.get("receiver")),
        receiver_authorizer=address("receiverAuthorizer", found.get("receiverAuthorizer")),
        token=address("token", found.get("token")),
        withdraw_delay=amount_of(found, "withdrawDelay", bits=40),
        salt=word_of(found, "salt"),
    )
