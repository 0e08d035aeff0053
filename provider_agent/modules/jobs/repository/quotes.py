# SPDX-License-Identifier: Apache-2.0
"""Prices that this agent has signed."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

from provider_agent.modules.jobs.repository.rows import QuoteRow
from provider_agent.store.repository import Repository


class Quotes(Repository):
    """Prices that this agent has signed."""

    def put_quote(self, quote: QuoteRow) -> None:
        """Keep a signed quote; sqlite3.IntegrityError when its nonce was used before."""
        with self.transaction() as db:
            db.execute(
                "INSERT INTO quotes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    quote.digest,
                    str(quote.nonce),
                    quote.spec,
                    quote.requester,
                    str(quote.price),
                    str(quote.collateral),
                    str(quote.duration),
                    quote.expires,
                    quote.signature,
                    quote.created_at,
                    str(quote.judged),
                ),
            )

    def quote(self, digest: bytes) -> QuoteRow | None:
        """The quote with this struct hash (the nonce of a hired job's order)."""
        row = self._db().execute("SELECT * FROM quotes WHERE digest = ?", (digest,)).fetchone()
        return None if row is None else _quote(row)

    def live_quotes(self, now: int) -> list[QuoteRow]:
        """Quotes that a tenant could still use, the first to expire first."""
        rows = self._db().execute(
            "SELECT * FROM quotes WHERE expires >= ? ORDER BY expires, digest", (now,)
        )
        return [_quote(row) for row in rows]

    def drop_quotes(self, digests: Collection[bytes]) -> None:
        """Delete quotes by which nobody can hire any more."""
        if digests:
            with self.transaction() as db:
                db.executemany("DELETE FROM quotes WHERE digest = ?", [(one,) for one in digests])


def _quote(row: sqlite3.Row) -> QuoteRow:
    columns = dict(row)
    for name in ("nonce", "price", "collateral", "duration", "judged"):
        columns[name] = int(columns[name])
    return QuoteRow(**columns)
