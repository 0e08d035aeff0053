# SPDX-License-Identifier: Apache-2.0
"""Runs of jobs."""

from __future__ import annotations

import sqlite3
from typing import Unpack

from provider_agent.modules.jobs.repository import ended
from provider_agent.modules.jobs.repository.rows import RUN_EDGES, RunRow, RunStage, RunUpdate
from provider_agent.store.repository import Repository
from teraproof.errors import LocalError


class Runs(Repository):
    """Runs of jobs."""

    def add_run(self, run_id: str, job_id: bytes) -> RunRow:
        """The run with this id, made now if it is new."""
        with self.transaction() as db:
            now = self._now()
            db.execute(
                "INSERT OR IGNORE INTO runs (run_id, job_id, state, created_at, updated_at) "
                "VALUES (?, ?, ?, ?, ?)",
                (run_id, job_id, RunStage.PLANNED, now, now),
            )
            run = self.run(run_id)
            assert run is not None  # inserted above, in the same transaction
            return run

    def run(self, run_id: str) -> RunRow | None:
        """The run with this id."""
        row = self._db().execute("SELECT * FROM runs WHERE run_id = ?", (run_id,)).fetchone()
        return None if row is None else _run(row)

    def runs_of(self, job_id: bytes) -> list[RunRow]:
        """The runs of a job, oldest first, also when it has ended."""
        rows = (
            self._db()
            .execute("SELECT * FROM runs WHERE job_id = ? ORDER BY created_at, run_id", (job_id,))
            .fetchall()
        )
        return [_run(row) for row in rows or ended.runs_of(self.history, job_id)]

    def runs_in(self, *states: RunStage) -> list[RunRow]:
        """Runs in any of the states, oldest first."""
        marks = ", ".join("?" * len(states))
        rows = self._db().execute(
            f"SELECT * FROM runs WHERE state IN ({marks}) "  # noqa: S608 - question marks only
            "ORDER BY created_at, run_id",
            states,
        )
        return [_run(row) for row in rows]

    def count_runs(self) -> dict[RunStage, int]:
        """How many runs are in each state, those of ended jobs included."""
        counts = {RunStage(state): n for state, n in self.history.totals("runs").items()}
        for row in self._db().execute("SELECT state, count(*) FROM runs GROUP BY state"):
            counts[RunStage(row[0])] = counts.get(RunStage(row[0]), 0) + int(row[1])
        return counts

    def set_run_state(self, run_id: str, state: RunStage, **columns: Unpack[RunUpdate]) -> RunRow:
        """The one place where a run changes its state; LocalError for an edge that is not drawn."""
        with self.transaction():
            run = self.run(run_id)
            if run is None:
                raise LocalError(f"there is no run {run_id}")
            if state not in RUN_EDGES[run.state]:
                raise LocalError(f"run {run_id} cannot go from {run.state} to {state}")
            self._update("runs", "run_id", run_id, {"state": state, **columns})
            changed = self.run(run_id)
            assert changed is not None  # it was there above, in the same transaction
            return changed


def _run(row: sqlite3.Row) -> RunRow:
    columns = dict(row)
    columns["state"] = RunStage(columns["state"])
    return RunRow(**columns)
