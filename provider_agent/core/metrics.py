# SPDX-License-Identifier: Apache-2.0
"""What the agent measures, in a Prometheus registry of its own.

No label may carry a secret: the listener is local by default, but series travel. RPC endpoints
appear by host, because their URLs often hold a key.
"""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from provider_agent.modules.proofs.epochs import ProofReport

PREFIX = "teraproof_agent"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

TRANSACTION_EVENTS = ("sent", "mined", "failed", "abandoned")
PROOF_OUTCOMES = ("scored", "missed", "void", "unopened", "failed")


class Metrics:
    """The agent's gauges and counters; one instance a process, safe to use from any thread."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.head_block = self._gauge("head_block", "Newest block seen on any endpoint.")
        self.pinned_block = self._gauge("pinned_block", "Block that the last cycle read.")
        self.lag_seconds = self._gauge("lag_seconds", "Age of the pinned block when it was read.")
        self.jobs = self._gauge("jobs", "Jobs known, by status on chain.", "status")
        self.runs = self._gauge("runs", "Runs on this machine, by state.", "state")
        self.slots = self._gauge("slots", "Runs that may be active at once.")
        self.transactions = Counter(
            f"{PREFIX}_transactions",
            "Transactions, by what happened to them.",
            ["event"],
            registry=self.registry,
        )
        self.rpc_errors = Counter(
            f"{PREFIX}_rpc_errors",
            "Failed RPC requests, by host of the endpoint.",
            ["endpoint"],
            registry=self.registry,
        )
        self.rpc_requests = Counter(
            f"{PREFIX}_rpc_requests",
            "RPC requests, by host of the endpoint and by what came of them.",
            ["endpoint", "outcome"],
            registry=self.registry,
        )
        self.disk_free_bytes = self._gauge("disk_free_bytes", "Free bytes where the data lies.")
        self.input_bytes = self._gauge("input_bytes", "Bytes of job inputs kept.")
        self.reconcile_seconds = Histogram(
            f"{PREFIX}_reconcile_seconds",
            "Duration of a reconcile cycle.",
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
            registry=self.registry,
        )
        self.reconcile_failures = Counter(
            f"{PREFIX}_reconcile_failures",
            "Cycles that ended early with an error.",
            registry=self.registry,
        )
        self.last_reconcile = self._gauge("last_reconcile_timestamp", "Unix time of the last one.")
        self.gas_balance = self._gauge("gas_balance_wei", "The operator's balance for gas.")
        self.http_requests = Counter(
            f"{PREFIX}_http_requests",
            "HTTP requests answered, by route and status.",
            ["route", "status"],
            registry=self.registry,
        )
        self.proof_epoch = self._gauge("proof_epoch", "Newest epoch, -1 before the first.")
        self.proof_stage = self._gauge("proof_stage", "1 for the stage it is in.", "stage")
        self.proof_rounds = self._gauge("proof_rounds", "Rounds done in this epoch.")
        self.proof_committed_rounds = self._gauge("proof_committed_rounds", "Rounds committed to.")
        self.proof_paused = self._gauge("proof_paused", "1 while jobs keep the proof waiting.")
        self.proof_score = self._gauge(
            "proof_score", "Integer operations a second, proven and backed by stake."
        )
        self.proof_proven = self._gauge("proof_proven", "Integer operations a second, proven.")
        self.proofs = Counter(
            f"{PREFIX}_proofs",
            "Epochs, by how they ended.",
            ["outcome"],
            registry=self.registry,
        )
        self.rewards_unclaimed = self._gauge("rewards_unclaimed_tpf", "Reward not yet claimed.")
        for outcome in PROOF_OUTCOMES:
            self.proofs.labels(outcome)
        for event in TRANSACTION_EVENTS:
            # A series that exists from the start can be alerted on.
            self.transactions.labels(event)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"{PREFIX}_{name}", text, labels, registry=self.registry)

    def transaction(self, event: str) -> None:
        """Count one transaction event, one of TRANSACTION_EVENTS."""
        if event not in TRANSACTION_EVENTS:
            raise ValueError(f"unknown transaction event {event!r}")
        self.transactions.labels(event).inc()

    def proof(self, outcome: str) -> None:
        """Count one epoch, by one of PROOF_OUTCOMES."""
        if outcome not in PROOF_OUTCOMES:
            raise ValueError(f"unknown outcome {outcome!r}")
        self.proofs.labels(outcome).inc()

    def set_proof(self, report: ProofReport) -> None:
        """Set the gauges of the proof in this epoch anew."""
        self.proof_epoch.set(-1 if report.epoch is None else report.epoch)
        _replace(self.proof_stage, {report.stage: 1} if report.stage else {})
        self.proof_rounds.set(report.rounds)
        self.proof_committed_rounds.set(report.committed_rounds)
        self.proof_paused.set(report.paused)
        self.proof_score.set(report.score)
        self.proof_proven.set(report.proven)

    def set_jobs(self, by_status: Mapping[str, int]) -> None:
        """Set the jobs gauge anew; a status that is not named is gone."""
        _replace(self.jobs, by_status)

    def set_runs(self, by_state: Mapping[str, int]) -> None:
        """Set the runs gauge anew; a state that is not named is gone."""
        _replace(self.runs, by_state)

    def exposition(self) -> bytes:
        """All of it in Prometheus text format."""
        return generate_latest(self.registry)


def _replace(gauge: Gauge, values: Mapping[str, int]) -> None:
    gauge.clear()
    for label, value in values.items():
        gauge.labels(label).set(value)
