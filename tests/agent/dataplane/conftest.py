# SPDX-License-Identifier: Apache-2.0
"""A data plane with real TLS and real sockets, and containers that are threads of the test."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from provider_agent.dataplane.holders import Holding, Phase
from provider_agent.dataplane.limits import PlaneLimits
from provider_agent.dataplane.plane import DataPlane, PlaneSettings
from provider_agent.errors import RunnerError
from provider_agent.runners.lease import Port
from teraproof.client.dataplane import Place, SessionKey, session_key
from teraproof.market.signers import KeySigner
from teraproof.protocol import leasespec
from teraproof.protocol.dataplane import Request, What
from teraproof.protocol.messages import Domain

DOMAIN = Domain(31337, "0x" + "11" * 20)
LEASE = bytes([1]) * 32
OTHER = bytes([2]) * 32
GIB = 1 << 30


def service(name: str = "web", count: int = 1, *ports: leasespec.Port) -> leasespec.Service:
    resources = leasespec.Resources(100, GIB, GIB // 16, GIB)
    named = ports or (leasespec.Port(8080, 80, "tcp", public=False),)
    return leasespec.Service(name, "image", resources, count=count, ports=named)


def spec(*services: leasespec.Service) -> leasespec.LeaseSpec:
    return leasespec.LeaseSpec("lease", services or (service(),))


class Holders:
    """What the agent knows of its leases."""

    def __init__(self) -> None:
        self.leases: dict[bytes, Holding] = {}
        self.broken = False
        self.all_known = True

    def find(self, lease: bytes) -> Holding | None:
        if self.broken:
            raise OSError("the database is away")
        return self.leases.get(lease)

    def holdings(self) -> Collection[Holding]:
        if self.broken:
            raise OSError("the database is away")
        return [one for one in self.leases.values() if one.phase is not Phase.ENDED]

    def are_all_known(self) -> bool:
        return self.all_known

    def move(self, lease: bytes, phase: Phase) -> None:
        self.leases[lease] = replace(self.leases[lease], phase=phase)


class Lines:
    """What a container prints."""

    def __init__(self, lines: list[tuple[int, bytes]], follow: bool) -> None:
        self._queue: queue.Queue[tuple[int, bytes] | None] = queue.Queue()
        for line in lines:
            self._queue.put(line)
        if not follow:
            self._queue.put(None)
        self.closed = threading.Event()

    def __iter__(self) -> Lines:
        return self

    def __next__(self) -> tuple[int, bytes]:
        found = self._queue.get()
        if found is None:
            raise StopIteration
        return found

    def print(self, kind: int, line: bytes) -> None:
        self._queue.put((kind, line))

    def close(self) -> None:
        self.closed.set()
        self._queue.put(None)


class Program:
    """A program of this machine that stands for one in a container."""

    def __init__(self, command: tuple[str, ...]) -> None:
        self.sizes: list[tuple[int, int]] = []
        self.closed = threading.Event()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        self._pieces: queue.Queue[tuple[int, bytes]] = queue.Queue(4)
        self._left = 2
        for kind, stream in ((1, self._process.stdout), (2, self._process.stderr)):
            threading.Thread(target=self._collect, args=(kind, stream), daemon=True).start()

    def _collect(self, kind: int, stream: Any) -> None:
        while piece := stream.read(65_536):
            self._pieces.put((kind, piece))
        self._left -= 1
        if not self._left:
            self._pieces.put((1, b""))

    def read(self) -> tuple[int, bytes]:
        return self._pieces.get()

    def write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(data)
        except (OSError, ValueError):
            raise RunnerError("nobody reads it") from None

    def finish(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()

    def resize(self, rows: int, columns: int) -> None:
        self.sizes.append((rows, columns))
        if self._process.poll() is not None:
            raise RunnerError("it has ended")

    def exit_code(self) -> int | None:
        return self._process.poll()

    def close(self) -> None:
        self.closed.set()
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(queue.Full):
            self._pieces.put_nowait((1, b""))


class Runner:
    """Stands for the engine: it knows where containers listen, and starts programs."""

    def __init__(self) -> None:
        self.places: dict[tuple[str, str, int, int], tuple[str, int]] = {}
        self.asked: list[tuple[Any, ...]] = []
        self.outputs: list[Lines] = []
        self.programs: list[Program] = []
        self.printed: list[tuple[int, bytes]] = [(1, b"one\n"), (2, b"two\n")]

    def address(self, lease_id: str, service: str, port: Port, number: int = 0) -> tuple[str, int]:
        self.asked.append(("address", lease_id, service, port.number, number))
        try:
            return self.places[lease_id, service, port.number, number]
        except KeyError:
            raise RunnerError("/var/secret/place: it does not run") from None

    def logs(
        self, lease_id: str, service: str, number: int = 0, *, follow: bool, tail: int
    ) -> Lines:
        self.asked.append(("logs", lease_id, service, number, tail))
        made = Lines(self.printed, follow)
        self.outputs.append(made)
        return made

    def exec(
        self, lease_id: str, service: str, command: tuple[str, ...], number: int = 0, *, tty: bool
    ) -> Program:
        self.asked.append(("exec", lease_id, service, command, number, tty))
        made = Program(command)
        self.programs.append(made)
        return made


class Container:
    """A program that listens; `talk` has each connection in a thread of its own."""

    def __init__(self, talk: Callable[[socket.socket], None]) -> None:
        self._talk = talk
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.place = ("127.0.0.1", int(self.listener.getsockname()[1]))
        self.links: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                link, _ = self.listener.accept()
                self.links.append(link)
                threading.Thread(target=self._serve, args=(link,), daemon=True).start()

    def _serve(self, link: socket.socket) -> None:
        with contextlib.suppress(OSError), link:
            self._talk(link)

    def kill(self) -> None:
        """As the kernel does with a process: its connections end at once."""
        with contextlib.suppress(OSError):  # to close it would not wake who accepts
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for link in self.links:
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
            link.close()


def echo(link: socket.socket) -> None:
    while piece := link.recv(65_536):
        link.sendall(piece)


@dataclass
class Rig:
    """A running data plane with two tenants."""

    state: Path
    holders: Holders = field(default_factory=Holders)
    runner: Runner = field(default_factory=Runner)
    operator: LocalAccount = field(default_factory=Account.create)
    tenant: LocalAccount = field(default_factory=Account.create)
    other: LocalAccount = field(default_factory=Account.create)
    settings: dict[str, Any] = field(default_factory=dict)
    limits: PlaneLimits = field(default_factory=lambda: PlaneLimits(sweep_seconds=0.05))
    containers: list[Container] = field(default_factory=list)
    code: dict[str, bytes] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)
    """Accounts that have taken their keys back."""
    plane: DataPlane | None = None

    def start(self, **limits: Any) -> Rig:
        self.limits = replace(self.limits, **limits)
        more = {"host": "127.0.0.1", "containers_here": True, **self.settings}
        self.plane = DataPlane(
            PlaneSettings(self.state, limits=self.limits, **more),
            DOMAIN,
            self.operator,
            self.holders,
            self.runner,  # type: ignore[arg-type]  # the part of a runner that is asked
            lambda to, data: self.code.get(to, b""),
            self.gone.append,
        )
        self.plane.start()
        return self

    def stop(self) -> None:
        assert self.plane is not None
        self.plane.stop()

    @property
    def port(self) -> int:
        assert self.plane is not None
        return self.plane.port

    def hold(
        self,
        lease: bytes = LEASE,
        phase: Phase = Phase.CONFIRMED,
        account: LocalAccount | None = None,
        said: leasespec.LeaseSpec | None = None,
    ) -> str:
        name = f"lease-{lease[0]}"
        tenant = str((account or self.tenant).address)
        self.holders.leases[lease] = Holding(lease, name, tenant, phase, said or spec())
        return name

    def serve(
        self,
        talk: Callable[[socket.socket], None] = echo,
        lease: bytes = LEASE,
        name: str = "web",
        port: int = 8080,
        number: int = 0,
    ) -> Container:
        made = Container(talk)
        self.containers.append(made)
        self.runner.places[f"lease-{lease[0]}", name, port, number] = made.place
        return made

    def place(self, lease: bytes = LEASE, **more: Any) -> Place:
        said: dict[str, Any] = {"operator": str(self.operator.address), "domain": DOMAIN, **more}
        port = said.pop("port", None) or self.port
        return Place("127.0.0.1", port, lease, **said)

    def key(self, lease: bytes = LEASE, account: LocalAccount | None = None) -> SessionKey:
        return session_key(self.place(lease), KeySigner(account or self.tenant, "test"))


def asking(what: What = What.PORT, lease: bytes = LEASE, **more: Any) -> Request:
    said = {"service": "web", **({"port": 8080} if what is What.PORT else {}), **more}
    return Request(lease, what, **said)


def run(work: Any, seconds: float = 30) -> Any:
    """A coroutine's result; a test that hangs fails."""

    async def bounded() -> Any:
        async with asyncio.timeout(seconds):
            return await work

    return asyncio.run(bounded())


def bare(port: int, alpn: str | None = "teraproof-lease/1") -> ssl.SSLSocket:
    """A TLS connection that believes everything."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn is not None:
        context.set_alpn_protocols([alpn])
    link = socket.create_connection(("127.0.0.1", port), timeout=20)
    return context.wrap_socket(link)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path / "state")
    made.hold()
    made.hold(OTHER, account=made.other)
    yield made
    if made.plane is not None:
        made.stop()
        assert not made.plane.running
    for container in made.containers:
        container.kill()
