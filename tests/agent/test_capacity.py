# SPDX-License-Identifier: Apache-2.0
"""The ledger: nothing is promised twice, and nothing unpaid holds what a paid order needs."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from eth_account import Account
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from provider_agent.core.capacity import (
    UNWANTED,
    Amounts,
    Capacity,
    Hold,
    Key,
    Kind,
    Resource,
)
from provider_agent.http.uploads import InputStorage
from provider_agent.modules.proofs.prover import Prover
from provider_agent.prover.worker import OPEN, PROVE, WAIT
from teraproof.protocol.errors import Code
from tests.agent.duty_rig import Rig
from tests.support.codes import fails_as

SLOTS, AHEAD = 4, 1
SUMMED = (Resource.DISK, Resource.INODES, Resource.COLLATERAL, Resource.GAS)
small = st.integers(0, 40)
needs = st.builds(
    Amounts,
    slots=st.just(1),
    devices=st.integers(0, 2),
    memory=small,
    disk=small,
    inodes=small,
    collateral=small,
    gas=st.just(1),
)


class Machine(RuleBasedStateMachine):
    """A machine whose disk really fills up, next to the ledger that promises it."""

    @initialize(there=st.builds(replace, needs, slots=st.just(SLOTS), gas=st.integers(0, 12)))
    def begin(self, there: Amounts) -> None:
        self.there = replace(there, disk=there.disk * 4, inodes=there.inodes * 4)
        self.ledger = Capacity(lambda: self.there, ahead=AHEAD)
        self.ledger.drop = self.delete
        self.shrunk = False
        self.number = 0
        self.dropped: list[Key] = []

    def key(self) -> int:
        self.number += 1
        return self.number

    def delete(self, key: Key) -> None:
        assert self.ledger.holds()[key].kind is Kind.SPARE, "only uploads are deleted"
        self.dropped.append(key)
        self.give_back(key)

    def give_back(self, key: Key) -> None:
        stored = self.ledger.holds()[key].stored
        self.there = replace(
            self.there,
            disk=self.there.disk + stored.disk,
            inodes=self.there.inodes + stored.inodes,
        )
        self.ledger.release(key)

    def sums(self, *kinds: Kind) -> dict[Resource, int]:
        held = self.ledger.holds(*kinds).values()
        return {name: sum(hold.amounts.of(name) for hold in held) for name in Resource}

    def at_once(self, need: Amounts, *kinds: Kind) -> dict[Resource, int]:
        """The most devices and memory that jobs on all slots use at the same time."""
        held = [hold.amounts for hold in self.ledger.holds(*kinds).values()]
        found = {}
        for name in (Resource.DEVICES, Resource.MEMORY):
            most = sorted((one.of(name) for one in held), reverse=True)[: SLOTS - 1]
            found[name] = need.of(name) + sum(most)
        return found

    # ------------------------------------------------------------------ what happens

    @rule(need=needs)
    def paid_order(self, need: Amounts) -> None:
        before = self.sums(Kind.OWED)
        at_once = self.at_once(need, Kind.OWED)
        total = self.ledger.total()
        found = self.ledger.reserve(self.key(), Hold(Kind.OWED, need))
        if found.short:
            # Were there no quotes and no uploads at all, it would not fit either.
            too_much = [before[n] + need.of(n) > total.of(n) for n in SUMMED if need.of(n)]
            too_much += [much > total.of(n) for n, much in at_once.items() if need.of(n)]
            too_much.append(before[Resource.SLOTS] + 1 > SLOTS * (1 + AHEAD))
            assert any(too_much)
        if found.recall:
            # Only quotes stand in the way: without them it is taken.
            for key in found.recall:
                assert self.ledger.holds()[key].kind is Kind.OFFERED
                self.ledger.release(key)
            assert self.ledger.reserve(self.key(), Hold(Kind.OWED, need))

    @rule(need=needs)
    def quote(self, need: Amounts) -> None:
        if self.ledger.reserve(self.key(), Hold(Kind.OFFERED, need)):
            sums, owed = self.sums(Kind.OFFERED), self.sums(Kind.OWED)
            assert sums[Resource.SLOTS] <= max(1, SLOTS // 2)
            assert sums[Resource.SLOTS] + owed[Resource.SLOTS] <= SLOTS
            left = self.ledger.total().disk - owed[Resource.DISK]
            assert not need.disk or 2 * sums[Resource.DISK] <= left

    @rule(size=small, worth=st.integers(-1, 3))
    def upload(self, size: int, worth: int) -> None:
        before = {key: hold.worth for key, hold in self.ledger.holds(Kind.SPARE).items()}
        self.dropped = []
        amounts = Amounts(disk=size, inodes=1)
        if self.ledger.reserve(self.key(), Hold(Kind.SPARE, amounts, worth=worth)):
            firm = self.sums(Kind.OWED, Kind.OFFERED)[Resource.DISK]
            assert not size or 2 * self.sums(Kind.SPARE)[Resource.DISK] <= max(
                0, self.ledger.total().disk - firm
            )
        assert all(before[key] < worth for key in self.dropped), "only what is worth less"

    @rule(data=st.data())
    def bytes_arrive(self, data: st.DataObject) -> None:
        spare = self.ledger.holds(Kind.SPARE)
        if not spare:
            return
        key = data.draw(st.sampled_from(sorted(spare, key=str)))
        hold = spare[key]
        disk = hold.amounts.disk - hold.stored.disk
        inodes = hold.amounts.inodes - hold.stored.inodes
        self.there = replace(
            self.there, disk=self.there.disk - disk, inodes=self.there.inodes - inodes
        )
        self.ledger.put(key, replace(hold, stored=hold.amounts))

    @rule(data=st.data(), hired=st.booleans())
    def quote_ends(self, data: st.DataObject, hired: bool) -> None:
        offered = self.ledger.holds(Kind.OFFERED)
        if offered:
            key = data.draw(st.sampled_from(sorted(offered, key=str)))
            self.ledger.put(key, replace(offered[key], kind=Kind.OWED))
            if not hired:
                self.ledger.release(key)

    @rule(data=st.data())
    def job_ends(self, data: st.DataObject) -> None:
        owed = self.ledger.holds(Kind.OWED)
        if owed:
            self.ledger.release(data.draw(st.sampled_from(sorted(owed, key=str))))

    @rule(much=small)
    def others_fill_the_disk(self, much: int) -> None:
        self.shrunk = True
        self.there = replace(self.there, disk=self.there.disk - much)
        self.ledger.trim()

    @rule()
    def all_ends(self) -> None:
        whole = self.ledger.total()
        for key in self.ledger.holds():
            self.give_back(key)
        assert self.there == whole, "everything is back"
        self.shrunk = self.there.disk < 0

    # ------------------------------------------------------------------ what always holds

    @invariant()
    def nothing_is_promised_twice(self) -> None:
        if not hasattr(self, "there"):
            return
        total, sums = self.ledger.total(), self.sums()
        if self.shrunk:
            # What others took may have been promised; uploads have given way at least.
            over = sums[Resource.DISK] > total.disk
            assert not (over and self.sums(Kind.SPARE)[Resource.DISK]), "uploads stand in the way"
            return
        for name in SUMMED:
            assert sums[name] <= total.of(name), name
        for name, much in self.at_once(Amounts(), Kind.OWED).items():
            assert much <= total.of(name), name
        # Whoever has been promised room on the disk can write there now.
        written = sums[Resource.DISK] - sum(
            hold.stored.disk for hold in self.ledger.holds().values()
        )
        assert written <= self.there.disk


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


# ---------------------------------------------------------------------- files that make room

TENANT = Account.from_key(b"\x01" * 32).address
OTHER = Account.from_key(b"\x02" * 32).address
KIB, BLOCK = 1 << 10, 4 << 10


def storage_of(folder: Path, disk: int, inodes: int = 100) -> InputStorage:
    """A storage on a disk with that many bytes and files besides what has been uploaded."""

    def measure() -> Amounts:
        found = list((folder / "inputs").glob("*/*"))
        used = sum(-(-path.stat().st_size // BLOCK) * BLOCK for path in found)
        return Amounts(slots=1, gas=9, disk=disk - used, inodes=inodes - len(found))

    (folder / "inputs").mkdir()
    return InputStorage(folder / "inputs", capacity=Capacity(measure))


def put(storage: InputStorage, account: str, name: str, size: int, worth: int | None) -> None:
    with storage.receive(account, sha256_of(name, size), size, worth) as upload:
        upload.write(content(name, size))
        upload.finish()


def content(name: str, size: int) -> bytes:
    return (name * size).encode()[:size]


def sha256_of(name: str, size: int) -> str:
    return hashlib.sha256(content(name, size)).hexdigest()


def test_uploads__never_into_what_an_accepted_job_was_promised(tmp_path: Path) -> None:
    storage = storage_of(tmp_path, 1000 * KIB)
    assert storage.capacity.reserve("job", Hold(Kind.OWED, Amounts(slots=1, disk=800 * KIB)))
    with fails_as(Code.STORAGE_FULL):
        storage.receive(OTHER, "0" * 64, 201 * KIB, 10**9)
    put(storage, OTHER, "a", 100 * KIB, 1)
    with fails_as(Code.STORAGE_FULL):
        storage.receive(OTHER, "0" * 64, 1, 1)
    assert storage.used() == (100 * KIB, 1), "refused before a byte was sent"


def test_uploads__announced_bytes_count_before_they_come(tmp_path: Path) -> None:
    storage = storage_of(tmp_path, 800 * KIB)
    with storage.receive(TENANT, "0" * 64, 300 * KIB, 5), fails_as(Code.STORAGE_FULL):
        storage.receive(OTHER, "1" * 64, 200 * KIB, 5)
    with storage.receive(OTHER, "1" * 64, 200 * KIB, 5):
        pass
    assert storage.capacity.holds() == {}


def test_uploads__inodes_run_out__refused(tmp_path: Path) -> None:
    storage = storage_of(tmp_path, 1 << 30, inodes=20)
    assert storage.capacity.reserve("job", Hold(Kind.OWED, Amounts(slots=1, inodes=14)))
    for number in range(3):
        put(storage, TENANT, str(number), 1, 5)
    with fails_as(Code.STORAGE_FULL):
        put(storage, TENANT, "3", 1, 5)


def test_uploads__a_paid_order_takes_the_room_back(tmp_path: Path) -> None:
    storage = storage_of(tmp_path, 1000 * KIB)
    put(storage, OTHER, "a", 300 * KIB, 5)
    going = storage.receive(OTHER, sha256_of("b", 100 * KIB), 100 * KIB, 5)
    with fails_as(Code.STORAGE_FULL), going:
        going.write(b"b" * KIB)
        # All of the disk, but for what its own inputs take.
        assert storage.capacity.reserve("job", Hold(Kind.OWED, Amounts(slots=1, disk=1000 * KIB)))
        going.write(b"b" * KIB)
    assert storage.used() == (0, 0)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_uploads__files_of_jobs_and_quotes_stay(tmp_path: Path) -> None:
    storage = storage_of(tmp_path, 1000 * KIB)
    put(storage, TENANT, "a", 100 * KIB, 5)
    put(storage, TENANT, "b", 100 * KIB, 5)
    needed = sha256_of("a", 100 * KIB)
    storage.need({(TENANT.lower(), needed): 100 * KIB})
    job = Hold(Kind.OWED, Amounts(slots=1, disk=900 * KIB))
    assert storage.capacity.reserve("job", job)
    assert storage.path(TENANT, needed) is not None
    assert storage.used() == (100 * KIB, 1)
    assert not storage.capacity.reserve("next", Hold(Kind.OWED, Amounts(slots=1, disk=1)))


@pytest.mark.parametrize(("worth", "fits"), [(4, False), (5, False), (6, True), (None, True)])
def test_uploads__what_is_worth_less_makes_room(
    tmp_path: Path, worth: int | None, fits: bool
) -> None:
    storage = storage_of(tmp_path, 1000 * KIB)
    put(storage, OTHER, "a", 400 * KIB, 5)
    if not fits:
        with fails_as(Code.STORAGE_FULL):
            put(storage, TENANT, "b", 200 * KIB, worth)
    else:
        put(storage, TENANT, "b", 200 * KIB, worth)
    gone = storage.path(OTHER, sha256_of("a", 400 * KIB)) is None
    # A job of ours has more than the share of uploads, so nothing has to go for it here.
    assert gone == (worth == 6)


def test_uploads__orders_that_ended__worth_nothing(tmp_path: Path) -> None:
    storage = storage_of(tmp_path, 1000 * KIB)
    put(storage, OTHER, "a", 400 * KIB, 10**9)
    storage.value({OTHER.lower(): UNWANTED})
    put(storage, TENANT, "b", 200 * KIB, 0)
    assert storage.used() == (200 * KIB, 1)


# ---------------------------------------------------------------------- devices that are lent


@pytest.mark.parametrize(("mode", "goes_on"), [(WAIT, False), (PROVE, False), (OPEN, True)])
def test_run_begins__a_proof_gives_its_device_back(
    tmp_path: Path, mode: str, goes_on: bool
) -> None:
    """But for openings: a bond depends on them."""
    prover = Prover(tmp_path)
    prover._work = (tmp_path, mode)
    ledger = Capacity(Amounts)
    ledger.call_in()
    ledger.lend(prover.give_way)
    ledger.call_in()
    assert (prover._work is not None) is goes_on


def test_run_begins__in_the_duty__devices_are_called_in_first(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.cycle()
    begun: list[int] = []
    rig.capacity.lend(lambda: begun.append(len(rig.runner.started)))
    spec = rig.spec()
    rig.upload(spec)
    rig.assign(rig.post(spec))
    rig.cycle(2)
    assert len(rig.runner.started) == 1
    assert begun[0] == 0, "before the run"
    before = len(begun)
    rig.cycle(3)
    assert len(begun) == before, "not again while it runs"
    rig.duty.close()


# ---------------------------------------------------------------------- besides the slots


@pytest.mark.parametrize("slots", [1, 2, 4])
def test_without_a_slot__memory_at_the_same_time_as_all_slots(slots: int) -> None:
    """Jobs that wait for a slot share its memory; what waits for none has to have its own."""
    ledger = Capacity(lambda: Amounts(slots=slots, memory=100, devices=4), ahead=4)
    for n in range(slots * 2):
        assert ledger.reserve(n, Hold(Kind.OWED, Amounts(slots=1, memory=80 // slots)))
    assert not ledger.reserve("aside", Hold(Kind.OWED, Amounts(memory=21)))
    assert ledger.reserve("aside", Hold(Kind.OWED, Amounts(memory=20)))
    assert not ledger.reserve("more", Hold(Kind.OWED, Amounts(memory=1)))
    more = Hold(Kind.OWED, Amounts(slots=1, memory=80 // slots + 1))
    assert not ledger.reserve("larger", more), "it would run next to the one without a slot"


@pytest.mark.parametrize("kind", [Kind.OWED, Kind.OFFERED])
def test_wanted__others_leave_it_room_until_it_is_there_or_given_up(kind: Kind) -> None:
    ledger = Capacity(lambda: Amounts(slots=4, disk=100, memory=100), share=100)
    ledger.put("before", Hold(Kind.OWED, Amounts(disk=50)))
    assert not ledger.want("juror", Hold(Kind.OWED, Amounts(disk=60)))
    assert not ledger.reserve("new", Hold(kind, Amounts(slots=1, disk=1)))
    ledger.release("juror")
    assert ledger.reserve("new", Hold(kind, Amounts(slots=1, disk=1)))
    ledger.release("new")
    assert not ledger.want("juror", Hold(Kind.OWED, Amounts(disk=60)))
    ledger.release("before")
    assert ledger.want("juror", Hold(Kind.OWED, Amounts(disk=60)))
    assert ledger.reserve("new", Hold(kind, Amounts(slots=1, disk=40)))


def test_two_that_are_wanted__the_smaller_is_not_kept_waiting_by_the_larger() -> None:
    ledger = Capacity(lambda: Amounts(slots=4, disk=100))
    ledger.put("before", Hold(Kind.OWED, Amounts(disk=50)))
    assert not ledger.want("large", Hold(Kind.OWED, Amounts(disk=90)))
    assert ledger.want("small", Hold(Kind.OWED, Amounts(disk=10)))
