# SPDX-License-Identifier: Apache-2.0
"""A backup holds what a new machine needs; an agent that was set back does nothing twice."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import sqlite3
import stat
import tarfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from provider_agent.cli import main as cli
from provider_agent.dataplane.outer import Key
from provider_agent.dataplane.published import Published, Served
from provider_agent.dataplane.revoked import Revoked
from provider_agent.modules.all import open_store
from provider_agent.modules.disputes.votes import VoteBook
from provider_agent.modules.jobs.attestations import SaidOtherwise
from provider_agent.modules.jobs.results import Results
from provider_agent.store import IntentKey, IntentState, backup
from provider_agent.tx.keys import KeyLock
from teraproof.courts.votes import Opinion, Vote
from teraproof.errors import LocalError
from teraproof.protocol.dispute import Case
from teraproof.protocol.messages import Attestation
from teraproof.protocol.terms import ZERO_ADDRESS

OWNER = "0x" + "00" * 19 + "01"
OPERATOR = "0x" + "00" * 19 + "02"
CASE = Case(b"\1" * 32, OWNER, OWNER, OPERATOR, ZERO_ADDRESS, b"\2" * 32, b"\3" * 32, 1, 1)
SAID = Attestation(b"\x05" * 32, b"\x01" * 32, b"\x02" * 32, b"\x03" * 32, 10, 20)
SETTINGS = f"""
[chain]
rpc_urls = ["http://127.0.0.1:1"]
chain_id = 31337
staking = "{OWNER}"
jobs = "{OWNER}"

[operator]
keystore = "operator.json"
password_file = "operator.password"

[agent]
data_dir = "data"
lock_dir = "locks"
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An agent's directory as it is after some work, with its database in use."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "locks").mkdir()
    (home / "provider.toml").write_text(SETTINGS)
    (home / "operator.json").write_text('{"crypto": "encrypted"}')
    (home / "operator.password").write_text("secret words")
    (home / "data").mkdir()
    store = open_store(home / "data" / "agent.sqlite")
    store.bind(chain="31337", operator=OPERATOR)
    for number, name in enumerate(("planned", "signed", "sent", "final")):
        intent = store.add_intent(IntentKey("jobs", f"{number:064x}", name), OWNER, b"\x01")
        if name == "planned":
            continue
        for state in {
            "signed": [IntentState.SIGNED],
            "sent": [IntentState.SIGNED, IntentState.SENT],
            "final": [IntentState.ABANDONED],
        }[name]:
            store.set_intent_state(intent.id, state)
    store.set_meta("some", "thing")
    store.close()
    return home


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])


def saved(home: Path, folder: Path) -> Result:
    return call("backup", "--config", home / "provider.toml", folder)


def restored(home: Path, folder: Path) -> Result:
    return call("restore", "--config", home / "provider.toml", folder)


def content(database: Path) -> list[str]:
    db = sqlite3.connect(database)
    try:
        return [line for line in db.iterdump() if "rows_lost" not in line]
    finally:
        db.close()


def test_backup__holds_databases_settings_and_the_encrypted_key_and_no_password(
    home: Path, tmp_path: Path
) -> None:
    store = open_store(home / "data" / "agent.sqlite")  # the agent runs meanwhile
    store.set_meta("some", "newer thing")
    done = saved(home, tmp_path / "copy")
    assert done.exit_code == 0, done.output
    assert "operator.password; keep a copy" in done.output
    names = {path.name for path in (tmp_path / "copy").iterdir()}
    assert {"agent.sqlite", "provider.toml", "operator.json", "backup.json"} <= names
    assert "operator.password" not in names
    for path in [tmp_path / "copy", *(tmp_path / "copy").iterdir()]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
        assert b"secret words" not in (path.read_bytes() if path.is_file() else b"")
    store.close()
    assert any("newer thing" in line for line in content(tmp_path / "copy" / "agent.sqlite"))


def test_backup__directory_that_is_there__untouched(home: Path, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "x").write_text("mine")
    done = saved(home, tmp_path / "copy")
    assert done.exit_code == 2 and "name a new directory" in done.stderr
    assert [path.name for path in (tmp_path / "copy").iterdir()] == ["x"]


@pytest.mark.parametrize("missing", ["data", "operator.json"])
def test_backup__something_is_missing__one_line_and_nothing_left(
    home: Path, tmp_path: Path, missing: str
) -> None:
    path = home / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    done = saved(home, tmp_path / "copies" / "copy")
    assert done.exit_code in (1, 2) and len(done.stderr.splitlines()) == 1
    assert missing.split(".")[0] in done.stderr
    assert not (tmp_path / "copies" / "copy").exists()
    assert not list((tmp_path).glob("copies/.*"))


def test_restore__on_a_new_machine__all_is_there_but_the_password(
    home: Path, tmp_path: Path
) -> None:
    saved(home, tmp_path / "copy")
    new = tmp_path / "new"
    (new / "locks").mkdir(parents=True)
    done = restored(new, tmp_path / "copy")
    assert done.exit_code == 0, done.output
    assert "missing" in done.output and "operator.password" in done.output
    assert (new / "operator.json").read_text() == (home / "operator.json").read_text()
    assert (new / "provider.toml").read_text() == SETTINGS
    store = open_store(new / "data" / "agent.sqlite")
    assert store.meta("some") == "thing" and store.meta("identity.operator") == OPERATOR
    store.close()


def test_restore__what_was_under_way_is_given_up_and_the_agent_starts_as_after_a_loss(
    home: Path, tmp_path: Path
) -> None:
    saved(home, tmp_path / "copy")
    shutil.rmtree(home / "data")
    assert restored(home, tmp_path / "copy").exit_code == 0
    store = open_store(home / "data" / "agent.sqlite")
    assert store.rows_lost, "its start must adopt what the chain has"
    assert not store.intents_in(IntentState.PLANNED, IntentState.SIGNED, IntentState.SENT)
    reasons = {intent.reason for intent in store.intents_in(IntentState.ABANDONED)}
    assert "restored from a backup" in reasons
    store.close()


def test_restore__a_database_is_there__untouched(home: Path, tmp_path: Path) -> None:
    saved(home, tmp_path / "copy")
    before = content(home / "data" / "agent.sqlite")
    done = restored(home, tmp_path / "copy")
    assert done.exit_code == 2 and "move it" in done.stderr
    assert content(home / "data" / "agent.sqlite") == before


def test_restore__while_the_agent_runs__refused(home: Path, tmp_path: Path) -> None:
    saved(home, tmp_path / "copy")
    shutil.rmtree(home / "data")
    with KeyLock(31337, OPERATOR, home / "locks"):
        done = restored(home, tmp_path / "copy")
    assert done.exit_code == 1 and "stop it first" in done.stderr
    assert not (home / "data" / "agent.sqlite").exists()


def flipped(copy: Path) -> None:
    file = copy / "agent.sqlite"
    data = bytearray(file.read_bytes())
    data[5000] ^= 1
    file.write_bytes(data)


def other_chain(copy: Path) -> None:
    file = copy / "backup.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "chain": "1"}))


def without_history(copy: Path) -> None:
    (copy / "history.sqlite").unlink(missing_ok=True)
    (copy / "operator.json").unlink()


def no_list(copy: Path) -> None:
    (copy / "backup.json").write_text("[]")


def climbs(copy: Path) -> None:
    file = copy / "backup.json"
    manifest = json.loads(file.read_text())
    manifest["files"]["../evil"] = "0"
    file.write_text(json.dumps(manifest))


def empty(copy: Path) -> None:
    shutil.rmtree(copy)
    copy.mkdir()


@pytest.mark.parametrize(
    "spoil", [flipped, other_chain, without_history, no_list, climbs, empty, shutil.rmtree]
)
def test_restore__a_spoilt_copy__one_line_and_nothing_half_done(
    home: Path, tmp_path: Path, spoil: object
) -> None:
    saved(home, tmp_path / "copy")
    assert callable(spoil)
    spoil(tmp_path / "copy")
    new = tmp_path / "new"
    (new / "locks").mkdir(parents=True)
    done = restored(new, tmp_path / "copy")
    assert done.exit_code in (1, 2), done.output
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("error: ")
    assert [path.name for path in new.rglob("*") if path.is_file()] == []


def test_restore__cut_short_before_the_database__can_be_done_again(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(home, tmp_path / "copy")
    shutil.rmtree(home / "data")

    def die(*_: object) -> None:
        raise LocalError("cut short")

    monkeypatch.setattr(backup, "_make_fit", die)
    assert restored(home, tmp_path / "copy").exit_code == 1
    assert not (home / "data" / "agent.sqlite").exists()
    monkeypatch.undo()
    assert restored(home, tmp_path / "copy").exit_code == 0
    assert not (home / "data" / ".restoring").exists()


# ------------------------------------------------------------------------ what was signed


def test_restore__what_was_signed_before_the_backup__nothing_else_is_ever_signed(
    home: Path, tmp_path: Path
) -> None:
    Results(home / "data" / "results").said.keep(SAID, b"receipt")
    assert saved(home, tmp_path / "copy").exit_code == 0
    shutil.rmtree(home / "data")
    assert restored(home, tmp_path / "copy").exit_code == 0
    after = Results(home / "data" / "results").said
    found = after.of(SAID.job)
    assert found is not None and (found.statement, found.receipt) == (SAID, b"receipt")
    with pytest.raises(SaidOtherwise):
        after.keep(replace(SAID, result=b"\x09" * 32), b"")


def test_restore__votes_that_were_kept_before_the_backup__the_same_are_cast(
    home: Path, tmp_path: Path
) -> None:
    kept, other = Opinion(Vote.WRONG, b"\x05" * 32), Opinion(Vote.RIGHT, b"\x06" * 32)
    VoteBook(home / "data" / "votes").keep(CASE, 0, kept)
    assert saved(home, tmp_path / "copy").exit_code == 0
    shutil.rmtree(home / "data")
    assert restored(home, tmp_path / "copy").exit_code == 0
    after = VoteBook(home / "data" / "votes")
    assert after.of(CASE, 0) == kept and after.keep(CASE, 0, other) == kept
    assert after.of(CASE, 2) is None


def test_restore__what_tenants_have_said_of_their_ports_and_keys__holds(
    home: Path, tmp_path: Path
) -> None:
    plane, key = home / "data" / "data-plane", Key(b"\x01" * 32, "web", 443)
    said = Served("tls", "a certificate", "its key")
    Published(plane, b"operator").keep(key, said)
    Revoked(plane / "revoked.json").take_back(key.lease)
    assert saved(home, tmp_path / "copy").exit_code == 0
    for path in (tmp_path / "copy").rglob("*"):
        assert b"its key" not in path.read_bytes()
    shutil.rmtree(home / "data")
    assert restored(home, tmp_path / "copy").exit_code == 0
    assert Published(plane, b"operator").of(key) == said
    assert Revoked(plane / "revoked.json").is_dead(key.lease, int(time.time()) + 60)


def test_restore__a_vote_on_the_disk__stays(home: Path, tmp_path: Path) -> None:
    VoteBook(home / "data" / "votes").keep(CASE, 0, Opinion(Vote.WITHHELD))
    assert saved(home, tmp_path / "copy").exit_code == 0
    later = Opinion(Vote.WRONG, b"\x05" * 32)
    VoteBook(home / "data" / "votes").keep(CASE, 2, later)
    for file in (home / "data").glob("agent.sqlite*"):
        file.unlink()
    assert restored(home, tmp_path / "copy").exit_code == 0
    after = VoteBook(home / "data" / "votes")
    assert (after.of(CASE, 0), after.of(CASE, 2)) == (Opinion(Vote.WITHHELD), later)


def test_restore__something_was_signed_since__the_disk_counts(home: Path, tmp_path: Path) -> None:
    signed = Results(home / "data" / "results").said
    signed.keep(SAID, b"")
    assert saved(home, tmp_path / "copy").exit_code == 0
    later = [replace(SAID, job=bytes([6]) * 32), replace(SAID, result=b"\x09" * 32)]
    signed.drop(SAID.job)
    for statement in later:
        signed.keep(statement, b"")
    for file in (home / "data").glob("agent.sqlite*"):
        file.unlink()
    assert restored(home, tmp_path / "copy").exit_code == 0
    after = Results(home / "data" / "results").said
    assert {kept.statement for one in later if (kept := after.of(one.job))} == set(later)


def test_restore__what_was_signed_keeps_its_age(home: Path, tmp_path: Path) -> None:
    """It is deleted by its age."""
    Results(home / "data" / "results").said.keep(SAID, b"")
    os.utime(home / "data" / "results-signed" / SAID.job.hex(), (1_000_000, 1_000_000))
    saved(home, tmp_path / "copy")
    shutil.rmtree(home / "data")
    restored(home, tmp_path / "copy")
    old = Results(home / "data" / "results").said.older_than(1_000_001)
    assert list(old) == [SAID.job]


def test_backup__half_written_statement__left_out(home: Path, tmp_path: Path) -> None:
    Results(home / "data" / "results").said.keep(SAID, b"")
    (home / "data" / "results-signed" / ".part").write_text("{")
    assert saved(home, tmp_path / "copy").exit_code == 0
    with tarfile.open(tmp_path / "copy" / "results-signed.tar") as archive:
        assert archive.getnames() == [SAID.job.hex()]


def test_restore__backup_of_an_earlier_version__without_what_was_signed(
    home: Path, tmp_path: Path
) -> None:
    saved(home, tmp_path / "copy")
    file = tmp_path / "copy" / "backup.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "format": 1}))
    shutil.rmtree(home / "data")
    done = restored(home, tmp_path / "copy")
    assert done.exit_code == 0 and "was signed" in done.output


def member(name: str, kind: bytes = tarfile.REGTYPE) -> tuple[tarfile.TarInfo, bytes]:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, "/etc/passwd"
    made.size = 2 if kind == tarfile.REGTYPE else 0
    return made, b"{}"[: made.size]


@pytest.mark.parametrize(
    "evil",
    [
        member("../evil"),
        member("/tmp/evil"),
        member(".part"),
        member("a" * 64, tarfile.SYMTYPE),
        member("a" * 64, tarfile.LNKTYPE),
        member("a" * 64, tarfile.DIRTYPE),
        member("a" * 64, tarfile.FIFOTYPE),
    ],
)
def test_restore__archive_with_something_else__one_line_and_nothing_half_done(
    home: Path, tmp_path: Path, evil: tuple[tarfile.TarInfo, bytes]
) -> None:
    Results(home / "data" / "results").said.keep(SAID, b"")
    saved(home, tmp_path / "copy")
    archive = tmp_path / "copy" / "results-signed.tar"
    with tarfile.open(archive, "a") as opened:
        opened.addfile(evil[0], io.BytesIO(evil[1]))
    manifest = tmp_path / "copy" / "backup.json"
    listed = json.loads(manifest.read_text())
    listed["files"][archive.name] = hashlib.sha256(archive.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(listed))
    new = tmp_path / "new"
    (new / "locks").mkdir(parents=True)
    done = restored(new, tmp_path / "copy")
    assert done.exit_code in (1, 2), done.output
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("error: ")
    left = [path.name for path in new.rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert left == []
