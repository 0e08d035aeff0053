# SPDX-License-Identifier: Apache-2.0
"""How much of a fleet a lease can have: it has to fit one machine."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from provider_agent.devices import Device
from provider_agent.runners.base import MIB
from provider_agent.runners.lease import ImageRoom
from provider_agent.runners.ray.node import DISK


@dataclass(frozen=True)
class Room:
    """Thousandths of processors, bytes of memory and disk, and GPUs of one machine."""

    cpu: int
    memory: int
    disk: int
    devices: tuple[Device, ...]


@dataclass(frozen=True)
class Disk:
    """The disk of a machine: bytes that are free, and those that its leases have allocated; how
    many files it can have yet.
    """

    free: int
    taken: int
    inodes: int


@dataclass(frozen=True)
class Machine:
    """One machine of the fleet: all that it has for leases, what of it is free now, and what the
    leases of this agent may have of it together. `coming` are bytes that fetches of images under
    way may still take of that, and `inodes` files that it can have yet.
    """

    name: str
    there: Room
    free: Room
    ours: Room
    coming: int
    inodes: int


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
    images: ImageRoom,
    real: Disk,
    here: Collection[Device],
    unbound: Collection[Device],
) -> Machine:
    """A machine, by Ray's resources, those that this agent's leases hold, what images take of its
    disk, how that disk really is, and the GPUs that it sees, all and those that no lease has.

    Ray says a moment late what is free. What others of the cluster hold stays theirs. Of a disk
    there is no more than it really has, whatever its owner has told Ray.
    """
    whole, rest = room(there, here), room(free, unbound)
    mine = [room(one, ()) for one in held]
    disk = min(whole.disk, rest.disk + sum(one.disk for one in mine))
    ours = Room(
        cpu=min(whole.cpu, rest.cpu + sum(one.cpu for one in mine)),
        memory=min(whole.memory, rest.memory + sum(one.memory for one in mine)),
        disk=max(0, min(disk - images.held, real.free + real.taken + images.idle)),
        devices=whole.devices,
    )
    return Machine(name, whole, rest, ours, images.expected, real.inodes)
