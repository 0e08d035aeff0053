# SPDX-License-Identifier: Apache-2.0
"""What has ended costs nothing: no query of a cycle or of a public request walks through it."""

from __future__ import annotations

import re
import sqlite3
from typing import Any

import pytest

from provider_agent.modules.jobs.book import FINAL
from provider_agent.modules.jobs.repository import JobsRepository as Jobs
from provider_agent.modules.jobs.repository import RunStage
from provider_agent.modules.jobs.repository.rows import OVER
from provider_agent.modules.jobs.views import offer
from provider_agent.store import IntentState, Store
from teraproof.protocol.terms import Status
from tests.agent.duty_parts import OWNER
from tests.agent.duty_rig import Rig

# Tables that grow with what has ended, or with what strangers do.
GROWN = ("jobs", "runs", "intents", "transactions", "specs", "quotes", "login_nonces", "sessions")
SCAN = re.compile(r"SCAN (\w+)(?! USING (COVERING )?INDEX (jobs_by_turn|runs_by_state))")


class Plans:
    """The statements that SQLite was asked, by connection of a store."""

    def __init__(self, store: Store, patch: pytest.MonkeyPatch) -> None:
        self.asked: dict[Any, set[str]] = {}
        for connections in (store, store.history):
            db = connections._db()
            texts = self.asked.setdefault(connections, set())
            db.set_trace_callback(texts.add)

    def scans(self) -> list[str]:
        """Statements that walk through a grown table."""
        found = []
        for connections, texts in self.asked.items():
            db = connections._db()
            db.set_trace_callback(None)
            for text in sorted(texts):
                if not text.startswith(("SELECT", "UPDATE", "DELETE", "INSERT")):
                    continue
                plan = [row[3] for row in db.execute("EXPLAIN QUERY PLAN " + text)]
                for line in plan:
                    match = SCAN.match(line)
                    if match is not None and match[1] in GROWN:
                        found.append(f"{line}: {text[:200]}")
        return found


def live(rig: Rig) -> None:
    """A job from its post to its pay, next to one that stays open, with all that goes with it."""
    rig.post(rig.spec(content=b"other"))
    spec = rig.spec()
    rig.upload(spec)
    terms = rig.post(spec)
    rig.cycle()
    rig.set_intent(terms, "accept", IntentState.SIGNED, IntentState.SENT, IntentState.MINED)
    rig.set_intent(terms, "accept", IntentState.FINAL)
    rig.cycle()
    rig.assign(terms)
    rig.next_block()
    rig.cycle(2)
    (run,) = rig.records.runs_in(RunStage.RUNNING)
    rig.runner.end(run.run_id)
    rig.cycle(2)
    rig.set_intent(terms, "attest", IntentState.SIGNED, IntentState.SENT, IntentState.MINED)
    rig.set_intent(terms, "attest", IntentState.FINAL)
    rig.chain.words[terms.job_id()] = Status.SETTLED
    rig.next_block()
    rig.cycle(2)
    rig.duty._looked_everywhere = None
    rig.cycle()
    rig.housekeeper.see(rig.block.number, OWNER)
    rig.housekeeper.prune(600)
    rig.housekeeper.move()
    rig.now += 7200
    rig.housekeeper.move()


def test_cycle__walks_through_no_grown_table(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    plans = Plans(rig.store, monkeypatch)
    live(rig)
    store = rig.store
    # What the sender, the metrics and the API ask besides.
    store.intents_in(IntentState.SIGNED, IntentState.SENT, IntentState.MINED)
    store.intents_mined_since(5)
    store.next_nonce()
    Jobs(store).count_jobs()
    Jobs(store).count_runs()
    Jobs(store).live_quotes(5)
    store.create_nonce("n", 10)
    store.consume_nonce("n", 5)
    store.create_session(b"t", "a", 10)
    store.session(b"t", 5)
    Jobs(store).spec_usage("a")
    Jobs(store).spec_bytes()
    Jobs(store).is_named(b"x")
    assert plans.asked[store] and plans.asked[store.history]
    assert plans.scans() == []


def test_plans__a_scan_is_seen(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    plans = Plans(rig.store, monkeypatch)
    rig.store._db().execute("SELECT * FROM jobs WHERE note = 'x'").fetchall()
    assert len(plans.scans()) == 1


def fill(store: Store, number: int) -> None:
    """Ended jobs as an agent leaves them, before they are moved."""
    with store.transaction() as db:
        for n in range(number):
            job = n.to_bytes(32, "big")
            db.execute(
                "INSERT INTO jobs (job_id, terms, requester, spec, status, provider, settled_at, "
                "updated_at) VALUES (?, ?, 'r', ?, 4, ?, 1, 1)",
                (job, bytes(512), job, OWNER),
            )
            for action in ("accept", "attest", "finalize"):
                db.execute(
                    "INSERT INTO intents (contract, object_id, action, target, data, value, state, "
                    "block_number, created_at, updated_at) "
                    "VALUES ('jobs', ?, ?, 't', x'', '0', 'final', 1, 1, 1)",
                    (job.hex(), action),
                )
            db.execute(
                "INSERT INTO runs (run_id, job_id, state, created_at, updated_at) "
                "VALUES (?, ?, 'collected', 1, 1)",
                (f"{job.hex()}-1-0", job),
            )


def steps(rig: Rig) -> int:
    """How much SQLite has to do for a cycle, in thousands of its instructions."""
    counted = 0

    def count() -> int:
        nonlocal counted
        counted += 1
        return 0

    for connections in (rig.store, rig.store.history):
        connections._db().set_progress_handler(count, 1000)
    rig.cycle()
    list(rig.records.accepting())
    rig.promises.load()
    for connections in (rig.store, rig.store.history):
        connections._db().set_progress_handler(None, 0)
    return counted


def test_cycle__ended_jobs_cost_nothing__moved_or_not(rig: Rig) -> None:
    rig.post(rig.spec(content=b"other"))
    rig.cycle(2)
    empty = steps(rig)
    fill(rig.store, 2000)
    assert steps(rig) <= empty + 1
    rig.housekeeper.see(rig.block.number, OWNER)
    while rig.housekeeper.move():
        pass
    assert [Status(job.status) for job in rig.records.jobs()] == [Status.OPEN]
    assert steps(rig) <= empty + 1


def test_move__newest_nonce_and_what_is_under_way_stay(rig: Rig) -> None:
    fill(rig.store, 4)
    with rig.store.transaction() as db:
        ids = [n.to_bytes(32, "big").hex() for n in range(4)]
        db.execute("UPDATE intents SET nonce = id")
        db.execute("UPDATE intents SET state = 'sent' WHERE object_id = ?", (ids[1],))
        db.execute("UPDATE intents SET block_number = 90 WHERE object_id = ?", (ids[2],))
    following = rig.store.next_nonce()
    rig.housekeeper.see(95, OWNER)
    rig.housekeeper._depth = 10
    rig.housekeeper.move()
    # 1 waits for its transaction, 2 for the depth of its block, 3 has the newest nonce.
    assert {int.from_bytes(job.job_id, "big") for job in rig.records.jobs()} == {1, 2, 3}
    assert rig.store.next_nonce() == following
    (tmp := rig.folder / "history.sqlite").unlink()
    assert rig.store.next_nonce() == following and not tmp.exists()


def test_move__dies_between_the_files__nothing_is_lost_or_doubled(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(rig.store, 3)
    rig.housekeeper.see(rig.block.number, OWNER)
    with monkeypatch.context() as patch:
        patch.setattr("provider_agent.modules.jobs.repository.ending.drop_intents", _die)
        with pytest.raises(KeyboardInterrupt):
            rig.housekeeper.move()
    assert len(rig.records.jobs()) == 3
    rig.now = 100.0  # not old enough to be forgotten
    rig.housekeeper._clock = lambda: 5000.0
    rig.housekeeper._keep_seconds = 10**6
    rig.housekeeper.move()
    assert rig.records.jobs() == []
    assert rig.records.count_jobs() == {Status.SETTLED: 3}
    assert rig.store.count_intents()[IntentState.FINAL] == 9
    assert len(rig.store.intents_of(bytes(32).hex())) == 3


def _die(db: sqlite3.Connection, intents: Any) -> None:
    raise KeyboardInterrupt


def test_move__jobs_of_others__forgotten(rig: Rig) -> None:
    terms = rig.post(rig.spec())
    other = "0x" + "77" * 20
    rig.assign(terms, other)
    rig.cycle()
    rig.housekeeper.see(rig.block.number, OWNER)
    rig.housekeeper.move()
    assert len(rig.records.jobs()) == 1
    rig.now += 3700
    rig.housekeeper.move()
    assert rig.records.jobs() == [] and rig.records.job(terms.job_id()) is None


def test_provider_view__reads_a_snapshot(rig: Rig) -> None:
    spec = rig.spec()
    rig.upload(spec)
    rig.post(spec)
    rig.cycle()
    rig.store.close()
    rig.store._db = None  # type: ignore[method-assign, assignment]
    with rig.promises.lock:  # whoever promises holds it: nobody waits for that
        found = offer(rig.settings, rig.promises.shown, 0)
    assert found["slots"] == {"total": 1, "promised": 1}


@pytest.mark.parametrize("status", list(Status))
def test_every_status__is_over_or_is_looked_at_again(rig: Rig, status: Status) -> None:
    """Events get lost: a job of ours that has not ended must be found without them."""
    terms = rig.post(rig.spec())
    rig.records.update_job(terms.job_id(), status=status, provider=OWNER)
    found = rig.records.unended(OWNER)
    assert (found == []) is (status in FINAL) is (int(status) in OVER)
