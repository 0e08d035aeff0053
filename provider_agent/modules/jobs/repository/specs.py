# SPDX-License-Identifier: Apache-2.0
"""Specifications: their bytes are files, what is known of them is here."""

from __future__ import annotations

from provider_agent.modules.jobs.repository import spec_files
from provider_agent.modules.jobs.repository.rows import OVER, VerdictRow
from provider_agent.store.errors import explain
from provider_agent.store.repository import Repository

_NOBODY = ""  # uploaded a specification that was found on the disk


class Specs(Repository):
    """Specifications: their bytes are files, what is known of them is here."""

    def put_spec(self, digest: bytes, body: bytes, uploader: str) -> None:
        """Keep a job specification under the sha256 of its bytes. Raises StoreError."""
        try:
            spec_files.write(self.path.parent, digest, body)
        except OSError as error:
            raise explain(spec_files.path_of(self.path.parent, digest), error) from error
        with self.transaction():
            self._add_spec(digest, len(body), uploader, self._now())

    def _add_spec(self, digest: bytes, size: int, uploader: str, stored_at: int) -> int:
        added = self._db().execute(
            "INSERT OR IGNORE INTO specs VALUES (?, ?, ?, ?, "
            "EXISTS (SELECT 1 FROM jobs WHERE spec = ?))",
            (digest, size, uploader, stored_at, digest),
        )
        return added.rowcount

    def spec(self, digest: bytes) -> bytes | None:
        """The bytes of a specification."""
        return spec_files.read(self.path.parent, digest)

    def adopt_specs(self) -> int:
        """Take in specifications on the disk that the database does not know; how many."""
        with self.transaction():
            return sum(
                self._add_spec(digest, found.st_size, _NOBODY, int(found.st_mtime))
                for digest, found in spec_files.found(self.path.parent)
            )

    def spec_usage(self, uploader: str | None = None) -> tuple[int, int]:
        """How many specifications that no job has named one account (or all) has here, and how
        many bytes they take.
        """
        where, values = (" AND uploader = ?", (uploader,)) if uploader else ("", ())
        row = (
            self._db()
            .execute(
                "SELECT count(*), coalesce(sum(size), 0) "  # noqa: S608 - our own words
                f"FROM specs WHERE named = 0{where}",
                values,
            )
            .fetchone()
        )
        return int(row[0]), int(row[1])

    def spec_bytes(self) -> int:
        """How many bytes all specifications take."""
        return int(self._db().execute("SELECT bytes FROM spec_totals").fetchone()[0])

    def is_named(self, digest: bytes) -> bool:
        """Whether a job on record names a specification."""
        row = self._db().execute("SELECT 1 FROM jobs WHERE spec = ? LIMIT 1", (digest,)).fetchone()
        return row is not None

    def verdict(self, digest: bytes) -> VerdictRow | None:
        """What was found about a specification."""
        row = self._db().execute("SELECT * FROM verdicts WHERE digest = ?", (digest,)).fetchone()
        return None if row is None else VerdictRow(**{**dict(row), "least": int(row["least"])})

    def put_verdict(
        self, digest: bytes, rules: bytes, least: int, code: str, line: str, details: str
    ) -> None:
        """Keep what was found about a specification that is here."""
        with self.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO verdicts SELECT ?, ?, ?, ?, ?, ? "
                "WHERE EXISTS (SELECT 1 FROM specs WHERE digest = ?)",
                (digest, rules, str(least), code, line, details, digest),
            )

    def prune_specs(self, keep: set[bytes], older_than: int) -> int:
        """Drop specifications stored before `older_than` (unix time) that no job under way names
        and whose digest is not in `keep`; how many were dropped.
        """
        marks = ", ".join("?" * len(OVER))
        with self.transaction() as db:
            query = (
                "SELECT digest FROM specs WHERE stored_at < ? AND NOT EXISTS "  # noqa: S608 - marks
                f"(SELECT 1 FROM jobs WHERE spec = specs.digest AND status NOT IN ({marks}))"
            )
            rows = db.execute(query, (older_than, *OVER))
            gone = [bytes(row[0]) for row in rows if bytes(row[0]) not in keep]
            db.executemany("DELETE FROM specs WHERE digest = ?", [(digest,) for digest in gone])
        for digest in gone:
            spec_files.drop(self.path.parent, digest)
        return len(gone)
