# SPDX-License-Identifier: Apache-2.0
"""What of the channel book is claimed, and in which transactions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from provider_agent.modules.inference.rows import ChannelRow
from provider_agent.store import IntentKey, Repository
from teraproof.protocol.channels import VoucherClaim

#: The contract's part in the keys of intents.
CONTRACT = "channels"
#: The action of a transaction that claims.
CLAIM = "claim"
# In the store's meta.
_LAST, _SINCE = "inference.last_claim", "inference.claimed_at"
_RECEIVERS = "inference.receivers"
_OWED = "CAST(charged AS REAL) - CAST(total_claimed AS REAL)"  # good enough to sort by
# The same as far as it is in the channel: what is lost must not stand in front of the rest.
_BRINGS = "min(CAST(charged AS REAL), CAST(balance AS REAL)) - CAST(total_claimed AS REAL)"
# Of the address that may claim: the fourth of a configuration, ABI-encoded.
_AUTHORIZER = "substr(config, 109, 20)"


def claim_key(number: int) -> IntentKey:
    """The key of the intent of a batch."""
    return IntentKey(CONTRACT, f"claims-{number}", CLAIM)


def claim_of(row: ChannelRow) -> VoucherClaim:
    """A row of a claim: all that was served on a channel and is left in it (I-9)."""
    return VoucherClaim(row.config, row.voucher, row.signature, min(row.charged, row.balance))


def brings(row: ChannelRow) -> int:
    """Units of the token that a claim of the channel brings now."""
    return max(0, min(row.charged, row.balance) - row.total_claimed)


def _may(operator: str | None) -> str:
    return "" if operator is None else f"AND {_AUTHORIZER} = ?"


def _named(operator: str | None) -> tuple[bytes, ...]:
    return () if operator is None else (bytes.fromhex(operator[2:]),)


class ClaimBook(Repository):
    """See the module. Used by the loop's thread."""

    def unclaimed(self, limit: int, operator: str | None = None) -> list[ChannelRow]:
        """The channels whose claim brings most, the most first; with `operator` those that it can
        claim.
        """
        return self._owing(_may(operator), f"{_BRINGS} DESC", limit, *_named(operator))

    def left(self, limit: int, least: int = 0, operator: str | None = None) -> list[ChannelRow]:
        """The same whose payers withdraw and whose claims bring more than `least` units, the first
        to end first. Others never end by a claim, and must not stand in front.
        """
        those = f"AND withdraw_requested_at <> 0 AND {_BRINGS} > ? {_may(operator)}"
        found: tuple[float | bytes, ...] = (float(least), *_named(operator))
        return self._owing(those, "withdraw_requested_at", limit, *found)

    def _owing(self, those: str, order: str, limit: int, *bound: float | bytes) -> list[ChannelRow]:
        query = (
            f"SELECT * FROM paid_channels WHERE charged <> total_claimed {those} "  # noqa: S608 - ours
            f"ORDER BY {order} LIMIT ?"
        )
        rows = [ChannelRow.read(row) for row in self._db().execute(query, (*bound, limit))]
        return [row for row in rows if brings(row)]

    def at_risk(self) -> dict[str, int]:
        """Units of each payer that are served or being served, not claimed, and in its channels.

        What a payer has taken back before the claim is lost. Nothing is at risk there any more, and
        it must not keep everybody else from being served.
        """
        query = (
            "SELECT payer, sum(max(0.0, min(CAST(charged AS REAL) + CAST(reserved AS REAL), "
            "CAST(balance AS REAL)) - CAST(total_claimed AS REAL))) FROM paid_channels "
            "WHERE charged <> total_claimed OR open = 1 GROUP BY payer"
        )
        return {str(payer): max(0, int(units)) for payer, units in self._db().execute(query)}

    def of_others(self, operator: str) -> tuple[int, int]:
        """What channels owe that name another operator: units that a claim brings, and how many."""
        rows = [
            row
            for row in self._owing("", _OWED, -1)
            if int(row.config.receiver_authorizer, 16) != int(operator, 16)
        ]
        return sum(map(brings, rows)), len(rows)

    def owed(self) -> tuple[int, int]:
        """What all channels owe together, in units, and how many owe."""
        query = f"SELECT sum({_OWED}), count(*) FROM paid_channels WHERE charged <> total_claimed"  # noqa: S608 - ours
        row = self._db().execute(query).fetchone()
        return int(row[0] or 0), int(row[1])

    def unseen(self, below: int, limit: int) -> list[ChannelRow]:
        """The channels with money in them that were last looked at below a block, oldest first."""
        query = (
            "SELECT * FROM paid_channels WHERE seen_block < ? "
            "AND (balance <> total_claimed OR charged <> total_claimed) ORDER BY seen_block LIMIT ?"
        )
        return [ChannelRow.read(row) for row in self._db().execute(query, (below, limit))]

    def receivers(self) -> set[str]:
        """Everybody for whom was claimed."""
        return set(json.loads(self.core.meta(_RECEIVERS) or "[]"))

    def keep_receivers(self, receivers: Iterable[str]) -> None:
        """Note for whom is claimed."""
        known = self.receivers()
        more = known.union(receivers)
        if more != known:
            self.core.set_meta(_RECEIVERS, json.dumps(sorted(more)))

    # ------------------------------------------------------------------ batches

    def add(self, rows: Sequence[ChannelRow]) -> int:
        """Note a batch; its number, which no batch had before. Call in the transaction that writes
        its intent.
        """
        with self.transaction() as db:
            number = int(self.core.meta(_LAST) or 0) + 1
            self.core.set_meta(_LAST, str(number))
            self.core.set_meta(_SINCE, str(self._now()))
            self.keep_receivers(row.config.receiver for row in rows)
            db.executemany(
                "INSERT INTO channel_claims VALUES (?, ?, ?, ?)",
                [
                    (number, row.channel, str(claim_of(row).total_claimed), self._now())
                    for row in rows
                ],
            )
        return number

    def batches(self) -> dict[int, list[bytes]]:
        """The channels of each batch that is kept."""
        found: dict[int, list[bytes]] = {}
        for number, channel in self._db().execute("SELECT number, channel FROM channel_claims"):
            found.setdefault(int(number), []).append(bytes(channel))
        return found

    def forget(self, number: int) -> None:
        """Drop a batch; its channels say what was claimed."""
        with self.transaction() as db:
            db.execute("DELETE FROM channel_claims WHERE number = ?", (number,))

    def waited(self) -> int:
        """Seconds since the last batch, or since this was asked first."""
        since = self.core.meta(_SINCE)
        if since is None:
            self.core.set_meta(_SINCE, str(self._now()))
            return 0
        return max(0, self._now() - int(since))
