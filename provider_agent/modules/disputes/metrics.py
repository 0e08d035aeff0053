# SPDX-License-Identifier: Apache-2.0
"""What there is to see of a juror from outside."""

from __future__ import annotations

from provider_agent.core.metrics import Metrics
from provider_agent.modules.disputes.duty import DisputesDuty
from provider_agent.modules.disputes.seats import Seats
from teraproof.amounts import TPF_DECIMALS


class DisputesMetrics:
    """The gauges of the module."""

    def __init__(self, metrics: Metrics) -> None:
        gauge = metrics.gauge
        self._seats = gauge("juror_seats", "Seats as a juror, all capabilities.")
        self._busy = gauge("disputes_busy", "Disputes that wait for this agent.")
        self._commit = gauge(
            "juror_commit_due_timestamp",
            "When half of the time for a vote that is missing is over, unix seconds; 0 for none.",
        )
        self._reveal = gauge(
            "juror_reveal_due_timestamp",
            "When half of the time to show a vote is over, unix seconds; 0 for none.",
        )
        self._fined = gauge("juror_fined_tpf", "Stake burned as fines since the agent's start.")
        self._term = gauge(
            "juror_term_ends_timestamp",
            "When the first of its seats can be drawn no more, unix seconds; 0 without seats.",
        )

    def show(self, seats: Seats, duty: DisputesDuty) -> None:
        """Set them."""
        self._seats.set(sum(seats.held.values()))
        self._busy.set(duty.busy)
        self._commit.set(duty.commit_due)
        self._reveal.set(duty.reveal_due)
        self._fined.set(seats.fined / 10**TPF_DECIMALS)
        self._term.set(min(seats.ends.values(), default=0))
