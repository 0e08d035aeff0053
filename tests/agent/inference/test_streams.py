# SPDX-License-Identifier: Apache-2.0
"""Streams: one end each, a receipt over every byte, and no step that is not paid for."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from provider_agent.modules.inference.streaming import Steps
from teraproof.errors import Refused
from teraproof.protocol import inference, x402
from teraproof.protocol.errors import Code
from teraproof.protocol.inference import DONE, PATHS, Receipt, SignedReceipt, Transcript
from tests.agent.api_rig import wait_until
from tests.agent.inference.parts import CHAIN, OPERATOR
from tests.agent.inference.rig import (
    MODEL,
    Rig,
    Wallet,
    receipt_of,
    request_of,
    serve,
    settled,
)
from tests.support.model_server import Faults, ModelServer

DOMAIN = inference.receipt_domain(CHAIN)
COST = 7 * 15 + 10 * 60
#: What is left of a prompt's bound would pay for steps.
FREE_PROMPT = {"prompt_price": "0"}


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with serve(tmp_path) as found:
        yield found


def stream(rig: Rig, wallet: Wallet, kind: str = "chat", **body: Any) -> httpx.Response:
    terms = rig.terms(kind, stream=True, **body)
    return rig.ask(wallet.pay(wallet.row.charged + terms.amount, terms), kind, stream=True, **body)


def data_of(answer: httpx.Response) -> list[dict[str, Any]]:
    """What a reader of SSE sees, but for the last event."""
    lines = [line[6:] for line in answer.text.split("\n") if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def digest_before_receipt(content: bytes) -> bytes:
    transcript = Transcript()
    transcript.feed(content[: content.rindex(inference.COMMENT)])
    return transcript.digest()


def test_stream__passes_on_all_but_usage_and_ends_with_a_receipt(rig: Rig) -> None:
    wallet = rig.fund()
    answer = stream(rig, wallet)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.content.endswith(DONE)
    events = data_of(answer)
    assert len(events) == 10 and all("usage" not in event for event in events)
    assert {event["model"] for event in events} == {MODEL}
    signed = receipt_of(answer)
    signed.check(DOMAIN, OPERATOR.address)
    said = signed.receipt
    assert (said.charged, said.prompt_tokens, said.completion_tokens) == (COST, 7, 10)
    assert said.response == digest_before_receipt(answer.content)
    assert said.request == hashlib.sha256(answer.request.content).digest()
    assert (wallet.row.charged, wallet.row.is_open) == (COST, False)
    assert rig.server.asked[0]["stream_options"] == {"include_usage": True}


def test_stream__shows_usage_to_a_client_that_asked(rig: Rig) -> None:
    events = data_of(stream(rig, rig.fund(), stream_options={"include_usage": True}))
    assert len(events) == 11 and events[-1]["usage"]["completion_tokens"] == 10


def test_stream__its_header_names_the_ceiling_and_the_next_answer_puts_it_right(rig: Rig) -> None:
    wallet, terms = rig.fund(), rig.terms(stream=True)
    told = settled(stream(rig, wallet))
    assert told.charged == terms.amount
    own = terms.amount  # what a client of the SDK counts now
    second = rig.terms()
    told = settled(rig.ask(wallet.pay(own + second.amount, second)))
    assert told.state is not None and told.charged is not None
    counted = own + told.charged
    assert counted == told.state.charged
    assert counted >= wallet.row.charged == 2 * COST


@pytest.mark.parametrize("kind", ["completions", "responses"])
def test_stream__other_kinds(rig: Rig, kind: str) -> None:
    answer = stream(rig, rig.fund(), kind)
    assert receipt_of(answer).receipt.charged == COST
    assert answer.content.endswith(DONE) is (kind == "completions")
    if kind == "responses":
        assert data_of(answer)[-1]["type"] == "response.completed"


@pytest.mark.parametrize(
    "extra",
    [
        b': teraproof {"receipt": {}}\n\n: keep-alive\n\n',
        b': keep-alive\n: teraproof {"receipt": {}}\n\n',
        b': keep-alive\r: teraproof {"receipt": {}}\r\n\r\n',
    ],
)
def test_stream__a_comment_of_the_server_in_our_name_is_left_out(rig: Rig, extra: bytes) -> None:
    rig.server.faults.extra = extra
    answer = stream(rig, rig.fund())
    assert answer.content.startswith(b": keep-alive\n\n")
    assert answer.content.count(b": teraproof") == 1
    receipt_of(answer).check(DOMAIN, OPERATOR.address)


@pytest.mark.parametrize(
    "faults", [Faults(dies_after=4), Faults(dies_after=0), Faults(no_end=True)]
)
def test_stream__the_server_dies__one_error_and_a_receipt_over_what_came(
    tmp_path: Path, faults: Faults
) -> None:
    with serve(tmp_path, ModelServer(faults)) as rig:
        wallet = rig.fund()
        answer = stream(rig, wallet)
        *pieces, last = data_of(answer)
        assert last["error"]["code"] == "upstream_away"
        assert all("error" not in piece for piece in pieces)
        assert DONE not in answer.content
        said = receipt_of(answer).receipt
        assert said.completion_tokens == len(pieces)
        assert said.response == digest_before_receipt(answer.content)
        assert wallet.row.charged == said.cumulative and not wallet.row.is_open
        rig.server.faults = Faults()
        assert rig.ask(wallet.pay(10**6)).status_code == 200


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.integers(0, 40), st.integers(1, 12), st.integers(1, 40))
def test_stream__dies_at_a_random_token__charged_at_most_a_step_beyond_the_receipts(
    rig: Rig, dies_after: int, step: int, tokens: int
) -> None:
    """And the accounts equal the receipts to the unit."""
    rig.server.faults = Faults(dies_after=dies_after)
    wallet = rig.fund(salt=len(rig.book.channels()) + 1)
    terms = rig.terms(step=step, stream=True, max_tokens=tokens)
    # All steps paid at once: vouchers may be higher than what is asked.
    answer = rig.ask(wallet.pay(10**6, terms), step=step, stream=True, max_tokens=tokens)
    receipts = receipts_of(answer.content)
    assert wallet.row.charged == receipts[-1].cumulative
    shown = sum(1 for event in data_of(answer) if "error" not in event)
    assert receipts[-1].completion_tokens == shown == min(dies_after, tokens)
    sums = [one.cumulative for one in receipts]
    assert sums == sorted(sums)
    errors = [event for event in data_of(answer) if "error" in event]
    assert len(errors) == (dies_after < tokens)
    assert answer.content.endswith(DONE) is (dies_after >= tokens)


def receipts_of(content: bytes) -> list[Receipt]:
    found = [SignedReceipt.from_comment(part) for part in content.split(b"\n\n")]
    return [one.receipt for one in found if one is not None]


# ---------------------------------------------------------------------- steps


def test_steps__the_402_names_the_first_step_alone(rig: Rig) -> None:
    whole, step = rig.terms(stream=True), rig.terms(step=4, stream=True)
    assert whole.amount - step.amount == 6 * 60
    assert rig.terms(step=4).amount == whole.amount - len(',"stream":true') * 15


def test_steps__go_on_as_vouchers_come_and_no_further(tmp_path: Path) -> None:
    with serve(tmp_path, model=FREE_PROMPT) as rig:
        _steps(rig)


def _steps(rig: Rig) -> None:
    wallet = rig.fund()
    terms = rig.terms(step=4, stream=True)
    content = bytearray()
    seen: list[Receipt] = []
    headers = {
        x402.SIGNATURE_HEADER: wallet.pay(terms.amount, terms).encode(),
        inference.STEP_HEADER: "4",
    }
    url, body = rig.url + PATHS["chat"], request_of("chat", stream=True)
    with rig.http.stream("POST", url, json=body, headers=headers) as answer:
        for piece in answer.iter_raw():
            content += piece
            receipts = receipts_of(bytes(content))
            if len(receipts) > len(seen) and not content.endswith(DONE):
                seen = receipts
                said = seen[-1]
                shown = content.count(b'"delta"')
                assert said.completion_tokens == shown == 4 * len(seen)
                assert wallet.row.charged == said.cumulative and wallet.row.is_open
                base = said.cumulative - said.charged
                rest = said.completion_tokens + 4
                total = base + rig.offer.models[0].prices.cost(said.prompt_tokens, rest)
                paid = wallet.pay(total, terms)
                told = rig.http.post(rig.url + inference.VOUCHERS_PATH, json=paid.to_json())
                assert told.status_code == 200 and told.json()["open"]
    assert len(seen) == 2 and bytes(content).endswith(DONE)
    final = receipts_of(bytes(content))[-1]
    assert (final.charged, final.completion_tokens, final.prompt_tokens) == (600, 10, 7)
    transcript = Transcript()
    transcript.feed(bytes(content)[: content.rindex(inference.COMMENT)])
    assert final.response == transcript.digest()


def test_steps__without_the_next_voucher_the_stream_ends_once(tmp_path: Path) -> None:
    with serve(tmp_path, step_wait=1, model=FREE_PROMPT) as rig:
        wallet = rig.fund()
        terms = rig.terms(step=1, stream=True, max_tokens=60)
        answer = rig.ask(wallet.pay(terms.amount, terms), step=1, stream=True, max_tokens=60)
        *pieces, last = data_of(answer)
        assert last["error"]["code"] == "stream_unpaid" and DONE not in answer.content
        said = receipt_of(answer).receipt
        assert said.completion_tokens == len(pieces) == 1
        assert said.cumulative == wallet.row.charged <= terms.amount
        # What was served beyond the vouchers: nothing.
        assert rig.offer.models[0].prices.cost(said.prompt_tokens, len(pieces)) <= terms.amount
        assert not wallet.row.is_open


def test_steps__a_payer_that_lets_each_one_wait__does_not_hold_the_stream_for_ever() -> None:
    """Each voucher comes in time. All the waiting together has an end, too."""
    bill: Any = SimpleNamespace(
        voucher=0, asked=SimpleNamespace(limit=10**6), needed=lambda prompt, end: end
    )

    async def late(steps: Steps) -> None:
        await asyncio.sleep(0.05)
        steps.raised(steps.next_end)

    async def work() -> int:
        steps = Steps(bill, 1, 0.5)
        for number in range(400):
            try:
                await asyncio.gather(steps.go_on(None), late(steps))
            except Refused as refused:
                assert refused.code is Code.STREAM_UNPAID
                return number
        return 400

    assert 0 < asyncio.run(work()) < 400


def test_vouchers__show_a_channel_to_its_payer_and_to_nobody_else(rig: Rig) -> None:
    wallet = rig.fund()
    answer = stream(rig, wallet)
    url = rig.url + inference.VOUCHERS_PATH
    found = rig.http.post(url, json=wallet.pay(1).to_json()).json()
    assert found["open"] is False
    assert SignedReceipt.from_json(found) == receipt_of(answer)
    assert found["channelState"] == wallet.row.state.to_json()
    before = wallet.row
    assert rig.http.post(url, json=wallet.pay(10**6).to_json()).status_code == 200
    assert wallet.row == before  # no stream runs: a higher voucher is not taken
    wallet.payer = OPERATOR
    forged = rig.http.post(url, json=wallet.pay(1).to_json())
    assert forged.status_code == 402
    assert forged.json()["error"]["details"]["fault"] == x402.Fault.VOUCHER_SIGNATURE
    for body in (b"", b"[]", b"{}", b'{"x402Version": 2, "payload": {"type": "refund"}}'):
        assert rig.http.post(url, content=body).status_code in (400, 402)


# ---------------------------------------------------------------------- many at once


def test_one_request_of_a_channel_at_a_time__others_by_salt(tmp_path: Path) -> None:
    with serve(tmp_path, ModelServer(Faults(pause=0.05))) as rig:
        first, second = rig.fund(), rig.fund(salt=1)
        terms = rig.terms(stream=True)
        found: list[httpx.Response] = []
        thread = threading.Thread(
            target=lambda: found.append(rig.ask(first.pay(terms.amount, terms), stream=True))
        )
        thread.start()
        wait_until(lambda: first.row.is_open, 20)
        busy = rig.ask(first.pay(2 * terms.amount, terms), stream=True)
        assert busy.status_code == 402
        assert busy.json()["error"]["details"]["fault"] == x402.Fault.CHANNEL_BUSY
        assert rig.ask(second.pay(terms.amount, terms), stream=True).status_code == 200
        thread.join()
        assert receipt_of(found[0]).receipt.charged == COST
