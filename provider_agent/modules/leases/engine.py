# SPDX-License-Identifier: Apache-2.0
"""The runner of leases that the settings ask for, and the stock that goes with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from provider_agent.core.capacity import Capacity
from provider_agent.core.fleet import Fleet
from provider_agent.core.settings import Settings
from provider_agent.errors import SettingsError
from provider_agent.modules.leases.fleet_stock import FleetStock, Machines
from provider_agent.modules.leases.settings import LeasesSettings
from provider_agent.modules.leases.stock import Stock
from provider_agent.runners.base import MIB
from provider_agent.runners.docker.runner import DockerRunner
from provider_agent.runners.lease import LeaseRunner

if TYPE_CHECKING:
    from provider_agent.runners.ray.runner import RayRunner


def make_lease_runner(settings: Settings, operator: str) -> LeaseRunner:
    """The runner of the settings. No other agent of the machine, or of the Ray cluster, has this
    operator. SettingsError where what it needs is not installed.
    """
    wanted = settings.section(LeasesSettings)
    if is_fleet(settings):
        return make_fleet_runner(settings, operator)
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


def is_fleet(settings: Settings) -> bool:
    """Whether leases run on other machines."""
    return settings.section(LeasesSettings).runner == "ray"


def make_fleet_runner(settings: Settings, operator: str) -> RayRunner:
    """The runner of a fleet: its machines get the settings of Docker."""
    wanted = settings.section(LeasesSettings)
    try:
        from provider_agent.runners.ray.cluster import Terms
        from provider_agent.runners.ray.runner import RayRunner
    except ImportError as error:
        raise SettingsError(
            f'leases.runner is "ray", and {error.name} is missing; install the extra `ray`'
        ) from None
    assert wanted.ray_token_file is not None  # the settings are checked
    terms = Terms(
        wanted.ray_address,
        wanted.ray_token_file,
        operator.lower(),
        wanted.ray_data_dir,
        node_port=wanted.ray_port,
        engine={
            "socket": str(wanted.docker_socket),
            "pool": wanted.addresses,
            "resolvers": list(wanted.resolvers),
            "image_bytes": wanted.image_mb * MIB,
            "pull_seconds": wanted.pull_seconds,
            "reserve": settings.runner.disk_reserve_mb * MIB,
        },
    )
    return RayRunner(settings.agent.data_dir, terms)


def challenger(settings: Settings, runner: LeaseRunner) -> Callable[[str], tuple[str, ...]]:
    """What starts the worker of a challenge, by the runner's name of a lease; () for here."""
    return cast("RayRunner", runner).challenger if is_fleet(settings) else lambda name: ()


def make_stock(settings: Settings, capacity: Capacity, fleet: Fleet, runner: LeaseRunner) -> Stock:
    """What is for rent: of this machine, or of the machines of a fleet."""
    wanted, slots = settings.section(LeasesSettings), settings.agent.slots
    if is_fleet(settings):
        machines = cast("Machines", runner)
        return FleetStock(wanted, settings.runner, slots, capacity, fleet, machines)
    return Stock(wanted, settings.runner, slots, capacity, fleet, runner.needs)
