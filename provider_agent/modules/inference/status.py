# SPDX-License-Identifier: Apache-2.0
"""The channels as `provider-agent status` shows them."""

from __future__ import annotations

from provider_agent.core.module import Table, short_id
from provider_agent.core.pay import Pay
from provider_agent.modules.inference.claim_book import ClaimBook
from provider_agent.modules.inference.credit import Bounds
from provider_agent.modules.inference.rows import ChannelRow
from provider_agent.store import Store
from teraproof.amounts import show_date

_ROWS = 20


def channels_status(store: Store, module: str) -> list[str | Table]:
    """What is owed in total, and the channels that owe most; nothing before the first request."""
    pay, book = Pay.kept(store, module), ClaimBook(store)
    if pay is None:
        return []
    owed, owing = book.owed()
    line = f"Channels: {pay.show(owed)} served and not claimed, on {owing}"
    line += _risk(book.at_risk(), Bounds.kept(store), pay)
    rows = [
        (
            short_id(row.channel),
            row.config.payer,
            pay.show(row.balance),
            pay.show(row.charged),
            pay.show(row.unclaimed),
            _note(row),
        )
        for row in book.unclaimed(_ROWS)
    ]
    columns = ("Channel", "Payer", "Deposit", "Charged", "Not claimed", "Note")
    return [line, Table("Channels that owe", columns, rows)] if rows else [line]


def _risk(at_risk: dict[str, int], bounds: Bounds | None, pay: Pay) -> str:
    """What is at risk with the requests that run, and what may be."""
    if bounds is None:
        return ""
    total, most = sum(at_risk.values()), max(at_risk.values(), default=0)
    return (
        f"; at risk: {pay.show(total)} of at most {pay.show(bounds.total)}, of one payer "
        f"{pay.show(most)} of {pay.show(bounds.payer)}"
    )


def _note(row: ChannelRow) -> str:
    if row.withdraw_requested_at:
        end = row.withdraw_requested_at + row.config.withdraw_delay
        return f"its payer withdraws, not before {show_date(end)}"
    return "a request runs" if row.is_open else ""
