# SPDX-License-Identifier: Apache-2.0
"""What the agent does, in the order in which a cycle does it: where a bond is at stake first."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from provider_agent.core.module import Module
from provider_agent.modules.disputes.module import DisputesModule
from provider_agent.modules.inference.module import InferenceModule
from provider_agent.modules.jobs.module import JobsModule
from provider_agent.modules.leases.module import LeasesModule
from provider_agent.modules.proofs.module import ProofsModule
from provider_agent.modules.rewards.module import RewardsModule
from provider_agent.store import Store
from provider_agent.store.tables import Tables

MODULES: tuple[type[Module], ...] = (
    ProofsModule,
    LeasesModule,
    JobsModule,
    DisputesModule,
    InferenceModule,
    RewardsModule,
)


def tables_of(modules: Sequence[type[Module]] = MODULES) -> tuple[Tables, ...]:
    """What modules keep in the database."""
    return tuple(module.tables for module in modules if module.tables is not None)


def kept_by(modules: Sequence[type[Module]] = MODULES) -> tuple[str, ...]:
    """Directories of modules that a backup must hold."""
    return tuple(name for module in modules for name in module.kept)


def open_store(
    path: Path,
    clock: Callable[[], float] = time.time,
    *,
    owner: bool = True,
    modules: Sequence[type[Module]] = MODULES,
) -> Store:
    """The agent's database with the tables of its modules. Raises StoreError."""
    return Store(path, clock, owner=owner, tables=tables_of(modules))
