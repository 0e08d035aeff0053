# SPDX-License-Identifier: Apache-2.0
"""An account with too little money signs no deposit: a provider would refuse it, and no other one
could be signed while it is good.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from teraproof.errors import LocalError
from tests.sdk.gateway.played import Habit, Played, model, word
from tests.sdk.gateway.rig import Rig, running

QUIET: dict[str, Any] = {"canary_rate": 0}
PRICE = (0, 0, 300_000)  # units for each request, whatever it says


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def deposits(rig: Rig) -> list[int]:
    rows = rig.gateway.store.read("SELECT amount FROM deposits ORDER BY rowid")
    return [int(row["amount"]) for row in rows]


def test_account_without_money__is_told_and_pays_as_soon_as_it_has_some(tmp_path: Path) -> None:
    async def work() -> None:
        with Played(price=PRICE) as one:
            async with running(tmp_path, [one], route=QUIET) as rig:
                rig.chain.money = 299_999
                refused = await rig.chat()
                assert refused.status_code == 402
                error = refused.json()["error"]
                assert error["code"] == "budget_spent"
                assert f"{rig.payer.address} holds too few payment tokens" in error["message"]
                assert (deposits(rig), one.charged) == ([], 0)
                rig.chain.money = 300_000
                assert (await rig.chat()).status_code == 200
                assert deposits(rig) == [300_000]

    run(work())


def test_account_with_less_than_the_usual_deposit__deposits_what_it_has(tmp_path: Path) -> None:
    async def work() -> None:
        with Played(price=PRICE) as one:
            async with running(tmp_path, [one], route=QUIET, pay={"deposit": "1"}) as rig:
                rig.chain.money = 700_000
                assert [(await rig.chat()).status_code for _ in range(2)] == [200, 200]
                assert deposits(rig) == [700_000]

    run(work())


def test_node_that_does_not_answer__stops_no_deposit(tmp_path: Path) -> None:
    async def work() -> None:
        def away(account: str) -> int:
            raise LocalError("no node answers")

        with Played(price=PRICE) as one:
            async with running(tmp_path, [one], route=QUIET, pay={"deposit": "1"}) as rig:
                rig.chain.funds = away  # type: ignore[method-assign]
                assert (await rig.chat()).status_code == 200
                assert deposits(rig) == [1_000_000]

    run(work())


def test_stream_that_may_run_dry__goes_on_with_what_is_deposited(tmp_path: Path) -> None:
    long = model(price=(0, 2_000_000, 0), max_completion=600)

    async def work() -> None:
        with Played(models=(long,), habit=Habit(words=40)) as one:
            pay = {"deposit": "0.001", "step_tokens": 8}
            async with running(tmp_path, [one], route=QUIET, pay=pay) as rig:
                await rig.words(max_tokens=50)
                rig.chain.money = 0
                text, _ = await rig.words(max_tokens=480)
                assert text == "".join(f"{word(number)} " for number in range(40))
                assert (deposits(rig), one.charged) == ([1_000], 160)

    run(work())
