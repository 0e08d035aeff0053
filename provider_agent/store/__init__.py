# SPDX-License-Identifier: Apache-2.0
"""The agent's memory: one SQLite file in its data directory.

What must survive a power cut is here: intents and the transactions signed for them, the event
cursor, sessions. A module keeps its tables in the same file, by a `Repository` of its own: runs,
jobs, quotes, proofs. What has ended moves to a second file, the history. Without the database
running jobs are found again: see `modules/jobs/adoption.py`.

Rules that the rest of the agent relies on:

- Every method is one transaction by itself, or part of the caller's `with store.transaction():`.
- An intent changes its state in `set_intent_state` only, along the edges drawn in `rows`. It is
  durable on return (WAL, synchronous=FULL) unless the caller has a transaction open.
- A thread has its own connection. Rows come back as frozen dataclasses.

Times are unix seconds, addresses are text as the caller wrote them, digests and ids are bytes,
and everything that strangers choose (amounts, times of jobs and quotes, deadlines) is text in the
file because SQLite's integers have 63 bits: any uint256 fits, and no event can break a write.
"""

from provider_agent.store.core import Store
from provider_agent.store.database import inspect
from provider_agent.store.errors import StoreError
from provider_agent.store.migration import APPLICATION_ID
from provider_agent.store.repository import Repository
from provider_agent.store.rows import (
    Intent,
    IntentKey,
    IntentState,
    Mark,
    Mined,
    SeenLog,
    Transaction,
)

__all__ = [
    "APPLICATION_ID",
    "Intent",
    "IntentKey",
    "IntentState",
    "Mark",
    "Mined",
    "Repository",
    "SeenLog",
    "Store",
    "StoreError",
    "Transaction",
    "inspect",
]
