# SPDX-License-Identifier: Apache-2.0
"""What there is to see of leases from outside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from provider_agent.core.metrics import Metrics, replace_all
from provider_agent.modules.leases.repository import LeaseRow
from teraproof.protocol.errors import Code
from teraproof.protocol.lease_terms import LeaseStatus

_STATES = ("assigned", "active", "suspended")


class LeaseMetrics:
    """The gauges of the module."""

    def __init__(self, metrics: Metrics) -> None:
        gauge = metrics.gauge
        self._leases = gauge("leases", "Leases of this provider, by how they stand.", "state")
        self._quotes = gauge("lease_quotes", "Quotes for leases that can still be used.")
        self._down = gauge("leases_down", "Leases that are paid for and do not run now.")
        self._late = gauge("leases_late", "Leases that were not ready in time.")
        self._heard = gauge(
            "lease_heartbeat_timestamp",
            "When the chain has last heard of this provider, unix seconds; 0 for never.",
        )
        self._engine = gauge("lease_engine_up", "1 while the container engine answers.")

    def show(
        self, rows: Sequence[LeaseRow], up: set[str], quotes: int, last: int, *, engine: bool
    ) -> None:
        """Set them. `up` are the leases that run."""
        found = Counter(
            "suspended" if row.marks.suspended_at else row.status.name.lower() for row in rows
        )
        replace_all(self._leases, {state: found[state] for state in _STATES})
        paid = [row for row in rows if row.status is LeaseStatus.ACTIVE]
        self._down.set(sum(not row.marks.suspended_at and row.name not in up for row in paid))
        self._late.set(sum(row.code is Code.DEADLINE_MISSED for row in rows))
        self._quotes.set(quotes)
        self._heard.set(last)
        self._engine.set(engine)
