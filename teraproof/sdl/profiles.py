# SPDX-License-Identifier: Apache-2.0
"""The section `profiles`: what machines must have, and at what price."""

from __future__ import annotations

import re

from teraproof.sdl import unsold
from teraproof.sdl.fields import Field
from teraproof.sdl.quantities import (
    ATTO,
    cpu_millis,
    disk_bytes,
    memory_bytes,
    price_atto,
    whole,
)
from teraproof.sdl.services import MOST_SERVICES, MOST_VOLUMES, VOLUME, VOLUME_FORM
from teraproof.sdl.stack import Compute, GpuSort, Placement, Price, Storage

LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
LABEL_FORM = "1 to 63 letters, digits, dots, dashes or underscores, a letter or digit at both ends"
MOST_PROFILES = 50
DENOMS = ("uakt", "uact")

_MODEL = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?")
_ATTRIBUTE = re.compile(r"[A-Za-z][A-Za-z0-9_./-]{0,127}")
_PRINTABLE = re.compile(r"[ -~]{1,128}")
_CLASSES = ("default", "beta1", "beta2", "beta3", "ram")
_UNNAMED = "default"
_MOST_PRICE = 10**12 * ATTO


def computes(field: Field) -> dict[str, Compute]:
    """All compute profiles, by name."""
    found = {}
    for name, _, value in field.named("compute profile", LABEL, LABEL_FORM, MOST_PROFILES):
        resources = value.fields(("resources",)).get("resources")
        if resources is not None:
            found[name] = _compute(resources)
    return found


def _compute(field: Field) -> Compute:
    parts = field.fields(("cpu", "memory", "storage"), ("gpu",))
    cpu, memory, storage = parts.get("cpu"), parts.get("memory"), parts.get("storage")
    millis, arch = (0, "") if cpu is None else _cpu(cpu)
    size = None if memory is None else memory.fields(("size",)).get("size")
    gpus, sorts = _gpu(parts.get("gpu"))
    return Compute(
        place=field.place,
        cpu_millis=millis,
        arch=arch,
        memory=0 if size is None else _size(size, memory=True),
        storage=() if storage is None else _storage(storage),
        gpus=gpus,
        gpu_sorts=sorts,
    )


def _size(field: Field, memory: bool) -> int:
    if memory:
        return field.amount(memory_bytes, 6 << 20, 16 << 40, '"6Mi" to "16Ti"', text=True)
    return field.amount(disk_bytes, 5 << 20, 64 << 40, '"5Mi" to "64Ti"', text=True)


def _cpu(field: Field) -> tuple[int, str]:
    parts = field.fields(("units",), ("attributes",))
    units, attributes = parts.get("units"), parts.get("attributes")
    arch = None if attributes is None else attributes.fields((), ("arch",)).get("arch")
    return (
        0 if units is None else units.amount(cpu_millis, 10, 1_024_000, '"10m" to 1024'),
        "" if arch is None else arch.choice(("amd64", "arm64")),
    )


def _storage(field: Field) -> tuple[Storage, ...]:
    if not field.is_list:
        one = _volume(field)
        if one.name != _UNNAMED:
            field.fault("a volume with a name stands in a list; write - before it")
        return (one,)
    found: list[Storage] = []
    for each in field.items(MOST_VOLUMES, "volumes"):
        one = _volume(each)
        if any(one.name == two.name for two in found):
            each.fault(f"a second volume named {one.name}; give each its own name")
        found.append(one)
    if not found and field.is_list:
        field.fault("no volume stands here; give one with a size")
    return tuple(found)


def _volume(field: Field) -> Storage:
    parts = field.fields(("size",), ("name", "attributes"))
    size, name = parts.get("size"), parts.get("name")
    return Storage(
        place=field.place,
        name=_UNNAMED if name is None else name.text(VOLUME_FORM, VOLUME),
        size=0 if size is None else _size(size, memory=False),
        attributes=_volume_attributes(parts.get("attributes")),
    )


def _volume_attributes(field: Field | None) -> dict[str, str]:
    """As Akash completes them: sorted, with `persistent`, and a class where it is."""
    if field is None:
        return {}
    parts = field.fields((), ("class", "persistent"))
    given, kind = parts.get("persistent"), parts.get("class")
    persistent = False if given is None else given.boolean(quoted=True)
    found = {"persistent": "true" if persistent else "false"}
    if kind is not None:
        found["class"] = kind.choice(_CLASSES)
        if persistent and found["class"] == "ram":
            kind.fault("memory is never persistent; write persistent: false or another class")
        elif not persistent and found["class"] != "ram":
            kind.fault("only a persistent volume has a class; leave it out, or persistent: true")
    elif persistent:
        found["class"] = "default"
    return dict(sorted(found.items()))


def _gpu(field: Field | None) -> tuple[int, tuple[GpuSort, ...]]:
    if field is None:
        return 0, ()
    parts = field.fields((), ("units", "attributes"))
    units, attributes = parts.get("units"), parts.get("attributes")
    count = 0 if units is None else units.amount(whole, 0, 64, "0 to 64")
    sorts = () if attributes is None else _gpu_sorts(attributes)
    if count and attributes is None:
        field.fault("attributes are missing; name the vendor, such as vendor: {nvidia: }")
    if attributes is not None and not count:
        attributes.fault("attributes of no GPU; give units above 0, or leave them out")
    return count, sorts


def _gpu_sorts(field: Field) -> tuple[GpuSort, ...]:
    instead = {"interconnect": unsold.INTERCONNECT, "rdma": unsold.INTERCONNECT}
    vendor = field.fields(("vendor",), (), instead).get("vendor")
    nvidia = None if vendor is None else vendor.fields((), ("nvidia",)).get("nvidia")
    if vendor is not None and vendor.is_empty:
        vendor.fault("no vendor is named; write nvidia")
    if nvidia is None or nvidia.is_null:
        return ()
    found: list[GpuSort] = []
    for each in nvidia.items(64, "models"):
        parts = each.fields(("model",), ("ram", "interface"))
        model, ram, interface = parts.get("model"), parts.get("ram"), parts.get("interface")
        form = "a model such as a100, in lower case"
        one = GpuSort(
            model="" if model is None else model.text(form, _MODEL),
            ram=None if ram is None else _whole_gib(ram),
            interface=None if interface is None else interface.choice(("pcie", "sxm")),
        )
        if one in found:
            each.fault("the same GPU stands twice; remove one")
        found.append(one)
    return tuple(found)


def _whole_gib(field: Field) -> int:
    size = field.amount(memory_bytes, 1 << 30, 16 << 40, '"1Gi" to "16Ti"', text=True)
    if size % (1 << 30):
        field.fault('a GPU\'s memory is named in whole GiB, such as "80Gi"')
    return size


# ---------------------------------------------------------------------- placement


def placements(field: Field) -> dict[str, Placement]:
    """All placement profiles, by name."""
    return {
        name: _placement(value)
        for name, _, value in field.named("placement", LABEL, LABEL_FORM, MOST_SERVICES)
    }


def _placement(field: Field) -> Placement:
    parts = field.fields(
        ("pricing",), ("attributes", "signedBy"), {"verification": unsold.VERIFICATION}
    )
    signers = parts.get("signedBy")
    named = {} if signers is None else signers.fields((), ("anyOf", "allOf"))
    any_of, all_of = _accounts(named.get("anyOf")), _accounts(named.get("allOf"))
    if signers is not None and (any_of or all_of):
        signers.book.notice(signers.place, unsold.SIGNED_BY)
    pricing, attributes = parts.get("pricing"), parts.get("attributes")
    return Placement(
        place=field.place,
        attributes={} if attributes is None else _attributes(attributes),
        any_of=any_of,
        all_of=all_of,
        prices={} if pricing is None else _prices(pricing),
    )


def _attributes(field: Field) -> dict[str, str]:
    form = "up to 128 letters, digits and _ . / -, a letter first"
    return {
        name: value.text("1 to 128 printable characters", _PRINTABLE)
        for name, _, value in field.named("attribute", _ATTRIBUTE, form, 64, 0)
    }


def _accounts(field: Field | None) -> tuple[str, ...]:
    if field is None:
        return ()
    found: list[str] = []
    for each in field.items(64, "accounts"):
        account = each.text("the address of an account", _PRINTABLE)
        if account in found:
            each.fault("stands twice; remove one")
        found.append(account)
    return tuple(found)


def _prices(field: Field) -> dict[str, Price]:
    found = {}
    for name, place, value in field.named("compute profile", LABEL, LABEL_FORM, MOST_PROFILES):
        parts = value.fields(("denom", "amount"))
        denom, amount = parts.get("denom"), parts.get("amount")
        found[name] = Price(
            place=place,
            denom="" if denom is None else _denom(denom),
            atto=0 if amount is None else amount.amount(price_atto, 1, _MOST_PRICE, "above 0"),
        )
    return found


def _denom(field: Field) -> str:
    if field.is_text and (field.word() or "").startswith("ibc/"):
        field.fault("tokens of other chains are not read; write uact, a millionth of a dollar")
        return ""
    return field.choice(DENOMS)
