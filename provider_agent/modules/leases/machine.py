# SPDX-License-Identifier: Apache-2.0
"""The lease runner, asked apart from the loop: an engine that hangs holds nothing else up.

In each cycle the runner hears what should be there, and says how it is. Of what it does not speak
of in time nothing is known, and that counts as down from its last word on: see `patience`. A lease
that the runner has and nobody has judged yet stays: only one that has ended for certain is removed.

Images that wait in a registry of the tenant's are fetched after the acceptance, and take as long as
that registry wants. So such leases are prepared apart: they hold up no other tenant.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from contextlib import suppress
from dataclasses import dataclass

from provider_agent.errors import RunnerError
from provider_agent.runners.lease import (
    Credentials,
    ImageRoom,
    Lease,
    LeaseRunner,
    LeaseState,
)
from teraproof.errors import Refused, TeraproofError
from teraproof.protocol.errors import Code

log = logging.getLogger(__name__)

_PATIENCE = 0.1  # seconds that a cycle waits for the runner
_LOOK = 10.0  # seconds that a runner with a hundred leases may take for its answer
_LONGEST = 30.0  # seconds after which what the runner has said is no longer known, at most
_SILENT = 30.0  # seconds for which a runner that has never spoken of a lease is waited for
_PAUSE, _MOST_PAUSE = 10.0, 300.0  # seconds before a lease is prepared again
_THREADS = 4
_APART, _PER_TENANT = 64, 4  # leases with a registry of their tenant's that are prepared at once

Make = Callable[[], Lease]
Logins = Mapping[str, Credentials]


def patience(poll_seconds: float, down_seconds: float) -> float:
    """Seconds for which the last word of a runner is good, between two cycles and a look at least.

    A lease may be down for `down_seconds` before its rent stops, and one of which nothing is known
    is no better: an engine that hangs is paid for no longer than a container that is dead. Where
    the owner waits longer, heartbeats do not.
    """
    return max(2 * poll_seconds + _LOOK, min(down_seconds, _LONGEST))


@dataclass(frozen=True)
class _Failure:
    error: Exception
    times: int
    again: float


@dataclass(frozen=True)
class Looked:
    """What the runner said last: the leases, and those that nobody has judged."""

    states: Mapping[str, LeaseState]
    strays: frozenset[str]
    there: frozenset[str]
    room: ImageRoom
    devices: Mapping[str, Mapping[str, tuple[str, ...]]]
    whole: frozenset[str]


class Machine:
    """See the module. Used by the loop's thread; `states` by any. `good_for` is how many seconds
    what the runner has said is good.
    """

    def __init__(
        self,
        runner: LeaseRunner,
        good_for: float = _LONGEST,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.runner, self._good_for, self._clock = runner, good_for, clock
        self._keeper = ThreadPoolExecutor(1, thread_name_prefix="leases")
        self._workers = ThreadPoolExecutor(_THREADS, thread_name_prefix="prepare")
        self._apart = ThreadPoolExecutor(_APART, thread_name_prefix="prepare apart")
        self._tenants: dict[str, str] = {}  # of leases that need a registry of their tenant's
        self._whole: frozenset[str] = frozenset()  # those of them whose images are all here
        self._queued: set[str] = set()  # those that others with such a registry are before
        self._asking: set[str] = set()  # those whose registries are asked
        self._keeping: Future[Looked] | None = None
        self._told: frozenset[str] = frozenset()
        self._looked_at: float | None = None
        self._known: set[str] = set()  # leases of which the runner has spoken in this process
        self._since: dict[str, tuple[bool, float]] = {}  # whether it runs, and since when
        self._work: dict[str, Future[None]] = {}
        self._started: set[str] = set()  # by this process
        self._failures: dict[str, _Failure] = {}
        self._logins: dict[str, Logins] = {}
        self._lock = threading.Lock()
        #: Called between `prepare` and the first `start` of a lease, or later once more.
        self.before_start: Callable[[str], None] = lambda name: None
        #: How the leases were when the runner spoke last.
        self.states: Mapping[str, LeaseState] = {}
        #: Leases that the runner has, and that are neither wanted nor over.
        self.strays: frozenset[str] = frozenset()
        #: Leases of which the runner has anything.
        self.there: frozenset[str] = frozenset()
        #: The GPUs of what the runner has, by lease and service.
        self.devices: Mapping[str, Mapping[str, tuple[str, ...]]] = {}
        #: What images take of the disk.
        self.room = ImageRoom()
        #: Why nothing is known of what runs; None while the runner answers.
        self.trouble: TeraproofError | None = None

    @property
    def has_spoken(self) -> bool:
        """Whether the runner has said what there is, since the start."""
        return self._looked_at is not None

    # ------------------------------------------------------------------ the cycle

    def look(self, wanted: Collection[str], over: Collection[str]) -> None:
        """Have the runner keep what is `wanted` and remove what is `over`, and take in what it
        says. Anything else that it has stays as it is.
        """
        self._harvest(0.0)
        if self._keeping is None:
            self._told = frozenset(wanted)
            waiting = frozenset(self._tenants.keys() - self.states.keys())
            given_up = frozenset(name for name in over if self._is_at_work(name))
            self._keeping = self._keeper.submit(
                self._keep, self._told, frozenset(over), waiting, given_up
            )
            self._harvest(_PATIENCE)
        for name in wanted:
            self._since.setdefault(name, (False, self._clock()))
        for gone in self._since.keys() - set(wanted):
            self._forget(gone)
        for ended in self._work.keys() - set(wanted):
            if not self._is_at_work(ended):
                del self._work[ended]

    def _keep(
        self,
        wanted: frozenset[str],
        over: frozenset[str],
        waiting: frozenset[str],
        given_up: frozenset[str],
    ) -> Looked:
        for name in given_up:
            # The runner leaves alone what is worked on, and a registry may keep that up for long.
            if not self._has_images(name):
                with suppress(TeraproofError, OSError):
                    self.runner.give_up(name)
        there = frozenset(self.runner.list())
        strays = there - wanted - over
        states = self.runner.keep(wanted | strays)
        return Looked(
            states,
            strays,
            there,
            self.runner.image_room(),
            {name: self._devices_of(name) for name in states},
            frozenset(name for name in waiting if self._has_images(name)),
        )

    def _has_images(self, name: str) -> bool:
        """Whether nothing of a lease waits for a registry any more."""
        with suppress(TeraproofError, OSError):
            arrival = self.runner.arrival(name)
            return arrival is not None and arrival.whole
        return False

    def _devices_of(self, name: str) -> Mapping[str, tuple[str, ...]]:
        """The GPUs that a lease was made with, by service: they never change."""
        known = self.devices.get(name)
        if known is not None:
            return known
        lease = self.runner.prepared(name)
        services = () if lease is None else lease.services
        return {
            one.name: tuple(device.uuid for device in one.devices)
            for one in services
            if one.devices
        }

    def _harvest(self, patience: float) -> None:
        if self._keeping is None:
            return
        try:
            found = self._keeping.result(timeout=patience)
        except NotYet:
            if not self._keeping.done():
                return
            raise
        except Exception as error:
            # Whatever it is, nothing is known of the leases, and the rest of a cycle goes on.
            self._keeping = None
            if not isinstance(error, TeraproofError | OSError):
                log.error("leases: the runner shows a bug", exc_info=error)
            said = error if isinstance(error, TeraproofError) else RunnerError(str(error))
            if self.trouble is None:
                log.warning("leases: %s", said)
            self.trouble = said
            for name in self._told:
                self._lose_sight(name)
            return
        self._keeping = None
        if self.trouble is not None:
            log.warning("leases: the runner answers again")
        self.trouble, self._looked_at = None, self._clock()
        self.states, self.strays, self.there = found.states, found.strays, found.there
        self.room, self.devices, self._whole = found.room, found.devices, found.whole
        for name in self._told:
            state = found.states.get(name)
            self._known.add(name)
            if state is None and name not in self._work:
                self._started.discard(name)  # its files are gone: it is prepared again
            self._see(name, up=state is not None and state.wanted and state.running)

    def _see(self, name: str, *, up: bool) -> None:
        known = self._since.get(name)
        if known is None or known[0] is not up:
            self._since[name] = (up, self._clock())

    def _lose_sight(self, name: str) -> None:
        """Nothing is known of a lease: whatever has become of it, it was well at the last look."""
        known = self._since.get(name)
        if known is None or known[0]:
            self._since[name] = (False, self._looked_at or self._clock())

    def _forget(self, name: str) -> None:
        self._since.pop(name, None)
        self._known.discard(name)
        self._started.discard(name)
        self._failures.pop(name, None)
        self._tenants.pop(name, None)
        self._queued.discard(name)
        with self._lock:
            self._logins.pop(name, None)

    # ------------------------------------------------------------------ how a lease is

    def is_known(self, name: str) -> bool:
        """Whether the runner has said how a lease is, since this process began."""
        return name in self._known

    def is_up(self, name: str) -> bool:
        """Whether all containers of a lease run, as far as is known."""
        return self.is_fresh and self._since.get(name, (False, 0.0))[0]

    def up_for(self, name: str) -> float:
        """Seconds for which a lease has been up; 0 when it is not."""
        return self._clock() - self._since[name][1] if self.is_up(name) else 0.0

    def down_for(self, name: str) -> float:
        """Seconds for which a lease has not been up, or for which nothing is known of it; 0 for one
        that is up, or that was not looked at for long enough.
        """
        known = self._since.get(name)
        if known is None or self.is_up(name):
            return 0.0
        since = known[1] if not known[0] else self._looked_at or known[1]
        passed = self._clock() - since
        return passed if name in self._known or passed > _SILENT else 0.0

    @property
    def is_fresh(self) -> bool:
        """Whether the runner has spoken lately."""
        return self._looked_at is not None and self._clock() - self._looked_at < self._good_for

    def held(self) -> set[str]:
        """The UUIDs of all GPUs that something on this machine was made with. Any thread."""
        return {uuid for each in self.devices.values() for some in each.values() for uuid in some}

    def has(self, name: str) -> bool:
        """Whether the runner has something of a lease."""
        return name in self.states

    # ------------------------------------------------------------------ preparing

    def prepare(self, name: str, make: Make, tenant: str = "") -> Exception | None:
        """Have a lease be prepared and started, once; what went wrong at the last try, if anything.

        To be called in each cycle; `make` is called in another thread. `tenant` is whose it is,
        where a registry of the tenant's has to be asked for it.
        """
        if tenant:
            self._tenants[name] = tenant
        failure = self._failures.get(name)
        error = None if failure is None else failure.error
        work = self._work.get(name)
        if work is not None and work.done():
            del self._work[name]
            error = work.exception()  # type: ignore[assignment]  # threads raise no others
            if error is None:
                self._started.add(name)
                self._failures.pop(name, None)
            else:
                self._fail(name, error)
            return error
        due = failure is None or failure.again <= self._clock()
        # A runner that has not heard of a lease may be about to remove it.
        wanted = work is None and name not in self._started and due and name in self._told
        if wanted and self._is_next(name, tenant):
            pool = self._apart if tenant else self._workers
            self._work[name] = pool.submit(self._prepare, name, make)
        return error

    def _is_next(self, name: str, tenant: str) -> bool:
        """Whether a lease may be prepared now, or others wait for such a registry before it."""
        busy = [by for one, by in self._tenants.items() if self._is_at_work(one)]
        if tenant and (len(busy) >= _APART or busy.count(tenant) >= _PER_TENANT):
            self._queued.add(name)
            return False
        self._queued.discard(name)
        return True

    def _is_at_work(self, name: str) -> bool:
        work = self._work.get(name)
        return work is not None and not work.done()

    def lacks_images(self, name: str) -> bool:
        """Whether images of a lease are not here that a registry of its tenant's has."""
        return name in self._tenants and name not in self._whole and name not in self.states

    def waits_for_tenant(self, name: str) -> bool:
        """Whether a registry of the tenant's is being asked for what a lease lacks, or it waits for
        others that have such a registry.
        """
        return self.lacks_images(name) and (name in self._asking or name in self._queued)

    def asks(self, name: str) -> None:
        """All else of a lease is here, and registries are asked for its images now. Any thread."""
        self._asking.add(name)

    def _prepare(self, name: str, make: Make) -> None:
        runner = self.runner
        if name in runner.list():
            try:
                if runner.prepared(name) is not None:
                    self.before_start(name)
                runner.start(name)
                return
            except RunnerError as error:
                if error.code is Code.CONTAINERS_AWAY:
                    raise
        with self._lock:
            logins = self._logins.get(name)
        try:
            lease = make()
            self.asks(name)
            runner.prepare(lease, logins)
        finally:
            self._asking.discard(name)
        self.before_start(name)
        runner.start(name)

    def _fail(self, name: str, error: Exception) -> None:
        if not isinstance(error, TeraproofError | OSError):
            log.error("lease %s", name, exc_info=error)
        known = self._failures.get(name)
        times = 1 if known is None else known.times + 1
        pause = min(_MOST_PAUSE, _PAUSE * 2 ** min(times - 1, 8))
        self._failures[name] = _Failure(error, times, self._clock() + pause)
        if known is None or str(known.error) != str(error):
            log.warning("lease %s cannot be started: %s", name[:12], error)

    def is_hopeless(self, name: str) -> bool:
        """Whether a lease was refused by the runner: only the tenant can change that."""
        failure = self._failures.get(name)
        return failure is not None and isinstance(failure.error, Refused)

    def log_in(self, name: str, logins: Logins) -> None:
        """Use these credentials for the images of a lease, and try again now. Any thread."""
        with self._lock:
            self._logins[name] = {**self._logins.get(name, {}), **logins}
        self._failures.pop(name, None)

    def logins(self, name: str) -> Logins:
        """The credentials of a lease. Any thread."""
        with self._lock:
            return self._logins.get(name, {})

    def close(self) -> None:
        """Wait for what is under way. Containers go on."""
        for pool in (self._workers, self._apart):
            pool.shutdown(wait=True, cancel_futures=True)
        self._keeper.shutdown(wait=True, cancel_futures=True)
