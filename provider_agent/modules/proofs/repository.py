# SPDX-License-Identifier: Apache-2.0
"""Who has committed to a proof, by epoch."""

from __future__ import annotations

from provider_agent.store import Repository


class ProofsRepository(Repository):
    """Who has committed to a proof, by epoch."""

    def add_proof(self, epoch: int, provider: str) -> None:
        """Remember that a provider has committed to a proof in an epoch."""
        with self.transaction() as db:
            db.execute("INSERT OR IGNORE INTO proofs VALUES (?, ?)", (epoch, provider))

    def proofs_before(self, epoch: int) -> list[tuple[int, str]]:
        """Epoch and provider of the proofs of earlier epochs, oldest first."""
        rows = self._db().execute(
            "SELECT epoch, provider FROM proofs WHERE epoch < ? ORDER BY epoch, provider", (epoch,)
        )
        return [(int(row[0]), str(row[1])) for row in rows]

    def drop_proof(self, epoch: int, provider: str) -> None:
        """Forget a proof."""
        with self.transaction() as db:
            db.execute("DELETE FROM proofs WHERE epoch = ? AND provider = ?", (epoch, provider))
