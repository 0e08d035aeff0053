# SPDX-License-Identifier: Apache-2.0
"""Specifications, and the record of inputs on the disk."""

from __future__ import annotations

from provider_agent.store.database import Database
from provider_agent.store.rows import StoredFile


class Files(Database):
    """Specifications, and the record of inputs on the disk."""

    def put_spec(self, digest: bytes, body: bytes, uploader: str) -> None:
        """Keep a job specification under the sha256 of its bytes."""
        with self.transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO specs VALUES (?, ?, ?, ?, ?)",
                (digest, len(body), uploader, self._now(), body),
            )

    def spec(self, digest: bytes) -> bytes | None:
        """The bytes of a specification."""
        row = self._db().execute("SELECT body FROM specs WHERE digest = ?", (digest,)).fetchone()
        return None if row is None else bytes(row[0])

    def spec_usage(self, uploader: str | None = None) -> tuple[int, int]:
        """How many specifications that no job names one account (or all) has here, and how many
        bytes they take.
        """
        where, values = ("uploader = ? AND", (uploader,)) if uploader else ("", ())
        row = (
            self._db()
            .execute(
                "SELECT count(*), coalesce(sum(size), 0) "  # noqa: S608 - our own words
                f"FROM specs WHERE {where} digest NOT IN (SELECT spec FROM jobs)",
                values,
            )
            .fetchone()
        )
        return int(row[0]), int(row[1])

    def spec_bytes(self) -> int:
        """How many bytes all specifications take."""
        row = self._db().execute("SELECT coalesce(sum(size), 0) FROM specs").fetchone()
        return int(row[0])

    def is_named(self, digest: bytes) -> bool:
        """Whether a job on record names a specification."""
        row = self._db().execute("SELECT 1 FROM jobs WHERE spec = ? LIMIT 1", (digest,)).fetchone()
        return row is not None

    def prune_specs(self, keep: set[bytes], older_than: int) -> int:
        """Drop specifications stored before `older_than` (unix time) whose digest is not in
        `keep`; how many were dropped.
        """
        with self.transaction() as db:
            rows = db.execute("SELECT digest FROM specs WHERE stored_at < ?", (older_than,))
            gone = [row[0] for row in rows if bytes(row[0]) not in keep]
            db.executemany("DELETE FROM specs WHERE digest = ?", [(digest,) for digest in gone])
        return len(gone)

    def put_input(self, digest: bytes, size: int, uploader: str) -> None:
        """Record that an input lies complete and verified on the disk."""
        with self.transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO inputs VALUES (?, ?, ?, ?)",
                (digest, size, uploader, self._now()),
            )

    def input(self, digest: bytes) -> StoredFile | None:
        """The record of an input."""
        row = self._db().execute("SELECT * FROM inputs WHERE digest = ?", (digest,)).fetchone()
        return None if row is None else StoredFile(*row)

    def inputs(self) -> list[StoredFile]:
        """All inputs on record, oldest first."""
        rows = self._db().execute("SELECT * FROM inputs ORDER BY stored_at, digest")
        return [StoredFile(*row) for row in rows]

    def drop_input(self, digest: bytes) -> None:
        """Forget an input."""
        with self.transaction() as db:
            db.execute("DELETE FROM inputs WHERE digest = ?", (digest,))

    def uploaded(self, uploader: str) -> tuple[int, int]:
        """How many inputs an account has here, and how many bytes."""
        row = (
            self._db()
            .execute(
                "SELECT count(*), coalesce(sum(size), 0) FROM inputs WHERE uploader = ?",
                (uploader,),
            )
            .fetchone()
        )
        return int(row[0]), int(row[1])
