# SPDX-License-Identifier: Apache-2.0
"""One heartbeat for all leases of the provider, and none while nothing runs.

The contract pays at most MAX_GAP after the last one, so one is sent well before that. While all
leases are down none is: what does not run is not paid. A provider whose leases are all suspended is
heard of now and then, for silence counts as leaving.
"""

from __future__ import annotations

from collections.abc import Sequence

from provider_agent.core.attempts import Attempts
from provider_agent.modules.leases.chain_view import LeaseView, Standing
from provider_agent.modules.leases.machine import Machine
from provider_agent.modules.leases.repository import LeaseRow
from teraproof.contracts.leases import LeasesContract
from teraproof.protocol.lease_terms import LeaseStatus
from teraproof.rpc.types import BlockRef

HEARTBEAT = "heartbeat"


class Heart:
    """See the module. Used by the loop's thread."""

    def __init__(
        self, leases: LeasesContract, view: LeaseView, machine: Machine, attempts: Attempts
    ) -> None:
        self._leases, self._view, self._machine = leases, view, machine
        self._attempts = attempts
        #: When the provider was last heard of on chain, unix seconds; 0 for never.
        self.last = 0
        #: Until when what it is paid for is paid without another heartbeat; 0 while it is not paid.
        self.due = 0
        #: After when anyone can accuse it of having left; 0 without an active lease.
        self.silent_until = 0

    def beat(self, rows: Sequence[LeaseRow], block: BlockRef, standing: Standing) -> None:
        """Have a heartbeat sent if one is due. Raises ChainError."""
        active = [
            row
            for row in rows
            if row.status is LeaseStatus.ACTIVE and block.timestamp <= row.ends_at
        ]
        self.due = self.silent_until = 0
        if not active or not standing.number:
            return
        self.last = self._view.pulse(standing.owner).last
        silent = block.timestamp - self.last
        paid = [row for row in active if not row.marks.suspended_at]
        runs = any(self._machine.is_up(row.name) for row in paid)
        self.due = self.last + standing.max_gap if paid else 0
        self.silent_until = self.last + standing.abandon
        if silent >= (period(standing) if runs else standing.abandon // 2):
            # Named by the last one: however often it is asked for, one is sent.
            self._attempts.begin(
                f"{standing.number}-{self.last}",
                HEARTBEAT,
                self._leases.heartbeat(standing.number),
            )


def period(standing: Standing) -> int:
    """Seconds between two heartbeats."""
    return max(1, standing.max_gap * 2 // 3)
