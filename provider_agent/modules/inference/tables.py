# SPDX-License-Identifier: Apache-2.0
"""The tables of paid inference, and what their rows must say at each start."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from provider_agent.modules.inference.rows import Asked
from provider_agent.store.errors import damaged
from provider_agent.store.integrity import check_meta, check_numbers, check_states
from provider_agent.store.tables import Tables


def check_rows(db: sqlite3.Connection, path: Path) -> None:
    """Raises StoreError, sqlite3.Error."""
    check_numbers(
        db, path, "paid_channels",
        "balance", "total_claimed", "refund_nonce", "voucher", "charged", "reserved",
        "opened_charged",
    )  # fmt: skip
    check_numbers(db, path, "channel_deposits", "amount", "valid_after", "valid_before")
    check_numbers(db, path, "channel_refunds", "amount")
    check_numbers(db, path, "channel_claims", "total")
    check_meta(db, path, "inference.last_claim")
    for table in ("channel_deposits", "channel_refunds"):
        check_states(db, path, table, Asked)
    for row in db.execute("SELECT charged, voucher FROM paid_channels"):
        if int(row["charged"]) > int(row["voucher"]):
            raise damaged(path, "a channel was charged more than its voucher says")


TABLES = Tables("inference", Path(__file__).parent / "migrations", check_rows)
