# SPDX-License-Identifier: Apache-2.0
"""One-time nonces and sessions."""

from __future__ import annotations

from provider_agent.store.database import Database


class Logins(Database):
    """One-time nonces and sessions."""

    def create_nonce(self, value: str, expires: int) -> None:
        """Remember a log-in nonce until `expires`."""
        with self.transaction() as db:
            db.execute("DELETE FROM login_nonces WHERE expires < ?", (self._now(),))
            db.execute("INSERT INTO login_nonces VALUES (?, ?)", (value, expires))

    def consume_nonce(self, value: str, now: int) -> bool:
        """Use up a log-in nonce; False when it is unknown, used or expired."""
        with self.transaction() as db:
            row = db.execute(
                "DELETE FROM login_nonces WHERE value = ? RETURNING expires", (value,)
            ).fetchone()
            return row is not None and int(row[0]) >= now

    def create_session(self, token_hash: bytes, address: str, expires: int) -> None:
        """Remember a session; only the hash of its token is kept."""
        with self.transaction() as db:
            db.execute("DELETE FROM sessions WHERE expires < ?", (self._now(),))
            db.execute(
                "INSERT OR REPLACE INTO sessions VALUES (?, ?, ?)", (token_hash, address, expires)
            )

    def end_sessions(self, address: str) -> None:
        """End all sessions of an account."""
        with self.transaction() as db:
            db.execute("DELETE FROM sessions WHERE address = ? COLLATE NOCASE", (address,))

    def session(self, token_hash: bytes, now: int) -> str | None:
        """The address that a session belongs to, or None when it is unknown or expired."""
        row = (
            self._db()
            .execute(
                "SELECT address FROM sessions WHERE token_hash = ? AND expires >= ?",
                (token_hash, now),
            )
            .fetchone()
        )
        return None if row is None else str(row[0])
