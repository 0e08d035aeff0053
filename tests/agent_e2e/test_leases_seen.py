# SPDX-License-Identifier: Apache-2.0
"""What an owner sees of leases: start-up checks, `status`, metrics, readiness."""

from __future__ import annotations

from pathlib import Path

import pytest

from provider_agent.core.module import Table
from provider_agent.core.trial import Caution, Trial
from provider_agent.errors import SettingsError
from provider_agent.modules.leases.checks import LeaseChecks
from provider_agent.modules.leases.module import LeasesModule
from tests.agent_e2e.chain import Deployment
from tests.agent_e2e.lease_rig import LeaseRig, rig


def checks(agent: LeaseRig, place: str = "") -> LeaseChecks:
    trial = Trial(agent.settings)
    trial.pool, trial.address = agent.pool, agent.operator.address
    return LeaseChecks(trial, place or agent.leases.address)


def test_check__contract_that_bears_the_promises__says_how_long(agent: LeaseRig) -> None:
    assert "terms of up to" in checks(agent).contract()


def test_check__no_contract_there__stops_the_start(agent: LeaseRig) -> None:
    with pytest.raises(SettingsError):
        checks(agent, agent.stranger.address).contract()


def test_check__notice_longer_than_a_suspension_may_be__a_warning(
    market: Deployment, tmp_path: Path
) -> None:
    with rig(market, tmp_path, notice_seconds=3_600) as agent, pytest.raises(Caution) as caught:
        checks(agent).contract()
    assert "notice_seconds" in str(caught.value)


def test_check__gpu_with_a_price_that_is_not_here__a_warning(
    market: Deployment, tmp_path: Path
) -> None:
    with rig(market, tmp_path, gpu_prices={"h100": 2}) as agent, pytest.raises(Caution) as caught:
        checks(agent).rent()
    assert "h100" in str(caught.value)


def test_status_and_metrics__show_what_runs_and_what_is_down(agent: LeaseRig) -> None:
    assert LeasesModule.status(agent.store) == []
    agent.active()
    agent.cycle(2)
    (shown,) = LeasesModule.status(agent.store)
    assert isinstance(shown, Table)
    ((lease, state, tenant, *_),) = shown.rows
    assert lease == f"0x{agent.name[:12]}" and (state, tenant) == ("active", agent.tenant.address)
    agent.module.measure()
    said = agent.context.metrics.exposition().decode()
    assert 'teraproof_agent_leases{state="active"} 1.0' in said
    assert "teraproof_agent_lease_engine_up 1.0" in said
    assert all(check().ok for check in agent.module.ready())
    agent.runner.away = True
    agent.cycle(2)
    agent.module.measure()
    said = agent.context.metrics.exposition().decode()
    assert "teraproof_agent_lease_engine_up 0.0" in said
    assert not all(check().ok for check in agent.module.ready())
