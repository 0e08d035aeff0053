# SPDX-License-Identifier: Apache-2.0
"""A tenant that is faster than the agent: each next step at the moment when the chain allows it.

The agent's node holds its loop up at every request, as a slow one does. It reads what the chain had
some moments ago, and its tenant is always further. What the tenant does at once has to work at
once, or be refused by a code that says "try again" and then work. An honest provider is neither
rejected nor fined for it, and nothing is done twice.
"""

from __future__ import annotations

import io
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest

from scripts.market.ports import free_port
from teraproof.acceptance import examiner
from teraproof.acceptance.checks import Promise
from teraproof.acceptance.examiner import Subject
from teraproof.acceptance.format import Lease as Named
from teraproof.acceptance.format import Work
from teraproof.client import dataplane
from teraproof.client.dataplane import Place, SessionKey
from teraproof.client.leases import LeaseClient
from teraproof.errors import RemoteError
from teraproof.pog.format import Shape
from teraproof.protocol import messages
from teraproof.protocol.dataplane import Request, What
from teraproof.protocol.lease_terms import LeaseStatus, LeaseTerms
from teraproof.protocol.lease_wire import QuoteRequest, RegistryLogins
from teraproof.protocol.leasespec import LeaseSpec, Port
from tests.agent.leases.documents import service, spec
from tests.agent_e2e.chain import USD, Deployment
from tests.agent_e2e.held_agent import HeldAgent, held
from tests.agent_e2e.lease_rig import LeaseRig, rig
from tests.agent_e2e.test_leases_http import Wallet
from tests.support import budget
from tests.support.anvil import Anvil

_Found = TypeVar("_Found")
SEED = 20_261_130
GRACE = 3_600  # seconds: no life here is long enough to leave it
WORK = Work(Shape(256, 1), rounds=1, devices=1, blocks=1, sweeps=1, seconds=120)


@pytest.fixture(scope="module")
def patient() -> Iterator[Deployment]:
    """Contracts with a long grace."""
    with Anvil() as anvil:
        yield Deployment(anvil, renting={"challenge_window": GRACE}).set_up()


class FastTenant:
    """Somebody who never waits for the agent."""

    def __init__(self, agent: LeaseRig, loop: HeldAgent, client: LeaseClient) -> None:
        self.agent, self.loop, self.client = agent, loop, client
        self.domain = messages.Domain(agent.anvil.chain_id, agent.leases.address)
        self.spec: LeaseSpec = spec(service(cpu_millis=100, ports=(Port(80, 80, "tcp", True),)))
        self.hired: list[LeaseTerms] = []
        self.refused = threading.Event()
        """Set once the data plane has refused something."""

    def insist(self, act: Callable[[], _Found]) -> _Found:
        """Do something; where the agent says "try again", do that while it goes on."""
        for _ in range(200):
            try:
                return act()
            except RemoteError as error:
                assert error.retryable, error
            self.loop.step(3)
        raise AssertionError("refused again and again")

    def hire(self) -> LeaseTerms:
        """By a quote that is asked for now."""
        request = QuoteRequest(self.spec.digest(), 2 * GRACE)
        self.client.send_spec(self.spec)
        signed = self.client.lease_quote(self.spec, request, self.domain)
        self.hired.append(self.agent.hire(signed, GRACE + 600))
        return self.hired[-1]

    def wait_for_ready(self, terms: LeaseTerms) -> None:
        """Until the chain has it, and not a request longer."""
        self.loop.until(
            lambda: self.agent.status(terms) is LeaseStatus.ACTIVE, "ready lease on the chain"
        )

    def challenge(self, *leases: LeaseTerms) -> None:
        """At one time; each has to pass."""
        owner = self.agent.owner.address
        subjects = [
            Subject(
                Named(self.agent.anvil.chain_id, self.domain.contract, owner, terms.lease_id()),
                WORK,
                Promise(1),
                self.client.challenged(terms.lease_id()),
            )
            for terms in leases
        ]
        for verdict in examiner.examine(subjects):
            assert verdict.passed, verdict

    def call(self, function: str, terms: LeaseTerms, *more: object) -> None:
        """A transaction about a lease, in a block at once."""
        self.agent.leases.send(self.agent.tenant, function, terms.abi_tuple(), *more)

    def way(self, terms: LeaseTerms) -> tuple[Place, SessionKey]:
        """The way into a confirmed lease, as the tenant's tools go it."""
        report = self.client.report(terms.lease_id())
        url = next(one.url for one in report.endpoints if one.url.startswith("teraproof://"))
        plane = url.removeprefix("teraproof://").partition("/")[0]
        operator = self.agent.operator.address
        place = Place.at(plane, terms.lease_id(), operator, self.domain)
        key = dataplane.session_key(place, Wallet(self.agent.tenant))
        return replace(place, patience=120.0), key

    def logs(self, terms: LeaseTerms) -> bytes:
        """What its container has printed."""
        (place, key), said = self.way(terms), io.BytesIO()
        request = Request(terms.lease_id(), What.LOGS, "web")
        dataplane.logs(place, key, request, said, io.BytesIO())
        return said.getvalue()

    def ports(self, terms: LeaseTerms) -> list[int]:
        """Where the public reaches it."""
        place, key = self.way(terms)
        found = dataplane.asked(place, key, Request(terms.lease_id(), What.PORTS))
        return [one["outer"] for one in found["ports"]]


def noticed(refused: threading.Event) -> Callable[..., Any]:
    """Opens a stream, and notes that it was refused."""
    connect = dataplane._connect

    async def connected(*given: Any) -> Any:
        try:
            return await connect(*given)
        except RemoteError:
            refused.set()
            raise

    return connected


def lived(tenant: FastTenant, chance: random.Random) -> None:
    """From the first hire to the last withdrawal, the agent held somewhere else each time."""
    agent, loop, client = tenant.agent, tenant.loop, tenant.client

    def dither() -> None:
        loop.step(chance.randrange(12))

    dither()
    first = tenant.hire()
    tenant.insist(lambda: client.send_logins(first.lease_id(), RegistryLogins()))
    tenant.insist(lambda: client.report(first.lease_id()))
    tenant.wait_for_ready(first)
    tenant.challenge(first)
    tenant.call("confirm", first)
    steps: list[Callable[[LeaseTerms], object]] = [tenant.logs, tenant.ports]
    chance.shuffle(steps)
    assert all(loop.meanwhile(partial(step, first), tenant.refused) for step in steps)
    assert tenant.refused.is_set(), "the agent had not seen the confirmation"
    dither()
    agent.deployment.payment.send(agent.tenant, "mint", agent.tenant.address, USD)
    tenant.call("top_up", first, 1_000)

    def topped_up() -> bool:
        report = client.report(first.lease_id())
        return report.affordable * report.rate > first.order.deposit

    loop.until(topped_up, "report of the top-up")
    dither()
    second = tenant.hire()  # the same once more: two at a time
    if chance.random() < 0.5:
        tenant.call("close", first)
        third = tenant.hire()
    else:
        third = tenant.hire()
        tenant.call("close", first)
    tenant.wait_for_ready(second)
    tenant.wait_for_ready(third)
    tenant.challenge(second, third)
    tenant.call("reject", third)
    agent.leases.send(agent.tenant, "withdraw")
    tenant.call("confirm", second)
    dither()
    tenant.call("close", second)
    agent.leases.send(agent.tenant, "withdraw")


@pytest.mark.parametrize("life", range(budget.of(2, 40)))
def test_tenant_faster_than_the_agent__each_step_works_and_nothing_is_left(
    patient: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, life: int
) -> None:
    chance = random.Random(SEED + life)
    outer = free_port()
    with rig(patient, tmp_path, outer_ports=[outer, outer + 8]) as agent:
        agent.cycle(2)
        with (
            agent.serving() as url,
            LeaseClient(url, agent.tenant, agent.anvil.chain_id) as client,
            held(agent) as loop,
        ):
            tenant = FastTenant(agent, loop, client)
            monkeypatch.setattr(dataplane, "_connect", noticed(tenant.refused))
            lived(tenant, chance)
        agent.cycle(4)
        names = [terms.lease_id().hex() for terms in tenant.hired]
        assert sorted(agent.runner.starts) == sorted(names), "each was started, and once"
        assert set(names) <= set(agent.runner.removed) and not agent.runner.leases
        assert agent.module._records.ours() == [] and agent.module._promises.count == 0
        for action in ("suspend", "give_notice", "leave", "close"):
            assert agent.sent(action) == 0
        assert agent.sent("ready") == len(names)
        assert agent.locked() == 0, "no collateral is held, and none was seized"
        states = {state for _, state in agent.intents()}
        assert states <= {"mined", "final", "abandoned", "reverted"}, agent.intents()
