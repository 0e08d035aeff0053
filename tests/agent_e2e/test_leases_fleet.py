# SPDX-License-Identifier: Apache-2.0
"""Leases on a fleet, from a file to the last unit: an agent as its owner starts it, the contracts,
a cluster of Ray with two machines, and Docker Engine.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from benchmarks.rentals.fleet import PYTHON, Cluster, fleet
from benchmarks.rentals.market import Rental, RentalWorld, rental_market
from benchmarks.rentals.watch import Prober
from provider_agent.runners.docker.engine import Engine
from teraproof.acceptance.checks import Promise, Verdict
from teraproof.acceptance.examiner import Subject, examine
from teraproof.acceptance.format import BLOCK_BYTES, Lease, Work
from teraproof.acceptance.messages import Step
from teraproof.client.leases import LeaseClient
from teraproof.errors import RemoteError
from teraproof.pog.format import Shape
from teraproof.protocol import lease_offer, lease_terms, lease_wire
from teraproof.protocol.errors import Code
from teraproof.protocol.lease_offer import LeaseOffer
from teraproof.protocol.lease_terms import LeaseStatus
from teraproof.protocol.leasespec import LeaseSpec
from teraproof.sdl import leases as sdl
from tests.agent.docker import daemon as daemons
from tests.agent.docker.conftest import daemon, inside, registry
from tools.engine import Daemon
from tools.images import Registry, layer, shell_layer

__all__ = ["daemon", "inside", "registry"]

PAGE = b"<h1>It works</h1>\n"
FILE = """version: "2.0"
services:
  web:
    image: {image}
    command: ["httpd", "-f", "-v", "-p", "80", "-h", "/www"]
    expose:
      - {{port: 80, as: 80, to: [{{global: true}}]}}
profiles:
  compute:
    web:
      resources:
        cpu: {{units: 0.1}}
        memory: {{size: {memory}}}
        storage: {{size: 16Mi}}
  placement:
    anywhere:
      pricing:
        web: {{denom: uact, amount: 100000}}
deployment:
  web: {{anywhere: {{profile: web, count: 1}}}}
"""
#: In the cluster of the tests b has 2 GiB, and a has 4.
SMALL, LARGE = "32Mi", "3Gi"
MIB, GIB = 1 << 20, 1 << 30
WORK = Work(Shape(256, 1), rounds=2, devices=1, blocks=4, sweeps=1, seconds=120)
#: Any machine has that: what is shown here is which one answers.
PROMISE = Promise(score=1, memory=4 * BLOCK_BYTES, bandwidth=1)


@dataclass
class Estate:
    """The world of one provider with a fleet."""

    world: RentalWorld
    cluster: Cluster
    image: str
    client: LeaseClient

    def spec(self, memory: str) -> LeaseSpec:
        """What a file asks for."""
        text = FILE.format(image=self.image, memory=memory)
        return sdl.read(text.encode())[0].spec

    def hire(self, memory: str) -> tuple[Rental, Prober]:
        """A lease by a file, ready and confirmed; and somebody who asks it for its page."""
        rental = self.world.hire(self.client, self.spec(memory))
        assert rental is not None
        self.world.until(
            lambda: self.world.state(rental).status is LeaseStatus.ACTIVE, "ready lease", 120
        )
        self.world.by_tenant(rental, "confirm")
        port = self.world.until(
            lambda: self.world.outer_port(self.client, rental), "public port", 60
        )
        prober = Prober(port)
        self.world.until(prober.answers, "page over TLS", 60)
        return rental, prober

    def offer(self) -> LeaseOffer:
        """What the agent publishes."""
        url = f"http://127.0.0.1:{self.world.api_port}{lease_wire.OFFER}"
        return lease_offer.from_json(httpx.get(url, trust_env=False).json())

    def challenge(self, rental: Rental) -> Verdict:
        """What the tenant finds out of the machine of a lease."""
        world = self.world
        lease = Lease(
            world.anvil.chain_id, world.deployment.leases.address, world.owner.address, rental.lease
        )
        examinee = world.client().challenged(rental.lease)
        (verdict,) = examine([Subject(lease, WORK, PROMISE, examinee)])
        return verdict

    def is_suspended(self, rental: Rental) -> bool:
        """As the chain has it."""
        word = int(self.world.deployment.leases.read("marks", rental.lease))
        return lease_terms.lease_marks_of(word).suspended_at > 0

    def ids(self) -> dict[str, str]:
        """The containers of the engine, and when each was started."""
        assert self.world.engine is not None
        found, engine = {}, Engine(self.world.engine.socket)
        for one in engine.get("/containers/json"):
            if said := engine.find(f"/containers/{one['Id']}/json"):
                found[str(one["Id"])] = str(said["State"]["StartedAt"])
        return found


@pytest.fixture
def estate(daemon: Daemon, inside: None, registry: Registry) -> Iterator[Estate]:
    """An agent at work, and a tenant."""
    page = layer({"www/index.html": PAGE}, ("www",))
    image = registry.add("fleet/web:1", shell_layer(daemons.busybox()), page, Cmd=["/bin/sh"])
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tp-")))
        renting = {"challenge_window": 30}
        world, _ = stack.enter_context(
            rental_market(place / "w", daemon, image, renting=renting, most=8)
        )
        try:
            cluster = stack.enter_context(fleet(world, place / "r"))
        except RuntimeError as error:
            pytest.skip(str(error))
        world.settings = {
            **world.settings,
            "TERAPROOF_LEASES__OUTBOUND": "true",
            "TERAPROOF_LEASES__DOWN_SECONDS": "3",
            "TERAPROOF_LEASES__READY_SECONDS": "300",
        }
        world.start_agent()
        made = Estate(world, cluster, image, stack.enter_context(world.tenancy()))
        world.until(lambda: made.offer().free.memory_bytes == 4 * GIB, "both machines", 120)
        yield made


def test_leases_on_a_fleet__from_a_file_to_the_last_unit(estate: Estate) -> None:
    world = estate.world
    money = int(world.payment.read("balanceOf", world.tenant.address))
    small, small_page = estate.hire(SMALL)
    large, large_page = estate.hire(LARGE)
    made = estate.ids()
    assert len(made) == 2

    # Its own machine answers a challenge, and no other one for it.
    verdict = estate.challenge(small)
    assert verdict.passed, verdict.line

    # One has what is left of its machine, and not what is left of both.
    rooms = {(one.total.memory_bytes, one.free.memory_bytes) for one in estate.offer().machines}
    assert rooms == {(4 * GIB, GIB), (2 * GIB, 2 * GIB - 32 * MIB)}

    # The agent dies; its leases do not, and it goes on by its name.
    world.kill_agent()
    world.start_agent()
    world.until(lambda: small_page.answers() and large_page.answers(), "pages again", 120)
    assert estate.ids() == made
    assert not estate.is_suspended(small)

    # A machine dies: its lease is not paid, the other one is, and nothing is started elsewhere.
    estate.cluster.do("kill", "b")
    world.until(lambda: estate.is_suspended(small), "suspension", 120)
    due = world.due(small), world.due(large)
    world.until(lambda: world.due(large) > due[1] + 5, "rent of the other lease", 60)
    assert world.due(small) == due[0]
    with pytest.raises(RemoteError) as caught:
        world.client().challenged(small.lease).step(Step.FILL, bytes(32), WORK)
    assert caught.value.code is Code.CONTAINERS_AWAY
    assert large_page.answers()
    assert estate.ids() == made

    # It is back, with what ran there.
    estate.cluster.do("start", "b")
    world.until(lambda: not estate.is_suspended(small), "resumption", 180)
    world.until(small_page.answers, "the page of the lease", 60)
    assert estate.ids() == made

    for rental in (small, large):
        world.by_tenant(rental, "close")
    assert world.wait_for_nothing(120) == {}
    closed = world.closings()
    rent = sum(closed[one.lease].seconds * one.terms.order.max_rate for one in (small, large))
    credit = int(world.deployment.leases.read("credit_of", world.tenant.address))
    left = int(world.payment.read("balanceOf", world.tenant.address))
    assert money - left - credit == rent
    assert world.stop_agent() == 0, world.log()


def test_ray_hangs__what_runs_is_paid__and_a_machine_that_hangs_is_alone_in_it(
    estate: Estate,
) -> None:
    world = estate.world
    small, small_page = estate.hire(SMALL)
    large, large_page = estate.hire(LARGE)
    made = estate.ids()
    estate.cluster.do("hang")
    due = world.due(small)
    # Longer than anything that was said before is good for.
    world.until(lambda: world.due(small) > due + 60, "rent", 150)
    assert not estate.is_suspended(small)
    assert not estate.is_suspended(large)
    assert small_page.answers()
    estate.cluster.do("go_on")

    stopped = parts_of(world.directory, "b")
    assert stopped
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        world.until(lambda: estate.is_suspended(small), "suspension", 120)
        assert not estate.is_suspended(large)
        assert large_page.answers()
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    world.until(lambda: not estate.is_suspended(small), "resumption", 180)

    # All of Ray begins again, and has forgotten all. What runs is found, and nothing twice.
    estate.cluster.do("restart")
    world.until(
        lambda: not any(estate.is_suspended(one) for one in (small, large)), "resumption", 240
    )
    world.until(lambda: small_page.answers() and large_page.answers(), "pages again", 120)
    assert estate.ids() == made
    left = 2 * GIB - 32 * MIB
    world.until(lambda: estate.offer().free.memory_bytes == left, "room of both machines", 60)
    for rental in (small, large):
        world.by_tenant(rental, "close")
    assert world.wait_for_nothing(120) == {}


def parts_of(directory: Path, machine: str) -> list[int]:
    """The processes of a world's part on a machine: those that hold its lock."""
    found, start = [], str(directory / "nodes")
    for path in Path("/proc").glob("[0-9]*/fd"):
        with contextlib.suppress(OSError):
            held = [os.readlink(one) for one in path.iterdir()]
            if any(one.startswith(start) and one.endswith(f"/{machine}/lock") for one in held):
                found.append(int(path.parent.name))
    return found


def test_check__tries_a_lease_on_each_machine__and_says_who_is_away(estate: Estate) -> None:
    world = estate.world

    def engine_line() -> str:
        words = ("-m", "provider_agent", "check", "--config", str(world.configure()))
        done = subprocess.run(
            [str(PYTHON), *words],
            env={**world._environment(None), "COLUMNS": "2000"},
            cwd=world.directory,
            capture_output=True,
            text=True,
            check=False,
        )
        lines = (done.stdout + done.stderr).splitlines()
        found = (line for line in lines if line.split()[1:2] == ["engine"])
        return next(found, done.stdout + done.stderr)

    world.kill_agent()
    said = engine_line()
    assert "a fleet of 2 by Ray, with its token" in said
    assert "a 4 cores, 4096 MiB, 1000 MiB of disk, 0 GPUs" in said
    estate.cluster.token.chmod(0o644)
    assert "chmod 600" in engine_line()
    estate.cluster.token.chmod(0o600)
    estate.cluster.do("kill", "b")
    assert "a fleet of 1 by Ray" in engine_line()
