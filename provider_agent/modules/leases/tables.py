# SPDX-License-Identifier: Apache-2.0
"""The tables of leases, and what their rows must say at each start."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from eth_utils.crypto import keccak

from provider_agent.store.errors import damaged
from provider_agent.store.integrity import check_meta, check_numbers
from provider_agent.store.tables import Tables


def check_rows(db: sqlite3.Connection, path: Path) -> None:
    """Raises StoreError, sqlite3.Error."""
    check_numbers(db, path, "leases", "word", "marks", "seconds")
    check_numbers(db, path, "lease_quotes", "nonce", "rate", "collateral")
    check_meta(db, path, "leases.last_nonce")
    for lease_id, terms in db.execute("SELECT lease_id, terms FROM leases WHERE is_ours = 1"):
        if keccak(terms) != lease_id:
            raise damaged(path, "the terms of a lease do not have its id")


TABLES = Tables("leases", Path(__file__).parent / "migrations", check_rows)
