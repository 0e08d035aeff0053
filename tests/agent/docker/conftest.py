# SPDX-License-Identifier: Apache-2.0
"""A real engine, images, and a runner that leaves nothing behind."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from provider_agent.runners.base import MIB
from provider_agent.runners.docker.engine import Engine
from provider_agent.runners.docker.runner import DockerRunner
from provider_agent.runners.lease import Lease, Service
from tests.agent.docker import daemon as daemons
from tests.support import runs
from tools.engine import TOOLS, Daemon
from tools.images import Registry, shell_layer

WAITS = "trap exit TERM; sleep 600 & wait"
"""A program that goes on until it is asked to end."""


@pytest.fixture(scope="session")
def daemon() -> Iterator[Daemon]:
    """One engine for the whole run."""
    reason = daemons.cannot_run()
    if reason:
        pytest.skip(reason)
    made = Daemon(Path(tempfile.mkdtemp(prefix="tp-")), daemons.Namespace())
    try:
        made.start()
    except RuntimeError as error:
        made.stop()
        pytest.skip(f"Docker Engine does not start here: {error}")
    yield made
    made.stop()
    assert made.left() == []


@pytest.fixture(scope="session")
def internet(daemon: Daemon) -> daemons.Namespace:
    """What is behind the engine's machine."""
    made = daemons.Namespace()
    daemons.join(daemon.namespace, made)
    return made


@pytest.fixture(scope="session")
def registry(daemon: Daemon) -> Iterator[Registry]:
    """A registry that the engine reaches."""
    with daemon.namespace.entered():
        made = Registry()
    yield made
    made.close()


@pytest.fixture(scope="session")
def shell(daemon: Daemon, registry: Registry) -> str:
    """An image with a shell and its tools, by its digest; the engine has it, as an owner's own."""
    pinned = registry.add("shell:1", shell_layer(daemons.busybox()), Cmd=["/bin/sh"])
    name, _, digest = pinned.partition("@")
    engine = Engine(daemon.socket)
    with engine.stream("POST", "/images/create", {"fromImage": name, "tag": digest}) as stream:
        assert not [line for line in stream.lines() if "error" in line]
    return pinned


@pytest.fixture
def inside(daemon: Daemon) -> Iterator[None]:
    """The test runs where the engine's networks are."""
    with daemon.namespace.entered():
        yield


@dataclass
class Yard:
    """A runner, and what tests do with it."""

    runner: DockerRunner
    daemon: Daemon
    data: Path
    image: str

    def service(self, name: str = "app", script: str = WAITS, **more: object) -> Service:
        """A small service that runs a script."""
        said: dict[str, object] = {
            "image": self.image,
            "cpu": 500,
            "memory": 64 * MIB,
            "storage": 16 * MIB,
            "pids": 64,
            "command": ("/bin/sh", "-c", script),
        }
        return Service(name=name, **{**said, **more})  # type: ignore[arg-type]  # as the test says

    def run(self, *services: Service, lease_id: str = "lease-1", outbound: bool = False) -> Lease:
        """A lease that runs."""
        lease = Lease(lease_id, services or (self.service(),), outbound)
        self.runner.prepare(lease)
        self.runner.start(lease_id)
        return lease

    def say(self, *command: str, lease_id: str = "lease-1", service: str = "app") -> str:
        """What a command in a container prints; a single text is a script."""
        words = command if len(command) > 1 else ("/bin/sh", "-c", command[0])
        shell = self.runner.exec(lease_id, service, words, tty=False)
        try:
            said = b""
            while piece := shell.read()[1]:
                said += piece
        finally:
            shell.close()
        return said.decode(errors="replace").strip()

    def inspect(self, lease_id: str = "lease-1", service: str = "app") -> dict[str, object]:
        """A container as the engine shows it."""
        name = self.runner._names.container(lease_id, service, 0)
        return dict(self.runner.engine.get(f"/containers/{name}/json"))


@pytest.fixture
def yard(daemon: Daemon, inside: None, shell: str, tmp_path: Path) -> Iterator[Yard]:
    """A runner with an agent of its own; after the test nothing of it is left."""
    data = tmp_path / "agent"
    runner = DockerRunner(
        data, f"agent of {tmp_path.name}", socket=daemon.socket, reserve=MIB, log_bytes=64 * 1024
    )
    yield Yard(runner, daemon, data, shell)
    for lease_id in runner.list():
        runner.remove(lease_id)
    assert runner.list() == ()
    rules = subprocess.run(
        [shutil.which("iptables-save", path=TOOLS) or "", "-t", "mangle"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert f"TP-{runner._names.tag}" not in rules
    assert str(data) not in Path("/proc/self/mountinfo").read_text()
    runs.wait_for_no_loops(data)
