# SPDX-License-Identifier: Apache-2.0
"""The data plane of the leases: whose they are, where it listens, how ports are reached."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from urllib.parse import urlsplit

from provider_agent.core.settings import Settings
from provider_agent.dataplane.holders import Holding, Phase
from provider_agent.dataplane.plane import PlaneSettings
from provider_agent.dataplane.public import OuterPort
from provider_agent.modules.leases.repository import LIVE, LeaseRow, LeasesRepository
from provider_agent.modules.leases.settings import LeasesSettings
from provider_agent.modules.leases.specs import Specs
from teraproof.protocol.lease_terms import LeaseStatus
from teraproof.protocol.lease_wire import EndpointReport
from teraproof.protocol.leasespec import LeaseSpec, Port, Service

FOLDER = "data-plane"
_NOTHING = LeaseSpec("", ())
_PLAIN = "plain"  # the container speaks TLS itself, or nothing does


def plane_settings(settings: Settings) -> PlaneSettings:
    """Where the data plane listens."""
    wanted = settings.section(LeasesSettings)
    return PlaneSettings(
        state=settings.agent.data_dir / FOLDER,
        host=wanted.data_host,
        port=wanted.data_port,
        outer=wanted.outer_ports,
        names_port=wanted.names_port,
        # The runner of a fleet carries each port to one of its own, on loopback.
        containers_here=wanted.runner == "ray",
    )


class Holders:
    """The leases, as the data plane asks for them. Any thread; `now` is the chain's time, `settled`
    whether every lease of ours has a row or is one of the `lost`, whose terms are not known.
    """

    def __init__(
        self,
        store: LeasesRepository,
        specs: Specs,
        now: Callable[[], int],
        settled: Callable[[], bool],
        lost: Callable[[], Collection[bytes]],
    ) -> None:
        self._store, self._specs, self._now = store, specs, now
        self._settled, self._lost = settled, lost

    def find(self, lease: bytes) -> Holding | None:
        """The lease of this id; None where the agent does not have it."""
        row = self._store.lease(lease)
        if row is None or not row.is_ours:
            return None
        spec = self._specs.spec(row.spec)
        return None if spec is None else self._holding(row, spec)

    def holdings(self) -> Collection[Holding]:
        """All leases that have not ended. One whose specification or whose terms are missing goes
        on as well, without ports.
        """
        found = [
            self._holding(row, self._specs.spec(row.spec) or _NOTHING) for row in self._store.ours()
        ]
        lost = set(self._lost()) - {one.lease for one in found}
        return [*found, *(Holding(one, one.hex(), "", Phase.GRACE, _NOTHING) for one in lost)]

    def are_all_known(self) -> bool:
        """See `dataplane.holders.Leaseholders`."""
        return self._settled()

    def _holding(self, row: LeaseRow, spec: LeaseSpec) -> Holding:
        return Holding(row.lease_id, row.name, row.requester, self._phase(row), spec)

    def _phase(self, row: LeaseRow) -> Phase:
        if row.status not in LIVE:
            return Phase.ENDED
        if row.status is LeaseStatus.ASSIGNED or row.in_grace(self._now()):
            return Phase.GRACE
        # Its end is the clock's, whoever is late to close it.
        return Phase.ENDED if self._now() > row.ends_at else Phase.CONFIRMED


class Endpoints:
    """How the ports of a lease are reached. `port` is the data plane's, `public` where the public
    reaches a lease now.
    """

    def __init__(
        self,
        settings: Settings,
        port: Callable[[], int],
        public: Callable[[bytes], Collection[OuterPort]],
    ) -> None:
        named = settings.section(LeasesSettings).data_name
        self._host = named or urlsplit(settings.api.public_url).hostname or "127.0.0.1"
        if ":" in self._host:
            self._host = f"[{self._host}]"
        self._port, self._public = port, public

    def __call__(self, row: LeaseRow, spec: LeaseSpec) -> list[EndpointReport]:
        """Every TCP port by the data plane, and the public ones as the public reaches them."""
        opened = {(one.service, one.as_port): one for one in self._public(row.lease_id)}
        found: list[EndpointReport] = []
        for service in spec.services:
            for port in service.ports:
                ways = [] if port.protocol != "tcp" else [self._by_plane(service, port)]
                one = opened.get((service.name, port.as_port)) if port.public else None
                if one is not None:
                    ways += self._by_public(port, one)
                found += [_report(service, port, url) for url in ways or [""]]
        return found

    def _by_plane(self, service: Service, port: Port) -> str:
        return f"teraproof://{self._host}:{self._port()}/{service.name}/{port.port}"

    def _by_public(self, port: Port, one: OuterPort) -> Iterator[str]:
        scheme = "tcp" if one.mode == _PLAIN else "https" if port.http is not None else "tls"
        if one.outer:
            yield f"{scheme}://{self._host}:{one.outer}"
        if one.names_port:
            for name in one.hosts:
                yield f"{scheme}://{name}:{one.names_port}"


def _report(service: Service, port: Port, url: str) -> EndpointReport:
    return EndpointReport(service.name, port.port, port.as_port, port.protocol, port.public, url)
