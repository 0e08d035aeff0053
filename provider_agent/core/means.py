# SPDX-License-Identifier: Apache-2.0
"""What there is for the ledger to give: the machine's own, the provider's stake, its gas money."""

from __future__ import annotations

import os
from collections.abc import Callable

from provider_agent.core.capacity import Amounts, free_on, memory_there
from provider_agent.core.settings import Settings
from provider_agent.core.standing import Standing
from provider_agent.tx.reserve import GasReserve

_MIB = 1 << 20


class Means:
    """See the module. `gpus` is how many the machine has. Any thread may ask."""

    def __init__(
        self, settings: Settings, reserve: GasReserve, standing: Standing, gpus: Callable[[], int]
    ) -> None:
        self._settings, self._reserve = settings, reserve
        self._standing, self._gpus = standing, gpus

    def __call__(self) -> Amounts:
        """What is free now, without what the settings keep back."""
        agent, runner = self._settings.agent, self._settings.runner
        disk, provider = free_on(agent.data_dir), self._standing.provider
        return Amounts(
            slots=agent.slots,
            devices=self._gpus(),
            # Who promises jobs more cores than there are knows it.
            cpu=1_000 * max(len(os.sched_getaffinity(0)), agent.slots * runner.cpus),
            memory=max(0, memory_there() - runner.memory_reserve_mb * _MIB),
            disk=disk.disk - runner.disk_reserve_mb * _MIB,
            inodes=disk.inodes - runner.inode_reserve,
            collateral=0 if provider is None else provider.available,
            gas=self._reserve.jobs,
        )
