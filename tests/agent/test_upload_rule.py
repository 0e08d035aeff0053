# SPDX-License-Identifier: Apache-2.0
"""Which inputs are taken from whom: those that a specification of a job or a quote names."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import cast

import pytest

from provider_agent.modules.jobs.quotes import QuoteDesk
from provider_agent.modules.jobs.views import UploadRule
from teraproof.protocol.errors import Code
from tests.agent.duty_rig import OTHER, OWNER, TENANT, Rig
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
    rig.store.put_spec(spec.digest(), spec.canonical(), OTHER)
    assert rule(TENANT, *INPUT)
    assert not rule(TENANT, NAME, len(DATA) + 1)
    assert not rule(TENANT, "0" * 64, len(DATA))
    assert not rule(OTHER, *INPUT)


def test_specification_alone__nothing(rig: Rig, rule: UploadRule) -> None:
    spec = rig.spec(DATA)
    rig.store.put_spec(spec.digest(), spec.canonical(), TENANT)
    assert not rule(TENANT, *INPUT)


def test_job_that_we_would_not_run__nothing__and_why(rig: Rig, rule: UploadRule) -> None:
    spec = rig.spec(DATA, runtime="other")
    rig.store.put_spec(spec.digest(), spec.canonical(), TENANT)
    rig.post(spec)
    with fails_as(Code.RUNTIME_NOT_OFFERED):
        rule(TENANT, *INPUT)
    assert not rule(OTHER, *INPUT), "no business of theirs"
    # The same file for a job that we would run.
    good = rig.spec(DATA)
    rig.store.put_spec(good.digest(), good.canonical(), TENANT)
    rig.post(good)
    assert rule(TENANT, *INPUT)


@pytest.mark.parametrize(("provider", "allowed"), [(OWNER, True), (OTHER, False)])
def test_assigned_job__if_it_is_ours(
    rig: Rig, rule: UploadRule, provider: str, allowed: bool
) -> None:
    spec = rig.spec(DATA)
    rig.store.put_spec(spec.digest(), spec.canonical(), TENANT)
    terms = rig.post(spec)
    rig.assign(terms, provider)
    rig.cycle()
    assert bool(rule(TENANT, *INPUT)) is allowed


def test_quote__inputs_of_its_specification(rig: Rig, rule: UploadRule, desk: Reservations) -> None:
    spec = rig.spec(DATA)
    rig.store.put_spec(spec.digest(), spec.canonical(), TENANT)
    desk.held[TENANT] = {spec.digest()}
    assert rule(TENANT, *INPUT)
    assert not rule(TENANT, NAME, 7)
    assert not rule(OTHER, *INPUT)
