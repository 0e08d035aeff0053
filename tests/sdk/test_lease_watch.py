# SPDX-License-Identifier: Apache-2.0
"""The tenant's watcher on a real node: a lease that dies is ended and ordered again elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from scripts.market.ports import free_port
from teraproof.errors import TeraproofError
from teraproof.market import lease_endings, leases
from teraproof.market.lease_tending import Manner
from teraproof.market.lease_watch import Watch, Watcher
from teraproof.market.leases import Lease
from teraproof.market.sending import Sender
from teraproof.market.signers import KeySigner
from teraproof.market.ui import QuietUi
from teraproof.protocol.errors import Code
from teraproof.protocol.lease_terms import Ending, LeaseStatus
from tests.sdk.lease_stage import OFFER, PLAIN, Agent, LeaseStage, deploy_leases
from tests.support.anvil import Anvil
from tests.support.codes import fails_as

STEP = 50  # seconds of the chain's in a turn of the watcher


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LeaseStage]:
    with Anvil() as anvil:
        yield deploy_leases(tmp_path_factory.mktemp("home"), anvil)


@pytest.fixture(scope="module")
def providers(stage: LeaseStage) -> Iterator[tuple[Agent, Agent]]:
    with stage.agent(free_port()) as one, stage.agent(free_port()) as other:
        yield one, other


@pytest.fixture
def agent(
    stage: LeaseStage, providers: tuple[Agent, Agent], monkeypatch: pytest.MonkeyPatch
) -> Agent:
    monkeypatch.setenv("XDG_STATE_HOME", str(stage.home / "state"))
    for one in providers:
        one.forget()
    return providers[0]


@pytest.fixture
def other(agent: Agent, providers: tuple[Agent, Agent]) -> Agent:
    return providers[1]


@pytest.fixture
def lease(stage: LeaseStage, agent: Agent, tmp_path: Path) -> Lease:
    """With the first provider, confirmed."""
    path = tmp_path / "deploy.yaml"
    path.write_text(PLAIN)
    line = ("lease", "hire", str(path), agent.owner, "--term", "2 hours")
    return stage.lease(stage.tenant.json(*line)["lease"])


@dataclass
class Room:
    """The watcher's clock is the chain's: time passes when it sleeps."""

    stage: LeaseStage
    alive: list[Agent]
    until: Callable[[], bool]
    """Whether the tenant is done: then it closes what it has."""
    ui: QuietUi = field(default_factory=QuietUi)
    turns: int = 0

    @property
    def sender(self) -> Sender:
        return Sender(self.stage.market.chain, KeySigner(self.stage.tenant.key, "tenant"))

    def sleep(self, _: float) -> None:
        self.turns += 1
        assert self.turns < 60, self.ui.lines
        time.sleep(0.3)  # for the agents' own threads
        self.stage.anvil.increase_time(STEP)
        for agent in self.alive:
            agent.beat()
        if self.until():
            for one in self.mine():
                lease_endings.close(self.stage.market, self.sender, self.ui, one)

    def mine(self) -> list[Lease]:
        found = leases.find_all(self.stage.market, self.stage.tenant.address)
        return [one for one in found if one.status is LeaseStatus.ACTIVE and one.state.confirmed]

    def watcher(self, *, every: int = 0, orders: int = 3) -> Watcher:
        how = Watch(Manner(), every=every, orders=orders)
        market = self.stage.market
        return Watcher(market, self.sender, self.ui, how, {}, lambda: "0001-abc", self.sleep)


def test_silent_provider__ended_and_hired_again_elsewhere(
    stage: LeaseStage, agent: Agent, other: Agent, lease: Lease
) -> None:
    other.rate = 150

    def moved() -> bool:
        return any(one.provider == other.owner for one in room.mine())

    room = Room(stage, [other], moved)
    watcher = room.watcher()
    try:
        after = watcher.run(lease)
    except TeraproofError as error:
        raise AssertionError(room.ui.lines) from error
    died = leases.current(stage.market, lease.opened)
    assert died.ending is Ending.ABANDONED and died.closed is not None and died.closed.seized > 0
    assert after.provider == other.owner and after.rate == 150 and watcher.orders == 1
    # The rest of the term, for the same specification.
    assert after.terms.order.term == lease.terms.order.term - died.closed.seconds
    assert after.terms.order.spec == lease.terms.order.spec
    assert any("goes on from checkpoint 0001-abc" in line for line in room.ui.lines)
    # A watcher that is started again with the first lease finds the one that followed.
    assert watcher.last_of(died).lease == after.lease


def test_provider_that_gives_notice__the_rest_of_the_term_elsewhere(
    stage: LeaseStage, agent: Agent, other: Agent, lease: Lease
) -> None:
    chain = leases.contract(stage.market)
    agent.operate("give notice", chain.give_notice(lease.terms))
    stage.anvil.increase_time(60)
    stage.stranger.json("lease", "close", lease.lease.hex())
    room = Room(stage, [other], lambda: any(one.provider == other.owner for one in room.mine()))
    after = room.watcher().run(lease)
    ended = leases.current(stage.market, lease.opened)
    assert ended.ending is Ending.OVER and leases.left_early(stage.market, ended)
    assert after.provider == other.owner and after.ending is Ending.BY_TENANT


def test_healthy_provider__nothing_is_sent(
    stage: LeaseStage, agent: Agent, other: Agent, lease: Lease
) -> None:
    room = Room(stage, [agent], lambda: room.turns >= 6)
    nonce = stage.anvil.nonce(stage.tenant.address)
    after = room.watcher().run(lease)
    assert after.lease == lease.lease and after.ending is Ending.BY_TENANT
    assert stage.anvil.nonce(stage.tenant.address) == nonce + 1  # the tenant's own closing


def test_challenges__at_moments_that_blocks_draw(
    stage: LeaseStage, agent: Agent, other: Agent, lease: Lease
) -> None:
    def asked() -> int:
        return sum(1 for line in agent.seen if line.startswith("POST") and "challenge" in line)

    before = asked()
    room = Room(stage, [agent], lambda: asked() > before)
    after = room.watcher(every=1).run(lease)
    assert asked() > before and after.ending is Ending.BY_TENANT


def test_false_answer_later__closed_by_the_watcher(
    stage: LeaseStage, agent: Agent, other: Agent, lease: Lease
) -> None:
    agent.honest = False
    room = Room(stage, [agent], lambda: False)
    after = room.watcher(every=1).run(lease)
    assert after.ending is Ending.BY_TENANT
    assert any("wrong_entry" in line for line in room.ui.lines)


def test_nobody_else_takes_it__said_and_the_money_is_back(
    stage: LeaseStage, agent: Agent, other: Agent, lease: Lease
) -> None:
    other.offer = replace(OFFER, outbound=False)
    room = Room(stage, [], lambda: False)
    with fails_as(Code.LEASE_FAILED) as said:
        room.watcher().run(lease)
    assert "no other provider takes it now" in str(said.value)
    died = leases.current(stage.market, lease.opened)
    assert died.ending is Ending.ABANDONED


def test_dies_again_and_again__a_bound_on_new_orders(
    stage: LeaseStage, agent: Agent, other: Agent, lease: Lease
) -> None:
    room = Room(stage, [], lambda: False)
    with fails_as(Code.LEASE_FAILED) as said:
        room.watcher(orders=1).run(lease)
    assert "in its place" in str(said.value)
