# SPDX-License-Identifier: Apache-2.0
"""Intents and every transaction ever signed for them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from provider_agent.store.database import Database
from provider_agent.store.rows import (
    DONE,
    INTENT_EDGES,
    Intent,
    IntentKey,
    IntentState,
    Mined,
    Transaction,
)
from teraproof.errors import LocalError


class Intents(Database):
    """Intents and every transaction ever signed for them."""

    def add_intent(
        self,
        key: IntentKey,
        to: str,
        data: bytes,
        value: int = 0,
        deadline: int | None = None,
    ) -> Intent:
        """The intent with this key, made now if it is new.

        Raises LocalError when the key is taken by a different call: a key names one call.
        """
        with self.transaction() as db:
            known = self.intent(key)
            if known is None:
                now = self._now()
                db.execute(
                    "INSERT INTO intents (contract, object_id, action, target, data, value, state, "
                    "deadline, created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        *key,
                        to,
                        data,
                        str(value),
                        IntentState.PLANNED,
                        None if deadline is None else str(deadline),
                        now,
                        now,
                    ),
                )
                known = self.intent(key)
                assert known is not None  # inserted above, in the same transaction
            elif (known.to, known.data, known.value) != (to, data, value):
                raise LocalError(
                    f"intent {'/'.join(key)} exists with another call; a new try needs a new action"
                )
            return known

    def intent(self, key: IntentKey) -> Intent | None:
        """The intent with this key."""
        row = (
            self._db()
            .execute(
                "SELECT * FROM intents WHERE contract = ? AND object_id = ? AND action = ?", key
            )
            .fetchone()
        )
        if row is not None:
            return _intent(row)
        ended = (row for row in self.history.intents_of(key.object_id))
        return next(
            (
                _intent(row)
                for row in ended
                if (row["contract"], row["action"]) == (key.contract, key.action)
            ),
            None,
        )

    def intent_by_id(self, intent_id: int) -> Intent:
        """The intent with this row number; KeyError when there is none."""
        row = self._db().execute("SELECT * FROM intents WHERE id = ?", (intent_id,)).fetchone()
        if row is None:
            raise KeyError(intent_id)
        return _intent(row)

    def intents_of(self, object_id: str) -> list[Intent]:
        """All intents about an object (a job), oldest first, also when it has ended."""
        rows = (
            self._db()
            .execute("SELECT * FROM intents WHERE object_id = ? ORDER BY id", (object_id,))
            .fetchall()
        )
        return [_intent(row) for row in [*self.history.intents_of(object_id), *rows]]

    def intents_in(self, *states: IntentState) -> list[Intent]:
        """Intents in any of the states: by nonce, those without one last and oldest first."""
        marks = ", ".join("?" * len(states))
        rows = self._db().execute(
            f"SELECT * FROM intents WHERE state IN ({marks}) "  # noqa: S608 - question marks only
            "ORDER BY nonce IS NULL, nonce, id",
            states,
        )
        return [_intent(row) for row in rows]

    def intents_mined_since(self, block: int) -> list[Intent]:
        """Finished intents whose transaction is in this block or a later one, by nonce."""
        rows = self._db().execute(
            "SELECT * FROM intents INDEXED BY intents_by_block WHERE block_number >= ? "
            "AND state IN (?, ?, ?) ORDER BY nonce",
            (block, *DONE),
        )
        return [_intent(row) for row in rows]

    def mined_lately(self, number: int) -> list[Intent]:
        """The newest intents whose transactions are in the chain, oldest first."""
        rows = self._db().execute(
            "SELECT * FROM intents WHERE status IS NOT NULL ORDER BY id DESC LIMIT ?", (number,)
        )
        return [_intent(row) for row in reversed(rows.fetchall())]

    def count_intents(self) -> dict[IntentState, int]:
        """How many intents are in each state, ended ones included."""
        ended = self.history.totals("intents")
        counts = {state: ended.get(state.value, 0) for state in IntentState}
        for row in self._db().execute("SELECT state, count(*) FROM intents GROUP BY state"):
            counts[IntentState(row[0])] += int(row[1])
        return counts

    def next_nonce(self) -> int | None:
        """One more than the highest nonce ever given out, or None when none was."""
        row = self._db().execute("SELECT max(nonce) FROM intents").fetchone()
        return None if row[0] is None else int(row[0]) + 1

    def gave_out(self, nonce: int) -> bool:
        """Whether a nonce was ever given to a transaction of this database."""
        row = self._db().execute("SELECT 1 FROM intents WHERE nonce = ?", (nonce,)).fetchone()
        return row is not None

    def request_cancel(self, intent_id: int, reason: str) -> None:
        """Mark an intent as no longer wanted; the sender frees its nonce."""
        with self.transaction() as db:
            db.execute(
                "UPDATE intents SET cancel = 1, reason = ?, updated_at = ? WHERE id = ?",
                (reason, self._now(), intent_id),
            )

    def set_intent_state(
        self,
        intent_id: int,
        state: IntentState,
        *,
        reason: str | None = None,
        first_nonce: int = 0,
        exact_nonce: int | None = None,
        sign: Callable[[int], Transaction] | None = None,
        mined: Mined | None = None,
    ) -> Intent:
        """The one place where an intent changes its state.

        `sign` makes the transaction that comes with SIGNED: it is called with the intent's nonce,
        and the nonce is given out here, in the same database transaction, as one more than the
        highest one in the file and at least `first_nonce` (or as `exact_nonce`, to fill a gap; no
        nonce is given out twice). `mined` comes with MINED; leaving the
        chain again (-> SENT) clears it. Raises LocalError for an edge that is not drawn.
        """
        with self.transaction() as db:
            intent = self.intent_by_id(intent_id)
            if state not in INTENT_EDGES[intent.state]:
                raise LocalError(
                    f"intent {'/'.join(intent.key)} cannot go from {intent.state} to {state}"
                )
            nonce = intent.nonce
            if sign is not None:
                if nonce is None and exact_nonce is not None:
                    nonce = exact_nonce
                elif nonce is None:
                    nonce = max(self.next_nonce() or 0, first_nonce)
                self._add_transaction(db, intent_id, nonce, sign(nonce))
            if state in (IntentState.SIGNED, IntentState.SENT):
                mined = None
            elif mined is None:
                mined = intent.mined
            db.execute(
                "UPDATE intents SET state = ?, reason = ?, nonce = ?, tx_hash = ?, "
                "block_number = ?, block_hash = ?, status = ?, gas_used = ?, gas_price = ?, "
                "updated_at = ? WHERE id = ?",
                (
                    state,
                    intent.reason if reason is None else reason,
                    nonce,
                    *(
                        (None,) * 6
                        if mined is None
                        else (
                            mined.tx_hash,
                            mined.block_number,
                            mined.block_hash,
                            mined.status,
                            mined.gas_used,
                            mined.gas_price,
                        )
                    ),
                    self._now(),
                    intent_id,
                ),
            )
            return self.intent_by_id(intent_id)

    @staticmethod
    def _add_transaction(
        db: sqlite3.Connection, intent_id: int, nonce: int, made: Transaction
    ) -> None:
        if made.nonce != nonce:
            raise LocalError(f"a transaction with nonce {made.nonce} was signed for nonce {nonce}")
        db.execute(
            "INSERT OR REPLACE INTO transactions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                made.hash,
                intent_id,
                made.nonce,
                made.kind,
                made.raw,
                made.gas,
                made.max_fee,
                made.priority_fee,
                made.signed_at,
            ),
        )

    def transactions_of(self, intent_id: int) -> list[Transaction]:
        """Everything ever signed for an intent in the order of signing; the last one is current."""
        rows = self._db().execute(
            "SELECT hash, nonce, kind, raw, gas, max_fee, priority_fee, signed_at "
            "FROM transactions WHERE intent_id = ? ORDER BY signed_at, max_fee",
            (intent_id,),
        )
        return [Transaction(*row) for row in rows]


def _intent(row: sqlite3.Row) -> Intent:
    mined = None
    if row["tx_hash"] is not None:
        mined = Mined(
            row["tx_hash"],
            row["block_number"],
            row["block_hash"],
            row["status"],
            row["gas_used"],
            row["gas_price"],
        )
    return Intent(
        id=row["id"],
        key=IntentKey(row["contract"], row["object_id"], row["action"]),
        to=row["target"],
        data=row["data"],
        value=int(row["value"]),
        state=IntentState(row["state"]),
        deadline=None if row["deadline"] is None else int(row["deadline"]),
        cancel=bool(row["cancel"]),
        nonce=row["nonce"],
        reason=row["reason"],
        mined=mined,
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
