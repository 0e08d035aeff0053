# SPDX-License-Identifier: Apache-2.0
"""A database that was set back to a backup, against a real node: nothing lands twice."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from provider_agent.errors import KeyInUse
from provider_agent.modules.all import open_store
from provider_agent.store import IntentState, backup
from tests.agent.tx.desk import Desk


def work_on(desk: Desk, folder: Path) -> None:
    """A backup while one transaction is on its way and another is planned; then all lands."""
    data = desk.path.parent
    desk.path = data / backup.DATABASES[0]
    desk.restart()
    desk.anvil.set_automine(False)
    desk.submit(1)
    desk.tick()
    desk.submit(2)
    assert desk.intent(desk.keys[0]).state is IntentState.SENT
    assert desk.intent(desk.keys[1]).state is IntentState.PLANNED
    backup.make(folder, data)
    desk.submit(3)
    desk.settle()
    assert [desk.landed(slot) for slot in (1, 2, 3)] == [1, 1, 1]


def lose(desk: Desk) -> None:
    desk.close()
    for file in desk.path.parent.glob("*.sqlite*"):
        file.unlink()


def test_restored__nothing_lands_twice_and_the_next_one_lands(desk: Desk, tmp_path: Path) -> None:
    work_on(desk, tmp_path / "copy")
    lose(desk)
    backup.restore(backup.read(tmp_path / "copy"), desk.path.parent, open_store)
    desk.restart()
    assert desk.store.rows_lost
    desk.sender.start(adopt=desk.store.rows_lost)
    for _ in range(8):
        desk.tick()
        desk.anvil.mine()
    assert [desk.landed(slot) for slot in (1, 2, 3)] == [1, 1, 1]
    desk.keys.clear()
    desk.submit(4)
    desk.settle()
    assert (desk.landed(4), desk.mined()) == (1, 4)


def test_copied_back_by_hand__refused_until_it_is_adopted(desk: Desk, tmp_path: Path) -> None:
    work_on(desk, tmp_path / "copy")
    lose(desk)
    shutil.copyfile(tmp_path / "copy" / backup.DATABASES[0], desk.path)
    desk.restart()
    with pytest.raises(KeyInUse):
        desk.sender.start()
    assert [desk.landed(slot) for slot in (1, 2, 3)] == [1, 1, 1]
