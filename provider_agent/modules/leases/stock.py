# SPDX-License-Identifier: Apache-2.0
"""What this machine has for leases, and what of it is free: the ledger and the settings together.

A GPU is for rent when its model has a price. It is chosen when a lease is promised, by name, so
that no two promises count on the same one.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from provider_agent.core.capacity import Amounts, Capacity, Key, Kind, Resource
from provider_agent.core.fleet import Fleet
from provider_agent.core.settings import RunnerSettings
from provider_agent.devices import Device
from provider_agent.modules.leases.settings import LeasesSettings
from provider_agent.runners.base import MIB
from provider_agent.runners.disk import Taken
from provider_agent.runners.lease import Lease
from provider_agent.runners.lease_spec import lease_of
from teraproof.protocol.lease_offer import Capacity as Goods
from teraproof.protocol.lease_offer import Machine, fits_any
from teraproof.protocol.leasespec import Gpu, LeaseSpec, Service

_GIB = 1 << 30
MODULE = "leases"
_ARCHES = {"x86_64": "amd64", "aarch64": "arm64"}
_NOWHERE = "registry.invalid/none@sha256:" + "0" * 64  # stands for an image in arithmetic

Chosen = Mapping[str, tuple[Device, ...]]
"""GPUs by service, of all its containers together."""


@dataclass(frozen=True)
class Promised:
    """A lease that is promised. `devices` are its GPUs by service, and `name` is what the runner
    calls it; "" for a quote.
    """

    spec: LeaseSpec
    devices: Mapping[str, Iterable[str]]
    name: str = ""


class Stock:
    """See the module. Asked from any thread. `needs` is the runner's."""

    def __init__(
        self,
        settings: LeasesSettings,
        runner: RunnerSettings,
        slots: int,
        capacity: Capacity,
        fleet: Fleet,
        needs: Callable[[Lease], Taken],
    ) -> None:
        self._settings, self._capacity, self._fleet = settings, capacity, fleet
        self._needs = needs
        self._held: Callable[[], Collection[str]] = frozenset
        self._ports: Callable[[], int] = lambda: 0
        cores = len(os.sched_getaffinity(0)) - slots * runner.cpus
        self._cores = max(0, cores) if settings.cpus is None else settings.cpus

    @property
    def arch(self) -> str:
        """The machine's, as images name it."""
        return _ARCHES.get(platform.machine(), "amd64")

    # ------------------------------------------------------------------ what there is

    @property
    def is_known(self) -> bool:
        """Whether it is known what there is."""
        return True

    def total(self) -> Goods:
        """All that leases may have together."""
        there = self._capacity.total()
        return Goods(
            cpu_millis=min(1_000 * self._cores, there.cpu),
            memory_bytes=_least(there.memory, self._settings.memory_mb),
            disk_bytes=_least(there.disk, self._settings.disk_mb),
            gpus=tuple(sort for _, sort in self.for_rent(self._fleet.usable)),
        )

    def free(self) -> Goods:
        """What of it nobody has."""
        total, mine = self.total(), self._promised()
        left = self._capacity.left
        devices = self._fleet.free((), MODULE) if total.gpus else ()
        held = self._held()
        return Goods(
            cpu_millis=_rest(total.cpu_millis, mine.cpu, left(Resource.CPU)),
            memory_bytes=_rest(total.memory_bytes, mine.memory, left(Resource.MEMORY)),
            disk_bytes=_rest(total.disk_bytes, mine.disk, left(Resource.DISK)),
            gpus=tuple(sort for one, sort in self.for_rent(devices) if one.uuid not in held)[
                : left(Resource.DEVICES)
            ],
        )

    def machines(self) -> tuple[Machine, ...]:
        """What is offered, by machine: the one of `total` and `free` first."""
        return (Machine(self.total(), self.free()),)

    def _promised(self) -> Amounts:
        """What leases and their quotes have. Their images are counted with the disk."""
        found = self._capacity.holds(Kind.OWED, Kind.OFFERED).values()
        mine = (hold.amounts for hold in found if hold.by == MODULE and hold.amounts.gas)
        return sum(mine, Amounts())

    def free_ports(self) -> int:
        """Numbers for public ports that no lease and no quote has."""
        return max(0, self._settings.public_ports - self._ports())

    def know_held(self, held: Callable[[], Collection[str]], ports: Callable[[], int]) -> None:
        """Have the GPUs of leases and quotes, by their UUIDs, and their public ports, by their
        number, count as taken.
        """
        self._held, self._ports = held, ports
        self._fleet.hold(MODULE, held)

    def for_rent(self, devices: Collection[Device]) -> Iterator[tuple[Device, Gpu]]:
        """The GPUs that have a price, and what tenants call them."""
        for device in devices:
            sort = describe(device, self._settings)
            if sort is not None:
                yield device, sort

    # ------------------------------------------------------------------ what a lease takes

    def choose(self, spec: LeaseSpec) -> Chosen | None:
        """GPUs for all containers of a lease, of those that nobody has; None where there are too
        few that fit.
        """
        if not spec.needs().gpus:
            return {}
        held = self._held()
        free = [one for one in self._fleet.free((), MODULE) if one.uuid not in held]
        return match(spec, list(self.for_rent(free)))

    def find(self, chosen: Mapping[str, tuple[str, ...]]) -> Chosen | None:
        """The GPUs of these UUIDs; None when one of them is not there any more."""
        there = {device.uuid: device for device in self._fleet.usable}
        if any(uuid not in there for each in chosen.values() for uuid in each):
            return None
        return {name: tuple(there[uuid] for uuid in each) for name, each in chosen.items()}

    def take(self, key: Key, promised: Promised) -> bool:
        """Promise a lease its machine; whether that can be done. All are on this one here, and the
        ledger says what it has.
        """
        return True

    def release(self, key: Key) -> None:
        """A promise is not made."""

    def restate(self, promised: Mapping[Key, Promised]) -> None:
        """Say again all that is promised."""

    def amounts(self, spec: LeaseSpec, collateral: int = 0) -> Amounts:
        """What a lease takes from the ledger."""
        taken = self._needs(shape(spec))
        return Amounts(
            devices=spec.needs().gpu_count,
            memory=taken.memory,
            cpu=spec.needs().cpu_millis,
            disk=taken.disk,
            inodes=taken.inodes,
            collateral=collateral,
            gas=1,
        )


def describe(device: Device, settings: LeasesSettings) -> Gpu | None:
    """What tenants call a GPU; None where its model has no price."""
    words = _words(device.name)
    for model in sorted(settings.gpu_prices, key=len, reverse=True):
        given = settings.gpu_names.get(model)
        if device.name == given or (given is None and model in words):
            interface = settings.gpu_interface or _interface(device.name)
            # Drivers keep some of it for themselves: tenants mean what is on the box.
            memory = -(-device.memory_bytes // _GIB) * _GIB
            return Gpu("nvidia", model, memory, interface)
    return None


def match(spec: LeaseSpec, devices: list[tuple[Device, Gpu]]) -> Chosen | None:
    """GPUs for each service, none twice; None where they do not suffice. Exact, by augmenting
    paths: the first that fits may be the only one that fits another.
    """
    slots = [(each, sorts) for each in spec.services for sorts in _sorts(each)]
    holder: dict[int, int] = {}  # by device, the slot that has it

    def place(slot: int, tried: set[int]) -> bool:
        for number, (_, sort) in enumerate(devices):
            if number in tried or not fits_any(sort, slots[slot][1]):
                continue
            tried.add(number)
            if number not in holder or place(holder[number], tried):
                holder[number] = slot
                return True
        return False

    if not all(place(slot, set()) for slot in range(len(slots))):
        return None
    found: dict[str, tuple[Device, ...]] = {}
    for number, slot in sorted(holder.items(), key=lambda pair: pair[1]):
        name = slots[slot][0].name
        found[name] = (*found.get(name, ()), devices[number][0])
    return found


def _sorts(service: Service) -> list[tuple[Gpu, ...]]:
    return [service.resources.gpu_sorts] * (service.count * service.resources.gpus)


def shape(
    spec: LeaseSpec, lease_id: str = "shape", images: Mapping[str, str] | None = None
) -> Lease:
    """A lease of this form, for arithmetic, or to fetch these images for: the GPUs are not real,
    and services without an image are left out.
    """
    none = Device("cuda", 0, "", "", 0)
    if images is None:
        images = {each.name: _NOWHERE for each in spec.services}
    spec = replace(spec, services=tuple(one for one in spec.services if one.name in images))
    return lease_of(
        lease_id,
        spec,
        images=images,
        devices={each.name: (none,) * len(_sorts(each)) for each in spec.services},
        outbound=True,
    )


def _words(name: str) -> set[str]:
    """The words of a device's name, and what neighbours make together: RTX 4090 is rtx4090."""
    parts = re.split(r"[\s-]+", name.lower())
    return {"".join(parts[i:j]) for i in range(len(parts)) for j in range(i + 1, len(parts) + 1)}


def _interface(name: str) -> str | None:
    words = name.lower()
    if "sxm" in words or "hbm3" in words:
        return "sxm"
    return "pcie" if "pcie" in words or "geforce" in words else None


def _least(there: int, mib: int | None) -> int:
    return max(0, there if mib is None else min(there, mib * MIB))


def _rest(total: int, mine: int, left: int) -> int:
    return max(0, min(total - mine, left))
