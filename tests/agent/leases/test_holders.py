# SPDX-License-Identifier: Apache-2.0
"""What the data plane hears of leases that the agent can only read in part."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from provider_agent.app import DATABASE
from provider_agent.dataplane.holders import Phase
from provider_agent.modules.all import open_store
from provider_agent.modules.leases.plane import Holders
from provider_agent.modules.leases.repository import LeasesRepository
from teraproof.protocol.leasespec import LeaseSpec
from tests.agent.leases.schema import NOW, fill, terms

ACTIVE, ASSIGNED = terms("active").lease_id(), terms("assigned").lease_id()
LOST = b"\x09" * 32
SAID = LeaseSpec("lease", ())


@pytest.fixture
def rows(tmp_path: Path) -> Iterator[LeasesRepository]:
    store = open_store(tmp_path / DATABASE, clock=lambda: float(NOW))
    fill(store)
    yield LeasesRepository(store)
    store.close()


def holders(rows: LeasesRepository, spec: LeaseSpec | None, **more: Any) -> Holders:
    specs = cast("Any", SimpleNamespace(spec=lambda digest: spec))
    given = {"settled": lambda: True, "lost": tuple, **more}
    return Holders(rows, specs, lambda: NOW, **given)


def test_specification_that_cannot_be_read__its_lease_goes_on_without_ports(
    rows: LeasesRepository,
) -> None:
    made = holders(rows, None)
    assert {one.lease for one in made.holdings()} == {ACTIVE, ASSIGNED}
    assert all(one.spec.services == () for one in made.holdings())
    assert made.find(ACTIVE) is None


def test_lease_whose_terms_are_not_known__goes_on_and_lets_nobody_in(
    rows: LeasesRepository,
) -> None:
    made = holders(rows, SAID, lost=lambda: (LOST, ACTIVE))
    phases = {one.lease: one.phase for one in made.holdings()}
    assert phases.keys() == {ACTIVE, ASSIGNED, LOST}
    assert phases[LOST] is Phase.GRACE
    assert made.find(LOST) is None and made.find(ACTIVE) is not None


@pytest.mark.parametrize("settled", [False, True])
def test_whether_all_are_known__is_what_the_duty_says(
    rows: LeasesRepository, settled: bool
) -> None:
    assert holders(rows, SAID, settled=lambda: settled).are_all_known() is settled
