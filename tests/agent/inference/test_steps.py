# SPDX-License-Identifier: Apache-2.0
"""What the steps of a stream cost the provider: a least step, and no payer in front of others."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from eth_account import Account

from provider_agent.modules.inference.billing import Bill, Desk
from provider_agent.modules.inference.journal import Journal
from provider_agent.modules.inference.settings import InferenceSettings
from provider_agent.modules.inference.shares import MOST
from provider_agent.modules.inference.streaming import Steps
from teraproof.errors import LocalError
from teraproof.protocol import inference, x402
from teraproof.protocol.inference import STEP_HEADER, InferenceOffer, Prices
from teraproof.protocol.inference_request import ModelRequest
from tests.agent.inference.parts import CHAIN, OPERATOR, PAYER
from tests.agent.inference.rig import MODEL, Rig, Wallet, receipt_of, request_of, serve


@pytest.mark.parametrize("kind", ["chat", "completions", "responses"])
def test_step_below_the_least__refused_by_name_before_anything_is_paid(
    tmp_path: Path, kind: str
) -> None:
    with serve(tmp_path, min_step=8) as rig:
        wallet = rig.fund()
        for payment in (None, wallet.pay(10**6)):
            for step in (1, 7):
                answer = rig.ask(payment, kind, step, stream=True)
                assert answer.status_code == 400
                error = answer.json()["error"]
                assert error["code"] == "field_invalid"
                assert error["details"] == {"field": STEP_HEADER, "least": 8}
        assert rig.server.asked == [] and wallet.row.charged == 0
        assert rig.ask(wallet.pay(10**6), kind, 8, stream=True).status_code == 200


def test_least_step__stands_in_the_offer_and_in_the_402(tmp_path: Path) -> None:
    with serve(tmp_path, min_step=8) as rig:
        assert rig.offer.min_step == 8
        terms = rig.terms()
        assert terms.min_step == 8
        assert x402.Terms.from_json(terms.to_json()) == terms
        said = rig.offer.to_json()
        del said["min_step"]
        assert InferenceOffer.from_json(said).min_step == 1, "of a provider from before"
        for wrong in (0, inference.MOST_LEAST_STEP + 1):
            with pytest.raises(LocalError, match="min_step"):
                InferenceOffer.from_json({**said, "min_step": wrong})
    assert InferenceSettings().min_step == 16


# ---------------------------------------------------------------------- one payer and others


def test_receipts_of_one_payer__a_few_at_a_time_and_others_go_by(tmp_path: Path) -> None:
    """A hundred streams of one payer end a step at once. Another payer's receipt waits for a few
    of them, and not for all.
    """
    with serve(tmp_path) as rig:
        crowd = [rig.fund(salt=salt) for salt in range(100)]
        other = rig.fund(payer=Account.from_key(b"\x09" * 32))
        asyncio.run(_work(rig, crowd, other))
        for wallet in (*crowd, other):
            row = wallet.row
            assert row.receipt is not None and not row.is_open
            assert row.charged == row.receipt.receipt.cumulative == 60


async def _work(rig: Rig, crowd: list[Wallet], other: Wallet) -> None:
    journal = Journal(rig.book)  # not started: nothing of it is written yet
    desk = Desk(rig.book, journal, inference.receipt_domain(CHAIN), OPERATOR, CHAIN)
    model = rig.offer.models[0]
    asked = ModelRequest.of("chat", request_of("chat"), 100, model)
    free = SimpleNamespace(name=MODEL, prices=Prices(0, 60 * 10**6), word=bytes(32))

    def bill(wallet: Wallet) -> Bill:
        row = rig.book.begin(wallet.pay(1_000).voucher, 600, 10**9)
        made: Any = free
        return Bill(desk, row, made, asked, bytes(32), 100)

    async def serve_one(one: Bill) -> None:
        await one.step(0, 1, bytes(32), 2)
        await one.end(0, 1, bytes(32))

    tasks = [asyncio.create_task(serve_one(bill(wallet))) for wallet in crowd]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting = journal._parts.qsize()
    assert waiting == MOST
    tasks.append(asyncio.create_task(serve_one(bill(other))))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert journal._parts.qsize() == waiting + 1, "the other one has gone by"
    journal.start()
    await asyncio.gather(*tasks)
    journal.close()
    assert desk.shares._places == {} == desk.shares._here, (
        "nothing is kept of payers that have gone"
    )


# ---------------------------------------------------------------------- vouchers


def test_voucher__pays_for_a_step_or_takes_of_the_strangers_time(tmp_path: Path) -> None:
    with serve(tmp_path) as rig:
        wallet = rig.fund()
        left = rig.front._routes._unpaid
        left._clock = lambda: 0.0
        left._at, left._left = 0.0, 0.5
        url, useless = rig.url + inference.VOUCHERS_PATH, wallet.pay(1).to_json()
        assert rig.http.post(url, json=useless).status_code == 200
        assert left._left < 0.5
        left._left = -1.0
        busy = rig.http.post(url, json=useless)
        assert (busy.status_code, busy.json()["error"]["code"]) == (503, "server_busy")


def test_voucher__that_pays_for_the_next_step_is_taken_while_strangers_wait(
    tmp_path: Path,
) -> None:
    with serve(tmp_path, model={"prompt_price": "0"}) as rig:
        wallet = rig.fund()
        left = rig.front._routes._unpaid
        terms = rig.terms(step=4, stream=True)
        headers = {
            x402.SIGNATURE_HEADER: wallet.pay(terms.amount, terms).encode(),
            STEP_HEADER: "4",
        }
        url, body = rig.url + inference.PATHS["chat"], request_of("chat", stream=True)
        vouchers, seen = rig.url + inference.VOUCHERS_PATH, b""
        with rig.http.stream("POST", url, json=body, headers=headers) as answer:
            pieces = answer.iter_raw()
            while inference.COMMENT not in seen:
                seen += next(pieces)
            left._clock = lambda: 0.0
            left._at, left._left = 0.0, -1.0
            for amount in (terms.amount, terms.amount + 1):
                paid = rig.http.post(vouchers, json=wallet.pay(amount).to_json())
                assert paid.status_code == 503, "it pays for no step"
            paid = rig.http.post(vouchers, json=wallet.pay(10 * 60).to_json())
            assert paid.status_code == 200 and left._left == pytest.approx(-1.0)
            for piece in pieces:
                seen += piece
        assert seen.endswith(inference.DONE)
        assert wallet.row.charged == 600


@pytest.mark.parametrize(
    ("held", "voucher", "pays"),
    [
        (4, 8, True), (4, 7, False), (4, 4, False), (5, 8, True), (9, 10, False), (9, 12, True),
        (12, 13, False), (17, 20, True), (19, 20, True), (20, 21, False), (3, 8, True),
    ],
)  # fmt: skip
def test_voucher__counts_as_a_step_when_it_covers_one_that_none_has_covered(
    held: int, voucher: int, pays: bool
) -> None:
    bill: Any = SimpleNamespace(
        voucher=held,
        asked=SimpleNamespace(limit=20),
        model=SimpleNamespace(prices=Prices(0, 10**6)),
        needed=lambda prompt, end: end,
    )
    assert Steps(bill, 4, 1.0).is_paid_by(voucher) is pays


def test_receipts__say_the_steps_that_were_asked_for(tmp_path: Path) -> None:
    with serve(tmp_path, min_step=4) as rig:
        answer = rig.ask(rig.fund(payer=PAYER).pay(10**6), step=4, stream=True)
        assert receipt_of(answer).receipt.completion_tokens == 10
        assert answer.content.count(inference.COMMENT) == 3
