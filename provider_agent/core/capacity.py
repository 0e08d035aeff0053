# SPDX-License-Identifier: Apache-2.0
"""The one ledger of what this machine can promise: slots, devices, memory, cores, disk, inodes,
collateral and gas money.

Whoever promises or takes any of these reserves it here first. What is reserved is of three kinds:

    OWED     jobs and leases that were accepted or hired, and a proof's bond: nothing takes it back
    OFFERED  signed quotes: they bind until they expire, or are cancelled on chain
    SPARE    uploads for orders that are not ours: may be taken back at any moment

Nothing is promised twice: in each resource the sum of what is reserved stays within what there is.
What has a slot takes memory and devices by turns with the others; what has none has them at once.
Nothing unpaid holds what a paid order needs: OFFERED and SPARE get a share of what is left after
OWED, and OWED takes it back.

The ledger does not outlive the process. What is OWED and OFFERED stands in the database before
anybody relies on it, SPARE lies on the disk, and both are read again at the start.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from pathlib import Path

Key = Hashable

#: The worth of uploads that no live order asks for.
UNWANTED = -1
_COUNTLESS = 1 << 62  # inodes of a file system that makes them as it needs them
_BLOCK = 4096
_SHARE = 50  # percent
_TRIES = 3  # files take whole blocks: deleting them may free less than was thought


class Kind(StrEnum):
    """What a reservation is for; see the module."""

    OWED = "owed"
    OFFERED = "offered"
    SPARE = "spare"


class Resource(StrEnum):
    """What can run short."""

    SLOTS = "slots"
    DEVICES = "devices"
    MEMORY = "memory"
    CPU = "cpu"
    DISK = "disk"
    INODES = "inodes"
    COLLATERAL = "collateral"
    GAS = "gas"


# Only jobs that run at the same time need theirs at the same time. What has no slot, such as a
# lease, has its own from the first moment to the last.
_AT_ONCE = (Resource.DEVICES, Resource.MEMORY, Resource.CPU)
#: What is free again when a job has run.
BY_TURNS = (Resource.SLOTS, *_AT_ONCE)
_ON_DISK = (Resource.DISK, Resource.INODES)
_SUMMED = (*_ON_DISK, Resource.COLLATERAL, Resource.GAS)


@dataclass(frozen=True, slots=True)
class Amounts:
    """So much of each resource: jobs at once, GPUs, bytes, thousandths of a core, bytes, files, TPF
    wei, and jobs whose transactions can be paid for.
    """

    slots: int = 0
    devices: int = 0
    memory: int = 0
    cpu: int = 0
    disk: int = 0
    inodes: int = 0
    collateral: int = 0
    gas: int = 0

    def __add__(self, other: Amounts) -> Amounts:
        return Amounts(*(self.of(name) + other.of(name) for name in Resource))

    def of(self, resource: Resource) -> int:
        """How much of one resource."""
        return int(getattr(self, resource.value))


if [field.name for field in fields(Amounts)] != [name.value for name in Resource]:
    raise AssertionError("the fields of Amounts are the resources, in their order")


@dataclass(frozen=True, slots=True)
class Hold:
    """A reservation. `seconds` is how long at most it keeps a slot, its wait included; `stored` is
    what of it lies on the disk already; `worth` says which of SPARE goes first; `by` is the module
    whose promise it is.
    """

    kind: Kind
    amounts: Amounts
    seconds: int = 0
    stored: Amounts = Amounts()
    worth: int = UNWANTED
    by: str = ""


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether something can be reserved, and what has to go first.

    `short` names what there is too little of; `recall` quotes that have to be cancelled, and `drop`
    uploads that have to be deleted, before there is enough.
    """

    short: tuple[Resource, ...] = ()
    recall: tuple[Key, ...] = ()
    drop: tuple[Key, ...] = ()

    def __bool__(self) -> bool:
        """Whether it can be reserved, once `drop` has gone."""
        return not self.short and not self.recall


@dataclass(frozen=True, slots=True)
class Load:
    """How many jobs are promised a slot, and the longest time (s) that one of them may take it."""

    slots: int
    committed: int
    longest: int


class Capacity:
    """See the module. Called from any thread; each call is one step.

    `measure` says what there is besides what holds have `stored`. `ahead` is how many more jobs a
    slot may be OWED and wait, `share` the percentage that is for OFFERED, and for SPARE.
    """

    def __init__(
        self, measure: Callable[[], Amounts], *, ahead: int = 0, share: int = _SHARE
    ) -> None:
        self._measure, self._ahead, self._share = measure, ahead, share
        self._holds: dict[Key, Hold] = {}
        self._wanted: dict[Key, Hold] = {}
        self._lent: list[Callable[[], None]] = []
        #: Held for a step of several calls.
        self.lock = threading.RLock()
        #: Deletes what a SPARE hold has stored, and releases it. Called under the lock.
        self.drop: Callable[[Key], None] = self.release

    # ------------------------------------------------------------------ looking

    def total(self) -> Amounts:
        """What there is, reserved or not."""
        with self.lock:
            found = self._measure()
            stored = [hold.stored for hold in self._holds.values()]
            return replace(
                found,
                disk=found.disk + sum(one.disk for one in stored),
                inodes=found.inodes + sum(one.inodes for one in stored),
            )

    def holds(self, *kinds: Kind) -> dict[Key, Hold]:
        """What is reserved, of these kinds or of all."""
        with self.lock:
            return {
                key: hold for key, hold in self._holds.items() if not kinds or hold.kind in kinds
            }

    def load(self, *kinds: Kind) -> Load:
        """The jobs that are OWED or OFFERED a slot, or those of some kinds."""
        found = self.holds(*(kinds or (Kind.OWED, Kind.OFFERED)))
        jobs = [hold for hold in found.values() if hold.amounts.slots]
        return Load(
            slots=self._measure().slots,
            committed=sum(hold.amounts.slots for hold in jobs),
            longest=max((hold.seconds for hold in jobs), default=0),
        )

    def fit(self, need: Amounts, kind: Kind, worth: int = UNWANTED) -> Fit:
        """Whether something can be reserved; nothing changes."""
        with self.lock:
            total = self.total()
            if kind is Kind.OWED:
                return self._fit_owed(need, total)
            if kind is Kind.OFFERED:
                return self._fit_offered(need, total)
            return self._fit_spare(need, total, worth)

    def left_to_offer(self, resource: Resource) -> int:
        """How much of a resource that is summed can be OFFERED."""
        with self.lock:
            owed, offered = (
                sum(hold.amounts.of(resource) for hold in self.holds(kind).values())
                for kind in (Kind.OWED, Kind.OFFERED)
            )
            there = self.total().of(resource) - owed
            return max(0, min(self._part(resource, there), there) - offered)

    def left(self, resource: Resource, *, apart: str = "") -> int:
        """How much of a resource nobody has, whatever is OWED or OFFERED running at once; of a disk
        as it is now. Holds of the module `apart` do not count.
        """
        with self.lock:
            held = self.holds(Kind.OWED, Kind.OFFERED).values()
            total = self.total()
            beside = [hold for hold in held if not apart or hold.by != apart]
            return max(0, total.of(resource) - self._used(resource, beside, total.slots))

    def held_by_others(self, by: str, resource: Resource) -> int:
        """How much of a resource that is summed other modules are OWED."""
        found = self.holds(Kind.OWED).values()
        return sum(hold.amounts.of(resource) for hold in found if hold.by != by)

    # ------------------------------------------------------------------ lending

    def lend(self, give_back: Callable[[], None]) -> None:
        """Let something that is not owed use devices while no run does. `give_back` ends that at
        once, and is called by the loop's thread.
        """
        self._lent.append(give_back)

    def call_in(self) -> None:
        """Have devices that were lent given back: a run is about to begin."""
        for give_back in self._lent:
            give_back()

    # ------------------------------------------------------------------ reserving

    def reserve(self, key: Key, hold: Hold) -> Fit:
        """Reserve, if it fits; uploads that are in the way are dropped. The key must be new."""
        with self.lock:
            found = self.fit(hold.amounts, hold.kind, hold.worth)
            for _ in range(_TRIES):
                if not found or not found.drop:
                    break
                for spare in found.drop:
                    self.drop(spare)
                found = self.fit(hold.amounts, hold.kind, hold.worth)
            if found and not found.drop:
                self.put(key, hold)
                return found
            return replace(found, short=found.short or (Resource.DISK,)) if found.drop else found

    def want(self, key: Key, hold: Hold) -> Fit:
        """Reserve what is OWED whatever comes, as soon as it fits. Until it does, or the key is
        released, nothing is reserved or offered to others that would be in its way.
        """
        with self.lock:
            others, self._wanted = self._wanted, {}
            try:
                found = self.reserve(key, hold)
            finally:
                self._wanted = others
            if found:
                self._wanted.pop(key, None)
            else:
                self._wanted[key] = hold
            return found

    def put(self, key: Key, hold: Hold) -> None:
        """Say what a key holds, as a fact: it was promised before, or lies on the disk."""
        with self.lock:
            self._holds[key] = hold
            self._wanted.pop(key, None)

    def release(self, key: Key) -> None:
        """Give back all that a key holds, and what it waits for."""
        with self.lock:
            self._holds.pop(key, None)
            self._wanted.pop(key, None)

    def trim(self) -> None:
        """Drop the uploads for which there is no room any more, because the disk has filled up."""
        with self.lock:
            for spare in self._drop_for(Amounts(), self.total(), None) or ():
                self.drop(spare)

    def restate(self, by: str, holds: Mapping[Key, Hold]) -> None:
        """Say again all that a module has promised, as the chain and the database have it."""
        with self.lock:
            kept = {key: hold for key, hold in self._holds.items() if hold.by != by}
            self._holds = {**kept, **holds}

    # ------------------------------------------------------------------ rules

    def _fit_owed(self, need: Amounts, total: Amounts) -> Fit:
        owed = [*self.holds(Kind.OWED).values(), *self._wanted.values()]
        short = self._short(need, total, owed, total.slots * (1 + self._ahead))
        if short:
            return Fit(short)
        offers = self.holds(Kind.OFFERED)
        recall: list[Key] = []
        # The newest quotes first: who has asked long ago may be about to use it.
        for key in [*reversed(offers), None]:
            left = [offers[other] for other in offers if other not in recall]
            # A job may wait for a quote: slots do not take one back.
            if not self._short(need, total, owed + left, None):
                break
            assert key is not None  # without quotes it fits
            recall.append(key)
        drop = self._drop_for(need, total, None, without=recall)
        assert drop is not None  # without quotes and uploads it fits
        return Fit(recall=tuple(recall), drop=drop)

    def _fit_offered(self, need: Amounts, total: Amounts) -> Fit:
        owed = [*self.holds(Kind.OWED).values(), *self._wanted.values()]
        offered = list(self.holds(Kind.OFFERED).values())
        short = list(self._short(need, total, owed + offered, total.slots))
        for name in (Resource.SLOTS, *_SUMMED):
            there = total.of(name)
            if name is not Resource.SLOTS:
                there -= sum(hold.amounts.of(name) for hold in owed)
            wanted = need.of(name) + sum(hold.amounts.of(name) for hold in offered)
            if need.of(name) and wanted > self._part(name, there) and name not in short:
                short.append(name)
        if short:
            return Fit(tuple(short))
        drop = self._drop_for(need, total, 0)
        return Fit((Resource.DISK,)) if drop is None else Fit(drop=drop)

    def _fit_spare(self, need: Amounts, total: Amounts, worth: int) -> Fit:
        drop = self._drop_for(need, total, worth, limited=True)
        if drop is not None:
            return Fit(drop=drop)
        return Fit((Resource.DISK if need.disk else Resource.INODES,))

    def _part(self, name: Resource, there: int) -> int:
        """The share of OFFERED, and of SPARE; of what is counted one by one at least one."""
        part = max(0, there) * self._share // 100
        return max(1, part) if name in (Resource.SLOTS, Resource.GAS) and there > 0 else part

    def _short(
        self, need: Amounts, total: Amounts, beside: list[Hold], slots: int | None
    ) -> tuple[Resource, ...]:
        """What there is too little of for `need` besides other holds and at most `slots` jobs."""
        found = []
        jobs = sum(hold.amounts.slots for hold in beside)
        if slots is not None and need.slots and jobs + need.slots > slots:
            found.append(Resource.SLOTS)
        others = total.slots - 1 if need.slots else total.slots  # jobs at the same time
        for name in (*_AT_ONCE, *_SUMMED):
            held = self._used(name, beside, others)
            if need.of(name) and held + need.of(name) > total.of(name):
                found.append(name)
        return tuple(found)

    @staticmethod
    def _used(name: Resource, holds: Collection[Hold], jobs: int) -> int:
        """What holds take of a resource at most, when that number of their jobs runs at once."""
        if name not in _AT_ONCE:
            return sum(hold.amounts.of(name) for hold in holds)
        by_turns = [hold.amounts.of(name) for hold in holds if hold.amounts.slots]
        always = sum(hold.amounts.of(name) for hold in holds if not hold.amounts.slots)
        return always + sum(sorted(by_turns, reverse=True)[: max(0, jobs)])

    def _drop_for(
        self,
        need: Amounts,
        total: Amounts,
        worth: int | None,
        *,
        limited: bool = False,
        without: Collection[Key] = (),
    ) -> tuple[Key, ...] | None:
        """Which SPARE has to go so that `need` fits, worth less than `worth` or anything; None when
        that would not be enough. `limited` keeps SPARE to its share.
        """
        names = [name for name in _ON_DISK if need.of(name) or need == Amounts()]
        gone = set(without)
        over = {}  # how much SPARE takes beyond what may be left to it
        for name in names:
            firm = sum(
                hold.amounts.of(name)
                for key, hold in self._holds.items()
                if hold.kind is not Kind.SPARE and key not in gone
            )
            left = total.of(name) - firm
            room = (self._part(name, left) if limited else left) - need.of(name)
            held = (h.amounts.of(name) for h in self._holds.values() if h.kind is Kind.SPARE)
            over[name] = sum(held) - room
        if all(much <= 0 for much in over.values()):
            return ()
        dropped: list[Key] = []
        spare = self.holds(Kind.SPARE)
        for key in sorted(spare, key=lambda one: spare[one].worth):
            hold = spare[key]
            if worth is not None and hold.worth >= worth:
                break
            if any(over[name] > 0 and hold.amounts.of(name) for name in names):
                dropped.append(key)
                over = {name: over[name] - hold.amounts.of(name) for name in names}
            if all(much <= 0 for much in over.values()):
                return tuple(dropped)
        return tuple(dropped) if worth is None else None


def free_on(place: Path) -> Amounts:
    """What a disk has free for us: bytes, and files where the file system counts them."""
    found = os.statvfs(place)
    return Amounts(
        disk=found.f_bavail * found.f_frsize,
        inodes=found.f_favail if found.f_files else _COUNTLESS,
    )


def on_disk(size: int) -> int:
    """Bytes that a file of `size` bytes takes: whole blocks."""
    return -(-size // _BLOCK) * _BLOCK


def memory_there() -> int:
    """Bytes of memory that this machine has."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
