# SPDX-License-Identifier: Apache-2.0
"""Lease specifications: what one provider runs for one lease, named by a sha256 as `spec`.

The document holds what is run and what a provider must have, and nothing that is secret or that
the terms of the lease say: credentials travel to the hired provider alone, prices are in the terms.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from types import MappingProxyType
from typing import Any

from teraproof.errors import SpecError
from teraproof.protocol import allow_list
from teraproof.protocol.documents import Form
from teraproof.protocol.lease_checkpoints import Checkpoints

MAX_BYTES = 256 << 10
#: What a service may write outside its volumes where its specification names no such volume.
ROOT_BYTES = 512 << 20
#: The size of /dev/shm where nothing else is named, or all memory if that is less.
SHM_BYTES = 64 << 20

_SCHEMA: dict[str, Any] = json.loads(
    resources.files(__package__).joinpath("lease_spec.schema.json").read_text("utf-8")
)
#: Parts of the schema, for documents that name the same things.
DEFINITIONS: Mapping[str, Any] = _SCHEMA["$defs"]
#: How lease specifications are read and named.
FORM = Form("lease specification", _SCHEMA, MAX_BYTES, instead="move data to the image")


@dataclass(frozen=True)
class Gpu:
    """A sort of GPU. What is None may be anything."""

    vendor: str
    model: str | None = None
    memory_bytes: int | None = None
    interface: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The document, without what may be anything."""
        parts = {
            "vendor": self.vendor,
            "model": self.model,
            "memory_bytes": self.memory_bytes,
            "interface": self.interface,
        }
        return {name: value for name, value in parts.items() if value is not None}

    def order(self) -> tuple[str, str, int, str]:
        """By this, sorts of GPU are sorted."""
        return self.vendor, self.model or "", self.memory_bytes or 0, self.interface or ""

    def __str__(self) -> str:
        parts = [self.vendor, self.model or "any model"]
        if self.memory_bytes is not None:
            parts.append(f"{self.memory_bytes >> 30} GiB")
        if self.interface is not None:
            parts.append(self.interface)
        return " ".join(parts)


@dataclass(frozen=True)
class Volume:
    """A file system of its own at a path of a service, of `bytes`."""

    name: str
    bytes: int
    mount: str
    read_only: bool = False
    persistent: bool = False
    """Whether it outlives its container: until the lease ends, never beyond."""
    medium: str | None = None
    """beta1, beta2 or beta3: hard disk, SSD or NVMe. None: any."""

    def to_json(self) -> dict[str, Any]:
        """The document."""
        document = {
            "name": self.name,
            "bytes": self.bytes,
            "mount": self.mount,
            "read_only": self.read_only,
            "persistent": self.persistent,
        }
        return document if self.medium is None else document | {"class": self.medium}


@dataclass(frozen=True)
class Resources:
    """What one replica of a service may use: exactly these are the limits of its container."""

    cpu_millis: int
    """Thousandths of a core."""
    memory_bytes: int
    shm_bytes: int
    """The size of /dev/shm, which counts as memory."""
    root_bytes: int
    """What it may write outside its volumes."""
    gpus: int = 0
    gpu_sorts: tuple[Gpu, ...] = ()
    """Any of these will do; in order, each once."""
    volumes: tuple[Volume, ...] = ()
    """In the order of their names."""
    arch: str | None = None
    """amd64, arm64 or, when it does not matter, None."""

    @property
    def disk_bytes(self) -> int:
        """What it may write outside its volumes and in them."""
        return self.root_bytes + sum(each.bytes for each in self.volumes)

    def to_json(self) -> dict[str, Any]:
        """The document."""
        document = {
            "cpu_millis": self.cpu_millis,
            "memory_bytes": self.memory_bytes,
            "shm_bytes": self.shm_bytes,
            "root_bytes": self.root_bytes,
            "gpus": {"count": self.gpus, "any_of": [each.to_json() for each in self.gpu_sorts]},
            "volumes": [each.to_json() for each in self.volumes],
        }
        return document if self.arch is None else document | {"arch": self.arch}


@dataclass(frozen=True)
class Http:
    """Limits that the door of a public port keeps. Milliseconds, bytes."""

    max_body_bytes: int = 1 << 20
    read_timeout_ms: int = 60_000
    send_timeout_ms: int = 60_000
    next_tries: int = 3
    next_timeout_ms: int = 0
    next_cases: tuple[str, ...] = ("error", "timeout")
    """When the next replica is tried; sorted, each once. An empty list: never."""

    def to_json(self) -> dict[str, Any]:
        """The document."""
        return {
            "max_body_bytes": self.max_body_bytes,
            "read_timeout_ms": self.read_timeout_ms,
            "send_timeout_ms": self.send_timeout_ms,
            "next_tries": self.next_tries,
            "next_timeout_ms": self.next_timeout_ms,
            "next_cases": list(self.next_cases),
        }


@dataclass(frozen=True)
class Port:
    """A port of a service, and who reaches it under which number."""

    port: int
    as_port: int
    protocol: str
    public: bool
    services: tuple[str, ...] = ()
    """Services of the lease that may connect; sorted, each once."""
    hosts: tuple[str, ...] = ()
    """Names under which the public reaches it; sorted, each once."""
    http: Http | None = None

    def to_json(self) -> dict[str, Any]:
        """The document."""
        document = {
            "port": self.port,
            "as": self.as_port,
            "protocol": self.protocol,
            "public": self.public,
            "services": list(self.services),
            "hosts": list(self.hosts),
        }
        return document if self.http is None else document | {"http": self.http.to_json()}

    def order(self) -> tuple[int, str, int]:
        """By this, ports are sorted; each stands once."""
        return self.port, self.protocol, self.as_port


@dataclass(frozen=True)
class Service:
    """One image and how it is run, `count` times."""

    name: str
    image: str
    resources: Resources
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    count: int = 1
    after: tuple[str, ...] = ()
    """Services that are started before; sorted, each once, without a circle."""
    ports: tuple[Port, ...] = ()
    registry: str | None = None
    """The host that wants credentials for the image; they are not in the specification."""

    def to_json(self) -> dict[str, Any]:
        """The document."""
        document = {
            "name": self.name,
            "image": self.image,
            "command": list(self.command),
            "args": list(self.args),
            "env": dict(self.env),
            "count": self.count,
            "after": list(self.after),
            "resources": self.resources.to_json(),
            "ports": [each.to_json() for each in self.ports],
        }
        return document if self.registry is None else document | {"registry": self.registry}


@dataclass(frozen=True)
class GpuNeed:
    """`count` GPUs for one container, each of any of these sorts."""

    count: int
    any_of: tuple[Gpu, ...]


@dataclass(frozen=True)
class Needs:
    """What a lease takes of its provider, for the ledger of capacity."""

    cpu_millis: int
    memory_bytes: int
    disk_bytes: int
    gpus: tuple[GpuNeed, ...]
    """One for each container that has GPUs; those of one container are on one machine."""

    @property
    def gpu_count(self) -> int:
        """GPUs of all containers together."""
        return sum(need.count for need in self.gpus)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "cpu_millis": self.cpu_millis,
            "memory_bytes": self.memory_bytes,
            "disk_bytes": self.disk_bytes,
            "gpus": [
                {"count": need.count, "any_of": [each.to_json() for each in need.any_of]}
                for need in self.gpus
            ],
        }


@dataclass(frozen=True)
class LeaseSpec:
    """A valid lease specification, version 1. `parse` and `checked` make one."""

    name: str
    services: tuple[Service, ...]
    """In the order of their names."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """What the provider must say of itself, word for word."""
    notice_seconds: int = 0
    """The shortest notice of the provider that the tenant accepts."""
    outbound: bool = True
    """Whether its containers may open connections to the internet."""
    checkpoints: Checkpoints | None = None
    """None: nothing is saved."""
    allow: tuple[str, ...] = ()
    """Owners of the only providers that may take it by an open order, in order."""

    def to_json(self) -> dict[str, Any]:
        """The document, as plain JSON values."""
        document: dict[str, Any] = {
            "version": 1,
            "name": self.name,
            "outbound": self.outbound,
            "requirements": {
                "attributes": dict(self.attributes),
                "notice_seconds": self.notice_seconds,
            },
            "services": [each.to_json() for each in self.services],
        }
        if self.checkpoints is not None:
            document["checkpoints"] = self.checkpoints.to_json()
        if self.allow:
            document["allow"] = list(self.allow)
        return document

    def canonical(self) -> bytes:
        """The bytes whose sha256 names this specification."""
        return FORM.canonical(self.to_json())

    def digest(self) -> bytes:
        """The 32 bytes that name this specification: `spec` of a lease quote."""
        return hashlib.sha256(self.canonical()).digest()

    @property
    def public(self) -> tuple[tuple[str, Port], ...]:
        """The ports that everybody reaches, with the names of their services."""
        return tuple((one.name, port) for one in self.services for port in one.ports if port.public)

    @property
    def saved(self) -> tuple[Volume, str] | None:
        """The volume that checkpoints are of, and the path inside of it ("": all of it)."""
        wanted = self.checkpoints
        for service in self.services:
            if wanted is not None and service.name == wanted.service:
                return volume_at(service.resources.volumes, wanted.path)
        return None

    def needs(self) -> Needs:
        """All containers of the lease together, with room for a copy of what is saved."""
        copy = 0 if self.saved is None else self.saved[0].bytes
        each = [(service.count, service.resources) for service in self.services]
        return Needs(
            cpu_millis=sum(count * one.cpu_millis for count, one in each),
            memory_bytes=sum(count * one.memory_bytes for count, one in each),
            disk_bytes=copy + sum(count * one.disk_bytes for count, one in each),
            gpus=tuple(
                GpuNeed(one.gpus, one.gpu_sorts)
                for count, one in each
                if one.gpus
                for _ in range(count)
            ),
        )


def parse(data: bytes) -> LeaseSpec:
    """Read a specification, however it is laid out. SpecError is one line that names the field."""
    return _build(FORM.load(data))


def parse_named(data: bytes, name: bytes) -> LeaseSpec:
    """Read a specification that is known by its digest `name` (32 bytes).

    SpecError unless `data` is exactly the canonical form and hashes to `name`.
    """
    FORM.check_name(data, name)
    spec = parse(data)
    FORM.check_canonical(data, spec.to_json())
    return spec


def checked(spec: LeaseSpec) -> LeaseSpec:
    """The same specification, if a provider would read it. SpecError otherwise."""
    data = spec.canonical()
    if len(data) > MAX_BYTES:
        raise SpecError(
            f"lease specification: larger than {MAX_BYTES} bytes; move data to the image"
        )
    return _build(spec.to_json())


def _build(document: Any) -> LeaseSpec:
    FORM.check(document)
    spec = LeaseSpec(
        name=document["name"],
        services=tuple(_service(each) for each in document["services"]),
        attributes=MappingProxyType(dict(document["requirements"]["attributes"])),
        notice_seconds=document["requirements"]["notice_seconds"],
        outbound=document["outbound"],
        checkpoints=Checkpoints(**document["checkpoints"]) if "checkpoints" in document else None,
        allow=tuple(document.get("allow", ())),
    )
    for fault in _beyond_the_schema(spec):
        raise SpecError(fault)
    return spec


def _service(document: Mapping[str, Any]) -> Service:
    given = document["resources"]
    return Service(
        name=document["name"],
        image=document["image"],
        registry=document.get("registry"),
        command=tuple(document["command"]),
        args=tuple(document["args"]),
        env=MappingProxyType(dict(document["env"])),
        count=document["count"],
        after=tuple(document["after"]),
        resources=Resources(
            cpu_millis=given["cpu_millis"],
            arch=given.get("arch"),
            memory_bytes=given["memory_bytes"],
            shm_bytes=given["shm_bytes"],
            root_bytes=given["root_bytes"],
            gpus=given["gpus"]["count"],
            gpu_sorts=tuple(Gpu(**each) for each in given["gpus"]["any_of"]),
            volumes=tuple(_volume(each) for each in given["volumes"]),
        ),
        ports=tuple(_port(each) for each in document["ports"]),
    )


def _volume(document: Mapping[str, Any]) -> Volume:
    return Volume(
        **{name: value for name, value in document.items() if name != "class"},
        medium=document.get("class"),
    )


def _port(document: Mapping[str, Any]) -> Port:
    http = document.get("http")
    return Port(
        port=document["port"],
        as_port=document["as"],
        protocol=document["protocol"],
        public=document["public"],
        services=tuple(document["services"]),
        hosts=tuple(document["hosts"]),
        http=None if http is None else Http(**http | {"next_cases": tuple(http["next_cases"])}),
    )


def _beyond_the_schema(spec: LeaseSpec) -> Iterator[str]:
    """What no schema can say: one spelling, and names that exist."""
    names = [each.name for each in spec.services]
    if not _rising(names):
        yield "services: give each name once, in order"
    known, public = set(names), set[tuple[str, int]]()
    for number, service in enumerate(spec.services):
        where = f"services[{number}]"
        given = service.resources
        for named, found in (("after", service.after), *_reached(service)):
            if not _rising(found):
                yield f"{where}.{named}: give each service once, in order"
            for name in found:
                if name not in known:
                    yield f"{where}.{named}: {name!r} is not a service of the lease"
        if not _rising([each.order() for each in given.gpu_sorts]):
            yield f"{where}.resources.gpus.any_of: give each sort once, in order"
        if not _rising([each.name for each in given.volumes]):
            yield f"{where}.resources.volumes: give each name once, in order"
        if len({each.mount for each in given.volumes}) < len(given.volumes):
            yield f"{where}.resources.volumes: two are at one path; give each its own"
        if given.shm_bytes > given.memory_bytes:
            yield f"{where}.resources.shm_bytes: more than all memory; give less"
        if not _rising([each.order() for each in service.ports]):
            yield f"{where}.ports: give each port once, in order"
        for at, port in enumerate(service.ports):
            if not _rising(port.hosts):
                yield f"{where}.ports[{at}].hosts: give each once, in order"
            if port.http is not None and not _rising(port.http.next_cases):
                yield f"{where}.ports[{at}].http.next_cases: give each once, in order"
            for host in port.hosts:
                if (host, port.as_port) in public:
                    yield f"{where}.ports[{at}].hosts: {host} is another port's; give it to one"
                public.add((host, port.as_port))
    yield from _unsaved(spec)
    if not allow_list.is_ordered(spec.allow):
        yield "allow: give each address once, in order, with its checksum"
    circle = circle_of({each.name: each.after for each in spec.services})
    if circle:
        yield f"services: {circle[0]!r} is started after itself; take it out of `after`"


def _unsaved(spec: LeaseSpec) -> Iterator[str]:
    """Why its checkpoints cannot be."""
    wanted = spec.checkpoints
    if wanted is None:
        return
    counts = {each.name: each.count for each in spec.services}
    if wanted.service not in counts:
        yield f"checkpoints.service: {wanted.service!r} is not a service of the lease"
    elif counts[wanted.service] > 1:
        yield "checkpoints.service: has several replicas; save a service that has one"
    elif spec.saved is None:
        yield "checkpoints.path: name a volume that its service writes to, or a directory in one"


def volume_at(volumes: Iterable[Volume], path: str) -> tuple[Volume, str] | None:
    """The volume that has an absolute path, and the path inside of it; None: none, or one that
    cannot be written to.
    """
    fitting = [one for one in volumes if f"{path}/".startswith(f"{one.mount}/")]
    found = max(fitting, key=lambda one: len(one.mount), default=None)
    if found is None or found.read_only:
        return None
    return found, path[len(found.mount) + 1 :]


def _reached(service: Service) -> Iterator[tuple[str, tuple[str, ...]]]:
    for at, port in enumerate(service.ports):
        yield f"ports[{at}].services", port.services


def _rising(found: Any) -> bool:
    return all(first < second for first, second in itertools.pairwise(found))


def circle_of(after: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The services that wait for each other, sorted; none when all can be started."""
    waiting = {name: set(before) & set(after) for name, before in after.items()}
    while ready := {name for name, before in waiting.items() if not before}:
        waiting = {name: before - ready for name, before in waiting.items() if name not in ready}
    return tuple(sorted(waiting))
