# SPDX-License-Identifier: Apache-2.0
"""The leases that a file asks for: one for each placement, with the most that it may cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from types import MappingProxyType
from typing import Any

from teraproof.errors import SpecError
from teraproof.protocol import leasespec
from teraproof.protocol.leasespec import Gpu, LeaseSpec, Port, Resources, Volume
from teraproof.sdl.faults import Book, Fault, SdlError
from teraproof.sdl.groups import group_specs
from teraproof.sdl.quantities import ATTO
from teraproof.sdl.read import read_into
from teraproof.sdl.stack import Compute, Credentials, Deployed, Expose, Service, Stack

#: Prices of SDL are for a block of Akash's chain; here a block is that many seconds.
BLOCK_SECONDS = 6
HOUR = 3_600
#: A month of prices: 30 days.
MONTH = 30 * 24 * HOUR
#: Dollars in a unit of each denomination; a millionth of AKT is worth what somebody says.
_MILLIONTH = Fraction(1, 10**6)


@dataclass(frozen=True)
class Lease:
    """One placement of a file: what is run, and what its registries ask for."""

    spec: LeaseSpec
    denom: str
    atto: int
    """The most that all of it may cost a block, in 10^-18 of `denom`."""
    credentials: Mapping[str, Credentials] = field(
        repr=False, default_factory=lambda: MappingProxyType({})
    )
    """By service. They are for the hired provider alone, and not in the specification."""

    def dollars(self, seconds: int, akt: Fraction) -> Fraction:
        """The most that it may cost, all of it together, in dollars. `akt`: dollars for one AKT."""
        unit = _MILLIONTH * (akt if self.denom == "uakt" else 1)
        return Fraction(self.atto, ATTO) * unit * seconds / BLOCK_SECONDS

    def max_rate(self, unit: int, akt: Fraction) -> int:
        """The same as payment token units per second, rounded down; `unit`: those of one dollar.

        What is charged at this rate for any time is never more than `dollars` says.
        """
        return math.floor(self.dollars(1, akt) * unit)


@dataclass(frozen=True)
class Examined:
    """All that can be said of a file."""

    stack: Stack | None
    """None when the file is not valid."""
    leases: tuple[Lease, ...]
    """By name of the placement; none when there are faults."""
    faults: Sequence[Fault]
    notices: Sequence[Fault]

    def group_specs(self) -> list[dict[str, Any]] | None:
        """Akash's group specifications of a valid file, also of one that is not sold here."""
        return None if self.stack is None else group_specs(self.stack)


def examine(data: bytes) -> Examined:
    """Everything about a file. Raises nothing, whatever the bytes are."""
    book = Book()
    stack = read_into(data, book)
    leases: tuple[Lease, ...] = ()
    if stack is not None and not book.faults:
        leases = _leases(stack, book)
    if book.faults:
        leases = ()
    return Examined(stack, leases, book.faults, book.notices)


def read(data: bytes) -> tuple[Lease, ...]:
    """The leases that a file asks for. SdlError, with all faults, when it cannot be leased by."""
    examined = examine(data)
    if examined.faults:
        raise SdlError(examined.faults)
    return examined.leases


def _leases(stack: Stack, book: Book) -> tuple[Lease, ...]:
    groups: dict[str, list[Deployed]] = {}
    for deployed in stack.deployment:
        groups.setdefault(deployed.placement, []).append(deployed)
    found = []
    for name, members in sorted(groups.items()):
        placement = stack.placements[name]
        prices = [(placement.prices[each.profile], each.count) for each in members]
        here = {each.service for each in members}
        spec = LeaseSpec(
            name=name,
            services=tuple(
                _service(stack, each, here, book)
                for each in sorted(members, key=lambda each: each.service)
            ),
            attributes=dict(placement.attributes),
            notice_seconds=stack.notice_seconds,
        )
        try:
            spec = leasespec.checked(spec)
        except SpecError as error:
            book.fault(placement.place, str(error))
            continue
        found.append(
            Lease(
                spec=spec,
                denom=prices[0][0].denom,
                atto=sum(price.atto * count for price, count in prices),
                credentials=MappingProxyType(
                    {
                        each.service: given
                        for each in members
                        if (given := stack.services[each.service].credentials) is not None
                    }
                ),
            )
        )
    return tuple(found)


def _service(stack: Stack, deployed: Deployed, here: set[str], book: Book) -> leasespec.Service:
    given = stack.services[deployed.service]
    return leasespec.Service(
        name=deployed.service,
        image=given.image,
        registry=None if given.credentials is None else given.credentials.host,
        command=given.command,
        args=given.args,
        env=dict(given.env),
        count=deployed.count,
        after=tuple(sorted(set(given.dependencies) & here)),
        resources=_resources(given, stack.computes[deployed.profile], book),
        ports=tuple(sorted((_port(each) for each in given.expose), key=Port.order)),
    )


def _resources(service: Service, compute: Compute, book: Book) -> Resources:
    root = [each for each in compute.storage if each.name not in service.mounts]
    if not root:
        book.notice(
            compute.place,
            f"every volume is mounted: outside them a container may write "
            f"{leasespec.ROOT_BYTES >> 20} MiB",
        )
    memory = [each.size for each in compute.storage if each.ram]
    usual = min(leasespec.SHM_BYTES, compute.memory)
    volumes = [
        Volume(
            name=each.name,
            bytes=each.size,
            mount=service.mounts[each.name].path,
            read_only=service.mounts[each.name].read_only,
            persistent=each.persistent,
            medium=each.attributes["class"]
            if each.persistent and each.attributes["class"] != "default"
            else None,
        )
        for each in compute.storage
        if each.name in service.mounts and not each.ram
    ]
    sorts = [Gpu("nvidia", each.model, each.ram, each.interface) for each in compute.gpu_sorts]
    if compute.gpus and not sorts:
        sorts = [Gpu("nvidia")]
    return Resources(
        cpu_millis=compute.cpu_millis,
        arch=compute.arch or None,
        memory_bytes=compute.memory,
        shm_bytes=memory[0] if memory else usual,
        root_bytes=root[0].size if root else leasespec.ROOT_BYTES,
        gpus=compute.gpus,
        gpu_sorts=tuple(sorted(sorts, key=Gpu.order)),
        volumes=tuple(sorted(volumes, key=lambda each: each.name)),
    )


def _port(expose: Expose) -> Port:
    return Port(
        port=expose.port,
        as_port=expose.outer,
        protocol=expose.protocol,
        public=any(each.public for each in expose.to),
        services=tuple(sorted({each.service for each in expose.to if each.service})),
        hosts=tuple(sorted(expose.hosts)),
        http=expose.http,
    )
