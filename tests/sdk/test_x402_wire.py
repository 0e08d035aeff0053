# SPDX-License-Identifier: Apache-2.0
"""What we write over HTTP is what the SDK of x402 reads, and the other way round."""

from __future__ import annotations

from eth_account import Account
from x402.http.utils import (
    decode_payment_required_header,
    decode_payment_response_header,
    encode_payment_signature_header,
)
from x402.mechanisms.evm.batch_settlement import errors
from x402.mechanisms.evm.batch_settlement.client import BatchSettlementEvmScheme
from x402.mechanisms.evm.batch_settlement.types import ChannelStateExtra, VoucherStateExtra
from x402.schemas import PaymentPayload, PaymentRequired

from teraproof.protocol import channels, messages, payments, x402

PAYER = Account.from_key(b"\x02" * 32)
OPERATOR = Account.from_key(b"\x01" * 32)
TOKEN = "0x" + "11" * 20
CHAIN = 31337
STATE = x402.ChannelState(b"\xaa" * 32, 100, 7, 0, 1, 60)
TERMS = x402.Terms(
    network=x402.network(CHAIN),
    asset=TOKEN,
    amount=12,
    pay_to=OPERATOR.address,
    max_timeout_seconds=60,
    receiver_authorizer=OPERATOR.address,
    withdraw_delay=86_400,
    name="Dollar",
    version="1",
    min_deposit=1_000,
    state=STATE,
    voucher=x402.SignedVoucher(STATE.channel, 72, b"\x11" * 64 + b"\x1b"),
)


def test_required__the_sdk_reads_all_of_it() -> None:
    header = x402.Required((TERMS,), "http://here", "chat", x402.Fault.AMOUNT_MISMATCH).encode()
    read = decode_payment_required_header(header)
    assert isinstance(read, PaymentRequired)
    assert read.error == errors.ERR_CUMULATIVE_AMOUNT_MISMATCH
    (accepted,) = read.accepts
    assert (accepted.scheme, accepted.amount, accepted.pay_to) == (
        "batch-settlement", "12", OPERATOR.address,
    )  # fmt: skip
    state = ChannelStateExtra.from_dict(accepted.extra["channelState"])
    assert (state.balance, state.charged_cumulative_amount) == ("100", "60")
    voucher = VoucherStateExtra.from_dict(accepted.extra["voucherState"])
    assert voucher.signed_max_claimable == "72"


def test_payment__what_the_sdk_signs_is_read_and_is_signed_by_the_payer() -> None:
    scheme = BatchSettlementEvmScheme(PAYER)
    header = x402.Required((TERMS,), "http://here").encode()
    required = decode_payment_required_header(header)
    assert isinstance(required, PaymentRequired)
    made = scheme.create_payment_payload(required.accepts[0])
    sent = encode_payment_signature_header(
        PaymentPayload(x402_version=2, payload=made, accepted=required.accepts[0])
    )
    payment = payments.Payment.decode(sent)
    assert payment.kind is payments.Kind.DEPOSIT and payment.amount == 12
    channel = channels.channel_id(CHAIN, payment.config)
    assert channel == payment.voucher.channel
    voucher = channels.Voucher(channel, payment.voucher.amount)
    domain = channels.channels_domain(CHAIN)
    assert messages.recover(domain, voucher, payment.voucher.signature) == PAYER.address
    deposit = payment.deposit
    assert deposit is not None and deposit.amount == 1_000
    token = messages.Domain(CHAIN, TOKEN, "Dollar", "1")
    said = deposit.authorization.message(channel, PAYER.address, deposit.amount)
    assert messages.recover(token, said, deposit.signature) == PAYER.address


def test_settlement__the_sdk_reads_it() -> None:
    settled = x402.Settlement(True, TERMS.network, PAYER.address, "", 5, None, STATE)
    read = decode_payment_response_header(settled.encode())
    assert read.success and read.payer == PAYER.address
    assert read.extra == {"chargedAmount": "5", "channelState": STATE.to_json()}


def test_faults__are_words_of_the_sdk() -> None:
    theirs = {value for name, value in vars(errors).items() if name.startswith("ERR_")}
    assert {fault.value for fault in x402.Fault} <= theirs
