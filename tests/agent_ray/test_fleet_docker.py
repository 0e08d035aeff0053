# SPDX-License-Identifier: Apache-2.0
"""A machine of a fleet with Docker Engine: what a lease there gets, and what it does not reach."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from provider_agent.errors import RunnerError
from provider_agent.modules.leases.checkpoints import LeaseCheckpoints
from provider_agent.runners.base import MIB
from provider_agent.runners.lease import Lease, Port, Service, Volume
from provider_agent.runners.ray.cluster import Terms
from provider_agent.runners.ray.gateway import LABEL
from provider_agent.runners.ray.node import DISK
from provider_agent.runners.ray.runner import RayRunner
from teraproof.protocol.errors import Code
from teraproof.protocol.lease_checkpoints import Checkpoints
from teraproof.storage.reach import Reach
from tests.agent.docker import daemon as daemons
from tests.agent.docker.conftest import daemon, internet, registry, shell
from tests.agent.leases.documents import service, spec, volume
from tests.agent_ray import docker_part
from tests.agent_ray.fleet import ROOT, TOKEN, eventually
from tools.engine import TOOLS, Daemon

__all__ = ["daemon", "internet", "registry", "shell"]

HERE = "203.0.113.1"
"""The address of the engine's machine among its neighbours."""
PORT = 6379
_LAUNCHES = 3


class Head:
    """Ray on the engine's machine, as its owner would start it."""

    def __init__(self, place: Path, engine: Daemon, mode: str = "token") -> None:
        self.place, self.engine = place, engine
        token = place / "token"
        token.touch(mode=0o600)
        token.write_text(TOKEN)
        surroundings = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        surroundings |= {
            "RAY_AUTH_MODE": mode,
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_enable_worker_prestart": "0",
            "RAY_prestart_worker_first_driver": "0",
            "PYTHONPATH": str(ROOT),
            "PATH": f"{TOOLS}:{os.environ['PATH']}",
            docker_part.SOCKET: str(engine.socket),
        }
        self._surroundings = surroundings
        self._command = [
            *(str(Path(sys.executable).with_name("ray")), "start", "--head", "--block"),
            *(f"--port={PORT}", f"--node-ip-address={HERE}", f"--temp-dir={place}"),
            *(
                "--num-cpus=4",
                "--include-dashboard=false",
                "--no-monitor",
                "--include-log-monitor=false",
                f"--labels={LABEL}=engine",
            ),
            f'--resources={{"{DISK}": 1000}}',
        ]
        self.launches = 1
        self._launch()
        self.terms = Terms(
            f"{HERE}:{PORT}",
            token,
            "agent of the engine",
            place / "nodes",
            make="tests.agent_ray.docker_part:make",
        )

    def _launch(self) -> None:
        with open(self.place / "log", "ab") as said:
            self.process = subprocess.Popen(
                self._command,
                env=self._surroundings,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )

    def keep_up(self) -> None:
        """Starts it again, as a service manager would: it gives up where it takes half a minute."""
        if self.process.poll() is not None:
            self.end()
            self.launches += 1
            if self.launches > _LAUNCHES:
                pytest.skip("Ray does not start here: its head gives up each time")
            self._launch()

    def left(self) -> list[int]:
        """Its processes: those that name its directory."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (path / "cmdline").read_bytes() + (path / "environ").read_bytes()
                if str(self.place).encode() in words:
                    found.append(int(path.name))
        return found

    def end(self) -> None:
        """Ends what was started here, and nothing else of Ray."""
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(20)
        for pid in self.left():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with a short name: sockets are in it."""
    with tempfile.TemporaryDirectory(prefix="tp-ray-", ignore_cleanup_errors=True) as made:
        yield Path(made)


@pytest.fixture
def head(daemon: Daemon, internet: daemons.Namespace, place: Path) -> Iterator[Head]:
    """The test, the agent, Ray and the engine are on one machine with a network of its own."""
    with daemon.namespace.entered():
        made = Head(place, daemon)
        yield made
        made.end()


def test_lease__in_a_container_of_the_fleet__reaches_no_port_of_ray_or_ours(
    head: Head, shell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    runner = RayRunner(head.place / "agent", head.terms)
    try:
        # Ray takes some seconds to begin.
        eventually(lambda: began(head, runner), 300)
        wanted = Lease(
            "lease-1",
            (
                Service(
                    "app",
                    shell,
                    cpu=500,
                    memory=64 * MIB,
                    storage=16 * MIB,
                    pids=64,
                    command=("/bin/sh", "-c", "while :; do echo hello | nc -l -p 8080; done"),
                    ports=(Port(8080),),
                ),
            ),
            outbound=True,
        )
        runner.prepare(wanted)
        runner.start("lease-1")
        assert runner.state("lease-1").running
        said = ask(
            runner, "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max"
        )
        assert str(64 * MIB) in said

        # The agent reaches the service, and the service reaches neither Ray nor us.
        port = runner.address("lease-1", "app", Port(8080))
        assert eventually(lambda: heard(*port)) == b"hello\n"
        ports = listening(head)
        contact = runner._fleet.survey.contacts["engine"]
        assert {PORT, contact.port} <= ports
        for number in (PORT, contact.port):
            socket.create_connection((HERE, number), timeout=5).close()
        gateway = ask(runner, "ip route").split("default via ")[1].split()[0]
        tries = " ".join(
            f"nc -w 1 {host} {number} </dev/null && echo open {number};"
            for host in (HERE, gateway)
            for number in sorted(ports)
        )
        assert "open" not in ask(runner, tries)
        runner.remove("lease-1")
        assert runner.list() == ()
    finally:
        for lease_id in runner.list():
            runner.remove(lease_id)
        runner.close()


def test_what_a_container_saves__comes_from_its_machine_and_another_lease_begins_with_it(
    head: Head, shell: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    runner = RayRunner(head.place / "agent", head.terms)
    saved = Checkpoints("web", "/data/run", f"file://{tmp_path}/store", every_seconds=1)
    asked = replace(spec(service(volumes=(volume(),))), checkpoints=saved)
    work = LeaseCheckpoints(runner, tmp_path / "one", Reach.own(), wanted=True)
    script = "mkdir -p /data/run; cat /data/run/text; echo from $NAME >>/data/run/text; sleep 600"
    one, two = "1" * 64, "2" * 64

    def begins(name: str) -> None:
        made = Service(
            "web",
            shell,
            cpu=500,
            memory=64 * MIB,
            storage=16 * MIB,
            pids=64,
            command=("/bin/sh", "-c", script),
            env={"NAME": name[:1]},
            volumes=(Volume("data", "/data", 16 * MIB),),
        )
        runner.prepare(Lease(name, (made,)))
        work.give(name, {})
        work.begin(name, asked)
        runner.start(name)
        work.keep({name: asked}, {name})

    try:
        eventually(lambda: began(head, runner), 300)
        begins(one)
        eventually(lambda: work.kept(one).checkpoint)
        work.forget(one)
        runner.remove(one)
        begins(two)
        text = eventually(lambda: b"".join(data for _, data in runner.logs(two, "web")))
        assert text == b"from 1\n"
        eventually(lambda: work.kept(two).checkpoint)
        work.forget(two)
        runner.remove(two)
        assert runner.list() == () and not list(head.place.rglob("shelves/*/"))
    finally:
        work.close()
        for lease_id in runner.list():
            runner.remove(lease_id)
        runner.close()


def test_cluster_that_lets_in_whoever_comes__is_refused(
    daemon: Daemon, internet: daemons.Namespace, place: Path
) -> None:
    with daemon.namespace.entered():
        open_head = Head(place, daemon, mode="disabled")
        runner = RayRunner(place / "agent", open_head.terms)
        try:
            end = time.monotonic() + 300
            while True:
                open_head.keep_up()
                runner._fleet.cluster._again = 0.0
                with pytest.raises(RunnerError) as caught:
                    runner.check()
                if caught.value.code is Code.SETTINGS_INVALID:
                    break
                assert time.monotonic() < end
                time.sleep(0.5)
            assert "RAY_AUTH_MODE=token" in str(caught.value)
            assert "\n" not in str(caught.value)
        finally:
            runner.close()
            open_head.end()


def began(head: Head, runner: RayRunner) -> bool:
    """Whether Ray and our part have begun."""
    head.keep_up()
    runner._fleet.cluster._again = 0.0
    with contextlib.suppress(RunnerError):
        runner._fleet.look()
    return bool(runner._fleet.links)


def ask(runner: RayRunner, script: str) -> str:
    """What a script in the container prints."""
    shell = runner.exec("lease-1", "app", ("/bin/sh", "-c", script), tty=False)
    try:
        said = b""
        while piece := shell.read()[1]:
            said += piece
    finally:
        shell.close()
    return said.decode()


def heard(host: str, port: int) -> bytes:
    """What a server says."""
    try:
        with socket.create_connection((host, port), timeout=10) as guest:
            return guest.recv(100)
    except OSError:
        return b""


def listening(head: Head) -> set[int]:
    """The TCP ports that are open on this machine."""
    found = set()
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/thread-self/net/{name}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A":
                found.add(int(words[1].rsplit(":", 1)[1], 16))
    return found
