# SPDX-License-Identifier: Apache-2.0
"""What is kept of leases. Most of it stands on the chain, too: a lost file is read again."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from eth_abi.abi import decode, encode

from provider_agent.store import Repository
from teraproof.protocol.errors import Code, known
from teraproof.protocol.lease_terms import (
    LeaseMarks,
    LeaseState,
    LeaseStatus,
    LeaseTerms,
    lease_marks_of,
    lease_state_of,
)
from teraproof.protocol.lease_wire import LeaseOutcome
from teraproof.protocol.messages import LeaseQuote

LIVE = (LeaseStatus.ASSIGNED, LeaseStatus.ACTIVE)


@dataclass(frozen=True, slots=True)
class LeaseRow:
    """A lease of ours, or an open order. `word` and `marks` are the chain's; `devices` are UUIDs
    and `images` names with digests, by service. `was_up` is whether all of it has run once.
    """

    lease_id: bytes
    terms: LeaseTerms
    status: LeaseStatus
    is_ours: bool
    word: int
    marks_word: int
    outcome: LeaseOutcome | None
    code: Code | None
    note: str
    images: Mapping[str, str]
    devices: Mapping[str, tuple[str, ...]]
    was_up: bool
    suspends: int
    seconds: int
    ended_at: int | None

    @property
    def name(self) -> str:
        """What the runner calls it, and intents."""
        return self.lease_id.hex()

    @property
    def requester(self) -> str:
        """Who pays."""
        return self.terms.requester

    @property
    def spec(self) -> bytes:
        """The digest of its specification."""
        return self.terms.order.spec

    @property
    def state(self) -> LeaseState:
        """What its word says."""
        return lease_state_of(self.word)

    @property
    def marks(self) -> LeaseMarks:
        """What its second word says."""
        return lease_marks_of(self.marks_word)

    @property
    def rate(self) -> int:
        """Units of the payment token per second."""
        return self.terms.rate_after(self.state.elapsed)

    @property
    def ready_until(self) -> int:
        """The last second in which it can be ready."""
        return self.state.since + self.terms.order.ready_within

    @property
    def ends_at(self) -> int:
        """The last second of one that is active."""
        end = self.state.since + self.terms.order.term
        leaves_at = self.marks.leaves_at
        return min(end, leaves_at) if leaves_at else end

    def in_grace(self, now: int) -> bool:
        """Whether the tenant can still reject it, and no rent is due."""
        over = now > self.state.since + self.terms.grace
        return self.status is LeaseStatus.ACTIVE and not self.state.confirmed and not over


@dataclass(frozen=True, slots=True)
class QuoteRow:
    """A quote that was signed. `asked` is what was asked for, so that it is signed once; `state` is
    live, used (by whom the chain shows), over, or known: used, and its lease was seen.
    """

    quote: LeaseQuote
    asked: str
    signature: bytes
    images: Mapping[str, str]
    devices: Mapping[str, tuple[str, ...]]
    state: str
    created_at: int

    @property
    def digest(self) -> bytes:
        """The nonce of the order that a hire makes."""
        return self.quote.struct_hash()


class LeasesRepository(Repository):
    """Leases, quotes and specifications."""

    # ------------------------------------------------------------------ leases

    def add(self, terms: LeaseTerms) -> None:
        """Keep an order; a second time changes nothing."""
        with self.transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO leases (lease_id, terms, requester, spec, status, "
                "created_at) VALUES (?, ?, ?, ?, ?, ?)",
                (
                    terms.lease_id(),
                    encode([LeaseTerms.ABI], [terms.abi_tuple()]),
                    terms.requester,
                    terms.order.spec,
                    LeaseStatus.OPEN,
                    self._now(),
                ),
            )

    def update(self, lease: bytes, **columns: Any) -> None:
        """Change columns of a lease. `images` and `devices` are mappings, words are numbers."""
        for name in ("images", "devices"):
            if name in columns:
                columns[name] = json.dumps({key: _plain(v) for key, v in columns[name].items()})
        for name in ("word", "marks", "seconds"):
            if name in columns:
                columns[name] = str(columns[name])
        with self.transaction():
            self._update("leases", "lease_id", lease, columns)

    def note(self, row: LeaseRow, note: str, code: Code | None = None) -> None:
        """Say how a lease stands; only news is written."""
        if (note, code) != (row.note, row.code):
            self.update(row.lease_id, note=note[:2_000], code=None if code is None else code.value)

    def end(self, row: LeaseRow, outcome: LeaseOutcome, note: str) -> None:
        """A lease has ended."""
        self.update(
            row.lease_id,
            status=LeaseStatus.NONE,
            outcome=outcome.value,
            note=note,
            code=None,
            ended_at=self._now(),
        )

    def lease(self, lease: bytes) -> LeaseRow | None:
        """A lease, also one that has ended lately."""
        row = self._db().execute("SELECT * FROM leases WHERE lease_id = ?", (lease,)).fetchone()
        return None if row is None else _lease(row)

    def ours(self, *statuses: LeaseStatus) -> list[LeaseRow]:
        """Our leases with one of these statuses, or those that have not ended."""
        marks = ", ".join("?" * len(statuses or LIVE))
        query = (
            f"SELECT * FROM leases INDEXED BY leases_of_ours WHERE is_ours = 1 "  # noqa: S608 - marks only
            f"AND status IN ({marks}) ORDER BY created_at, lease_id"
        )
        return [_lease(row) for row in self._db().execute(query, statuses or LIVE)]

    def takeable(self, limit: int) -> list[LeaseRow]:
        """Some open orders whose specifications are here, drawn by lot: each has its turn."""
        rows = self._db().execute(
            "SELECT leases.* FROM lease_specs JOIN leases INDEXED BY open_leases "
            "ON leases.spec = lease_specs.digest WHERE leases.status = 1 "
            "ORDER BY random() LIMIT ?",
            (limit,),
        )
        return [_lease(row) for row in rows]

    def names_spec(self, digest: bytes, account: str) -> list[LeaseRow]:
        """Orders and leases of an account that name a specification, ended ones too."""
        rows = self._db().execute(
            "SELECT * FROM leases INDEXED BY leases_by_spec WHERE spec = ? AND requester = ?",
            (digest, account),
        )
        return [_lease(row) for row in rows]

    def drop(self, lease: bytes) -> None:
        """Forget an order that is not ours."""
        with self.transaction() as db:
            db.execute("DELETE FROM leases WHERE lease_id = ? AND is_ours = 0", (lease,))

    def drop_open(self, before: int) -> None:
        """Forget open orders that were seen before a time: they can be taken no more."""
        with self.transaction() as db:
            db.execute(
                "DELETE FROM leases WHERE status = 1 AND is_ours = 0 AND created_at < ?", (before,)
            )

    def forget_ended(self, before: int) -> None:
        """Forget what ended before a time, and specifications that nothing names any more."""
        with self.transaction() as db:
            db.execute("DELETE FROM leases WHERE ended_at < ?", (before,))
            db.execute(
                "DELETE FROM lease_specs WHERE created_at < ? AND digest NOT IN "
                "(SELECT spec FROM leases) AND digest NOT IN (SELECT spec FROM lease_quotes)",
                (before,),
            )
            db.execute("DELETE FROM lease_quotes WHERE expires < ?", (before,))

    def shown(self, limit: int) -> list[LeaseRow]:
        """For people: ours, the newest first."""
        rows = self._db().execute(
            "SELECT * FROM leases WHERE is_ours = 1 ORDER BY ended_at IS NOT NULL, "
            "created_at DESC LIMIT ?",
            (limit,),
        )
        return [_lease(row) for row in rows]

    # ------------------------------------------------------------------ quotes

    def put_quote(self, row: QuoteRow) -> None:
        """Keep a signed quote; sqlite3.IntegrityError when its nonce was used before."""
        said = row.quote
        with self.transaction() as db:
            db.execute(
                "INSERT INTO lease_quotes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    row.digest,
                    str(said.nonce),
                    said.requester,
                    said.spec,
                    str(said.rate),
                    str(said.collateral),
                    said.ready_within,
                    said.term,
                    said.notice,
                    said.expires,
                    row.asked,
                    row.signature,
                    json.dumps(dict(row.images)),
                    json.dumps({name: list(each) for name, each in row.devices.items()}),
                    row.state,
                    row.created_at,
                ),
            )

    def quote(self, digest: bytes, operator: str) -> QuoteRow | None:
        """The quote with this struct hash."""
        query = "SELECT * FROM lease_quotes WHERE digest = ?"
        row = self._db().execute(query, (digest,)).fetchone()
        return None if row is None else _quote(row, operator)

    def quotes(self, operator: str, state: str) -> list[QuoteRow]:
        """The quotes in a state, the first to expire first."""
        query = (
            "SELECT * FROM lease_quotes INDEXED BY quotes_by_state WHERE state = ? "
            "ORDER BY expires, digest"
        )
        return [_quote(row, operator) for row in self._db().execute(query, (state,))]

    def set_quotes(self, digests: Collection[bytes], state: str) -> None:
        """Say what has become of quotes."""
        if digests:
            with self.transaction() as db:
                db.executemany(
                    "UPDATE lease_quotes SET state = ? WHERE digest = ?",
                    [(state, one) for one in digests],
                )

    # ------------------------------------------------------------------ specifications

    def put_spec(self, digest: bytes, body: bytes, account: str) -> None:
        """Keep a specification; a second time changes nothing."""
        with self.transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO lease_specs VALUES (?, ?, ?, ?, ?)",
                (digest, body, account, len(body), self._now()),
            )

    def spec(self, digest: bytes) -> bytes | None:
        """The bytes of a specification, or None."""
        query = "SELECT body FROM lease_specs WHERE digest = ?"
        row = self._db().execute(query, (digest,)).fetchone()
        return None if row is None else bytes(row[0])

    def spec_usage(self, account: str | None = None) -> tuple[int, int]:
        """Specifications of one account or of all: how many, how many bytes."""
        query = "SELECT count(*), coalesce(sum(size), 0) FROM lease_specs"
        if account is None:
            row = self._db().execute(query).fetchone()
        else:
            row = self._db().execute(f"{query} WHERE account = ?", (account,)).fetchone()
        return int(row[0]), int(row[1])


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


@lru_cache(maxsize=2_048)
def _terms(data: bytes) -> LeaseTerms:
    return LeaseTerms.from_abi(decode([LeaseTerms.ABI], data)[0])


def _devices(text: str) -> dict[str, tuple[str, ...]]:
    return {name: tuple(each) for name, each in json.loads(text).items()}


def _lease(row: sqlite3.Row) -> LeaseRow:
    return LeaseRow(
        lease_id=row["lease_id"],
        terms=_terms(row["terms"]),
        status=LeaseStatus(row["status"]),
        is_ours=bool(row["is_ours"]),
        word=int(row["word"]),
        marks_word=int(row["marks"]),
        outcome=None if row["outcome"] is None else LeaseOutcome(row["outcome"]),
        code=None if row["code"] is None else known(row["code"]),
        note=row["note"],
        images=json.loads(row["images"]),
        devices=_devices(row["devices"]),
        was_up=bool(row["was_up"]),
        suspends=row["suspends"],
        seconds=int(row["seconds"]),
        ended_at=row["ended_at"],
    )


def _quote(row: sqlite3.Row, operator: str) -> QuoteRow:
    quote = LeaseQuote(
        operator=operator,
        requester=row["requester"],
        spec=row["spec"],
        rate=int(row["rate"]),
        collateral=int(row["collateral"]),
        ready_within=row["ready_within"],
        term=row["term"],
        notice=row["notice"],
        expires=row["expires"],
        nonce=int(row["nonce"]),
    )
    return QuoteRow(
        quote=quote,
        asked=row["asked"],
        signature=row["signature"],
        images=json.loads(row["images"]),
        devices=_devices(row["devices"]),
        state=row["state"],
        created_at=row["created_at"],
    )
