# SPDX-License-Identifier: Apache-2.0
"""The gateway is killed with signal 9 around every commit of its store, and started again.

Whatever the point: no voucher that a provider has is above what the file says was signed, no
deposit is made twice, the budget holds, nothing is paid twice, and the accounts come out to the
unit.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account

from tests.sdk.gateway.played import USD, Habit, Played
from tests.sdk.gateway.rig import Players, running
from tests.support.anvil import ROOT
from tests.support.budget import every

PAY = {"step_tokens": 4, "deposit": "0.001", "total": "0.01", "per_provider": "0.01"}
PRICE = (1_000, 2_000_000, 0)  # answers are dearer than prompts, so steps count
_AT_MOST = 40  # commits of the work; one that comes later does not kill
POINTS = [(number, way) for number in range(1, _AT_MOST) for way in ("before", "behind")]


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def killed(
    folder: Path, players: Players, commit: int, way: str
) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "tests.sdk.gateway.killed"]
    line += [str(folder), players.write(), str(commit), way]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize(("commit", "way"), every(11, POINTS))
def test_killed_around_a_commit__pays_nothing_twice(commit: int, way: str, tmp_path: Path) -> None:
    async def after(one: Played, payer: Any) -> None:
        async with running(tmp_path, [one], payer=payer, route={"canary_rate": 0}, pay=PAY) as rig:
            ledger = rig.gateway.relay.means.purse.ledger
            for channel in ledger.channels.values():
                kept = one.book.get(channel.id)
                if kept is None:
                    continue
                assert kept.signed <= channel.signed  # written before it was sent
                assert channel.charged <= kept.charged <= channel.charged + channel.unclear
                # No more than the request that ran is unclear: the prompt and two steps of it.
                assert channel.signed - channel.charged <= 2 * (24 + 64) + 10
            assert set(one.book) <= set(ledger.channels)
            for _ in range(3):
                assert (await rig.chat()).status_code == 200
                text, events = await rig.words(max_tokens=24)
                assert text and "error" not in events[-1]
            # Each channel is used until its receipts show all that was charged on it.
            for channel in list(ledger.channels.values()):
                for other in ledger.channels.values():
                    other.not_before = 0.0 if other is channel else 1e18
                if channel.id in one.book:
                    assert (await rig.chat()).status_code == 200
                    assert channel.charged == one.book[channel.id].charged
                    assert channel.unclear == 0
            deposits = sum(one.deposits.values())
            assert deposits == sum(kept.balance for kept in one.book.values()) <= USD // 100
            rows = rig.rows()
            assert sum(int(row["cost"] or 0) for row in rows) == one.charged
            spent = rig.gateway.store.read("SELECT cost FROM spending")
            assert sum(int(row["cost"]) for row in spent) == one.charged
            assert not [row for row in rows if row["outcome"] == "open"]

    payer = Account.create()
    with Played(price=PRICE, habit=Habit(words=24), min_deposit=100) as one:
        players = Players((one.host,), payer.key.hex())
        ended = killed(tmp_path, players, commit, way)
        assert ended.returncode in (0, -9), ended.stderr
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        run(after(one, payer))


def test_undisturbed_run__has_fewer_commits_than_are_swept(tmp_path: Path) -> None:
    with Played(price=PRICE, habit=Habit(words=24), min_deposit=100) as one:
        players = Players((one.host,), Account.create().key.hex())
        ended = killed(tmp_path, players, 0, "before")
        assert ended.returncode == 0, ended.stderr
        assert 10 < json.loads(ended.stdout)["commits"] < _AT_MOST
