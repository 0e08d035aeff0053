# SPDX-License-Identifier: Apache-2.0
"""Leases on the real contracts: what the agent owes, and what it must never do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from teraproof.protocol.lease_terms import LeaseStatus
from tests.agent_e2e.chain import Deployment, deployment
from tests.agent_e2e.lease_rig import LeaseRig, rig
from tests.support.anvil import Anvil


@pytest.fixture(scope="module")
def market() -> Iterator[Deployment]:
    with deployment(Anvil()) as made:
        yield made


@pytest.fixture
def agent(market: Deployment, tmp_path: Path) -> Iterator[LeaseRig]:
    with rig(market, tmp_path) as made:
        made.cycle(2)
        yield made


def test_quote__hired_by__runs_and_is_ready(agent: LeaseRig) -> None:
    terms = agent.hire(agent.quote())
    assert agent.status() is LeaseStatus.ASSIGNED
    agent.until(lambda: agent.status() is LeaseStatus.ACTIVE, "ready lease")
    assert agent.runner.starts == [terms.lease_id().hex()]
    assert agent.sent("ready") == 1
