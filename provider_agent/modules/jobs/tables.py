# SPDX-License-Identifier: Apache-2.0
"""The tables of jobs, and what their rows must say at each start."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from eth_utils.crypto import keccak

from provider_agent.modules.jobs.repository import RunStage
from provider_agent.store.errors import damaged
from provider_agent.store.integrity import check_meta, check_numbers, check_states
from provider_agent.store.tables import Tables

_TAKEN = (2, 3)  # assigned, attested


def check_rows(db: sqlite3.Connection, path: Path) -> None:
    """Raises StoreError, sqlite3.Error."""
    check_states(db, path, "runs", RunStage)
    check_numbers(
        db, path, "jobs", "price", "assigned_at", "attested_at", "paused", "started", "finished"
    )
    check_numbers(db, path, "quotes", "nonce", "price", "collateral", "duration", "judged")
    check_meta(db, path, "quotes.last_nonce")
    # Those of others may be any number. A job of ours is known by an acceptance, a run or a quote,
    # and its terms are compared again before it is worked on.
    for job_id, terms in db.execute(
        "SELECT job_id, terms FROM jobs WHERE status IN (?, ?) AND ("
        "EXISTS (SELECT 1 FROM runs WHERE runs.job_id = jobs.job_id) "
        "OR EXISTS (SELECT 1 FROM intents WHERE object_id = lower(hex(jobs.job_id))) "
        "OR EXISTS (SELECT 1 FROM quotes WHERE quotes.spec = jobs.spec))",
        _TAKEN,
    ):
        if keccak(terms) != job_id:
            raise damaged(path, "the terms of a job do not have its id")


TABLES = Tables("jobs", Path(__file__).parent / "migrations", check_rows)
