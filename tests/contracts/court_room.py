# SPDX-License-Identifier: Apache-2.0
"""Fixtures of a court with jurors of a seat each, and a dispute in it."""

from __future__ import annotations

import pytest

from tests.contracts.actions import Provider, go_to
from tests.contracts.court import CAPABILITY, Case, Court, deploy_court
from tests.contracts.deploy import Contract, address_of

JURORS = 24


def filled(court: Court) -> Court:
    """With jurors of a seat each, in a period of their own."""
    for number in range(JURORS):
        court.juror(f"juror {number}", 1)
    court.next_period()
    return court


@pytest.fixture(scope="module")
def full_court() -> Court:
    return filled(deploy_court())


@pytest.fixture
def court(full_court: Court) -> Court:
    return full_court


@pytest.fixture
def disputes(court: Court) -> Contract:
    return court.disputes


@pytest.fixture
def accused(court: Court) -> Provider:
    return court.juror("accused", 0)


@pytest.fixture
def tenant() -> str:
    return address_of("tenant")


@pytest.fixture
def case(court: Court, accused: Provider, tenant: str) -> Case:
    """A dispute that was just opened."""
    return court.open(accused, tenant)


@pytest.fixture
def drawn(court: Court, case: Case) -> Case:
    """A dispute with a jury of three jurors."""
    court.spread(case)
    return case


def locked(court: Court, juror: Provider) -> int:
    """What is still locked behind a juror's seats, TPF wei."""
    lock = court.suite.staking.lock_of(court.disputes.address, juror.owner, CAPABILITY)
    return int(lock[0])


def wait(court: Court, case: Case) -> None:
    """Until just after the phase."""
    go_to(court.standing(case)[2] + 1)
