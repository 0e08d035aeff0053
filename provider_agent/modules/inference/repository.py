# SPDX-License-Identifier: Apache-2.0
"""The channel book: what each payer has signed, and what it was charged.

A voucher is in here before anything is served for it, and on the disk before any of the answer
leaves. What a step can cost is reserved before it is served, and a step's receipt is in here before
it leaves. So after a crash an open request counts as
far as its last receipt goes: the payer never pays for what no receipt shows, and the provider has
served at most one step for nothing (I-9: `charged` never exceeds the voucher).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from typing import Any

from provider_agent.modules.inference.credit import Credit
from provider_agent.modules.inference.rows import (
    Asked,
    ChannelRow,
    DepositRow,
    RefundRow,
    packed,
)
from provider_agent.store import Repository
from teraproof.protocol.channels import ChannelConfig, deposit_nonce
from teraproof.protocol.inference import SignedReceipt
from teraproof.protocol.payments import Deposit
from teraproof.protocol.vouchers import KeptVoucher
from teraproof.protocol.x402 import ChannelState, Fault, PaymentUnfit, SignedVoucher

_WAITING = (Asked.NEW, Asked.SENT)


class ChannelBook(Repository):
    """Channels, and the deposits and refunds that payers have asked for."""

    # ------------------------------------------------------------------ what the chain says

    def see(self, config: ChannelConfig, state: ChannelState, block: int) -> None:
        """Keep what the chain says of a channel at a block; what is older changes nothing.

        `state.charged` is not looked at. A channel counts as charged for what was claimed, where no
        more is known here: it is new, or of a backup.
        """
        with self.transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO paid_channels (channel, config, payer, balance, charged, "
                "voucher, created_at, updated_at) VALUES (?, ?, ?, '0', ?, ?, ?, ?)",
                (
                    state.channel,
                    packed(config),
                    config.payer,
                    str(state.total_claimed),
                    str(state.total_claimed),
                    self._now(),
                    self._now(),
                ),
            )
            db.execute(
                "UPDATE paid_channels SET balance = ?, total_claimed = ?, "
                "withdraw_requested_at = ?, refund_nonce = ?, seen_block = ? "
                "WHERE channel = ? AND seen_block <= ?",
                (
                    str(state.balance),
                    str(state.total_claimed),
                    state.withdraw_requested_at,
                    str(state.refund_nonce),
                    block,
                    state.channel,
                    block,
                ),
            )
            db.execute(
                "UPDATE paid_channels SET charged = total_claimed, "  # noqa: S608 - ours
                f"voucher = CASE WHEN {_is_more('total_claimed', 'voucher')} "
                "THEN total_claimed ELSE voucher END, "
                # The signature that is here is over less; the one over that much is not.
                f"signature = CASE WHEN {_is_more('total_claimed', 'voucher')} "
                "THEN x'' ELSE signature END "
                f"WHERE channel = ? AND open = 0 AND {_is_more('total_claimed', 'charged')}",
                (state.channel,),
            )

    def adopt(self, kept: KeptVoucher) -> bool:
        """Take over a channel's voucher and receipt from a copy; whether they were news. Nothing
        that is here is lowered, and what the chain says is looked up later.
        """
        voucher, said = kept.voucher, kept.receipt.receipt
        with self.transaction() as db:
            if self.channel(voucher.channel) is None:
                self.see(kept.config, ChannelState(voucher.channel, 0, 0), 0)
            row = self._known(voucher.channel)
            is_new = voucher.amount > row.voucher or said.cumulative > row.charged
            self._raise(db, row, voucher)
            if said.cumulative > row.charged:
                db.execute(
                    "UPDATE paid_channels SET charged = ?, receipt = ?, number = max(number, ?) "
                    "WHERE channel = ?",
                    (
                        str(said.cumulative),
                        json.dumps(kept.receipt.to_json()),
                        said.number,
                        voucher.channel,
                    ),
                )
        return is_new

    def kept(self) -> Iterator[KeptVoucher]:
        """The newest voucher of each channel on which something was served."""
        after = b""
        while rows := self.channels(after):
            after = rows[-1].channel
            for row in rows:
                if row.signed is not None and row.receipt is not None:
                    yield KeptVoucher(row.config, row.signed, row.receipt)

    def channel(self, channel: bytes) -> ChannelRow | None:
        """A channel with this id."""
        query = "SELECT * FROM paid_channels WHERE channel = ?"
        row = self._db().execute(query, (channel,)).fetchone()
        return None if row is None else ChannelRow.read(row)

    def channels(self, after: bytes = b"", limit: int = 1_000) -> list[ChannelRow]:
        """Channels in the order of their ids, from behind `after` on."""
        query = "SELECT * FROM paid_channels WHERE channel > ? ORDER BY channel LIMIT ?"
        return [ChannelRow.read(row) for row in self._db().execute(query, (after, limit))]

    def count(self) -> int:
        """How many channels are here."""
        return int(self._db().execute("SELECT count(*) FROM paid_channels").fetchone()[0])

    def forget_drained(self, before: int) -> int:
        """Drop channels that are empty on chain, have nothing to claim and were not used since a
        time; how many. One that gets a new deposit counts from what was claimed, as a new one does.
        """
        with self.transaction() as db:
            return db.execute(
                "DELETE FROM paid_channels WHERE updated_at < ? AND open = 0 "
                "AND balance = total_claimed AND charged = total_claimed "
                "AND channel NOT IN (SELECT channel FROM channel_deposits WHERE state IN (?, ?)) "
                "AND channel NOT IN (SELECT channel FROM channel_refunds WHERE state IN (?, ?))",
                (before, *_WAITING, *_WAITING),
            ).rowcount

    # ------------------------------------------------------------------ requests

    def begin(
        self,
        voucher: SignedVoucher,
        ceiling: int,
        most_unclaimed: int,
        credit: Credit | None = None,
        floor: int = 0,
    ) -> ChannelRow:
        """Open a request that costs at most `ceiling` (its first step), on a voucher whose
        signature is right; the channel as it is then. It must have been seen at block `floor`.

        PaymentUnfit when the channel has no room for it. Nothing has changed then.
        """
        with self.transaction() as db:
            row = self._known(voucher.channel)
            if row.is_open:
                raise PaymentUnfit(Fault.CHANNEL_BUSY, "a request of the channel runs")
            self._check_no_refund(voucher.channel)
            if row.withdraw_requested_at:
                raise PaymentUnfit(
                    Fault.EXCEEDS_BALANCE, "a withdrawal of the channel has begun; use another one"
                )
            _check_voucher(row, voucher, row.charged + ceiling)
            if row.seen_block < floor:
                raise PaymentUnfit(
                    Fault.STATE_UNAVAILABLE, "the channel is not seen on the chain; try again soon"
                )
            if row.unclaimed + ceiling > most_unclaimed:
                raise PaymentUnfit(
                    Fault.STATE_UNAVAILABLE, "too much of the channel is unclaimed; try again soon"
                )
            if credit is not None and not credit.take(row, row.unclaimed + ceiling):
                raise PaymentUnfit(
                    Fault.STATE_UNAVAILABLE,
                    "too much of the payer's channels, or of all, is unclaimed; try again soon",
                )
            self._raise(db, row, voucher)
            db.execute(
                "UPDATE paid_channels SET open = 1, number = number + 1, reserved = ?, "
                "opened_charged = charged, opened_at = ?, updated_at = ? WHERE channel = ?",
                (str(ceiling), self._now(), self._now(), voucher.channel),
            )
            return self._known(voucher.channel)

    def hold(self, channel: bytes) -> None:
        """Write that a request runs, so that this commit lasts with what `begin` has written."""
        with self.transaction() as db:
            db.execute(
                "UPDATE paid_channels SET updated_at = ? WHERE channel = ?", (self._now(), channel)
            )

    def raise_voucher(self, voucher: SignedVoucher) -> ChannelRow:
        """Keep a higher voucher for the request that runs; a lower one changes nothing.

        PaymentUnfit when it is not covered.
        """
        with self.transaction() as db:
            row = self._known(voucher.channel)
            _check_voucher(row, voucher, 0)
            self._raise(db, row, voucher)
            return self._known(voucher.channel)

    def step(self, signed: SignedReceipt, reserved: int, credit: Credit | None = None) -> bool:
        """A step of the open request was served, and the next one can cost `reserved`. Whether
        there is room for it; else nothing is reserved.
        """
        with self.transaction() as db:
            row = self._charge(db, signed)
            stands = signed.receipt.cumulative + reserved - row.total_claimed
            has_room = credit is None or credit.take(row, stands)
            reserved = reserved if has_room else 0
            db.execute(
                "UPDATE paid_channels SET reserved = ? WHERE channel = ?",
                (str(reserved), signed.receipt.channel),
            )
            return has_room

    def end(self, signed: SignedReceipt, credit: Credit | None = None) -> None:
        """The open request has ended with this receipt."""
        with self.transaction() as db:
            row = self._charge(db, signed)
            self._close(db, row, credit)

    def abandon(self, channel: bytes, credit: Credit | None = None) -> None:
        """The open request has ended; it stays charged as far as its last receipt goes."""
        with self.transaction() as db:
            row = self.channel(channel)
            if row is not None:
                self._close(db, row, credit)

    def recover(self) -> int:
        """Close what a crash has left open, as `abandon` does; how many there were."""
        with self.transaction() as db:
            return db.execute(
                "UPDATE paid_channels SET open = 0, reserved = '0' WHERE open = 1"
            ).rowcount

    # ------------------------------------------------------------------ deposits

    def ask_deposit(self, channel: bytes, config: ChannelConfig, deposit: Deposit) -> DepositRow:
        """Keep a deposit that a payer has signed. The same a second time changes nothing, unless
        it was held.
        """
        said = deposit.authorization
        nonce = deposit_nonce(channel, said.salt)
        with self.transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO channel_deposits (nonce, channel, config, payer, amount, "
                "valid_after, valid_before, salt, signature, created_at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    nonce,
                    channel,
                    packed(config),
                    config.payer,
                    str(deposit.amount),
                    str(said.valid_after),
                    str(said.valid_before),
                    said.salt.to_bytes(32, "big"),
                    deposit.signature,
                    self._now(),
                ),
            )
            db.execute(
                "UPDATE channel_deposits SET state = ? WHERE nonce = ? AND state = ?",
                (Asked.NEW, nonce, Asked.HELD),
            )
            found = self.deposit(nonce)
        if found is None:
            raise AssertionError("a deposit that was written is not there")
        return found

    def deposit(self, nonce: bytes) -> DepositRow | None:
        """The deposit with this nonce of its authorization."""
        query = "SELECT * FROM channel_deposits WHERE nonce = ?"
        row = self._db().execute(query, (nonce,)).fetchone()
        return None if row is None else DepositRow.read(row)

    def deposits(self, *states: Asked, limit: int = 1_000) -> list[DepositRow]:
        """Deposits in one of these states, the oldest first."""
        marks = ", ".join("?" * len(states))
        query = (
            f"SELECT * FROM channel_deposits WHERE state IN ({marks}) "  # noqa: S608 - marks only
            "ORDER BY created_at, nonce LIMIT ?"
        )
        return [DepositRow.read(row) for row in self._db().execute(query, (*states, limit))]

    def waiting_deposits(self, payer: str | None = None) -> int:
        """How many deposits wait, of one payer or of all."""
        query = "SELECT count(*) FROM channel_deposits WHERE state IN (?, ?)"
        if payer is None:
            row = self._db().execute(query, _WAITING).fetchone()
        else:
            row = self._db().execute(f"{query} AND payer = ?", (*_WAITING, payer)).fetchone()
        return int(row[0])

    def deposits_made(self, channel: bytes) -> int:
        """How many deposits were sent for a channel, of those that are kept. Failed ones count."""
        query = (
            "SELECT count(*) FROM channel_deposits "
            "WHERE channel = ? AND (state IN (?, ?) OR tx_hash <> x'')"
        )
        return int(self._db().execute(query, (channel, Asked.SENT, Asked.DONE)).fetchone()[0])

    def set_deposit(self, nonce: bytes, **columns: Any) -> None:
        """Change `state`, `reason` or `tx_hash` of a deposit."""
        with self.transaction():
            self._update("channel_deposits", "nonce", nonce, columns)

    # ------------------------------------------------------------------ refunds

    def ask_refund(self, voucher: SignedVoucher, wanted: int | None) -> RefundRow:
        """Keep a payer's wish for what is left of a channel, or a part of it. While it waits no
        request of the channel is served. PaymentUnfit when it cannot be had.
        """
        with self.transaction() as db:
            row = self._known(voucher.channel)
            if row.is_open:
                raise PaymentUnfit(Fault.CHANNEL_BUSY, "a request of the channel runs")
            self._check_no_refund(voucher.channel)
            if voucher.amount < row.charged:
                raise PaymentUnfit(Fault.AMOUNT_MISMATCH, "the voucher is below what was charged")
            left = row.balance - row.charged
            if left <= 0 or (wanted is not None and wanted > left):
                raise PaymentUnfit(Fault.REFUND_NO_BALANCE, "the channel has no such balance")
            if wanted == 0:
                raise PaymentUnfit(Fault.REFUND_AMOUNT, "the amount is zero")
            db.execute(
                "INSERT OR REPLACE INTO channel_refunds (channel, amount, created_at) "
                "VALUES (?, ?, ?)",
                (voucher.channel, str(left if wanted is None else wanted), self._now()),
            )
            found = self.refund(voucher.channel)
        if found is None:
            raise AssertionError("a refund that was written is not there")
        return found

    def refund(self, channel: bytes) -> RefundRow | None:
        """The last refund of a channel."""
        query = "SELECT * FROM channel_refunds WHERE channel = ?"
        row = self._db().execute(query, (channel,)).fetchone()
        return None if row is None else RefundRow.read(row)

    def refunds(self, *states: Asked) -> list[RefundRow]:
        """Refunds in one of these states, the oldest first."""
        marks = ", ".join("?" * len(states))
        query = (
            f"SELECT * FROM channel_refunds WHERE state IN ({marks}) "  # noqa: S608 - marks only
            "ORDER BY created_at, channel"
        )
        return [RefundRow.read(row) for row in self._db().execute(query, states)]

    def set_refund(self, channel: bytes, **columns: Any) -> None:
        """Change `state`, `reason`, `amount` or `tx_hash` of a refund."""
        with self.transaction():
            self._update("channel_refunds", "channel", channel, columns)

    def forget_asked(self, before: int, refused: int) -> None:
        """Forget deposits and refunds from before a time that have ended, and deposits from before
        `refused` that were refused and not sent: strangers cause those without paying.
        """
        with self.transaction() as db:
            db.execute(
                "DELETE FROM channel_deposits "
                "WHERE state IN (?, ?) AND created_at < ? AND tx_hash = x''",
                (Asked.REFUSED, Asked.HELD, refused),
            )
            for table in ("channel_deposits", "channel_refunds"):
                db.execute(
                    f"DELETE FROM {table} WHERE state NOT IN (?, ?) AND created_at < ?",  # noqa: S608 - ours
                    (*_WAITING, before),
                )

    # ------------------------------------------------------------------ parts

    def _known(self, channel: bytes) -> ChannelRow:
        row = self.channel(channel)
        if row is None:
            raise PaymentUnfit(
                Fault.CHANNEL_NOT_FOUND, "the channel is unknown here; deposit first"
            )
        return row

    def _check_no_refund(self, channel: bytes) -> None:
        refund = self.refund(channel)
        if refund is not None and refund.state in _WAITING:
            raise PaymentUnfit(Fault.CHANNEL_BUSY, "a refund of the channel is under way")

    def _raise(self, db: sqlite3.Connection, row: ChannelRow, voucher: SignedVoucher) -> None:
        # A channel of which only the chain is known has no signature, and the sum that was claimed.
        if voucher.amount > row.voucher or (voucher.amount == row.voucher and not row.signature):
            db.execute(
                "UPDATE paid_channels SET voucher = ?, signature = ? WHERE channel = ?",
                (str(voucher.amount), voucher.signature, row.channel),
            )

    def _charge(self, db: sqlite3.Connection, signed: SignedReceipt) -> ChannelRow:
        """The channel as it was before."""
        said = signed.receipt
        row = self._known(said.channel)
        right = row.opened_charged + said.charged == said.cumulative
        if not row.is_open or said.number != row.number or not right:
            raise AssertionError("a receipt is not of the request that is open")
        if not row.charged <= said.cumulative <= row.voucher:
            raise AssertionError("a receipt charges more than the voucher says")
        db.execute(
            "UPDATE paid_channels SET charged = ?, receipt = ?, updated_at = ? WHERE channel = ?",
            (str(said.cumulative), json.dumps(signed.to_json()), self._now(), said.channel),
        )
        return row

    def _close(self, db: sqlite3.Connection, row: ChannelRow, credit: Credit | None) -> None:
        """`row` is the channel as it was before."""
        db.execute(
            "UPDATE paid_channels SET open = 0, reserved = '0', updated_at = ? WHERE channel = ?",
            (self._now(), row.channel),
        )
        if credit is not None:
            credit.give(row, self._known(row.channel).at_risk)


def _is_more(one: str, other: str) -> str:
    """SQL: whether an amount is above another one. Both are decimal text of any length."""
    return f"(length({one}), {one}) > (length({other}), {other})"


def _check_voucher(row: ChannelRow, voucher: SignedVoucher, needed: int) -> None:
    """PaymentUnfit unless a voucher covers `needed` and the deposit covers the voucher."""
    if voucher.amount < needed:
        raise PaymentUnfit(
            Fault.AMOUNT_MISMATCH, f"the voucher has to be at least {needed}; see channelState"
        )
    if voucher.amount > row.balance:
        raise PaymentUnfit(Fault.EXCEEDS_BALANCE, "the voucher is above the deposit; top it up")
    if voucher.amount <= row.total_claimed:
        raise PaymentUnfit(Fault.BELOW_CLAIMED, "the voucher is not above what was claimed")
