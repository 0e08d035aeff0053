# SPDX-License-Identifier: Apache-2.0
"""The agent's memory: one SQLite file in its data directory.

What must survive a power cut is here: intents and the transactions signed for them, runs, the event
cursor, what is known about jobs and proofs, quotes, sessions. Specifications are files next to it,
and so are the rounds of a proof (`benchmark/folder.py`). What has ended moves to a second file, the
history. Without the database running jobs are found again: see `duties/adoption.py`.

Rules that the rest of the agent relies on:

- Every method is one transaction by itself, or part of the caller's `with store.transaction():`.
- An intent or a run changes its state in `set_intent_state` and `set_run_state` only, along the
  edges drawn in `rows`. Both are durable on return (WAL, synchronous=FULL) unless the caller has a
  transaction open.
- A thread has its own connection. Rows come back as frozen dataclasses.

Times are unix seconds, addresses are text as the caller wrote them, digests and ids are bytes,
and everything that strangers choose (amounts, times of jobs and quotes, deadlines) is text in the
file because SQLite's integers have 63 bits: any uint256 fits, and no event can break a write.
"""

from provider_agent.store.database import inspect
from provider_agent.store.ending import Ending
from provider_agent.store.errors import StoreError
from provider_agent.store.feeds import Feeds
from provider_agent.store.intents import Intents
from provider_agent.store.jobs import Jobs
from provider_agent.store.logins import Logins
from provider_agent.store.migration import APPLICATION_ID
from provider_agent.store.proofs import Proofs
from provider_agent.store.quotes import Quotes
from provider_agent.store.rows import (
    Intent,
    IntentKey,
    IntentState,
    JobRow,
    JobUpdate,
    Mark,
    Mined,
    QuoteRow,
    RunRow,
    RunStage,
    RunUpdate,
    SeenLog,
    Transaction,
)
from provider_agent.store.runs import Runs
from provider_agent.store.specs import Specs

__all__ = [
    "APPLICATION_ID",
    "Intent",
    "IntentKey",
    "IntentState",
    "JobRow",
    "JobUpdate",
    "Mark",
    "Mined",
    "QuoteRow",
    "RunRow",
    "RunStage",
    "RunUpdate",
    "SeenLog",
    "Store",
    "StoreError",
    "Transaction",
    "inspect",
]


class Store(Feeds, Intents, Jobs, Quotes, Specs, Runs, Proofs, Logins, Ending):
    """The database. Safe to use from several threads; made for one process."""
