# SPDX-License-Identifier: Apache-2.0
"""Moves jobs that have ended out of the tables that a cycle reads, into the history."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from provider_agent.modules.jobs.repository import ended
from provider_agent.modules.jobs.repository.rows import OVER, RunStage
from provider_agent.store.ending import drop_intents, is_settled
from provider_agent.store.repository import Repository

_TAKEN = (2, 3)  # assigned, attested
_LIVE_RUNS = (RunStage.PLANNED, RunStage.RUNNING, RunStage.EXITED)


class Ending(Repository):
    """Moves jobs with their runs and intents. See `store.ending` for the two steps."""

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
        moved, their_runs, their_intents = (list[sqlite3.Row]() for _ in range(3))
        gone: list[bytes] = []
        with self.transaction() as db:
            top = db.execute("SELECT max(nonce) FROM intents").fetchone()[0]
            for job_id in jobs:
                runs = db.execute("SELECT * FROM runs WHERE job_id = ?", (job_id,)).fetchall()
                intents = db.execute(
                    "SELECT * FROM intents WHERE object_id = ?", (job_id.hex(),)
                ).fetchall()
                if any(run["state"] in _LIVE_RUNS for run in runs) or not all(
                    is_settled(intent, deep, top) for intent in intents
                ):
                    continue
                gone.append(job_id)
                if runs or intents:
                    moved += db.execute(
                        "SELECT job_id, terms, requester, spec, status, provider, price, "
                        "assigned_at, attested_at, paused, result, receipt, started, finished, "
                        "state_block, note, coalesce(settled_at, updated_at) AS settled_at, "
                        "updated_at FROM jobs WHERE job_id = ?",
                        (job_id,),
                    ).fetchall()
                    their_runs += runs
                    their_intents += intents
            ended.keep(self.history, moved, their_runs, their_intents)
            drop_intents(db, their_intents)
            for job_id in gone:
                db.execute("DELETE FROM runs WHERE job_id = ?", (job_id,))
                db.execute("DELETE FROM jobs WHERE job_id = ?", (job_id,))
        return len(gone)

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

    def forget_ended(self, before: int, limit: int) -> list[bytes]:
        """Delete jobs of the history that ended before a time; their ids."""
        return ended.forget(self.history, before, limit)

    def forget_quotes(self, before: int) -> int:
        """Delete quotes that expired before a time: no job can use them."""
        with self.transaction() as db:
            return db.execute("DELETE FROM quotes WHERE expires < ?", (before,)).rowcount
