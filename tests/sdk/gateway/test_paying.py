# SPDX-License-Identifier: Apache-2.0
"""The gateway pays what its receipts show, in time, within its budgets, and no liar twice."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from teraproof.gateway import ledger as rows
from teraproof.protocol.inference import SignedReceipt, receipt_domain
from tests.sdk.gateway.played import CHAIN, USD, Habit, Played, model, word
from tests.sdk.gateway.rig import Rig, ask, running, text_of

QUIET: dict[str, Any] = {"canary_rate": 0}


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def total(rig: Rig) -> int:
    """What the log says that everything has cost."""
    return sum(int(row["cost"] or 0) for row in rig.rows())


def test_answer__is_paid_by_its_receipt_and_says_its_cost(tmp_path: Path) -> None:
    async def work() -> None:
        with Played() as one:
            async with running(tmp_path, [one], route=QUIET) as rig:
                answer = await rig.chat()
                assert answer.status_code == 200, answer.text
                found = answer.json()
                assert found["usage"]["cost"] == one.charged / USD
                assert found["provider"] == one.owner
                assert answer.headers["teraproof-provider"] == one.owner
                (row,) = rig.rows()
                assert int(row["cost"]) == one.charged > 0
                (channel,) = rig.gateway.relay.means.purse.ledger.channels.values()
                assert channel.charged == one.charged
                assert channel.receipt is not None
                channel.receipt.check(receipt_domain(CHAIN), str(one.operator.address))
                assert channel.balance == USD  # pay.deposit

    run(work())


def test_stream__comes_word_by_word_and_is_paid_one_step_ahead(tmp_path: Path) -> None:
    async def work() -> None:
        habit = Habit(words=40)
        with Played(price=(0, 2_000_000, 0), habit=habit) as one:
            async with running(tmp_path, [one], route=QUIET, pay={"step_tokens": 8}) as rig:
                text, events = await rig.words()
                assert text == "".join(f"{word(number)} " for number in range(40))
                assert events[-1]["usage"]["cost"] == one.charged / USD
                assert total(rig) == one.charged
                assert one.most_unpaid <= 0  # not one token was served beyond a voucher
                # Vouchers never fall, and each was for at most two steps more than was shown.
                sums = [voucher.amount for voucher in one.vouchers]
                assert sums == sorted(sums)
                assert len(sums) > 3
                assert sums[0] == 2 * 8
                assert sums[-1] <= 2 * (40 + 2 * 8)

    run(work())


def test_many_at_once__each_has_a_channel_of_its_own(tmp_path: Path) -> None:
    async def work() -> None:
        with Played(habit=Habit(first_wait=0.05)) as one:
            async with running(tmp_path, [one], route=QUIET, pay={"deposit": "0.1"}) as rig:
                answers = await asyncio.gather(*(rig.chat() for _ in range(6)))
                assert [answer.status_code for answer in answers] == [200] * 6
                assert len(one.book) == 6
                again = await rig.chat()
                assert again.status_code == 200
                assert len(one.book) == 6  # a free one was taken again
                assert total(rig) == one.charged
                assert len(one.deposits) == 6

    run(work())


def test_short_channel__is_topped_up_within_the_budget_and_not_beyond(tmp_path: Path) -> None:
    async def work() -> None:
        # A request costs 0.3 tokens, whatever it says.
        with Played(price=(0, 0, 300_000)) as one:
            pay = {"total": "1.0", "per_provider": "1.0", "deposit": "0.4"}
            async with running(tmp_path, [one], route=QUIET, pay=pay) as rig:
                codes = [(await rig.chat()).status_code for _ in range(5)]
                assert codes == [200, 200, 200, 402, 402]
                assert sum(one.deposits.values()) <= USD
                assert total(rig) == one.charged == 900_000
                refused = await rig.chat()
                assert refused.json()["error"]["code"] == "budget_spent"

    run(work())


def test_budget_for_all__holds_over_two_providers(tmp_path: Path) -> None:
    async def work() -> None:
        with Played(price=(0, 0, 300_000)) as one, Played(price=(0, 0, 300_000)) as two:
            pay = {"total": "1.0", "per_provider": "0.7", "deposit": "0.3"}
            async with running(tmp_path, [one, two], route=QUIET, pay=pay) as rig:
                codes = [(await rig.chat()).status_code for _ in range(5)]
                assert codes == [200, 200, 200, 402, 402]
                deposits = [sum(each.deposits.values()) for each in (one, two)]
                assert max(deposits) <= 700_000
                assert sum(deposits) <= USD

    run(work())


@pytest.mark.parametrize(
    ("lie", "line"),
    [
        ("forged", "another key than the operator's"),
        ("overcharged", "and the price is"),
        ("other_answer", "its response is not that of this answer"),
        ("other_request", "its request is not that of this answer"),
        ("jumped", "receipts show"),
        ("none", "without a receipt"),
    ],
)
@pytest.mark.parametrize("streams", [False, True], ids=["json", "stream"])
def test_liar__is_dropped_and_the_next_host_answers(
    lie: str, line: str, streams: bool, tmp_path: Path
) -> None:
    async def work() -> None:
        with Played(habit=Habit(receipt=lie)) as liar, Played(price=(10**7, 10**7, 0)) as honest:
            async with running(tmp_path, [liar, honest], route=QUIET) as rig:
                if streams:
                    text, events = await rig.words()
                    # Its words had begun, so this client sees an error.
                    assert "error" in events[-1] or text
                    text, events = await rig.words()
                    assert events[-1]["provider"] == honest.owner
                else:
                    answer = await rig.chat()
                    assert answer.json()["provider"] == honest.owner
                assert line in rig.gateway.hosts.dropped[liar.owner]
                asked = liar.asked
                await rig.chat()
                assert liar.asked == asked
            # It stays dropped after a restart.
            async with running(tmp_path, [liar, honest], route=QUIET) as rig:
                await rig.chat()
                assert liar.asked == asked

    run(work())


def test_number_used_before__is_a_lie(tmp_path: Path) -> None:
    async def work() -> None:
        with Played() as one:
            async with running(tmp_path, [one], route=QUIET) as rig:
                assert (await rig.chat()).status_code == 200
                one.habit.receipt = "repeated"
                assert (await rig.chat()).status_code == 502
                assert "was used before" in rig.gateway.hosts.dropped[one.owner]

    run(work())


def test_claim_of_more_than_receipts_show__is_not_paid(tmp_path: Path) -> None:
    async def work() -> None:
        with Played() as one:
            async with running(tmp_path, [one], route=QUIET) as rig:
                await rig.chat()
                paid = max(voucher.amount for voucher in one.vouchers)
                one.habit.says_charged = 10
                assert (await rig.chat()).status_code == 502
                assert "receipts show" in rig.gateway.hosts.dropped[one.owner]
                most = max(voucher.amount for voucher in one.vouchers)
                assert most <= max(paid, one.charged + model().ceiling(b"x" * 400, 64))

    run(work())


def test_request_without_a_receipt__may_be_charged_once_and_is_booked_when_it_shows(
    tmp_path: Path,
) -> None:
    async def work() -> None:
        with Played(habit=Habit(dies_at=0)) as one:
            route = {**QUIET, "max_tries": 1}
            async with running(tmp_path, [one], route=route) as rig:
                answer = await rig.client.post("/v1/chat/completions", json=ask(stream=True))
                assert answer.status_code == 502
                (channel,) = rig.gateway.relay.means.purse.ledger.channels.values()
                lost = channel.unclear
                assert lost > 0
                key = rig.gateway.relay.means.keys.every()[0]
                assert key.unclear == {channel.id: lost}
                # It says later that it has charged a part of it: that is possible, so it is paid.
                one.habit.dies_at = None
                (kept,) = one.book.values()
                kept.charged += lost // 2
                assert (await rig.chat()).status_code == 200
                assert channel.unclear == 0
                assert key.unclear == {}
                assert total(rig) == one.charged
                assert sum(key.spent.values()) == one.charged

    run(work())


def test_receipt_that_was_lost__is_asked_for_before_the_channel_pays_again(tmp_path: Path) -> None:
    async def work() -> None:
        with Played(habit=Habit(words=20, dies_at=10, remembers=True)) as one:
            async with running(tmp_path, [one], route=QUIET) as rig:
                await rig.words()
                (key,) = rig.gateway.relay.means.keys.every()
                assert one.charged > 0 == total(rig)
                assert sum(key.unclear.values()) > 0
                one.habit = Habit(status=400, remembers=True)
                await rig.chat()  # refused, and nothing is charged for it
                (channel,) = rig.gateway.relay.means.purse.ledger.channels.values()
                assert channel.charged == one.charged
                assert [int(row["cost"]) for row in rig.rows()] == [one.charged, 0]
                assert sum(key.spent.values()) == one.charged

    run(work())


@pytest.mark.parametrize(
    ("lie", "price"), [("forged", (1_000_000, 2_000_000, 0)), ("jumped", (0, 1, 1_000))]
)
def test_lost_receipt_that_does_not_hold__is_a_lie(
    lie: str, price: tuple[int, int, int], tmp_path: Path
) -> None:
    async def work() -> None:
        habit = Habit(words=64, dies_at=63, remembers=True, receipt=lie)
        with Played(price=price, habit=habit) as one:
            async with running(tmp_path, [one], route=QUIET) as rig:
                await rig.words()
                one.habit = Habit(remembers=True)
                assert (await rig.chat()).status_code == 502
                assert one.owner in rig.gateway.hosts.dropped

    run(work())


def test_second_request_in_a_row_without_a_receipt__ends_the_use_of_the_channel(
    tmp_path: Path,
) -> None:
    async def work() -> None:
        with Played(habit=Habit(dies_at=0)) as one:
            route = {**QUIET, "max_tries": 1}
            async with running(tmp_path, [one], route=route) as rig:
                await rig.client.post("/v1/chat/completions", json=ask(stream=True))
                (channel,) = rig.gateway.relay.means.purse.ledger.channels.values()
                signed = channel.signed
                for _ in range(3):
                    await rig.client.post("/v1/chat/completions", json=ask(stream=True))
                assert channel.state == rows.OPEN
                assert channel.signed == signed  # it has charged nothing, so nothing more is signed
                one.book[channel.id].charged = signed
                await rig.client.post("/v1/chat/completions", json=ask(stream=True))
                assert channel.state == rows.LEAVING
                assert channel.signed <= 2 * signed
                one.habit.dies_at = None
                assert (await rig.chat()).status_code == 200
                assert len(one.book) == 2

    run(work())


def test_deposit_that_is_not_taken__is_signed_once(tmp_path: Path) -> None:
    async def work() -> None:
        with Played(habit=Habit(takes_deposits=False)) as one:
            route = {**QUIET, "max_tries": 1}
            async with running(tmp_path, [one], route=route) as rig:
                for _ in range(3):
                    assert (await rig.chat()).status_code == 502
                store = rig.gateway.store
                assert len(store.read("SELECT * FROM deposits")) == 1
                # Its time is over on the chain, which never saw it: another one may be signed.
                (channel,) = rig.gateway.relay.means.purse.ledger.channels.values()
                made = channel.under_way
                assert made is not None
                late = replace(made.deposit.authorization, valid_before=1_000)
                made.deposit = replace(made.deposit, authorization=late)
                rig.chain.time = 999
                assert (await rig.chat()).status_code in (402, 502)
                rig.chain.time = 1_000
                one.habit.takes_deposits = True
                assert (await rig.chat()).status_code == 200
                states = [row["state"] for row in store.read("SELECT state FROM deposits")]
                assert sorted(states) == ["done", "void"]

    run(work())


def test_embeddings_and_other_kinds__pass_through(tmp_path: Path) -> None:
    async def work() -> None:
        with Played() as one:
            async with running(tmp_path, [one], route=QUIET) as rig:
                body = {"model": "model-a", "input": "text"}
                answer = await rig.client.post("/v1/embeddings", json=body)
                assert answer.status_code == 200
                assert answer.json()["usage"]["cost"] == one.charged / USD
                stored = {**body, "previous_response_id": "resp_1"}
                refused = await rig.client.post("/v1/responses", json=stored)
                assert refused.status_code == 422
                assert "previous_response_id" in refused.json()["error"]["message"]

    run(work())


def test_log__keeps_receipts_that_verify(tmp_path: Path) -> None:
    async def work() -> None:
        import json

        with Played() as one:
            async with running(tmp_path, [one], route=QUIET) as rig:
                await rig.chat()
                await rig.words()
                for row in rig.rows():
                    receipt = SignedReceipt.from_json(json.loads(row["receipt"]))
                    receipt.check(receipt_domain(CHAIN), str(one.operator.address))
                    assert receipt.receipt.charged == int(row["cost"])
                    assert row["outcome"] == "ok"

    run(work())


def test_budget_of_a_key__is_kept_however_many_ask_at_once(tmp_path: Path) -> None:
    async def work() -> None:
        with Played(price=(0, 0, 300_000), habit=Habit(first_wait=0.02)) as one:
            changes: dict[str, Any] = {"budget": "1", "pay": {"total": "9", "per_provider": "9"}}
            async with running(tmp_path, [one], route=QUIET, **changes) as rig:
                answers = await asyncio.gather(*(rig.chat() for _ in range(8)))
                codes = sorted(answer.status_code for answer in answers)
                assert codes == [200] * 3 + [402] * 5
                assert total(rig) == one.charged == 900_000
            # What was spent is remembered.
            async with running(tmp_path, [one], route=QUIET, **changes) as rig:
                assert (await rig.chat()).status_code == 402

    run(work())


def test_text_of__reads_streams() -> None:
    assert text_of([{"choices": [{"delta": {"content": "a"}}]}, {"choices": []}]) == "a"
