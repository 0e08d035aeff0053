# SPDX-License-Identifier: Apache-2.0
"""What is kept of judged orders. All of it stands on the chain, too: a lost file is read again."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import TypedDict, Unpack

from eth_abi.abi import decode, encode

from provider_agent.store import Repository
from teraproof.contracts.disputes import CASE_TYPE
from teraproof.protocol.dispute import Case
from teraproof.protocol.terms import Record, Terms


@dataclass(frozen=True, slots=True)
class Order:
    """A judged order, as far as the chain has told it."""

    job: bytes
    terms: Terms | None
    record: Record | None
    case: Case | None
    note: str
    evidence: bytes = b""
    """The sha256 of what the requester says, 32 bytes, zero for nothing; empty before its event."""


class OrderParts(TypedDict, total=False):
    """What the chain says of an order, in parts."""

    terms: Terms
    record: Record
    case: Case
    evidence: bytes


class DisputesRepository(Repository):
    """Judged orders by their jobs."""

    def put(self, job: bytes, **given: Unpack[OrderParts]) -> None:
        """Keep what the chain says of an order."""
        terms, record, case = given.get("terms"), given.get("record"), given.get("case")
        parts = {
            "terms": None if terms is None else encode([Terms.ABI], [terms.abi_tuple()]),
            "record": None if record is None else encode([Record.ABI], [record.abi_tuple()]),
            "dispute": None if case is None else encode([CASE_TYPE], [case.abi_tuple()]),
            "evidence": given.get("evidence"),
        }
        with self.transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO judged_orders (job_id, updated_at) VALUES (?, ?)",
                (job, self._now()),
            )
            for name, value in parts.items():
                if value is not None:
                    self._update("judged_orders", "job_id", job, {name: value, "is_over": 0})

    def end(self, job: bytes, is_over: bool = True) -> None:
        """Say whether an order has ended; unknown ones are left alone."""
        with self.transaction():
            self._update("judged_orders", "job_id", job, {"is_over": int(is_over)})

    def note(self, job: bytes, note: str) -> None:
        """Say where a dispute stands, for `status`."""
        with self.transaction():
            self._update("judged_orders", "job_id", job, {"note": note})

    def order(self, job: bytes) -> Order | None:
        """An order, also when it has ended."""
        row = self._db().execute("SELECT * FROM judged_orders WHERE job_id = ?", (job,)).fetchone()
        return None if row is None else _order(row)

    def disputed(self) -> list[Order]:
        """The orders whose disputes are open."""
        rows = self._db().execute(
            "SELECT * FROM judged_orders INDEXED BY open_disputes "
            "WHERE is_over = 0 AND dispute <> x'' ORDER BY job_id"
        )
        return [_order(row) for row in rows]

    def open_dispute(self, job: bytes) -> Order | None:
        """An order, if it has a dispute that is open."""
        row = (
            self._db()
            .execute(
                "SELECT * FROM judged_orders WHERE job_id = ? AND is_over = 0 AND dispute <> x''",
                (job,),
            )
            .fetchone()
        )
        return None if row is None else _order(row)

    def put_endpoint(self, owner: str, url: str) -> None:
        """Keep where a provider's agent is, as an event says."""
        with self.transaction() as db:
            db.execute("INSERT OR REPLACE INTO endpoints VALUES (?, ?)", (owner, url))

    def endpoint(self, owner: str) -> str | None:
        """Where a provider's agent is, as far as events have said it."""
        row = self._db().execute("SELECT url FROM endpoints WHERE owner = ?", (owner,)).fetchone()
        return None if row is None else str(row[0])

    def forget_ended(self, seconds: int) -> None:
        """Delete orders that ended so long ago."""
        with self.transaction() as db:
            db.execute(
                "DELETE FROM judged_orders WHERE is_over = 1 AND updated_at < ?",
                (self._now() - seconds,),
            )


def _order(row: sqlite3.Row) -> Order:
    return Order(
        job=row["job_id"],
        terms=_terms(row["terms"]) if row["terms"] else None,
        record=_record(row["record"]) if row["record"] else None,
        case=_case(row["dispute"]) if row["dispute"] else None,
        note=row["note"],
        evidence=row["evidence"],
    )


def _terms(data: bytes) -> Terms:
    return Terms.from_abi(decode([Terms.ABI], data)[0])


def _record(data: bytes) -> Record:
    return Record.from_abi(decode([Record.ABI], data)[0])


def _case(data: bytes) -> Case:
    return Case.from_abi(decode([CASE_TYPE], data)[0])
