# SPDX-License-Identifier: Apache-2.0
"""kill -9 at each step that an agent takes with real containers: one of each, none at the end."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from provider_agent.runners.docker.runner import DockerRunner
from tests.agent.docker.conftest import WAITS, daemon, inside, registry, shell
from tests.agent.docker.daemon import busybox
from tests.agent.leases.documents import service, spec
from tests.agent_e2e.chain import deployment, mining
from tests.agent_e2e.leasehold import LeaseWorld, passed
from tests.agent_e2e.nursery import Nursery
from tests.agent_e2e.test_leases_kill import POINTS
from tests.support import runs
from tests.support.anvil import Anvil
from tools.engine import TOOLS, Daemon
from tools.images import Registry, layer, shell_layer

__all__ = ["daemon", "inside", "registry", "shell"]

STEPS = ("resolve", "fetch", "prepare", "make", "start", "begin", "remove")
CONTAINERS = {f"containers.{step}.{side}" for step in STEPS for side in ("before", "after")}
MOST_LEASES = 4


@dataclass
class DockerYard:
    """What the engine has of the agent of a world."""

    world: LeaseWorld
    daemon: Daemon

    @property
    def runner(self) -> DockerRunner:
        """Another one over the same files."""
        agent = str(self.world.operator.address).lower()
        return DockerRunner(self.world.data / "containers", agent, socket=self.daemon.socket)

    def end(self, lease: str) -> None:
        """See `leasehold.Yard`."""
        self.runner.stop(lease)

    def begin(self, lease: str) -> None:
        """See `leasehold.Yard`."""
        self.runner.start(lease)

    def left(self) -> list[str]:
        """See `leasehold.Yard`."""
        rules = subprocess.run(
            [shutil.which("iptables-save", path=TOOLS) or "", "-t", "mangle"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        data, runner = str(self.world.data), self.runner
        mounted = [line for line in Path("/proc/mounts").read_text().split("\n") if data in line]
        walls = [line for line in rules.split("\n") if f"TP-{runner._names.tag}" in line]
        return [*runner.list(), *mounted, *walls]


@pytest.fixture
def world(daemon: Daemon, inside: None, registry: Registry, tmp_path: Path) -> Iterator[LeaseWorld]:
    name, _, _ = registry.add(
        "life:1", shell_layer(busybox()), layer({"noise": os.urandom(1 << 20)})
    ).partition("@")
    anvil = Anvil(arguments=["--order", "fifo"])
    with deployment(anvil, challenge_window=10) as contracts, mining(anvil):
        made = LeaseWorld(
            tmp_path,
            contracts,
            image=f"{name}:1",
            more=f'docker_socket = "{daemon.socket}"',
        ).set_up()
        yield made
        made.close()
        runner = DockerYard(made, daemon).runner
        for lease in runner.list():
            runner.remove(lease)


def test_kill_at_every_step_with_containers__one_of_each_and_none_is_left(
    tmp_path: Path, world: LeaseWorld, daemon: Daemon
) -> None:
    diary, yard, leases = tmp_path / "diary", DockerYard(world, daemon), 0
    diary.write_text("\n".join(POINTS - CONTAINERS) + "\n")
    with Nursery() as nursery:
        while not passed(diary) >= CONTAINERS:
            assert leases < MOST_LEASES, CONTAINERS - passed(diary)
            command = ("/bin/sh", "-c", WAITS)
            world.open(spec(service(image=world.image, command=command), name=f"life-{leases}"))
            world.live_and_die(nursery, yard, diary, CONTAINERS)
            leases += 1
        world.rest(nursery, yard)
    made = world.check_sent_once()
    for once in ("accept", "ready", "give_notice", "close"):
        assert made[once] == leases
    world.check_paid()
    runs.wait_for_no_loops(world.data)
