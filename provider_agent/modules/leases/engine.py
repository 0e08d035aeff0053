# SPDX-License-Identifier: Apache-2.0
"""The runner of leases that the settings ask for."""

from __future__ import annotations

from provider_agent.core.settings import Settings
from provider_agent.modules.leases.settings import LeasesSettings
from provider_agent.runners.base import MIB
from provider_agent.runners.docker.runner import DockerRunner
from provider_agent.runners.lease import LeaseRunner


def make_lease_runner(settings: Settings, operator: str) -> LeaseRunner:
    """The runner of the settings. No other agent of the machine has this operator."""
    wanted = settings.section(LeasesSettings)
    return DockerRunner(
        settings.agent.data_dir / "containers",
        operator.lower(),
        socket=wanted.docker_socket,
        pool=wanted.addresses,
        resolvers=wanted.resolvers,
        image_bytes=wanted.image_mb * MIB,
        pull_seconds=wanted.pull_seconds,
        reserve=settings.runner.disk_reserve_mb * MIB,
    )
