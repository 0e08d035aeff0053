# SPDX-License-Identifier: Apache-2.0
"""The lease runner of Docker Engine: see `runners.lease` for what it promises.

What has to be there follows from the files of a lease. Each step finds out what is there, and makes
what is missing, by names that the engine gives out once. So a step may be broken off anywhere, by
the death of the agent, of the engine or of the machine, and done again.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from provider_agent import durable
from provider_agent.errors import RunnerError
from provider_agent.runners.base import MIB
from provider_agent.runners.disk import Taken
from provider_agent.runners.docker import storage, trial
from provider_agent.runners.docker.containers import Containers
from provider_agent.runners.docker.deaths import Deaths
from provider_agent.runners.docker.engine import (
    SOCKET,
    Engine,
    EngineAway,
    EngineRefused,
    labelled,
    named,
)
from provider_agent.runners.docker.fetches import Fetches
from provider_agent.runners.docker.files import LeaseFiles
from provider_agent.runners.docker.images import Images
from provider_agent.runners.docker.labels import Names, place_of
from provider_agent.runners.docker.locks import Locks
from provider_agent.runners.docker.network import Networks
from provider_agent.runners.docker.space import Space
from provider_agent.runners.docker.streams import DockerOutput, DockerShell
from provider_agent.runners.docker.walls import Walls
from provider_agent.runners.lease import (
    Arrival,
    ContainerState,
    Credentials,
    ImageRoom,
    Lease,
    LeaseState,
    Port,
    Service,
    Status,
)
from teraproof.errors import Refused, TeraproofError
from teraproof.protocol.errors import Code

log = logging.getLogger(__name__)

_STATUS = {"created": Status.CREATED, "running": Status.RUNNING}


class DockerRunner:
    """See the module. `agent` is text that no other agent of the machine has; `pool` the addresses
    of leases, `resolvers` the name servers of those with `outbound`. An image may have
    `image_bytes`, and those of a lease that was not fetched for take `pull_seconds`. `reserve`
    bytes and `reserve_inodes` of the engine's disk stay free. `log_bytes` are kept of what a
    container prints.
    """

    def __init__(
        self,
        data_dir: Path,
        agent: str,
        *,
        socket: Path = SOCKET,
        pool: str = "198.19.0.0/16",
        resolvers: Sequence[str] = ("9.9.9.9", "1.1.1.1"),
        image_bytes: int = 32_768 * MIB,
        pull_seconds: float = 1800.0,
        reserve: int = 2048 * MIB,
        reserve_inodes: int = 50_000,
        log_bytes: int = storage.LOG_BYTES,
        seconds: float = 30.0,
    ) -> None:
        self.engine = Engine(socket, seconds=seconds)
        self._names, self._resolvers, self._log_bytes = Names(agent), tuple(resolvers), log_bytes
        self._data_dir, self._pool = data_dir.absolute(), pool
        self._files = LeaseFiles(self._data_dir / "leases")
        self._image_bytes, self._pull_seconds = image_bytes, pull_seconds
        self._space = Space(self.engine, reserve, reserve_inodes)
        self._images = Images(self.engine, self._data_dir / "images", self._space, most=image_bytes)
        self._fetches = Fetches(
            self._data_dir / "fetches", self._images, self._space, self._files.images
        )
        self._walls = Walls(self._names.bridges, self._names.tag, self._resolvers)
        self._shut = self._data_dir / "shut-off.json"
        self._walls.shut_off(_kept(self._shut))
        self._networks = Networks(self.engine, self._names, self._walls, pool)
        self._made = Containers(
            self.engine,
            self._names,
            self._files,
            self._images,
            self._networks,
            resolvers=self._resolvers,
            log_bytes=log_bytes,
        )
        self._deaths = Deaths()
        self._locks = Locks()

    # ------------------------------------------------------------------ before a lease

    def check(self) -> str:
        """See `lease.LeaseRunner`."""
        # Under another name, so that an agent that runs meanwhile does not clear it away.
        place, agent = self._data_dir / "check", f"{self._names.agent}, check"
        other = DockerRunner(
            place,
            agent,
            socket=self.engine.place,
            pool=self._pool,
            resolvers=self._resolvers,
            log_bytes=self._log_bytes,
        )
        try:
            return trial.run(other, other.engine, other._images.own, self._pool)
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def resolve(self, image: str, credentials: Credentials | None = None) -> str:
        """See `lease.LeaseRunner`."""
        return self._images.resolve(image, credentials)

    def needs(self, lease: Lease) -> Taken:
        """See `lease.LeaseRunner`."""
        return storage.needs(lease, self._log_bytes)

    # ------------------------------------------------------------------ images

    def fetch(
        self,
        lease: Lease,
        credentials: Mapping[str, Credentials] | None = None,
        *,
        most: int,
        seconds: float,
    ) -> None:
        """See `lease.LeaseRunner`."""
        self._check(lease)
        with self._fetches.work(lease.lease_id) as work:
            self._fetches.fetch(
                work, lease, credentials or {}, most=most, seconds=seconds, firm=True
            )

    def arrival(self, lease_id: str) -> Arrival | None:
        """See `lease.LeaseRunner`."""
        return self._fetches.arrival(lease_id)

    def give_up(self, lease_id: str) -> None:
        """See `lease.LeaseRunner`."""
        self._fetches.cut(lease_id)
        with self._locks.held(lease_id):
            if self._files.find(lease_id) is None:
                self._fetches.release(lease_id)

    def close(self) -> None:
        """See `lease.LeaseRunner`."""
        self._fetches.close()

    def image_room(self) -> ImageRoom:
        """See `lease.LeaseRunner`."""
        return self._fetches.room(self._data_dir)

    def free_images(self, size: int) -> int:
        """See `lease.LeaseRunner`."""
        return self._fetches.free(size)

    # ------------------------------------------------------------------ the life of a lease

    def prepare(self, lease: Lease, credentials: Mapping[str, Credentials] | None = None) -> None:
        """See `lease.LeaseRunner`."""
        self._check(lease)
        with self._fetches.work(lease.lease_id) as work:
            self._fetches.fetch(
                work,
                lease,
                credentials or {},
                most=self._image_bytes * len(lease.services),
                seconds=self._pull_seconds,
                firm=False,
            )
            with self._locks.held(lease.lease_id):
                work.check()
                if self._files.write(lease) and self._space.is_shared_with(self._data_dir):
                    self._fetches.make_room(self.needs(lease).disk)
                for service, number in lease.parts:
                    self._files.storage(lease.lease_id, service, number).allocate()
                self._made.make(lease)

    def _check(self, lease: Lease) -> None:
        """Before anything is fetched for it. Raises Refused, RunnerError."""
        if len(lease.parts) > self._networks.most_parts:
            raise Refused(
                Code.LEASE_UNFIT,
                f"the lease has {len(lease.parts)} containers; {self._networks.most_parts} fit",
            )
        self._files.check(lease)

    def start(self, lease_id: str) -> None:
        """See `lease.LeaseRunner`."""
        with self._locks.held(lease_id):
            lease = self._files.read(lease_id)
            self._files.want(lease_id, started=True)
            made = self._made.make(lease)
            broken: list[RunnerError] = []
            for service, number in lease.parts:
                try:
                    self._made.start(lease, service, number, made[service.name, number])
                except EngineAway:
                    raise
                except RunnerError as error:  # it keeps no other from it
                    broken.append(error)
            if broken:
                raise broken[0]

    def stop(self, lease_id: str) -> None:
        """See `lease.LeaseRunner`."""
        with self._locks.held(lease_id):
            self._files.read(lease_id)
            self._files.want(lease_id, started=False)
            self._made.stop(lease_id)

    def remove(self, lease_id: str) -> None:
        """See `lease.LeaseRunner`."""
        self._fetches.cut(lease_id)
        with self._locks.held(lease_id):
            self._remove(lease_id)

    def _remove(self, lease_id: str) -> None:
        self._made.delete(lease_id)
        self._networks.remove(lease_id)
        self._files.remove(lease_id)
        self._fetches.release(lease_id)
        self._deaths.forget(lease_id)

    def list(self) -> tuple[str, ...]:
        """See `lease.LeaseRunner`."""
        made = {place_of(container)[0] for container in self._containers()}
        kept = self._files.ids() | self._fetches.ids()
        return tuple(sorted(made | self._networks.leases() | kept))

    def prepared(self, lease_id: str) -> Lease | None:
        """See `lease.LeaseRunner`."""
        return self._files.find(lease_id)

    def directory(self, lease_id: str, service: str, volume: str) -> Path:
        """See `shelves.Shelves`."""
        with self._locks.held(lease_id):
            lease = self._files.read(lease_id)
            return self._files.storage(lease_id, lease.service(service), 0).directory(volume)

    def state(self, lease_id: str) -> LeaseState:
        """See `lease.LeaseRunner`."""
        return self._state(self._files.read(lease_id), self._containers(lease_id))

    def keep(self, wanted: Collection[str]) -> Mapping[str, LeaseState]:
        """See `lease.LeaseRunner`."""
        for lease_id in set(self.list()) - set(wanted):
            if not self._fetches.under_way(lease_id):
                self._alone(lease_id, self._remove)
        self._networks.rebuild()
        states = self._look(wanted)
        dead = [state.lease_id for state in states.values() if state.wanted and state.down]
        for lease_id in dead:
            self._alone(lease_id, self._revive)
        self._fetches.make_room(0)
        return self._look(wanted) if dead else states

    def shut_off(self, hosts: Collection[str]) -> None:
        """See `lease.Walled`."""
        if set(hosts) == set(_kept(self._shut)):
            return  # they stand since the start, or since the call that has kept them
        self._walls.shut_off(hosts)
        fresh = self._shut.with_suffix(".new")
        try:
            self._data_dir.mkdir(parents=True, exist_ok=True)
            fresh.write_text(json.dumps(sorted(hosts)))
            durable.sync(fresh)
            fresh.replace(self._shut)
        except OSError as error:
            log.warning("addresses of the fleet cannot be kept: %s", error.strerror)

    def changes(self) -> Iterator[str]:
        """See `lease.LeaseRunner`."""
        what = labelled(self._names.mine, type=["container"], event=["die", "oom", "destroy"])
        with self.engine.stream("GET", "/events", {"filters": what}) as stream:
            for event in stream.lines():
                yield place_of({"Labels": event["Actor"]["Attributes"]})[0]

    # ------------------------------------------------------------------ a running lease

    def logs(
        self,
        lease_id: str,
        service: str,
        number: int = 0,
        *,
        follow: bool = False,
        tail: int = 1000,
    ) -> DockerOutput:
        """See `lease.LeaseRunner`."""
        name = self._container(lease_id, service, number)
        query = {"stdout": True, "stderr": True, "follow": follow, "tail": tail}
        return DockerOutput(self.engine.stream("GET", f"/containers/{name}/logs", query))

    def exec(
        self, lease_id: str, service: str, command: tuple[str, ...], number: int = 0, *, tty: bool
    ) -> DockerShell:
        """See `lease.LeaseRunner`."""
        name = self._container(lease_id, service, number)
        asked = {
            "AttachStdin": True,
            "AttachStdout": True,
            "AttachStderr": True,
            "Tty": tty,
            "Cmd": list(command),
            "Privileged": False,
        }
        try:
            made = self.engine.post(f"/containers/{name}/exec", asked)["Id"]
            stream = self.engine.stream(
                "POST",
                f"/exec/{named(made)}/start",
                {},
                {"Detach": False, "Tty": tty},
                upgrade=True,
            )
        except EngineRefused as refused:
            raise RunnerError(f"nothing can be started in {service}: {refused.words}") from None
        return DockerShell(self.engine, made, stream, tty=tty)

    def address(self, lease_id: str, service: str, port: Port, number: int = 0) -> tuple[str, int]:
        """See `lease.LeaseRunner`."""
        ports = self._files.read(lease_id).service(service).ports
        if (port.number, port.protocol) not in {(one.number, one.protocol) for one in ports}:
            raise RunnerError(f"{service} has no port {port.number}/{port.protocol}")
        found = self.engine.find(f"/containers/{self._container(lease_id, service, number)}/json")
        networks = found["NetworkSettings"]["Networks"] if found is not None else {}
        place = networks.get(self._names.network(lease_id), {}).get("IPAddress")
        if not place:
            raise RunnerError(f"{service} does not run now")
        return str(place), port.number

    # ------------------------------------------------------------------ steps

    def _revive(self, lease_id: str) -> None:
        """Starts what has died, once its pause is over."""
        if not self._files.wanted(lease_id):
            return
        lease = self._files.read(lease_id)
        state = self._state(lease, self._containers(lease_id))
        due = [one for one in state.down if self._deaths.is_due(lease_id, one, time.monotonic())]
        if due:
            made = self._made.make(lease)
            for one in due:
                self._start_again(lease, one, made[one.service, one.number])

    def _start_again(self, lease: Lease, one: ContainerState, container: str) -> None:
        """One that cannot be started keeps no other from it, and waits as one that dies does."""
        try:
            self._made.start(lease, lease.service(one.service), one.number, container)
        except EngineAway:
            raise
        except RunnerError as error:
            self._deaths.refused(lease.lease_id, one, time.monotonic())
            log.warning("lease %s: %s", lease.lease_id, error)

    def _alone(self, lease_id: str, work: Callable[[str], None]) -> None:
        """Does it where nobody else is at the lease. The fault of one is not another's; where the
        engine is away, it is everybody's.
        """
        try:
            with self._locks.tried(lease_id) as free:
                if free:
                    work(lease_id)
        except EngineAway:
            raise
        except (TeraproofError, OSError) as error:
            log.warning("lease %s: %s", lease_id, error)

    # ------------------------------------------------------------------ looking

    def _containers(self, lease_id: str | None = None) -> Sequence[dict[str, Any]]:
        return self._made.listed(lease_id)

    def _container(self, lease_id: str, service: str, number: int) -> str:
        asked = self._files.read(lease_id).service(service)
        if not 0 <= number < asked.count:
            raise RunnerError(f"{service} has {asked.count} containers; count from 0")
        return self._names.container(lease_id, service, number)

    def _look(self, lease_ids: Collection[str]) -> dict[str, LeaseState]:
        """The states of leases, by one question for all and one for each container that is down."""
        by_lease: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        for container in self._containers():
            by_lease[place_of(container)[0]].append(container)
        found = {}
        for lease_id in lease_ids:
            lease = self._files.find(lease_id)
            if lease is not None:
                found[lease_id] = self._state(lease, by_lease[lease_id])
        return found

    def _state(self, lease: Lease, containers: Sequence[dict[str, Any]]) -> LeaseState:
        there = {place_of(container)[1:]: container for container in containers}
        return LeaseState(
            lease.lease_id,
            self._files.wanted(lease.lease_id),
            tuple(
                self._container_state(lease, service, number, there.get((service.name, number)))
                for service, number in lease.parts
            ),
        )

    def _container_state(
        self, lease: Lease, service: Service, number: int, listed: dict[str, Any] | None
    ) -> ContainerState:
        if listed is not None and listed["State"] == "running":
            deaths = self._deaths.count(lease.lease_id, service.name, number)
            return ContainerState(service.name, number, Status.RUNNING, deaths=deaths)
        found = None if listed is None else self.engine.find(f"/containers/{listed['Id']}/json")
        if found is None:
            return ContainerState(service.name, number, Status.MISSING)
        said = found["State"]
        status = _STATUS.get(said["Status"], Status.EXITED)
        if status is Status.EXITED and said["OOMKilled"]:
            status = Status.OOM
        state = ContainerState(
            service.name,
            number,
            status,
            exit_code=None if status in _STATUS.values() else int(said["ExitCode"]),
            started=_seconds(said["StartedAt"]),
            finished=_seconds(said["FinishedAt"]),
            detail=" ".join(str(said.get("Error") or "").split())[:500],
        )
        return self._deaths.see(lease.lease_id, state, time.monotonic())


def _kept(place: Path) -> list[str]:
    try:
        return [str(one) for one in json.loads(place.read_bytes())]
    except (OSError, ValueError, TypeError):
        return []


def _seconds(stamp: str) -> float | None:
    """Seconds since 1970 of a time of the engine's; None for its way to say never."""
    return None if stamp.startswith("0001-") else datetime.fromisoformat(stamp).timestamp()
