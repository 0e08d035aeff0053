# SPDX-License-Identifier: Apache-2.0
"""Why a provider does not take a lease: what it offers against what an order asks for.

The tenant's tools and the agent reckon alike. `refusals` names everything that stands in the way,
in one order: first what the chain says, then what never fits, then what is taken now, the price
last. The first one is the reason that people see.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from teraproof.errors import Refused
from teraproof.protocol.errors import Code
from teraproof.protocol.lease_offer import LeaseOffer, fits_any
from teraproof.protocol.leasespec import Gpu, GpuNeed, LeaseSpec


@dataclass(frozen=True)
class LeaseRequest:
    """What a tenant asks for: an order's numbers, with the documents that its digests name.

    Times in seconds, stake and collateral in TPF wei, score in operations per second.
    """

    spec: LeaseSpec
    max_rate: int
    """Payment token units per second, at most."""
    ready_within: int
    term: int
    notice: int
    """Of the provider, at least: the specification may ask for more."""
    collateral: int = 0
    min_stake: int = 0
    min_score: int = 0
    allow: tuple[str, ...] = ()
    """Owner addresses of the only providers that may take it; empty: anyone."""


@dataclass(frozen=True)
class Candidate:
    """A provider: what the chain says of it, and what its agent publishes, if it answers."""

    owner: str
    stake: int
    """TPF wei, active."""
    free_score: int
    """Proven operations per second that no order holds."""
    lockable: int
    """TPF wei of collateral that can be locked now."""
    most_collateral: int
    """TPF wei that its owner allows for one order."""
    offer: LeaseOffer | None


def refusals(order: LeaseRequest, candidate: Candidate, unit: int) -> Iterator[Refused]:
    """Everything for which the provider does not take the order; nothing when it takes it."""
    yield from _by_chain(order, candidate)
    offer = candidate.offer
    if offer is None:
        yield Refused(Code.AGENT_UNREACHABLE, "its agent does not answer, or offers no leases")
        return
    yield from _by_machine(order, offer)
    asked = offer.rate(order.spec, unit)
    if asked is not None and asked > order.max_rate:
        line = f"asks {asked} token units per second, and the order pays {order.max_rate} at most"
        yield Refused(Code.PRICE_TOO_LOW, line, least=str(asked))


def first_refusal(order: LeaseRequest, candidate: Candidate, unit: int) -> Refused | None:
    """The reason that people see; None when the provider takes the order."""
    return next(refusals(order, candidate, unit), None)


def why_not(
    order: LeaseRequest, candidates: Sequence[Candidate], unit: int
) -> dict[str, Refused | None]:
    """The first reason of each provider, by owner."""
    return {each.owner: first_refusal(order, each, unit) for each in candidates}


def _by_chain(order: LeaseRequest, candidate: Candidate) -> Iterator[Refused]:
    if order.allow and candidate.owner not in order.allow:
        yield Refused(Code.NOT_LISTED, "is not on the order's list")
    if candidate.stake < order.min_stake:
        yield Refused(Code.STAKE_MISSING, "has less stake than the order asks for")
    if candidate.free_score < order.min_score:
        yield Refused(Code.SCORE_MISSING, "has less proven speed free than the order asks for")
    if candidate.most_collateral < order.collateral:
        line = "its owner allows less collateral for one order"
        yield Refused(Code.COLLATERAL_OVER_LIMIT, line, limit=str(candidate.most_collateral))
    elif candidate.lockable < order.collateral:
        yield Refused(Code.COLLATERAL_TAKEN, "other orders hold its collateral")


def _by_machine(order: LeaseRequest, offer: LeaseOffer) -> Iterator[Refused]:
    """What stands in the way on the machine where the least does: it has to be one."""
    found = []
    for one in offer.machines:
        alone = replace(offer, total=one.total, free=one.free, others=())
        found.append((list(_never(order, alone)), list(_now(order.spec, alone))))
    never, now = min(found, key=lambda each: (len(each[0]), len(each[1])))
    yield from never
    yield from now


def _never(order: LeaseRequest, offer: LeaseOffer) -> Iterator[Refused]:
    """What no waiting changes."""
    spec, needs = order.spec, order.spec.needs()
    for name, value in spec.attributes.items():
        if offer.attributes.get(name) != value:
            line = f"does not say {name}={value} of itself"
            yield Refused(Code.ATTRIBUTE_MISSING, line, attribute=name)
    if spec.outbound and not offer.outbound:
        yield Refused(Code.NETWORK_NOT_OFFERED, "gives leases no way to the internet")
    yield from _public(spec, offer)
    if spec.checkpoints is not None and not offer.checkpoints:
        yield Refused(Code.CHECKPOINTS_NOT_OFFERED, "saves no checkpoints of leases")
    for wanted in _sorts_of_machine(spec):
        if wanted not in (offer.arch, *offer.classes):
            yield Refused(Code.MACHINE_UNFIT, f"has no {wanted}", wanted=wanted)
    containers = sum(service.count for service in spec.services)
    bounds = (
        ("containers", containers, offer.most_containers),
        ("notice", max(order.notice, spec.notice_seconds), offer.most_notice),
        ("term", order.term, offer.most_term),
        ("cpu_millis", needs.cpu_millis, offer.total.cpu_millis),
        ("memory_bytes", needs.memory_bytes, offer.total.memory_bytes),
        ("disk_bytes", needs.disk_bytes, offer.total.disk_bytes),
    )
    for name, asked, limit in bounds:
        if asked > limit:
            line = f"{name} is {asked}, and at most {limit} is to be had"
            yield Refused(Code.LIMIT_EXCEEDED, line, field=name, limit=limit)
    if order.ready_within < offer.ready_seconds:
        line = f"needs {offer.ready_seconds} s to be ready"
        yield Refused(Code.DURATION_TOO_SHORT, line, least=offer.ready_seconds)
    if not can_place(needs.gpus, offer.for_rent(offer.total)):
        yield Refused(Code.MACHINE_UNFIT, "has not all of the GPUs", wanted="gpus")


def _public(spec: LeaseSpec, offer: LeaseOffer) -> Iterator[Refused]:
    """What of its ports the public cannot reach there. A port with names needs no number of its own
    where none are to be had.
    """
    for name, port in spec.public:
        where = f"port {port.as_port} of {name}"
        if port.protocol != "tcp":
            line = f"carries no UDP to the public, as {where} needs"
            yield Refused(Code.NETWORK_NOT_OFFERED, line)
        if port.hosts and not offer.public_names:
            line = f"offers no names of hosts, as `accept` of {where} needs"
            yield Refused(Code.NETWORK_NOT_OFFERED, line)
        if not (port.hosts or offer.public_ports):
            line = f"offers no public ports, and {where} is one"
            yield Refused(Code.NETWORK_NOT_OFFERED, line)
    wanted, limit = len(spec.public), offer.public_ports
    if 0 < limit < wanted:
        line = f"public_ports is {wanted}, and at most {limit} is to be had"
        yield Refused(Code.LIMIT_EXCEEDED, line, field="public_ports", limit=limit)


def _now(spec: LeaseSpec, offer: LeaseOffer) -> Iterator[Refused]:
    """What is taken, of what there is enough in total."""
    needs, total, free = spec.needs(), offer.total, offer.free
    if free.cpu_millis < needs.cpu_millis <= total.cpu_millis:
        yield Refused(Code.CORES_TAKEN, "its cores are promised now")
    if free.memory_bytes < needs.memory_bytes <= total.memory_bytes:
        yield Refused(Code.MEMORY_TAKEN, "its memory is promised now")
    if free.disk_bytes < needs.disk_bytes <= total.disk_bytes:
        yield Refused(Code.DISK_TAKEN, "its disk is promised now")
    if offer.free_ports < len(spec.public) <= offer.public_ports:
        yield Refused(Code.SLOTS_TAKEN, "its public ports are promised now")
    if can_place(needs.gpus, offer.for_rent(total)) and not can_place(
        needs.gpus, offer.for_rent(free)
    ):
        yield Refused(Code.DEVICES_TAKEN, "its GPUs of that sort are promised now")


def _sorts_of_machine(spec: LeaseSpec) -> list[str]:
    """Architectures and media that the services name, each once, sorted."""
    found = {service.resources.arch for service in spec.services}
    found |= {one.medium for service in spec.services for one in service.resources.volumes}
    return sorted(each for each in found if each is not None)


def can_place(needs: tuple[GpuNeed, ...], devices: tuple[Gpu, ...]) -> bool:
    """Whether every container can have its own GPUs, each of a sort that it takes.

    A matching by augmenting paths: exact, where taking the first that fits is not.
    """
    slots = [need.any_of for need in needs for _ in range(need.count)]
    if len(slots) > len(devices):
        return False
    holder: dict[int, int] = {}  # the slot that holds a device

    def place(slot: int, tried: set[int]) -> bool:
        for number, device in enumerate(devices):
            if number in tried or not fits_any(device, slots[slot]):
                continue
            tried.add(number)
            if number not in holder or place(holder[number], tried):
                holder[number] = slot
                return True
        return False

    return all(place(slot, set()) for slot in range(len(slots)))
