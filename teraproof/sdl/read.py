# SPDX-License-Identifier: Apache-2.0
"""A file as a `Stack`, with all its names looked up."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TypeVar

from teraproof.protocol.leasespec import circle_of
from teraproof.sdl import unsold
from teraproof.sdl.faults import Book, Place, SdlError
from teraproof.sdl.fields import Field
from teraproof.sdl.profiles import LABEL, LABEL_FORM, computes, placements
from teraproof.sdl.services import MOST_SERVICES, SERVICE, SERVICE_FORM, services
from teraproof.sdl.stack import Compute, Deployed, Service, Stack
from teraproof.sdl.tree import read as read_tree

T = TypeVar("T")

VERSIONS = ("2.0", "2.1")
SHM = "/dev/shm"  # noqa: S108 (a place in the container)

_ENDPOINT = re.compile(r"[a-z][a-z0-9_-]{1,62}")
_WINDOW = re.compile(r"([1-9][0-9]{0,7})([smh])")
_SECONDS = {"s": 1, "m": 60, "h": 3_600}
_LONGEST_NOTICE = 31_536_000


def read(data: bytes) -> Stack:
    """The stack in a file. SdlError with everything that is not valid, or not sold, in it."""
    book = Book()
    stack = read_into(data, book)
    if stack is None or book.faults:
        raise SdlError(book.faults)
    return stack


def read_into(data: bytes, book: Book) -> Stack | None:
    """The stack in a file; None when it is not valid. What is not sold is in the book."""
    tree = read_tree(data, book)
    if tree is None:
        return None
    parts = Field(tree, book).fields(
        ("version", "services", "profiles", "deployment"),
        ("endpoints", "reclamation"),
        {"include": unsold.INCLUDE, "verification": unsold.VERIFICATION},
    )
    version, profiles = parts.get("version"), parts.get("profiles")
    inner = {} if profiles is None else profiles.fields(("compute", "placement"))
    given = {**parts, **inner}

    stack = Stack(
        version=_section(version, _version, ""),
        services=_section(given.get("services"), services, {}),
        computes=_section(given.get("compute"), computes, {}),
        placements=_section(given.get("placement"), placements, {}),
        deployment=_section(given.get("deployment"), _deployment, ()),
        endpoints=_section(given.get("endpoints"), _endpoints, {}),
        notice_seconds=_section(given.get("reclamation"), _notice, 0),
    )
    if book.valid:
        _look_up(stack, book)
    return stack if book.valid else None


def _section(field: Field | None, reader: Callable[[Field], T], nothing: T) -> T:
    return nothing if field is None else reader(field)


def _version(field: Field) -> str:
    text = field.text('"2.0" or "2.1"')
    if text not in VERSIONS:
        field.choice(VERSIONS)
    return text


def _deployment(field: Field) -> tuple[Deployed, ...]:
    found = []
    for name, _, value in field.named("service", SERVICE, SERVICE_FORM, MOST_SERVICES):
        for placement, place, inner in value.named("placement", LABEL, LABEL_FORM, MOST_SERVICES):
            parts = inner.fields(("profile", "count"))
            profile, count = parts.get("profile"), parts.get("count")
            found.append(
                Deployed(
                    place=place,
                    service=name,
                    placement=placement,
                    profile="" if profile is None else profile.text(LABEL_FORM, LABEL),
                    count=1 if count is None else count.integer(1, 50),
                )
            )
    return tuple(found)


def _endpoints(field: Field) -> dict[str, Place]:
    found = {}
    form = "2 to 63 lower-case letters, digits, dashes or underscores, a letter first"
    for name, place, value in field.named("endpoint", _ENDPOINT, form, MOST_SERVICES, 0):
        kind = value.fields(("kind",)).get("kind")
        if kind is not None:
            kind.choice(("ip",))
        value.book.refuse(place, unsold.ENDPOINTS)
        found[name] = place
    return found


def _notice(field: Field) -> int:
    window = field.fields(("min_window",)).get("min_window")
    if window is None:
        return 0
    form = 'one whole number and its unit, such as "90m" or "24h"'
    found = _WINDOW.fullmatch(window.text(form, _WINDOW))
    seconds = 0 if found is None else int(found[1]) * _SECONDS[found[2]]
    if seconds > _LONGEST_NOTICE:
        window.fault("longer than a year; give less")
    return seconds


# ---------------------------------------------------------------------- names


def _look_up(stack: Stack, book: Book) -> None:
    """Note names that lead nowhere, what does not fit together, and what nobody uses."""
    for deployed in stack.deployment:
        _look_up_deployed(stack, deployed, book)
    for name, service in stack.services.items():
        _look_up_dependencies(stack, name, service, book)
    _look_up_endpoints(stack, book)
    for placement in stack.placements.values():
        for profile, price in placement.prices.items():
            if profile not in stack.computes:
                book.fault(price.place, "a price for no compute profile; take it out")
    _look_for_circle(stack, book)
    for place, what in _unused(stack):
        book.notice(place, f"this {what} is deployed nowhere; nobody rents it")


def _look_up_deployed(stack: Stack, deployed: Deployed, book: Book) -> None:
    place = deployed.place
    service = stack.services.get(deployed.service)
    compute = stack.computes.get(deployed.profile)
    placement = stack.placements.get(deployed.placement)
    if service is None:
        book.fault(place, f"no service is named {deployed.service}; write it under services")
    if compute is None:
        book.fault(place, f"no compute profile is named {deployed.profile}; write it under compute")
    if placement is None:
        book.fault(place, f"no placement is named {deployed.placement}; write it under placement")
    elif deployed.profile not in placement.prices:
        book.fault(
            place,
            f"placement {deployed.placement} has no price for {deployed.profile}; write it under "
            "pricing",
        )
    if placement is not None and len({price.denom for price in placement.prices.values()}) > 1:
        book.fault(placement.place, "prices in two denominations; give all of them in one")
    if service is None or compute is None:
        return
    _look_up_volumes(deployed, service, compute, book)
    if service.tee == "cpu-gpu" and not compute.gpus and service.tee_place is not None:
        book.fault(service.tee_place, f"cpu-gpu needs GPUs, and {deployed.profile} has none")
    near = {one.service for one in stack.deployment if one.placement == deployed.placement}
    for other, at in service.dependencies.items():
        if other not in near:
            book.notice(at, f"is not deployed in {deployed.placement}; nothing there waits for it")
    for expose in service.expose:
        for to in expose.to:
            if to.service and to.service not in near:
                book.fault(to.place, f"no service {to.service} is deployed in {deployed.placement}")
        if not any(to.public or to.service for to in expose.to):
            book.notice(
                expose.place, "nobody can connect; write to, with global: true or a service"
            )


def _look_up_volumes(deployed: Deployed, service: Service, compute: Compute, book: Book) -> None:
    names = {volume.name for volume in compute.storage}
    for name, mount in service.mounts.items():
        if name not in names:
            book.fault(mount.place, f"profile {deployed.profile} has no volume named {name}")
    loose = []
    for volume in compute.storage:
        if volume.name in service.mounts:
            mount = service.mounts[volume.name]
            if volume.persistent:
                book.notice(volume.place, unsold.PERSISTENT)
            if volume.ram and mount.path != SHM:
                book.refuse(mount.place, unsold.RAM)
            if mount.path == SHM and not volume.ram:
                book.fault(mount.place, f"{SHM} is memory; mount a volume of class ram there")
        elif volume.persistent or volume.ram:
            book.fault(
                volume.place,
                f"has to be mounted: write services.{deployed.service}.params.storage."
                f"{volume.name}.mount",
            )
        else:
            loose.append(volume)
    for volume in loose[1:]:
        book.fault(
            volume.place,
            f"a second volume without a mount: write services.{deployed.service}.params.storage."
            f"{volume.name}.mount",
        )
    memory = [volume for volume in compute.storage if volume.ram]
    for volume in memory[1:]:
        book.fault(volume.place, "a second volume of class ram; one is enough")
    for volume in memory[:1]:
        if volume.size > compute.memory:
            book.fault(volume.place, "more than memory.size, of which it is a part; give less")


def _look_up_dependencies(stack: Stack, name: str, service: Service, book: Book) -> None:
    for other, place in service.dependencies.items():
        if other not in stack.services:
            book.fault(place, f"no service is named {other}; write it under services")
        elif other == name:
            book.fault(place, "depends on itself; take it out")


def _look_up_endpoints(stack: Stack, book: Book) -> None:
    used: dict[tuple[str, int, str], str] = {}
    names = set()
    for name, service in sorted(stack.services.items()):
        for expose in service.expose:
            for to in expose.to:
                if not to.ip:
                    continue
                names.add(to.ip)
                if to.ip not in stack.endpoints:
                    book.fault(to.place, f"no endpoint is named {to.ip}; write it under endpoints")
                other = used.setdefault((to.ip, expose.outer, expose.protocol), name)
                if other != name:
                    book.fault(
                        to.place, f"port {expose.outer} of the endpoint is {other}'s already"
                    )
    for name, place in stack.endpoints.items():
        if name not in names:
            book.fault(place, "no port uses this endpoint; take it out")


def _look_for_circle(stack: Stack, book: Book) -> None:
    after = {name: tuple(each.dependencies) for name, each in stack.services.items()}
    for name in circle_of(after):
        place = next(iter(stack.services[name].dependencies.values()))
        book.fault(place, f"{name} waits for itself through its dependencies; take one out")


def _unused(stack: Stack) -> Iterator[tuple[Place, str]]:
    kinds: tuple[tuple[str, dict[str, Place], set[str]], ...] = (
        (
            "service",
            {name: one.place for name, one in stack.services.items()},
            {each.service for each in stack.deployment},
        ),
        (
            "compute profile",
            {name: one.place for name, one in stack.computes.items()},
            {each.profile for each in stack.deployment},
        ),
        (
            "placement",
            {name: one.place for name, one in stack.placements.items()},
            {each.placement for each in stack.deployment},
        ),
    )
    for what, found, used in kinds:
        for name, place in found.items():
            if name not in used:
                yield place, what
