# SPDX-License-Identifier: Apache-2.0
"""What the agent does, in the order in which a cycle does it: where a bond is at stake first."""

from __future__ import annotations

from provider_agent.core.module import Module
from provider_agent.modules.jobs.module import JobsModule
from provider_agent.modules.proofs.module import ProofsModule
from provider_agent.modules.rewards.module import RewardsModule

MODULES: tuple[type[Module], ...] = (ProofsModule, JobsModule, RewardsModule)
