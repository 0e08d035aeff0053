# SPDX-License-Identifier: Apache-2.0
"""Leases with checkpoints on the real contracts: what they take, and whose fault it is when a store
cannot be had. `test_leases_training` has containers and a store that can.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from provider_agent.modules.leases import checkpoints
from provider_agent.modules.leases.checkpoints import LeaseCheckpoints
from teraproof.errors import LocalError, Refused
from teraproof.protocol.errors import Code
from teraproof.protocol.lease_checkpoints import Checkpoints
from teraproof.protocol.lease_terms import LeaseStatus
from teraproof.protocol.lease_wire import LeaseOutcome, RegistryLogins
from teraproof.protocol.leasespec import LeaseSpec
from tests.agent.leases.documents import MIB, service, spec, volume
from tests.agent_e2e.chain import Deployment
from tests.agent_e2e.lease_rig import LeaseRig, rig
from tests.agent_e2e.played_runner import PlayedRunner

PLAIN = spec(service(volumes=(volume(),)))
SAVED = spec(
    *PLAIN.services, checkpoints=Checkpoints("web", "/data/run", "s3://bucket/run", every_seconds=5)
)


@dataclass
class Shelved(PlayedRunner):
    """With the files of its leases."""

    place: Path = field(default_factory=Path)

    def directory(self, lease_id: str, service: str, volume: str) -> Path:
        made = self.place / lease_id / service / volume / "data"
        made.mkdir(parents=True, exist_ok=True)
        return made


@pytest.fixture
def saver(
    market: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LeaseRig]:
    """A provider that saves; the package that it needs for S3 need not be here."""
    monkeypatch.setattr(LeaseCheckpoints, "offered", True)
    with rig(market, tmp_path / "agent", Shelved(place=tmp_path / "volumes")) as made:
        made.cycle(2)
        yield made


def test_room_for_a_copy__reserved_with_the_lease(saver: LeaseRig) -> None:
    stock = saver.module._stock
    plain, saved = stock.amounts(PLAIN), stock.amounts(SAVED)
    assert saved.disk - plain.disk >= 8 * MIB and saved.inodes > plain.inodes
    assert replace(saved, disk=plain.disk, inodes=plain.inodes) == plain
    assert saver.quote(SAVED).quote.rate >= saver.quote(PLAIN).quote.rate


def test_provider_that_saves_nothing__takes_no_such_lease(agent: LeaseRig) -> None:
    with pytest.raises(Refused) as caught:
        agent.quote(SAVED)
    assert caught.value.code is Code.CHECKPOINTS_NOT_OFFERED


@pytest.mark.parametrize("sent", [False, True])
def test_store_that_cannot_be_had__nothing_begins_and_no_collateral_is_lost(
    saver: LeaseRig, sent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec("boto3") is None:  # without it no store is asked at all

        def refused(*_: object) -> None:
            raise LocalError("leads to an address that is not public", Code.URI_REFUSED)

        monkeypatch.setattr(checkpoints, "open_store", refused)
    saver.hire(saver.quote(SAVED))
    saver.cycle(2)
    lease = saver.terms.lease_id()
    if sent:
        # It is on the provider's own machine, which strangers do not reach.
        store = {"endpoint": "https://127.0.0.1:9000", "key_id": "ME", "secret": "HUSH"}
        saver.module._views.log_in(lease, RegistryLogins({}, store))
    for _ in range(12):
        saver.anvil.step(4)
        saver.cycle()
    report = saver.module._views.report(lease)
    assert report is not None and report.blocked_by is not None and "HUSH" not in report.note
    assert sent or report.blocked_by is Code.LOGINS_MISSING
    assert saver.runner.starts == [], "it began from nothing"
    assert saver.status() is LeaseStatus.ACTIVE and saver.marks().suspended_at > 0
    assert saver.marks().leaves_at > 0, "it holds the GPUs without rent"
    for _ in range(25):
        saver.anvil.step(30)
        saver.cycle()
        if saver.status() is LeaseStatus.NONE:
            break
    saver.cycle(2)
    row = saver.row()
    assert row is not None and row.outcome is LeaseOutcome.OVER and saver.locked() == 0
    assert not list(saver.folder.rglob("access.json"))


def test_specification__is_the_one_that_was_hired(saver: LeaseRig) -> None:
    signed = saver.quote(SAVED)
    kept = saver.module._specs.spec(signed.quote.spec)
    assert isinstance(kept, LeaseSpec) and kept.checkpoints == SAVED.checkpoints
