# SPDX-License-Identifier: Apache-2.0
"""What is measured of jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from provider_agent.core.metrics import Metrics, replace_all
from provider_agent.modules.jobs.book import decode_terms
from provider_agent.modules.jobs.repository import JobRow


class JobMetrics:
    """Gauges of jobs, runs and inputs."""

    def __init__(self, metrics: Metrics) -> None:
        self._jobs = metrics.gauge("jobs", "Jobs known, by status on chain.", "status")
        self._runs = metrics.gauge("runs", "Runs on this machine, by state.", "state")
        self.slots = metrics.gauge("slots", "Runs that may be active at once.")
        self._owed = metrics.gauge("owed_jobs", "Jobs of ours that have to be attested.")
        self._expired = metrics.gauge(
            "expired_jobs", "Jobs of ours that expired within about the last hour."
        )
        self._next_deadline = metrics.gauge(
            "next_deadline_timestamp", "Unix time of the first deadline of what is owed, 0 if none."
        )
        self.input_bytes = metrics.gauge("input_bytes", "Bytes of job inputs kept.")

    def set_jobs(self, by_status: Mapping[str, int]) -> None:
        """Set the jobs gauge again; a status that is not named is gone."""
        replace_all(self._jobs, by_status)

    def set_runs(self, by_state: Mapping[str, int]) -> None:
        """Set the runs gauge again; a state that is not named is gone."""
        replace_all(self._runs, by_state)

    def set_own(self, assigned: Sequence[JobRow], expired: int) -> None:
        """Set the gauges of our own jobs: those assigned to us, and how many expired lately."""
        deadlines = [
            decode_terms(job.terms).deadline(job.assigned_at)
            for job in assigned
            if job.assigned_at is not None
        ]
        self._owed.set(len(assigned))
        self._next_deadline.set(min(deadlines, default=0))
        self._expired.set(expired)
