# SPDX-License-Identifier: Apache-2.0
"""Whether a job that is accepted now would be delivered: what every agent looks at."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence

from provider_agent.core.health import Check, Health
from provider_agent.core.loop import Loop
from provider_agent.core.module import Context, Module
from provider_agent.core.watch import Watch
from teraproof.errors import counted

_LEAST_FREE = 1 << 30  # bytes of disk


def health_of(context: Context, modules: Sequence[Module], loop: Loop, watch: Watch) -> Health:
    """Health and readiness of an agent with these modules."""
    data = context.settings.agent.data_dir
    standing, reserve = context.standing, context.sender.reserve

    def disk() -> Check:
        free = shutil.disk_usage(data).free
        return Check("disk", free > _LEAST_FREE, f"{free >> 30} GiB free")

    def registered() -> Check:
        provider = standing.provider
        ours = provider is not None and provider.operator_is_ours
        return Check("registered", ours, "" if ours else "the operator works for no provider yet")

    def gas() -> Check:
        return Check("gas", reserve.jobs > 0, f"enough for {counted(reserve.jobs, 'job')}")

    return Health(
        lambda: loop.last_cycle,
        max_age=loop.max_age,
        clock=time.time,
        checks=[
            disk,
            registered,
            gas,
            *(check for module in modules for check in module.ready()),
        ],
        parts=loop.checks,
        moves=lambda: watch.moves,
    )
