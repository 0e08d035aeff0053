# SPDX-License-Identifier: Apache-2.0
"""Which inputs are taken from whom: those that a specification of a job or a quote names."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any, cast

import pytest

from provider_agent.core import means
from provider_agent.core.capacity import Amounts, Hold, Kind
from provider_agent.modules.jobs.quotes import QuoteDesk
from provider_agent.modules.jobs.views import UploadRule, spec_fits
from teraproof.protocol.errors import Code
from tests.agent.duty_parts import OTHER, OWNER, TENANT, TPF
from tests.agent.duty_rig import Rig
from tests.support.codes import fails_as

DATA = b"print(1)"
NAME = hashlib.sha256(DATA).hexdigest()
INPUT = (NAME, len(DATA))


class Reservations:
    """The desk as the rule sees it."""

    def __init__(self) -> None:
        self.held: dict[str, set[bytes]] = {}

    def specs_of(self, account: str) -> set[bytes]:
        return self.held.get(account, set())


@pytest.fixture
def still_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that nothing else on the machine writes to."""
    monkeypatch.setattr(means, "free_on", lambda _: Amounts(disk=1 << 40, inodes=1 << 24))


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    made = Rig(tmp_path)
    made.next_block(int(time.time()) - made.block.timestamp)
    return made


@pytest.fixture
def desk() -> Reservations:
    return Reservations()


@pytest.fixture
def rule(rig: Rig, desk: Reservations) -> UploadRule:
    rig.cycle()
    return UploadRule(rig.book, rig.duty, cast(QuoteDesk, desk), rig.policy, rig.capacity)


def test_open_job__its_inputs_by_its_requester_alone(rig: Rig, rule: UploadRule) -> None:
    spec = rig.spec(DATA)
    rig.post(spec)
    assert not rule(TENANT, *INPUT), "the specification is not here"
    rig.records.put_spec(spec.digest(), spec.canonical(), OTHER)
    assert rule(TENANT, *INPUT)
    assert not rule(TENANT, NAME, len(DATA) + 1)
    assert not rule(TENANT, "0" * 64, len(DATA))
    assert not rule(OTHER, *INPUT)


def test_specification_alone__nothing(rig: Rig, rule: UploadRule) -> None:
    spec = rig.spec(DATA)
    rig.records.put_spec(spec.digest(), spec.canonical(), TENANT)
    assert not rule(TENANT, *INPUT)


def test_job_that_we_would_not_run__nothing__and_why(rig: Rig, rule: UploadRule) -> None:
    spec = rig.spec(DATA, runtime="other")
    rig.records.put_spec(spec.digest(), spec.canonical(), TENANT)
    rig.post(spec)
    with fails_as(Code.RUNTIME_NOT_OFFERED):
        rule(TENANT, *INPUT)
    assert not rule(OTHER, *INPUT), "no business of theirs"
    # The same file for a job that we would run.
    good = rig.spec(DATA)
    rig.records.put_spec(good.digest(), good.canonical(), TENANT)
    rig.post(good)
    assert rule(TENANT, *INPUT)


@pytest.mark.parametrize(("provider", "allowed"), [(OWNER, True), (OTHER, False)])
def test_assigned_job__if_it_is_ours(
    rig: Rig, rule: UploadRule, provider: str, allowed: bool
) -> None:
    spec = rig.spec(DATA)
    rig.records.put_spec(spec.digest(), spec.canonical(), TENANT)
    terms = rig.post(spec)
    rig.assign(terms, provider)
    rig.cycle()
    assert bool(rule(TENANT, *INPUT)) is allowed


def test_quote__inputs_of_its_specification(rig: Rig, rule: UploadRule, desk: Reservations) -> None:
    spec = rig.spec(DATA)
    rig.records.put_spec(spec.digest(), spec.canonical(), TENANT)
    desk.held[TENANT] = {spec.digest()}
    assert rule(TENANT, *INPUT)
    assert not rule(TENANT, NAME, 7)
    assert not rule(OTHER, *INPUT)


@pytest.mark.parametrize(
    ("order", "settings", "code"),
    [
        ({"start_price": 0, "max_price": 1, "collateral": 0}, {}, Code.PRICE_TOO_LOW),
        # A price that only rises high enough in three weeks.
        (
            {"start_price": 0, "max_price": 10**6, "auction": 30 * 86_400, "collateral": 0},
            {"jobs": {"min_price": "0.7"}},
            Code.PRICE_TOO_LOW,
        ),
        ({"collateral": 101 * TPF}, {}, Code.COLLATERAL_OVER_LIMIT),
        ({"min_score": 1}, {}, Code.SCORE_MISSING),
    ],
)
def test_order_that_would_not_be_taken__nothing__and_why(
    tmp_path: Path, order: dict[str, Any], settings: dict[str, Any], code: Code
) -> None:
    """The bytes of an upload cost the provider; an order that suits nobody costs its maker none."""
    rig = Rig(tmp_path, **settings)
    rig.cycle()
    rule = UploadRule(rig.book, rig.duty, cast(QuoteDesk, Reservations()), rig.policy, rig.capacity)
    spec = rig.spec(DATA)
    rig.records.put_spec(spec.digest(), spec.canonical(), TENANT)
    rig.post(spec, **order)
    with fails_as(code):
        rule(TENANT, *INPUT)
    rig.post(spec)
    permit = rule(TENANT, *INPUT)
    assert permit is not None and permit.worth == 10**6, "another order of theirs is taken"
    rig.duty.close()


def test_price_that_will_do_within_the_hour__taken(rig: Rig, rule: UploadRule) -> None:
    spec = rig.spec(DATA)
    rig.records.put_spec(spec.digest(), spec.canonical(), TENANT)
    rig.post(spec, start_price=0, auction=1800, collateral=0)
    assert rule(TENANT, *INPUT)


def test_no_room_for_the_job__nothing(rig: Rig, still_disk: None, rule: UploadRule) -> None:
    spec = rig.spec(DATA)
    rig.records.put_spec(spec.digest(), spec.canonical(), TENANT)
    rig.post(spec)
    disk = rig.capacity.total().disk
    rig.capacity.put("other", Hold(Kind.OWED, Amounts(disk=disk), by="other"))
    with fails_as(Code.DISK_TAKEN):
        rule(TENANT, *INPUT)
    rig.capacity.release("other")
    # A slot that is taken will be free again: the bytes may come meanwhile.
    rig.capacity.put("other", Hold(Kind.OWED, Amounts(slots=2), by="other"))
    assert rule(TENANT, *INPUT)


def test_many_junk_orders__few_specifications_are_read(
    rig: Rig, rule: UploadRule, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(150):
        junk = rig.spec(name=f"junk {number}", inputs=[])
        rig.records.put_spec(junk.digest(), junk.canonical(), TENANT)
        rig.post(junk, start_price=1, max_price=1, collateral=0)
    spec = rig.spec(DATA)
    rig.records.put_spec(spec.digest(), spec.canonical(), TENANT)
    rig.post(spec)
    assert rule(TENANT, *INPUT)
    looked = []
    find = rig.book.spec_named

    def count(digest: bytes) -> object:
        looked.append(digest)
        return find(digest)

    monkeypatch.setattr(rig.book, "spec_named", count)
    assert rule(TENANT, *INPUT)
    assert not rule(TENANT, "0" * 64, 3)
    assert len(looked) < 30


@pytest.mark.parametrize(("named", "fits"), [(False, False), (True, True)])
def test_specifications__take_room_like_all_else(rig: Rig, named: bool, fits: bool) -> None:
    """Tiny files would take all inodes: those that a job names alone get the last ones."""
    total = rig.capacity.total()
    rig.capacity.put("owed", Hold(Kind.OWED, Amounts(inodes=total.inodes - 1), by="other"))
    assert spec_fits(rig.capacity, 300, named) is fits
    rig.capacity.put("owed", Hold(Kind.OWED, Amounts(inodes=total.inodes), by="other"))
    assert not spec_fits(rig.capacity, 300, named)
