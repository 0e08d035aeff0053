# SPDX-License-Identifier: Apache-2.0
"""How much of a fleet a lease can have. The offer of a fleet is the sum over its machines; one
lease has to fit one of them.
"""

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

    def covers(self, other: Room) -> bool:
        """Whether whatever fits the other fits this one."""
        return (
            self.cpu >= other.cpu
            and self.memory >= other.memory
            and self.disk >= other.disk
            and all(
                len(self.like(one)) >= len(other.like(one)) for one in dict.fromkeys(other.devices)
            )
        )

    def like(self, device: Device) -> list[Device]:
        """Its GPUs of the same name with at least as much memory."""
        return [
            one
            for one in self.devices
            if one.name == device.name and one.memory_bytes >= device.memory_bytes
        ]


@dataclass(frozen=True)
class Machine:
    """One machine of the fleet: all that it has for leases, and what of it is free now."""

    name: str
    there: Room
    free: Room


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


def largest(machines: Collection[Machine]) -> tuple[Room, ...]:
    """The free rooms that no other one covers. A lease that fits not one of them fits nowhere."""
    found: list[Room] = []
    for one in sorted(
        {machine.free for machine in machines},
        key=lambda room: (len(room.devices), room.memory, room.cpu, room.disk),
        reverse=True,
    ):
        if not any(other.covers(one) for other in found):
            found = [other for other in found if not one.covers(other)] + [one]
    return tuple(found)
