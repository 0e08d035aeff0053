# SPDX-License-Identifier: Apache-2.0
"""Hosts that flood, drip and never end. The next host answers, what is kept here stays small, and
a disk that fails lets nothing leave that is not on it.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import Coroutine
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import pytest

from teraproof.errors import LocalError
from teraproof.gateway import attempt, examine, ledger
from teraproof.gateway.hosts import Demands, Measured
from teraproof.gateway.sse import Reader
from teraproof.protocol.channels import CHANNELS
from teraproof.protocol.inference import Prices
from tests.sdk.gateway.played import CHAIN, TOKEN, USD, Habit, Played, model
from tests.sdk.gateway.rig import ask, running

QUIET: dict[str, Any] = {"canary_rate": 0}
CHEAP, DEAR = (10**6, 10**6, 0), (10**7, 10**7, 0)
EMPTY = b":\n\n" * 40_000
WANTED = Demands(CHAIN, CHANNELS, TOKEN, 6, 7 * 86_400)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


@pytest.mark.parametrize(
    "habit",
    [
        Habit(begins_with=EMPTY),
        Habit(status=500, drips=True),
        Habit(status=402, drips=True),
        Habit(receipts=200, words=0),
        Habit(receipt="endless", words=0),
    ],
    ids=["empty events", "slow reason", "slow terms", "receipts", "number"],
)
def test_host_that_floods_or_drips__the_next_one_answers(
    habit: Habit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "_ERROR_SECONDS", 0.5)

    async def work() -> None:
        with Played(price=CHEAP, habit=habit) as bad, Played(price=DEAR) as good:
            async with running(tmp_path, [bad, good], route=QUIET) as rig:
                text, events = await rig.words()
                assert text.startswith("w0 w1 ")
                assert not [event for event in events if "error" in event]
                assert [row["owner"] for row in rig.rows()] == [bad.owner, good.owner]
                assert {row["outcome"] for row in rig.rows()} == {"ok", "failed"}

    run(work())


@pytest.mark.parametrize("habit", [Habit(busy=True), Habit(status=429), Habit(status=400)])
@pytest.mark.parametrize("streams", [False, True])
def test_refusal_that_takes_long__is_a_failure(
    habit: Habit, streams: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "_REFUSAL_SECONDS", 0.5)

    async def work() -> None:
        with Played(price=(0, 0, 0)) as bad, Played(price=DEAR) as good:
            async with running(tmp_path, [bad, good], route=QUIET) as rig:
                await rig.chat()  # with the deposit, for which there is more time
                for wait, is_out in ((0.0, False), (1.0, True)):
                    bad.habit = replace(habit, refuses_after=wait)
                    answer = await rig.client.post("/v1/chat/completions", json=ask(stream=streams))
                    assert answer.headers["teraproof-provider"] == good.owner
                    assert rig.gateway.hosts.is_out(bad.owner) == is_out

    run(work())


def test_answer_longer_than_its_tokens__is_not_kept(tmp_path: Path) -> None:
    async def work() -> None:
        bloated = Habit(last_word="x" * (2 << 20))
        with Played(price=CHEAP, habit=bloated) as bad, Played(price=DEAR) as good:
            async with running(tmp_path, [bad, good], route=QUIET) as rig:
                answer = await rig.chat(max_tokens=12)
                assert answer.headers["teraproof-provider"] == good.owner
                assert "too long" in rig.rows()[0]["why"]

    run(work())


def test_events_behind_the_usage__are_not_kept_without_end(tmp_path: Path) -> None:
    async def work() -> None:
        with Played(habit=Habit(ends_with=EMPTY)) as bad:
            async with running(tmp_path, [bad], route=QUIET) as rig:
                _, events = await rig.words()
                assert "events without end" in events[-1]["error"]["message"]

    run(work())


def test_stream_that_stays_open_behind_its_end__is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "_OVER_SECONDS", 0.3)

    async def work() -> None:
        with Played(habit=Habit(lingers=True)) as slow:
            async with running(tmp_path, [slow], route=QUIET) as rig:
                _, events = await rig.words()
                assert events[-1]["usage"]["cost"] > 0
                assert [row["outcome"] for row in rig.rows()] == ["ok"]

    run(work())


def test_answer_to_a_voucher_without_end__is_left(tmp_path: Path) -> None:
    async def work() -> None:
        habit = Habit(words=40, floods_vouchers=True)
        with Played(price=(0, 2_000_000, 0), habit=habit) as bad:
            async with running(tmp_path, [bad], route=QUIET, pay={"step_tokens": 8}) as rig:
                _, events = await rig.words()
                assert events[-1]["usage"]["cost"] > 0
                assert len(bad.vouchers) >= 4
        assert bad.flooded < 64 << 20

    run(work())


def test_text_that_no_encoding_has__passes_as_it_came(tmp_path: Path) -> None:
    async def work() -> None:
        with Played(habit=Habit(last_word="\ud800")) as odd:
            async with running(tmp_path, [odd], route=QUIET) as rig:
                found = await rig.client.post(
                    "/v1/chat/completions",
                    content=b'{"model":"model-a","messages":[{"role":"user","content":"\\udc00"}]}',
                )
                assert found.status_code == 200, found.text
                assert "\\ud800" in found.text
                assert [row["outcome"] for row in rig.rows()] == ["ok"]

    run(work())


@pytest.mark.parametrize("word", ["\ud800", "a\nb", "a\x1b[2J", "x" * 300])
def test_names_that_cannot_be_shown__make_no_host(word: str) -> None:
    wanted = WANTED
    with Played() as provider:
        host = provider.host
    host.check(wanted)
    for bad in (model(word), model(quantization=word), model(parameters=(word,))):
        with pytest.raises(LocalError):
            replace(host, offer=replace(host.offer, models=(bad,))).check(wanted)


def test_line_in_many_pieces__costs_no_more_than_its_bytes() -> None:
    reader, begun = Reader(), time.process_time()
    for _ in range(900_000):
        assert not list(reader.feed(b"x"))
    dripped = time.process_time() - begun
    # Pieces of half of it: what came before is looked at again with each one, if ever.
    with pytest.raises(LocalError, match="no end"):
        list(reader.feed(b"x" * (1 << 18)))
    assert dripped < 60  # quadratic: hours


@pytest.mark.parametrize("word", ["uniqueItems", "unevaluatedItems", "unevaluatedProperties"])
def test_schema_that_is_costly_to_check__is_not_checked(word: str) -> None:
    wanted = {"type": "array", word: True, "maxItems": 0}
    form = {"type": "json_schema", "json_schema": {"schema": wanted}}
    assert examine.is_valid({"response_format": form}, "[1]", [], "stop")


@pytest.mark.parametrize("number", ["1" + 400 * "0", "1e999", "-Infinity", "NaN"])
def test_number_that_cannot_be_reckoned_with__is_no_bug_of_the_gateway(number: str) -> None:
    """A host would leave each answer of its unexamined, and break the end of its streams."""
    wanted = {"type": "number", "multipleOf": 0.01}
    form = {"type": "json_schema", "json_schema": {"schema": wanted}}
    assert examine.is_valid({"response_format": form}, number, [], "stop") in (True, False)
    assert not examine.is_valid({"response_format": form}, "0.005", [], "stop")


def test_deposit_that_is_not_on_the_disk__never_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, full = ledger.insert_deposit, [True]

    def insert(db: sqlite3.Connection, *said: Any) -> None:
        if full[0]:
            raise sqlite3.OperationalError("database or disk is full")
        real(db, *said)

    monkeypatch.setattr(ledger, "insert_deposit", insert)

    async def work() -> None:
        with Played() as one:
            async with running(tmp_path, [one], route=QUIET) as rig:
                for _ in range(2):
                    answer = await rig.chat()
                    assert answer.status_code >= 500
                    assert "make room" in answer.json()["error"]["message"]
                assert one.asked == 0
                full[0] = False
                assert (await rig.chat()).status_code == 200
                kept = rig.gateway.store.read("SELECT amount FROM deposits")
                assert [int(row["amount"]) for row in kept] == list(one.deposits.values())

    run(work())


def test_deposit_that_a_host_says_it_made__holds_the_budget_no_longer_than_it_can_be_sent(
    tmp_path: Path,
) -> None:
    async def work() -> None:
        pay = {"total": "1", "per_provider": "1", "deposit": "1"}
        with Played(price=CHEAP) as liar, Played(price=DEAR) as good:
            async with running(tmp_path, [liar], route=QUIET, pay=pay) as rig:
                # The chain has not heard of what the liar says that it has sent.
                rig.chain.providers = [good]
                await rig.chat()
                ledger, hosts = rig.gateway.relay.means.purse.ledger, rig.gateway.hosts
                hosts.replace([good.host])
                assert (await rig.chat()).status_code == 402
                assert ledger.outlay() == USD
                rig.gateway.relay.means.purse._recounted = -1e9
                (row,) = rig.gateway.store.read("SELECT valid_before FROM deposits")
                rig.chain.time = row["valid_before"]  # now it can still be sent, perhaps
                assert (await rig.chat()).status_code == 402
                await rig.gateway.relay.means.purse.settled()
                assert ledger.outlay() == USD
                rig.chain.time += 1
                rig.gateway.relay.means.purse._recounted = -1e9
                assert (await rig.chat()).status_code == 402
                await rig.gateway.relay.means.purse.settled()
                assert ledger.outlay() == 0
                assert (await rig.chat()).status_code == 200
                assert ledger.outlay() == USD

    run(work())


@pytest.mark.parametrize("name", ["context", "max_completion", "overhead"])
def test_model_with_numbers_beyond_reason__its_host_is_not_used(name: str) -> None:
    """Its receipts could name more tokens than the store can keep, for nothing."""
    most = model("model-a", (0, 0, 1), **{name: 10**9})
    with Played(models=(most,)) as host:
        host.host.check(WANTED)
        more = (model("model-a", (0, 0, 1), **{name: 10**9 + 1}),)
        found = replace(host.host, offer=replace(host.host.offer, models=more))
        with pytest.raises(LocalError, match="1,000,000,000 tokens"):
            found.check(WANTED)


def test_host_that_bills_the_most_tokens__is_measured_in_numbers_that_can_be_kept() -> None:
    seen = Measured()
    seen.answered(0.1, 1e300)
    assert Measured.from_json(json.loads(json.dumps(list(astuple(seen))))) == seen


@pytest.mark.parametrize("stream", [False, True])
def test_host_whose_answers_may_cost_more_than_the_budget__the_next_one_serves(
    tmp_path: Path, stream: bool
) -> None:
    """Its usual answer is the cheapest, and its longest one is not to be paid."""
    lure = replace(model("model-a", (1, 1, 0)), max_completion=10**9, context=10**9)
    lure = replace(lure, prices=Prices(1, 10**6, 0))
    with Played(models=(lure,)) as bad, Played(price=(10**7, 10**7, 0)) as good:

        async def work() -> None:
            async with running(tmp_path, [bad, good]) as rig:
                answer = await rig.chat(stream=stream)
                assert answer.status_code == 200, answer.text
                assert answer.headers["teraproof-provider"] == good.owner
                assert not rig.gateway.hosts.is_out(bad.owner)

        asyncio.run(work())
    assert bad.asked == 0
