# SPDX-License-Identifier: Apache-2.0
"""The leases as `provider-agent status` shows them."""

from __future__ import annotations

from provider_agent.core.module import Table, short_id
from provider_agent.core.pay import Pay
from provider_agent.modules.leases.repository import LIVE, LeaseRow, LeasesRepository
from provider_agent.modules.leases.stock import MODULE
from teraproof.amounts import show_date
from teraproof.protocol.lease_terms import LeaseStatus

_ROWS = 50


def leases_table(store: LeasesRepository) -> Table:
    """The newest ones, those first that have not ended."""
    pay = Pay.kept(store.core, MODULE) or Pay(0, "")
    rows = [
        (
            short_id(row.lease_id),
            _state(row),
            row.requester,
            pay.show(row.rate * 3_600) if row.status in LIVE else "",
            show_date(row.ends_at) if row.status is LeaseStatus.ACTIVE else "",
            pay.show(row.rate * row.seconds) if row.status in LIVE else "",
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
