# SPDX-License-Identifier: Apache-2.0
"""Channels as they stand in the gateway's memory, and what is written of them.

For each channel three sums grow: `charged`, which receipts show; `signed`, the highest voucher that
may have left; `balance`, what was deposited. charged <= signed <= balance plus deposits under way.
`unclear` is the part of signed - charged that a request whose receipt never came may have cost.
"""

from __future__ import annotations

import json
import sqlite3
import time
from dataclasses import dataclass, field

from teraproof.gateway.store import Store
from teraproof.protocol.channels import ChannelConfig, DepositAuthorization
from teraproof.protocol.inference import SignedReceipt
from teraproof.protocol.payments import Deposit, config_from_json, config_to_json

OPEN, LEAVING, CLOSED = "open", "leaving", "closed"


@dataclass
class UnderWay:
    """A deposit that was signed, and is not known to be on chain or void. `before` is the balance
    on chain when it was signed.
    """

    deposit: Deposit
    before: int


@dataclass
class Channel:
    """A channel of ours. Amounts are units of its token."""

    id: bytes
    owner: str
    operator: str
    url: str
    chain_id: int
    config: ChannelConfig
    balance: int = 0
    signed: int = 0
    charged: int = 0
    unclear: int = 0
    number: int = 0
    """Of the last receipt."""
    state: str = OPEN
    receipt: SignedReceipt | None = None
    under_way: UnderWay | None = None
    stated: int = 0
    """What its provider says that it has charged, where that is more than receipts show."""
    busy: bool = False
    not_before: float = 0.0
    """Monotonic: the provider may still be busy with an earlier request of it."""

    @property
    def base(self) -> int:
        """What the next request is paid on top of."""
        return max(self.charged, self.stated)

    @property
    def funds(self) -> int:
        """What vouchers may come to: the balance, and the deposit under way."""
        return self.balance + (0 if self.under_way is None else self.under_way.deposit.amount)

    @property
    def refundable(self) -> int:
        """What no voucher gives away."""
        return max(0, self.balance - max(self.charged, self.signed - self.unclear))


@dataclass
class Ledger:
    """All channels, from the store."""

    store: Store
    channels: dict[bytes, Channel] = field(default_factory=dict)

    @classmethod
    def load(cls, store: Store) -> Ledger:
        """As they were written last."""
        rows = store.read("SELECT * FROM channels ORDER BY created, rowid")
        found = {bytes(row["id"]): _channel(row) for row in rows}
        for row in store.read("SELECT * FROM deposits WHERE state = 'pending'"):
            found[bytes(row["channel"])].under_way = _under_way(row)
        return cls(store, found)

    def of(self, owner: str) -> list[Channel]:
        """The channels with one provider."""
        return [channel for channel in self.channels.values() if channel.owner == owner]

    def outlay(self, owner: str | None = None) -> int:
        """What was deposited and has not come back, with the deposits under way; of one provider,
        or in total.
        """
        of = self.channels.values() if owner is None else self.of(owner)
        return sum(channel.funds for channel in of)


# ---------------------------------------------------------------------- writing


def insert(db: sqlite3.Connection, channel: Channel) -> None:
    """A new channel."""
    db.execute(
        "INSERT INTO channels (id, owner, operator, url, chain_id, config, created)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            channel.id,
            channel.owner,
            channel.operator,
            channel.url,
            channel.chain_id,
            json.dumps(config_to_json(channel.config)),
            int(time.time()),
        ),
    )


def keep(db: sqlite3.Connection, channel: bytes, **amounts: int) -> None:
    """New amounts of a channel, by name."""
    names = ", ".join(f"{name} = ?" for name in amounts)
    db.execute(
        f"UPDATE channels SET {names} WHERE id = ?",  # noqa: S608 - our own names
        (*(str(value) for value in amounts.values()), channel),
    )


def keep_receipt(db: sqlite3.Connection, channel: bytes, receipt: SignedReceipt) -> None:
    """The newest receipt of a channel."""
    db.execute(
        "UPDATE channels SET number = ?, charged = ?, receipt = ? WHERE id = ?",
        (
            receipt.receipt.number,
            str(receipt.receipt.cumulative),
            json.dumps(receipt.to_json()),
            channel,
        ),
    )


def keep_state(db: sqlite3.Connection, channel: bytes, state: str) -> None:
    """Whether it is open, leaving or closed."""
    db.execute("UPDATE channels SET state = ? WHERE id = ?", (state, channel))


def insert_deposit(db: sqlite3.Connection, channel: bytes, made: UnderWay) -> None:
    """A deposit that was signed, before it leaves."""
    said = made.deposit.authorization
    db.execute(
        "INSERT INTO deposits (channel, salt, amount, before, valid_before, signature, created)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            channel,
            f"{said.salt:064x}",
            str(made.deposit.amount),
            str(made.before),
            said.valid_before,
            made.deposit.signature,
            int(time.time()),
        ),
    )


def end_deposit(
    db: sqlite3.Connection, channel: bytes, made: UnderWay, balance: int, *, done: bool
) -> None:
    """The deposit under way is on chain, or never can be."""
    db.execute(
        "UPDATE deposits SET state = ? WHERE channel = ? AND salt = ?",
        ("done" if done else "void", channel, f"{made.deposit.authorization.salt:064x}"),
    )
    keep(db, channel, balance=balance)


def last_authorized(db: sqlite3.Connection) -> dict[bytes, int]:
    """Channel -> when the last of its deposits could no longer be sent, unix seconds."""
    found = db.execute("SELECT channel, MAX(valid_before) FROM deposits GROUP BY channel")
    return {bytes(row[0]): int(row[1]) for row in found}


# ---------------------------------------------------------------------- rows


def _channel(row: sqlite3.Row) -> Channel:
    receipt = row["receipt"]
    return Channel(
        id=bytes(row["id"]),
        owner=row["owner"],
        operator=row["operator"],
        url=row["url"],
        chain_id=row["chain_id"],
        config=config_from_json(json.loads(row["config"])),
        balance=int(row["balance"]),
        signed=int(row["signed"]),
        charged=int(row["charged"]),
        unclear=int(row["unclear"]),
        number=row["number"],
        state=row["state"],
        receipt=None if receipt is None else SignedReceipt.from_json(json.loads(receipt)),
    )


def _under_way(row: sqlite3.Row) -> UnderWay:
    authorization = DepositAuthorization(0, row["valid_before"], int(row["salt"], 16))
    made = Deposit(int(row["amount"]), authorization, bytes(row["signature"]))
    return UnderWay(made, int(row["before"]))
