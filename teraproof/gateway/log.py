# SPDX-License-Identifier: Apache-2.0
"""The activity log: one row for each attempt at a host, with what it cost and its receipt."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from teraproof.gateway.store import Store
from teraproof.protocol.errors import one_line
from teraproof.protocol.inference import SignedReceipt

OPEN, OK, FAILED, LOST = "open", "ok", "failed", "lost"
_DAY = 86_400
_WHY = 200  # characters of a reason
_PRUNED = 5_000  # rows at a time: a write does not wait long


@dataclass(frozen=True)
class Begun:
    """An attempt that may cost something. Amounts are units of the token."""

    key: str
    kind: str
    model: str
    owner: str
    channel: bytes
    reserved: int


@dataclass(frozen=True)
class Ended:
    """How an attempt ended. `cost` is what receipts show, `why` is for people."""

    outcome: str
    cost: int
    why: str = ""
    latency_ms: int | None = None
    total_ms: int | None = None
    receipt: SignedReceipt | None = None


def begin(db: sqlite3.Connection, begun: Begun) -> int:
    """Write the row of an attempt. Its id."""
    found = db.execute(
        "INSERT INTO activity (time, key, kind, model, owner, channel, reserved, outcome)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, 'open') RETURNING id",
        (
            int(time.time()),
            begun.key,
            begun.kind,
            begun.model,
            begun.owner,
            begun.channel,
            str(begun.reserved),
        ),
    ).fetchone()
    return int(found[0])


def shows(db: sqlite3.Connection, row: int, cost: int) -> None:
    """What receipts show so far of an attempt that goes on."""
    db.execute("UPDATE activity SET cost = ? WHERE id = ?", (str(cost), row))


def end(db: sqlite3.Connection, row: int, ended: Ended) -> None:
    """Write how an attempt ended."""
    said = None if ended.receipt is None else ended.receipt.receipt
    db.execute(
        "UPDATE activity SET outcome = ?, cost = ?, why = ?, latency_ms = ?, total_ms = ?,"
        " prompt_tokens = ?, completion_tokens = ?, receipt = ? WHERE id = ?",
        (
            ended.outcome,
            str(ended.cost),
            one_line(ended.why, _WHY),
            ended.latency_ms,
            ended.total_ms,
            None if said is None else said.prompt_tokens,
            None if said is None else said.completion_tokens,
            None if ended.receipt is None else json.dumps(ended.receipt.to_json()),
            row,
        ),
    )


def spend(db: sqlite3.Connection, key: str, day: int, cost: int) -> None:
    """Add to what a key has spent on a day."""
    if not cost:
        return
    row = db.execute("SELECT cost FROM spending WHERE key = ? AND day = ?", (key, day)).fetchone()
    before = 0 if row is None else int(row[0])
    db.execute(
        "INSERT OR REPLACE INTO spending (key, day, cost) VALUES (?, ?, ?)",
        (key, day, str(before + cost)),
    )


def unclear_of(db: sqlite3.Connection, channel: bytes) -> tuple[int, str] | None:
    """The last attempt of a channel whose receipt never came: its row and its key."""
    row = db.execute(
        "SELECT id, key FROM activity WHERE channel = ? AND outcome IN ('failed', 'lost')"
        " ORDER BY id DESC LIMIT 1",
        (channel,),
    ).fetchone()
    return None if row is None else (int(row["id"]), str(row["key"]))


def unclear_keys(store: Store) -> dict[bytes, str]:
    """Channel -> the key whose request may have cost more than receipts show."""
    found = {}
    for row in store.read("SELECT id FROM channels WHERE unclear != '0'"):
        channel = bytes(row["id"])
        payer = store.run(lambda db, channel=channel: unclear_of(db, channel))  # type: ignore[misc] # bound at once
        if payer is not None:
            found[channel] = payer[1]
    return found


def charge_late(db: sqlite3.Connection, row: int, key: str, day: int, cost: int) -> None:
    """A later receipt shows what an attempt without one has cost."""
    before = db.execute("SELECT cost FROM activity WHERE id = ?", (row,)).fetchone()
    db.execute("UPDATE activity SET cost = ? WHERE id = ?", (str(int(before[0] or 0) + cost), row))
    spend(db, key, day, cost)


def close_lost(db: sqlite3.Connection) -> None:
    """After a crash: attempts that were under way have ended, and what they cost is unclear."""
    open_rows = "SELECT id, time, key, channel, cost FROM activity WHERE outcome = 'open'"
    for row in db.execute(open_rows).fetchall():
        shown = int(row["cost"] or 0)
        db.execute(
            "UPDATE activity SET outcome = 'lost', cost = ?,"
            " why = 'the gateway ended while it ran' WHERE id = ?",
            (str(shown), row["id"]),
        )
        spend(db, row["key"], row["time"] // _DAY, shown)
        found = db.execute(
            "SELECT signed, charged FROM channels WHERE id = ?", (row["channel"],)
        ).fetchone()
        if found is not None:
            unclear = int(found["signed"]) - int(found["charged"])
            db.execute(
                "UPDATE channels SET unclear = ? WHERE id = ?", (str(unclear), row["channel"])
            )


def prune(db: sqlite3.Connection, days: int) -> None:
    """Forget old rows; what keys have spent and the last receipts of channels stay."""
    before = int(time.time()) - days * _DAY
    db.execute(
        "DELETE FROM activity WHERE id IN (SELECT id FROM activity WHERE time < ?"
        " AND outcome != 'open' LIMIT ?)",
        (before, _PRUNED),
    )


def spent(store: Store) -> dict[str, dict[int, int]]:
    """Key -> day -> what it has spent."""
    found: dict[str, dict[int, int]] = {}
    for row in store.read("SELECT key, day, cost FROM spending"):
        found.setdefault(row["key"], {})[row["day"]] = int(row["cost"])
    return found


def rows(store: Store, most: int, key: str | None = None) -> list[Mapping[str, Any]]:
    """The newest attempts, the newest first."""
    where, values = ("WHERE key = ?", [key]) if key is not None else ("", [])
    sql = f"SELECT * FROM activity {where} ORDER BY id DESC LIMIT ?"  # noqa: S608 - our own words
    return [dict(row) for row in store.read(sql, *values, most)]


def drop(db: sqlite3.Connection, owner: str, why: str) -> None:
    """Never use a provider again, until a person says otherwise."""
    db.execute(
        "INSERT OR REPLACE INTO dropped (owner, why, since) VALUES (?, ?, ?)",
        (owner, one_line(why), int(time.time())),
    )


def forgive(db: sqlite3.Connection, owner: str) -> bool:
    """Use it again. Whether it was dropped."""
    return db.execute("DELETE FROM dropped WHERE owner = ?", (owner,)).rowcount > 0


def dropped(store: Store) -> dict[str, str]:
    """Owner -> why it is not used any more."""
    return {row["owner"]: row["why"] for row in store.read("SELECT owner, why FROM dropped")}
