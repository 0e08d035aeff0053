# SPDX-License-Identifier: Apache-2.0
"""Which provider `teraproof lease hire` chooses, and that nobody else's room is held meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from scripts.market.ports import free_port
from teraproof.market import leases
from teraproof.protocol.errors import Code, Exit
from teraproof.protocol.lease_offer import Prices
from tests.sdk.lease_stage import OFFER, PLAIN, Agent, LeaseStage, deploy_leases
from tests.support.anvil import Anvil


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LeaseStage]:
    with Anvil() as anvil:
        yield deploy_leases(tmp_path_factory.mktemp("home"), anvil)


@pytest.fixture(scope="module")
def providers(stage: LeaseStage) -> Iterator[list[Agent]]:
    with ExitStack() as stack:
        yield [stack.enter_context(stage.agent(free_port())) for _ in range(3)]


@pytest.fixture
def agent(providers: list[Agent]) -> Agent:
    for one in providers:
        one.forget()
    return providers[0]


@pytest.fixture
def other(agent: Agent, providers: list[Agent]) -> Agent:
    return providers[1]


@pytest.fixture
def third(agent: Agent, providers: list[Agent]) -> Agent:
    return providers[2]


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "deploy.yaml"
    path.write_text(PLAIN)
    return str(path)


def asked_for_quotes(*agents: Agent) -> list[int]:
    """How often each was asked to bind itself: that holds its room for a minute."""
    return [sum(said.endswith("/v1/leases/quotes") for said in one.seen) for one in agents]


def dearer(agent: Agent, rate: int) -> None:
    """Have it ask a rate: 36 cents an hour are 100 units a second."""
    agent.rate = rate
    agent.offer = replace(OFFER, prices=replace(OFFER.prices, core=Fraction(36 * rate, 10_000)))


def test_no_provider_named__the_cheapest_and_no_other_holds_room(
    stage: LeaseStage, agent: Agent, other: Agent, third: Agent, file: str
) -> None:
    for one, rate in ((agent, 150), (other, 120), (third, 200)):
        dearer(one, rate)
    shown = stage.tenant.json("lease", "hire", file)
    assert shown["provider"] == other.owner and shown["rate"] == "120"
    assert asked_for_quotes(agent, other, third) == [0, 1, 0]
    stage.tenant.json("lease", "close", shown["lease"])


def test_cheapest_gives_no_quote__the_next_and_no_more(
    stage: LeaseStage, agent: Agent, other: Agent, third: Agent, file: str
) -> None:
    for one, rate in ((agent, 150), (other, 120), (third, 200)):
        dearer(one, rate)
    other.refuses = Code.CORES_TAKEN
    shown = stage.tenant.json("lease", "hire", file)
    assert shown["provider"] == agent.owner and shown["rate"] == "150"
    assert asked_for_quotes(agent, other, third) == [1, 1, 0]
    stage.tenant.json("lease", "close", shown["lease"])
    for one in (agent, third):
        one.refuses = Code.CORES_TAKEN
    code, _ = stage.tenant.fails(Exit.REFUSED, "lease", "hire", file)
    assert code == Code.CORES_TAKEN


@pytest.mark.parametrize("named", [False, True], ids=["cheapest", "named"])
def test_nobody_has_agreed__no_room_is_held(
    stage: LeaseStage, agent: Agent, other: Agent, file: str, named: bool
) -> None:
    line = ("lease", "hire", file, *([agent.owner] if named else []))
    options = [one for one in stage.tenant._options(("lease",)) if one != "--yes"]
    before = len(leases.find_all(stage.market))
    done = stage.tenant.run(*line, *options)
    assert done.exit_code == Exit.INPUT and "nobody is there to ask" in done.output
    assert asked_for_quotes(agent, other) == [0, 0]
    assert len(leases.find_all(stage.market)) == before


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"offer": replace(OFFER, outbound=False)}, Code.NETWORK_NOT_OFFERED),
        ({"offer": replace(OFFER, prices=Prices(core=Fraction(1)))}, Code.PRICE_TOO_LOW),
    ],
    ids=["unfit", "dear"],
)
def test_provider_that_would_not_take_it__no_room_is_held(
    stage: LeaseStage, agent: Agent, file: str, change: dict[str, Any], code: Code
) -> None:
    for name, value in change.items():
        setattr(agent, name, value)
    found, said = stage.tenant.fails(Exit.REFUSED, "lease", "hire", file, agent.owner)
    assert found == code and "nothing was sent" in said
    assert asked_for_quotes(agent) == [0]


def test_last_room_is_held_for_us__the_agent_is_asked_all_the_same(
    stage: LeaseStage, agent: Agent, other: Agent, third: Agent, file: str
) -> None:
    for one in (agent, other, third):
        one.offer = replace(OFFER, free=replace(OFFER.free, cpu_millis=0))
    shown = stage.tenant.json("lease", "hire", file, agent.owner)
    assert shown["confirmed"] and asked_for_quotes(agent, other, third) == [1, 0, 0]
    stage.tenant.json("lease", "close", shown["lease"])


def test_quote_dearer_than_published__asked_again_and_less_collateral__nothing_sent(
    stage: LeaseStage, agent: Agent, file: str
) -> None:
    agent.rate = 130
    shown = stage.tenant.shown("lease", "hire", file, agent.owner, "--by-hand")
    assert shown.count("total, everything included") == 2
    assert "binds itself to another price than it publishes" in shown
    (lease,) = stage.tenant.json("lease", "list")["leases"]
    assert lease["rate"] == "130"
    stage.tenant.json("lease", "reject", lease["lease"])
    dearer(agent, 100)
    line = ("lease", "hire", file, agent.owner, "--collateral", "20.5")
    code, said = stage.tenant.fails(Exit.FAULT, *line)
    assert code == Code.QUOTE_INVALID and "puts up 20 TPF, and 20.5 TPF are asked for" in said


def test_endpoint_without_its_provider__said(stage: LeaseStage, agent: Agent, file: str) -> None:
    line = ("lease", "hire", file, "--endpoint", agent.url)
    _, said = stage.tenant.fails(Exit.INPUT, *line)
    assert "name it as PROVIDER" in said
