# SPDX-License-Identifier: Apache-2.0
"""Upgrades: a file of every schema ever shipped becomes one of today, or stays as it is."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from provider_agent.modules.all import open_store, tables_of
from provider_agent.modules.jobs.book import decode_terms
from provider_agent.modules.jobs.repository import JobsRepository as Jobs
from provider_agent.modules.jobs.repository import RunStage
from provider_agent.store import IntentKey, IntentState, Store, StoreError, migration
from provider_agent.store import inspect as look_at
from provider_agent.store.tables import Tables
from teraproof.protocol.errors import Code
from tests.agent.schemas.build import KEY, NOW, PAY, TENANT, sign

SCHEMAS = Path(__file__).parent / "schemas"
NAMES = sorted(path.stem for path in SCHEMAS.glob("*.sql"))
FIRST_EDITION = ("1", "1b", "2", "3")


def lay(folder: Path, name: str, change: str = "") -> Path:
    """The committed file of a schema as a database."""
    path = folder / "agent.sqlite"
    with sqlite3.connect(path) as db:
        db.executescript((SCHEMAS / f"{name}.sql").read_text() + change)
    db.close()
    return path


# What the older version does before the upgrade, where today's cannot.
FINISH = "UPDATE jobs SET status = 4, settled_at = 1795000100 WHERE status = 2;"


def change_for(name: str) -> str:
    return FINISH if name in FIRST_EDITION else ""


def content(path: Path) -> str:
    with sqlite3.connect(path) as db:
        text = "\n".join(db.iterdump())
    db.close()
    return text


def rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(path) as db:
        found = db.execute(query).fetchall()
    db.close()
    return found


def test_fixtures__every_schema_has_one() -> None:
    assert NAMES == ["1", "1b", "2", "3", "3b", "4"]


@pytest.mark.parametrize("name", NAMES)
def test_upgrade__nonces_signed_bytes_quotes_and_jobs_survive(tmp_path: Path, name: str) -> None:
    path = lay(tmp_path, name, change_for(name))
    kept = {
        query: rows(path, query)
        for query in (
            "SELECT * FROM transactions ORDER BY hash",
            "SELECT id, contract, object_id, action, data, value, state, nonce, tx_hash, "
            "block_number FROM intents ORDER BY id",
            "SELECT run_id, job_id, state, result FROM runs ORDER BY run_id",
            "SELECT digest, nonce, price, collateral, signature FROM quotes",
            "SELECT key, value FROM meta ORDER BY key",
            "SELECT * FROM cursors",
            "SELECT * FROM seen_logs ORDER BY block_hash",
            "SELECT * FROM sessions",
            "SELECT * FROM login_nonces",
            "SELECT job_id, status, provider, price FROM jobs WHERE status <> 3 AND "
            "length(terms) = 512 ORDER BY job_id",
        )
    }
    bodies: dict[Any, Any] = dict(rows(path, "SELECT digest, body FROM specs"))
    assert all(kept[query] for query in list(kept)[:-1])
    store = open_store(path, clock=lambda: float(NOW))
    try:
        for query, before in kept.items():
            if "FROM jobs" in query and name in FIRST_EDITION:
                continue
            assert rows(path, query) == before, query
        assert store.next_nonce() == 10
        assert {made.raw for i in store.intents_in(*IntentState) for made in
                store.transactions_of(i.id)} == {sign(n).raw for n in range(5, 10)}  # fmt: skip
        quote = Jobs(store).quote(b"\x05" * 32)
        assert quote is not None
        assert (quote.price, quote.nonce, quote.duration) == (PAY, 2**100, 600)
        assert {digest: Jobs(store).spec(digest) for digest in bodies} == bodies
        for job in Jobs(store).jobs():
            terms = decode_terms(job.terms)  # every row that is left can be read
            assert (terms.requester, terms.order.max_price, job.spec) == (
                TENANT, PAY, terms.order.spec,
            )  # fmt: skip
        (running,) = Jobs(store).runs_in(RunStage.RUNNING)
        assert Jobs(store).job(running.job_id) is not None
        states = {i.key.action: i.state for i in store.intents_of(running.job_id.hex())}
        assert states == {"accept": IntentState.FINAL, "attest": IntentState.SENT}
        store.add_intent(IntentKey("jobs", "x", "y"), "0xto", b"")  # the ids go on
        assert max(i.id for i in store.intents_in(*IntentState)) == len(kept[list(kept)[1]]) + 1
    finally:
        store.close()


@pytest.mark.parametrize("name", NAMES)
def test_upgrade__same_tables_as_a_new_file(tmp_path: Path, name: str) -> None:
    (tmp_path / "new").mkdir()
    open_store(tmp_path / "new" / "agent.sqlite").close()
    path = lay(tmp_path, name, change_for(name))
    open_store(path).close()
    query = "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite%' ORDER BY name"
    new = rows(tmp_path / "new" / "agent.sqlite", query)
    assert str(rows(path, query)).replace('"', "") == str(new).replace('"', "")
    steps = "SELECT module, number, name FROM migrations ORDER BY module, number"
    assert rows(path, steps) == rows(tmp_path / "new" / "agent.sqlite", steps)


@pytest.mark.parametrize("name", FIRST_EDITION)
def test_upgrade__unfinished_job_of_older_contracts__refused_and_unchanged(
    tmp_path: Path, name: str
) -> None:
    path = lay(tmp_path, name)
    before = content(path)
    with pytest.raises(StoreError, match=r"1 unfinished job\(s\) of an earlier edition") as caught:
        open_store(path)
    assert caught.value.code == Code.DATABASE_UNFINISHED
    assert "\n" not in str(caught.value)
    assert content(path) == before


@pytest.mark.parametrize("name", NAMES)
def test_upgrade__backup_first__it_is_the_old_file(tmp_path: Path, name: str) -> None:
    path = lay(tmp_path, name, change_for(name))
    before = content(path)
    open_store(path, clock=lambda: float(NOW)).close()
    (copy,) = (tmp_path / "backups").iterdir()
    assert copy.name == f"agent-schema-{name[0]}-20261118T110640Z.sqlite"
    assert copy.stat().st_mode & 0o777 == 0o600
    assert content(copy) == before
    open_store(path).close()  # nothing to do: no second backup
    assert len(list((tmp_path / "backups").iterdir())) == 1


def test_upgrade__old_backups_go(tmp_path: Path) -> None:
    for number in range(5):
        path = lay(tmp_path, "4")
        open_store(path, clock=partial(float, NOW + number)).close()
        path.unlink()
    assert len(list((tmp_path / "backups").iterdir())) == 3


def broken(old: Callable[..., None], at: str) -> Callable[..., None]:
    def apply(step: migration.Step, db: sqlite3.Connection, folder: Path) -> None:
        old(step, db, folder)
        if f"{step.module} {step.number}" == at:
            raise KeyboardInterrupt

    return apply


@pytest.mark.parametrize("at", ["core 3", "jobs 4", "jobs 5"])
def test_upgrade__dies_on_the_way__nothing_is_changed(
    tmp_path: Path, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = lay(tmp_path, "4")
    before = content(path)
    with monkeypatch.context() as patch:
        patch.setattr(migration.Step, "apply", broken(migration.Step.apply, at))
        with pytest.raises(KeyboardInterrupt):
            open_store(path)
    assert content(path) == before
    open_store(path).close()


def test_upgrade__no_room_for_the_backup__refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = lay(tmp_path, "4")
    before = content(path)
    full = SimpleNamespace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    with pytest.raises(StoreError, match="no room to back up") as caught:
        open_store(path)
    assert (caught.value.code, content(path)) == (Code.DISK_FULL, before)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("PRAGMA user_version = 6", Code.DATABASE_NEWER),
        ("INSERT INTO migrations VALUES ('core', 99, 'x', 0)", Code.DATABASE_NEWER),
        ("INSERT INTO migrations VALUES ('channels', 1, 'x', 0)", Code.DATABASE_NEWER),
        ("PRAGMA application_id = 7", Code.DATABASE_FOREIGN),
        ("PRAGMA user_version = 3", Code.DATABASE_UNKNOWN),
    ],
)
def test_open__file_that_is_not_for_this_program__refused_and_unchanged(
    tmp_path: Path, change: str, code: Code
) -> None:
    path = tmp_path / "agent.sqlite"
    open_store(path).close()
    with sqlite3.connect(path) as db:
        db.execute(change)
    db.close()
    before = content(path)
    for use in (Store, look_at):
        with pytest.raises(StoreError) as caught:
            use(path)
        assert caught.value.code == code
        assert "\n" not in str(caught.value)
    assert content(path) == before


def test_open__old_number_with_other_tables__never_guessed_at(tmp_path: Path) -> None:
    path = lay(tmp_path, "4", "ALTER TABLE jobs ADD COLUMN theirs TEXT;")
    with pytest.raises(StoreError) as caught:
        open_store(path)
    assert caught.value.code == Code.DATABASE_UNKNOWN


def test_look__old_file__is_not_upgraded_by_who_only_looks(tmp_path: Path) -> None:
    path = lay(tmp_path, "4")
    before = content(path)
    assert "schema-4: the start upgrades it" in look_at(path, tables_of())
    with pytest.raises(StoreError) as caught:
        open_store(path, owner=False)
    assert caught.value.code == Code.DATABASE_OLD
    assert content(path) == before


def test_steps__history_keeps_what_leaves(tmp_path: Path) -> None:
    """A step that adds a column to what ends must add it to the history, too."""
    path = tmp_path / "agent.sqlite"
    open_store(path).close()
    for table in ("jobs", "runs", "intents"):
        query = f"SELECT name FROM pragma_table_info('{table}') ORDER BY name"
        assert rows(path, query) == rows(tmp_path / "history.sqlite", query)


def test_steps__another_module__needs_its_folder_alone(tmp_path: Path) -> None:
    channels = Tables("channels", tmp_path / "channels")
    channels.steps.mkdir()
    (channels.steps / "0001_tables.sql").write_text("CREATE TABLE channels (a);")
    for _ in range(2):  # the second time there is nothing to do
        store = Store(tmp_path / "agent.sqlite", tables=[*tables_of(), channels])
        store._db().execute("INSERT INTO channels VALUES (1)")
        store.close()
    with pytest.raises(StoreError) as refused:
        open_store(tmp_path / "agent.sqlite")  # an agent without that module
    assert refused.value.code is Code.DATABASE_NEWER
    (channels.steps / "0003_hole.sql").write_text("")
    with pytest.raises(ValueError, match="not numbered one by one"):
        migration.steps([channels])


def test_fixtures__are_what_the_key_signed() -> None:
    assert hashlib.sha256(sign(5).raw).digest() != hashlib.sha256(sign(6).raw).digest()
    assert KEY.address in (SCHEMAS / "1.sql").read_text()
