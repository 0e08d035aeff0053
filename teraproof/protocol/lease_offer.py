# SPDX-License-Identifier: Apache-2.0
"""What a provider offers for leases: a JSON document that its agent publishes.

It is a stranger's: `from_json` takes it whole or refuses it in one line, and it is bounded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from types import MappingProxyType
from typing import Any

from teraproof.protocol.documents import Form
from teraproof.protocol.leasespec import DEFINITIONS, Gpu, GpuNeed, LeaseSpec

_GIB = 1 << 30
_HOUR = 3_600
_PLACES = 18  # of a price in a document
OTHERS = 63
"""Machines of an offer besides the first, at most."""


def _object(properties: dict[str, Any], said: str) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": sorted(properties),
        "properties": properties,
        "description": said,
    }


def _whole(most: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": 0, "maximum": most, "description": f"0 to {most}"}


_MOST = 2**53 - 1
_PRICE = {
    "type": "string",
    "pattern": r"^(?:0|[1-9][0-9]{0,11})(?:\.[0-9]{1,18})?$(?!\n)",
    "description": 'a price as text, such as "0.25"',
}
_CAPACITY = _object(
    {
        "cpu_millis": _whole(_MOST),
        "memory_bytes": _whole(_MOST),
        "disk_bytes": _whole(_MOST),
        "gpus": {
            "type": "array",
            "maxItems": 1_024,
            "items": {"$ref": "#/$defs/gpu"},
            "description": "a list of at most 1024 devices",
        },
    },
    "an object with cpu_millis, memory_bytes, disk_bytes and gpus",
)
_SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$defs": {"gpu": DEFINITIONS["gpu"], "capacity": _CAPACITY},
    **_object(
        {
            "total": {"$ref": "#/$defs/capacity"},
            "free": {"$ref": "#/$defs/capacity"},
            "prices": _object(
                {
                    "core": _PRICE,
                    "memory_gib": _PRICE,
                    "disk_gib": _PRICE,
                    "gpu": {
                        "type": "object",
                        "maxProperties": 256,
                        "propertyNames": DEFINITIONS["gpu"]["properties"]["model"],
                        "additionalProperties": _PRICE,
                        "description": "an object from models to prices",
                    },
                },
                "an object with core, memory_gib, disk_gib and gpu",
            ),
            "arch": {"enum": ["amd64", "arm64"], "description": "amd64 or arm64"},
            "classes": {
                "type": "array",
                "maxItems": 3,
                "items": DEFINITIONS["volume"]["properties"]["class"],
                "description": "a list of beta1, beta2 and beta3",
            },
            "attributes": DEFINITIONS["attributes"],
            "outbound": {"type": "boolean", "description": "true or false"},
            "public_ports": _whole(65_535),
            "free_ports": _whole(65_535),
            "public_names": {"type": "boolean", "description": "true or false"},
            "checkpoints": {"type": "boolean", "description": "true or false"},
            "most_containers": _whole(10_000),
            "most_notice": _whole(2**32),
            "most_term": _whole(2**32),
            "ready_seconds": _whole(2**32),
        },
        "an object that describes an offer",
    ),
}
_MACHINE = _object(
    {"total": {"$ref": "#/$defs/capacity"}, "free": {"$ref": "#/$defs/capacity"}},
    "an object with total and free",
)
# An offer of one machine has none.
_SCHEMA["properties"]["others"] = {
    "type": "array",
    "maxItems": OTHERS,
    "items": _MACHINE,
    "description": f"a list of at most {OTHERS} machines",
}
FORM = Form("lease offer", _SCHEMA, 256 << 10, instead="name fewer devices")


@dataclass(frozen=True)
class Prices:
    """What a provider asks per hour, in whole payment tokens."""

    core: Fraction = Fraction(0)
    memory_gib: Fraction = Fraction(0)
    disk_gib: Fraction = Fraction(0)
    gpu: Mapping[str, Fraction] = field(default_factory=dict)
    """By model; a model that is not named is not for rent."""

    def to_json(self) -> dict[str, Any]:
        """The document."""
        return {
            "core": _price(self.core),
            "memory_gib": _price(self.memory_gib),
            "disk_gib": _price(self.disk_gib),
            "gpu": {name: _price(price) for name, price in self.gpu.items()},
        }


@dataclass(frozen=True)
class Capacity:
    """What a machine has, or has free. `gpus` has one entry for each device, fully described."""

    cpu_millis: int
    memory_bytes: int
    disk_bytes: int
    gpus: tuple[Gpu, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The document."""
        return {
            "cpu_millis": self.cpu_millis,
            "memory_bytes": self.memory_bytes,
            "disk_bytes": self.disk_bytes,
            "gpus": [each.to_json() for each in self.gpus],
        }


@dataclass(frozen=True)
class Machine:
    """One machine of a provider that has several."""

    total: Capacity
    free: Capacity

    def to_json(self) -> dict[str, Any]:
        """The document."""
        return {"total": self.total.to_json(), "free": self.free.to_json()}


@dataclass(frozen=True)
class LeaseOffer:
    """What an agent publishes for leases. A lease goes whole to one machine."""

    total: Capacity
    free: Capacity
    prices: Prices
    arch: str = "amd64"
    classes: tuple[str, ...] = ()
    """Media that it has for persistent volumes: beta1, beta2, beta3."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    outbound: bool = False
    """Whether it gives leases a way to the internet."""
    public_ports: int = 0
    """Numbers that it has for public ports of leases."""
    free_ports: int = 0
    """Those that no lease has."""
    public_names: bool = False
    """Whether the public reaches leases by the names of hosts."""
    checkpoints: bool = False
    """Whether it saves what a lease names, and begins with it again."""
    most_containers: int = 50
    most_notice: int = 0
    """Seconds of notice that it promises at most."""
    most_term: int = 30 * 24 * _HOUR
    ready_seconds: int = 0
    """What it needs from the assignment to `ready`."""
    others: tuple[Machine, ...] = ()
    """Its machines besides the first, whose are `total` and `free`."""

    @property
    def machines(self) -> tuple[Machine, ...]:
        """All of its machines."""
        return (Machine(self.total, self.free), *self.others)

    def rate(self, spec: LeaseSpec, unit: int) -> int | None:
        """Payment token units per second that it asks for all of it, rounded up. `unit`: those of
        one token. None when it has no GPU that fits, or no price for it.

        A GPU costs what the dearest costs that fits: which one it will be is not known before.
        """
        needs, hour = spec.needs(), Fraction(0)
        hour += self.prices.core * Fraction(needs.cpu_millis, 1_000)
        hour += self.prices.memory_gib * Fraction(needs.memory_bytes, _GIB)
        hour += self.prices.disk_gib * Fraction(needs.disk_bytes, _GIB)
        for need in needs.gpus:
            fitting = [self.prices.gpu[each.model] for each in self._for_rent(need) if each.model]
            if not fitting:
                return None
            hour += need.count * max(fitting)
        return math.ceil(hour * unit / _HOUR)

    def to_json(self) -> dict[str, Any]:
        """The document."""
        return {
            "total": self.total.to_json(),
            "free": self.free.to_json(),
            "prices": self.prices.to_json(),
            "arch": self.arch,
            "classes": list(self.classes),
            "attributes": dict(self.attributes),
            "outbound": self.outbound,
            "public_ports": self.public_ports,
            "free_ports": self.free_ports,
            "public_names": self.public_names,
            "checkpoints": self.checkpoints,
            "most_containers": self.most_containers,
            "most_notice": self.most_notice,
            "most_term": self.most_term,
            "ready_seconds": self.ready_seconds,
            **({"others": [each.to_json() for each in self.others]} if self.others else {}),
        }

    def for_rent(self, capacity: Capacity) -> tuple[Gpu, ...]:
        """The devices of a capacity that have a price."""
        return tuple(each for each in capacity.gpus if each.model in self.prices.gpu)

    def _for_rent(self, need: GpuNeed) -> list[Gpu]:
        there = [each for one in self.machines for each in self.for_rent(one.total)]
        return [each for each in there if fits_any(each, need.any_of)]


def fits(device: Gpu, wanted: Gpu) -> bool:
    """Whether a device is of a sort: at least the memory, and the same in everything else named."""
    return (
        device.vendor == wanted.vendor
        and wanted.model in (None, device.model)
        and (wanted.memory_bytes or 0) <= (device.memory_bytes or 0)
        and wanted.interface in (None, device.interface)
    )


def fits_any(device: Gpu, sorts: tuple[Gpu, ...]) -> bool:
    """Whether a device is of one of the sorts."""
    return any(fits(device, wanted) for wanted in sorts)


def from_json(document: Any) -> LeaseOffer:
    """The offer in a JSON value. SpecError is one line that names the field."""
    FORM.check(document)
    prices = document["prices"]
    return LeaseOffer(
        total=_capacity(document["total"]),
        free=_capacity(document["free"]),
        prices=Prices(
            core=Fraction(prices["core"]),
            memory_gib=Fraction(prices["memory_gib"]),
            disk_gib=Fraction(prices["disk_gib"]),
            gpu=MappingProxyType({name: Fraction(each) for name, each in prices["gpu"].items()}),
        ),
        arch=document["arch"],
        classes=tuple(document["classes"]),
        attributes=MappingProxyType(dict(document["attributes"])),
        outbound=document["outbound"],
        public_ports=document["public_ports"],
        free_ports=document["free_ports"],
        public_names=document["public_names"],
        checkpoints=document["checkpoints"],
        most_containers=document["most_containers"],
        most_notice=document["most_notice"],
        most_term=document["most_term"],
        ready_seconds=document["ready_seconds"],
        others=tuple(
            Machine(_capacity(each["total"]), _capacity(each["free"]))
            for each in document.get("others", ())
        ),
    )


def _capacity(document: Mapping[str, Any]) -> Capacity:
    return Capacity(
        cpu_millis=document["cpu_millis"],
        memory_bytes=document["memory_bytes"],
        disk_bytes=document["disk_bytes"],
        gpus=tuple(Gpu(**each) for each in document["gpus"]),
    )


def _price(price: Fraction) -> str:
    """A price as text, rounded up where it has more digits than a document holds."""
    whole, rest = divmod(math.ceil(price * 10**_PLACES), 10**_PLACES)
    digits = f"{rest:0{_PLACES}d}".rstrip("0")
    return f"{whole}.{digits}" if digits else str(whole)
