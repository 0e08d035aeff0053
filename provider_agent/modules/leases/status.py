# SPDX-License-Identifier: Apache-2.0
"""The leases as `provider-agent status` shows them."""

from __future__ import annotations

from provider_agent.core.module import Table, short_id
from provider_agent.modules.leases.repository import LIVE, LeaseRow, LeasesRepository
from teraproof.amounts import show_date, show_units
from teraproof.protocol.lease_terms import LeaseStatus

PAY_DECIMALS, PAY_SYMBOL = "leases.pay_decimals", "leases.pay_symbol"
_ROWS = 50


def leases_table(store: LeasesRepository) -> Table:
    """The newest ones, those first that have not ended."""
    decimals = int(store.core.meta(PAY_DECIMALS) or 0)
    symbol = store.core.meta(PAY_SYMBOL) or ""
    rows = [
        (
            short_id(row.lease_id),
            _state(row),
            row.requester,
            show_units(row.rate * 3_600, decimals, symbol) if row.status in LIVE else "",
            show_date(row.ends_at) if row.status is LeaseStatus.ACTIVE else "",
            show_units(row.rate * row.seconds, decimals, symbol) if row.status in LIVE else "",
            row.note,
        )
        for row in store.shown(_ROWS)
    ]
    columns = ("Lease", "State", "Tenant", "Per hour", "Ends", "Rent so far", "Note")
    return Table("Leases", columns, rows)


def _state(row: LeaseRow) -> str:
    if row.status is LeaseStatus.NONE:
        return "ended" if row.outcome is None else row.outcome.value.replace("_", " ")
    return "suspended" if row.marks.suspended_at else row.status.name.lower()
