# SPDX-License-Identifier: Apache-2.0
"""The containers of leases in the engine: made, started, ended and deleted, each once."""

from __future__ import annotations

import http.client
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from provider_agent.errors import RunnerError
from provider_agent.runners.docker import strays
from provider_agent.runners.docker.container import STOP_SECONDS, compare, document
from provider_agent.runners.docker.engine import Engine, EngineRefused, labelled
from provider_agent.runners.docker.files import LeaseFiles
from provider_agent.runners.docker.images import Images
from provider_agent.runners.docker.labels import SPEC, Names
from provider_agent.runners.docker.network import Networks
from provider_agent.runners.docker.walls import redirect
from provider_agent.runners.lease import Lease, Service

_AT_ONCE = 8
_ENDED = (http.client.NOT_FOUND, http.client.CONFLICT)

Part = tuple[str, int]
"""A container of a lease: the name of its service, and its number."""


class Containers:
    """See the module. `log_bytes` are kept of what each prints; `resolvers` are name servers."""

    def __init__(
        self,
        engine: Engine,
        names: Names,
        files: LeaseFiles,
        images: Images,
        networks: Networks,
        *,
        resolvers: Sequence[str],
        log_bytes: int,
    ) -> None:
        self._engine, self._names, self._files = engine, names, files
        self._images, self._networks = images, networks
        self._resolvers, self._log_bytes = resolvers, log_bytes

    def listed(self, lease_id: str | None = None) -> Sequence[dict[str, Any]]:
        """The containers of a lease, or of all, as the engine lists them."""
        labels = self._names.mine if lease_id is None else self._names.of(lease_id)
        found: Sequence[dict[str, Any]] = self._engine.get(
            "/containers/json", all=True, filters=labelled(labels)
        )
        return found

    def make(self, lease: Lease) -> dict[Part, str]:
        """Has all that a lease needs be there; the ids of its containers."""
        network = self._networks.ensure(lease)
        return {
            (service.name, number): self._make(lease, service, number, network)
            for service, number in lease.parts
        }

    def start(self, lease: Lease, service: Service, number: int, container: str) -> None:
        """Has a container run. Raises RunnerError.

        Where the engine cannot start it, it may have done so before it was killed: what was left
        behind then is ended. If that does not help, the container is made again: all that it
        wrote is in files of the lease. 400 is the tenant's: there is no such program.
        """
        for mend in (self._clear, self._make_again, None):
            try:
                self._engine.post(f"/containers/{container}/start")
                break
            except EngineRefused as refused:
                if refused.status == http.client.BAD_REQUEST or mend is None:
                    raise RunnerError(f"a container does not start: {refused.words}") from None
                found = self._engine.find(f"/containers/{container}/json")
                if found is not None and found["State"]["Running"]:
                    break  # somebody else was quicker
                container = mend(lease, service, number, container)
        moved = [port for port in service.ports if port.inner not in (0, port.number)]
        if moved:
            pid = int(self._engine.get(f"/containers/{container}/json")["State"]["Pid"])
            if pid:  # else it has ended already
                redirect(pid, moved)

    def stop(self, lease_id: str) -> None:
        """Ends the programs of a lease, after a moment to end by themselves."""
        found = [str(one["Id"]) for one in self.listed(lease_id)]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(self._stop, found))
        strays.end(found)

    def delete(self, lease_id: str) -> None:
        """Deletes the containers of a lease, whatever they do."""
        listed = self.listed(lease_id)
        found = [str(one["Id"]) for one in listed]
        idle = [str(one["Id"]) for one in listed if one["State"] != "running"]
        # The programs first: of a container that is gone nobody knows the id.
        strays.end(found)
        for container in found:
            self._delete(container)
        strays.end_supervisors(idle)

    # ------------------------------------------------------------------ one container

    def _make(self, lease: Lease, service: Service, number: int, network: str) -> str:
        image = self._images.find(service.image)
        if image is None:
            raise RunnerError(f"{service.image} is not here any more; prepare the lease again")
        asked = document(
            lease,
            service,
            number,
            image,
            labels=self._names.labels(lease.lease_id),
            network=network,
            mounts=self._files.storage(lease.lease_id, service, number).mounts(image),
            resolvers=self._resolvers,
            log_bytes=self._log_bytes,
        )
        return self._create(self._names.container(lease.lease_id, service.name, number), asked)

    def _create(self, name: str, asked: dict[str, Any]) -> str:
        """The id of the container of this name, made where it is not there."""
        found = self._engine.find(f"/containers/{name}/json")
        if found is not None and (_is_going(found) or _is_other(found, asked)):
            self._end(found["Id"])
            found = None
        if found is None:
            try:
                self._engine.post("/containers/create", asked, name=name)
            except EngineRefused as refused:
                if refused.status != http.client.CONFLICT:  # somebody else was quicker
                    raise
            found = self._engine.get(f"/containers/{name}/json")
            try:
                compare(asked, found)
            except RunnerError:
                self._delete(found["Id"])
                raise
        return str(found["Id"])

    def _clear(self, _lease: Lease, _service: Service, _number: int, container: str) -> str:
        """Ends what a killed engine has left running."""
        strays.end([container])
        return container

    def _make_again(self, lease: Lease, service: Service, number: int, container: str) -> str:
        self._end(container)
        return self._make(lease, service, number, self._networks.ensure(lease))

    def _stop(self, container: str) -> None:
        try:
            self._engine.post(
                f"/containers/{container}/stop", t=STOP_SECONDS, seconds=STOP_SECONDS + 30.0
            )
        except EngineRefused as refused:
            if refused.status not in _ENDED:
                raise

    def _end(self, container: str) -> None:
        """Deletes a container that does not run, with what a killed engine has left of it."""
        strays.end([container])
        self._delete(container)
        strays.end_supervisors([container])

    def _delete(self, container: str) -> None:
        self._engine.delete(f"/containers/{container}", force=True, v=True)


def _is_going(found: dict[str, Any]) -> bool:
    """Whether a container is half removed."""
    return found["State"]["Status"] in ("dead", "removing")


def _is_other(found: dict[str, Any], asked: dict[str, Any]) -> bool:
    """Whether a container was made for other terms, such as an earlier version's."""
    return bool(found["Config"]["Labels"].get(SPEC) != asked["Labels"][SPEC])
