# SPDX-License-Identifier: Apache-2.0
"""What is measured of proofs."""

from __future__ import annotations

from provider_agent.core.metrics import Metrics, replace_all
from provider_agent.modules.proofs.epochs import ProofReport

PROOF_OUTCOMES = ("scored", "missed", "void", "unopened", "failed")


class ProofMetrics:
    """Gauges of the proof in this epoch, and how past ones ended."""

    def __init__(self, metrics: Metrics) -> None:
        gauge = metrics.gauge
        self._epoch = gauge("proof_epoch", "Newest epoch, -1 before the first.")
        self._stage = gauge("proof_stage", "1 for the stage it is in.", "stage")
        self._rounds = gauge("proof_rounds", "Rounds done in this epoch.")
        self._committed_rounds = gauge("proof_committed_rounds", "Rounds committed to.")
        self._samples = gauge("proof_samples", "Samples that a commitment of ours has to open.")
        self._verified = gauge("proof_verified_samples", "Samples of ours that are opened.")
        self._ends = gauge(
            "proof_ends_timestamp", "Unix time until which this epoch's samples can be opened."
        )
        self._paused = gauge("proof_paused", "1 while jobs keep the proof waiting.")
        self._score = gauge(
            "proof_score", "Integer operations per second, proven and backed by stake."
        )
        self._proven = gauge("proof_proven", "Integer operations per second, proven.")
        self._proofs = metrics.counter("proofs", "Epochs, by how they ended.", "outcome")
        for outcome in PROOF_OUTCOMES:
            # A series that exists from the start can be alerted on.
            self._proofs.labels(outcome)

    def ended(self, outcome: str) -> None:
        """Count one epoch, by one of PROOF_OUTCOMES."""
        if outcome not in PROOF_OUTCOMES:
            raise ValueError(f"unknown outcome {outcome!r}")
        self._proofs.labels(outcome).inc()

    def set(self, report: ProofReport) -> None:
        """Set the gauges of the proof in this epoch again."""
        self._epoch.set(-1 if report.epoch is None else report.epoch)
        replace_all(self._stage, {report.stage: 1} if report.stage else {})
        self._rounds.set(report.rounds)
        self._committed_rounds.set(report.committed_rounds)
        self._samples.set(report.samples if report.committed_rounds else 0)
        self._verified.set(report.verified)
        self._ends.set(report.ends_at)
        self._paused.set(report.paused)
        self._score.set(report.score)
        self._proven.set(report.proven)
