# SPDX-License-Identifier: Apache-2.0
"""Jobs as events and state words tell them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any, Unpack

from provider_agent.modules.jobs.repository import ended
from provider_agent.modules.jobs.repository.rows import OVER, JobRow, JobUpdate
from provider_agent.store.repository import Repository
from provider_agent.store.rows import IntentState

# Columns of a job that bear what strangers put on the chain: text in the file.
_WIDE = ("price", "assigned_at", "attested_at", "paused", "started", "finished")


class Jobs(Repository):
    """Jobs as events and state words tell them."""

    def add_job(
        self, job_id: bytes, terms: bytes, requester: str, spec: bytes, status: int
    ) -> JobRow:
        """The job with this id, made now if it is new."""
        with self.transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO jobs (job_id, terms, requester, spec, status, updated_at) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (job_id, terms, requester, spec, status, self._now()),
            )
            job = self.job(job_id)
            assert job is not None  # inserted above, in the same transaction
            return job

    def job(self, job_id: bytes) -> JobRow | None:
        """The job with this id, also when it has ended."""
        row = self._db().execute("SELECT * FROM jobs WHERE job_id = ?", (job_id,)).fetchone()
        if row is None:
            row = ended.job(self.history, job_id)
        return None if row is None else _job(row)

    def ended_jobs(self, number: int) -> list[JobRow]:
        """The jobs in the history that ended last, the last one first."""
        return [_job(row) for row in ended.newest_jobs(self.history, number)]

    def jobs(self, *statuses: int) -> list[JobRow]:
        """Jobs with any of the statuses (all when none is named), oldest change first."""
        marks = ", ".join("?" * len(statuses))
        where = f"WHERE status IN ({marks})" if statuses else ""
        rows = self._db().execute(
            f"SELECT * FROM jobs {where} "  # noqa: S608 - question marks only
            "ORDER BY updated_at, job_id",
            statuses,
        )
        return [_job(row) for row in rows]

    def jobs_of(self, requester: str, *statuses: int) -> list[JobRow]:
        """An account's jobs with any of the statuses, oldest change first."""
        marks = ", ".join("?" * len(statuses))
        rows = self._db().execute(
            f"SELECT * FROM jobs WHERE requester = ? AND status IN ({marks}) "  # noqa: S608 - marks
            "ORDER BY updated_at, job_id",
            (requester, *statuses),
        )
        return [_job(row) for row in rows]

    def jobs_naming(self, requester: str, spec: bytes) -> list[JobRow]:
        """An account's jobs with this specification."""
        rows = self._db().execute(
            "SELECT * FROM jobs INDEXED BY jobs_by_spec WHERE spec = ? AND requester = ?",
            (spec, requester),
        )
        return [_job(row) for row in rows]

    def orders_of(self, requester: str, spec: bytes, limit: int) -> list[JobRow]:
        """The open jobs of an account with this specification that pay most, the best first."""
        rows = self._db().execute(
            "SELECT * FROM jobs INDEXED BY jobs_by_spec WHERE spec = ? AND requester = ? "
            "AND status = 1 ORDER BY substr(terms, 225, 32) DESC LIMIT ?",
            (spec, requester, limit),
        )
        return [_job(row) for row in rows]

    def ordered_specs(self, requester: str) -> Iterator[tuple[bytes, int]]:
        """Specifications that open jobs of an account name, and their sizes in bytes; what came
        last first. One without a row may be on the disk all the same; it counts as a large one.
        """
        rows = self._db().execute(
            "SELECT spec, ifnull(size, 65536) FROM (SELECT DISTINCT spec FROM jobs "
            "WHERE requester = ? AND status = 1) LEFT JOIN specs ON digest = spec "
            "ORDER BY stored_at IS NULL, stored_at DESC",
            (requester,),
        )
        return ((bytes(row[0]), int(row[1])) for row in rows)

    def live_specs(self, requester: str, limit: int) -> list[bytes]:
        """Specifications that are here and that jobs of an account name which have not ended."""
        return self._ids(
            "SELECT DISTINCT spec FROM jobs JOIN specs ON specs.digest = jobs.spec "
            "WHERE requester = ? AND status IN (0, 1, 2, 3, 8) LIMIT ?",
            requester,
            limit,
        )

    def jobs_by(self, provider: str, *statuses: int) -> list[JobRow]:
        """A provider's jobs with any of the statuses, oldest change first."""
        marks = ", ".join("?" * len(statuses))
        rows = self._db().execute(
            f"SELECT * FROM jobs WHERE provider = ? AND status IN ({marks}) "  # noqa: S608 - marks
            "ORDER BY updated_at, job_id",
            (provider, *statuses),
        )
        return [_job(row) for row in rows]

    def accepting(self) -> list[JobRow]:
        """Open jobs whose acceptance is on its way, oldest change first.

        They are found by the acceptances: of the open jobs there may be any number.
        """
        rows = self._db().execute(
            "SELECT object_id FROM intents INDEXED BY intents_by_state WHERE state IN (?, ?, ?, ?) "
            "AND contract = 'jobs' AND action LIKE 'accept%'",
            (IntentState.PLANNED, IntentState.SIGNED, IntentState.SENT, IntentState.MINED),
        )
        ids = dict.fromkeys(bytes.fromhex(row[0]) for row in rows.fetchall())
        known = [self.job(job_id) for job_id in ids]
        found = [job for job in known if job is not None and job.status == 1]
        return sorted(found, key=lambda job: (job.updated_at, job.job_id))

    def concerns(self, job_id: bytes) -> bool:
        """Whether we have, or had, anything to do with a job."""
        row = (
            self._db()
            .execute(
                "SELECT EXISTS (SELECT 1 FROM runs WHERE job_id = ?) "
                "OR EXISTS (SELECT 1 FROM intents WHERE object_id = ?)",
                (job_id, job_id.hex()),
            )
            .fetchone()
        )
        return bool(row[0]) or ended.job(self.history, job_id) is not None

    def unended(self, owner: str | None) -> list[bytes]:
        """The jobs that concern us, or that provider, and have not ended."""
        rows = self._db().execute(
            "SELECT job_id FROM jobs WHERE status IN (0, 1, 2, 3, 8) AND (provider IS ? "
            "OR EXISTS (SELECT 1 FROM runs WHERE runs.job_id = jobs.job_id) OR EXISTS "
            "(SELECT 1 FROM intents WHERE object_id = lower(hex(jobs.job_id))))",
            (owner or "",),
        )
        return [bytes(row[0]) for row in rows]

    def unread_since(self, provider: str) -> int | None:
        """When the first of a provider's jobs was assigned whose attestation the chain has, and no
        event has told; None without such a job.
        """
        row = self._db().execute(
            "SELECT min(CAST(assigned_at AS INTEGER)) FROM jobs "
            "WHERE provider = ? AND status = 3 AND attested_at IS NULL",
            (provider,),
        )
        found: int | None = row.fetchone()[0]
        return found

    def best_paid(self, limit: int) -> list[bytes]:
        """Open jobs that pay most, the best first."""
        return self._ids(
            "SELECT job_id FROM jobs WHERE status = 1 ORDER BY substr(terms, 225, 32) DESC LIMIT ?",
            limit,
        )

    def unseen(self, limit: int) -> list[bytes]:
        """Open jobs without a note, the best paid first: nobody has looked at them."""
        return self._ids(
            "SELECT job_id FROM jobs WHERE status = 1 AND (note = '') = 1 "
            "ORDER BY substr(terms, 225, 32) DESC LIMIT ?",
            limit,
        )

    def after(self, job_id: bytes, limit: int) -> list[bytes]:
        """Open jobs that follow one in the order of their ids; the first ones after the last."""
        text = "SELECT job_id FROM jobs WHERE status = 1 AND job_id > ? ORDER BY job_id LIMIT ?"
        found = self._ids(text, job_id, limit)
        return found if len(found) == limit else [*found, *self._ids(text, b"", limit)][:limit]

    def _ids(self, text: str, *values: object) -> list[bytes]:
        return [bytes(row[0]) for row in self._db().execute(text, values)]

    def rested(self, before: int, after: tuple[int, bytes], limit: int) -> list[JobRow]:
        """Jobs that nobody has taken, without news since `before` (unix time), oldest change first;
        those that follow `after`, a time of change and an id.
        """
        rows = self._db().execute(
            "SELECT * FROM jobs WHERE status IN (0, 1) AND updated_at < ? "
            "AND (updated_at, job_id) > (?, ?) ORDER BY updated_at, job_id LIMIT ?",
            (before, *after, limit),
        )
        return [_job(row) for row in rows]

    def best_orders(self, requester: str, limit: int) -> list[JobRow]:
        """The open jobs of an account that pay most, the best first."""
        rows = self._db().execute(
            "SELECT * FROM jobs WHERE requester = ? AND status = 1 "
            "ORDER BY substr(terms, 225, 32) DESC LIMIT ?",
            (requester, limit),
        )
        return [_job(row) for row in rows]

    def has_open_jobs(self) -> bool:
        """Whether any job is on the market, as far as is known."""
        row = self._db().execute("SELECT 1 FROM jobs WHERE status = 1 LIMIT 1").fetchone()
        return row is not None

    def count_jobs(self) -> dict[int, int]:
        """How many jobs have each status, ended ones included."""
        totals = self.history.totals("jobs")
        counts = {int(state): n for state, n in totals.items() if int(state) in OVER}
        for row in self._db().execute("SELECT status, count(*) FROM jobs GROUP BY status"):
            counts[int(row[0])] = counts.get(int(row[0]), 0) + int(row[1])
        return counts

    def update_job(self, job_id: bytes, **columns: Unpack[JobUpdate]) -> None:
        """Set columns of a job; unknown jobs are left alone."""
        values: dict[str, Any] = dict(columns)
        for name in _WIDE:
            if values.get(name) is not None:
                values[name] = str(values[name])
        self._update("jobs", "job_id", job_id, values)

    def drop_job(self, job_id: bytes) -> None:
        """Forget a job, for instance one whose posting was reorganised away."""
        with self.transaction() as db:
            db.execute("DELETE FROM jobs WHERE job_id = ?", (job_id,))


def _job(row: sqlite3.Row) -> JobRow:
    columns = dict(row)
    for name in _WIDE:
        if columns[name] is not None:
            columns[name] = int(columns[name])
    return JobRow(**columns)
