# SPDX-License-Identifier: Apache-2.0
"""What the machines of a fleet have for leases, and what of it is free.

A lease goes whole to one machine, so each promise stands against one: a sum is not a room. Which
one that is stays so until the lease is there. The agent's own machine gives collateral and gas.
Images come to the disk of each machine. There they take a share of what no lease was promised. A
lease is promised a machine that has its images: to fetch them once it is hired may take too long.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from provider_agent.core.capacity import Amounts, Capacity, Key
from provider_agent.core.fleet import Fleet
from provider_agent.core.settings import RunnerSettings
from provider_agent.devices import Device
from provider_agent.modules.leases.images import fetch_name
from provider_agent.modules.leases.settings import LeasesSettings
from provider_agent.modules.leases.stock import MODULE, Chosen, Promised, Stock, match, shape
from provider_agent.runners.disk import Taken
from provider_agent.runners.lease import Lease
from teraproof.protocol.lease_offer import OTHERS
from teraproof.protocol.lease_offer import Capacity as Goods
from teraproof.protocol.lease_offer import Machine as Offered
from teraproof.protocol.leasespec import LeaseSpec

_RECKONED = 512  # specifications
_SHARE = 2  # a part of what nobody was promised is for images of leases to come


class Room(Protocol):
    """How much of a machine."""

    @property
    def cpu(self) -> int:
        """Thousandths of processors."""
        ...

    @property
    def memory(self) -> int:
        """Bytes."""
        ...

    @property
    def disk(self) -> int:
        """Bytes."""
        ...

    @property
    def devices(self) -> tuple[Device, ...]:
        """Its GPUs."""
        ...


class Machine(Protocol):
    """A machine of the fleet."""

    @property
    def name(self) -> str:
        """What the owner calls it."""
        ...

    @property
    def ours(self) -> Room:
        """What leases of this agent may have of it together."""
        ...

    @property
    def coming(self) -> int:
        """Bytes of that disk that fetches of images under way may still take."""
        ...

    @property
    def inodes(self) -> int:
        """Files that its disk can have yet."""
        ...


class Machines(Protocol):
    """What is used of the runner of a fleet. Nothing here waits for anybody."""

    @property
    def seen(self) -> Sequence[Machine]:
        """The machines that have answered lately."""
        ...

    def needs(self, lease: Lease) -> Taken:
        """What a lease takes of its machine."""
        ...

    def where(self) -> dict[str, str]:
        """The machine of each lease that has one."""
        ...

    def prefer(self, machines: Mapping[str, str]) -> None:
        """Where leases are to go that have no machine yet."""
        ...

    def bound(self, lease_id: str, most: Mapping[str, int] | None) -> None:
        """What images that are fetched for a lease may take, in bytes, by machine."""
        ...

    def having(self, lease_id: str) -> frozenset[str] | None:
        """The machines that got what was fetched for a lease; None where that is not known."""
        ...


@dataclass(frozen=True)
class _Wanted:
    """What a lease takes of its machine, GPUs apart, and how many files. `images` is what the
    runner calls the fetch of its images.
    """

    goods: Goods
    inodes: int
    images: str


class FleetStock(Stock):
    """See the module and `Stock`. `machines` is the runner."""

    def __init__(
        self,
        settings: LeasesSettings,
        runner: RunnerSettings,
        slots: int,
        capacity: Capacity,
        fleet: Fleet,
        machines: Machines,
    ) -> None:
        super().__init__(settings, runner, slots, capacity, fleet, machines.needs)
        self._machines = machines
        self._assigned: dict[Key, tuple[str, _Wanted]] = {}  # machine, and what is taken there
        self._fetching: dict[str, Mapping[str, int]] = {}  # bytes by fetch, by machine
        self._reckoned: dict[int, tuple[LeaseSpec, _Wanted]] = {}  # by identity
        self._rooms: dict[str, Goods] = {}  # of all machines that were ever seen

    # ------------------------------------------------------------------ what there is

    @property
    def is_known(self) -> bool:
        """Whether a machine was ever seen."""
        self._look()
        return bool(self._rooms)

    def total(self) -> Goods:
        """What the machine has that has the most free."""
        return self.machines()[0].total

    def free(self) -> Goods:
        """What of it nobody has."""
        return self.machines()[0].free

    def machines(self) -> tuple[Offered, ...]:
        """All machines, those with the most free first. Nothing is free of one that is away."""
        self._look()
        none, left = Goods(0, 0, 0), self._left()
        found = [Offered(room, left.get(name, none)) for name, room in self._rooms.items()]
        found.sort(key=lambda one: (_size(one.free), _size(one.total)), reverse=True)
        return tuple(found[: 1 + OTHERS]) or (Offered(none, none),)

    def _look(self) -> None:
        seen = {
            one.name: Goods(
                one.ours.cpu,
                one.ours.memory,
                one.ours.disk,
                tuple(sort for _, sort in self.for_rent(one.ours.devices)),
            )
            for one in self._machines.seen
        }
        self._rooms = {**self._rooms, **seen}

    def _left(self, but: Key | None = None) -> dict[str, Goods]:
        """What each machine has that is not promised."""
        found = {}
        for one in self._machines.seen:
            given = [wanted.goods for wanted in self._given(one.name, but)]
            fetching = sum(each.get(one.name, 0) for each in list(self._fetching.values()))
            images = max(one.coming, fetching)  # what is fetched now is among both
            found[one.name] = Goods(
                max(0, one.ours.cpu - sum(goods.cpu_millis for goods in given)),
                max(0, one.ours.memory - sum(goods.memory_bytes for goods in given)),
                max(0, one.ours.disk - images - sum(goods.disk_bytes for goods in given)),
                tuple(sort for _, sort in self.for_rent(self._unheld(one))),
            )
        return found

    def _given(self, machine: str, but: Key | None = None) -> list[_Wanted]:
        """What is promised of a machine."""
        return [
            wanted
            for key, (name, wanted) in list(self._assigned.items())  # others may add
            if name == machine and key != but
        ]

    def _unheld(self, machine: Machine) -> list[Device]:
        """Its GPUs that no lease, no quote and no job has."""
        here = self._fleet.usable
        busy = {one.uuid for one in here} - {one.uuid for one in self._fleet.free((), MODULE)}
        taken = {*busy, *self._held()}
        return [one for one in machine.ours.devices if one.uuid not in taken]

    # ------------------------------------------------------------------ what a lease takes

    def amounts(self, spec: LeaseSpec, collateral: int = 0) -> Amounts:
        """What a lease takes from the agent's own ledger: nothing of this machine."""
        return Amounts(collateral=collateral, gas=1)

    def choose(self, spec: LeaseSpec) -> Chosen | None:
        """GPUs for all containers of a lease, all of one machine that has room for it."""
        if not spec.needs().gpus:
            return {}
        wanted, left = self._wanted(spec), self._left()
        for one in self._machines.seen:
            if _covers(left[one.name], wanted.goods) and self._has_images(one, wanted):
                found = match(spec, list(self.for_rent(self._unheld(one))))
                if found is not None:
                    return found
        return None

    def find(self, chosen: Mapping[str, tuple[str, ...]]) -> Chosen | None:
        """The GPUs of these UUIDs; None when one of them is not there, or its machine away."""
        there = {each.uuid: each for one in self._machines.seen for each in one.ours.devices}
        if any(uuid not in there for each in chosen.values() for uuid in each):
            return None
        return {name: tuple(there[uuid] for uuid in each) for name, each in chosen.items()}

    def take(self, key: Key, promised: Promised) -> bool:
        """Promise a lease one machine; whether one has room for it."""
        wanted = self._wanted(promised.spec)
        machine = self._place(wanted, self._left(key), promised.devices, key)
        if machine is None:
            return False
        self._assigned[key] = (machine, wanted)
        return True

    def release(self, key: Key) -> None:
        """A promise is not made."""
        self._assigned.pop(key, None)

    def restate(self, promised: Mapping[Key, Promised]) -> None:
        """Say again all that is promised. What is on a machine is there, whatever was thought."""
        where, before = self._machines.where(), self._assigned
        self._assigned = {}
        later: list[tuple[Key, Promised, _Wanted]] = []
        for key, one in promised.items():
            wanted = self._wanted(one.spec)
            machine = where.get(one.name) or before.get(key, ("",))[0]
            if machine:
                self._assigned[key] = (machine, wanted)
            else:
                later.append((key, one, wanted))
        for key, one, wanted in later:
            found = self._place(wanted, self._left(), one.devices)
            if found is not None:
                self._assigned[key] = (found, wanted)
        self._machines.prefer(
            {
                one.name: self._assigned[key][0]
                for key, one in promised.items()
                if one.name and one.name not in where and key in self._assigned
            }
        )

    @contextmanager
    def fetching(self, lease_id: str, most: int) -> Iterator[None]:
        """Let images be fetched for a lease in here: on each machine at most `most` bytes, and a
        share of what nobody was promised there. Meanwhile that is promised to nobody else.
        """
        with self._capacity.lock:
            left = self._left()
            bounds = {name: min(most, one.disk_bytes // _SHARE) for name, one in left.items()}
            self._fetching[lease_id] = bounds
            self._machines.bound(lease_id, bounds)
        try:
            yield
        finally:
            with self._capacity.lock:
                self._fetching.pop(lease_id, None)
                self._machines.bound(lease_id, None)

    def _has_images(self, machine: Machine, wanted: _Wanted) -> bool:
        """Whether a machine got the images, as far as that is known."""
        having = self._machines.having(wanted.images)
        return having is None or machine.name in having

    def _has_inodes(self, machine: Machine, wanted: _Wanted, but: Key | None) -> bool:
        """Whether a machine can have the files. Those that are there already count once more."""
        given = sum(one.inodes for one in self._given(machine.name, but))
        return machine.inodes >= given + wanted.inodes

    def _place(
        self,
        wanted: _Wanted,
        left: Mapping[str, Goods],
        devices: Mapping[str, Iterable[str]],
        but: Key | None = None,
    ) -> str | None:
        """The machine for a promise: that of its GPUs, or the fullest that has room, so that the
        others stay free for what is large.
        """
        uuids = {uuid for each in devices.values() for uuid in each}
        fit = [
            one
            for one in self._machines.seen
            if _covers(left[one.name], wanted.goods)
            and self._has_inodes(one, wanted, but)
            and self._has_images(one, wanted)
        ]
        if uuids:
            theirs = (one for one in fit if uuids & {each.uuid for each in one.ours.devices})
            return next((one.name for one in theirs), None)
        return min((one.name for one in fit), key=lambda name: _size(left[name]), default=None)

    def _wanted(self, spec: LeaseSpec) -> _Wanted:
        known = self._reckoned.get(id(spec))
        if known is None or known[0] is not spec:
            if len(self._reckoned) >= _RECKONED:
                self._reckoned.clear()
            taken = self._needs(shape(spec))
            goods = Goods(spec.needs().cpu_millis, taken.memory, taken.disk)
            known = self._reckoned[id(spec)] = (
                spec,
                _Wanted(goods, taken.inodes, fetch_name(spec.digest())),
            )
        return known[1]


def _size(goods: Goods) -> tuple[int, int, int, int]:
    return len(goods.gpus), goods.memory_bytes, goods.cpu_millis, goods.disk_bytes


def _covers(left: Goods, goods: Goods) -> bool:
    """Whether there is enough, GPUs apart."""
    return (
        left.cpu_millis >= goods.cpu_millis
        and left.memory_bytes >= goods.memory_bytes
        and left.disk_bytes >= goods.disk_bytes
    )
