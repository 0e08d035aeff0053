# SPDX-License-Identifier: Apache-2.0
"""Whatever happens to the file: one line that says what to do, with a code, and no wrong number.

A copy of a real file is damaged at random, by kind; see `docs/faults.md`.
"""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from provider_agent.modules.all import open_store, tables_of
from provider_agent.modules.jobs.repository import JobsRepository as Jobs
from provider_agent.modules.jobs.repository import RunStage
from provider_agent.store import IntentKey, IntentState, Store, StoreError
from provider_agent.store import inspect as look_at
from provider_agent.store.connections import connect
from teraproof.errors import LocalError
from teraproof.protocol.errors import Code
from tests.agent.test_migrations import lay
from tests.support.processes import forked

TRIES = 60  # of each kind; a long sweep has found no more


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of today with rows in every table, and a few thousand more."""
    path = lay(tmp_path_factory.mktemp("good"), "4")
    store = open_store(path)
    with store.transaction():
        for number in range(300):
            Jobs(store).add_job(
                bytes([number % 256, number >> 8]) * 16, b"t" * 512, "0xr", b"s" * 32, 1
            )
    store.close()
    return path


def copy(good: Path, folder: Path) -> Path:
    path = folder / "agent.sqlite"
    shutil.copyfile(good, path)
    shutil.copytree(good.parent / "specs", folder / "specs")
    return path


def money(store: Store) -> object:
    """What a wrong number of would cost something."""
    intents = store.intents_in(*IntentState)
    return (
        [(i.id, i.key, i.data, i.nonce, i.state) for i in intents],
        [made for i in intents for made in store.transactions_of(i.id)],
        [(job.job_id, job.terms) for job in Jobs(store).jobs(2, 3)],
        store.next_nonce(),
    )


def use(path: Path) -> object:
    """Open a file and read all of it, as an agent does."""
    store = open_store(path)
    try:
        Jobs(store).runs_in(*RunStage)
        Jobs(store).live_quotes(0)
        store.seen_logs("events", 0)
        Jobs(store).jobs()
        return money(store)
    finally:
        store.close()


def flip(data: bytearray, dice: random.Random) -> None:
    for _ in range(dice.choice((1, 1, 8))):
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)


def cut(data: bytearray, dice: random.Random) -> None:
    del data[dice.randrange(1, len(data)) :]


def cut_page(data: bytearray, dice: random.Random) -> None:
    del data[4096 * dice.randrange(1, len(data) // 4096) :]


def garbage(data: bytearray, dice: random.Random) -> None:
    page = 4096 * dice.randrange(len(data) // 4096)
    data[page : page + 4096] = dice.randbytes(4096)


def zeros(data: bytearray, dice: random.Random) -> None:
    page = 4096 * dice.randrange(len(data) // 4096)
    data[page : page + 4096] = bytes(4096)


def swap(data: bytearray, dice: random.Random) -> None:
    one, two = (4096 * dice.randrange(1, len(data) // 4096) for _ in range(2))
    data[one : one + 4096], data[two : two + 4096] = (
        data[two : two + 4096],
        data[one : one + 4096],
    )


def head(data: bytearray, dice: random.Random) -> None:
    data[: dice.randrange(1, 200)] = b""


@pytest.mark.parametrize("kind", [flip, cut, cut_page, garbage, zeros, swap, head])
def test_damaged_file__one_line_or_all_that_counts(
    good: Path, tmp_path: Path, kind: Callable[[bytearray, random.Random], None]
) -> None:
    dice = random.Random(kind.__name__)
    (tmp_path / "good").mkdir()
    expected = use(copy(good, tmp_path / "good"))
    told = 0
    for number in range(TRIES):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = copy(good, folder)
        data = bytearray(path.read_bytes())
        kind(data, dice)
        path.write_bytes(data)
        try:
            found = use(path)
        except StoreError as error:
            told += 1
            assert error.code in (
                Code.DATABASE_DAMAGED,
                Code.DATABASE_FOREIGN,
                Code.DATABASE_NEWER,
                Code.DATABASE_UNKNOWN,
            )
            assert "\n" not in str(error) and str(path) in str(error)
            if error.code == Code.DATABASE_DAMAGED:
                assert "restore a backup" in str(error) and "--adopt-nonces" in str(error)
        else:
            assert found == expected, number
        shutil.rmtree(folder)
    assert told or kind is flip


@pytest.mark.parametrize("size", [1, 15, 100, 4096])
def test_file_of_something_else__one_line(tmp_path: Path, size: int) -> None:
    path = tmp_path / "agent.sqlite"
    path.write_bytes(b"not a database at all"[:size] * -(-size // 21))
    with pytest.raises(StoreError, match="is damaged") as caught:
        open_store(path)
    assert caught.value.code == Code.DATABASE_DAMAGED


def wrong(path: Path, change: str) -> StoreError:
    db = connect(path)
    db.execute("PRAGMA foreign_keys = OFF")
    db.execute(change)
    db.close()
    with pytest.raises(StoreError) as caught:
        open_store(path)
    assert caught.value.code == Code.DATABASE_DAMAGED
    return caught.value


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE intents SET nonce = 77 WHERE nonce = 7",
        "UPDATE transactions SET nonce = 77 WHERE nonce = 7",
        "UPDATE transactions SET raw = x'02ff' WHERE nonce = 7",
        "UPDATE intents SET state = 'finax' WHERE nonce = 7",
        "UPDATE runs SET state = 'x'",
        "UPDATE jobs SET terms = zeroblob(512) WHERE status = 2",
        "UPDATE jobs SET price = 'x1'",
        "UPDATE meta SET value = '5x' WHERE key = 'nonce_floor'",
        "DELETE FROM intents WHERE nonce = 7",
        "DELETE FROM transactions WHERE nonce = 7",
    ],
)
def test_rows_that_contradict_each_other__damaged(good: Path, tmp_path: Path, change: str) -> None:
    """A flipped bit in a value passes SQLite's check; it is not a stranger's transaction."""
    assert "another program" not in str(wrong(copy(good, tmp_path), change))


def test_row_of_somebody_elses_job__not_compared_with_its_id(good: Path, tmp_path: Path) -> None:
    """A large market has any number of them, and nothing of ours follows from their terms."""
    path = copy(good, tmp_path)
    store = open_store(path)
    Jobs(store).add_job(b"o" * 32, b"t" * 512, "0xr", b"n" * 32, 3)
    store.close()
    open_store(path).close()
    wrong(path, "INSERT INTO runs SELECT 'r', job_id, 'planned', NULL, '', NULL, NULL, NULL, NULL, "
          "1, 1 FROM jobs WHERE job_id = CAST('" + "o" * 32 + "' AS BLOB)")  # fmt: skip


# ---------------------------------------------------------------------- lost files


def test_log_lost_after_a_crash__said_and_adopted(good: Path, tmp_path: Path) -> None:
    path = copy(good, tmp_path)

    def crash(about: str) -> str:
        open_store(path).add_intent(IntentKey("jobs", about, "b"), "0xto", b"")
        os._exit(9)

    assert forked(lambda: crash("a")) == ("", 9)
    assert Path(f"{path}-wal").exists()
    kept = open_store(path)  # as after any crash
    assert not kept.rows_lost and kept.intents_of("a")
    kept.close()
    assert forked(lambda: crash("z")) == ("", 9)
    Path(f"{path}-wal").unlink()
    # `check` and `status` come before the agent and hide nothing from it.
    look_at(path, tables_of())
    open_store(path, owner=False).close()
    store = open_store(path)
    assert store.rows_lost and store.intents_of("z") == []
    store.close()
    store = open_store(path)  # somebody may look at it before the agent does
    assert store.rows_lost
    store.made_good()
    store.close()
    store = open_store(path)
    assert not store.rows_lost
    store.close()


@pytest.mark.parametrize("how", ["deleted", "emptied"])
@pytest.mark.parametrize("trace", ["runs", "results", "specs", "use"])
def test_file_lost__known_by_what_an_agent_left(tmp_path: Path, how: str, trace: str) -> None:
    path = tmp_path / "agent.sqlite"
    if trace == "use":
        Path(f"{path}-in-use").touch()
        Path(f"{path}-wal").write_bytes(b"of the lost file")
    else:
        (tmp_path / trace / "x").mkdir(parents=True)
    if how == "emptied":
        path.touch()
    store = open_store(path)
    assert store.rows_lost
    store.close()


def test_new_directory__nothing_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "agent.sqlite"
    for _ in range(2):
        store = open_store(path)
        assert not store.rows_lost
        store.close()
    assert not Path(f"{path}-in-use").exists()


@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_file_gone_while_in_use__told(tmp_path: Path, how: str) -> None:
    path = tmp_path / "agent.sqlite"
    store = open_store(path)
    store.check_there()
    path.unlink()
    if how == "replaced":
        path.touch()
        (tmp_path / "other").touch()
    with pytest.raises(StoreError, match="moved or deleted") as caught:
        store.check_there()
    assert caught.value.code == Code.DATABASE_GONE
    store.close()


def test_history_damaged__set_aside_and_begun_anew(tmp_path: Path) -> None:
    store = open_store(tmp_path / "agent.sqlite")
    store.close()
    history = tmp_path / "history.sqlite"
    history.write_bytes(b"garbage" * 1000)
    store = open_store(tmp_path / "agent.sqlite")
    assert Jobs(store).job(b"x") is None
    store.close()
    assert len(list(tmp_path.glob("history.sqlite.*.damaged"))) == 1
    data = bytearray(history.read_bytes())
    data[4096:] = random.Random(1).randbytes(len(data) - 4096)
    history.write_bytes(data)
    store = open_store(tmp_path / "agent.sqlite")  # what is damaged shows when it is read
    assert Jobs(store).job(b"x") is None and Jobs(store).ended_jobs(5) == []
    store.close()
    store = open_store(tmp_path / "agent.sqlite")
    assert Jobs(store).job(b"x") is None
    store.close()
    assert len(list(tmp_path.glob("history.sqlite.*.damaged"))) >= 1


# ---------------------------------------------------------------------- a disk that takes nothing


def test_disk_full__one_line_and_nothing_half_done(good: Path, tmp_path: Path) -> None:
    path = copy(good, tmp_path)
    store = open_store(path)
    with store.transaction() as db:
        pages = db.execute("PRAGMA page_count").fetchone()[0]
    store._db().execute(f"PRAGMA max_page_count = {pages}")
    before = money(store)
    key = IntentKey("jobs", "a", "accept")

    def fill() -> None:
        with store.transaction():
            for number in range(100):
                store.add_intent(key._replace(action=str(number)), "0xto", bytes(4096))

    with pytest.raises(sqlite3.OperationalError, match="full"):
        fill()
    assert money(store) == before
    store._db().execute(f"PRAGMA max_page_count = {pages * 10}")
    store.add_intent(key, "0xto", b"")  # with room it goes on
    store.close()


def elsewhere(path: Path, limit: int = 0) -> str:
    """What is said of a database in a process with that limit of a file's size, or of nobody's."""

    def opening() -> str:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        if limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        elif os.geteuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        try:
            open_store(path)
        except LocalError as error:
            return f"{error.code} {error}\n"
        return "opened\n"

    said, code = forked(opening)
    assert code == 0
    return said


@pytest.mark.parametrize("what", ["file", "directory"])
def test_read_only__one_line(good: Path, what: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        outer = Path(name)
        outer.chmod(0o755)
        folder = outer / "data"
        folder.mkdir()
        path = copy(good, folder)
        path.chmod(0o444 if what == "file" else 0o666)
        folder.chmod(0o777 if what == "file" else 0o555)
        said = elsewhere(path)
        folder.chmod(0o755)
    assert said.startswith(f"{Code.DATABASE_UNWRITABLE} cannot "), said
    assert "agent.data_dir" in said and said.count("\n") == 1


@pytest.mark.parametrize("limit", [1 << 12, 1 << 14, 1 << 16])
def test_disk_that_fails_during_the_upgrade__old_file_stays(tmp_path: Path, limit: int) -> None:
    path = lay(tmp_path, "4")
    said = elsewhere(path, limit)
    assert said.startswith((Code.DATABASE_UNWRITABLE, Code.DISK_FULL)) and said.count("\n") == 1, (
        said
    )
    open_store(path).close()  # with room it is upgraded
