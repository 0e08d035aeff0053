# SPDX-License-Identifier: Apache-2.0
"""Requests that are paid for: what is charged, what is refused, and that a receipt proves it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from provider_agent.modules.inference.cashier import BLIND
from provider_agent.modules.inference.unpaid import UnpaidTime
from teraproof.protocol import inference, x402
from teraproof.protocol.channels import channel_id
from teraproof.protocol.payments import Kind, Payment
from tests.agent.inference.parts import CHAIN, OPERATOR, RECEIVER, TOKEN, a_config, voucher
from tests.agent.inference.rig import (
    MODEL,
    Rig,
    chain,
    new_wallet,
    receipt_of,
    request_of,
    required,
    serve,
    settled,
)

DOMAIN = inference.receipt_domain(CHAIN)
COST = 7 * 15 + 10 * 60  # 7 tokens of the prompt and 10 of the answer


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with serve(tmp_path) as found:
        yield found


def test_without_a_payment__402_names_the_most_that_the_request_can_cost(rig: Rig) -> None:
    terms = rig.terms()
    size = len(rig.http.build_request("POST", rig.url, json=request_of("chat")).content)
    assert terms.amount == (size + 256) * 15 + 10 * 60
    assert (terms.pay_to, terms.asset, terms.receiver_authorizer) == (
        RECEIVER, TOKEN, OPERATOR.address,
    )  # fmt: skip
    assert (terms.network, terms.withdraw_delay) == (f"eip155:{CHAIN}", 86_400)
    assert terms.min_deposit is not None and terms.min_deposit >= terms.amount
    assert rig.server.asked == []


def test_a_voucher__pays_for_what_was_used_and_the_receipt_proves_it(rig: Rig) -> None:
    wallet, terms = rig.fund(), rig.terms()
    answer = rig.ask(wallet.pay(terms.amount, terms))
    assert answer.status_code == 200 and answer.json()["model"] == MODEL
    signed = receipt_of(answer)
    signed.check(DOMAIN, OPERATOR.address)
    said = signed.receipt
    assert (said.channel, said.number, said.prompt_tokens, said.completion_tokens) == (
        wallet.channel, 1, 7, 10,
    )  # fmt: skip
    assert said.charged == said.cumulative == COST
    assert said.request == hashlib.sha256(answer.request.content).digest()
    assert said.response == hashlib.sha256(answer.content).digest()
    assert said.model == b"\xab" * 32
    row = wallet.row
    assert (row.charged, row.voucher, row.is_open) == (COST, terms.amount, False)
    told = settled(answer)
    assert told.success and told.charged == COST
    assert told.state is not None and told.state.charged == COST


def test_upstream__is_sent_the_owners_name_and_the_limits(rig: Rig) -> None:
    wallet = rig.fund()
    body: dict[str, Any] = {"max_tokens": 10_000, "temperature": 0.5, "tools": [], "logprobs": True}
    terms = rig.terms(**body)
    assert rig.ask(wallet.pay(terms.amount, terms), **body).status_code == 200
    (asked,) = rig.server.asked
    assert asked["model"] == "weights/of-tiny" and asked["max_tokens"] == 64
    assert asked["temperature"] == 0.5 and asked["logprobs"] is True


def test_no_limit_named__that_of_the_model_is_sent_and_bounds_the_price(rig: Rig) -> None:
    terms, wallet = rig.terms(max_tokens=None), rig.fund()
    assert terms.amount - rig.terms().amount > 50 * 60
    assert rig.ask(wallet.pay(terms.amount, terms), max_tokens=None).status_code == 200
    assert rig.server.asked[0]["max_tokens"] == 64


@pytest.mark.parametrize("low", ["max_tokens", "max_completion_tokens"])
def test_two_limits__the_lower_one_is_sent_by_both_names(rig: Rig, low: str) -> None:
    """Some servers read one of them, some the other: neither is more than what was paid for."""
    body: dict[str, Any] = {"max_tokens": 60, "max_completion_tokens": 60, low: 3}
    wallet, terms = rig.fund(), rig.terms(**body)
    assert rig.ask(wallet.pay(terms.amount, terms), **body).status_code == 200
    (asked,) = rig.server.asked
    assert asked["max_tokens"] == asked["max_completion_tokens"] == 3


def test_usage_of_a_stream__is_asked_for_whatever_the_payer_says(rig: Rig) -> None:
    options = {"include_usage": False, "Include_Usage": False}
    body: dict[str, Any] = {"stream": True, "stream_options": options}
    wallet, terms = rig.fund(), rig.terms(**body)
    assert rig.ask(wallet.pay(terms.amount, terms), **body).status_code == 200
    assert rig.server.asked[0]["stream_options"] == {"include_usage": True}


def test_an_image__may_have_as_many_tokens_as_the_context(rig: Rig) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    text = {"type": "text", "text": "what is it?"}
    shown = rig.terms(messages=[{"role": "user", "content": [text, image]}])
    assert shown.amount == 4_096 * 15 + 10 * 60
    assert rig.terms(messages=[{"role": "user", "content": [text]}]).amount < shown.amount


def test_a_field_of_null__says_nothing(rig: Rig) -> None:
    wallet, terms = rig.fund(), rig.terms(n_predict=None)
    assert rig.ask(wallet.pay(terms.amount, terms), n_predict=None).status_code == 200
    assert "n_predict" not in rig.server.asked[0]


def test_a_field_that_the_owner_states__is_passed_on(tmp_path: Path) -> None:
    with serve(tmp_path, model={"parameters": ["min_tokens"]}) as rig:
        wallet, terms = rig.fund(), rig.terms(min_tokens=2)
        assert rig.ask(wallet.pay(terms.amount, terms), min_tokens=2).status_code == 200
        assert rig.server.asked[0]["min_tokens"] == 2


@pytest.mark.parametrize("kind", ["completions", "embeddings", "responses"])
def test_other_kinds__are_paid_alike(rig: Rig, kind: str) -> None:
    wallet, terms = rig.fund(), rig.terms(kind)
    answer = rig.ask(wallet.pay(terms.amount, terms), kind)
    assert answer.status_code == 200, answer.text
    wrote = 0 if kind == "embeddings" else 10
    assert receipt_of(answer).receipt.charged == wallet.row.charged == 7 * 15 + wrote * 60
    assert rig.server.paths == [inference.PATHS[kind]]
    if kind == "responses":
        assert rig.server.asked[0]["store"] is False


@pytest.mark.parametrize(
    ("kind", "body", "field"),
    [
        ("responses", {"previous_response_id": "r"}, "previous_response_id"),
        ("responses", {"store": True}, "store"),
        ("responses", {"background": True}, "background"),
        ("responses", {"conversation": "c"}, "conversation"),
        ("chat", {"store": True}, "store"),
        ("chat", {"n": 9}, "n"),
        ("chat", {"max_tokens": 0}, "max_tokens"),
        ("completions", {"best_of": 4}, "best_of"),
        ("embeddings", {"stream": True}, "stream"),
        # What would lift limits, make answers that nobody counts, or have the server ask others.
        ("chat", {"n_predict": -1}, "n_predict"),
        ("chat", {"Max_Tokens": 9_999}, "Max_Tokens"),
        ("chat", {"Model": "larger"}, "Model"),
        ("chat", {"use_beam_search": True}, "use_beam_search"),
        ("chat", {"chat_template": "{{ 1 }}"}, "chat_template"),
        ("chat", {"tools": [{"type": "mcp", "server_url": "http://10.0.0.1"}]}, "tools"),
        ("responses", {"tools": [{"type": "web_search"}]}, "tools"),
        ("responses", {"background": "true"}, "background"),
        ("chat", {"stream": True, "stream_options": [1]}, "stream_options"),
        ("completions", {"prompt": {"prompt_string": "x", "multimodal_data": ["x"]}}, "prompt"),
        ("completions", {"prompt": [1, [2, 3]]}, "prompt"),
        ("embeddings", {"input": [{"image": "x"}]}, "input"),
        ("chat", {"messages": [{"role": "user", "Content": []}]}, "messages"),
        (
            "chat",
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "image_url", "image_url": {"url": "http://169.254.169.254/"}}
                        ],
                    }
                ]
            },
            "messages",
        ),
        (
            "responses",
            {
                "input": [
                    {
                        "role": "user",
                        "content": [{"type": "input_image", "image_url": "file:///etc/passwd"}],
                    }
                ]
            },
            "input",
        ),
    ],
)
def test_what_is_not_sold__is_refused_by_its_name(
    rig: Rig, kind: str, body: dict[str, Any], field: str
) -> None:
    answer = rig.ask(None, kind, **body)
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert (error["code"], error["details"]["field"]) == ("request_unfit", field)


def test_strangers__use_up_their_time__payers_of_known_channels_go_on(rig: Rig) -> None:
    """A request is read before it is paid for; who has paid does not wait for those who do not."""
    known, other, terms = rig.fund(), new_wallet(rig, salt=1), rig.terms()
    left = rig.front._routes._unpaid
    left.take(10**6)
    assert rig.ask(None).json()["error"]["code"] == "server_busy"
    assert rig.ask(other.pay(terms.amount, terms)).json()["error"]["code"] == "server_busy"
    forged = replace(known.pay(terms.amount, terms), voucher=other.pay(terms.amount).voucher)
    assert rig.ask(forged).json()["error"]["code"] == "server_busy"
    assert rig.ask(known.pay(terms.amount, terms)).status_code == 200
    left.take(-(10**6))
    assert rig.ask(None).status_code == 402


def test_time_of_strangers__comes_back_and_a_payer_takes_none_of_it(rig: Rig) -> None:
    now = [0.0]
    left = UnpaidTime(clock=lambda: now[0])
    left.take(3.0)
    assert [left.is_used_up for now[0] in (0.0, 5.0)] == [True, False]
    wallet, terms = rig.fund(), rig.terms()
    used = rig.front._routes._unpaid
    used._clock = lambda: now[0]
    used._at, before = now[0], used._left
    assert rig.ask(wallet.pay(terms.amount, terms)).status_code == 200
    assert used._left == pytest.approx(before)


def test_chain_not_seen_for_long__nothing_is_served_on_credit(rig: Rig) -> None:
    """Payers may have withdrawn meanwhile, and nothing could be claimed."""
    wallet, terms = rig.fund(), rig.terms()
    cashier = rig.front._routes._cashier
    cashier._floor = lambda: BLIND
    answer = rig.ask(wallet.pay(terms.amount, terms))
    answer_of_blind = required(answer).error
    assert answer_of_blind == x402.Fault.STATE_UNAVAILABLE
    assert rig.server.asked == [] and not wallet.row.is_open
    cashier._floor = lambda: 2  # it was seen at block 1
    assert required(rig.ask(wallet.pay(terms.amount, terms))).error == answer_of_blind
    cashier._floor = lambda: 1
    assert rig.ask(wallet.pay(terms.amount, terms)).status_code == 200


def test_an_unknown_model__is_refused_with_those_on_offer(rig: Rig) -> None:
    answer = rig.ask(None, model="other")
    assert answer.status_code == 404
    assert answer.json()["error"]["details"]["offered"] == [MODEL]


def test_models__say_prices_context_and_digest(rig: Rig) -> None:
    (row,) = rig.http.get(f"{rig.url}/v1/models").json()["data"]
    assert row["id"] == MODEL and row["digest"] == "ab" * 32
    assert row["pricing"] == {"prompt": "0.000015", "completion": "0.00006", "request": "0"}
    assert (row["context_length"], row["top_provider"]["max_completion_tokens"]) == (4_096, 64)
    offer = rig.offer
    assert offer.url == rig.url and offer.models[0].name == MODEL
    asked = json.dumps(request_of("chat")).encode()
    assert offer.models[0].ceiling(asked, 10) >= rig.terms().amount


# ---------------------------------------------------------------------- what a payer gets wrong


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"receiver": "0x" + "33" * 20}, x402.Fault.RECEIVER_MISMATCH),
        ({"receiver_authorizer": "0x" + "33" * 20}, x402.Fault.RECEIVER_AUTHORIZER_MISMATCH),
        ({"token": "0x" + "33" * 20}, x402.Fault.TOKEN_MISMATCH),
        ({"withdraw_delay": 900}, x402.Fault.WITHDRAW_DELAY_MISMATCH),
        ({"withdraw_delay": 2_592_001}, x402.Fault.WITHDRAW_DELAY_OUT_OF_RANGE),
        ({"payer_authorizer": "0x" + "00" * 20}, x402.Fault.AUTHORIZER_MISMATCH),
        ({"payer_authorizer": "0x" + "33" * 20}, x402.Fault.VOUCHER_SIGNATURE),
        ({"salt": 9}, x402.Fault.CHANNEL_NOT_FOUND),
    ],
)
def test_another_channel_than_is_wanted__is_refused_in_the_words_of_the_sdk(
    rig: Rig, changed: dict[str, Any], fault: x402.Fault
) -> None:
    config = a_config(**changed)
    payment = Payment(Kind.VOUCHER, config, voucher(channel_id(CHAIN, config), 10**6))
    answer = rig.ask(payment)
    assert required(answer).error == fault
    assert answer.json()["error"]["details"]["fault"] == fault
    assert rig.server.asked == []


def test_vouchers_replayed_lower_forged_of_another_chain_or_channel__pay_nothing(rig: Rig) -> None:
    wallet, other, terms = rig.fund(), rig.fund(salt=1), rig.terms()
    paid = wallet.pay(terms.amount, terms)
    assert rig.ask(paid).status_code == 200
    before = wallet.row
    elsewhere = channel_id(1, wallet.config)
    cases = [
        (paid, x402.Fault.AMOUNT_MISMATCH),
        (wallet.pay(1), x402.Fault.AMOUNT_MISMATCH),
        (wallet.pay(10**7 + 1), x402.Fault.EXCEEDS_BALANCE),
        (
            replace(paid, voucher=voucher(wallet.channel, 10**6, OPERATOR)),
            x402.Fault.VOUCHER_SIGNATURE,
        ),
        (
            replace(paid, voucher=voucher(elsewhere, 10**6)),
            x402.Fault.CHANNEL_ID_MISMATCH,
        ),
        (
            replace(paid, voucher=voucher(other.channel, 10**6)),
            x402.Fault.CHANNEL_ID_MISMATCH,
        ),
        (replace(paid, accepted={"network": "eip155:1"}), x402.Fault.NETWORK_MISMATCH),
        (replace(paid, kind=Kind.REFUND), x402.Fault.PAYLOAD_TYPE),
    ]
    for payment, fault in cases:
        assert required(rig.ask(payment)).error == fault
    assert wallet.row == before and len(rig.server.asked) == 1


def test_a_client_out_of_step__is_shown_where_its_channel_stands(rig: Rig) -> None:
    wallet, terms = rig.fund(), rig.terms()
    assert rig.ask(wallet.pay(terms.amount, terms)).status_code == 200
    shown = required(rig.ask(wallet.pay(terms.amount, terms))).accepts[0]
    assert shown.state == wallet.row.state and shown.state.charged == COST
    assert shown.voucher == wallet.row.signed
    forged = replace(wallet.pay(1), voucher=voucher(wallet.channel, 1, OPERATOR))
    assert required(rig.ask(forged)).accepts[0].state is None


def test_a_client_that_counts_ahead__is_told_no_more_until_the_channel_is_there(rig: Rig) -> None:
    wallet, terms = rig.fund(), rig.terms()
    own = 10_000
    told = settled(rig.ask(wallet.pay(own + terms.amount, terms)))
    assert told.charged == 0 and told.state is not None and told.state.charged == own
    assert wallet.row.charged == COST


# ---------------------------------------------------------------------- deposits and refunds


def test_a_deposit__opens_the_channel_and_pays_at_once(rig: Rig) -> None:
    terms = rig.terms()
    wallet = new_wallet(rig)
    with chain(rig):
        answer = rig.ask(wallet.pay(terms.amount, terms, deposit=100_000))
    assert answer.status_code == 200, answer.text
    assert settled(answer).transaction == "0x" + "77" * 32
    assert (wallet.row.balance, wallet.row.charged) == (100_000, COST)


def test_a_deposit__that_the_chain_refuses_or_that_is_unfit_serves_nothing(rig: Rig) -> None:
    terms, wallet = rig.terms(), new_wallet(rig)
    small = wallet.pay(terms.amount, terms, deposit=49_999)
    assert required(rig.ask(small)).error == x402.Fault.DEPOSIT_BELOW_MIN
    good = wallet.pay(terms.amount, terms, deposit=50_000)
    assert good.deposit is not None
    over = wallet.pay(50_001, terms, deposit=50_000)
    assert required(rig.ask(over)).error == x402.Fault.EXCEEDS_BALANCE
    forged = replace(good, deposit=replace(good.deposit, amount=60_000))
    assert required(rig.ask(forged)).error == x402.Fault.AUTHORIZATION_SIGNATURE
    assert rig.book.waiting_deposits() == 0
    with chain(rig, refuse=x402.Fault.DEPOSIT_SIMULATION):
        assert required(rig.ask(good)).error == x402.Fault.DEPOSIT_SIMULATION
    assert rig.server.asked == [] and rig.book.count() == 0


def test_a_deposit__sent_again_by_a_crowd__a_few_wait_and_the_others_are_refused(
    tmp_path: Path,
) -> None:
    with serve(tmp_path, deposit_wait=2) as rig:
        terms, wallet = rig.terms(), new_wallet(rig)
        payment = wallet.pay(terms.amount, terms, deposit=100_000)
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: rig.ask(payment), range(8)))
        lines = [answer.json()["error"]["message"] for answer in answers]
        assert sum("not confirmed yet" in line for line in lines) <= 4
        assert sum("too many deposits" in line for line in lines) >= 4


def test_a_deposit__whose_request_is_refused_is_named_in_the_answer(rig: Rig) -> None:
    terms, wallet = rig.terms(), new_wallet(rig)
    rig.server.faults.status = 400
    with chain(rig):
        answer = rig.ask(wallet.pay(terms.amount, terms, deposit=100_000))
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "upstream_refused"
    told = settled(answer)
    assert told.success and told.charged == 0 and told.transaction == "0x" + "77" * 32
    assert wallet.row.charged == 0 and not wallet.row.is_open


def test_a_refund__gives_back_what_was_not_charged(rig: Rig) -> None:
    wallet, terms = rig.fund(100_000), rig.terms()
    assert rig.ask(wallet.pay(terms.amount, terms)).status_code == 200
    url = rig.url + inference.PATHS["chat"]
    assert rig.http.get(url).status_code == 402
    asked = Payment(Kind.REFUND, wallet.config, voucher(wallet.channel, COST))
    with chain(rig):
        answer = rig.http.get(url, headers={x402.SIGNATURE_HEADER: asked.encode()})
    assert answer.status_code == 200, answer.text
    assert answer.json()["refunded"] == str(100_000 - COST)
    assert settled(answer).amount == 100_000 - COST
    assert wallet.row.balance == COST
    again = rig.http.get(url, headers={x402.SIGNATURE_HEADER: asked.encode()})
    assert required(again).error == x402.Fault.REFUND_NO_BALANCE


# ---------------------------------------------------------------------- a server that fails


@pytest.mark.parametrize(
    ("status", "code", "shown"),
    [(400, "upstream_refused", 400), (500, "upstream_away", 503), (401, "upstream_away", 503)],
)
def test_a_server_that_refuses__costs_nothing(rig: Rig, status: int, code: str, shown: int) -> None:
    wallet, terms = rig.fund(), rig.terms()
    rig.server.faults.status = status
    answer = rig.ask(wallet.pay(terms.amount, terms))
    assert (answer.status_code, answer.json()["error"]["code"]) == (shown, code)
    assert settled(answer).charged == 0
    assert (wallet.row.charged, wallet.row.is_open) == (0, False)
    rig.server.faults.status = 200
    assert rig.ask(wallet.pay(terms.amount, terms)).status_code == 200


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{" * 300])
def test_a_server_that_talks_nonsense__costs_nothing(rig: Rig, body: bytes) -> None:
    wallet, terms = rig.fund(), rig.terms()
    rig.server.faults.body = body
    assert rig.ask(wallet.pay(terms.amount, terms)).status_code == 503
    assert (wallet.row.charged, wallet.row.is_open) == (0, False)


def test_a_server_without_usage__is_counted_by_its_text_within_the_bound(rig: Rig) -> None:
    wallet, terms = rig.fund(), rig.terms()
    rig.server.faults.no_usage = True
    answer = rig.ask(wallet.pay(terms.amount, terms))
    said = receipt_of(answer).receipt
    assert said.completion_tokens == 10 and 0 < said.prompt_tokens < 40
    assert said.charged <= terms.amount


def test_a_server_that_counts_too_much__is_held_to_the_bound(rig: Rig) -> None:
    wallet, terms = rig.fund(), rig.terms()
    rig.server.faults.prompt_tokens = 10**6
    answer = rig.ask(wallet.pay(terms.amount, terms))
    assert receipt_of(answer).receipt.charged == wallet.row.charged == terms.amount


def test_no_server__503_before_anything_is_paid(tmp_path: Path) -> None:
    with serve(tmp_path, model={"upstream": "http://127.0.0.1:9/v1"}) as rig:
        wallet, terms = rig.fund(), rig.terms()
        answer = rig.ask(wallet.pay(terms.amount, terms))
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "upstream_away")
        assert rig.ask(wallet.pay(terms.amount, terms)).status_code == 503
        assert wallet.row.charged == 0 and not wallet.row.is_open
        assert [check().ok for check in rig.front.checks()] == [False]
