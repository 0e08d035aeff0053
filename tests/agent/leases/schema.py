# SPDX-License-Identifier: Apache-2.0
"""Writes the tables of leases with rows in each, as the store on PYTHONPATH makes them.

    PYTHONPATH=. python -m tests.agent.leases.schema > tests/agent/leases/schemas/1.sql

A file of every schema that was ever shipped is kept: `test_lease_tables.py` reads the folder.
"""

from __future__ import annotations

import sqlite3
import tempfile
from pathlib import Path

from eth_account import Account

from provider_agent.app import DATABASE
from provider_agent.modules.all import open_store
from provider_agent.modules.leases.repository import LeasesRepository, QuoteRow
from provider_agent.store import Store
from teraproof.protocol import messages
from teraproof.protocol.errors import Code
from teraproof.protocol.lease_terms import LeaseOrder, LeaseStatus, LeaseTerms
from teraproof.protocol.lease_wire import LeaseOutcome

TENANT = Account.from_key(b"\x03" * 32).address
OPERATOR = Account.from_key(b"\x02" * 32).address
NOW = 1_795_000_000
WORD, MARKS = 2**255 + 3, 2**100
NAMES = ("open", "assigned", "active", "ended")
BODY = b'{"a":"specification"}'


def terms(name: str) -> LeaseTerms:
    """Terms of a lease; numbers that SQLite's integers do not hold."""
    order = LeaseOrder(
        b"\x06" * 32, 1, 2**79, 2**95, 2**87, 600, 86_400, 3_600, 60, 0, 0, bytes(32),
        NAMES.index(name) + 1,
    )  # fmt: skip
    return LeaseTerms(TENANT, NOW, 30, 100, 0, order)


def quote() -> messages.LeaseQuote:
    """A quote, under a consent."""
    return messages.LeaseQuote(
        OPERATOR, TENANT, b"\x06" * 32, 2**79, 2**87, 600, 86_400, 3_600, NOW + 60, 2**130 + 1
    )


def fill(store: Store) -> None:
    """A row of each kind."""
    leases = LeasesRepository(store)
    leases.put_spec(b"\x06" * 32, BODY, TENANT)
    for name in NAMES:
        leases.add(terms(name))
    for name, status in (("assigned", LeaseStatus.ASSIGNED), ("active", LeaseStatus.ACTIVE)):
        leases.update(
            terms(name).lease_id(),
            status=status,
            is_ours=1,
            word=WORD,
            marks=MARKS,
            images={"web": "a@sha256:" + "0" * 64},
            devices={"web": ("GPU-1", "GPU-2")},
            was_up=int(name == "active"),
            suspends=2,
            seconds=2**70,
        )
    row = leases.lease(terms("active").lease_id())
    assert row is not None
    leases.note(row, "down: web 0 exited", Code.LEASE_DOWN)
    leases.update(terms("ended").lease_id(), is_ours=1)
    row = leases.lease(terms("ended").lease_id())
    assert row is not None
    leases.end(row, LeaseOutcome.DRY, "the deposit was used up")
    leases.put_quote(
        QuoteRow(quote(), "{}", b"\x07" * 65, {"web": "b"}, {"web": ("GPU-3",)}, "live", NOW)
    )
    store.set_meta("leases.last_nonce", str(2**130 + 1))


def main() -> None:
    """Print the dump."""
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Path(folder) / DATABASE, clock=lambda: float(NOW))
        fill(store)
        store.close()
        db = sqlite3.connect(Path(folder) / DATABASE)
        for pragma in ("application_id", "user_version"):
            print(f"PRAGMA {pragma} = {db.execute(f'PRAGMA {pragma}').fetchone()[0]};")
        print("\n".join(db.iterdump()))
        db.close()


if __name__ == "__main__":
    main()
