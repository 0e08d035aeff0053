# SPDX-License-Identifier: Apache-2.0
"""What a fleet promises: each lease one machine, and no machine more than it has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider_agent.core.capacity import Amounts, Capacity
from provider_agent.core.fleet import Fleet
from provider_agent.core.settings import RunnerSettings
from provider_agent.devices import Device, Survey
from provider_agent.errors import RunnerError
from provider_agent.modules.leases.fleet_stock import FleetStock
from provider_agent.modules.leases.images import fetch_name
from provider_agent.modules.leases.settings import LeasesSettings
from provider_agent.modules.leases.stock import Promised
from provider_agent.runners.disk import Taken
from provider_agent.runners.lease import Lease
from teraproof.protocol.lease_checkpoints import Checkpoints
from teraproof.protocol.leasespec import Gpu, LeaseSpec
from tests.agent.leases.documents import MIB, service, spec, volume

GIB = 1 << 30


@dataclass(frozen=True)
class Room:
    cpu: int
    memory: int = 8 * GIB
    disk: int = 8 * GIB
    devices: tuple[Device, ...] = ()


@dataclass
class Machine:
    name: str
    ours: Room
    coming: int = 0
    inodes: int = 10**6


@dataclass
class Machines:
    """A runner that places where it was asked to."""

    seen: list[Machine]
    placed: dict[str, str] = field(default_factory=dict)
    preferred: dict[str, str] = field(default_factory=dict)
    bounds: dict[str, Mapping[str, int]] = field(default_factory=dict)
    fetched: dict[str, frozenset[str]] = field(default_factory=dict)

    def needs(self, lease: Lease) -> Taken:
        return Taken(sum(one.memory for one, _ in lease.parts), lease.copies + 10 * MIB, 9)

    def where(self) -> dict[str, str]:
        return self.placed

    def prefer(self, machines: Mapping[str, str]) -> None:
        self.preferred = dict(machines)

    def having(self, lease_id: str) -> frozenset[str] | None:
        return self.fetched.get(lease_id)

    def bound(self, lease_id: str, most: Mapping[str, int] | None) -> None:
        self.bounds[lease_id] = most or {}


def gpu(number: int, name: str = "NVIDIA A10") -> Device:
    return Device("cuda", number, name, f"GPU-{number}", 24 * GIB)


def stock(*machines: Machine, held: set[str] | None = None) -> tuple[FleetStock, Machines]:
    runner = Machines(list(machines))
    settings = LeasesSettings(
        gpu_prices={"a10": Decimal(1), "h100": Decimal(2)},
        runner="ray",
        ray_address="10.0.0.1:6379",
        ray_token_file=Path("/token"),
    )
    capacity = Capacity(lambda: Amounts(slots=1, gas=99, collateral=99))
    fleet = Fleet(0, lambda: Survey(()), lambda path: True)
    made = FleetStock(settings, RunnerSettings(), 1, capacity, fleet, runner)
    made.know_held(lambda: held or set(), lambda: 0)
    return made, runner


def wants(cores: int, **more: Any) -> LeaseSpec:
    return spec(service(cpu_millis=1_000 * cores, **more))


def promised(cores: int, name: str = "") -> Promised:
    return Promised(wants(cores), {}, name)


def test_two_machines__what_fits_their_sum_alone_is_not_promised() -> None:
    made, _ = stock(Machine("a", Room(4_000)), Machine("b", Room(2_000)))
    assert [one.total.cpu_millis for one in made.machines()] == [4_000, 2_000]
    assert not made.take("whale", promised(5))
    assert made.take("large", promised(4))
    assert [one.free.cpu_millis for one in made.machines()] == [2_000, 0]
    assert (made.total().cpu_millis, made.free().cpu_millis) == (2_000, 2_000)
    assert not made.take("more", promised(3))
    assert made.take("small", promised(2))
    assert made.free().cpu_millis == 0
    assert not made.take("crumb", promised(1))
    made.release("small")
    assert made.take("crumb", promised(1))


def test_small_leases__fill_up_one_machine__and_leave_room_for_a_large_one() -> None:
    made, _ = stock(Machine("a", Room(4_000)), Machine("b", Room(4_000)))
    for number in range(4):
        assert made.take(number, promised(1))
    assert made.take("large", promised(4))


def test_promise__becomes_a_lease__and_goes_where_it_was_promised() -> None:
    made, runner = stock(Machine("a", Room(4_000)), Machine("b", Room(4_000)))
    assert made.take("quote", promised(3))
    assert made.take("other", promised(4))
    made.restate({"quote": promised(3), "other": promised(4, "22")})
    made.restate({"lease": promised(3, "11"), "other": promised(4, "22")})
    assert sorted(runner.preferred.values()) == ["a", "b"]
    # What is on a machine is there, whatever was thought.
    runner.placed = {"11": "a", "22": "b"}
    made.restate({"lease": promised(3, "11"), "other": promised(4, "22")})
    assert made.free().cpu_millis == 1_000
    assert not made.take("new", promised(2))
    made.restate({"other": promised(4, "22")})
    assert made.take("new", promised(4))


def test_agent_starts_again__what_was_promised_is_promised_again() -> None:
    made, _ = stock(Machine("a", Room(4_000)), Machine("b", Room(2_000)))
    made.restate({"one": promised(4), "two": promised(2)})
    assert not made.take("new", promised(1))


def test_no_machine_was_ever_seen__nothing_is_said_of_what_is_too_large() -> None:
    made, runner = stock()
    known = [made.is_known]
    assert made.total().cpu_millis == 0
    runner.seen.append(Machine("a", Room(4_000)))
    known.append(made.is_known)
    assert known == [False, True]
    runner.seen.clear()
    assert (made.total().cpu_millis, made.free().cpu_millis) == (4_000, 0)


def test_machine_away__its_room_is_not_promised__and_its_leases_take_no_others() -> None:
    made, runner = stock(Machine("a", Room(4_000)), Machine("b", Room(4_000)))
    runner.placed = {"11": "b"}
    made.restate({"lease": promised(4, "11")})
    runner.seen = runner.seen[:1]
    made.restate({"lease": promised(4, "11")})
    assert made.total().cpu_millis == made.free().cpu_millis == 4_000
    assert made.is_known
    assert made.take("new", promised(4))
    assert not made.take("more", promised(4))


def test_gpus__of_one_machine__and_each_once() -> None:
    a = Machine("a", Room(4_000, devices=(gpu(0),)))
    b = Machine("b", Room(4_000, devices=(gpu(1), gpu(2))))
    held: set[str] = set()
    made, _ = stock(a, b, held=held)
    pair = wants(1, gpus=2)
    found = made.choose(pair)
    assert found is not None
    assert {one.uuid for one in found["web"]} == {"GPU-1", "GPU-2"}
    chosen = {"web": tuple(one.uuid for one in found["web"])}
    assert made.take("pair", Promised(pair, chosen))
    held |= {"GPU-1", "GPU-2"}
    assert made.choose(pair) is None  # there is one left, and a third was never there
    single = made.choose(wants(1, gpus=1))
    assert single is not None
    assert [one.uuid for one in single["web"]] == ["GPU-0"]
    assert made.choose(wants(1, gpus=1, gpu_sorts=(Gpu("nvidia", "h100"),))) is None
    assert made.find({"web": ("GPU-0",)}) == {"web": (gpu(0),)}
    assert made.find({"web": ("GPU-9",)}) is None


def test_gpu_is_free__its_machine_is_full__nothing_is_promised() -> None:
    made, _ = stock(Machine("a", Room(2_000, devices=(gpu(0),))), Machine("b", Room(4_000)))
    made.restate({"lease": promised(1, "11")})
    one = Promised(wants(2, gpus=1), {"web": ("GPU-0",)})
    assert made.take("gpu", one)
    made.release("gpu")
    assert made.take("fills", Promised(wants(2), {"web": ("GPU-0",)}))
    assert made.choose(wants(1, gpus=1)) is None


def test_lease_that_is_saved__takes_room_for_a_copy_on_its_machine() -> None:
    large = service(cpu_millis=1_000, volumes=(volume(bytes=512 * MIB),))
    plain = spec(large)
    saved = spec(large, checkpoints=Checkpoints(large.name, "/data", "s3://bucket/run", 300))
    made, _ = stock(Machine("a", Room(4_000, disk=660 * MIB)))
    assert made.take("saved", Promised(saved, {}))
    assert made.free().disk_bytes < 100 * MIB
    made.release("saved")
    assert made.take("plain", Promised(plain, {}))
    assert not made.take("saved", Promised(saved, {}))


def test_images_that_come__take_a_share_of_what_no_lease_was_promised() -> None:
    a, b = Machine("a", Room(4_000, disk=100 * MIB)), Machine("b", Room(4_000, disk=40 * MIB))
    made, runner = stock(a, b)
    runner.placed = {"11": "a", "22": "b"}
    made.restate({"one": promised(1, "11"), "two": promised(1, "22")})
    free = {one.total.disk_bytes: one.free.disk_bytes for one in made.machines()}
    assert free == {100 * MIB: 90 * MIB, 40 * MIB: 30 * MIB}
    with made.fetching("spec", 20 * MIB):
        assert runner.bounds["spec"] == {"a": 20 * MIB, "b": 15 * MIB}
        # Nobody is promised what comes meanwhile, and the next one gets a share of the rest.
        assert made.free().disk_bytes == 70 * MIB
        with made.fetching("more", 80 * MIB):
            assert runner.bounds["more"] == {"a": 35 * MIB, "b": 15 * MIB // 2}
        # The machine speaks of the same bytes.
        a.coming = 20 * MIB
        assert made.free().disk_bytes == 70 * MIB
        a.coming = 25 * MIB
        assert made.free().disk_bytes == 65 * MIB
    a.coming = 0
    assert made.free().disk_bytes == 90 * MIB and runner.bounds["spec"] == {}


def test_lease__is_promised_a_machine_that_got_its_images() -> None:
    full = Machine("a", Room(2_000, devices=(gpu(0),)))
    made, runner = stock(full, Machine("b", Room(4_000, devices=(gpu(1),))))
    one = promised(1)
    assert made.take("first", one)  # a has less left, so it comes first
    assert sorted(each.free.cpu_millis for each in made.machines()) == [1_000, 4_000]
    made.release("first")
    runner.fetched[fetch_name(one.spec.digest())] = frozenset({"b"})
    assert made.take("one", one)
    assert sorted(each.free.cpu_millis for each in made.machines()) == [2_000, 3_000]
    asked = wants(1, gpus=1)
    runner.fetched[fetch_name(asked.digest())] = frozenset({"b"})
    found = made.choose(asked)
    assert found is not None and [each.uuid for each in found["web"]] == ["GPU-1"]
    runner.fetched[fetch_name(asked.digest())] = frozenset({"c"})
    assert made.choose(asked) is None and not made.take("nowhere", Promised(asked, {}))


def test_fetch_fails__its_room_is_free_again() -> None:
    made, _ = stock(Machine("a", Room(4_000, disk=100 * MIB)))
    with pytest.raises(RunnerError), made.fetching("spec", 50 * MIB):
        raise RunnerError("no such image")
    assert made.free().disk_bytes == 100 * MIB


def test_disk_has_no_more_files__nothing_is_promised_there() -> None:
    made, _ = stock(Machine("a", Room(4_000), inodes=20), Machine("b", Room(2_000), inodes=9))
    assert not made.take("b is full of files", promised(5))
    assert made.take("one", promised(1)) and made.take("two", promised(1))
    assert made.take("three", promised(1))
    assert not made.take("four", promised(1))


def test_own_ledger__gives_collateral_and_gas_alone() -> None:
    made, _ = stock(Machine("a", Room(4_000)))
    assert made.amounts(wants(2), 7) == Amounts(collateral=7, gas=1)


@given(
    rooms=st.lists(st.integers(1, 8), min_size=1, max_size=4),
    asked=st.lists(st.integers(1, 8), max_size=12),
)
def test_any_promises__no_machine_bears_more_than_it_has(
    rooms: list[int], asked: list[int]
) -> None:
    made, runner = stock(
        *(Machine(f"m{number}", Room(1_000 * cores)) for number, cores in enumerate(rooms))
    )
    taken: dict[int, tuple[str, int]] = {}
    for number, cores in enumerate(asked):
        fits = any(left >= cores for left in _left(rooms, taken).values())
        assert made.take(number, promised(cores)) == fits
        if fits:
            made.restate({n: promised(asked[n], f"{n}") for n in [*taken, number]})
            taken[number] = (runner.preferred[f"{number}"], cores)
    assert all(left >= 0 for left in _left(rooms, taken).values())


def _left(rooms: list[int], taken: dict[int, tuple[str, int]]) -> dict[str, int]:
    return {
        f"m{number}": cores - sum(much for name, much in taken.values() if name == f"m{number}")
        for number, cores in enumerate(rooms)
    }
