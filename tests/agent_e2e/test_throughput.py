# SPDX-License-Identifier: Apache-2.0
"""Many jobs at once to one agent: the benchmark on a small scale."""

from __future__ import annotations

from pathlib import Path

from benchmarks.throughput import bars, measure

JOBS = 12


def test_many_jobs_at_once__all_settled_with_three_transactions_each(tmp_path: Path) -> None:
    figures = measure(tmp_path, JOBS, 4)

    assert figures.settled == JOBS
    assert len(figures.accepted_at) == len(figures.attested_at) == JOBS
    assert figures.transactions == 3 * JOBS
    assert 20 < figures.agent_peak_memory_mb < 300
    assert bars(figures)[-1].endswith("#" * 40)
