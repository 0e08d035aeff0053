# SPDX-License-Identifier: Apache-2.0
"""Hosts that fail, and requests that choose: seen by whose receipt came back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest

from teraproof.protocol.inference import SignedReceipt
from tests.sdk.gateway.played import Habit, Played, model
from tests.sdk.gateway.rig import KEY, Rig, ask, events_of, running, text_of

QUIET: dict[str, Any] = {"canary_rate": 0}
CHEAP, DEAR = (10**6, 10**6, 0), (10**7, 10**7, 0)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def signer(rig: Rig) -> str:
    """Whose receipt came back last."""
    from teraproof.protocol.inference import receipt_domain
    from tests.sdk.gateway.played import CHAIN

    found = [row for row in rig.rows() if row["outcome"] == "ok"][-1]
    return SignedReceipt.from_json(json.loads(found["receipt"])).signer(receipt_domain(CHAIN))


@pytest.mark.parametrize(
    "habit",
    [
        Habit(status=500),
        Habit(status=503),
        Habit(status=429),
        Habit(dies_at=0),
        Habit(errors_at=0),
        Habit(busy=True),
        Habit(first_wait=5.0),
    ],
    ids=lambda habit: f"{habit.status or ''}{habit.dies_at}{habit.errors_at}{habit.first_wait}",
)
def test_failure_before_the_first_content__is_not_seen_by_the_client(
    habit: Habit, tmp_path: Path
) -> None:
    async def work() -> None:
        with Played(price=CHEAP) as bad, Played(price=DEAR) as good:
            route = {**QUIET, "first_content_seconds": 1.0}
            async with running(tmp_path, [bad, good], route=route) as rig:
                await rig.words()  # with the deposit, for which there is more time
                bad.habit = habit
                text, events = await rig.words()
                assert text.startswith("w0 w1 ")
                assert not [event for event in events if "error" in event]
                assert signer(rig) == good.operator.address
                assert bad.asked == 2
                assert [row["outcome"] for row in rig.rows()] == ["ok", "failed", "ok"]

    run(work())


@pytest.mark.parametrize("token", [1, 5, 11])
@pytest.mark.parametrize("way", ["dies_at", "errors_at"])
def test_failure_behind_it__is_one_error_event_and_nothing_after(
    way: str, token: int, tmp_path: Path
) -> None:
    async def work() -> None:
        habit = Habit(dies_at=token) if way == "dies_at" else Habit(errors_at=token)
        with Played(price=CHEAP, habit=habit) as bad, Played(price=DEAR) as good:
            async with running(tmp_path, [bad, good], route=QUIET, pay={"step_tokens": 2}) as rig:
                answer = await rig.client.post("/v1/chat/completions", json=ask(stream=True))
                events = events_of(answer.content)
                assert text_of(events) == "".join(f"w{number} " for number in range(token))
                assert "error" in events[-1]
                assert sum("error" in event for event in events) == 1
                assert b"[DONE]" not in answer.content
                assert good.asked == 0
                # What receipts show is booked; at most two steps and the prompt are open.
                (channel,) = rig.gateway.relay.means.purse.ledger.channels.values()
                prices = bad.models[0].prices
                prompt = len(bad.served[0][2]) + 16
                assert channel.charged <= bad.charged <= channel.signed
                assert channel.signed - channel.charged <= prices.cost(prompt, 2 * 2)
                # It is left out now.
                text, _ = await rig.words()
                assert text and signer(rig) == good.operator.address

    run(work())


def test_failed_host__is_asked_again_when_its_time_is_over(tmp_path: Path) -> None:
    async def work() -> None:
        now = [0.0]
        with Played(price=CHEAP, habit=Habit(status=500)) as bad, Played(price=DEAR) as good:
            async with running(tmp_path, [bad, good], route=QUIET, clock=lambda: now[0]) as rig:
                for _ in range(3):
                    assert (await rig.chat()).json()["provider"] == good.owner
                assert bad.asked == 1
                now[0] = 6.0
                await rig.chat()
                assert bad.asked == 2
                now[0] = 12.0  # this time it is left out for 10 s
                await rig.chat()
                assert bad.asked == 2
                now[0] = 17.0
                bad.habit.status = 0
                assert (await rig.chat()).json()["provider"] == bad.owner

    run(work())


def test_all_hosts_fail__is_one_clean_error(tmp_path: Path) -> None:
    async def work() -> None:
        with Played(habit=Habit(status=500)) as one, Played(habit=Habit(status=502)) as two:
            async with running(tmp_path, [one, two], route=QUIET) as rig:
                answer = await rig.chat()
                assert answer.status_code == 502
                assert answer.json()["error"]["code"] == "hosts_exhausted"
                assert one.asked == two.asked == 1
                assert one.charged == two.charged == 0

    run(work())


def test_request_that_is_wrong__gets_the_hosts_own_answer_and_excludes_nobody(
    tmp_path: Path,
) -> None:
    async def work() -> None:
        with Played(habit=Habit(status=400)) as one:
            async with running(tmp_path, [one], route=QUIET) as rig:
                answer = await rig.chat()
                assert answer.status_code == 400
                assert answer.json()["error"]["message"] == "as it likes"
                assert not rig.gateway.hosts.is_out(one.owner)

    run(work())


@pytest.mark.parametrize("streams", [False, True])
def test_host_that_refuses_what_others_serve__is_soon_asked_no_more_at_any_price(
    tmp_path: Path, streams: bool
) -> None:
    async def work() -> None:
        refusing = Played(price=CHEAP, habit=Habit(status=400))
        serving = Played(price=DEAR)
        with refusing as one, serving as two:
            async with running(tmp_path, [one, two], route=QUIET) as rig:
                for _ in range(12):
                    answer = await rig.chat(stream=streams)
                    assert answer.status_code == 200
                assert rig.gateway.hosts.is_out(one.owner)
                assert (one.asked, two.asked) == (9, 12)
                assert not rig.gateway.hosts.dropped

    run(work())


@pytest.mark.parametrize(
    ("provider", "answers"),
    [
        ({}, "cheap"),
        ({"order": ["dear"]}, "dear"),
        ({"only": ["dear"]}, "dear"),
        ({"ignore": ["cheap"]}, "dear"),
        ({"max_price": {"prompt": 2}}, "cheap"),
        ({"max_price": {"prompt": 0.1}}, None),
        ({"only": ["dear"], "max_price": {"completion": 2}}, None),
        ({"quantizations": ["fp8"]}, "dear"),
        ({"require_parameters": True}, "cheap"),
        ({"sort": "price"}, "cheap"),
        ({"order": ["dear", "cheap"], "allow_fallbacks": False}, "dear"),
    ],
)
def test_provider_object__decides_whose_receipt_comes_back(
    provider: dict[str, Any], answers: str | None, tmp_path: Path
) -> None:
    async def work() -> None:
        fp8 = model(price=DEAR, quantization="fp8", parameters=())
        with Played(price=CHEAP) as cheap, Played(models=(fp8,)) as dear:
            names = {"cheap": cheap.owner, "dear": dear.owner}
            async with running(tmp_path, [cheap, dear], route=QUIET, names=names) as rig:
                answer = await rig.chat(provider=provider, temperature=0)
                if answers is None:
                    assert answer.status_code == 404
                    assert cheap.asked == dear.asked == 0
                else:
                    wanted = cheap if answers == "cheap" else dear
                    assert signer(rig) == wanted.operator.address

    run(work())


@pytest.mark.parametrize(
    ("provider", "answered"),
    [
        ({"allow_fallbacks": False}, False),
        ({"order": ["bad"], "allow_fallbacks": False}, False),
        ({"only": ["bad"]}, False),
        ({"order": ["bad"]}, True),
        ({}, True),
    ],
)
def test_fallbacks__only_where_they_are_allowed(
    provider: dict[str, Any], answered: bool, tmp_path: Path
) -> None:
    async def work() -> None:
        with Played(price=CHEAP, habit=Habit(status=500)) as bad, Played(price=DEAR) as good:
            names = {"bad": bad.owner, "good": good.owner}
            async with running(tmp_path, [bad, good], route=QUIET, names=names) as rig:
                answer = await rig.chat(provider=provider)
                assert answer.status_code == (200 if answered else 502)
                assert good.asked == answered
                assert bad.asked == 1

    run(work())


def test_models__are_fallbacks_of_each_other(tmp_path: Path) -> None:
    async def work() -> None:
        with Played("model-a", habit=Habit(status=500)) as one, Played("model-b") as two:
            async with running(tmp_path, [one, two], route=QUIET) as rig:
                answer = await rig.chat(models=["model-b"])
                assert answer.json()["model"] == "model-b"
                assert signer(rig) == two.operator.address
                assert one.asked == 1
                unknown = await rig.chat(model="model-c", models=["model-b"])
                assert unknown.json()["model"] == "model-b"
                assert (await rig.chat(model="model-c")).status_code == 404

    run(work())


def test_client_that_goes_away__is_booked_and_frees_the_channel(tmp_path: Path) -> None:
    async def work() -> None:
        with Played(habit=Habit(words=40, first_wait=3.0)) as one:
            async with running(tmp_path, [one], route=QUIET) as rig:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(1.0):
                        await rig.chat()
                await rig.gateway.relay.close()
                (channel,) = rig.gateway.relay.means.purse.ledger.channels.values()
                assert not channel.busy
                (row,) = rig.rows()
                assert row["outcome"] == "failed"
                assert channel.unclear == channel.signed - channel.charged > 0
                assert rig.gateway.hosts.out_for(one.owner) == 0

    run(work())


def test_door__asks_for_a_key_and_for_bodies_that_it_can_read(tmp_path: Path) -> None:
    async def work() -> None:
        with Played() as one:
            async with running(
                tmp_path, [one], route=QUIET, listen={"max_body_bytes": 2_000}, models=("model-a",)
            ) as rig:
                client = rig.client
                strange = {"authorization": "Bearer sk-other-0123456789"}
                for headers in (strange, {"authorization": KEY}, {"authorization": ""}):
                    answer = await client.get("/v1/models", headers=headers)
                    assert answer.status_code == 401
                assert (await client.post("/v1/chat/completions", content=b"[")).status_code == 400
                deep = b"[" * 1_000
                assert (await client.post("/v1/chat/completions", content=deep)).status_code == 400
                plain = json.dumps(ask(temperature=0.5)).encode()
                for word in (b"NaN", b"-Infinity", b"1e999"):
                    odd = plain.replace(b"0.5", word)
                    answer = await client.post("/v1/chat/completions", content=odd)
                    assert answer.status_code == 400
                long = json.dumps(ask(more="x" * 3_000)).encode()
                assert (await client.post("/v1/chat/completions", content=long)).status_code == 413
                assert (await client.get("/v1/other")).status_code == 404
                assert (await client.get("/v1/embeddings")).status_code == 405
                assert (await rig.chat(model="model-b")).status_code == 404
                wanted = {"quantizations": ["fp8"]}
                nobody = await rig.chat(provider=wanted)
                assert nobody.status_code == 404
                assert "1 with the quantization unknown" in nobody.json()["error"]["message"]
                refused = await rig.chat(provider={"zdr": True})
                assert refused.status_code == 400
                assert "provider.zdr" in refused.json()["error"]["message"]
                assert one.asked == 0
                assert (await rig.chat(usage={"include": True})).status_code == 200
                rows = (await client.get("/v1/models")).json()["data"]
                assert [row["id"] for row in rows] == ["model-a"]
                assert rows[0]["context_length"] == 4_096
                assert rows[0]["endpoints"][0]["provider"] == one.owner
                row = (await client.get("/v1/models/model-a")).json()
                assert row["pricing"] == {
                    "prompt": "0.000001",
                    "completion": "0.000002",
                    "request": "0",
                }

    run(work())


def test_canary__is_paid_compared_and_not_sent_where_the_request_forbids_it(
    tmp_path: Path,
) -> None:
    async def work() -> None:
        with Played(price=CHEAP) as one, Played(price=DEAR) as two:
            async with running(tmp_path, [one, two], route={"canary_rate": 1.0}) as rig:
                relay = rig.gateway.relay
                for _ in range(60):
                    await rig.chat()
                await relay.close()
                kinds = [row["kind"] for row in rig.rows()]
                assert 0 < kinds.count("canary") == two.asked
                assert sum(int(row["cost"]) for row in rig.rows()) == one.charged + two.charged
                assert relay.lineups.of("model-a").evidence(two.owner).canaries == two.asked
                before = two.asked
                for _ in range(20):
                    await rig.chat(provider={"only": [one.owner]})
                    await rig.chat(provider={"allow_fallbacks": False})
                await relay.close()
                assert two.asked == before

    run(work())


def test_gone_providers__are_one_error_without_a_traceback(tmp_path: Path) -> None:
    async def work() -> None:
        with Played() as one:
            pass
        async with running(tmp_path, [one], route=QUIET) as rig:
            answer = await rig.chat()
            assert answer.status_code == 502
            assert "no answer came" in answer.json()["error"]["message"]
            assert isinstance(answer, httpx.Response)

    run(work())
