# SPDX-License-Identifier: Apache-2.0
"""What is for rent: what GPUs are called, which lease gets which, and what is left."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider_agent.core.capacity import Amounts, Capacity, Hold, Kind
from provider_agent.core.fleet import Fleet
from provider_agent.core.settings import RunnerSettings
from provider_agent.devices import Device, Survey
from provider_agent.modules.leases.settings import LeasesSettings
from provider_agent.modules.leases.stock import Stock, describe, match
from provider_agent.runners.disk import Taken
from teraproof.protocol.lease_match import can_place
from teraproof.protocol.leasespec import Gpu
from tests.agent.leases.documents import MIB, service, spec

GIB = 1 << 30


def device(number: int, name: str, memory: int = 80 * GIB) -> Device:
    return Device("cuda", number, name, f"GPU-{number}", memory)


def settings(**changes: Any) -> LeasesSettings:
    return LeasesSettings(**{"gpu_prices": {"h100": 2, "a10": 1, "rtx4090": 1}, **changes})


@pytest.mark.parametrize(
    ("name", "memory", "expected"),
    [
        ("NVIDIA H100 80GB HBM3", 85_520_809_984, Gpu("nvidia", "h100", 80 * GIB, "sxm")),
        ("NVIDIA H100 PCIe", 85_520_809_984, Gpu("nvidia", "h100", 80 * GIB, "pcie")),
        ("NVIDIA A10", 24 * GIB, Gpu("nvidia", "a10", 24 * GIB, None)),
        ("NVIDIA A100-SXM4-80GB", 80 * GIB, None),
        ("NVIDIA GeForce RTX 4090", 24 * GIB, Gpu("nvidia", "rtx4090", 24 * GIB, "pcie")),
        ("NVIDIA GeForce RTX 3090", 24 * GIB, None),
    ],
)
def test_device__has_the_name_that_tenants_use(
    name: str, memory: int, expected: Gpu | None
) -> None:
    assert describe(device(0, name, memory), settings()) == expected


def test_device__with_another_name__the_owner_says_which_it_is() -> None:
    wanted = settings(gpu_names={"h100": "NVIDIA Graphics Device"}, gpu_interface="sxm")
    found = describe(device(0, "NVIDIA Graphics Device"), wanted)
    assert found == Gpu("nvidia", "h100", 80 * GIB, "sxm")
    assert describe(device(0, "NVIDIA H100 PCIe"), wanted) is None


_models = st.sampled_from(["h100", "a10", "rtx4090"])
_needs = st.lists(st.tuples(st.integers(1, 2), st.sets(_models, min_size=1)), max_size=3)


@given(there=st.lists(_models, max_size=6), needs=_needs)
def test_match__finds_devices_exactly_when_there_are_some_that_fit(
    there: list[str], needs: list[tuple[int, set[str]]]
) -> None:
    devices = [(device(n, model), Gpu("nvidia", model, GIB)) for n, model in enumerate(there)]
    wanted = spec(
        *(
            service(
                f"s{number}",
                gpus=count,
                gpu_sorts=tuple(Gpu("nvidia", one) for one in sorted(some)),
            )
            for number, (count, some) in enumerate(needs)
        )
    )
    found = match(wanted, devices)
    assert (found is not None) == can_place(wanted.needs().gpus, tuple(sort for _, sort in devices))
    if found is not None:
        given_out = [one.uuid for each in found.values() for one in each]
        assert len(given_out) == len(set(given_out)) == wanted.needs().gpu_count
        for number, (count, some) in enumerate(needs):
            mine = found[f"s{number}"]
            assert len(mine) == count
            assert all(there[one.index] in some for one in mine)


def stock(there: Amounts, **changes: Any) -> tuple[Stock, Capacity]:
    found = Survey(tuple(device(n, "NVIDIA A10", 24 * GIB) for n in range(2)))
    capacity = Capacity(lambda: there)
    fleet = Fleet(2, lambda: found, lambda path: True)
    made = Stock(
        settings(cpus=4, **changes),
        RunnerSettings(),
        1,
        capacity,
        fleet,
        lambda lease: Taken(sum(one.memory for one, _ in lease.parts), 10 * MIB, 9),
    )
    return made, capacity


THERE = Amounts(slots=1, devices=2, memory=GIB, cpu=8_000, disk=GIB, inodes=99, gas=9)


def test_stock__what_jobs_and_leases_have_is_not_free() -> None:
    made, capacity = stock(THERE)
    capacity.put("job", Hold(Kind.OWED, Amounts(slots=1, memory=GIB // 2, cpu=1_000)))
    lease = Amounts(memory=GIB // 4, cpu=3_000, disk=GIB // 2, gas=1)
    capacity.put("lease", Hold(Kind.OFFERED, lease, by="leases"))
    total, free = made.total(), made.free()
    assert (total.cpu_millis, total.memory_bytes, len(total.gpus)) == (4_000, GIB, 2)
    assert (free.cpu_millis, free.memory_bytes, free.disk_bytes) == (1_000, GIB // 4, GIB // 2)


def test_stock__a_gpu_that_is_promised_is_chosen_no_more() -> None:
    made, _ = stock(THERE)
    held: set[str] = set()
    made.know_held(lambda: held, lambda: 0)
    wanted = spec(service(gpus=1))
    for _ in range(2):
        chosen = made.choose(wanted)
        assert chosen is not None
        (one,) = chosen["web"]
        assert one.uuid not in held
        held.add(one.uuid)
    assert made.choose(wanted) is None
    assert made.free().gpus == ()
    assert made.find({"web": ("GPU-0",)}) is not None
    assert made.find({"web": ("GPU-9",)}) is None


def test_stock__public_ports_that_leases_have_are_not_free() -> None:
    made, _ = stock(THERE, outer_ports=(30_000, 30_002))
    assert made.free_ports() == 3
    for has, free in ((2, 1), (3, 0), (4, 0)):
        made.know_held(frozenset, lambda: has)  # noqa: B023 - used before the next one
        assert made.free_ports() == free
    assert stock(THERE)[0].free_ports() == 0


def test_stock__limits_of_the_owner_hold() -> None:
    made, _ = stock(THERE, memory_mb=100, disk_mb=50)
    assert (made.total().memory_bytes, made.total().disk_bytes) == (100 * MIB, 50 * MIB)
