# SPDX-License-Identifier: Apache-2.0
"""The ledger with leases in it: what runs from the first moment to the last takes no turns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provider_agent.core.capacity import Amounts, Capacity, Hold, Kind, Resource
from provider_agent.core.fleet import Fleet
from provider_agent.devices import Device, Survey

SLOTS = 2
THERE = Amounts(
    slots=SLOTS, devices=4, memory=100, cpu=8_000, disk=1_000, inodes=99, collateral=9, gas=99
)


def ledger() -> Capacity:
    return Capacity(lambda: THERE, ahead=4)


@pytest.mark.parametrize(
    ("name", "most"), [("devices", 4), ("memory", 100), ("cpu", 8_000), ("disk", 1_000)]
)
def test_leases__together_never_more_than_there_is(name: str, most: int) -> None:
    capacity = ledger()
    half = Amounts(**{name: most // 2})
    assert capacity.reserve("first", Hold(Kind.OWED, half, by="leases"))
    assert capacity.reserve("second", Hold(Kind.OWED, half, by="leases"))
    found = capacity.reserve("third", Hold(Kind.OWED, Amounts(**{name: 1}), by="leases"))
    assert found.short == (Resource(name),)


def test_lease__leaves_jobs_on_all_slots_what_they_were_promised() -> None:
    capacity = ledger()
    for number in range(6):  # they wait for two slots
        assert capacity.reserve(number, Hold(Kind.OWED, Amounts(slots=1, devices=1, memory=30)))
    assert capacity.left(Resource.DEVICES) == 2
    assert not capacity.reserve("lease", Hold(Kind.OWED, Amounts(devices=3)))
    assert capacity.reserve("lease", Hold(Kind.OWED, Amounts(devices=2, memory=40)))
    assert capacity.left(Resource.MEMORY) == 0


def test_job__does_not_get_what_leases_have() -> None:
    capacity = ledger()
    capacity.put("lease", Hold(Kind.OWED, Amounts(devices=3), by="leases"))
    assert not capacity.reserve("two", Hold(Kind.OWED, Amounts(slots=1, devices=2)))
    assert capacity.reserve("one", Hold(Kind.OWED, Amounts(slots=1, devices=1)))
    assert capacity.left(Resource.DEVICES, apart="leases") == 3


_holds = st.lists(
    st.builds(Amounts, slots=st.integers(0, 1), devices=st.integers(0, 3)), max_size=12
)


@given(wanted=_holds)
def test_any_order_of_jobs_and_leases__never_more_devices_than_there_are(
    wanted: list[Amounts],
) -> None:
    capacity = ledger()
    for number, need in enumerate(wanted):
        capacity.reserve(number, Hold(Kind.OWED, need))
    held = [hold.amounts for hold in capacity.holds().values()]
    jobs = sorted((one.devices for one in held if one.slots), reverse=True)
    leases = sum(one.devices for one in held if not one.slots)
    assert leases + sum(jobs[:SLOTS]) <= THERE.devices


def test_devices_that_leases_hold__are_free_for_no_job() -> None:
    found = Survey(tuple(Device("cuda", n, "GPU", f"GPU-{n}", 8 << 30) for n in range(3)))
    fleet = Fleet(3, lambda: found, lambda path: True)
    fleet.hold("leases", lambda: {"GPU-1"})
    fleet.hold("jobs", lambda: {"GPU-0"})
    assert [one.uuid for one in fleet.free((), "jobs")] == ["GPU-0", "GPU-2"]
    assert [one.uuid for one in fleet.free((), "leases")] == ["GPU-1", "GPU-2"]
    assert len(fleet.usable) == 3
