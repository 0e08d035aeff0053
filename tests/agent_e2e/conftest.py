# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the end-to-end tests: one market that many providers share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.agent_e2e.chain import Deployment, deployment, mining
from tests.agent_e2e.nursery import Nursery
from tests.support.anvil import Anvil

if TYPE_CHECKING:
    from tests.agent_e2e.lease_rig import LeaseRig


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that have needed a second try do not decide a run; `make quarantine` runs them."""
    if "TERAPROOF_QUARANTINE" in os.environ:
        return
    for item in items:
        if item.get_closest_marker("quarantine"):
            item.add_marker(pytest.mark.skip(reason="quarantined; make quarantine runs it"))


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Makes agents quickly."""
    with Nursery() as made:
        yield made


@pytest.fixture(scope="session")
def busy_market() -> Iterator[Deployment]:
    """Contracts on a chain that mines three blocks per second, and on which time flies."""
    anvil = Anvil(arguments=["--order", "fifo"])  # `deployment` starts and ends it
    with deployment(anvil, challenge_window=10) as contracts, mining(anvil):
        yield contracts


@pytest.fixture(scope="session")
def market() -> Iterator[Deployment]:
    """Contracts on a chain whose blocks the tests make: each lease has a provider of its own."""
    with deployment(Anvil()) as contracts:
        yield contracts


@pytest.fixture
def agent(market: Deployment, tmp_path: Path) -> Iterator[LeaseRig]:
    """A provider of leases at work."""
    from tests.agent_e2e.lease_rig import rig  # much to load, for these tests alone

    with rig(market, tmp_path) as made:
        made.cycle(2)
        yield made
