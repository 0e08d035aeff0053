# SPDX-License-Identifier: Apache-2.0
"""`teraproof lease revoke` against a real data plane: keys that were stolen open nothing more."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from provider_agent.dataplane.holders import Holding, Phase
from provider_agent.dataplane.plane import DataPlane, PlaneSettings
from scripts.market.ports import free_port
from teraproof.client import dataplane
from teraproof.client.dataplane import Place
from teraproof.errors import RemoteError
from teraproof.market import leases
from teraproof.market.signers import KeySigner
from teraproof.protocol.dataplane import Request, What
from teraproof.protocol.errors import Code, Exit
from tests.agent.dataplane.conftest import Holders, Runner, spec
from tests.sdk.lease_stage import PLAIN, Agent, LeaseStage, deploy_leases
from tests.support.anvil import Anvil


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LeaseStage]:
    with Anvil() as anvil:
        yield deploy_leases(tmp_path_factory.mktemp("home"), anvil)


@pytest.fixture(scope="module")
def agent(stage: LeaseStage) -> Iterator[Agent]:
    with stage.agent(free_port()) as one:
        yield one


@pytest.fixture(scope="module")
def lease(stage: LeaseStage, agent: Agent, tmp_path_factory: pytest.TempPathFactory) -> str:
    """One that is confirmed; its name."""
    file = tmp_path_factory.mktemp("file") / "deploy.yaml"
    file.write_text(PLAIN)
    return str(stage.tenant.json("lease", "hire", str(file), agent.owner)["lease"])


@pytest.fixture
def plane(stage: LeaseStage, agent: Agent, lease: str, tmp_path: Path) -> Iterator[str]:
    """Its data plane; where that is."""
    holders, name = Holders(), bytes.fromhex(lease.removeprefix("0x"))
    holders.leases[name] = Holding(name, "lease-1", stage.tenant.address, Phase.CONFIRMED, spec())
    made = DataPlane(
        PlaneSettings(tmp_path / "plane", host="127.0.0.1"),
        leases.domain(stage.market),
        agent.operator,
        holders,
        Runner(),  # type: ignore[arg-type]  # nothing of it is asked here
        lambda to, data: b"",
    )
    made.start()
    yield f"127.0.0.1:{made.port}"
    made.stop()


def test_revoke__a_stolen_key_opens_nothing_more_and_the_next_command_does(
    stage: LeaseStage, agent: Agent, lease: str, plane: str
) -> None:
    name = bytes.fromhex(lease.removeprefix("0x"))
    place = Place.at(plane, name, str(agent.operator.address), leases.domain(stage.market))
    stolen = dataplane.session_key(place, KeySigner(stage.tenant.key, "test"))
    request = Request(name, What.PORTS)
    assert dataplane.asked(place, stolen, request) == {"ports": []}
    assert stage.tenant.json("lease", "ports", lease, "--plane", plane)["ports"] == []

    assert stage.tenant.json("lease", "revoke", lease, "--plane", plane)["lease"] == lease
    with pytest.raises(RemoteError) as caught:
        dataplane.asked(place, stolen, request)
    assert caught.value.code is Code.SIGN_IN_EXPIRED
    time.sleep(1.1)  # keys are known by whole seconds
    assert stage.tenant.json("lease", "ports", lease, "--plane", plane)["ports"] == []


def test_revoke__anothers_lease__refused_before_anybody_is_asked(
    stage: LeaseStage, lease: str, plane: str
) -> None:
    code, line = stage.stranger.fails(Exit.REFUSED, "lease", "revoke", lease, "--plane", plane)
    assert code == Code.NOT_TENANT and stage.tenant.address in line
