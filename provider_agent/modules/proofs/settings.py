# SPDX-License-Identifier: Apache-2.0
"""How this machine proves its speed."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from provider_agent.core.settings import Section, Unit
from provider_agent.prover.engine import PATTERN


class BenchmarkSettings(Section):
    """How this machine proves its throughput to `chain.benchmark`."""

    enabled: bool = True
    """Prove in every window."""
    device: str = Field(default="cpu", pattern=PATTERN)
    """What computes: `cpu`, `numpy` (slow), `cuda`, `cuda:1`, several GPUs as one (`cuda:0,1`), or
    PyTorch (`torch:cuda`, `torch:xpu`, `torch:mps`, `torch:cpu`).
    """
    last_commits: Annotated[int, Unit("commits")] = Field(default=3, ge=1, le=16)
    """Commits in the last blocks of a window, one per block, each to more rounds. The last one that
    is mined in time counts. Each costs gas. Two early commits come in addition.
    """
    min_rounds: Annotated[int, Unit("rounds")] = Field(default=1, ge=1, le=1 << 24)
    """Fewer rounds than this are not committed."""
    openings_per_transaction: Annotated[int, Unit("samples")] = Field(default=8, ge=1, le=8)
    """Samples that one transaction opens."""
    with_jobs: bool = False
    """Prove while jobs run. Both get slower."""
    report_faults: bool = True
    """Report proofs of others that were committed and not opened."""
