# SPDX-License-Identifier: Apache-2.0
"""Why nobody takes a lease: the first reason and all reasons, as trying everything finds them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from fractions import Fraction
from itertools import permutations, product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teraproof.errors import SpecError
from teraproof.protocol.errors import Code
from teraproof.protocol.lease_checkpoints import Checkpoints
from teraproof.protocol.lease_match import (
    Candidate,
    LeaseRequest,
    can_place,
    first_refusal,
    refusals,
    why_not,
)
from teraproof.protocol.lease_offer import OTHERS, Capacity, LeaseOffer, Machine, Prices, from_json
from teraproof.protocol.leasespec import Gpu, GpuNeed, LeaseSpec, Port, Resources, Service, Volume
from tests.support import budget

GIB = 1 << 30
UNIT = 10**6
BIG = Gpu("nvidia", "h100", 80 * GIB, "sxm")
OLD = Gpu("nvidia", "a100", 40 * GIB, "pcie")
SMALL = Gpu("nvidia", "t4", 16 * GIB, "pcie")


def spec(
    *needs: GpuNeed,
    cpu: int = 1_000,
    medium: str | None = None,
    arch: str | None = None,
    attributes: dict[str, str] | None = None,
    notice: int = 0,
) -> LeaseSpec:
    """A lease of one service for each need, or of one without GPUs."""
    volumes = (Volume("v", GIB, "/v", persistent=True, medium=medium),) if medium else ()
    services = [
        Service(
            f"s{number}",
            "image",
            Resources(cpu, GIB, 1 << 20, GIB, need.count, need.any_of, volumes, arch),
        )
        for number, need in enumerate(needs or (GpuNeed(0, ()),))
    ]
    return LeaseSpec("g", tuple(services), attributes or {}, notice)


ROOM = Capacity(8_000, 16 * GIB, 100 * GIB, (BIG, OLD))
PRICES = Prices(
    core=Fraction(1, 100),
    memory_gib=Fraction(1, 200),
    disk_gib=Fraction(1, 10_000),
    gpu={"h100": Fraction(2), "a100": Fraction(1)},
)
OFFER = LeaseOffer(ROOM, ROOM, PRICES, outbound=True, most_notice=3_600, ready_seconds=60)
ORDER = LeaseRequest(spec(), max_rate=10_000, ready_within=600, term=3_600, notice=0)
FINE = Candidate("0xA", 100, 100, 100, 100, OFFER)


PORTS: dict[str, Any] = {"public_ports": 2, "free_ports": 2}


def published(*numbers: int, protocol: str = "tcp", hosts: tuple[str, ...] = ()) -> LeaseRequest:
    """An order of a service that everybody reaches."""
    ports = tuple(
        Port(8_080, number, protocol, public=True, hosts=hosts) for number in numbers or (80,)
    )
    asked = spec()
    return replace(ORDER, spec=replace(asked, services=(replace(asked.services[0], ports=ports),)))


def saved(asked: LeaseSpec) -> LeaseSpec:
    """With checkpoints: their volume and a copy of it take 1 GiB each."""
    first, *others = asked.services
    volume = Volume("state", GIB, "/state")
    given = replace(first.resources, volumes=(*first.resources.volumes, volume))
    services = (replace(first, resources=given, count=1), *others)
    wanted = Checkpoints(first.name, "/state", "s3://bucket/run", 60)
    return replace(asked, services=services, checkpoints=wanted)


def codes(order: LeaseRequest, candidate: Candidate) -> list[Code]:
    return [each.code for each in refusals(order, candidate, UNIT)]


def offering(**changes: Any) -> Candidate:
    return replace(FINE, offer=replace(OFFER, **changes))


def test_nothing_in_the_way__taken() -> None:
    assert codes(ORDER, FINE) == [] and first_refusal(ORDER, FINE, UNIT) is None


@pytest.mark.parametrize(
    ("order", "candidate", "code"),
    [
        (replace(ORDER, allow=("0xB",)), FINE, Code.NOT_LISTED),
        (replace(ORDER, min_stake=101), FINE, Code.STAKE_MISSING),
        (replace(ORDER, min_score=101), FINE, Code.SCORE_MISSING),
        (replace(ORDER, collateral=101), FINE, Code.COLLATERAL_OVER_LIMIT),
        (replace(ORDER, collateral=50), replace(FINE, lockable=49), Code.COLLATERAL_TAKEN),
        (ORDER, replace(FINE, offer=None), Code.AGENT_UNREACHABLE),
        (replace(ORDER, spec=spec(attributes={"a": "b"})), FINE, Code.ATTRIBUTE_MISSING),
        (
            replace(ORDER, spec=spec(attributes={"a": "b"})),
            offering(attributes={"a": "B"}),
            Code.ATTRIBUTE_MISSING,
        ),
        (ORDER, offering(outbound=False), Code.NETWORK_NOT_OFFERED),
        (replace(ORDER, spec=saved(spec())), FINE, Code.CHECKPOINTS_NOT_OFFERED),
        (published(), FINE, Code.NETWORK_NOT_OFFERED),
        (published(protocol="udp"), offering(**PORTS), Code.NETWORK_NOT_OFFERED),
        (published(hosts=("a.example",)), offering(**PORTS), Code.NETWORK_NOT_OFFERED),
        (published(80, 81, 82), offering(**PORTS), Code.LIMIT_EXCEEDED),
        (published(80, 81), offering(**PORTS | {"free_ports": 1}), Code.SLOTS_TAKEN),
        (replace(ORDER, spec=spec(arch="arm64")), FINE, Code.MACHINE_UNFIT),
        (replace(ORDER, spec=spec(medium="beta3")), FINE, Code.MACHINE_UNFIT),
        (replace(ORDER, spec=spec(GpuNeed(1, (SMALL,)))), FINE, Code.MACHINE_UNFIT),
        (replace(ORDER, spec=spec(GpuNeed(3, (Gpu("nvidia"),)))), FINE, Code.MACHINE_UNFIT),
        (replace(ORDER, spec=spec(cpu=8_001)), FINE, Code.LIMIT_EXCEEDED),
        (replace(ORDER, notice=3_601), FINE, Code.LIMIT_EXCEEDED),
        (replace(ORDER, spec=spec(notice=3_601)), FINE, Code.LIMIT_EXCEEDED),
        (replace(ORDER, term=OFFER.most_term + 1), FINE, Code.LIMIT_EXCEEDED),
        (ORDER, offering(most_containers=0), Code.LIMIT_EXCEEDED),
        (replace(ORDER, ready_within=59), FINE, Code.DURATION_TOO_SHORT),
        (ORDER, offering(free=replace(ROOM, cpu_millis=999)), Code.CORES_TAKEN),
        (ORDER, offering(free=replace(ROOM, memory_bytes=GIB - 1)), Code.MEMORY_TAKEN),
        (ORDER, offering(free=replace(ROOM, disk_bytes=0)), Code.DISK_TAKEN),
        (
            replace(ORDER, spec=spec(GpuNeed(1, (BIG,)))),
            offering(free=replace(ROOM, gpus=(OLD,))),
            Code.DEVICES_TAKEN,
        ),
        (replace(ORDER, max_rate=4), FINE, Code.PRICE_TOO_LOW),
    ],
)
def test_one_thing_in_the_way__that_reason_alone(
    order: LeaseRequest, candidate: Candidate, code: Code
) -> None:
    assert codes(order, candidate) == [code]


def test_no_way_to_the_internet__enough_for_a_lease_that_asks_for_none() -> None:
    order = replace(ORDER, spec=replace(spec(), outbound=False))
    assert codes(order, offering(outbound=False)) == [] == codes(order, FINE)


@pytest.mark.parametrize(
    ("order", "offer"),
    [
        (published(80, 81), PORTS),
        (published(hosts=("a.example",)), {"public_names": True}),
        (published(80, hosts=("a.example",)), {"public_names": True, **PORTS}),
    ],
)
def test_public_ports__that_are_to_be_had__taken(
    order: LeaseRequest, offer: dict[str, Any]
) -> None:
    assert codes(order, offering(**offer)) == []


def test_at_each_limit__taken() -> None:
    order = replace(
        ORDER,
        spec=spec(GpuNeed(1, (BIG,)), GpuNeed(1, (OLD,)), notice=3_600, attributes={"a": "b"}),
        ready_within=60,
        term=OFFER.most_term,
        notice=3_600,
        collateral=100,
        min_stake=100,
        min_score=100,
        allow=("0xA",),
    )
    rate = replace(OFFER, attributes={"a": "b"}).rate(order.spec, UNIT)
    assert rate is not None
    assert codes(replace(order, max_rate=rate), offering(attributes={"a": "b"})) == []
    dearer = codes(replace(order, max_rate=rate - 1), offering(attributes={"a": "b"}))
    assert dearer == [Code.PRICE_TOO_LOW]


def test_rate__by_the_hour_and_the_dearest_gpu_that_fits_rounded_up() -> None:
    asked = spec(GpuNeed(2, (Gpu("nvidia"),)), cpu=500)
    hour = Fraction(1, 200) + Fraction(1, 200) + Fraction(1, 10_000) + 2 * 2
    assert OFFER.rate(asked, UNIT) == math.ceil(hour * UNIT / 3_600)
    assert OFFER.rate(spec(GpuNeed(1, (SMALL,))), UNIT) is None


def test_a_gpu_without_a_price__not_for_rent() -> None:
    prices = replace(PRICES, gpu={"a100": Fraction(1)})
    order = replace(ORDER, spec=spec(GpuNeed(1, (BIG,))))
    assert codes(order, offering(prices=prices)) == [Code.MACHINE_UNFIT]


def test_document__read_as_it_was_published() -> None:
    offer = replace(OFFER, classes=("beta1", "beta3"), attributes={"region": "us-west"})
    document = json.loads(json.dumps(offer.to_json()))
    assert from_json(document) == offer and from_json(document).to_json() == document
    third = replace(offer, prices=replace(PRICES, core=Fraction(1, 3)))
    read = from_json(third.to_json())
    assert 0 < read.prices.core - Fraction(1, 3) <= Fraction(1, 10**18)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.update(more=1), "more: unknown field"),
        (lambda d: d.pop("free"), "free: missing"),
        (lambda d: d["prices"].update(core=0.5), "floats are refused"),
        (lambda d: d["prices"].update(core="1e3"), "a price as text"),
        (lambda d: d["prices"].update(core="-1"), "a price as text"),
        (lambda d: d["prices"]["gpu"].update({"H100": "1"}), "lower-case"),
        (lambda d: d["total"].update(cpu_millis=-1), "0 to "),
        (lambda d: d["total"].update(memory_bytes=2**60), "integer is beyond"),
        (lambda d: d["total"]["gpus"].append({"vendor": "amd"}), "nvidia"),
        (lambda d: d["total"].update(gpus=[{"vendor": "nvidia"}] * 1_025), "1024 devices"),
        (lambda d: d.update(attributes={"a": "\x1b"}), "printable"),
        (lambda d: d.update(outbound="yes"), "true or false"),
        (lambda d: d.update(classes=["ram"]), "beta1"),
    ],
)
def test_document__a_strangers_that_is_not_one__refused_in_one_line(change: Any, said: str) -> None:
    document = OFFER.to_json()
    change(document)
    with pytest.raises(SpecError, match=said) as refused:
        from_json(document)
    assert str(refused.value).isascii() and str(refused.value).isprintable()


def test_more_memory_than_asked_for__fits() -> None:
    wanted = Gpu("nvidia", "h100", 40 * GIB)
    assert can_place((GpuNeed(1, (wanted,)),), (BIG,))
    assert not can_place((GpuNeed(1, (replace(wanted, memory_bytes=81 * GIB),)),), (BIG,))


# ---------------------------------------------------------------------- against trying everything

SORTS = [
    Gpu("nvidia"),
    Gpu("nvidia", "h100"),
    Gpu("nvidia", "h100", 80 * GIB),
    Gpu("nvidia", "a100", None, "pcie"),
    Gpu("nvidia", "t4"),
]
needs = st.lists(
    st.builds(
        GpuNeed,
        st.integers(1, 2),
        st.lists(st.sampled_from(SORTS), min_size=1, max_size=2).map(tuple),
    ),
    max_size=3,
).map(tuple)
devices = st.lists(
    st.sampled_from([BIG, OLD, SMALL, Gpu("nvidia", "h100", 40 * GIB, "pcie")]), max_size=5
).map(tuple)


def fits_by_hand(device: Gpu, wanted: Gpu) -> bool:
    named = {name: value for name, value in wanted.to_json().items() if name != "memory_bytes"}
    same = named.items() <= device.to_json().items()
    return same and (device.memory_bytes or 0) >= (wanted.memory_bytes or 0)


def placed_by_trying(wanted: tuple[GpuNeed, ...], found: tuple[Gpu, ...]) -> bool:
    slots = [need.any_of for need in wanted for _ in range(need.count)]
    return any(
        all(
            any(fits_by_hand(device, sort) for sort in sorts)
            for device, sorts in zip(chosen, slots, strict=True)
        )
        for chosen in permutations(found, len(slots))
    )


@settings(max_examples=budget.of(80, 200), deadline=None)
@given(needs, devices)
def test_placing__as_every_permutation_says(
    wanted: tuple[GpuNeed, ...], found: tuple[Gpu, ...]
) -> None:
    assert can_place(wanted, found) is placed_by_trying(wanted, found)


@st.composite
def cases(draw: st.DrawFn) -> tuple[LeaseRequest, Candidate]:
    """An order and a provider that fail in any number of ways."""
    few = st.sampled_from([0, 1, 2, 3])
    thousands = few.map(lambda number: number * 1_000)
    gibs = few.map(lambda number: number * GIB)
    total = Capacity(draw(thousands), draw(gibs), draw(gibs), draw(devices))
    kept = draw(st.lists(st.booleans(), min_size=5, max_size=5))
    free = Capacity(
        min(total.cpu_millis, draw(thousands)),
        min(total.memory_bytes, draw(gibs)),
        min(total.disk_bytes, draw(gibs)),
        tuple(gpu for gpu, keep in zip(total.gpus, kept, strict=False) if keep),
    )
    offer = LeaseOffer(
        total,
        free,
        replace(
            PRICES,
            gpu={m: Fraction(1) for m in draw(st.sets(st.sampled_from(["h100", "a100", "t4"])))},
        ),
        arch=draw(st.sampled_from(["amd64", "arm64"])),
        classes=draw(st.sampled_from([(), ("beta1",), ("beta1", "beta3")])),
        attributes=draw(st.sampled_from([{}, {"a": "1"}, {"a": "2", "b": "1"}])),
        outbound=draw(st.booleans()),
        most_containers=draw(few),
        most_notice=draw(few),
        most_term=draw(few),
        ready_seconds=draw(few),
        public_ports=(numbers := draw(few)),
        free_ports=min(numbers, draw(few)),
        public_names=draw(st.booleans()),
        checkpoints=draw(st.booleans()),
    )
    asked = spec(
        *draw(needs),
        cpu=draw(st.sampled_from([500, 1_500])),
        medium=draw(st.sampled_from([None, "beta1", "beta3"])),
        arch=draw(st.sampled_from([None, "amd64", "arm64"])),
        attributes=draw(st.sampled_from([{}, {"a": "1"}, {"a": "1", "b": "1"}])),
        notice=draw(few),
    )
    ports = tuple(
        Port(
            8_080,
            number,
            draw(st.sampled_from(["tcp", "tcp", "udp"])),
            public=draw(st.booleans()),
            hosts=draw(st.sampled_from([(), (f"{number}.example",)])),
        )
        for number in range(draw(few))
    )
    asked = replace(asked, services=(replace(asked.services[0], ports=ports), *asked.services[1:]))
    if draw(st.booleans()):
        asked = saved(asked)
    order = LeaseRequest(
        asked,
        max_rate=draw(st.sampled_from([0, 10, 300, 10_000])),
        ready_within=draw(few),
        term=draw(few),
        notice=draw(few),
        collateral=draw(few),
        min_stake=draw(few),
        min_score=draw(few),
        allow=draw(st.sampled_from([(), ("0xA",), ("0xB",)])),
    )
    known = draw(st.booleans())
    return order, Candidate(
        "0xA", draw(few), draw(few), draw(few), draw(few), offer if known else None
    )


def reasons_by_trying(order: LeaseRequest, one: Candidate) -> list[Code]:
    """Every condition by itself, from the documents of the order and the offer."""
    found = []
    document = order.spec.to_json()
    if order.allow and one.owner not in order.allow:
        found.append(Code.NOT_LISTED)
    for has, wants, code in (
        (one.stake, order.min_stake, Code.STAKE_MISSING),
        (one.free_score, order.min_score, Code.SCORE_MISSING),
    ):
        found += [code] if has < wants else []
    if order.collateral > one.most_collateral:
        found.append(Code.COLLATERAL_OVER_LIMIT)
    elif order.collateral > one.lockable:
        found.append(Code.COLLATERAL_TAKEN)
    if one.offer is None:
        return [*found, Code.AGENT_UNREACHABLE]
    offer, replicas = one.offer, []
    for service in document["services"]:
        replicas += [service["resources"]] * service["count"]
    for pair in document["requirements"]["attributes"].items():
        found += [] if pair in offer.attributes.items() else [Code.ATTRIBUTE_MISSING]
    found += [Code.NETWORK_NOT_OFFERED] if document["outbound"] > offer.outbound else []
    public = [port for each in document["services"] for port in each["ports"] if port["public"]]
    for port in public:
        unnamed, lost = bool(port["hosts"]) > offer.public_names, offer.public_ports == 0
        wrong = [port["protocol"] == "udp", unnamed, lost and not port["hosts"]]
        found += [Code.NETWORK_NOT_OFFERED] * sum(wrong)
    found += [Code.LIMIT_EXCEEDED] if len(public) > offer.public_ports > 0 else []
    copied = 1 if "checkpoints" in document else 0
    found += [Code.CHECKPOINTS_NOT_OFFERED] if copied > offer.checkpoints else []
    wanted = {each.get("arch", offer.arch) for each in replicas} - {offer.arch}
    wanted |= {v["class"] for each in replicas for v in each["volumes"] if "class" in v} - {
        *offer.classes
    }
    found += [Code.MACHINE_UNFIT] * len(wanted)
    cpu = sum(each["cpu_millis"] for each in replicas)
    memory = sum(each["memory_bytes"] for each in replicas)
    disk = sum(each["root_bytes"] + sum(v["bytes"] for v in each["volumes"]) for each in replicas)
    disk += copied * GIB
    notice = max(order.notice, document["requirements"]["notice_seconds"])
    for has, wants in (
        (offer.most_containers, len(replicas)),
        (offer.most_notice, notice),
        (offer.most_term, order.term),
        (offer.total.cpu_millis, cpu),
        (offer.total.memory_bytes, memory),
        (offer.total.disk_bytes, disk),
    ):
        found += [Code.LIMIT_EXCEEDED] if has < wants else []
    if offer.ready_seconds > order.ready_within:
        found.append(Code.DURATION_TOO_SHORT)
    asked = order.spec.needs().gpus
    rented = [
        tuple(gpu for gpu in capacity.gpus if gpu.model in offer.prices.gpu)
        for capacity in (offer.total, offer.free)
    ]
    ever, now = (placed_by_trying(asked, each) for each in rented)
    found += [] if ever else [Code.MACHINE_UNFIT]
    for has, free, wants, code in (
        (offer.total.cpu_millis, offer.free.cpu_millis, cpu, Code.CORES_TAKEN),
        (offer.total.memory_bytes, offer.free.memory_bytes, memory, Code.MEMORY_TAKEN),
        (offer.total.disk_bytes, offer.free.disk_bytes, disk, Code.DISK_TAKEN),
    ):
        found += [code] if free < wants <= has else []
    found += [Code.SLOTS_TAKEN] if offer.free_ports < len(public) <= offer.public_ports else []
    found += [Code.DEVICES_TAKEN] if ever and not now else []
    hour = PRICES.core * Fraction(cpu, 1_000) + PRICES.memory_gib * Fraction(memory, GIB)
    hour += PRICES.disk_gib * Fraction(disk, GIB)
    fitting = [
        any(fits_by_hand(gpu, sort) for gpu, sort in product(rented[0], need.any_of))
        for need in asked
    ]
    hour += sum(need.count for need in asked)  # each costs 1
    if all(fitting) and Fraction(order.max_rate, UNIT) * 3_600 < hour:
        # The rate is a whole number: what lies between pays too little, too.
        found.append(Code.PRICE_TOO_LOW)
    return found


@settings(max_examples=budget.of(120, 300), deadline=None)
@given(cases())
def test_reasons__as_trying_every_condition_says(case: tuple[LeaseRequest, Candidate]) -> None:
    order, candidate = case
    expected = reasons_by_trying(order, candidate)
    assert codes(order, candidate) == expected
    first = why_not(order, [candidate], UNIT)["0xA"]
    assert (None if first is None else first.code) == (expected[0] if expected else None)


@st.composite
def machines(draw: st.DrawFn) -> Machine:
    """One more machine of a provider, as large as any, with some of it free."""
    _, one = draw(cases())
    offer = one.offer or OFFER
    return Machine(offer.total, offer.free)


@settings(max_examples=budget.of(80, 200), deadline=None)
@given(cases(), st.lists(machines(), max_size=3))
def test_several_machines__take_what_one_of_them_takes_alone(
    case: tuple[LeaseRequest, Candidate], others: list[Machine]
) -> None:
    order, candidate = case
    offer = candidate.offer
    if offer is None:
        return
    whole = replace(candidate, offer=replace(offer, others=tuple(others)))
    alone = [
        codes(order, replace(candidate, offer=replace(offer, total=one.total, free=one.free)))
        for one in (Machine(offer.total, offer.free), *others)
    ]
    assert (not codes(order, whole)) is any(not found for found in alone)
    # What is said to be missing is missing on one machine, and not a bit of each.
    said = [code for code in codes(order, whole) if code is not Code.PRICE_TOO_LOW]
    assert said in [[code for code in each if code is not Code.PRICE_TOO_LOW] for each in alone]


def test_several_machines__as_a_document__are_the_same() -> None:
    one = Machine(Capacity(1_000, GIB, GIB), Capacity(0, 0, 0))
    offer = replace(OFFER, others=(one, one))
    assert from_json(offer.to_json()) == offer
    assert "others" not in OFFER.to_json()
    with pytest.raises(SpecError, match="others"):
        from_json({**OFFER.to_json(), "others": [one.to_json()] * (OTHERS + 1)})
    with pytest.raises(SpecError, match="others"):
        from_json({**OFFER.to_json(), "others": [{"total": one.total.to_json()}]})
