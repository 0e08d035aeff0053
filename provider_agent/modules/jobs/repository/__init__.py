# SPDX-License-Identifier: Apache-2.0
"""What the agent keeps of jobs: their rows, runs, quotes and specifications.

A run changes its state in `set_run_state` only, along the edges drawn in `rows`.
"""

from provider_agent.modules.jobs.repository.ending import Ending
from provider_agent.modules.jobs.repository.jobs import Jobs
from provider_agent.modules.jobs.repository.quotes import Quotes
from provider_agent.modules.jobs.repository.rows import (
    JobRow,
    JobUpdate,
    QuoteRow,
    RunRow,
    RunStage,
    RunUpdate,
    VerdictRow,
)
from provider_agent.modules.jobs.repository.runs import Runs
from provider_agent.modules.jobs.repository.specs import Specs

__all__ = [
    "JobRow",
    "JobUpdate",
    "JobsRepository",
    "QuoteRow",
    "RunRow",
    "RunStage",
    "RunUpdate",
    "VerdictRow",
]


class JobsRepository(Jobs, Quotes, Specs, Runs, Ending):
    """See the module. Safe to use from several threads."""
