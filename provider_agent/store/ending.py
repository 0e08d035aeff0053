# SPDX-License-Identifier: Apache-2.0
"""Moves what has ended out of the tables that a cycle reads, into the history."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from provider_agent.store.database import Database
from provider_agent.store.rows import DONE, OVER, RunStage

_TAKEN = (2, 3)  # assigned, attested
_LIVE_RUNS = (RunStage.PLANNED, RunStage.RUNNING, RunStage.EXITED)


class Ending(Database):
    """Moves what has ended out of the tables that a cycle reads, into the history.

    A row goes in two steps, first into the history and then from here, so that it is never
    nowhere; one that is in both counts as here. The newest nonce never goes: the next one follows
    from it, whatever becomes of the history.
    """

    def end_jobs(self, deep: int, before: int, limit: int) -> int:
        """Move jobs that ended and were left alone since `before` (unix time), whose transactions
        are below block `deep`; how many went.
        """
        with self.transaction() as db:
            marks = ", ".join("?" * len(OVER))
            query = (
                f"SELECT job_id FROM jobs WHERE status IN ({marks}) "  # noqa: S608 - marks only
                "AND updated_at < ? LIMIT ?"
            )
            found = [bytes(row[0]) for row in db.execute(query, (*OVER, before, limit))]
            return self.retire(found, deep)

    def retire(self, jobs: Iterable[bytes], deep: int) -> int:
        """Move these jobs, but for those with something still under way; how many went. Jobs that
        never concerned us are deleted.
        """
        rows: dict[str, list[sqlite3.Row]] = {"jobs": [], "runs": [], "intents": []}
        gone: list[bytes] = []
        with self.transaction() as db:
            top = db.execute("SELECT max(nonce) FROM intents").fetchone()[0]
            for job_id in jobs:
                runs = db.execute("SELECT * FROM runs WHERE job_id = ?", (job_id,)).fetchall()
                intents = db.execute(
                    "SELECT * FROM intents WHERE object_id = ?", (job_id.hex(),)
                ).fetchall()
                if any(run["state"] in _LIVE_RUNS for run in runs) or not all(
                    _is_settled(intent, deep, top) for intent in intents
                ):
                    continue
                gone.append(job_id)
                if runs or intents:
                    rows["jobs"] += db.execute(
                        "SELECT job_id, terms, requester, spec, status, provider, price, "
                        "assigned_at, attested_at, paused, result, receipt, started, finished, "
                        "state_block, note, coalesce(settled_at, updated_at) AS settled_at, "
                        "updated_at FROM jobs WHERE job_id = ?",
                        (job_id,),
                    ).fetchall()
                    rows["runs"] += runs
                    rows["intents"] += intents
            self.history.add(rows)
            _drop_intents(db, rows["intents"])
            for job_id in gone:
                db.execute("DELETE FROM runs WHERE job_id = ?", (job_id,))
                db.execute("DELETE FROM jobs WHERE job_id = ?", (job_id,))
        return len(gone)

    def end_intents(self, deep: int, before: int, limit: int) -> int:
        """Move ended intents that are about no job; how many went."""
        with self.transaction() as db:
            top = db.execute("SELECT max(nonce) FROM intents").fetchone()[0]
            marks = ", ".join("?" * len(DONE))
            query = (
                f"SELECT * FROM intents WHERE state IN ({marks}) "  # noqa: S608 - marks only
                "AND contract <> 'jobs' AND updated_at < ? LIMIT ?"
            )
            found = [
                row
                for row in db.execute(query, (*DONE, before, limit)).fetchall()
                if _is_settled(row, deep, top)
            ]
            self.history.add({"intents": found})
            _drop_intents(db, found)
        return len(found)

    def forget_others(self, owner: str, before: int, limit: int) -> int:
        """Delete jobs that others do and nobody has told of since `before`; how many went."""
        marks = ", ".join("?" * len(_TAKEN))
        with self.transaction() as db:
            query = (
                f"SELECT job_id FROM jobs WHERE status IN ({marks}) "  # noqa: S608 - marks only
                "AND updated_at < ? AND provider <> ? "
                "AND NOT EXISTS (SELECT 1 FROM runs WHERE runs.job_id = jobs.job_id) AND NOT "
                "EXISTS (SELECT 1 FROM intents WHERE object_id = lower(hex(jobs.job_id))) LIMIT ?"
            )
            found = db.execute(query, (*_TAKEN, before, owner, limit)).fetchall()
            db.executemany("DELETE FROM jobs WHERE job_id = ?", [(row[0],) for row in found])
        return len(found)

    def forget_quotes(self, before: int) -> int:
        """Delete quotes that expired before a time: no job can use them."""
        with self.transaction() as db:
            return db.execute("DELETE FROM quotes WHERE expires < ?", (before,)).rowcount

    def give_back_room(self) -> None:
        """Make the file small again when most of it is empty, as after an upgrade."""
        db = self._db()
        pages = int(db.execute("PRAGMA page_count").fetchone()[0])
        free = int(db.execute("PRAGMA freelist_count").fetchone()[0])
        if free > 4096 and free > pages // 2:
            db.execute("VACUUM")


def _is_settled(intent: sqlite3.Row, deep: int, top: int | None) -> bool:
    """Whether nothing more will happen to an intent, in any reorg that is followed."""
    block = intent["block_number"]
    newest = top is not None and intent["nonce"] == top
    return intent["state"] in DONE and (block is None or block < deep) and not newest


def _drop_intents(db: sqlite3.Connection, intents: Iterable[sqlite3.Row]) -> None:
    for intent in intents:
        db.execute("DELETE FROM transactions WHERE intent_id = ?", (intent["id"],))
        db.execute("DELETE FROM intents WHERE id = ?", (intent["id"],))
