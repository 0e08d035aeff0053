# SPDX-License-Identifier: Apache-2.0
"""Channels, vouchers and receipts for tests of paid inference."""

from __future__ import annotations

from eth_account import Account
from eth_account.signers.local import LocalAccount

from teraproof.protocol import channels, inference, messages, payments, x402
from teraproof.protocol.channels import ChannelConfig, DepositAuthorization

CHAIN = 31337
OPERATOR: LocalAccount = Account.from_key(b"\x01" * 32)
PAYER: LocalAccount = Account.from_key(b"\x02" * 32)
RECEIVER = "0x" + "22" * 20
TOKEN = "0x" + "11" * 20
TOKEN_NAME, TOKEN_VERSION = "Test Dollar", "1"
TOKEN_DOMAIN = messages.Domain(CHAIN, TOKEN, TOKEN_NAME, TOKEN_VERSION)
DAY = 86_400


def a_config(payer: LocalAccount = PAYER, salt: int = 0, **changed: object) -> ChannelConfig:
    """A channel as this provider wants it, but for what is `changed`."""
    found: dict[str, object] = {
        "payer": payer.address,
        "payer_authorizer": payer.address,
        "receiver": RECEIVER,
        "receiver_authorizer": OPERATOR.address,
        "token": TOKEN,
        "withdraw_delay": DAY,
        "salt": salt.to_bytes(32, "big"),
    }
    return ChannelConfig(**{**found, **changed})  # type: ignore[arg-type]  # the fields' own types


def voucher(channel: bytes, amount: int, payer: LocalAccount = PAYER) -> x402.SignedVoucher:
    """Signed by the payer."""
    said = channels.Voucher(channel, amount)
    signature = messages.sign(channels.channels_domain(CHAIN), said, payer)
    return x402.SignedVoucher(channel, amount, signature)


def signed_deposit(
    channel: bytes, amount: int, payer: LocalAccount = PAYER, salt: int = 7, until: int = 2**40
) -> payments.Deposit:
    """By EIP-3009, signed by the payer."""
    said = DepositAuthorization(0, until, salt)
    message = said.message(channel, payer.address, amount)
    return payments.Deposit(amount, said, messages.sign(TOKEN_DOMAIN, message, payer))


def receipt(channel: bytes, number: int, charged: int, cumulative: int) -> inference.SignedReceipt:
    """Signed by the operator; what it says of the answer is nothing."""
    said = inference.Receipt(
        channel, number, bytes(32), bytes(32), bytes(32), 0, 0, charged, cumulative, 0, 0
    )
    return inference.SignedReceipt.make(inference.receipt_domain(CHAIN), said, OPERATOR)
