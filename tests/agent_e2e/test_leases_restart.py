# SPDX-License-Identifier: Apache-2.0
"""Leases over restarts, lost databases, and nodes that lie: the chain says what has ended."""

from __future__ import annotations

from typing import Any

import pytest

from provider_agent.errors import RunnerError
from teraproof.protocol.lease_terms import LeaseStatus
from teraproof.protocol.lease_wire import LeaseOutcome
from teraproof.rpc.errors import ChainError
from tests.agent_e2e.lease_rig import LeaseRig

GAP, ABANDON, GRACE = 60, 180, 30  # of the plan for a local chain


def suspended(agent: LeaseRig) -> bool:
    return agent.status() is LeaseStatus.ACTIVE and agent.marks().suspended_at > 0


# ------------------------------------------------------------------ restarts


def test_agent_restarts__goes_on_as_if_nothing_had_been(agent: LeaseRig) -> None:
    agent.active()
    since = agent.state().since
    agent.restart()
    agent.cycle(3)
    assert not suspended(agent)
    for _ in range(20):
        agent.anvil.step(9)
        agent.cycle()
    assert agent.seconds() == agent.anvil.timestamp() - since
    assert agent.runner.starts == [agent.name]
    assert agent.sent("suspend") == 0


@pytest.mark.parametrize("lost", [False, True])
def test_agent_dies_between_hire_and_ready__ready_once(agent: LeaseRig, lost: bool) -> None:
    agent.hire(agent.quote())
    agent.cycle()
    agent.restart(lost=lost)
    if lost:
        agent.upload()
    agent.until(lambda: agent.status() is LeaseStatus.ACTIVE, "ready lease")
    agent.cycle(3)
    assert agent.runner.starts == [agent.name]
    assert not suspended(agent)


def test_database_lost__containers_stay_and_rent_goes_on(agent: LeaseRig) -> None:
    agent.active()
    since = agent.state().since
    agent.restart(lost=True)
    for _ in range(30):
        agent.anvil.step(9)
        agent.cycle()
    assert agent.runner.removed == []
    assert not suspended(agent)
    assert agent.seconds() == agent.anvil.timestamp() - since


def test_database_lost__what_tenants_have_said_stays_until_each_lease_is_found(
    agent: LeaseRig,
) -> None:
    agent.active()
    agent.restart(lost=True)
    holders = agent.module._plane._holders
    assert not holders.are_all_known()
    agent.until(holders.are_all_known, "all leases found")
    assert agent.name in {one.lease.hex() for one in holders.holdings()}


def test_runner_does_not_answer__not_every_lease_is_known(
    agent: LeaseRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> None:
        raise RunnerError("the engine is away")

    agent.active()
    with monkeypatch.context() as patch:
        patch.setattr(agent.runner, "list", away)
        agent.restart(lost=True)
        agent.cycle(3)
        holders = agent.module._plane._holders
        assert not holders.are_all_known()
    agent.until(holders.are_all_known, "all leases found")


def test_containers_died_while_the_agent_was_away__not_paid_for(agent: LeaseRig) -> None:
    agent.active()
    agent.anvil.step(GRACE + 1)
    agent.cycle(2)
    agent.stop()
    due = agent.seconds()
    agent.runner.dead.add(agent.name)
    agent.anvil.step(500)
    agent.start()
    agent.until(lambda: suspended(agent), "suspension")
    assert agent.seconds() <= due + GAP + 20


def test_agent_away_for_long__accused_and_still_not_closed(agent: LeaseRig) -> None:
    agent.active()
    agent.stop()
    agent.anvil.step(ABANDON + 1)
    agent.call(agent.stranger, "accuse")
    agent.start()
    agent.cycle(4)
    agent.anvil.step(GAP + 1)
    agent.cycle(2)
    assert agent.status() is LeaseStatus.ACTIVE
    agent.call(agent.tenant, "close")
    agent.cycle(2)
    row = agent.row()
    assert row is not None and row.outcome is LeaseOutcome.BY_TENANT


# ------------------------------------------------------------------ nodes that lie


def test_node_says_that_there_is_no_such_lease__it_goes_on(
    agent: LeaseRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent.active()
    contract = agent.module._leases
    monkeypatch.setattr(contract, "states", lambda leases, block: (0,) * len(leases))
    agent.cycle(5)
    row = agent.row()
    assert row is not None and row.ended_at is None
    assert agent.runner.removed == []


def test_nodes_are_silent__nothing_is_ended(
    agent: LeaseRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent.active()

    def silent(*_: Any) -> Any:
        raise ChainError("no node answers")

    monkeypatch.setattr(agent.module._leases, "states", silent)
    for _ in range(5):
        with pytest.raises(ChainError):
            agent.cycle()
    assert agent.runner.removed == []
    monkeypatch.undo()
    agent.cycle(2)
    assert not suspended(agent)


def test_no_node_answers__what_the_tenant_closes_meanwhile_runs_until_the_chain_is_read(
    agent: LeaseRig,
) -> None:
    agent.active()
    agent.call(agent.tenant, "close")
    for _ in range(5):
        agent.module.keep_up()
    assert agent.name in agent.runner.list()
    assert agent.runner.starts == [agent.name]
    agent.until(lambda: agent.name in agent.runner.removed, "removal")
