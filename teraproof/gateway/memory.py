# SPDX-License-Identifier: Apache-2.0
"""What the gateway has learned of hosts, kept in its store: who was found out stays found out.

It is kept by the provider's address and the model's name. Another endpoint, a restart or a while
off the list of hosts changes nothing. What nobody has looked at for some days is forgotten, and so
is the oldest of too much; the evidence of a fault goes last.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import time
from collections.abc import Callable
from typing import Any

from teraproof.errors import LocalError
from teraproof.gateway.examine import Lineups
from teraproof.gateway.hosts import Hosts, Measured
from teraproof.gateway.identity.kept import (
    evidence_from_json,
    evidence_to_json,
    pair_from_json,
    pair_to_json,
)
from teraproof.gateway.store import Store

log = logging.getLogger(__name__)

#: Hosts of models, and pairs of them, that are kept.
MOST_ROWS = 20_000
_DAY = 86_400


class Memory:
    """See the module. `touched` and `compared` say what has changed, `flush` writes it.

    For one event loop. What cannot be written now is written later.
    """

    def __init__(
        self,
        store: Store,
        hosts: Hosts,
        lineups: Lineups,
        days: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._hosts, self._lineups = store, hosts, lineups
        self._days, self._clock = days, clock
        self._touched: set[tuple[str, str]] = set()
        self._compared: set[tuple[str, str, str]] = set()

    def touched(self, model: str, owner: str) -> None:
        """Something was learned of a host."""
        self._touched.add((model, owner))

    def compared(self, model: str, one: str, other: str) -> None:
        """Two hosts were compared."""
        self._compared.add((model, min(one, other), max(one, other)))
        self.touched(model, one)
        self.touched(model, other)

    async def flush(self) -> None:
        """Write what has changed."""
        touched, compared = self._touched, self._compared
        if not touched:
            return
        self._touched, self._compared = set(), set()
        now = int(self._clock())
        evidence = [self._evidence_row(*each, now) for each in touched]
        pairs = [row for each in compared if (row := self._pair_row(*each, now)) is not None]
        out = [
            (owner, *paused, now)
            for owner in {owner for _, owner in touched}
            if (paused := self._hosts.paused(owner)) is not None
        ]

        def write(db: sqlite3.Connection) -> None:
            db.executemany(
                "INSERT OR REPLACE INTO evidence (model, owner, at_fault, said, seen)"
                " VALUES (?, ?, ?, ?, ?)",
                evidence,
            )
            db.executemany(
                "INSERT OR REPLACE INTO comparisons (model, first, second, at_fault, said, seen)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                pairs,
            )
            db.executemany("DELETE FROM failures WHERE owner = ?", [(o,) for _, o in touched])
            db.executemany(
                "INSERT INTO failures (owner, failures, left_out, seen) VALUES (?, ?, ?, ?)", out
            )

        try:
            await self._store.write(write)
        except LocalError as error:
            self._touched |= touched
            self._compared |= compared
            log.warning("what was learned of hosts is not written yet: %s", error)

    def _evidence_row(self, model: str, owner: str, now: int) -> tuple[Any, ...]:
        seen = self._hosts.seen(owner, model)
        said = {
            "measured": [seen.latency, seen.throughput, seen.good, seen.total],
            "shown": evidence_to_json(self._lineups.seen(model).seen(owner)),
        }
        fault = self._lineups.verdict(owner, model).fault is not None
        return model, owner, int(fault), json.dumps(said), now

    def _pair_row(self, model: str, one: str, other: str, now: int) -> tuple[Any, ...] | None:
        pair = self._lineups.seen(model).pair(one, other)
        if pair is None:
            return None
        return model, one, other, int(pair.alarms), json.dumps(pair_to_json(pair)), now

    # ------------------------------------------------------------------ from the store

    def load(self) -> None:
        """All that is not too old, as it was."""
        now = self._clock()
        self._store.run(lambda db: prune(db, self._days, now))
        for row in self._store.read("SELECT * FROM evidence ORDER BY at_fault, seen"):
            try:
                said = json.loads(row["said"])
                measured = Measured.from_json(said["measured"])
                shown = evidence_from_json(said["shown"])
            except (ValueError, KeyError, TypeError) as error:
                log.warning("evidence of %s is left out: %s", row["owner"], error)
                continue
            self._hosts.remember(row["owner"], row["model"], measured)
            if shown.requests or shown.canaries:
                self._lineups.of(row["model"]).restore(row["owner"], shown)
        for row in self._store.read("SELECT * FROM comparisons ORDER BY at_fault, seen"):
            try:
                pair = pair_from_json(json.loads(row["said"]))
            except ValueError as error:
                log.warning("a comparison of %s is left out: %s", row["first"], error)
                continue
            self._lineups.of(row["model"]).restore_pair(row["first"], row["second"], pair)
        for row in self._store.read("SELECT * FROM failures"):
            left = row["left_out"] - max(0, int(now) - row["seen"])
            self._hosts.remember_failures(row["owner"], row["failures"], max(0, left))

    async def prune(self) -> None:
        """Forget what is too old or too much, as `load` does."""
        now = self._clock()
        old = await self._store.write(lambda db: prune(db, self._days, now))
        for model, owner in old:
            self._lineups.seen(model).forget(owner)
            self._hosts.forget(owner, model)


def prune(db: sqlite3.Connection, days: int, now: float) -> list[tuple[str, str]]:
    """Delete what nobody has looked at for `days`, and the oldest of too many rows. The models and
    the owners of what was deleted.
    """
    before = int(now) - days * _DAY
    gone = db.execute(
        "DELETE FROM evidence WHERE seen < ? OR rowid IN (SELECT rowid FROM evidence"
        " ORDER BY at_fault DESC, seen DESC LIMIT -1 OFFSET ?) RETURNING model, owner",
        (before, MOST_ROWS),
    ).fetchall()
    db.execute(
        "DELETE FROM comparisons WHERE seen < ? OR rowid IN (SELECT rowid FROM comparisons"
        " ORDER BY at_fault DESC, seen DESC LIMIT -1 OFFSET ?)",
        (before, MOST_ROWS),
    )
    db.execute("DELETE FROM failures WHERE seen < ?", (before,))
    return [(row["model"], row["owner"]) for row in gone]


def forget(db: sqlite3.Connection, owner: str) -> bool:
    """Begin again with a provider. Whether anything was known of it."""
    found = sum(
        db.execute(sql, values).rowcount
        for sql, values in (
            ("DELETE FROM evidence WHERE owner = ?", (owner,)),
            ("DELETE FROM comparisons WHERE first = ? OR second = ?", (owner, owner)),
            ("DELETE FROM failures WHERE owner = ?", (owner,)),
        )
    )
    return found > 0
