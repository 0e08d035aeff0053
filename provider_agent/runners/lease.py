# SPDX-License-Identifier: Apache-2.0
"""What a lease asks of a machine, and what every kind of lease runner offers.

A lease is a set of services that run until somebody ends them. Each service runs in `count`
containers, all equal, numbered from 0. The runner contains them and says how they are; it decides
nothing about money. Times are seconds, sizes bytes, processors thousandths of one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import PurePosixPath
from typing import Protocol, runtime_checkable

from provider_agent.devices import Device
from provider_agent.errors import RunnerError
from provider_agent.runners.base import MIB, check_run_id
from provider_agent.runners.disk import Taken
from teraproof.errors import Refused
from teraproof.protocol.errors import Code
from teraproof.protocol.leasespec import circle_of

_SERVICE = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_VOLUME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,255}")
_PINNED = re.compile(r"[a-z0-9][A-Za-z0-9._:/-]{0,254}@sha256:[0-9a-f]{64}")

LONGEST_TEXT = 100_000
"""Bytes of one argument or variable; the kernel takes 131,072 with its name."""
LONGEST_WORDS = 1 << 20
"""Bytes of all arguments and variables of a container."""

#: What the kernel or the engine mounts itself, or what a container must not lay something over.
_THEIRS = ("proc", "sys", "dev")
_PROTOCOLS = ("tcp", "udp")
#: The provider names the GPUs of a container with it; a tenant's own value would name others.
_OURS = ("NVIDIA_VISIBLE_DEVICES",)


@dataclass(frozen=True)
class Credentials:
    """For a registry that asks who is there. Never written anywhere."""

    username: str
    password: str = field(repr=False)
    host: str = ""


@dataclass(frozen=True)
class Volume:
    """A file system of its own of `size` bytes at `mount`. It lives as long as the lease."""

    name: str
    mount: str
    size: int
    read_only: bool = False


@dataclass(frozen=True)
class Port:
    """A port that a service listens on, in its container. `inner` is the number under which other
    services of the lease reach it, where that is another one; 0 where it is the same.
    """

    number: int
    protocol: str = "tcp"
    inner: int = 0


@dataclass(frozen=True)
class Service:
    """One service of a lease; the limits are those of each of its `count` containers.

    `image` is named by its digest (`LeaseRunner.resolve`). `command` stands for the image's entry
    point and `args` for its arguments, where they are not empty. `storage` is what the container
    may write besides its volumes, `shm` the size of `/dev/shm`, which counts as memory. `devices`
    are the GPUs of all containers together, in their order. `after` names those that start before.
    """

    name: str
    image: str
    cpu: int
    memory: int
    storage: int
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[Port, ...] = ()
    volumes: tuple[Volume, ...] = ()
    devices: tuple[Device, ...] = ()
    count: int = 1
    pids: int = 2048
    shm: int = 64 * MIB
    after: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _SERVICE.fullmatch(self.name):
            raise _unfit(f"{self.name!r} is not a name for a service: a-z, 0-9 and '-', up to 63")
        if not _PINNED.fullmatch(self.image):
            raise _unfit(f"{self.name}: the image {self.image[:300]!r} is not named by its digest")
        for what in ("cpu", "memory", "storage", "count", "pids", "shm"):
            if getattr(self, what) <= 0:
                raise _unfit(f"{self.name}: {what} is {getattr(self, what)}; give more than 0")
        if self.cpu < 10:
            raise _unfit(f"{self.name}: cpu is {self.cpu / 1000:g}; give 0.01 or more")
        if len(self.devices) % self.count:
            raise _unfit(f"{self.name}: its GPUs do not go into {self.count} equal parts")
        self._check_words()
        self._check_places()

    def _check_words(self) -> None:
        words = [*self.command, *self.args]
        for name, value in self.env.items():
            if not _ENV_NAME.fullmatch(name):
                raise _unfit(f"{self.name}: {name[:300]!r} is not a name for a variable")
            if name in _OURS:
                raise _unfit(f"{self.name}: {name} is set by the provider; leave it out")
            words.append(value)
        sizes = [len(word.encode(errors="surrogateescape")) for word in words]
        if any("\0" in word for word in words):
            raise _unfit(f"{self.name}: an argument or variable holds a zero byte")
        if max(sizes, default=0) > LONGEST_TEXT or sum(sizes) > LONGEST_WORDS:
            raise _unfit(
                f"{self.name}: arguments and variables are longer than {LONGEST_TEXT} bytes each "
                f"or {LONGEST_WORDS} together"
            )

    def _check_places(self) -> None:
        names, mounts = set(), set()
        for port in self.ports:
            numbers = (port.number, port.inner or port.number)
            if not all(0 < one < 65_536 for one in numbers) or port.protocol not in _PROTOCOLS:
                raise _unfit(f"{self.name}: {port.number}/{port.protocol} is not a port")
        for volume in self.volumes:
            if not _VOLUME.fullmatch(volume.name) or volume.name in names:
                raise _unfit(f"{self.name}: {volume.name!r} is not a new name for a volume")
            if not fit_to_mount(volume.mount) or volume.mount in mounts:
                raise _unfit(f"{self.name}: nothing can be mounted at {volume.mount[:300]!r}")
            if volume.size < MIB:
                raise _unfit(f"{self.name}: the volume {volume.name} needs 1 MiB or more")
            names.add(volume.name)
            mounts.add(volume.mount)

    def devices_of(self, number: int) -> tuple[Device, ...]:
        """The GPUs of one of its containers."""
        each = len(self.devices) // self.count
        return self.devices[number * each : (number + 1) * each]


@dataclass(frozen=True)
class Lease:
    """All services of one lease. `outbound` is whether they may reach the internet, `copies` are
    bytes of its machine's disk for copies of what it has saved.
    """

    lease_id: str
    services: tuple[Service, ...]
    outbound: bool = False
    copies: int = 0

    def __post_init__(self) -> None:
        check_run_id(self.lease_id)
        names = [service.name for service in self.services]
        if not names or len(set(names)) < len(names):
            raise _unfit(f"lease {self.lease_id} needs services, each with a name of its own")
        if circle_of({service.name: service.after for service in self.services}):
            raise _unfit(f"lease {self.lease_id}: a service is started after itself")

    def service(self, name: str) -> Service:
        """One of its services. Raises RunnerError when none has that name."""
        for service in self.services:
            if service.name == name:
                return service
        raise RunnerError(f"lease {self.lease_id} has no service {name[:100]!r}")

    @property
    def parts(self) -> tuple[tuple[Service, int], ...]:
        """Each container that the lease needs, as its service and its number, in the order in which
        they are started.
        """
        left, ready = list(self.services), []
        while left:
            waiting = {service.name for service in left}
            first = [service for service in left if not waiting.intersection(service.after)]
            left = [service for service in left if service not in first]
            ready += first
        return tuple((one, number) for one in ready for number in range(one.count))


class Status(Enum):
    """How a container is."""

    MISSING = "missing"  # not made yet, or gone
    CREATED = "created"  # made, never started
    RUNNING = "running"
    EXITED = "exited"
    OOM = "oom"  # ended, and the kernel had to kill something in it for memory


@dataclass(frozen=True)
class ContainerState:
    """How one container of a lease is. `deaths` counts how often it was found dead by this agent.
    `started` and `finished` are seconds since 1970, of its present or last run.
    """

    service: str
    number: int
    status: Status
    exit_code: int | None = None
    started: float | None = None
    finished: float | None = None
    deaths: int = 0
    detail: str = ""


@dataclass(frozen=True)
class LeaseState:
    """How a lease is. `wanted` is whether it was started and not stopped since."""

    lease_id: str
    wanted: bool
    containers: tuple[ContainerState, ...]

    @property
    def running(self) -> bool:
        """Whether every container runs: what rent is paid for."""
        return all(one.status is Status.RUNNING for one in self.containers)

    @property
    def down(self) -> tuple[ContainerState, ...]:
        """The containers that do not run."""
        return tuple(one for one in self.containers if one.status is not Status.RUNNING)


@dataclass(frozen=True)
class Arrival:
    """How far the images of a lease are: `here` of `images` were fetched for it. `received` bytes
    of the image that is on its way have come, of `expected` that are known so far, as they are
    packed. `under_way` is whether anything works on it now. `left` is how many bytes it may still
    add to the disk; None while no room was promised to it.
    """

    images: int
    here: int
    received: int = 0
    expected: int = 0
    under_way: bool = False
    left: int | None = None

    @property
    def whole(self) -> bool:
        """Whether the lease can be prepared without asking any registry."""
        return self.here == self.images


@dataclass(frozen=True)
class ImageRoom:
    """Bytes of the agent's disk that images take; none where the engine has another disk.

    `held` by images of leases, each once: they lie there already. `expected` is what fetches under
    way may still take. `idle` are images of leases that have ended. An owner's own are in none.
    """

    held: int = 0
    expected: int = 0
    idle: int = 0


class Shell(Protocol):
    """A program that was started in a running container, and its streams."""

    def read(self) -> tuple[int, bytes]:
        """The next piece of output, at most 64 KiB: 1 or 2 for stdout or stderr, and the bytes.
        No bytes when the program has closed both. Waits.
        """

    def write(self, data: bytes) -> None:
        """Sends to the program's stdin; waits where it does not read."""

    def finish(self) -> None:
        """No more input comes."""

    def resize(self, rows: int, columns: int) -> None:
        """Says how large the terminal is."""

    def exit_code(self) -> int | None:
        """The program's exit code; None while it runs."""

    def close(self) -> None:
        """Lets go of the streams, and wakes who waits for them; the program may go on."""


class Output(Iterator[tuple[int, bytes]], Protocol):
    """What a container prints: 1 or 2 for stdout or stderr, and at most 64 KiB."""

    def close(self) -> None:
        """Ends it. A thread that waits for the next piece gets the end; any thread may call it."""


@runtime_checkable
class Walled(Protocol):
    """A runner with walls around its leases."""

    def shut_off(self, hosts: Collection[str]) -> None:
        """No lease reaches these IPv4 addresses from the next `keep` or `prepare` on, also after a
        restart. Those of the last call are open again.
        """
        ...


class LeaseRunner(Protocol):
    """Runs leases. Every method may be called again after a crash at any moment, and from several
    threads at once: what is done to one lease never waits for another.

    All raise RunnerError; the one with the code `containers_away` says that nobody answers, so
    that nothing is known of what runs. `Refused` is the tenant's own doing.

    The order of calls for one lease: `resolve` its images when the order is signed, `fetch` before
    it is accepted, `prepare` and `start` once it is, `remove` when it has ended. `give_up` where
    it was not accepted. After a restart of the agent: `prepare` again where `state` is not known,
    and `start` again where it should run. `keep` in every cycle does all the rest.
    """

    def check(self) -> str:
        """One line that says how leases are contained, found by doing it. Takes seconds."""

    def resolve(self, image: str, credentials: Credentials | None = None) -> str:
        """The image as `name@sha256:digest`: asks its registry which bytes a tag means now. Takes
        up to a minute. Refused where no registry says it in time.
        """

    def needs(self, lease: Lease) -> Taken:
        """What of this machine a lease takes, besides its images (`image_room`) and its GPUs."""

    def fetch(
        self,
        lease: Lease,
        credentials: Mapping[str, Credentials] | None = None,
        *,
        most: int,
        seconds: float,
    ) -> None:
        """Has all images of a lease be here, so that nothing after its acceptance waits for a
        registry. Waits for them, `seconds` at most. `credentials` are by service.

        `most` bytes may be added to the disk, unpacked, all images together; they must be free. So
        hold that much in the ledger before, and then what `image_room` says. The images stay until
        `remove` or `give_up`, after a restart too. What counts is the id of the lease and which
        images it names: all else may change until it is prepared. An image that came without
        credentials is here for leases of any id. One with credentials is asked for again by each.

        Refused with the code `image_unfit`: an image cannot be had, came too slowly or is too
        large. RunnerError with `disk_full`: there is no room. With `image_given_up`: `give_up` or
        `remove` was called meanwhile.
        """

    def arrival(self, lease_id: str) -> Arrival | None:
        """How far a fetch is, or was when it ended; None where none was asked for or it was given
        up. Never waits.
        """

    def give_up(self, lease_id: str) -> None:
        """Breaks off what `fetch` or `prepare` do for a lease, within moments. One that was not
        prepared needs its images no more.
        """

    def close(self) -> None:
        """The agent ends: breaks off every fetch, now and later. All else stays as it is."""

    def image_room(self) -> ImageRoom:
        """What images take of the agent's disk now, for the ledger."""

    def free_images(self, size: int) -> int:
        """Deletes images of leases that have ended, of `size` bytes or more where there are so
        many; the bytes. The runner does it by itself when the disk is short for a fetch, for a
        lease's files, or for what has to stay free.
        """

    def prepare(self, lease: Lease, credentials: Mapping[str, Credentials] | None = None) -> None:
        """Allocates and makes all that a lease needs, once per id; starts nothing. What was not
        fetched before is fetched now. `credentials` are by service.

        Takes seconds after a fetch, and else minutes. No other call waits for it but those that
        change the same lease. Refused and RunnerError as for `fetch`.
        """

    def start(self, lease_id: str) -> None:
        """Has every container of a prepared lease run, each once, however often it is called. Call
        it again after a restart of the agent: what was broken off is finished.

        Raises RunnerError where one does not start. All others are started all the same, and `keep`
        tries again with growing pauses.
        """

    def prepared(self, lease_id: str) -> Lease | None:
        """What a lease was prepared as; None where it was not. Asks nobody."""

    def state(self, lease_id: str) -> LeaseState:
        """How a prepared lease is now, as the engine has it."""

    def stop(self, lease_id: str) -> None:
        """Ends its programs, after a moment to end by themselves; what they wrote stays."""

    def remove(self, lease_id: str) -> None:
        """Deletes all that a lease has left, its data too. Does nothing when it is not there. What
        is under way for it is broken off. Its images stay until the disk is short.
        """

    def list(self) -> tuple[str, ...]:
        """The ids of all leases of this agent of which anything is left, sorted. Those that have
        fetched images and were not prepared are among them.
        """

    def keep(self, wanted: Collection[str]) -> Mapping[str, LeaseState]:
        """Brings the machine to what it should be, in every cycle: removes leases that are not
        `wanted`, puts the walls back, starts again what has died, with growing pauses.

        `wanted` are all leases that were accepted and have not ended, and those that are fetched
        for. The answer has the state of each of them that is prepared, but for those of a machine
        that is away in a fleet: `state` says so of each. What another thread works
        on at this moment is left alone and not waited for, wanted or not. So it may be called while
        a lease is fetched for, prepared, stopped or removed.

        `containers_away` says that nothing was done and nothing is known: rent is not earned until
        the next answer, and no lease has ended for it.
        """

    def changes(self) -> Iterator[str]:
        """The ids of leases of which something has died, as it happens. A hint to look at `state`:
        it ends when the engine goes away, and may miss any.
        """

    def logs(
        self,
        lease_id: str,
        service: str,
        number: int = 0,
        *,
        follow: bool = False,
        tail: int = 1000,
    ) -> Output:
        """What a container has printed, the last `tail` lines first. `follow` goes on until it
        ends, or the output is closed.
        """

    def exec(
        self, lease_id: str, service: str, command: tuple[str, ...], number: int = 0, *, tty: bool
    ) -> Shell:
        """Starts a program in a running container, within the container's limits."""

    def address(self, lease_id: str, service: str, port: Port, number: int = 0) -> tuple[str, int]:
        """Where the agent, on this machine, reaches a port of a running container."""


def fit_to_mount(place: str) -> bool:
    """Whether a path in a container is one that something can be mounted at."""
    path = PurePosixPath(place)
    return (
        place.startswith("/")
        and not place.startswith("//")
        and place == str(path)
        and len(path.parts) > 1
        and path.parts[1] not in _THEIRS
        and ".." not in path.parts
        and len(place) <= 1100
        and place.isprintable()
        and ":" not in place
    )


def _unfit(line: str) -> Refused:
    return Refused(Code.LEASE_UNFIT, line)
