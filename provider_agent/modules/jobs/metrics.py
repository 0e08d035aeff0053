# SPDX-License-Identifier: Apache-2.0
"""What is measured of jobs."""

from __future__ import annotations

from collections.abc import Mapping

from provider_agent.core.metrics import Metrics, replace_all


class JobMetrics:
    """Gauges of jobs, runs and inputs."""

    def __init__(self, metrics: Metrics) -> None:
        self._jobs = metrics.gauge("jobs", "Jobs known, by status on chain.", "status")
        self._runs = metrics.gauge("runs", "Runs on this machine, by state.", "state")
        self.slots = metrics.gauge("slots", "Runs that may be active at once.")
        self.input_bytes = metrics.gauge("input_bytes", "Bytes of job inputs kept.")

    def set_jobs(self, by_status: Mapping[str, int]) -> None:
        """Set the jobs gauge again; a status that is not named is gone."""
        replace_all(self._jobs, by_status)

    def set_runs(self, by_state: Mapping[str, int]) -> None:
        """Set the runs gauge again; a state that is not named is gone."""
        replace_all(self._runs, by_state)
