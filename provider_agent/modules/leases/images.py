# SPDX-License-Identifier: Apache-2.0
"""Images of leases to come: which bytes their names mean, and the bytes on this machine.

A quote promises to be ready in time, so its images are here before it is signed. Strangers cause
that, so it is bounded: a few specifications at a time, for accounts that have the money, within the
ledger. What was found out is good for a while, and images that nobody wants leave.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from typing import Protocol

from provider_agent.core.capacity import Amounts, Capacity, Hold, Key, Kind, Resource
from provider_agent.errors import RunnerError
from provider_agent.modules.leases.stock import MODULE, shape
from provider_agent.runners.lease import Arrival, Lease
from teraproof.errors import LocalError, Refused
from teraproof.protocol.errors import Code
from teraproof.protocol.leasespec import LeaseSpec

_PREFIX = "spec-"
_GOOD, _BAD = 600.0, 60.0  # seconds for which what was found is good
_AT_ONCE, _PER_ACCOUNT = 8, 2  # specifications that are waited for
_KEPT = 64
_THREADS = 2
_SPARE = 16  # a part of what is left stays
_MOMENT = 0.05  # seconds that a cycle waits for news of fetches


class Fetcher(Protocol):
    """What is used of the runner."""

    def resolve(self, image: str) -> str:
        """The image as `name@digest`."""
        ...

    def fetch(self, lease: Lease, *, most: int, seconds: float) -> None:
        """Has the images of a lease be here."""
        ...

    def arrival(self, lease_id: str) -> Arrival | None:
        """How far a fetch is."""
        ...

    def close(self) -> None:
        """Breaks off every fetch, now and later."""
        ...


class Elsewhere(Protocol):
    """The machines that images are fetched to, where that is not this one."""

    def fetching(self, lease_id: str, most: int) -> AbstractContextManager[None]:
        """Holds room on each, of at most that many bytes."""
        ...


@dataclass(frozen=True)
class _Found:
    at: float
    names: Mapping[str, str] = field(default_factory=dict)
    refused: Refused | None = None


class ImageDesk:
    """See the module. Asked from any thread; `patience` is how long a request waits, `seconds` how
    long a fetch may take, `most` how many bytes the images of a lease may have. They come to the
    disk of the ledger, or to those of the machines of a fleet: then `elsewhere` holds room there.
    """

    def __init__(
        self,
        runner: Fetcher,
        capacity: Capacity,
        *,
        most: int,
        seconds: float,
        elsewhere: Elsewhere | None = None,
        patience: float = 8.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._runner, self._capacity, self._most = runner, capacity, most
        self._elsewhere = elsewhere
        self._seconds, self._patience, self._clock = seconds, patience, clock
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="images")
        self._lock = threading.Lock()
        self._found: OrderedDict[str, _Found] = OrderedDict()
        self._coming: dict[str, tuple[str, Future[None]]] = {}  # account, work
        self._held: dict[str, int] = {}  # bytes of the disk, by the runner's name
        self._asking = ThreadPoolExecutor(1, thread_name_prefix="how far")
        self._asked: Future[None] | None = None

    def wanted(self) -> set[str]:
        """The runner's names of what is fetched, or was lately."""
        with self._lock:
            good = [name for name, found in self._found.items() if self._is_good(found)]
            return {*good, *self._coming}

    def names(self, spec: LeaseSpec, account: str, *, patient: bool = True) -> Mapping[str, str]:
        """The images of a lease by service, as `name@digest`, all of them here. Those of a
        registry that wants credentials are left out. Refused where one cannot be had, or is still
        on its way: then it is asked for.
        """
        name = fetch_name(spec.digest())
        coming = self._want(name, spec, account)
        if patient and coming is not None:
            wait([coming], timeout=self._patience)
        with self._lock:
            found = self._found.get(name)
        if found is None or not self._is_good(found):
            missing = sum(one.registry is None for one in spec.services)
            line = "this provider fetches the images first; ask again in a moment"
            raise Refused(Code.IMAGES_MISSING, line, missing=missing)
        if found.refused is not None:
            raise found.refused
        return found.names

    def _is_good(self, found: _Found) -> bool:
        return self._clock() - found.at < (_GOOD if found.refused is None else _BAD)

    def _want(self, name: str, spec: LeaseSpec, account: str) -> Future[None] | None:
        """Begin to fetch, unless all is here; what to wait for."""
        with self._lock:
            self._coming = {
                one: (by, work) for one, (by, work) in self._coming.items() if not work.done()
            }
            found = self._found.get(name)
            if found is not None and self._is_good(found):
                return None
            if name in self._coming:
                return self._coming[name][1]
            mine = sum(by == account for by, _ in self._coming.values())
            if len(self._coming) >= _AT_ONCE or mine >= _PER_ACCOUNT:
                return None  # it says missing, and the tenant asks again
            work = self._pool.submit(self._fetch, name, spec)
            self._coming[name] = (account, work)
            return work

    def _fetch(self, name: str, spec: LeaseSpec) -> None:
        try:
            found = _Found(self._clock(), self._fetched(name, spec))
        except Refused as refused:
            found = _Found(self._clock(), refused=refused)
        except (RunnerError, LocalError, OSError):
            line = "the images cannot be fetched now; try later"
            found = _Found(self._clock(), refused=Refused(Code.AGENT_NOT_READY, line))
        with self._lock:
            self._found[name] = found
            self._found.move_to_end(name)
            while len(self._found) > _KEPT:
                self._found.popitem(last=False)

    def _fetched(self, name: str, spec: LeaseSpec) -> Mapping[str, str]:
        open_ones = [each for each in spec.services if each.registry is None]
        names = {each.name: self._runner.resolve(each.image) for each in open_ones}
        if not names:
            return names
        if self._elsewhere is not None:
            with self._elsewhere.fetching(name, self._most):
                self._runner.fetch(shape(spec, name, names), most=self._most, seconds=self._seconds)
            return names
        key = _key(name)
        with self._capacity.lock:
            # Others write to the disk between this look and the next one.
            left = self._capacity.left_to_offer(Resource.DISK)
            most = min(self._most, left - left // _SPARE)
            if most <= 0 or not self._capacity.reserve(key, _hold(most)):
                raise Refused(Code.DISK_TAKEN, "there is no room on this provider's disk now")
            self._held[name] = most
        try:
            # Of one that wants credentials nothing is fetched, so it stands for no image here.
            self._runner.fetch(shape(spec, name, names), most=most, seconds=self._seconds)
        finally:
            with self._capacity.lock:
                self._held.pop(name, None)
                self._capacity.release(key)
        return names

    def reckon(self) -> int:
        """Bytes that the ledger holds for fetches under way. That is brought down to what they may
        still take: what has come lies on the disk, and is counted there. Used by the loop's thread.
        """
        with self._capacity.lock:
            names = list(self._held)
        # A machine of a fleet that is asked may take its time.
        if names and (self._asked is None or self._asked.done()):
            self._asked = self._asking.submit(self._ask_how_far, names)
            wait([self._asked], timeout=_MOMENT)
        with self._capacity.lock:
            return sum(self._held.values())

    def _ask_how_far(self, names: list[str]) -> None:
        for name in names:
            with suppress(RunnerError, OSError):
                arrival = self._runner.arrival(name)
                if arrival is not None and arrival.left is not None:
                    self._lower(name, arrival.left)

    def _lower(self, name: str, left: int) -> None:
        with self._capacity.lock:
            if left < self._held.get(name, 0):
                self._held[name] = left
                self._capacity.put(_key(name), _hold(left))

    def close(self) -> None:
        """Break off what is under way, however long it would take, and begin nothing more."""
        self._runner.close()
        for pool in (self._pool, self._asking):
            pool.shutdown(wait=True, cancel_futures=True)


def fetch_name(digest: bytes) -> str:
    """What the runner calls the fetch for the leases of a specification."""
    return _PREFIX + digest.hex()


def _key(name: str) -> Key:
    return (MODULE, "fetch", name)


def _hold(size: int) -> Hold:
    return Hold(Kind.OFFERED, Amounts(disk=size), by=f"{MODULE} images")
