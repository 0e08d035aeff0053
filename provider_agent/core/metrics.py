# SPDX-License-Identifier: Apache-2.0
"""What the agent measures, in a Prometheus registry of its own.

No label may carry a secret: the listener is local by default, but series travel. RPC endpoints
appear by host, because their URLs often hold a key.
"""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

PREFIX = "teraproof_agent"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

TRANSACTION_EVENTS = ("sent", "mined", "failed", "abandoned")


class Metrics:
    """The agent's gauges and counters; one instance a process, safe to use from any thread."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.head_block = self.gauge("head_block", "Newest block seen on any endpoint.")
        self.pinned_block = self.gauge("pinned_block", "Block that the last cycle read.")
        self.lag_seconds = self.gauge("lag_seconds", "Age of the pinned block when it was read.")
        self.transactions = self.counter(
            "transactions", "Transactions, by what happened to them.", "event"
        )
        self.rpc_errors = self.counter(
            "rpc_errors", "Failed RPC requests, by host of the endpoint.", "endpoint"
        )
        self.rpc_requests = self.counter(
            "rpc_requests",
            "RPC requests, by host of the endpoint and by what came of them.",
            "endpoint",
            "outcome",
        )
        self.disk_free_bytes = self.gauge("disk_free_bytes", "Free bytes where the data lies.")
        self.reconcile_seconds = Histogram(
            f"{PREFIX}_reconcile_seconds",
            "Duration of a reconcile cycle.",
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
            registry=self.registry,
        )
        self.reconcile_failures = self.counter(
            "reconcile_failures", "Cycles that ended early with an error."
        )
        self.last_reconcile = self.gauge("last_reconcile_timestamp", "Unix time of the last one.")
        self.last_success = self.gauge(
            "last_success_timestamp",
            "Unix time at which a part of the cycle last went well.",
            "part",
        )
        self.failures = self.counter(
            "part_failures", "How often a part of the cycle ended early with an error.", "part"
        )
        self.hangs = self.counter("hangs", "How often the loop was found hanging.")
        self._checks = self.gauge(
            "check_ok", "1 while a line of the readiness report is well.", "check"
        )
        self.gas_balance = self.gauge("gas_balance_wei", "The operator's balance for gas.")
        self.http_requests = self.counter(
            "http_requests", "HTTP requests answered, by route and status.", "route", "status"
        )
        for event in TRANSACTION_EVENTS:
            # A series that exists from the start can be alerted on.
            self.transactions.labels(event)

    def gauge(self, name: str, text: str, *labels: str) -> Gauge:
        """A gauge of the agent, under its prefix."""
        return Gauge(f"{PREFIX}_{name}", text, labels, registry=self.registry)

    def counter(self, name: str, text: str, *labels: str) -> Counter:
        """A counter of the agent, under its prefix."""
        return Counter(f"{PREFIX}_{name}", text, labels, registry=self.registry)

    def went_well(self, part: str) -> None:
        """A part of the cycle, such as a module, has done what it owed."""
        self.last_success.labels(part).set_to_current_time()

    def failed(self, part: str) -> None:
        """A part of the cycle ended early with an error."""
        self.failures.labels(part).inc()

    def transaction(self, event: str) -> None:
        """Count one transaction event, one of TRANSACTION_EVENTS."""
        if event not in TRANSACTION_EVENTS:
            raise ValueError(f"unknown transaction event {event!r}")
        self.transactions.labels(event).inc()

    def set_checks(self, well: Mapping[str, bool]) -> None:
        """Whether each line of the readiness report is well, by its name."""
        replace_all(self._checks, well)

    def exposition(self) -> bytes:
        """All of it in Prometheus text format."""
        return generate_latest(self.registry)


def replace_all(gauge: Gauge, values: Mapping[str, int]) -> None:
    """Set a gauge with one label again; a label that is not named is gone."""
    gauge.clear()
    for label, value in values.items():
        gauge.labels(label).set(value)
