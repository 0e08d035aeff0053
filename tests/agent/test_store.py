# SPDX-License-Identifier: Apache-2.0
"""The database: durability rules, drawn edges, and every table once round."""

from __future__ import annotations

import hashlib
import itertools
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from provider_agent.modules.all import open_store
from provider_agent.modules.jobs.repository import JobsRepository as Jobs
from provider_agent.modules.jobs.repository import QuoteRow, RunStage
from provider_agent.store import (
    IntentKey,
    IntentState,
    Mined,
    SeenLog,
    Store,
    Transaction,
    connections,
)
from provider_agent.store.connections import connect
from teraproof.errors import LocalError

KEY = IntentKey("0xjobs", "0x01", "accept")
MINED = Mined(b"h", 10, b"b", 1, 50_000, 7)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agent.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    made = open_store(path, clock=lambda: 1000.0)
    yield made
    made.close()


def _sign(nonce: int, max_fee: int = 10) -> Transaction:
    return Transaction(b"%d-%d" % (nonce, max_fee), nonce, "call", b"raw", 21_000, max_fee, 1, 1000)


# ---------------------------------------------------------------------- the file


def test_open__is_private_and_durable(store: Store, path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600
    with store.transaction() as db:
        assert db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        assert db.execute("PRAGMA synchronous").fetchone()[0] == 2


def test_open__newer_file__refused(store: Store, path: Path) -> None:
    store.close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(LocalError, match="written by a newer agent"):
        open_store(path)


def test_open__others_file__refused(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE theirs (a)")
    db.close()
    with pytest.raises(LocalError, match="database of another program"):
        open_store(path)


def test_open__no_directory__refused(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match=r"check agent\.data_dir"):
        open_store(tmp_path / "missing" / "agent.sqlite")


def test_bind__other_identity__refused(store: Store) -> None:
    store.bind(chain="1", operator="0xa")
    store.bind(chain="1", operator="0xa")
    with pytest.raises(LocalError, match="belongs to chain 1, the settings say 2"):
        store.bind(chain="2", operator="0xa")


def test_transaction__fails__nothing_is_kept(store: Store) -> None:
    def work() -> None:
        with store.transaction():
            store.set_meta("a", "1")
            with store.transaction():
                store.set_meta("b", "2")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert (store.meta("a"), store.meta("b")) == (None, None)
    store.set_meta("a", "3")
    assert store.meta("a") == "3"


def test_threads__have_their_own_connections(store: Store) -> None:
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for n in range(20):
                store.set_meta(f"{number}-{n}", "x")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert all(store.meta(f"{a}-{b}") == "x" for a in range(4) for b in range(20))


# ---------------------------------------------------------------------- intents


def test_add_intent__same_key__same_row(store: Store) -> None:
    first = store.add_intent(KEY, "0xto", b"data", value=2**200)
    assert store.add_intent(KEY, "0xto", b"data", value=2**200) == first
    assert first.value == 2**200
    with pytest.raises(LocalError, match="a new try needs a new action"):
        store.add_intent(KEY, "0xto", b"other", value=2**200)


def test_set_intent_state__nonces_have_no_holes(store: Store) -> None:
    ids = [store.add_intent(IntentKey("c", str(n), "a"), "0xto", b"").id for n in range(3)]
    for expected, row in enumerate(ids, start=5):
        intent = store.set_intent_state(row, IntentState.SIGNED, sign=_sign, first_nonce=5)
        assert intent.nonce == expected
    again = store.set_intent_state(ids[0], IntentState.SIGNED, sign=lambda n: _sign(n, 12))
    assert again.nonce == 5
    assert [made.max_fee for made in store.transactions_of(ids[0])] == [10, 12]
    assert store.next_nonce() == 8


def test_set_intent_state__signing_fails__no_nonce_is_used(store: Store) -> None:
    row = store.add_intent(KEY, "0xto", b"").id

    def broken(nonce: int) -> Transaction:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.set_intent_state(row, IntentState.SIGNED, sign=broken)
    assert store.next_nonce() is None
    assert store.intent_by_id(row).state is IntentState.PLANNED


def test_set_intent_state__leaves_the_chain__forgets_the_block(store: Store) -> None:
    row = store.add_intent(KEY, "0xto", b"").id
    store.set_intent_state(row, IntentState.SIGNED, sign=_sign)
    assert store.set_intent_state(row, IntentState.MINED, mined=MINED).mined == MINED
    assert store.set_intent_state(row, IntentState.FINAL).mined == MINED
    assert [i.id for i in store.intents_mined_since(10)] == [row]
    assert store.intents_mined_since(11) == []
    assert store.set_intent_state(row, IntentState.SENT).mined is None
    assert store.count_intents()[IntentState.SENT] == 1


_EDGES = {
    ("planned", "signed"), ("planned", "reverted"), ("planned", "abandoned"),
    ("signed", "signed"), ("signed", "sent"), ("signed", "mined"), ("signed", "abandoned"),
    ("sent", "signed"), ("sent", "mined"), ("sent", "abandoned"),
    ("mined", "mined"), ("mined", "sent"), ("mined", "final"), ("mined", "reverted"),
    ("mined", "abandoned"),
    ("final", "sent"), ("final", "mined"),
    ("reverted", "sent"), ("reverted", "mined"),
    ("abandoned", "sent"), ("abandoned", "mined"),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new"), itertools.product(IntentState, IntentState))
def test_set_intent_state__only_drawn_edges(
    store: Store, old: IntentState, new: IntentState
) -> None:
    row = store.add_intent(KEY, "0xto", b"").id
    with store.transaction() as db:
        db.execute("UPDATE intents SET state = ? WHERE id = ?", (old, row))
    if (old, new) in _EDGES:
        assert store.set_intent_state(row, new).state is new
    else:
        with pytest.raises(LocalError, match="cannot go from"):
            store.set_intent_state(row, new)


# ---------------------------------------------------------------------- the other tables


def test_cursor__keeps_marks_and_logs_of_the_window(store: Store) -> None:
    assert store.cursor("f") is None
    for number in (10, 20, 30):
        store.set_cursor("f", number, b"%d" % number, keep=15)
        store.add_seen_log("f", SeenLog(b"%d" % number, 0, number, b"job"))
    assert store.cursor("f") == 30
    assert [mark.number for mark in store.marks("f")] == [30, 20]
    store.set_cursor("f", 35, b"35", keep=15)
    assert [seen.block_number for seen in store.seen_logs("f", 0)] == [20, 30]
    store.drop_seen_log("f", store.seen_logs("f", 30)[0])
    store.set_cursor("f", 25, b"25", keep=15)
    assert [mark.number for mark in store.marks("f")] == [25, 20]
    assert [seen.block_number for seen in store.seen_logs("f", 0)] == [20]


def test_jobs__round_trip(store: Store) -> None:
    job = Jobs(store).add_job(b"id", b"terms", "0xr", b"spec", 1)
    assert Jobs(store).add_job(b"id", b"other", "0xr", b"spec", 2) == job
    Jobs(store).update_job(b"id", status=2, provider="0xp", price=2**200, note="taken")
    changed = Jobs(store).job(b"id")
    assert changed is not None
    assert (changed.status, changed.price, changed.note) == (2, 2**200, "taken")
    assert Jobs(store).jobs(1) == []
    assert Jobs(store).jobs(1, 2) == Jobs(store).jobs() == [changed]
    Jobs(store).drop_job(b"id")
    assert Jobs(store).job(b"id") is None


@pytest.mark.parametrize("value", [0, 2**63 - 1, 2**63, 2**64 - 1, 2**256 - 1])
def test_values_of_strangers__any_uint__kept_exactly(store: Store, value: int) -> None:
    Jobs(store).add_job(b"id", b"terms", "0xr", b"spec", 1)
    Jobs(store).update_job(
        b"id",
        price=value,
        assigned_at=value,
        attested_at=value,
        started=value,
        finished=value,
    )
    job = Jobs(store).job(b"id")
    assert job is not None
    found = (job.price, job.assigned_at, job.attested_at, job.started, job.finished)
    assert found == (value,) * 5
    Jobs(store).update_job(b"id", assigned_at=None, started=None)
    job = Jobs(store).job(b"id")
    assert job is not None
    assert (job.assigned_at, job.started, job.finished) == (None, None, value)
    assert store.add_intent(KEY, "0xto", b"data", deadline=value).deadline == value
    quote = QuoteRow(b"q", value, b"s", "0xr", value, value, value, 2000, b"sig", 1000)
    Jobs(store).put_quote(quote)
    assert Jobs(store).live_quotes(1000) == [quote]


def test_jobs_of__that_account_and_those_statuses(store: Store) -> None:
    for number, (who, status) in enumerate([("0xa", 1), ("0xa", 2), ("0xa", 4), ("0xb", 1)]):
        Jobs(store).add_job(bytes([number]), b"terms", who, b"spec", status)
    assert [job.job_id for job in Jobs(store).jobs_of("0xa", 1, 2)] == [b"\0", b"\1"]
    assert Jobs(store).jobs_of("0xc", 1) == []


def put(store: Store, body: bytes, who: str) -> bytes:
    digest = hashlib.sha256(body).digest()
    Jobs(store).put_spec(digest, body, who)
    return digest


def test_spec_usage__counts_what_no_job_has_named(store: Store) -> None:
    first, second, _ = (put(store, b"1234%d" % n, who) for n, who in enumerate("rrs"))
    assert (Jobs(store).spec_usage("r"), Jobs(store).spec_usage()) == (
        (2, 10),
        (3, 15),
    )
    Jobs(store).add_job(b"id", b"terms", "r", first, 1)
    assert (Jobs(store).is_named(first), Jobs(store).is_named(second)) == (
        True,
        False,
    )
    assert (Jobs(store).spec_usage("r"), Jobs(store).spec_usage()) == (
        (1, 5),
        (2, 10),
    )
    later = hashlib.sha256(b"later").digest()
    Jobs(store).add_job(b"id2", b"terms", "r", later, 1)
    put(store, b"later", "r")
    assert Jobs(store).spec_usage("r") == (1, 5)
    Jobs(store).drop_job(b"id")  # the job has left, and the specification stays its
    assert Jobs(store).spec_usage("r") == (1, 5)
    assert Jobs(store).spec_bytes() == 20


def test_prune_specs__old_and_not_kept__gone(path: Path) -> None:
    now = [1000.0]
    store = open_store(path, clock=lambda: now[0])
    old, kept = put(store, b"old", "0xr"), put(store, b"kept", "0xr")
    now[0] = 1100.0
    new = put(store, b"new", "0xr")
    assert Jobs(store).prune_specs({kept}, older_than=1000) == 0
    assert Jobs(store).prune_specs({kept}, older_than=1050) == 1
    assert [Jobs(store).spec(name) is None for name in (old, kept, new)] == [
        True,
        False,
        False,
    ]
    assert Jobs(store).spec_bytes() == 7
    assert sorted(os.listdir(path.parent / "specs")) == sorted((kept.hex(), new.hex()))
    store.close()


def test_specs__files_that_prove_themselves(store: Store, path: Path) -> None:
    digest = put(store, b"{}", "0xr")
    assert put(store, b"{}", "0xs") == digest
    assert (Jobs(store).spec(digest), Jobs(store).spec(b"e" * 32)) == (
        b"{}",
        None,
    )
    (path.parent / "specs" / digest.hex()).write_bytes(b"{ }")
    assert Jobs(store).spec(digest) is None  # damaged: as good as missing
    put(store, b"{}", "0xr")
    assert Jobs(store).spec(digest) == b"{}"


def test_quotes__nonce_is_used_once(store: Store) -> None:
    quote = QuoteRow(b"q", 2**255, b"s", "0xr", 2**100, 0, 60, 2000, b"sig", 1000)
    Jobs(store).put_quote(quote)
    assert Jobs(store).quote(b"q") == quote
    assert Jobs(store).live_quotes(2000) == [quote]
    assert Jobs(store).live_quotes(2001) == []
    with pytest.raises(sqlite3.IntegrityError):
        Jobs(store).put_quote(QuoteRow(b"r", 2**255, b"s", "0xr", 1, 0, 60, 2000, b"sig", 1000))


def test_runs__only_drawn_edges(store: Store) -> None:
    assert Jobs(store).add_run("r", b"job").state is RunStage.PLANNED
    with pytest.raises(LocalError, match="cannot go from planned to collected"):
        Jobs(store).set_run_state("r", RunStage.COLLECTED)
    Jobs(store).set_run_state("r", RunStage.RUNNING, started=1)
    Jobs(store).set_run_state("r", RunStage.EXITED, exit_code=0, finished=2)
    run = Jobs(store).set_run_state("r", RunStage.COLLECTED, result=b"d", receipt=b"e")
    assert (run.started, run.finished, run.exit_code, run.result) == (1, 2, 0, b"d")
    assert Jobs(store).runs_of(b"job") == Jobs(store).runs_in(RunStage.COLLECTED) == [run]
    with pytest.raises(LocalError, match="there is no run"):
        Jobs(store).set_run_state("other", RunStage.RUNNING)


def test_login_nonce__is_used_once_and_expires(store: Store) -> None:
    store.create_nonce("n", 1010)
    assert store.consume_nonce("n", 1010)
    assert not store.consume_nonce("n", 1010)
    store.create_nonce("m", 1010)
    assert not store.consume_nonce("m", 1011)
    assert not store.consume_nonce("unknown", 0)


def test_session__expires(store: Store) -> None:
    store.create_session(b"t", "0xr", 1010)
    assert store.session(b"t", 1010) == "0xr"
    assert store.session(b"t", 1011) is None
    assert store.session(b"u", 0) is None


def test_sessions_of_an_account__end_together_and_no_others(store: Store) -> None:
    for token, account in ((b"a", "0xAb"), (b"b", "0xab"), (b"c", "0xcd")):
        store.create_session(token, account, 1010)
    store.end_sessions("0xAB")
    assert [store.session(one, 1000) for one in (b"a", b"b", b"c")] == [None, None, "0xcd"]


def test_many_threads_write__each_is_woken_for_its_turn_and_none_has_to_try_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite itself has a writer sleep and look again; here it would fail at once."""

    def impatient(path: Path) -> sqlite3.Connection:
        made = connect(path)
        made.execute("PRAGMA busy_timeout = 0")
        return made

    monkeypatch.setattr(connections, "connect", impatient)
    store = open_store(tmp_path / "agent.sqlite")
    failed: list[sqlite3.Error] = []

    def write(name: str) -> None:
        try:
            for number in range(20):
                with store.transaction():
                    store.set_meta(name, str(number))
        except sqlite3.Error as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(f"thread.{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert [store.meta(f"thread.{n}") for n in range(8)] == ["19"] * 8
    with pytest.raises(ZeroDivisionError), store.transaction():
        store.set_meta("thread.0", str(1 // 0))
    store.set_meta("thread.0", "the turn was given back")
    store.close()
