# SPDX-License-Identifier: Apache-2.0
"""Group specifications: what Akash's own tools make of a file, field for field.

They show that a file is read as Akash reads it. A lease is made from the stack (`leases`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from teraproof.sdl.quantities import ATTO
from teraproof.sdl.stack import (
    Compute,
    Deployed,
    Expose,
    Placement,
    Price,
    Service,
    Stack,
    Storage,
    To,
)

_RANDOM_PORT, _LEASED_IP = 1, 2
_WEB = 80


def group_specs(stack: Stack) -> list[dict[str, Any]]:
    """One for each placement, by name, as JSON values."""
    numbers = _sequence_numbers(stack)
    found: dict[str, dict[str, Any]] = {}
    bound: dict[tuple[str, str], dict[str, Any]] = {}
    for deployed in sorted(stack.deployment, key=lambda each: (each.service, each.placement)):
        service = stack.services[deployed.service]
        placement = stack.placements[deployed.placement]
        group = found.setdefault(deployed.placement, _group(deployed.placement, placement))
        if service.tee:
            _require(group, "tee/type", service.tee)
        endpoints = list(_endpoints(service, numbers))
        key = deployed.placement, deployed.profile
        # Version 2.1 counts the replicas of one profile together, version 2.0 does not.
        if stack.version == "2.1" and key in bound:
            unit = bound[key]
            unit["count"] += deployed.count
            unit["resource"]["endpoints"] += endpoints
            unit["resource"]["endpoints"].sort(key=lambda each: each["sequence_number"])
            continue
        bound[key] = _unit(stack, deployed, len(group["resources"]) + 1, endpoints)
        group["resources"].append(bound[key])
    return [found[name] for name in sorted(found)]


def _group(name: str, placement: Placement) -> dict[str, Any]:
    return {
        "name": name,
        "requirements": {
            "signed_by": {
                "all_of": list(placement.all_of) or None,
                "any_of": list(placement.any_of) or None,
            },
            "attributes": _pairs(placement.attributes) or None,
        },
        "resources": [],
    }


def _require(group: dict[str, Any], key: str, value: str) -> None:
    attributes = group["requirements"]["attributes"] or []
    if all(each["key"] != key for each in attributes):
        attributes = sorted(
            [*attributes, {"key": key, "value": value}], key=lambda each: each["key"]
        )
    group["requirements"]["attributes"] = attributes


def _unit(
    stack: Stack, deployed: Deployed, number: int, endpoints: list[dict[str, Any]]
) -> dict[str, Any]:
    compute = stack.computes[deployed.profile]
    price = stack.placements[deployed.placement].prices[deployed.profile]
    return {
        "resource": {"id": number, **_resources(compute), "endpoints": endpoints},
        "count": deployed.count,
        "price": {"denom": price.denom, "amount": _amount(price)},
    }


def _resources(compute: Compute) -> dict[str, Any]:
    cpu: dict[str, Any] = {"units": {"val": str(compute.cpu_millis)}}
    if compute.arch:
        cpu["attributes"] = _pairs({"arch": compute.arch})
    gpu: dict[str, Any] = {"units": {"val": str(compute.gpus)}}
    if compute.gpus:
        sorts = [str(each) for each in compute.gpu_sorts] or ["*"]
        gpu["attributes"] = _pairs({f"vendor/nvidia/model/{sort}": "true" for sort in sorts})
    return {
        "cpu": cpu,
        "memory": {"size": {"val": str(compute.memory)}},
        "storage": [_storage(each) for each in _in_order(compute.storage)],
        "gpu": gpu,
    }


def _storage(volume: Storage) -> dict[str, Any]:
    found: dict[str, Any] = {"name": volume.name, "size": {"val": str(volume.size)}}
    if volume.attributes:
        found["attributes"] = _pairs(volume.attributes)
    return found


def _in_order(volumes: tuple[Storage, ...]) -> list[Storage]:
    """By size, as Akash's own sort by insertion leaves them: it turns equals that are not
    persistent around.
    """
    found: list[Storage] = []
    for volume in volumes:
        at = len(found)
        while at and _before(volume, found[at - 1]):
            at -= 1
        found.insert(at, volume)
    return found


def _before(one: Storage, other: Storage) -> bool:
    if one.size != other.size:
        return one.size < other.size
    first, second = one.attributes.get("persistent"), other.attributes.get("persistent")
    if first != second:
        return first is None or (second is not None and first < second)
    return not one.persistent or one.name < other.name


def _endpoints(service: Service, numbers: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    reached = [(expose, to) for expose in service.expose for to in expose.to or (To(expose.place),)]
    reached.sort(key=lambda each: _exposed_order(*each))
    for expose, to in reached:
        if not to.public:
            continue
        web = expose.protocol == "tcp" and expose.outer == _WEB
        yield {"sequence_number": 0} if web else {"kind": _RANDOM_PORT, "sequence_number": 0}
        if to.ip:
            yield {"kind": _LEASED_IP, "sequence_number": numbers[to.ip]}


def _exposed_order(expose: Expose, to: To) -> tuple[str, int, str, bool]:
    return to.service, expose.port, expose.protocol, not to.public


def _sequence_numbers(stack: Stack) -> dict[str, int]:
    """The number of each endpoint: Akash counts each use of one, and each private port."""
    names = sorted(
        to.ip
        for name in {each.service for each in stack.deployment}
        for expose in stack.services[name].expose
        for to in expose.to
        if to.ip or not to.public
    )
    return {name: number for number, name in enumerate(names, 1)}


def _pairs(attributes: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in sorted(attributes.items())]


def _amount(price: Price) -> str:
    whole, rest = divmod(price.atto, ATTO)
    return f"{whole}.{rest:018d}"
