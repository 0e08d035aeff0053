# SPDX-License-Identifier: Apache-2.0
"""What there is to see of channels from outside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from provider_agent.core.metrics import Metrics


class ChainMetrics:
    """The gauges of what channels need of the chain. Amounts are in whole tokens."""

    def __init__(self, metrics: Metrics) -> None:
        gauge, counter = metrics.gauge, metrics.counter
        self._owed = gauge("channels_unclaimed", "Served on channels and not claimed, in tokens.")
        self._owing = gauge("channels_owing", "Channels on which something is not claimed.")
        self._due = gauge("channels_unsettled", "Claimed and not paid out, in tokens.")
        self._risk = gauge(
            "channels_at_risk", "Served or being served, and not claimed, in tokens."
        )
        self._most_risk = gauge("channels_at_risk_most", "The most that it may come to, in tokens.")
        self._leaving = gauge(
            "channels_leaving_unclaimed",
            "Not claimed on channels whose payers withdraw, in tokens.",
        )
        self._ends = gauge(
            "channels_withdrawal_ends_timestamp",
            "When the first withdrawal from a channel that owes can end, unix seconds; 0 without.",
        )
        self._waiting = gauge("channel_requests_waiting", "What waits for the chain.", "what")
        self._ended = counter(
            "channel_requests", "Deposits and refunds that have ended, by how.", "what", "outcome"
        )
        self._left_out = counter(
            "channel_claims_left_out", "Rows that were left out of a claim: they would fail it."
        )
        self._held = gauge(
            "channel_deposits_held",
            "1 while newcomers get no deposits: those of a day have not brought their gas.",
        )
        self._counted: Counter[tuple[str, str]] = Counter()
        self._out = 0

    def show_owed(self, owed: float, owing: int, due: float) -> None:
        """What is owed on channels, on how many, and what is not paid out."""
        self._owed.set(owed)
        self._owing.set(owing)
        self._due.set(due)

    def show_risk(self, at_risk: float, most: float) -> None:
        """What is served or being served, and the most that it may be."""
        self._risk.set(at_risk)
        self._most_risk.set(most)

    def show_leaving(self, owed: float, ends: int) -> None:
        """What is owed where payers withdraw, and when the first of them can end."""
        self._leaving.set(owed)
        self._ends.set(ends)

    def show_requests(
        self, waiting: Mapping[str, int], ended: Mapping[str, Mapping[str, int]], *, held: bool
    ) -> None:
        """Deposits and refunds; `ended` counts from the start of the process."""
        for what, number in waiting.items():
            self._waiting.labels(what).set(number)
        for what, outcomes in ended.items():
            for outcome, number in outcomes.items():
                more = number - self._counted[what, outcome]
                self._ended.labels(what, outcome).inc(more)
                self._counted[what, outcome] = number
        self._held.set(held)

    def show_left_out(self, number: int) -> None:
        """Bad rows since the start of the process."""
        self._left_out.inc(number - self._out)
        self._out = number
