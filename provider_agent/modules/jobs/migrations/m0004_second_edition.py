# SPDX-License-Identifier: Apache-2.0
"""Rows of the first edition of the contracts, and specifications as files.

The first edition's terms have no `paused` and no `judged`, and its state words are others: what it
left unfinished only an older agent can finish. What has ended is kept, in today's layout.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from provider_agent.modules.jobs.repository import spec_files
from provider_agent.store.errors import StoreError
from teraproof.protocol.errors import Code

_FIRST = 14 * 32  # bytes of the first edition's terms
_TAKEN = "(2, 3)"  # assigned, attested
_ZERO = bytes(32)


def up(db: sqlite3.Connection, folder: Path) -> None:
    """Change the tables; StoreError where that would lose a job."""
    unfinished = db.execute(
        f"SELECT count(*) FROM jobs WHERE length(terms) = ? AND status IN {_TAKEN} AND ("  # noqa: S608 - our own words
        " EXISTS (SELECT 1 FROM runs WHERE runs.job_id = jobs.job_id)"
        " OR EXISTS (SELECT 1 FROM intents WHERE object_id = lower(hex(jobs.job_id)))"
        " OR EXISTS (SELECT 1 FROM quotes WHERE quotes.spec = jobs.spec"
        "            AND quotes.requester = jobs.requester))",
        (_FIRST,),
    ).fetchone()[0]
    if unfinished:
        raise StoreError(
            Code.DATABASE_UNFINISHED,
            f"{folder} holds {unfinished} unfinished job(s) of an earlier edition of the "
            "contracts; finish them with the older version, then start this one",
        )
    db.execute(
        "DELETE FROM jobs WHERE length(terms) = ?"
        " AND NOT EXISTS (SELECT 1 FROM intents WHERE object_id = lower(hex(jobs.job_id)))"
        " AND NOT EXISTS (SELECT 1 FROM runs WHERE runs.job_id = jobs.job_id)",
        (_FIRST,),
    )
    old = db.execute("SELECT job_id, terms FROM jobs WHERE length(terms) = ?", (_FIRST,)).fetchall()
    for job_id, terms in old:
        today = terms[:128] + _ZERO + terms[128:] + _ZERO
        db.execute("UPDATE jobs SET terms = ? WHERE job_id = ?", (today, job_id))
    for digest, body in db.execute("SELECT digest, body FROM specs"):
        spec_files.write(folder, bytes(digest), bytes(body))
