# SPDX-License-Identifier: Apache-2.0
"""Jobs and runs that have ended, in the history: the one place that knows them there."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from provider_agent.store.history import History


def job(history: History, job_id: bytes) -> sqlite3.Row | None:
    """An ended job."""
    rows = history.find("SELECT * FROM jobs WHERE job_id = ?", job_id)
    return rows[0] if rows else None


def newest_jobs(history: History, number: int) -> list[sqlite3.Row]:
    """The jobs that ended last, the last one first."""
    return history.find("SELECT * FROM jobs ORDER BY settled_at DESC LIMIT ?", number)


def runs_of(history: History, job_id: bytes) -> list[sqlite3.Row]:
    """The runs of an ended job, oldest first."""
    query = "SELECT * FROM runs WHERE job_id = ? ORDER BY created_at, run_id"
    return history.find(query, job_id)


def keep(
    history: History,
    jobs: Iterable[sqlite3.Row],
    runs: Iterable[sqlite3.Row],
    intents: Iterable[sqlite3.Row],
) -> None:
    """Take in jobs with all that belongs to them. Raises sqlite3.Error."""
    with history.transaction():
        history.keep("jobs", ("job_id",), jobs)
        history.keep("runs", ("run_id",), runs)
        history.keep_intents(intents)


def forget(history: History, before: int, limit: int) -> list[bytes]:
    """Delete jobs that ended before a time, the oldest first, and what belongs to them; their ids.
    Other ended intents go with their age.
    """
    with history.transaction() as db:
        found = db.execute(
            "SELECT job_id FROM jobs WHERE settled_at < ? ORDER BY settled_at LIMIT ?",
            (before, limit),
        )
        gone = [bytes(row[0]) for row in found]
        for job_id in gone:
            db.execute("DELETE FROM runs WHERE job_id = ?", (job_id,))
            db.execute("DELETE FROM jobs WHERE job_id = ?", (job_id,))
        history.forget_intents(before, limit, [job_id.hex() for job_id in gone])
    return gone
