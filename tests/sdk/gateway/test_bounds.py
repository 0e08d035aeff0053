# SPDX-License-Identifier: Apache-2.0
"""What hosts say of their usage, how much of the machine their answers take, what they keep of
deposits, and what becomes of a request where the disk takes nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from collections.abc import Coroutine
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account

from teraproof.errors import LocalError
from teraproof.gateway import room as rooms
from teraproof.gateway.hosts import Demands
from teraproof.gateway.room import OWN, Full, Room
from teraproof.gateway.settings import GatewaySettings
from teraproof.gateway.store import Store
from teraproof.protocol.channels import CHANNELS
from teraproof.protocol.errors import Code
from tests.sdk.gateway.played import CHAIN, TOKEN, USD, Habit, Played, model
from tests.sdk.gateway.rig import ask, running, settings

QUIET: dict[str, Any] = {"canary_rate": 0}
CHEAP, DEAR = (10**6, 10**6, 0), (10**7, 10**7, 0)
MIB = 1 << 20


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


# ---------------------------------------------------------------------- usage


def test_usage_with_each_event__the_stream_flows(tmp_path: Path) -> None:
    """What has come is with the client when the host dies: nothing waits for a last usage."""

    async def work() -> None:
        habit = Habit(usage_early=True, dies_at=5)
        with Played(price=CHEAP, habit=habit) as one, Played(price=DEAR) as other:
            async with running(tmp_path, [one, other], route=QUIET) as rig:
                text, events = await rig.words()
                assert text == "w0 w1 w2 w3 w4 "
                assert events[0]["choices"][0]["delta"]["role"] == "assistant"  # in their order
                assert "error" in events[-1]
                assert rig.rows()[0]["latency_ms"] is not None
                assert other.asked == 0

    run(work())


@pytest.mark.parametrize("usages", [1, 2, 3])
@pytest.mark.parametrize("early", [False, True])
def test_usage_more_than_once__the_cost_is_there_once(
    tmp_path: Path, early: bool, usages: int
) -> None:
    async def work() -> None:
        habit = Habit(usage_early=early, usages=usages)
        with Played(habit=habit) as one:
            async with running(tmp_path, [one], route=QUIET) as rig:
                text, events = await rig.words()
                assert text == "".join(f"w{number} " for number in range(12))
                costs = [event["usage"]["cost"] for event in events if "cost" in _usage(event)]
                assert costs == [one.charged / USD]
                assert "cost" in _usage(events[-1])

    run(work())


def _usage(event: dict[str, Any]) -> dict[str, Any]:
    return event.get("usage") or {}


# ---------------------------------------------------------------------- memory


def test_room__is_shared_beyond_the_first_mebibyte() -> None:
    room = Room(3 * MIB)
    parts = [room.part() for _ in range(8)]
    for part in parts:
        part.take(OWN)  # its own
    assert room.held == 0
    parts[0].take(2 * MIB)
    with pytest.raises(Full) as refused:
        parts[1].take(MIB + 1)
    assert refused.value.code is Code.SERVER_BUSY and "max_held_bytes" in str(refused.value)
    parts[1].take(MIB)
    assert room.held == 3 * MIB
    parts[0].give(MIB)
    assert room.held == 2 * MIB
    parts[2].hold(9 * MIB)  # an answer that is here is not lost
    assert room.held == 11 * MIB
    for part in parts:
        part.end()
        part.end()
    assert room.held == 0


def test_long_answers_together__stay_within_one_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Short ones are answered all the while, and no other host is paid for what has no room."""
    most = [0]
    real = rooms.Part._set

    def watched(self: rooms.Part, size: int, **more: bool) -> None:
        real(self, size, **more)
        most[0] = max(most[0], self._room.held)

    monkeypatch.setattr(rooms.Part, "_set", watched)
    listen, pay = {"max_held_bytes": 12 * MIB}, {"deposit": "0.1"}

    async def work() -> None:
        long = Habit(last_word="x" * (5 * MIB))
        made = (model("model-a", CHEAP, max_completion=2_000),)
        dear = (model("model-a", DEAR, max_completion=2_000),)
        with Played(habit=long, models=made) as one, Played(models=dear) as other:
            async with running(tmp_path, [one, other], route=QUIET, listen=listen, pay=pay) as rig:
                room = rig.gateway.relay.means.room
                answers = await asyncio.gather(*(rig.chat(logprobs=True) for _ in range(8)))
                statuses = {answer.status_code for answer in answers}
                assert statuses <= {200, 503}
                # What is here and waits for its client comes on top of what is being read.
                assert 0 < most[0] <= 24 * MIB and room.held == 0
                # What others hold is there to the last byte.
                held = room.part()
                held.take(OWN + 12 * MIB)
                answer = await rig.chat(logprobs=True)
                assert answer.status_code == 503
                assert "listen.max_held_bytes" in answer.json()["error"]["message"]
                assert rig.rows()[-1]["outcome"] == "failed"  # it was not read to its end
                assert other.asked == 0 and not rig.gateway.hosts.is_out(one.owner)
                one.habit = Habit()
                assert (await rig.chat()).status_code == 200
                text, _ = await rig.words()
                assert text.startswith("w0 w1 ")
                held.end()
                # The body of a request counts as well.
                content = json.dumps(ask(more="x" * (6 * MIB))).encode()
                held.take(OWN + 8 * MIB)
                answer = await rig.client.post("/v1/chat/completions", content=content)
                assert answer.status_code == 503
                assert rig.gateway.relay.live.running == 0
                held.end()
                assert room.held == 0

    run(work())


def test_long_answer__passes_as_it_came_with_its_cost_in_the_header(tmp_path: Path) -> None:
    async def work() -> None:
        made = (model("model-a", CHEAP, max_completion=2_000),)
        with Played(habit=Habit(last_word="x" * (5 * MIB)), models=made) as one:
            async with running(tmp_path, [one], route=QUIET) as rig:
                answer = await rig.chat(logprobs=True)
                assert answer.status_code == 200
                assert "cost" not in answer.json()["usage"]
                assert Decimal(answer.headers["teraproof-cost"]) * USD == one.charged

    run(work())


def test_answer_that_nobody_asked_for__is_too_long(tmp_path: Path) -> None:
    """Logprobs and embeddings are bounded by what was asked for, too, and not by 64 MiB alone."""

    async def work() -> None:
        with Played(habit=Habit(last_word="x" * (5 * MIB))) as one:
            async with running(tmp_path, [one], route=QUIET) as rig:
                for _ in range(2):
                    assert (await rig.chat(logprobs=True, max_tokens=12)).status_code == 502
                assert "too long" in rig.rows()[0]["why"]

    run(work())


# ---------------------------------------------------------------------- the disk


def full(db: sqlite3.Connection) -> None:
    """SQLite's own word for a disk that takes nothing more."""
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    db.execute(f"PRAGMA max_page_count = {pages}")


def test_disk_that_is_full__is_said_and_nothing_is_lost(tmp_path: Path) -> None:
    payer = Account.create()

    async def work(one: Played, other: Played) -> None:
        async with running(tmp_path, [one, other], payer=payer, route=QUIET) as rig:
            assert (await rig.chat()).status_code == 200
            await asyncio.to_thread(rig.gateway.store.run, full)
            refused = 0
            for number in range(400):
                answer = await (rig.chat() if number % 2 else rig.chat(max_tokens=40))
                if answer.status_code == 200:
                    continue
                error = answer.json()["error"]
                assert error["code"] == Code.DATABASE_UNWRITABLE.value
                assert "make room" in error["message"]
                refused += 1
                if refused == 3:
                    break
            assert refused == 3
            served = len(one.served)
            assert (await rig.chat()).status_code >= 500
            assert len(one.served) == served  # nothing leaves that is not on the disk
            # Nobody else is to blame, and nobody else is paid for it.
            assert other.asked == 0 and not rig.gateway.hosts.is_out(one.owner)
            rig.gateway.store._db.execute("PRAGMA max_page_count = 100000")
            assert (await rig.chat()).status_code == 200
        store = Store(tmp_path / "data")
        try:
            cost = sum(int(row["cost"]) for row in store.read("SELECT cost FROM spending"))
            assert cost == one.charged
            charged = store.read("SELECT charged FROM channels")
            assert sum(int(row["charged"]) for row in charged) == one.charged
            assert not store.read("SELECT id FROM activity WHERE outcome = 'open'")
        finally:
            store.close()

    with Played(price=CHEAP) as one, Played(price=DEAR) as other:
        run(work(one, other))


def test_end_of_a_request__is_written_when_the_disk_takes_it(tmp_path: Path) -> None:
    """It has been answered and is paid: the client has its answer, and the books its cost."""

    async def work(one: Played) -> None:
        async with running(tmp_path, [one], route=QUIET) as rig:
            store = rig.gateway.store
            taken: list[int] = []
            real = store.lasting

            async def refusing(write: Any) -> Any:
                await asyncio.to_thread(store.run, broken)
                taken.append(1)
                return await real(write)

            def broken(db: sqlite3.Connection) -> None:
                db.execute("PRAGMA query_only = ON")

            store.lasting = refusing  # type: ignore[method-assign] # the disk fails just before
            answer = await rig.chat()
            assert answer.status_code == 200 and taken == [1]
            store.lasting = real  # type: ignore[method-assign] # as it was
            with pytest.raises(LocalError, match="make room"):
                await store.write(lambda db: db.execute("DELETE FROM meta"))
            store._db.execute("PRAGMA query_only = OFF")
            await store.write(lambda db: None)
            assert [row["outcome"] for row in rig.rows()] == ["ok"]
            spent = store.read("SELECT cost FROM spending")
            assert [int(row["cost"]) for row in spent] == [one.charged]

    with Played() as one:
        run(work(one))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_store_of_somebody_else__is_one_line(tmp_path: Path) -> None:
    data = tmp_path / "data"
    Store(data).close()
    for file in data.iterdir():
        file.chmod(0o644)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == 0 and str(folder) not in ("/", "/tmp"):
            folder.chmod(0o755)

    def said(mode: int) -> str:
        (data / "gateway.sqlite").chmod(mode)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.setgid(65534)
            os.setuid(65534)
            try:
                Store(data)
                line = "opened"
            except LocalError as error:
                line = f"{error.code.value}: {error}"
            os.write(writing, line.encode())
            os._exit(0)
        os.waitpid(child, 0)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            return pipe.read()

    assert "Permission denied" in said(0o644) and "\n" not in said(0o644)
    data.chmod(0o777)
    # The file may be written and its folder not: SQLite's journal has no place.
    assert said(0o666) == "opened"
    data.chmod(0o755)
    for journal in data.glob("gateway.sqlite-*"):
        journal.unlink()
    line = said(0o666)
    assert line.startswith("database_unwritable: ") and "see to its permissions" in line


# ---------------------------------------------------------------------- deposits


def test_provider_that_wants_a_large_deposit__is_no_host() -> None:
    wanted = Demands(CHAIN, CHANNELS, TOKEN, 6, 7 * 86_400, USD)
    with Played(min_deposit=USD) as fair, Played(min_deposit=USD + 1) as greedy:
        fair.host.check(wanted)
        with pytest.raises(LocalError, match=r"deposit of 1\.000001 .*1 are.*pay\.max_min_deposit"):
            greedy.host.check(wanted)
        greedy.host.check(replace(wanted, max_min_deposit=2 * USD))
        greedy.host.check(replace(wanted, max_min_deposit=None))  # `teraproof models` shows all


def test_largest_least_deposit__is_our_own_unless_the_owner_says_more(tmp_path: Path) -> None:
    def of(**pay: str) -> Decimal:
        found: GatewaySettings = settings(tmp_path, pay=pay)
        return found.most_wanted

    assert of() == 1
    assert of(deposit="0.25") == Decimal("0.25")
    assert of(deposit="0.25", max_min_deposit="3") == 3
    assert of(max_min_deposit="0") == 0
