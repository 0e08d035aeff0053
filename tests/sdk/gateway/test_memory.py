# SPDX-License-Identifier: Apache-2.0
"""What the gateway has learned of hosts outlives it: a host that was found out comes back by no
restart, no other endpoint, no while away and no crowd of new names.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from eth_account import Account

from teraproof.cli.main import main
from teraproof.gateway import examine
from teraproof.gateway import memory as memories
from teraproof.gateway.examine import Lineups
from teraproof.gateway.hosts import Hosts
from teraproof.gateway.identity import Answer, Fault, lineup
from teraproof.gateway.identity.lineup import Lineup
from teraproof.gateway.memory import Memory
from teraproof.gateway.store import Store
from tests.sdk.gateway.played import Habit, Played
from tests.sdk.gateway.rig import Rig, running

MODEL = "model-a"
CHEAP, DEAR = (1_000, 2_000, 0), (1_000_000, 2_000_000, 0)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def cut() -> Habit:
    """Says that the length was reached long before it is."""
    return Habit(finish="length")


async def served_by(rig: Rig, times: int) -> list[str]:
    found = []
    for _ in range(times):
        answer = await rig.chat()
        assert answer.status_code == 200, answer.text
        found.append(answer.headers["teraproof-provider"])
    return found


def test_host_that_was_found_out__stays_so(tmp_path: Path) -> None:
    payer = Account.create()
    with Played(price=CHEAP, habit=cut()) as bad, Played(price=DEAR) as good:

        async def first() -> None:
            # Without canaries, of which each one writes what was learned.
            route = {"canary_rate": 0}
            async with running(tmp_path, [bad, good], payer=payer, route=route) as rig:
                found = await served_by(rig, 12)
                assert found[0] == bad.owner and found[-1] == good.owner
                # As it is on the disk at this moment, should the gateway be killed.
                await asyncio.gather(*rig.gateway.relay._tasks)
                shutil.copytree(tmp_path / "data", tmp_path / "killed" / "data")

        async def again(folder: Path, host: Any) -> None:
            asked = bad.asked
            route = {"canary_rate": 0}
            async with running(folder, [host, good], payer=payer, route=route) as rig:
                assert await served_by(rig, 3) == [good.owner] * 3
                assert rig.gateway.relay.lineups.verdict(bad.owner, MODEL).fault is Fault.TRUNCATES
            assert bad.asked == asked

        run(first())
        run(again(tmp_path / "killed", bad))  # after kill -9
        run(again(tmp_path / "killed", bad))  # a restart
        with Played() as elsewhere:  # the same provider at another endpoint
            offer = replace(bad.offer, url=elsewhere.url)
            run(again(tmp_path / "killed", replace(bad.host, offer=offer)))
            assert elsewhere.asked == 0


def test_pause_and_measurements__outlive_a_restart(tmp_path: Path) -> None:
    payer, route = Account.create(), {"canary_rate": 0}
    with Played(price=CHEAP, habit=Habit(status=500)) as bad, Played(price=DEAR) as good:

        async def first() -> None:
            async with running(tmp_path, [bad, good], payer=payer, route=route) as rig:
                assert await served_by(rig, 2) == [good.owner] * 2
                assert bad.asked == 1

        async def second() -> None:
            async with running(tmp_path, [bad, good], payer=payer, route=route) as rig:
                hosts = rig.gateway.hosts
                assert hosts.is_out(bad.owner)
                assert hosts.measured(bad.owner, MODEL).reliability < 1
                assert hosts.measured(good.owner, MODEL).latency is not None
                assert await served_by(rig, 1) == [good.owner]
                assert hosts.exclude(bad.owner) > 5  # the second time
            assert bad.asked == 1

        run(first())
        run(second())


def test_host_that_is_away_for_a_while__is_not_new_when_it_is_back() -> None:
    with Played() as one, Played() as other:
        hosts = Hosts()
        hosts.replace([one.host, other.host])
        hosts.exclude(one.owner)
        hosts.measured(one.owner, MODEL).failed()
        hosts.replace([other.host])
        hosts.replace([one.host, other.host])
        assert hosts.is_out(one.owner)
        assert hosts.measured(one.owner, MODEL).total == 1


# ---------------------------------------------------------------------- the store


def filled(bad: str = "bad", peers: int = 3) -> Lineups:
    """A model whose host `bad` begins its answers with other words than all others."""
    found = Lineups()
    lineup_of = found.of(MODEL)
    for _ in range(60):
        for number in range(peers):
            lineup_of.compare(bad, words("another beginning of it all"), f"h{number}", words(""))
            lineup_of.compare(f"h{number}", words(""), f"h{(number + 1) % peers}", words(""))
    assert found.verdict(bad, MODEL).fault is Fault.OTHER_MODEL
    return found


def words(text: str) -> Answer:
    return Answer(
        text=text or "the usual beginning of an answer",
        finish="stop",
        prompt_tokens=9,
        completion_tokens=9,
        asked=64,
        greedy=True,
        fingerprint=None,
    )


def kept(folder: Path, lineups: Lineups, owners: list[str], at: float = 1e9) -> None:
    store = Store(folder)
    try:
        made = Memory(store, Hosts(), lineups, 30, lambda: at)
        for number, one in enumerate(owners):
            for other in owners[number + 1 :]:
                made.compared(MODEL, one, other)
        asyncio.run(made.flush())
    finally:
        store.close()


def loaded(folder: Path, at: float = 1e9) -> Lineups:
    store, found = Store(folder), Lineups()
    try:
        Memory(store, Hosts(), found, 30, lambda: at).load()
    finally:
        store.close()
    return found


def test_comparisons__outlive_a_restart(tmp_path: Path) -> None:
    before = filled()
    kept(tmp_path, before, ["bad", "h0", "h1", "h2"])
    after = loaded(tmp_path)
    for owner in ("bad", "h0", "h1", "h2"):
        assert after.verdict(owner, MODEL) == before.verdict(owner, MODEL)
        assert after.share(owner, MODEL) == before.share(owner, MODEL)


def test_evidence__has_an_age(tmp_path: Path) -> None:
    kept(tmp_path, filled(), ["bad", "h0", "h1", "h2"])
    assert loaded(tmp_path, 1e9 + 30 * 86_400).verdict("bad", MODEL).fault is not None
    assert loaded(tmp_path, 1e9 + 31 * 86_400 + 1).verdict("bad", MODEL).fault is None
    # It is not only overlooked: it is gone.
    assert loaded(tmp_path).verdict("bad", MODEL).fault is None


def test_evidence__is_bounded_and_that_of_a_fault_goes_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memories, "MOST_ROWS", 6)
    kept(tmp_path, filled(), ["bad", "h0", "h1", "h2"])
    crowd = Lineups()
    names = [f"new {number}" for number in range(40)]
    for name in names:
        crowd.of(MODEL).observe(name, words(""))
    kept(tmp_path, crowd, names, 1e9 + 60)  # all of them later
    after = loaded(tmp_path, 1e9 + 60)
    assert after.verdict("bad", MODEL).fault is Fault.OTHER_MODEL
    with sqlite3.connect(tmp_path / "gateway.sqlite") as db:
        for table in ("evidence", "comparisons"):
            assert db.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0] <= 6
    db.close()


def test_row_that_is_no_evidence__is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept(tmp_path, filled(), ["bad", "h0", "h1", "h2"])
    for said in ("", "{}", "[1]", '{"measured": [1, 1, 1, 1e400], "shown": {}}', '{"shown": 1}'):
        with sqlite3.connect(tmp_path / "gateway.sqlite") as db:
            db.execute("UPDATE evidence SET said = ? WHERE owner = 'h0'", (said,))
            db.execute("UPDATE comparisons SET said = ? WHERE second = 'h2'", (said,))
        db.close()
        loaded(tmp_path)
        assert "is left out" in caplog.text
        caplog.clear()


def test_store_of_the_version_before__goes_on(tmp_path: Path) -> None:
    from teraproof.gateway import store as stores

    with sqlite3.connect(tmp_path / "gateway.sqlite") as db:
        db.executescript(f"{stores._SCHEMA} PRAGMA user_version = 1;")
        db.execute("INSERT INTO dropped VALUES ('0x1', 'why', 1)")
    db.close()
    kept(tmp_path, filled(), ["bad", "h0", "h1", "h2"])
    assert loaded(tmp_path).verdict("bad", MODEL).fault is Fault.OTHER_MODEL
    store = Store(tmp_path)
    assert [row["owner"] for row in store.read("SELECT owner FROM dropped")] == ["0x1"]
    store.close()


def test_crowd_of_new_names__makes_nobody_clean() -> None:
    found = filled().of(MODEL)
    for number in range(2 * lineup.HOSTS):
        found.observe(f"new {number}", words(""))
        found.compare(f"new {number}", words(""), f"new {number + 1}", words(""))
    crowd = [f"new {number}" for number in range(50)]
    pairs = [(one, other) for one in crowd for other in crowd if one < other]
    assert len(pairs) > lineup.PAIRS
    for one, other in pairs:
        found.compare(one, words(""), other, words(""))
    assert found.verdict("bad").fault is Fault.OTHER_MODEL
    assert found.score("bad") == 0
    assert found.verdict("h0").fault is None
    alone = Lineup()
    for _ in range(6):
        alone.observe("bad", replace(words(""), finish="length", completion_tokens=5))
    assert alone.verdict("bad").fault is Fault.TRUNCATES
    for number in range(2 * lineup.HOSTS):
        alone.observe(f"new {number}", words(""))
    assert alone.verdict("bad").fault is Fault.TRUNCATES


def test_list_of_models_without_end__makes_nobody_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts name as many models as they like; the list of them, and requests for some, are ours."""
    monkeypatch.setattr(examine, "_MODELS", 8)
    found, hosts = filled(), Hosts()
    for number in range(50):
        found.share("bad", f"model {number}")
        found.verdict("bad", f"model {number}")
        hosts.seen("bad", f"model {number}")
    assert found.verdict("bad", MODEL).fault is Fault.OTHER_MODEL
    assert not hosts._measured and len(found._lineups) == 1
    for number in range(50):
        found.of(f"model {number}").observe("good", words(""))
    assert len(found._lineups) == 8
    assert found.verdict("bad", MODEL).fault is Fault.OTHER_MODEL


# ---------------------------------------------------------------------- a person's word


def test_forgive__forgets_what_was_found(tmp_path: Path) -> None:
    owner = str(Account.create().address)
    config = tmp_path / "gateway.toml"
    assert CliRunner().invoke(main, ["gateway", "init", "--config", str(config)]).exit_code == 0
    data = tmp_path / "gateway-data"
    kept(data, filled(owner), [owner, "h0", "h1", "h2"])
    line = ["gateway", "forgive", owner, "--config", str(config)]
    assert CliRunner().invoke(main, line).exit_code == 0
    after = loaded(data)
    assert after.verdict(owner, MODEL).line == "not seen yet"
    assert after.verdict("h0", MODEL).fault is None
    shown = CliRunner().invoke(main, line)
    assert shown.exit_code == 2 and "nothing is known against" in shown.output
