# SPDX-License-Identifier: Apache-2.0
"""Ports that a lease opens to everybody: an outer port each, and names at one shared port.

The agent ends TLS, with the tenant's certificate where it has given one, else with its own. Where
the tenant says `plain`, bytes pass as they are: its container speaks TLS itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import socket
import ssl
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from provider_agent.dataplane import certificate, web
from provider_agent.dataplane.entrance import Entrance, Guest, Places
from provider_agent.dataplane.holders import Holding, Phase
from provider_agent.dataplane.identity import Identities
from provider_agent.dataplane.limits import PlaneLimits
from provider_agent.dataplane.outer import Key, OuterPorts
from provider_agent.dataplane.published import Published, Served
from provider_agent.dataplane.relay import Meter, pump, until
from provider_agent.dataplane.streams import Streams
from provider_agent.http.clients import RateLimit
from provider_agent.http.crowd import Crowd
from provider_agent.http.server import AddressInUse, listen
from teraproof.errors import LocalError, Refused
from teraproof.protocol import leasespec
from teraproof.protocol.dataplane import Request
from teraproof.protocol.errors import Code

log = logging.getLogger(__name__)

_TLS, _PLAIN = "tls", "plain"
_TRIES = 3  # outer ports that are tried where another program has one


@dataclass(frozen=True)
class OuterPort:
    """Where the public reaches a port of a lease. `outer` is 0 where no outer port is its own, and
    `names_port` 0 where no name leads to it.
    """

    service: str
    port: int
    """In the container."""
    as_port: int
    """In the specification."""
    outer: int
    names_port: int
    hosts: tuple[str, ...]
    mode: str
    own_certificate: bool
    """Whether the agent ends TLS with the tenant's certificate."""


class PublicPort:
    """One public port: how it is served, and by which containers."""

    def __init__(
        self, key: Key, lease_id: str, service: leasespec.Service, port: leasespec.Port
    ) -> None:
        self.key, self.lease_id, self.service, self.port = key, lease_id, service, port
        self.mode = _TLS
        self.context: ssl.SSLContext | None = None
        self.entrance: Entrance | None = None
        self.hosts: tuple[str, ...] = ()
        self.guests: set[asyncio.Task[Any] | None] = set()
        self._turn = itertools.count()

    def serve_as(self, said: Served) -> None:
        """Serve it so from the next connection on. Refused where its certificate cannot be used."""
        context = None
        if said.certificate or said.key:
            context = certificate.context(said.certificate, said.key, ssl.TLSVersion.TLSv1_2)
        self.mode, self.context = said.mode, context

    def order(self) -> Iterator[int]:
        """Its containers, each once; every connection begins with another one."""
        first, count = next(self._turn), self.service.count
        return ((first + step) % count for step in range(count))


class Public:
    """All public ports. Used on the loop alone. `meter_of` gives the bandwidth of a lease."""

    def __init__(
        self,
        outer: OuterPorts,
        published: Published,
        identities: Identities,
        streams: Streams,
        host: str,
        limits: PlaneLimits,
        turned_away: Callable[[], None] = lambda: None,
    ) -> None:
        self._turned_away = turned_away
        self._outer, self._identities, self._streams = outer, identities, streams
        self._published = published
        self._host, self._limits = host, limits
        self._ports: dict[Key, PublicPort] = {}
        self._names: Entrance | None = None
        self._shared = Places(limits.public_places)
        self._closing: set[asyncio.Task[None]] = set()
        self.meter_of: Callable[[bytes], Meter] = lambda lease: Meter(0)

    # ------------------------------------------------------------------ which are open

    def open_names(self, listener: socket.socket) -> None:
        """Opens the port at which names decide."""
        self._names = self._entrance(listener, self._serve_name, self._limits.connections)

    async def keep(
        self, confirmed: Mapping[bytes, Holding], going: Collection[bytes] | None
    ) -> None:
        """Opens the public ports of these leases, and closes all others. Those that are `going`
        keep their numbers, their names and what their tenants have said of them. None: nobody
        knows yet which those are, and all do.
        """
        for lease in {key.lease for key in self._ports} - confirmed.keys():
            self.end(lease)
        if going is not None:
            self._outer.keep(going)
            self._published.keep_only(going)
        for holding in confirmed.values():
            self._open_all(holding)

    def end(self, lease: bytes) -> None:
        """Closes the public ports of a lease, and what goes through them."""
        for key in [key for key in self._ports if key.lease == lease]:
            gone = self._ports.pop(key)
            for guest in list(gone.guests):
                if guest is not None:
                    guest.cancel()
            if gone.entrance is not None:
                task = asyncio.get_running_loop().create_task(gone.entrance.close())
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Closes all."""
        for lease in {key.lease for key in self._ports}:
            self.end(lease)
        if self._names is not None:
            await self._names.close()
        await asyncio.gather(*self._closing, return_exceptions=True)

    def _open_all(self, holding: Holding) -> None:
        for service in holding.spec.services:
            for port in service.ports:
                key = Key(holding.lease, service.name, port.as_port)
                if port.public and port.protocol == "tcp" and key not in self._ports:
                    made = PublicPort(key, holding.lease_id, service, port)
                    self._ports[key] = made
                    self._open(made)

    def _open_what_is_due(self, holding: Holding) -> None:
        """A tenant that asks does not wait for the next sweep."""
        if holding.phase is Phase.CONFIRMED:
            self._open_all(holding)

    def _open(self, made: PublicPort) -> None:
        said = self._published.of(made.key)
        if said is not None:
            try:
                made.serve_as(said)
            except Refused:  # libraries of today do not take it any more
                log.warning("data plane: the certificate of %s cannot be used", made.key)
        listener = self._listen(made.key)
        if listener is not None:

            async def serve(guest: Guest) -> None:
                await self._serve(guest, made)

            made.entrance = self._entrance(listener, serve, self._limits.public_connections)
        made.hosts = tuple(host for host in made.port.hosts if self._outer.claim(host, made.key))

    def _listen(self, key: Key) -> socket.socket | None:
        for _ in range(_TRIES):
            number = self._outer.number(key)
            if number is None:
                break
            try:
                return listen(self._host, number, "leases.outer_ports")
            except LocalError as error:
                if not isinstance(error, AddressInUse):
                    log.warning("data plane: %s", error)
                self._outer.refuse(key)
        log.warning("data plane: no outer port is free for %s", key)
        return None

    def _entrance(
        self,
        listener: socket.socket,
        serve: Callable[[Guest], Coroutine[Any, Any, None]],
        most: int,
    ) -> Entrance:
        limits = self._limits
        rate = 60 * limits.new_connections_per_second
        crowd = Crowd(most, limits.public_per_address)
        return Entrance(
            listener, crowd, RateLimit(rate, rate // 15), serve, self._shared, self._turned_away
        )

    # ------------------------------------------------------------------ what tenants ask

    def of(self, lease: bytes) -> tuple[OuterPort, ...]:
        """The public ports of a lease. For any thread."""
        names = 0 if self._names is None else self._names.port
        return tuple(
            OuterPort(
                service=key.service,
                port=one.port.port,
                as_port=key.number,
                outer=0 if one.entrance is None else one.entrance.port,
                names_port=names if one.hosts else 0,
                hosts=one.hosts if names else (),
                mode=one.mode,
                own_certificate=one.context is not None,
            )
            for key, one in list(self._ports.items())
            if key.lease == lease
        )

    async def ports(self, holding: Holding, request: Request) -> Mapping[str, Any]:
        """The outer ports of a lease."""
        self._open_what_is_due(holding)
        return {"ports": [vars(each) for each in self.of(holding.lease)]}

    async def publish(self, holding: Holding, request: Request) -> Mapping[str, Any]:
        """Changes how a public port is served from the next connection on, until its lease ends
        or the tenant says otherwise.
        """
        self._open_what_is_due(holding)
        made = self._ports.get(Key(holding.lease, request.service, request.port))
        if made is None:
            raise Refused(
                Code.PORT_UNKNOWN,
                f"the lease has no public TCP port {request.port} of {request.service!a}; give the "
                "number of its `as`",
            )
        if request.mode == _PLAIN and (made.port.http is not None or request.certificate):
            raise Refused(
                Code.CERTIFICATE_UNFIT,
                "a port with http_options, or with a certificate, is not plain: the agent must end "
                "TLS there",
            )
        said = Served(request.mode, request.certificate, request.key)
        made.serve_as(said)
        try:
            self._published.keep(made.key, said)
        except OSError as error:
            log.warning("data plane: %s: not kept over a restart: %s", made.key, error.strerror)
        return await self.ports(holding, request)

    # ------------------------------------------------------------------ guests

    def _context(self, made: PublicPort) -> ssl.SSLContext:
        return made.context or self._identities.current().public

    async def _serve_name(self, guest: Guest) -> None:
        """A guest of the shared port: its hello names the host that it wants."""
        found: list[PublicPort] = []

        def choose(secured: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> int | None:
            key = self._outer.owner((name or "").lower())
            made = None if key is None else self._ports.get(key)
            if made is None or made.mode != _TLS:
                return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
            found[:] = [made]
            secured.context = self._context(made)
            return None

        first = self._identities.for_names(choose)
        with contextlib.suppress(TimeoutError):
            await guest.secure(first, self._limits.opening_seconds)
            if found:
                await self._carry(guest, found[0])

    async def _serve(self, guest: Guest, made: PublicPort) -> None:
        """A guest of one public port."""
        context = None if made.mode == _PLAIN else self._context(made)
        with contextlib.suppress(TimeoutError):
            await guest.secure(context, self._limits.opening_seconds)
            await self._carry(guest, made)

    async def _carry(self, guest: Guest, made: PublicPort) -> None:
        task = asyncio.current_task()
        made.guests.add(task)
        try:
            if made.port.http is None:
                await self._bytes(guest, made)
            else:
                await web.Exchange(
                    guest,
                    made.port.http,
                    lambda: self._places(made),
                    self.meter_of(made.key.lease),
                    self._streams,
                ).serve()
        except Refused as refused:
            log.debug("data plane: %s: %s", made.key, refused)
        finally:
            made.guests.discard(task)

    async def _places(self, made: PublicPort) -> list[tuple[str, int]]:
        """Where its containers are, those that run, in the order of this turn."""
        places = []
        for number in made.order():
            with contextlib.suppress(Refused):
                places.append(
                    await self._streams.place(
                        made.lease_id, made.service.name, made.port.port, number
                    )
                )
        return places

    async def _bytes(self, guest: Guest, made: PublicPort) -> None:
        assert guest.reader is not None and guest.writer is not None
        near, far = (guest.reader, guest.writer), await self._first(made)
        meter = self.meter_of(made.key.lease)

        async def inward() -> None:
            await pump(near[0], far[1], meter, guest.moved)
            with contextlib.suppress(OSError):
                far[1].write_eof()
            await asyncio.Event().wait()  # the container has the last word

        async def silence() -> None:
            loop, limit = asyncio.get_running_loop(), self._limits.public_idle_seconds
            while (idle := guest.owed_for(loop.time()) or 0) < limit:
                await asyncio.sleep(limit - idle)
            raise TimeoutError

        try:
            await until(pump(far[0], near[1], meter, guest.moved), inward(), silence())
        finally:
            far[1].transport.abort()

    async def _first(self, made: PublicPort) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the first of its containers that takes one."""
        for place in await self._places(made):
            with contextlib.suppress(Refused):
                return await self._streams.connect(place)
        raise Refused(Code.SERVICE_AWAY, f"no container of {made.service.name} answers")
