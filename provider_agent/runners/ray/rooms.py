# SPDX-License-Identifier: Apache-2.0
"""How much of a fleet a lease can have: it has to fit one machine."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from provider_agent.devices import Device
from provider_agent.runners.base import MIB
from provider_agent.runners.ray.node import DISK


@dataclass(frozen=True)
class Room:
    """Thousandths of processors, bytes of memory and disk, and GPUs of one machine."""

    cpu: int
    memory: int
    disk: int
    devices: tuple[Device, ...]


@dataclass(frozen=True)
class Machine:
    """One machine of the fleet: all that it has for leases, what of it is free now, and what the
    leases of this agent may have of it together.
    """

    name: str
    there: Room
    free: Room
    ours: Room


def room(resources: Mapping[str, float] | None, devices: Collection[Device]) -> Room:
    """A room, of Ray's resources by name and of the GPUs that the machine itself sees."""
    found = resources or {}
    return Room(
        cpu=int(found.get("CPU", 0) * 1000),
        memory=int(found.get("memory", 0)),
        disk=int(found.get(DISK, 0)) * MIB,
        # Ray may know of fewer GPUs than there are.
        devices=tuple(devices)[: int(found.get("GPU", 0))],
    )


def machine_of(
    name: str,
    there: Mapping[str, float] | None,
    free: Mapping[str, float] | None,
    held: Collection[Mapping[str, float]],
    images: int,
    here: Collection[Device],
    unbound: Collection[Device],
) -> Machine:
    """A machine, by Ray's resources, those that this agent's leases hold, the bytes of their
    images, and the GPUs that the machine sees, all and those that no lease has.

    Ray says a moment late what is free. What others of the cluster hold stays theirs.
    """
    whole, rest = room(there, here), room(free, unbound)
    mine = [room(one, ()) for one in held]
    disk = min(whole.disk, rest.disk + sum(one.disk for one in mine))
    ours = Room(
        cpu=min(whole.cpu, rest.cpu + sum(one.cpu for one in mine)),
        memory=min(whole.memory, rest.memory + sum(one.memory for one in mine)),
        disk=max(0, disk - images),
        devices=whole.devices,
    )
    return Machine(name, whole, rest, ours)
