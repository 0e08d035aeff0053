# SPDX-License-Identifier: Apache-2.0
"""What is signed and written about paid requests, there and back; nothing malformed comes in."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from hypothesis import given
from hypothesis import strategies as st

from teraproof.errors import LocalError, Refused
from teraproof.protocol import inference, payments, x402
from teraproof.protocol.channels import CHANNELS, ChannelConfig, DepositAuthorization
from teraproof.protocol.errors import Code
from teraproof.protocol.inference import InferenceOffer, Model, Prices, Receipt, SignedReceipt
from teraproof.protocol.inference_request import parse

OPERATOR = Account.from_key(b"\x01" * 32)
DOMAIN = inference.receipt_domain(31337)
RECEIPT = Receipt(
    channel=b"\xaa" * 32,
    number=3,
    request=b"\xbb" * 32,
    response=b"\xcc" * 32,
    model=b"\xdd" * 32,
    prompt_tokens=12,
    completion_tokens=34,
    charged=56,
    cumulative=2**100,
    started=1_700_000_000,
    finished=1_700_000_001,
)
CONFIG = ChannelConfig(
    payer=OPERATOR.address,
    payer_authorizer=OPERATOR.address,
    receiver=CHANNELS,
    receiver_authorizer=OPERATOR.address,
    token=CHANNELS,
    withdraw_delay=86_400,
    salt=b"\x05" * 32,
)
VOUCHER = x402.SignedVoucher(b"\xaa" * 32, 77, b"\x11" * 64 + b"\x1b")
MODEL = Model(
    "tiny", Prices(150_000, 600_000, 2), 4096, 512, 64, ("chat",), "ab" * 32, "q4", ("tools",)
)


def test_cost__is_rounded_up_once_and_has_the_request_on_top() -> None:
    prices = Prices(prompt=150_000, completion=600_000, request=2)
    assert prices.cost(0, 0) == 2
    assert prices.cost(1, 0) == 3
    assert prices.cost(1, 1) == 3
    assert prices.cost(1_000_000, 1_000_000) == 750_002


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.binary(max_size=64))
def test_ceiling__no_use_within_its_bounds_costs_more(
    prompt: int, completion: int, body: bytes
) -> None:
    bound = inference.prompt_bound(body, MODEL.overhead)
    assert MODEL.prices.cost(min(prompt, bound), completion) <= MODEL.ceiling(body, completion)


def test_receipt__eth_account_alone_verifies_it() -> None:
    """From the JSON, with a document of EIP-712 that a stranger writes."""
    shown = SignedReceipt.make(DOMAIN, RECEIPT, OPERATOR).to_json()
    document = {
        "types": {
            "EIP712Domain": [
                {"name": "name", "type": "string"},
                {"name": "version", "type": "string"},
                {"name": "chainId", "type": "uint256"},
                {"name": "verifyingContract", "type": "address"},
            ],
            "Receipt": [{"name": name, "type": kind} for name, kind in Receipt.FIELDS],
        },
        "primaryType": "Receipt",
        "domain": {
            "name": "Teraproof",
            "version": "1",
            "chainId": 31337,
            "verifyingContract": CHANNELS,
        },
        "message": shown["receipt"],
    }
    signed = encode_typed_data(full_message=document)
    assert Account.recover_message(signed, signature=shown["signature"]) == OPERATOR.address


def test_receipt__header_and_comment_there_and_back() -> None:
    signed = SignedReceipt.make(DOMAIN, RECEIPT, OPERATOR)
    assert SignedReceipt.from_header(signed.to_header()) == signed
    comment = signed.to_comment()
    assert comment.startswith(b": teraproof {") and comment.endswith(b"}\n\n")
    assert SignedReceipt.from_comment(comment) == signed
    assert SignedReceipt.from_comment(b"data: {}") is None
    signed.check(DOMAIN, OPERATOR.address)
    with pytest.raises(LocalError, match="another key"):
        signed.check(DOMAIN, CHANNELS)
    with pytest.raises(LocalError, match="another key"):
        signed.check(inference.receipt_domain(1), OPERATOR.address)


@pytest.mark.parametrize("header", ["", "%", base64.b64encode(b"[]").decode(), "e30="])
def test_receipt__a_malformed_one_is_refused(header: str) -> None:
    with pytest.raises(LocalError):
        SignedReceipt.from_header(header)


@given(st.data())
def test_transcript__counts_all_but_our_comments_however_it_is_cut(data: st.DataObject) -> None:
    comment = b": teraproof {}\n\n"
    events = [b'data: {"a":1}\n\n', b": keep-alive\n\n", b": tera\n\n", b"data: [DONE]\n\n"]
    said = data.draw(st.lists(st.sampled_from([*events, comment]), max_size=12))
    whole = b"".join(said)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    transcript = inference.Transcript()
    for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        transcript.feed(whole[start:end])
    plain = b"".join(one for one in said if one != comment)
    assert transcript.digest() == hashlib.sha256(plain).digest()


def test_models__there_and_back_and_prices_in_whole_tokens() -> None:
    assert Model.from_json(json.loads(json.dumps(MODEL.to_json()))) == MODEL
    listed = MODEL.listed(5, "0xme", 6)
    assert listed["pricing"] == {
        "prompt": "0.00000015",
        "completion": "0.0000006",
        "request": "0.000002",
    }
    offer = InferenceOffer(
        "http://here", "eip155:31337", CHANNELS, CHANNELS, "Test", "1", 6, CHANNELS,
        OPERATOR.address, 86_400, 10_000, 30, (MODEL,),
    )  # fmt: skip
    assert InferenceOffer.from_json(json.loads(json.dumps(offer.to_json()))) == offer


def _payment(kind: payments.Kind) -> payments.Payment:
    deposit = payments.Deposit(100, DepositAuthorization(0, 99, 7), VOUCHER.signature)
    return payments.Payment(
        kind,
        CONFIG,
        VOUCHER,
        deposit if kind is payments.Kind.DEPOSIT else None,
        5 if kind is payments.Kind.REFUND else None,
        {"scheme": x402.SCHEME, "amount": "12"},
        "http://here",
    )


@pytest.mark.parametrize("kind", list(payments.Kind))
def test_payment__there_and_back(kind: payments.Kind) -> None:
    payment = _payment(kind)
    assert payments.Payment.decode(payment.encode()) == payment
    assert payment.amount == 12


def test_terms_and_settlement__there_and_back() -> None:
    state = x402.ChannelState(VOUCHER.channel, 100, 7, 0, 1, 60)
    terms = x402.Terms(
        "eip155:31337", CHANNELS, 12, OPERATOR.address, 60, OPERATOR.address, 86_400, "Test", "1",
        10_000, state, VOUCHER,
    )  # fmt: skip
    required = x402.Required((terms,), "http://here", "chat", x402.Fault.AMOUNT_MISMATCH)
    assert x402.Required.decode(required.encode()) == required
    settled = x402.Settlement(True, "eip155:31337", OPERATOR.address, "0x12", 5, None, state)
    assert x402.Settlement.decode(settled.encode()) == settled


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"x402Version": 1}, x402.Fault.SCHEME),
        ({"accepted": {"scheme": "exact"}}, x402.Fault.SCHEME),
        ({"payload": {}}, x402.Fault.PAYLOAD_TYPE),
        ({"payload": 3}, x402.Fault.VOUCHER_PAYLOAD),
        ({"payload": {"type": "voucher"}}, x402.Fault.VOUCHER_PAYLOAD),
        ({"payload": {"type": "refund"}}, x402.Fault.REFUND_PAYLOAD),
        ({"payload": {"type": "deposit"}}, x402.Fault.DEPOSIT_PAYLOAD),
    ],
)
def test_payment__another_form_is_refused_in_the_words_of_the_sdk(
    change: dict[str, object], fault: x402.Fault
) -> None:
    document = {**_payment(payments.Kind.VOUCHER).to_json(), **change}
    header = base64.b64encode(json.dumps(document).encode()).decode()
    with pytest.raises(x402.PaymentUnfit) as caught:
        payments.Payment.decode(header)
    assert caught.value.fault is fault


@given(st.text(max_size=64) | st.binary(max_size=64).map(lambda b: base64.b64encode(b).decode()))
def test_payment__no_header_breaks_the_reader(header: str) -> None:
    with pytest.raises(x402.PaymentUnfit):
        payments.Payment.decode(header)


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":[' + b"{}," * 70_000 + b"{}]}",
        b'{"a":{' + b",".join(b'"%d":1' % n for n in range(70_000)) + b"}}",
        b'{"a":[' + b"1," * 300_001 + b"1]}",
        b'{"a":[' + b'"",' * 400_000 + b'""]}',
        b'{"a":["\\\\",' + b"[]," * 70_000 + b'"\\""]}',
        '{"a":1}'.encode("utf-16"),
    ],
    ids=["objects", "fields", "numbers", "texts", "behind escapes", "utf-16"],
)
def test_a_body_of_many_small_parts__is_refused_before_it_is_read(body: bytes) -> None:
    """Reading takes microseconds for each part, and nobody has paid yet."""
    with pytest.raises(Refused) as error:
        parse(body)
    assert error.value.code is Code.BODY_INVALID


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_a_number_that_json_does_not_have__never_reaches_a_server(word: str) -> None:
    with pytest.raises(Refused) as error:
        parse(f'{{"temperature": {word}}}'.encode())
    assert error.value.code is Code.BODY_INVALID
    assert parse(f'{{"a": "{word}", "b": 1e308}}'.encode()) == {"a": word, "b": 1e308}


def test_a_long_text__may_have_whatever_signs_it_likes() -> None:
    text = '{"a": [1, 2], "b": \\ }\n' * 100_000
    assert parse(json.dumps({"a": text}).encode()) == {"a": text}
