# SPDX-License-Identifier: Apache-2.0
"""What a file says, typed: the whole of SDL 2.0 and 2.1, in the file's own order and words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from teraproof.protocol.leasespec import Http
from teraproof.sdl.faults import Place


@dataclass(frozen=True)
class To:
    """Who may connect to a port. `ip` names one of the endpoints."""

    place: Place
    public: bool = False
    service: str = ""
    ip: str = ""


@dataclass(frozen=True)
class Expose:
    """A port of a service; `as_port` 0: under its own number."""

    place: Place
    port: int
    as_port: int
    protocol: str
    to: tuple[To, ...]
    hosts: tuple[str, ...]
    http: Http | None

    @property
    def outer(self) -> int:
        """The number under which others see it."""
        return self.as_port or self.port


@dataclass(frozen=True)
class Credentials:
    """What a private registry asks for."""

    host: str
    username: str
    password: str = field(repr=False)
    email: str = ""


@dataclass(frozen=True)
class Mount:
    """Where a service has a volume of its profile."""

    place: Place
    path: str
    read_only: bool


@dataclass(frozen=True)
class Service:
    """One service."""

    place: Place
    image: str
    command: tuple[str, ...]
    args: tuple[str, ...]
    env: Mapping[str, str]
    expose: tuple[Expose, ...]
    dependencies: Mapping[str, Place]
    credentials: Credentials | None
    mounts: Mapping[str, Mount]
    tee: str
    tee_place: Place | None


@dataclass(frozen=True)
class GpuSort:
    """A sort of GPU as the file names it; sizes in bytes, None: any."""

    model: str
    ram: int | None
    interface: str | None

    def __str__(self) -> str:
        """As Akash writes it in an attribute."""
        parts = [self.model]
        if self.ram is not None:
            parts += ["ram", f"{self.ram >> 30}Gi"]
        if self.interface is not None:
            parts += ["interface", self.interface]
        return "/".join(parts)


@dataclass(frozen=True)
class Storage:
    """A volume of a profile. Its attributes are kept as they are written."""

    place: Place
    name: str
    size: int
    attributes: Mapping[str, str]

    @property
    def persistent(self) -> bool:
        """Whether it outlives its container."""
        return self.attributes.get("persistent") == "true"

    @property
    def ram(self) -> bool:
        """Whether it is memory."""
        return self.attributes.get("class") == "ram"


@dataclass(frozen=True)
class Compute:
    """A compute profile."""

    place: Place
    cpu_millis: int
    arch: str
    memory: int
    storage: tuple[Storage, ...]
    gpus: int
    gpu_sorts: tuple[GpuSort, ...]


@dataclass(frozen=True)
class Price:
    """The most that one replica may cost a block of Akash's chain, in 10^-18 of `denom`."""

    place: Place
    denom: str
    atto: int


@dataclass(frozen=True)
class Placement:
    """A placement profile."""

    place: Place
    attributes: Mapping[str, str]
    any_of: tuple[str, ...]
    all_of: tuple[str, ...]
    prices: Mapping[str, Price]


@dataclass(frozen=True)
class Deployed:
    """`count` replicas of a service, by a compute profile, in a placement."""

    place: Place
    service: str
    placement: str
    profile: str
    count: int


@dataclass(frozen=True)
class Stack:
    """A file."""

    version: str
    services: Mapping[str, Service]
    computes: Mapping[str, Compute]
    placements: Mapping[str, Placement]
    deployment: tuple[Deployed, ...]
    endpoints: Mapping[str, Place]
    notice_seconds: int
