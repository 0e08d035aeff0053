# SPDX-License-Identifier: Apache-2.0
"""What an owner sees of leases: start-up checks, `status`, metrics, readiness."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from provider_agent.core.module import Table
from provider_agent.core.trial import Caution, Trial
from provider_agent.errors import SettingsError
from provider_agent.modules.leases.checks import LeaseChecks
from provider_agent.modules.leases.module import LeasesModule
from provider_agent.modules.leases.wishes import Wish, wish
from provider_agent.runners.lease import ImageRoom
from tests.agent_e2e.chain import Deployment
from tests.agent_e2e.lease_rig import LeaseRig, rig

GAP, ABANDON, SUSPENSION = 60, 180, 600  # of the plan for a local chain


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


def shown(agent: LeaseRig, name: str) -> float:
    """A series, as Prometheus reads it."""
    agent.module.measure()
    for line in agent.context.metrics.exposition().decode().splitlines():
        if line.startswith(f"teraproof_agent_{name} "):
            return float(line.split()[-1])
    raise AssertionError(f"no {name}")


def test_metrics__when_the_provider_has_to_be_heard_of(agent: LeaseRig) -> None:
    assert shown(agent, "lease_heartbeat_due_timestamp") == 0
    assert shown(agent, "lease_silent_until_timestamp") == 0
    agent.active()
    agent.cycle(2)
    last = shown(agent, "lease_heartbeat_timestamp")
    assert shown(agent, "lease_heartbeat_due_timestamp") == last + GAP
    assert shown(agent, "lease_silent_until_timestamp") == last + ABANDON
    agent.runner.dead.add(agent.name)
    agent.until(lambda: agent.marks().suspended_at > 0, "suspension")
    agent.cycle(2)
    # What is suspended is not paid, and its provider must be heard of all the same.
    assert shown(agent, "lease_heartbeat_due_timestamp") == 0
    assert shown(agent, "lease_silent_until_timestamp") > 0
    since = agent.marks().suspended_at
    assert shown(agent, "lease_suspension_ends_timestamp") == since + SUSPENSION
    agent.runner.dead.clear()
    agent.until(lambda: agent.marks().suspended_at == 0, "resumption")
    agent.cycle(2)
    assert shown(agent, "lease_suspension_ends_timestamp") == 0
    agent.call(agent.tenant, "close")
    agent.cycle(3)
    assert shown(agent, "lease_heartbeat_due_timestamp") == 0
    assert shown(agent, "lease_silent_until_timestamp") == 0


def test_metrics__a_lease_that_leaves_by_notice__is_no_suspension_to_fear(
    agent: LeaseRig,
) -> None:
    agent.active(notice=60)
    agent.runner.dead.add(agent.name)
    agent.until(lambda: agent.marks().suspended_at > 0, "suspension")
    wish(agent.folder, agent.terms.lease_id(), Wish.NOTICE)
    agent.until(lambda: agent.marks().leaves_at > 0, "notice")
    agent.cycle(2)
    assert shown(agent, "lease_suspension_ends_timestamp") == 0


def test_metrics__engine_that_is_silent_for_long__is_not_up(
    agent: LeaseRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shown(agent, "lease_engine_up") == 1
    machine = agent.module._machine
    monkeypatch.setattr(machine, "_looked_at", machine._looked_at - 10_000)  # type: ignore[operator]
    assert shown(agent, "lease_engine_up") == 0


def test_metrics__images_by_what_they_are_for(
    agent: LeaseRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent.runner, "image_room", lambda: ImageRoom(5, 7, 11))
    agent.cycle(2)
    for state, size in (("held", 5), ("expected", 7), ("idle", 11)):
        assert shown(agent, f'lease_image_bytes{{state="{state}"}}') == size


def test_metrics__data_plane_and_who_it_turned_away(agent: LeaseRig) -> None:
    plane = agent.module._plane
    assert shown(agent, "plane_up") == 1
    assert shown(agent, "plane_certificate_ends_timestamp") > time.time() + 6 * 86_400
    assert shown(agent, 'plane_refused_total{what="tenants"}') == 0
    plane.refused["tenants"] += 3
    assert shown(agent, 'plane_refused_total{what="tenants"}') == 3
    plane.refused["tenants"] += 1
    assert shown(agent, 'plane_refused_total{what="tenants"}') == 4
    plane.stop()
    assert shown(agent, "plane_up") == 0


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
